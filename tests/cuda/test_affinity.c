// Ranks on the cores near their GPUs: of a machine in a file, whose two cores have a GPU each, the
// software GPUs 0 and 1.

#include "models/cuda/affinity.h"

#include <stdlib.h>

#include "tests/models/support.h"

#define XML_VARIABLE "HWLOC_XMLFILE"

static hwloc_topology_t topology;
static hwloc_bitmap_t before; // this process's cores

static void which_cores_are_near_is_known(void **state)
{
    (void)state;
    hwloc_bitmap_t cores = hwloc_bitmap_alloc();
    assert_true(cores_near(topology, "0000:00:00.0", cores));
    assert_int_equal(hwloc_bitmap_to_ulong(cores), 1);
    assert_true(cores_near(topology, "0000:01:00.0", cores));
    assert_int_equal(hwloc_bitmap_to_ulong(cores), 2);
    assert_false(cores_near(topology, "0000:02:00.0", cores));
    assert_false(cores_near(topology, "no address", cores));
    hwloc_bitmap_free(cores);
}

static void a_report_tells_them(void **state)
{
    (void)state;
    char pci[REPORT_TEXT], near[REPORT_TEXT];
    cuda_place(1, pci, near);
    assert_string_equal(pci, "0000:01:00.0");
    assert_string_equal(near, "1");
    cuda_place(7, pci, near); // there is none
    assert_string_equal(near, "");
}

static void check_bound(unsigned long expected)
{
    hwloc_bitmap_t now = hwloc_bitmap_alloc();
    assert_int_equal(hwloc_get_cpubind(topology, now, HWLOC_CPUBIND_PROCESS), 0);
    assert_int_equal(hwloc_bitmap_to_ulong(now), expected);
    hwloc_bitmap_free(now);
}

static void a_rank_moves_there_within_its_own(void **state)
{
    (void)state;
    hwloc_bitmap_t both = hwloc_bitmap_alloc(), first = hwloc_bitmap_alloc();
    hwloc_bitmap_from_ulong(both, 3);
    hwloc_bitmap_from_ulong(first, 1);
    if (!hwloc_bitmap_isincluded(both, before)) {
        hwloc_bitmap_free(both);
        hwloc_bitmap_free(first);
        skip(); // no cores 0 and 1 for this process
    }
    hwloc_set_cpubind(topology, both, HWLOC_CPUBIND_PROCESS);
    cuda_bind_near(1);
    check_bound(2);
    hwloc_set_cpubind(topology, both, HWLOC_CPUBIND_PROCESS);
    cuda_bind_near(7);
    check_bound(3);
    hwloc_set_cpubind(topology, first, HWLOC_CPUBIND_PROCESS); // somebody else's choice
    cuda_bind_near(1);
    check_bound(1);
    hwloc_set_cpubind(topology, before, HWLOC_CPUBIND_PROCESS);
    hwloc_bitmap_free(both);
    hwloc_bitmap_free(first);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_cores_are_near_is_known),
        cmocka_unit_test(a_report_tells_them),
        cmocka_unit_test(a_rank_moves_there_within_its_own),
    };
    // As the engine will: by a file, which is yet this system.
    if (argc < 2 || setenv(XML_VARIABLE, argv[1], 1) != 0 ||
        setenv("HWLOC_THISSYSTEM", "1", 1) != 0)
        return EXIT_FAILURE;
    hwloc_topology_init(&topology);
    hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(topology) != 0)
        return EXIT_FAILURE;
    before = hwloc_bitmap_alloc();
    hwloc_get_cpubind(topology, before, HWLOC_CPUBIND_PROCESS);
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    hwloc_bitmap_free(before);
    hwloc_topology_destroy(topology);
    return failures;
}
