#include "worker/schedule.h"

#include <math.h>

#include "base/error.h"

double schedule_lr(const struct network_recipe *r, int64_t step, int64_t steps)
{
    static const double PI = 3.14159265358979323846;
    double lr = r->optimizer.lr;
    double warmup = r->schedule.warmup_epochs * (double)steps;
    double total = (double)r->epochs * (double)steps;
    if ((double)step < warmup)
        return lr * fmin(((double)step + 1.0) / warmup, 1.0);
    switch ((enum schedule_kind)r->schedule.kind) {
    case SCHEDULE_CONSTANT:
        return lr;
    case SCHEDULE_STEP: {
        double drops = floor((double)step / ((double)steps * r->schedule.step_epochs));
        return lr * pow(r->schedule.step_factor, drops);
    }
    case SCHEDULE_COSINE: {
        double done = ((double)step - warmup) / fmax(total - warmup, 1.0);
        double low = r->schedule.final_lr;
        return low + (lr - low) * 0.5 * (1.0 + cos(PI * fmin(done, 1.0)));
    }
    }
    CHECK(!"a schedule kind that the recipe accepts");
}
