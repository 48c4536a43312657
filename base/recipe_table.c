// The table of options: every key of the recipe, its default, and its place in struct recipe.

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/recipe_option.h"

// What no run comes near, and every int holds.
#define MANY 1e9

#define DATA(member) offsetof(struct recipe, data.member)
#define NET(member) offsetof(struct network_recipe, member)
#define LOGITS(member) offsetof(struct recipe, logits.member)
#define RUN(member) offsetof(struct recipe, run.member)

#define WORDS(list) .type = OPTION_WORD, .words = (list)
#define FROM(bound) .low = (bound), .high = HUGE_VAL
#define ABOVE(bound) .low = (bound), .low_open = true, .high = HUGE_VAL
#define BETWEEN(a, b) .low = (a), .high = (b)
#define BELOW_ONE .low = 0, .high = 1, .high_open = true
#define COUNT .type = OPTION_INT, .low = 1, .high = MANY

static const struct option data_rows[] = {
    {"path", OPTION_PATH, DATA(path), "tiny-imagenet.h5",
     .help = "the packed data set; relative to the current folder"},
    {"augment", WORDS("none|crop_flip"), .offset = DATA(augment), .fallback = "crop_flip",
     .results = true,
     .help = "crop_flip: a random window after padding by 4, mirrored half of the time"},
    {"shuffle", WORDS("global|shard"), .offset = DATA(shuffle), .fallback = "global",
     .results = true,
     .help = "global: the same batches on any number of ranks; shard: each rank permutes its own, "
             "nothing moves"},
};

static const struct option teacher_rows[] = {
    {"arch", OPTION_NAME, NET(arch), "conv12", .results = true,
     .help = "the network: conv12 or conv4"},
    {"from", OPTION_PATH, NET(from), "", .results = true,
     .help = "an existing checkpoint in place of training"},
};

static const struct option student_rows[] = {
    {"arch", OPTION_NAME, NET(arch), "conv4", .results = true,
     .help = "the network: conv12 or conv4"},
};

static const struct option network_rows[] = {
    {"norm", WORDS("none|batch|batch_sync"), .offset = NET(norm), .fallback = "batch",
     .results = true,
     .help = "after each convolution; batch takes a micro-batch's statistics, batch_sync the whole "
             "batch's"},
    {"activation", WORDS("none|relu"), .offset = NET(activation), .fallback = "relu",
     .results = true, .help = "after each convolution and the first fully connected layer"},
    {"init", WORDS("xavier_normal|kaiming_normal|fan_in_uniform"), .offset = NET(init),
     .fallback = "xavier_normal", .results = true,
     .help = "how weights are drawn; fan_in_uniform: as PyTorch's layers by default, smaller"},
    {"epochs", COUNT, .offset = NET(epochs), .fallback = "8", .results = true,
     .help = "passes over the training split"},
    {"batch", COUNT, .offset = NET(batch), .fallback = "50", .results = true,
     .help = "samples a step, over all ranks together"},
    {"label_smoothing", OPTION_REAL, NET(label_smoothing), "0", BELOW_ONE, .results = true,
     .help = "share of the target that is spread evenly over the classes"},
    {"optimizer.kind", WORDS("sgd|adamw"), .offset = NET(optimizer.kind), .fallback = "sgd",
     .results = true, .help = "the update rule"},
    {"optimizer.lr", OPTION_REAL, NET(optimizer.lr), "0.05", ABOVE(0), .results = true,
     .help = "learning rate after the warm-up"},
    {"optimizer.momentum", OPTION_REAL, NET(optimizer.momentum), "0.9", BELOW_ONE, .results = true,
     .help = "of sgd"},
    {"optimizer.nesterov", OPTION_BOOL, NET(optimizer.nesterov), "true", .results = true,
     .help = "of sgd: look ahead along the momentum"},
    {"optimizer.weight_decay", OPTION_REAL, NET(optimizer.weight_decay), "0.0005", FROM(0),
     .results = true,
     .help = "on weights of convolutions and linear layers, not on biases and norms"},
    {"optimizer.beta1", OPTION_REAL, NET(optimizer.beta1), "0.9", BELOW_ONE, .results = true,
     .help = "of adamw"},
    {"optimizer.beta2", OPTION_REAL, NET(optimizer.beta2), "0.999", BELOW_ONE, .results = true,
     .help = "of adamw"},
    {"optimizer.epsilon", OPTION_REAL, NET(optimizer.epsilon), "1e-08", ABOVE(0), .results = true,
     .help = "of adamw"},
    {"optimizer.shard", OPTION_BOOL, NET(optimizer.shard), "false",
     .help = "a rank keeps momentum and average of its own part of the weights only; changes no "
             "result"},
    {"schedule.kind", WORDS("constant|step|cosine"), .offset = NET(schedule.kind),
     .fallback = "cosine", .results = true,
     .help = "how the learning rate goes on after the warm-up"},
    {"schedule.warmup_epochs", OPTION_REAL, NET(schedule.warmup_epochs), "1", FROM(0),
     .results = true, .help = "the learning rate rises from 0 in a line for so long"},
    {"schedule.final_lr", OPTION_REAL, NET(schedule.final_lr), "0", FROM(0), .results = true,
     .help = "what cosine ends at"},
    {"schedule.step_epochs", OPTION_REAL, NET(schedule.step_epochs), "30", ABOVE(0),
     .results = true,
     .help = "step multiplies the learning rate by step_factor after each so many epochs"},
    {"schedule.step_factor", OPTION_REAL, NET(schedule.step_factor), "0.1", ABOVE(0),
     .results = true, .help = "of step"},
    {"ema.enabled", OPTION_BOOL, NET(ema.enabled), "true", .results = true,
     .help = "keep an exponential moving average of the weights beside them"},
    {"ema.decay", OPTION_REAL, NET(ema.decay), "0.999", BELOW_ONE, .results = true,
     .help = "its decay; at update t it is at most (1 + t) / (10 + t)"},
};

