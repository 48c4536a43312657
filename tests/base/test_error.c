// Errors and the logger: one line each, with the rank's name, in the log file too.

// cmocka needs these before it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "tests/base/capture.h"

static int fails(int code)
{
    return FAIL(code, "cannot open %s: %s", "train.h5", "No such file");
}

static void test_error_is_one_line_and_returns_its_code(void **state)
{
    (void)state;
    capture_begin(STDERR_FILENO);
    int rc = fails(RETORT_INPUT);
    assert_string_equal(capture_end(),
                        "error: tests/base/test_error.c: cannot open train.h5: No such file\n");
    assert_int_equal(rc, 3);
}

static void test_error_flattens_control_characters(void **state)
{
    (void)state;
    capture_begin(STDERR_FILENO);
    FAIL(RETORT_INPUT, "a file called \"%s\"", "two\nlines\x1b[31m");
    assert_string_equal(capture_end(),
                        "error: tests/base/test_error.c: a file called \"two lines "
                        "[31m\"\n");
}

static void test_error_cuts_what_is_too_long(void **state)
{
    (void)state;
    static char text[40000];
    memset(text, 'x', sizeof text - 1);
    capture_begin(STDERR_FILENO);
    FAIL(RETORT_INPUT, "%s", text);
    const char *line = capture_end();
    size_t length = strlen(line);
    assert_in_range(length, 10000, 13000);
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
}

static int try_both(int first, int second, int *reached)
{
    int rc;
    TRY(first);
    *reached = 1;
    TRY_ELSE(second == 0, second, "second is %d", second);
    *reached = 2;
    return RETORT_OK;
fail:
    return rc;
}

static void test_try_passes_codes_up(void **state)
{
    (void)state;
    int reached = 0;
    assert_int_equal(try_both(5, 0, &reached), 5);
    assert_int_equal(reached, 0);
    capture_begin(STDERR_FILENO);
    int rc = try_both(0, 8, &reached);
    assert_string_equal(capture_end(), "error: tests/base/test_error.c: second is 8\n");
    assert_int_equal(rc, 8);
    assert_int_equal(reached, 1);
    assert_int_equal(try_both(0, 0, &reached), 0);
    assert_int_equal(reached, 2);
}

static void test_exit_codes_are_the_documented_ones(void **state)
{
    (void)state;
    assert_int_equal(RETORT_USAGE, 2);
    assert_int_equal(RETORT_INPUT, 3);
    assert_int_equal(RETORT_RANK, 4);
    assert_int_equal(RETORT_WRITE, 5);
    assert_int_equal(RETORT_BUSY, 6);
    assert_int_equal(RETORT_STOPPED, 75);
    assert_string_equal(retort_code_text(RETORT_RANK), "a rank failed");
    assert_string_equal(retort_code_text(42), "unknown code");
}

