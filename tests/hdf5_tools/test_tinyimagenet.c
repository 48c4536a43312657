// The real TinyImageNet, from the archive that RETORT_TINYIMAGENET names; skipped (77) without.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "data/dataset.h"
#include "hdf5_tools/pack.h"
#include "hdf5_tools/verify.h"
#include "tests/data/scratch.h"

static void it_packs_whole(void **state)
{
    struct pack_options o = {
        .source = getenv("RETORT_TINYIMAGENET"), .output = scratch_path(*state, "t.h5"), .seed = 1};
    struct pack_summary summary;
    assert_int_equal(pack(&o, &summary), 0);
    assert_int_equal(verify(o.output), 0);
    struct dataset d;
    assert_int_equal(dataset_open(&d, o.output), 0);
    assert_int_equal(d.count[SPLIT_TRAIN], 100000);
    assert_int_equal(d.count[SPLIT_VAL], 10000);
    assert_int_equal(d.class_count, 200);
    assert_int_equal(d.height, 64);
    assert_int_equal(d.width, 64);
    // The published statistics of its training pictures.
    static const double mean[3] = {0.4802, 0.4481, 0.3975}, deviation[3] = {0.2764, 0.2689, 0.2816};
    for (int c = 0; c < 3; c++) {
        assert_in_range((int)(d.mean[c] * 1e4 + 0.5), (int)(mean[c] * 1e4),
                        (int)(mean[c] * 1e4) + 1);
        assert_in_range((int)(d.deviation[c] * 1e4 + 0.5), (int)(deviation[c] * 1e4),
                        (int)(deviation[c] * 1e4) + 1);
    }
    char *name;
    assert_int_equal(dataset_class_name(&d, 0, &name), 0);
    assert_string_equal(name, "goldfish, Carassius auratus");
    free(name);
    dataset_close(&d);
}

int main(void)
{
    if (!getenv("RETORT_TINYIMAGENET")) {
        puts("RETORT_TINYIMAGENET is not set: skipped");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_packs_whole, scratch_setup, scratch_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