static const struct option logits_rows[] = {
    {"path", OPTION_PATH, LOGITS(path), "", .results = true,
     .help = "existing logits in place of computing them; views and seed are then theirs"},
    {"views", COUNT, .offset = LOGITS(views), .fallback = "auto", .automatic = true,
     .results = true,
     .help = "augmented views of each picture; auto: the student's epochs, 16 at most"},
    {"dtype", WORDS("f16"), .offset = LOGITS(dtype), .fallback = "f16", .results = true,
     .help = "how they are stored"},
    {"weights", WORDS("raw|ema"), .offset = LOGITS(weights), .fallback = "raw", .results = true,
     .help = "which of the teacher's weights compute them"},
};

static const struct option distill_rows[] = {
    {"distill.kind", WORDS("none|kd"), .offset = NET(distill.kind), .fallback = "kd",
     .results = true,
     .help = "kd: (1 - alpha) CE + alpha T^2 KL(teacher || student), Hinton et al. 2015"},
    {"distill.temperature", OPTION_REAL, NET(distill.temperature), "3", ABOVE(0), .results = true,
     .help = "T"},
    {"distill.alpha", OPTION_REAL, NET(distill.alpha), "0.3", BETWEEN(0, 1), .results = true,
     .help = "weight of the teacher's part"},
    {"distill.reduction", WORDS("batch|elementwise"), .offset = NET(distill.reduction),
     .fallback = "batch", .results = true,
     .help = "KL is divided by the batch, or (a well-known mistake) by batch times classes"},
};

static const struct option run_rows[] = {
    {"stages", OPTION_STAGES, RUN(stages), "[teacher, logits, student]",
     .help = "what is done; baseline trains the student's network without a teacher"},
    {"seed", OPTION_INT, RUN(seed), "1", FROM(0), .results = true,
     .help = "of every random choice"},
    {"precision", WORDS("auto|f32|f64|bf16|tf32|fp16"), .offset = RUN(precision),
     .fallback = "auto", .automatic = true, .results = true,
     .help = "of the arithmetic; auto, settled at the first start: bf16 on GPUs, f32 on "
             "processors; bf16: on a processor that gains nothing by it, f32; tf32, fp16: GPUs "
             "only; f64: device reference only"},
    {"deterministic", OPTION_BOOL, RUN(deterministic), "true", .results = true,
     .help = "the same bits on 1, 2, 4, ... ranks and after a resume"},
    {"loss_scale", OPTION_REAL, RUN(loss_scale), "65536", ABOVE(0), .results = true,
     .help =
         "precision fp16: what the loss is multiplied by at first, a power of two; halved where "
         "a gradient is not finite, whose update is skipped"},
    {"loss_scale_steps", COUNT, .offset = RUN(loss_scale_steps), .fallback = "2000",
     .results = true, .help = "precision fp16: updates in a row after which it doubles"},
    {"microbatches", COUNT, .offset = RUN(microbatches), .fallback = "auto", .automatic = true,
     .results = true, .help = "parts a batch is cut into; auto: the ranks of the first start"},
    {"threads", COUNT, .offset = RUN(threads), .fallback = "auto", .automatic = true,
     .help = "of a rank; auto: the cores divided at the first start, then kept"},
    {"ranks", COUNT, .offset = RUN(ranks), .fallback = "auto", .automatic = true,
     .help = "of the first start, for the record; --ranks chooses"},
    {"checkpoint_every_s", OPTION_REAL, RUN(checkpoint_every_s), "300", ABOVE(0),
     .help = "seconds between checkpoints"},
    {"log_every_s", OPTION_REAL, RUN(log_every_s), "10", ABOVE(0),
     .help = "seconds between lines of metrics"},
    {"watchdog_s", OPTION_REAL, RUN(watchdog_s), "600", ABOVE(0),
     .help = "seconds a collective may take before the run is given up as hung"},
    {"keep_checkpoints", COUNT, .offset = RUN(keep_checkpoints), .fallback = "3",
     .help = "of a stage, the newest"},
};

