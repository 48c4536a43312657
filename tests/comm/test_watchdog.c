// The state file, and the line a rank leaves with when others do not arrive.

// cmocka needs the others first
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/comm.h"
#include "comm/rank_state.h"
#include "comm/watchdog.h"
#include "tests/base/capture.h"

static int with_folder(void **state)
{
    *state = (void *)(uintptr_t)scratch_create();
    return 0;
}

static int without_folder(void **state)
{
    (void)state;
    scratch_remove();
    return 0;
}

static const char *describe(const char *folder, int rank)
{
    static char line[512];
    assert_int_equal(watchdog_describe(folder, rank, line, sizeof line), 0);
    return line;
}

static void assert_begins(const char *text, const char *wanted)
{
    if (strncmp(text, wanted, strlen(wanted)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", text, wanted);
}

static void assert_has(const char *text, const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("\"%s\" is not in \"%s\"", wanted, text);
}

static void test_describe_follows_the_rank(void **state)
{
    const char *folder = *state;
    char wanted[256];
    struct watchdog *w = NULL;
    assert_int_equal(watchdog_create(&w, folder, 1, 4, "node7", 0), 0);
    snprintf(wanted, sizeof wanted, "rank 1 on node7 (pid %d): start, before its first collective",
             (int)getpid());
    assert_string_equal(describe(folder, 1), wanted);
    watchdog_phase(w, "student");
    watchdog_step(w, 412);
    watchdog_enter(w, "all-reduce", 7500000);
    snprintf(wanted, sizeof wanted,
             "rank 1 on node7 (pid %d): student step 412, in all-reduce of 7.5 MB for ",
             (int)getpid());
    assert_begins(describe(folder, 1), wanted);
    watchdog_leave(w);
    assert_has(describe(folder, 1), ": student step 412, after all-reduce of 7.5 MB for ");
    watchdog_phase(w, "logits view 3");
    watchdog_enter(w, "barrier", 0);
    assert_has(describe(folder, 1), ": logits view 3, in barrier for ");
    watchdog_destroy(&w, RETORT_OK);
    assert_null(w);
}

// What came before, the last first; each record with the step it was entered in.
static void test_history(void **state)
{
    const char *folder = *state;
    char line[256];
    struct rank_state s;
    struct watchdog *w = NULL;
    assert_int_equal(watchdog_create(&w, folder, 1, 4, "node7", 0), 0);
    watchdog_history(folder, 1, line, sizeof line);
    assert_string_equal(line, "");
    watchdog_enter(w, "broadcast", 8);
    watchdog_leave(w);
    watchdog_history(folder, 1, line, sizeof line);
    assert_string_equal(line, ""); // the latest is not its own history
    for (int step = 0; step < 5; step++) {
        watchdog_step(w, step);
        watchdog_enter(w, "all-reduce", 7500000);
        watchdog_leave(w);
        watchdog_enter(w, "vote", 4);
        watchdog_leave(w);
    }
    watchdog_history(folder, 1, line, sizeof line);
    assert_string_equal(line,
                        "all-reduce of 7.5 MB, vote of 4 B, all-reduce of 7.5 MB, vote of 4 B, "
                        "all-reduce of 7.5 MB, vote of 4 B, all-reduce of 7.5 MB");
    watchdog_history(folder, 1, line, 40); // whole words or none
    assert_string_equal(line, "all-reduce of 7.5 MB, vote of 4 B");
    assert_int_equal(state_read(&s, folder, 1), 0);
    assert_int_equal(state_latest(&s)->step, 4);
    assert_int_equal(s.records[s.latest % STATE_RECORDS].step, 1); // the oldest that is kept
    watchdog_destroy(&w, RETORT_OK);
    watchdog_history(folder, 5, line, sizeof line);
    assert_string_equal(line, "");
}

static void test_leaving_writes_the_code(void **state)
{
    const char *folder = *state;
    struct watchdog *w = NULL;
    struct rank_state s;
    assert_int_equal(watchdog_create(&w, folder, 2, 4, "node7", 0), 0);
    assert_int_equal(state_read(&s, folder, 2), 0);
    assert_int_equal(s.exit_code, -1);
    assert_int_equal(s.size, 4);
    watchdog_destroy(&w, RETORT_INPUT);
    assert_int_equal(state_read(&s, folder, 2), 0);
    assert_int_equal(s.exit_code, RETORT_INPUT);
    watchdog_destroy(&w, 0);
}

static void test_the_last_eight_stay_and_waits_are_not_numbered(void **state)
{
    const char *folder = *state;
    struct watchdog *w = NULL;
    struct rank_state s;
    assert_int_equal(watchdog_create(&w, folder, 0, 1, "node7", 0), 0);
    for (size_t i = 1; i <= 11; i++) {
        watchdog_enter(w, "broadcast", i);
        watchdog_leave(w);
    }
    watchdog_wait(w, "exchange", 99);
    assert_int_equal(state_read(&s, folder, 0), 0);
    assert_int_equal(s.collectives, 11);
    assert_true(state_inside(&s));
    assert_string_equal(state_latest(&s)->name, "exchange");
    assert_int_equal(state_latest(&s)->number, 0);
    uint64_t numbers = 0;
    for (int i = 0; i < STATE_RECORDS; i++) {
        assert_int_equal(s.records[i].number, s.records[i].bytes == 99 ? 0 : s.records[i].bytes);
        numbers += (uint64_t)s.records[i].number;
    }
    assert_int_equal(numbers, 5 + 6 + 7 + 8 + 9 + 10 + 11);
    watchdog_leave(w);
    watchdog_destroy(&w, 0);
}

static void test_null_and_missing(void **state)
{
    char line[128];
    watchdog_phase(NULL, "teacher");
    watchdog_step(NULL, 1);
    watchdog_enter(NULL, "barrier", 0);
    watchdog_wait(NULL, "exchange", 0);
    watchdog_leave(NULL);
    assert_int_equal(watchdog_describe(*state, 5, line, sizeof line), RETORT_INPUT);
    assert_string_equal(line, "rank 5: ended before it wrote its state");
}

static void test_a_folder_that_cannot_be(void **state)
{
    char path[PATH_CAPACITY];
    struct watchdog *w = NULL;
    assert_int_equal(path_join(path, *state, "file"), 0);
    assert_int_equal(file_write_whole(path, "x", 1), 0);
    capture_begin(STDERR_FILENO);
    assert_int_equal(watchdog_create(&w, path, 0, 1, "node7", 0), RETORT_WRITE);
    assert_has(capture_end(), path);
    assert_null(w);
}

struct reader {
    const char *folder;
    atomic_bool stop;
    int reads, torn;
};

static void *read_often(void *argument)
{
    struct reader *r = argument;
    struct rank_state s;
    while (!atomic_load(&r->stop)) {
        if (state_read(&s, r->folder, 0) != RETORT_OK || !s.whole)
            continue;
        r->reads++;
        r->torn += s.latest != s.collectives ||
                   (s.latest > 0 && (state_latest(&s)->number != s.collectives ||
                                     state_latest(&s)->bytes != (uint64_t)s.collectives));
    }
    return NULL;
}

static void test_readers_see_whole_states(void **state)
{
    struct reader r = {.folder = *state};
    struct watchdog *w = NULL;
    pthread_t thread;
    assert_int_equal(watchdog_create(&w, r.folder, 0, 1, "node7", 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_often, &r), 0);
    for (size_t i = 1; i <= 30000; i++) {
        watchdog_enter(w, "all-reduce", i);
        watchdog_leave(w);
        if (i % 100 == 0)
            usleep(100);
    }
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    watchdog_destroy(&w, 0);
    assert_true(r.reads > 100);
    assert_int_equal(r.torn, 0);
}

// Enters `count` collectives and stays in the last one.
static void enter_many(struct watchdog *w, const char *name, size_t bytes, int count)
{
    for (int i = 0; i < count; i++) {
        if (i > 0)
            watchdog_leave(w);
        watchdog_enter(w, name, bytes);
    }
}

// Rank 0, in a process of its own, waits in its third collective; returns its exit code.
static int wait_in_child(const char *folder, int size)
{
    pid_t child = fork();
    if (child == 0) {
        struct watchdog *w = NULL;
        log_set_rank(0, size, "node1");
        if (watchdog_create(&w, folder, 0, size, "node1", 1.0) != RETORT_OK)
            _exit(99);
        watchdog_phase(w, "student");
        watchdog_step(w, 412);
        enter_many(w, "all-reduce", 7500000, 3);
        sleep(20);
        _exit(98);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Rank 1 is as far as rank 0, rank 2 a collective behind, rank 3 was never seen.
static void test_a_hang_names_who_is_missing(void **state)
{
    const char *folder = *state;
    struct watchdog *one = NULL, *two = NULL;
    assert_int_equal(watchdog_create(&one, folder, 1, 4, "node1", 0), 0);
    assert_int_equal(watchdog_create(&two, folder, 2, 4, "node7", 0), 0);
    enter_many(one, "all-reduce", 7500000, 3);
    watchdog_phase(two, "student");
    watchdog_step(two, 411);
    enter_many(two, "gather", 3000, 2);
    watchdog_leave(two);
    capture_begin(STDERR_FILENO);
    const int code = wait_in_child(folder, 4);
    const char *text = capture_end();
    assert_int_equal(code, RETORT_RANK);
    assert_begins(text,
                  "[rank 0/4 node1] error: comm/watchdog.c: all-reduce of 7.5 MB at student "
                  "step 412 has waited ");
    assert_has(text, " s; not arrived: rank 2 on node7 (pid ");
    assert_has(text, "), last seen in student step 411, after gather of 3 kB for ");
    assert_has(text, "; rank 3, which has no state file in ");
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); // one line
    struct rank_state s;
    assert_int_equal(state_read(&s, folder, 0), 0);
    assert_true(state_inside(&s)); // its file says where it hung
    watchdog_destroy(&one, 0);
    watchdog_destroy(&two, 0);
}

// Rank 1 stopped itself in the very collective that rank 0 waits in: as far, but dead.
static void test_a_rank_stopped_in_the_same_place(void **state)
{
    const char *folder = *state;
    const pid_t child = fork();
    if (child == 0) {
        struct watchdog *w = NULL;
        if (watchdog_create(&w, folder, 1, 2, "node7", 0) != RETORT_OK)
            _exit(99);
        enter_many(w, "all-reduce", 8, 3);
        raise(SIGSTOP);
        _exit(98);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    (void)sleep(4); // without a sign of life
    capture_begin(STDERR_FILENO);
    const int code = wait_in_child(folder, 2);
    const char *text = capture_end();
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(code, RETORT_RANK);
    assert_has(text, "; not arrived: rank 1 on node7 (pid ");
    assert_has(text, "), last seen in start, in all-reduce of 8 B for ");
    assert_has(text, " s, no sign of life for ");
    assert_null(strstr(text, "network"));
}

// Rank 0 of an earlier start, which nobody can reach: another start puts a file in its place, or
// only takes it away. The rank ends although it waits for nobody, and its time limit is far.
static void test_an_orphan_ends(void **state)
{
    const char *folder = *state;
    for (int again = 0; again < 2; again++) {
        char path[PATH_CAPACITY];
        int ready[2], status = 0;
        char byte;
        assert_int_equal(pipe(ready), 0);
        capture_begin(STDERR_FILENO);
        const pid_t child = fork();
        if (child == 0) {
            struct watchdog *w = NULL;
            if (watchdog_create(&w, folder, 0, 2, "node1", 600) != RETORT_OK ||
                write(ready[1], "", 1) != 1)
                _exit(99);
            sleep(20);
            _exit(98);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        assert_int_equal(path_join(path, folder, "0.state"), RETORT_OK);
        assert_int_equal(unlink(path), 0);
        struct watchdog *next = NULL;
        if (again)
            assert_int_equal(watchdog_create(&next, folder, 0, 2, "node2", 600), RETORT_OK);
        assert_int_equal(waitpid(child, &status, 0), child);
        const char *text = capture_end();
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), RETORT_BUSY);
        assert_has(text, "another start of this run has taken ");
        watchdog_destroy(&next, 0);
        close(ready[0]);
        close(ready[1]);
    }
}

// A collective that ends in time, however often, is no hang.
static void test_slow_is_not_a_hang(void **state)
{
    struct watchdog *w = NULL;
    assert_int_equal(watchdog_create(&w, *state, 0, 2, "node1", 1.0), 0);
    for (int i = 0; i < 3; i++) {
        watchdog_enter(w, "all-reduce", 8);
        usleep(400000);
        watchdog_leave(w);
    }
    usleep(500000); // outside any collective time does not count
    watchdog_destroy(&w, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_describe_follows_the_rank, with_folder,
                                        without_folder),
        cmocka_unit_test_setup_teardown(test_history, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_a_rank_stopped_in_the_same_place, with_folder,
                                        without_folder),
        cmocka_unit_test_setup_teardown(test_leaving_writes_the_code, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_the_last_eight_stay_and_waits_are_not_numbered,
                                        with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_null_and_missing, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_readers_see_whole_states, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_slow_is_not_a_hang, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_an_orphan_ends, with_folder, without_folder),
        cmocka_unit_test_setup_teardown(test_a_hang_names_who_is_missing, with_folder,
                                        without_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