static void test_check_aborts_and_names_the_condition(void **state)
{
    (void)state;
    capture_begin(STDERR_FILENO);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        check_failed("data/shard.c", 12, "rank < size");
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_string_equal(capture_end(),
                        "error: data/shard.c: line 12: \"rank < size\" does not "
                        "hold; this is a bug of retort\n");
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_log_names_the_rank_and_fills_the_file(void **state)
{
    (void)state;
    char path[PATH_CAPACITY], *text;
    size_t bytes;
    assert_int_equal(path_join(path, scratch_create(), "log.txt"), 0);
    assert_int_equal(log_open(path), 0);
    log_set_rank(3, 16, "node7");
    capture_begin(STDERR_FILENO);
    fails(RETORT_INPUT);
    log_warn("disk is %d %% full", 97);
    const char *expected =
        "[rank 3/16 node7] error: tests/base/test_error.c: cannot open train.h5: No such file\n"
        "[rank 3/16 node7] warning: disk is 97 % full\n";
    assert_string_equal(capture_end(), expected);
    capture_begin(STDOUT_FILENO);
    log_info("silent here");
    assert_string_equal(capture_end(), "");
    log_set_rank(0, 1, "node7");
    capture_begin(STDOUT_FILENO);
    log_info("epoch %d", 2);
    assert_string_equal(capture_end(), "epoch 2\n");
    log_close();
    assert_int_equal(file_read(path, 4096, &text, &bytes), 0);
    assert_memory_equal(text, expected, strlen(expected));
    assert_string_equal(text + strlen(expected), "epoch 2\n");
    free(text);
    scratch_remove();
}

static void test_log_open_refuses_what_it_cannot_write(void **state)
{
    (void)state;
    capture_begin(STDERR_FILENO);
    int rc = log_open("/nowhere/log.txt");
    assert_string_equal(capture_end(),
                        "error: base/log.c: cannot write the log /nowhere/log.txt: "
                        "No such file or directory\n");
    assert_int_equal(rc, RETORT_WRITE);
}

static void test_progress_is_plain_lines_where_there_is_no_terminal(void **state)
{
    (void)state;
    struct progress p;
    capture_begin(STDOUT_FILENO);
    progress_init(&p, "packing", 200);
    progress_update(&p, 10, NULL); // too soon after the start
    p.start_s -= 30;
    p.last_s -= 11;
    progress_update(&p, 100, "loss 3.21");
    progress_update(&p, 101, NULL); // too soon again
    p.start_s -= 30;
    progress_update(&p, 200, NULL);
    progress_end(&p);
    assert_string_equal(capture_end(),
                        "packing 100/200 (50 %), 30.0 s left, loss 3.21\n"
                        "packing 200/200 (100 %), 1 min 00 s\n");
}

// On a terminal the line is drawn over, a log line takes its place, and the last one stays.
static void test_progress_is_redrawn_on_a_terminal(void **state)
{
    (void)state;
    int terminal, inside;
    assert_int_equal(openpty(&terminal, &inside, NULL, NULL, NULL), 0);
    int saved = dup(STDOUT_FILENO);
    fflush(stdout);
    assert_true(dup2(inside, STDOUT_FILENO) >= 0);
    struct progress p;
    progress_init(&p, "packing", 4);
    p.start_s -= 1;
    p.last_s -= 1;
    progress_update(&p, 1, "a.jpeg");
    progress_update(&p, 2, "b.jpeg"); // within a tenth of a second: not drawn
    log_info("grey pictures become RGB");
    progress_update(&p, 4, NULL);
    progress_init(&p, "reading", 4);
    p.start_s -= 1;
    p.last_s -= 1;
    progress_update(&p, 2, NULL);
    progress_end(&p);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    char text[512];
    ssize_t bytes = read(terminal, text, sizeof text - 1);
    assert_true(bytes > 0);
    text[bytes] = '\0';
    assert_string_equal(text,
                        "\r\x1b[Kpacking 1/4 (25 %), 3.0 s left, a.jpeg"
                        "\r\x1b[Kgrey pictures become RGB\r\n"
                        "packing 4/4 (100 %), 1.0 s\r\n"
                        "\r\x1b[Kreading 2/4 (50 %), 1.0 s left\r\n");
    close(saved);
    close(terminal);
    close(inside);
}

static void test_formats(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *duration, *bytes;
    } cases[] = {
        {0, "0.0 s", "0 B"},
        {4.24, "4.2 s", "4 B"},
        {59.94, "59.9 s", "60 B"},
        {59.96, "1 min 00 s", "60 B"},
        {200, "3 min 20 s", "200 B"},
        {999.6, "16 min 40 s", "1 kB"},
        {3599.6, "1 h 00 min", "3.6 kB"},
        {3720, "1 h 02 min", "3.72 kB"},
        {45e6, NULL, "45 MB"},
        {999.6e6, NULL, "1 GB"},
        {1.234e9, NULL, "1.23 GB"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        if (cases[i].duration) {
            format_duration(cases[i].value, text, sizeof text);
            assert_string_equal(text, cases[i].duration);
        }
        format_bytes(cases[i].value, text, sizeof text);
        assert_string_equal(text, cases[i].bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_is_one_line_and_returns_its_code),
        cmocka_unit_test(test_error_flattens_control_characters),
        cmocka_unit_test(test_error_cuts_what_is_too_long),
        cmocka_unit_test(test_try_passes_codes_up),
        cmocka_unit_test(test_exit_codes_are_the_documented_ones),
        cmocka_unit_test(test_check_aborts_and_names_the_condition),
        cmocka_unit_test(test_log_open_refuses_what_it_cannot_write),
        cmocka_unit_test(test_log_names_the_rank_and_fills_the_file),
        cmocka_unit_test(test_progress_is_plain_lines_where_there_is_no_terminal),
        cmocka_unit_test(test_progress_is_redrawn_on_a_terminal),
        cmocka_unit_test(test_formats),
    };
    return cmocka_run_group_tests_name("base/error", tests, NULL, NULL);
}