#define ROWS(rows) (rows), sizeof(rows) / sizeof *(rows)
// The order is the order of printing; a section's rows stand together.
static const struct {
    const char *section;
    size_t offset;
    const struct option *rows;
    size_t count;
} groups[] = {
    {"data", 0, ROWS(data_rows)},
    {"teacher", offsetof(struct recipe, teacher), ROWS(teacher_rows)},
    {"teacher", offsetof(struct recipe, teacher), ROWS(network_rows)},
    {"logits", 0, ROWS(logits_rows)},
    {"student", offsetof(struct recipe, student), ROWS(student_rows)},
    {"student", offsetof(struct recipe, student), ROWS(network_rows)},
    {"student", offsetof(struct recipe, student), ROWS(distill_rows)},
    {"run", 0, ROWS(run_rows)},
};

bool option_at(size_t index, struct option_ref *out)
{
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        if (index < groups[g].count) {
            out->row = &groups[g].rows[index];
            out->offset = groups[g].offset + out->row->offset;
            int used =
                snprintf(out->path, sizeof out->path, "%s.%s", groups[g].section, out->row->path);
            CHECK(used > 0 && (size_t)used < sizeof out->path);
            return true;
        }
        index -= groups[g].count;
    }
    return false;
}

bool option_find(const char *path, struct option_ref *out)
{
    for (size_t i = 0; option_at(i, out); i++)
        if (strcmp(out->path, path) == 0)
            return true;
    return false;
}

bool option_is_section(const char *path, struct option_ref *first)
{
    size_t length = strlen(path);
    for (size_t i = 0; option_at(i, first); i++)
        if (strncmp(first->path, path, length) == 0 && first->path[length] == '.')
            return true;
    return false;
}

// Edits (insert, delete, replace, swap neighbours) that turn one path into the other.
static size_t edit_distance(const char *a, const char *b)
{
    enum { N = OPTION_PATH_CAPACITY + 1 };
    size_t row[3][N]; // of the last letter but one, the last, and this one
    size_t a_length = strlen(a), b_length = strlen(b);
    CHECK(b_length < N);
    for (size_t j = 0; j <= b_length; j++)
        row[1][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = row[1][j - 1] + (a[i - 1] != b[j - 1]);
            if (row[1][j] + 1 < best)
                best = row[1][j] + 1;
            if (row[2][j - 1] + 1 < best)
                best = row[2][j - 1] + 1;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && row[0][j - 2] + 1 < best)
                best = row[0][j - 2] + 1;
            row[2][j] = best;
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][b_length];
}

static const char *last_word(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

// Keeps `candidate` in `out` when it is nearer than what stands there.
static void consider(const char *unknown, const char *candidate, size_t *nearest,
                     char out[OPTION_PATH_CAPACITY])
{
    size_t distance = edit_distance(unknown, candidate);
    if (distance < *nearest) {
        *nearest = distance;
        snprintf(out, OPTION_PATH_CAPACITY, "%s", candidate);
    }
}

// Words that two paths share at their ends: 2 for teacher.distill.kind and student.distill.kind.
static size_t words_shared(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b), words = 0;
    while (a_length > 0 && b_length > 0 && a[a_length - 1] == b[b_length - 1]) {
        a_length--;
        b_length--;
        words += a[a_length] == '.';
    }
    bool a_ends = a_length == 0 || a[a_length - 1] == '.';
    bool b_ends = b_length == 0 || b[b_length - 1] == '.';
    return words + (a_ends && b_ends && a[a_length] != '.');
}

// The right words in the wrong place: teacher.lr, batch. The unknown key's own section comes first.
static bool misplaced(const char *unknown, char out[OPTION_PATH_CAPACITY])
{
    struct option_ref o;
    size_t section = strcspn(unknown, "."), best = 0;
    for (size_t i = 0; option_at(i, &o); i++) {
        size_t shared = 2 * words_shared(unknown, o.path);
        if (shared > 0 && strncmp(o.path, unknown, section) == 0 && o.path[section] == '.')
            shared++;
        if (shared <= best)
            continue;
        best = shared;
        snprintf(out, OPTION_PATH_CAPACITY, "%s", o.path);
    }
    return best > 0;
}

bool option_suggest(const char *unknown, char out[OPTION_PATH_CAPACITY])
{
    struct option_ref o;
    // Two slips, but fewer than the word has letters.
    size_t letters = strlen(last_word(unknown));
    size_t limit = letters > 2 ? 3 : letters, nearest = limit;
    for (size_t i = 0; option_at(i, &o); i++) {
        consider(unknown, o.path, &nearest, out);
        for (char *dot = strrchr(o.path, '.'); dot; dot = strrchr(o.path, '.')) {
            *dot = '\0';
            consider(unknown, o.path, &nearest, out);
        }
    }
    if (nearest < limit)
        return true;
    return misplaced(unknown, out);
}

int option_refuse_unknown(const char *where, const char *path)
{
    char meant[OPTION_PATH_CAPACITY];
    if (option_suggest(path, meant))
        return FAIL(RETORT_USAGE, "%s: unknown key %s; did you mean %s?", where, path, meant);
    return FAIL(RETORT_USAGE, "%s: unknown key %s; \"retort run --print-recipe\" shows every key",
                where, path);
}
