// Ranks that outlived their launcher are ended before a new start; nobody else is.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "comm/rank_state.h"
#include "launcher/left_ranks.h"
#include "tests/base/capture.h"

// A process with a state file of its own, which it keeps open, or one that only stands in it.
static pid_t start_rank(const char *ranks, int rank, bool keeps_it_open)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct state_file *f;
        struct rank_state s = {
            .rank = rank, .size = 3, .pid = getpid(), .step = -1, .exit_code = -1, .host = "h"};
        if (state_file_create(&f, ranks, &s) != RETORT_OK)
            _exit(1);
        if (!keeps_it_open)
            state_file_close(&f);
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
    }
    char byte;
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

// The signal that ended it, or 0 for one that lives on.
static int ended_by(pid_t child)
{
    int status = 0;
    pid_t got = waitpid(child, &status, WNOHANG);
    if (got == child)
        return WTERMSIG(status);
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    return 0;
}

static void test_only_ranks_are_ended(void **state)
{
    char ranks[PATH_CAPACITY];
    const char *run = scratch_create();
    (void)state;
    assert_int_equal(path_join(ranks, run, "ranks"), 0);
    pid_t first = start_rank(ranks, 0, true);
    pid_t other = start_rank(ranks, 1, false); // a pid that somebody else has by now
    pid_t last = start_rank(ranks, 2, true);
    capture_begin(1);
    left_ranks_end(run);
    assert_string_equal(capture_end(), "ended 2 ranks that an earlier start had left behind\n");
    assert_int_equal(ended_by(first), SIGKILL);
    assert_int_equal(ended_by(other), 0);
    assert_int_equal(ended_by(last), SIGKILL);
    capture_begin(1);
    left_ranks_end(run);
    assert_string_equal(capture_end(), "");
    scratch_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_only_ranks_are_ended)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
