#include "models/host/host.h"

void host_parallel(int threads, size_t count, size_t grain,
                   void (*work)(void *context, int part, size_t begin, size_t end), void *context)
{
    size_t grains = (count + grain - 1) / grain;
    size_t parts = grains < (size_t)threads ? grains : (size_t)threads;
    if (parts <= 1) {
        if (count > 0)
            work(context, 0, 0, count);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for num_threads((int)parts) schedule(static, 1)
#endif
    for (size_t part = 0; part < parts; part++) {
        size_t begin = grains * part / parts * grain, end = grains * (part + 1) / parts * grain;
        work(context, (int)part, begin, end < count ? end : count);
    }
}
