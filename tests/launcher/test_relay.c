// What of mpirun's stderr reaches the user, and what is kept of it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/relay.h"

#define FRAME "--------------------------------------------------------------------------\n"

// Feeds `text` in pieces of `piece` bytes with stderr caught; the caught text is in shown[4096].
static void feed(struct relay *r, const char *text, size_t piece, char shown[4096])
{
    char path[] = "/tmp/retort-relay-XXXXXX";
    int caught = mkstemp(path), before = dup(STDERR_FILENO);
    assert_true(caught >= 0 && before >= 0);
    unlink(path);
    dup2(caught, STDERR_FILENO);
    relay_init(r, -1);
    r->terminal = false;
    for (size_t at = 0; at < strlen(text); at += piece) {
        size_t left = strlen(text) - at;
        relay_feed(r, text + at, left < piece ? left : piece);
    }
    relay_end(r);
    dup2(before, STDERR_FILENO);
    close(before);
    ssize_t count = pread(caught, shown, 4095, 0);
    close(caught);
    assert_true(count >= 0);
    shown[count] = '\0';
}

// As Open MPI 4.1.4 wrote it, a rank's lines among its own.
static const char DEATH[] = "[rank 0/2 vm] warning: slow disk\n" FRAME
                            "Primary job  terminated normally, but 1 process returned\n"
                            "a non-zero exit code. Per user-direction, the job has been aborted.\n"
                            "[rank 0/2 vm] error: comm/mpi.c: peer is gone\n" FRAME FRAME
                            "mpirun noticed that process rank 1 with PID 0 on node vm exited on "
                            "signal 9 (Killed).\n" FRAME
                            "[vm:07906] 1 more process has sent help message help-mpi-api.txt\n"
                            "[[29186,0],0] ORTE_ERROR_LOG: Timeout in file base.c:31\n"
                            "mpirun: Forwarding signal 10 to job\n"
                            "==12==ERROR: AddressSanitizer: heap-use-after-free";

static void check_death(const struct relay *r, const char *shown)
{
    assert_string_equal(shown,
                        "[rank 0/2 vm] warning: slow disk\n"
                        "[rank 0/2 vm] error: comm/mpi.c: peer is gone\n"
                        "==12==ERROR: AddressSanitizer: heap-use-after-free\n");
    assert_int_equal(r->dead_rank, 1);
    assert_int_equal(r->dead_signal, 9);
    assert_string_equal(r->dead_host, "vm");
    assert_string_equal(r->banner,
                        "mpirun noticed that process rank 1 with PID 0 on node vm exited "
                        "on signal 9 (Killed).");
    assert_true(r->error_seen);
    assert_int_equal(r->error_rank, 0);
}

static void test_death(void **state)
{
    static struct relay r;
    char shown[4096];
    (void)state;
    const size_t pieces[] = {1, 7, 64, 4096};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        feed(&r, DEATH, pieces[i], shown);
        check_death(&r, shown);
    }
}

static void test_banner(void **state)
{
    static struct relay r;
    char shown[4096];
    (void)state;
    feed(&r, FRAME "There are not enough slots available\n  for 9 slots.\n\n" FRAME, 16, shown);
    assert_string_equal(shown, "");
    assert_string_equal(r.banner, "There are not enough slots available for 9 slots.");
    assert_false(r.error_seen);
    assert_int_equal(r.dead_rank, -1);
}

// A rank that left with a code: Open MPI 4.1 and 5.0 name it differently.
static void test_exit(void **state)
{
    static struct relay r;
    char shown[4096];
    (void)state;
    feed(&r,
         FRAME
         "mpirun detected that one or more processes exited with non-zero status, thus "
         "causing\nthe job to be terminated. The first process to do so was:\n\n"
         "  Process name: [[2420,1],12]\n  Exit code:    9\n" FRAME,
         16, shown);
    assert_string_equal(shown, "");
    assert_int_equal(r.exit_rank, 12);
    assert_int_equal(r.exit_code, 9);
    assert_string_equal(r.note, "");
    feed(&r,
         FRAME "   Process name: [prterun-vm-7@1,3]\n   Exit code:    1\n" FRAME
               "[vm:07906] PMIX ERROR: UNREACHABLE in file x.c\n",
         4096, shown);
    assert_int_equal(r.exit_rank, 3);
    assert_int_equal(r.exit_code, 1);
    assert_string_equal(r.note, "[vm:07906] PMIX ERROR: UNREACHABLE in file x.c");
}

static void test_long_line(void **state)
{
    static struct relay r;
    static char text[3 * RELAY_LINE], shown[4096];
    (void)state;
    memset(text, '[', sizeof text - 2); // a note it is not, however long
    text[sizeof text - 2] = '\n';
    feed(&r, text, 1000, shown);
    assert_int_equal(strspn(shown, "["), 4095);
    assert_int_equal(r.used, 0);
}

// As Slurm 22.05 wrote it.
static void test_srun(void **state)
{
    struct relay r;
    char shown[4096];
    (void)state;
    feed(&r,
         "[rank 0/4 node1] warning: slow disk\n"
         "slurmstepd: error: *** STEP 3.0 ON node1 CANCELLED AT 2026-01-02T03:04:05 ***\n"
         "srun: error: node2: task 3: Killed\n"
         "srun: Job step aborted: Waiting up to 5 seconds for job step to finish.\n"
         "srun: error: node1: tasks 0-1: Exited with exit code 4\n",
         7, shown);
    assert_string_equal(shown, "[rank 0/4 node1] warning: slow disk\n");
    assert_int_equal(r.dead_rank, 3);
    assert_int_equal(r.dead_signal, 9);
    assert_string_equal(r.dead_host, "node2");
    assert_int_equal(r.exit_rank, -1);
    feed(&r,
         "srun: error: node1: tasks 2-3: Exited with exit code 3\n"
         "srun: error: node1: task 0: Segmentation fault (core dumped)\n",
         100, shown);
    assert_string_equal(shown, "");
    assert_int_equal(r.exit_rank, 2);
    assert_int_equal(r.exit_code, 3);
    assert_int_equal(r.dead_rank, -1);
    feed(&r, "srun: error: node1: task 12: Segmentation fault (core dumped)\nsrun: error: \n", 100,
         shown);
    assert_int_equal(r.dead_rank, 12);
    assert_int_equal(r.dead_signal, 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_death), cmocka_unit_test(test_banner),
        cmocka_unit_test(test_exit),  cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_srun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
