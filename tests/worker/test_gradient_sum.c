// Where the gradients are cut in buckets, and when each is summed: against a device that takes down
// what it is asked for.

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>

#include "base/error.h"
#include "comm/comm_ops.h"
#include "worker/gradient_sum.h"

#define OK(call) assert_int_equal((call), RETORT_OK)

enum { MOST = 8 };

static float *arena; // of the gradients: only its addresses count

struct spy {
    struct device_comm base;
    size_t begin[MOST], end[MOST]; // of what was summed beside
    int started, joined, whole, scattered;
};

static struct spy *spy_of(struct device_comm *d)
{
    return (struct spy *)d;
}

static int beside(struct device_comm *d, void *data, size_t count, enum real_type type,
                  bool deterministic)
{
    struct spy *s = spy_of(d);
    assert_true(type == REAL_F32 && deterministic && s->started < MOST);
    s->begin[s->started] = (size_t)((float *)data - arena);
    s->end[s->started] = s->begin[s->started] + count;
    s->started++;
    return RETORT_OK;
}

static int join(struct device_comm *d)
{
    spy_of(d)->joined++;
    return RETORT_OK;
}

static int whole(struct device_comm *d, void *data, size_t count, enum real_type type,
                 bool deterministic)
{
    assert_true(data == arena && count > 0 && type == REAL_F32 && deterministic);
    spy_of(d)->whole++;
    return RETORT_OK;
}

static int scatter(struct device_comm *d, void *data, size_t count, enum real_type type,
                   bool deterministic)
{
    assert_true(data == arena && count > 0 && type == REAL_F32 && deterministic);
    spy_of(d)->scattered++;
    return RETORT_OK;
}

static const struct device_ops OVERLAPS = {
    .allreduce = whole, .allreduce_beside = beside, .join = join, .reduce_scatter = scatter};
static const struct device_ops IN_TURN = {.allreduce = whole, .reduce_scatter = scatter};

struct setting {
    struct comm *comm;
    struct graph *graph;
    struct spy spy;
    struct gradient_sum sum;
};

static void open_setting(struct setting *s, const char *arch, const struct device_ops *ops,
                         bool sharded)
{
    const struct graph_options options = {3, 64, 64, 200, NORM_BATCH, ACTIVATION_RELU};
    *s = (struct setting){.spy = {.base = {.ops = ops}}};
    OK(comm_self_create(&s->comm));
    OK(graph_create(&s->graph, arch, &options));
    s->spy.base.comm = s->comm;
    comm_attach_device(s->comm, &s->spy.base);
    arena = calloc(s->graph->total, sizeof *arena);
    assert_non_null(arena);
    s->sum = gradient_sum_of(s->comm, s->graph, arena, REAL_F32, true, sharded);
}

static void close_setting(struct setting *s)
{
    comm_attach_device(s->comm, NULL);
    comm_destroy(&s->comm);
    graph_destroy(&s->graph);
    free(arena);
}

// A backward that reports each parameter, the last one first; returns how many sums had started
// when it came to the first parameter.
static int step_by_parameter(struct setting *s)
{
    int before = 0;
    gradient_sum_begin(&s->sum);
    for (int i = s->graph->param_count - 1; i >= 0; i--) {
        const size_t ready = s->graph->params[i].offset;
        before = s->spy.started;
        OK(gradient_sum_ready(&s->sum, ready));
        for (int k = 0; k < s->spy.started; k++)
            assert_true(s->spy.begin[k] >= ready); // nothing is summed that is not there
    }
    assert_int_equal(s->spy.joined, 0);
    OK(gradient_sum_finish(&s->sum));
    return before;
}

// From the end to the beginning, each element once, each bucket but the last no smaller than a
// third.
static void assert_buckets(const struct setting *s, int count)
{
    size_t left = s->graph->total;
    assert_int_equal(s->spy.started, count);
    assert_int_equal(s->spy.joined, 1);
    assert_int_equal(s->spy.whole, 0);
    for (int k = 0; k < count; k++) {
        assert_int_equal(s->spy.end[k], left);
        assert_int_equal(s->spy.begin[k] % 32, 0);
        left = s->spy.begin[k];
        if (k < count - 1)
            assert_true(3 * (s->spy.end[k] - left) >= s->graph->total);
    }
    assert_int_equal(left, 0);
    assert_int_equal(s->spy.base.last_bytes, s->graph->total * sizeof(float)); // what is waited for
}

static void buckets_start_as_backward_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int buckets;
        double exposed; // the last one's share at most
    } CASES[] = {{"conv12", 3, 0.2}, {"conv4", 2, 0.1}, {"conv12/4", 3, 0.34}};
    for (int i = 0; i < 3; i++) {
        struct setting s;
        open_setting(&s, CASES[i].arch, &OVERLAPS, false);
        assert_int_equal(step_by_parameter(&s), CASES[i].buckets - 1);
        assert_buckets(&s, CASES[i].buckets);
        assert_true((double)s.spy.end[CASES[i].buckets - 1] <=
                    CASES[i].exposed * (double)s.graph->total);
        close_setting(&s);
    }
}

// A rank without samples reports all at once: the same buckets, or ranks would sum other ranges.
static void ranks_may_report_otherwise(void **state)
{
    (void)state;
    struct setting fine, coarse;
    open_setting(&fine, "conv12", &OVERLAPS, false);
    step_by_parameter(&fine);
    close_setting(&fine);
    open_setting(&coarse, "conv12", &OVERLAPS, false);
    gradient_sum_begin(&coarse.sum);
    OK(gradient_sum_ready(&coarse.sum, 0));
    OK(gradient_sum_finish(&coarse.sum));
    assert_buckets(&coarse, fine.spy.started);
    for (int k = 0; k < fine.spy.started; k++)
        assert_int_equal(coarse.spy.begin[k], fine.spy.begin[k]);
    close_setting(&coarse);
}

// Where nothing runs beside, and with own ranges, which are cut of the whole.
static void else_all_is_summed_at_once(void **state)
{
    (void)state;
    for (int sharded = 0; sharded < 2; sharded++)
        for (int overlaps = 0; overlaps < 2; overlaps++) {
            struct setting s;
            if (overlaps && !sharded)
                continue;
            open_setting(&s, "conv4", overlaps ? &OVERLAPS : &IN_TURN, sharded);
            assert_int_equal(step_by_parameter(&s), 0);
            assert_int_equal(s.spy.started, 0);
            assert_int_equal(s.spy.joined, 0);
            assert_int_equal(s.spy.whole, !sharded);
            assert_int_equal(s.spy.scattered, sharded);
            close_setting(&s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_start_as_backward_goes_on),
        cmocka_unit_test(ranks_may_report_otherwise),
        cmocka_unit_test(else_all_is_summed_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
