// oneDNN's own log of what it runs: in training steps and in evaluation it reorders weights, and
// their gradients, never activations.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/models/support.h"

enum { KERNEL = 3, SIZE = 32, BATCH = 5, STEPS = 3, LINE_CAPACITY = 1024 };

// What oneDNN has run.
struct tally {
    int convolutions, reorders;
    char activation[LINE_CAPACITY]; // a line that reorders anything else than weights, or ""
};

// "onednn_verbose,exec,cpu,reorder,…,24x12x3x3,0.002": a tensor of weights is as high and wide as a
// kernel, which no picture of these networks is at any layer.
static bool reorders_weights(const char *line)
{
    int dims[4], end = 0;
    const char *time = strrchr(line, ','), *shape = time;
    while (shape != NULL && shape > line && shape[-1] != ',')
        shape--;
    return shape != NULL &&
           sscanf(shape, "%dx%dx%dx%d%n", &dims[0], &dims[1], &dims[2], &dims[3], &end) == 4 &&
           shape + end == time && dims[2] == KERNEL && dims[3] == KERNEL;
}

static void count_line(struct tally *t, const char *line)
{
    if (strstr(line, "exec,cpu,convolution,") != NULL)
        t->convolutions++;
    if (strstr(line, "exec,cpu,reorder,") == NULL)
        return;
    t->reorders++;
    if (!reorders_weights(line))
        snprintf(t->activation, sizeof t->activation, "%s", line);
}

// ---- standard output goes to a file while networks run

struct capture {
    FILE *file;
    int stdout_kept;
};

static void capture_begin(struct capture *c)
{
    fflush(stdout);
    c->file = tmpfile();
    c->stdout_kept = dup(STDOUT_FILENO);
    assert_non_null(c->file);
    assert_true(dup2(fileno(c->file), STDOUT_FILENO) >= 0);
}

static struct tally capture_end(struct capture *c)
{
    struct tally t = {0};
    char line[LINE_CAPACITY];
    fflush(stdout);
    dup2(c->stdout_kept, STDOUT_FILENO);
    close(c->stdout_kept);
    rewind(c->file);
    while (fgets(line, sizeof line, c->file) != NULL)
        count_line(&t, line);
    fclose(c->file);
    return t;
}

// ---- networks

static struct graph *make_graph(const char *arch, int64_t norm)
{
    struct graph *g = NULL;
    struct graph_options options = {3, SIZE, SIZE, 10, norm, ACTIVATION_RELU};
    assert_int_equal(graph_create(&g, arch, &options), RETORT_OK);
    return g;
}

static struct tally run_steps(struct bench *b, bool training)
{
    struct capture c;
    capture_begin(&c);
    for (int i = 0; i < STEPS; i++) {
        if (training)
            bench_step(b);
        bench_loss(b, FORWARD_EVAL);
    }
    return capture_end(&c);
}

static void check_steps(const char *arch, int64_t norm, const char *plan, bool training)
{
    struct bench_options options = {
        .device = "cpu", .threads = 1, .max_batch = BATCH, .plan = plan, .evaluates = !training};
    struct bench b;
    bench_open_on(&b, &options, make_graph(arch, norm), BATCH, 7);
    struct tally t = run_steps(&b, training);
    if (t.activation[0] != '\0')
        fail_msg("%s: an activation is reordered: %s", arch, t.activation);
    // conv1 is oneDNN's by any plan: its weights are brought to its format, and in training their
    // gradient back. So the log was written, and read.
    assert_true(t.convolutions >= STEPS);
    assert_true(t.reorders >= (training ? 2 : 1) * STEPS);
    bench_close(&b);
}

// By the clock's choice here, and where oneDNN does everything.
static void no_activation_is_reordered(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int64_t norm;
    } NETWORKS[] = {{"conv12/2", NORM_BATCH}, {"conv4", NORM_BATCH_SYNC}, {"conv4", NORM_NONE}};
    char direct[1024] = "";
    for (int i = 1, length = 0; i <= 12; i++)
        length += snprintf(direct + length, sizeof direct - length,
                           "conv%d fwd=direct bwd_data=direct bwd_weights=direct;", i);
    for (size_t i = 0; i < sizeof(NETWORKS) / sizeof(NETWORKS[0]); i++)
        for (int training = 0; training < 2; training++) {
            check_steps(NETWORKS[i].arch, NETWORKS[i].norm, NULL, training);
            check_steps(NETWORKS[i].arch, NETWORKS[i].norm, direct, training);
        }
}

// What the log would say of an activation is found.
static void reorders_of_activations_are_found(void **state)
{
    (void)state;
    static const char HEAD[] =
        "onednn_verbose,exec,cpu,reorder,jit:uni,undef,src_f32::blocked:abcd:f0 "
        "dst_f32::blocked:aBcd8b:f0,,,";
    static const struct {
        const char *tail;
        bool weights;
    } LINES[] = {{"5x16x32x32,0.01\n", false}, {"5x16x2x2,0.01\n", false},
                 {"5x96,0.01\n", false},       {"24x12x3x3,0.01\n", true},
                 {"16x3x3x3,0.01\n", true},    {"1x5x16x3x3,1\n", false}};
    for (size_t i = 0; i < sizeof(LINES) / sizeof(LINES[0]); i++) {
        struct tally t = {0};
        char line[LINE_CAPACITY];
        snprintf(line, sizeof line, "%s%s", HEAD, LINES[i].tail);
        count_line(&t, line);
        assert_int_equal(t.reorders, 1);
        assert_int_equal(t.activation[0] == '\0', LINES[i].weights);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reorders_of_activations_are_found),
        cmocka_unit_test(no_activation_is_reordered),
    };
    // Both names there have been, before oneDNN looks.
    setenv("ONEDNN_VERBOSE", "1", 1);
    setenv("DNNL_VERBOSE", "1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
