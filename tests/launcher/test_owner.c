// Who owns a run folder: the living, and nobody else.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "launcher/owner.h"
#include "launcher/process.h"

static char folder[] = "/tmp/retort-owner-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder); // empty: every test cleans up, and no partial file is left
}

static void test_round_trip(void **state)
{
    struct owner mine, read, again;
    (void)state;
    setenv("SLURM_JOB_ID", "4711", 1);
    assert_false(owner_read(&read, folder));
    assert_int_equal(owner_take(&mine, folder), RETORT_OK);
    assert_true(owner_read(&read, folder));
    assert_int_equal(read.pid, getpid());
    assert_int_equal(read.start_ticks, process_start_ticks(getpid()));
    assert_string_equal(read.job, "4711");
    assert_true(owner_is_here(&read) && owner_is_alive(&read));
    assert_int_equal(owner_check(folder), RETORT_BUSY);
    assert_int_equal(owner_take(&again, folder), RETORT_BUSY);
    owner_release(&again); // owns nothing: the file stays
    assert_true(owner_read(&read, folder));
    owner_release(&mine);
    assert_false(owner_read(&read, folder));
    assert_int_equal(owner_check(folder), RETORT_OK);
}

static void make_old(const char *path, int seconds)
{
    struct timespec then[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
}

// Writes the file of an owner on another machine whose last beat was `age_s` ago.
static void own_elsewhere(int age_s)
{
    char path[PATH_CAPACITY];
    assert_int_equal(path_join(path, folder, "owner.json"), RETORT_OK);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "{\"host\": \"node7\", \"machine\": \"there\", \"pid\": %d, \"token\": \"x\"}",
            (int)getpid());
    fclose(file);
    make_old(path, age_s);
}

static void test_beat(void **state)
{
    struct owner mine, read;
    (void)state;
    assert_int_equal(owner_take(&mine, folder), RETORT_OK);
    make_old(mine.path, 1000);
    assert_true(owner_read(&read, folder) && read.age_s > 990);
    mine.beat = 5;
    assert_true(owner_refresh(&mine));
    assert_true(owner_read(&read, folder));
    assert_true(time(NULL) - read.beat < 5 && read.age_s < 5);
    // From elsewhere only the beat tells.
    snprintf(read.machine, sizeof read.machine, "another one");
    assert_false(owner_is_here(&read));
    assert_true(owner_is_alive(&read));
    read.age_s = OWNER_STALE_S + 5;
    assert_false(owner_is_alive(&read));
    owner_release(&mine);
}

// A launcher that was killed leaves its file; the next one takes the folder, and only one does.
static void test_dead_owner(void **state)
{
    struct owner mine, read;
    int status;
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        struct owner theirs;
        _exit(owner_take(&theirs, folder) == RETORT_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(owner_read(&read, folder));
    assert_int_equal(read.pid, child);
    assert_false(owner_is_alive(&read));
    assert_int_equal(owner_take(&mine, folder), RETORT_OK);
    assert_true(owner_read(&read, folder));
    assert_int_equal(read.pid, getpid());
    owner_release(&mine);
}

static void test_rivals(void **state)
{
    enum { RIVALS = 8 };
    pid_t rivals[RIVALS];
    struct owner dead;
    int winners = 0;
    (void)state;
    assert_int_equal(owner_take(&dead, folder), RETORT_OK);
    dead.pid = 1 << 30; // nobody's
    FILE *file = fopen(dead.path, "w");
    assert_non_null(file);
    fprintf(file, "{\"host\": \"%s\", \"machine\": \"%s\", \"pid\": %d, \"start_ticks\": 1}",
            dead.host, dead.machine, 1 << 30);
    fclose(file);
    for (int i = 0; i < RIVALS; i++) {
        rivals[i] = fork();
        if (rivals[i] == 0) {
            struct owner theirs;
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(2);
            int rc = owner_take(&theirs, folder);
            if (rc == RETORT_OK)
                sleep(5); // the winner lives on while the others look
            _exit(rc == RETORT_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < RIVALS; i++) {
        int status;
        assert_int_equal(waitpid(rivals[i], &status, 0), rivals[i]);
        winners += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    assert_int_equal(winners, 1);
    assert_int_equal(unlink(dead.path), 0);
}

// Taken over when its beats have stopped, and not before; what it then wakes to is no longer its.
static void test_elsewhere(void **state)
{
    struct owner mine, other, read;
    (void)state;
    own_elsewhere(OWNER_STALE_S - 10);
    assert_int_equal(owner_take(&mine, folder), RETORT_BUSY);
    own_elsewhere(OWNER_STALE_S + 10);
    assert_int_equal(owner_take(&mine, folder), RETORT_OK);
    assert_true(owner_refresh(&mine));
    other = mine; // the one that slept
    snprintf(other.token, sizeof other.token, "x");
    assert_false(owner_refresh(&other));
    struct owner again = other;
    owner_release(&again);
    assert_true(owner_read(&read, folder));
    assert_string_equal(read.token, mine.token);
    owner_release(&mine);
    assert_false(owner_refresh(&other)); // the other came, ran and went
    assert_false(owner_read(&read, folder));
}

// A take-over that is under way keeps others out; one that was cut short does not, for long.
static void test_take_over_lock(void **state)
{
    struct owner mine;
    char lock[PATH_CAPACITY];
    (void)state;
    assert_int_equal(path_join(lock, folder, "owner.json.lock"), RETORT_OK);
    own_elsewhere(OWNER_STALE_S + 10);
    fclose(fopen(lock, "w"));
    assert_int_equal(owner_take(&mine, folder), RETORT_BUSY);
    make_old(lock, OWNER_STALE_S + 10);
    assert_int_equal(owner_take(&mine, folder), RETORT_OK);
    assert_false(file_exists(lock));
    owner_release(&mine);
}

// A job that Slurm has brought back takes its own folder at once, whoever still beats there; the
// same start of the job does not, and another job neither.
static void test_brought_back(void **state)
{
    struct owner first, second;
    (void)state;
    setenv("SLURM_JOB_ID", "4711", 1);
    assert_int_equal(owner_take(&first, folder), RETORT_OK);
    assert_int_equal(owner_check(folder), RETORT_BUSY);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    setenv("SLURM_JOB_ID", "4712", 1);
    assert_int_equal(owner_check(folder), RETORT_BUSY);
    setenv("SLURM_JOB_ID", "4711", 1);
    assert_int_equal(owner_take(&second, folder), RETORT_OK);
    assert_int_equal(second.job_start, 1);
    assert_false(owner_refresh(&first));
    assert_true(owner_refresh(&second));
    assert_int_equal(owner_check(folder), RETORT_BUSY);
    owner_release(&first); // no longer its own
    assert_int_equal(owner_check(folder), RETORT_BUSY);
    owner_release(&second);
    unsetenv("SLURM_RESTART_COUNT");
    unsetenv("SLURM_JOB_ID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_beat),
        cmocka_unit_test(test_dead_owner),   cmocka_unit_test(test_rivals),
        cmocka_unit_test(test_elsewhere),    cmocka_unit_test(test_take_over_lock),
        cmocka_unit_test(test_brought_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
