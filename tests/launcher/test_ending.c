// What is said of ranks that ended without a word of their own, and which code it gives.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "comm/watchdog.h"
#include "launcher/ending.h"
#include "tests/base/capture.h"

static const char *run; // a run folder in which rank 1 was last seen in step 740 of the baseline

static int set_up(void **state)
{
    char ranks[PATH_CAPACITY];
    struct watchdog *w;
    (void)state;
    run = scratch_create();
    if (path_join(ranks, run, "ranks") != 0 || watchdog_create(&w, ranks, 1, 2, "node7", 0) != 0)
        return -1;
    watchdog_phase(w, "baseline");
    watchdog_step(w, 740);
    watchdog_enter(w, "broadcast", 8);
    watchdog_leave(w);
    watchdog_enter(w, "agreement", 4);
    watchdog_leave(w);
    watchdog_enter(w, "all-reduce", 1000000);
    watchdog_leave(w);
    watchdog_destroy(&w, -1); // as one that was killed
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    scratch_remove();
    return 0;
}

static struct relay quiet_relay(void)
{
    return (struct relay){.log = -1, .error_rank = -1, .dead_rank = -1, .exit_rank = -1};
}

// `status` as waitpid gives it. Returns what was said, a line or "".
static const char *report(const struct relay *r, int status, int expected_code)
{
    const struct ending e = {.relay = r, .run_folder = run, .status = status};
    struct verdict v;
    ending_judge(&v, &e);
    capture_begin(2);
    int code = verdict_say(&v);
    const char *said = capture_end();
    assert_int_equal(code, expected_code);
    const char *line_end = strchr(said, '\n');
    assert_true(!line_end || !line_end[1]); // no second line
    return said;
}

static int exited(int code)
{
    return code << 8;
}

static void has(const char *said, const char *words)
{
    if (!strstr(said, words))
        fail_msg("no \"%s\" in: %s", words, said);
}

// A library in rank 1 called exit(1): mpirun names the rank, its file says where it was.
static void test_silent_rank(void **state)
{
    struct relay r = quiet_relay();
    (void)state;
    r.exit_rank = 1;
    r.exit_code = 1;
    (void)snprintf(r.banner, sizeof r.banner, "mpirun detected that …");
    (void)snprintf(r.note, sizeof r.note, "[node7:12] PMIX ERROR: UNREACHABLE");
    const char *said = report(&r, exited(1), RETORT_RANK);
    has(said, "rank 1 ended with code 1 and did not say why; last seen: baseline step 740");
    has(said, "mpirun says: [node7:12] PMIX ERROR: UNREACHABLE; all it said is in ");
    has(said, "/mpirun.log; run again to go on from the last checkpoint");
    r.exit_code = RETORT_WRITE; // not what its own file says: a library's code, not ours
    has(report(&r, exited(RETORT_WRITE), RETORT_RANK), "rank 1 ended with code 5");
}

// INT, TERM or HUP to mpirun: it ends its ranks, leaves with 1 and says nothing.
static void test_mpirun_was_asked_to_end(void **state)
{
    struct relay r = quiet_relay();
    (void)state;
    const char *said = report(&r, exited(1), RETORT_RANK);
    has(said,
        "mpirun ended the ranks with code 1 and named none of them, as when INT, TERM or HUP "
        "is sent to mpirun itself");
    has(said, "; all it said is in ");
    (void)snprintf(r.banner, sizeof r.banner, "There are not enough slots available");
    said = report(&r, exited(1), RETORT_RANK);
    has(said, "; mpirun says: There are not enough slots available");
    assert_null(strstr(said, "TERM"));
}

static void test_mpirun_was_killed(void **state)
{
    struct relay r = quiet_relay();
    (void)state;
    const char *said = report(&r, SIGKILL, RETORT_RANK);
    has(said,
        "mpirun was ended by signal 9 (Killed: by hand, or memory ran out), and the ranks "
        "with it");
    assert_null(strstr(said, "right after its start"));
}

static void test_dead_rank(void **state)
{
    struct relay r = quiet_relay();
    (void)state;
    r.dead_rank = 1;
    r.dead_signal = SIGSEGV;
    (void)snprintf(r.dead_host, sizeof r.dead_host, "node7");
    const char *said = report(&r, exited(128 + SIGSEGV), RETORT_RANK);
    has(said,
        "rank 1 on node7 was ended by signal 11 (Segmentation fault); last seen: baseline "
        "step 740, after all-reduce of 1 MB for ");
    has(said, " s (before it: agreement of 4 B, broadcast of 8 B); run again");
}

// Without memory a rank says so, writes its code, and crashes in MPI: no second line.
static void test_a_rank_has_spoken_and_died(void **state)
{
    struct relay r = quiet_relay();
    char ranks[PATH_CAPACITY];
    struct watchdog *w;
    (void)state;
    assert_int_equal(path_join(ranks, run, "ranks"), 0);
    assert_int_equal(watchdog_create(&w, ranks, 0, 2, "node7", 0), 0);
    r.dead_rank = 0;
    r.dead_signal = SIGSEGV;
    r.error_seen = true;
    r.error_rank = 0; // but it was not about to leave
    has(report(&r, exited(128 + SIGSEGV), RETORT_RANK), "rank 0 on  was ended by signal 11");
    watchdog_destroy(&w, RETORT_MEMORY);
    assert_string_equal(report(&r, exited(128 + SIGSEGV), RETORT_MEMORY), "");
    r.dead_rank = 1; // another one's death is news
    has(report(&r, exited(128 + SIGSEGV), RETORT_RANK), "rank 1 on  was ended by signal 11");
    r.dead_rank = -1; // MPI gives up with a code of its own
    assert_string_equal(report(&r, exited(2), RETORT_MEMORY), "");
}

// What a rank has said itself is enough.
static void test_a_rank_has_spoken(void **state)
{
    struct relay r = quiet_relay();
    (void)state;
    r.error_seen = true;
    r.exit_rank = 0;
    r.exit_code = RETORT_INPUT;
    assert_string_equal(report(&r, exited(RETORT_INPUT), RETORT_INPUT), "");
    r.error_seen = false;
    assert_string_equal(report(&r, exited(RETORT_STOPPED), RETORT_STOPPED), "");
    assert_string_equal(report(&r, exited(RETORT_OK), RETORT_OK), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_rank),       cmocka_unit_test(test_mpirun_was_asked_to_end),
        cmocka_unit_test(test_mpirun_was_killed), cmocka_unit_test(test_dead_rank),
        cmocka_unit_test(test_a_rank_has_spoken), cmocka_unit_test(test_a_rank_has_spoken_and_died),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
