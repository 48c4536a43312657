#include "hdf5_tools/pack.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "hdf5_tools/decode_job.h"
#include "hdf5_tools/image_folder.h"
#include "hdf5_tools/interrupt.h"
#include "hdf5_tools/source.h"

static int default_threads(void)
{
    cpu_set_t cores;
    int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    return count > 0 ? count : 1;
}

// Refuses at once what would be refused after the work: a missing folder, and a destination that is
// something else than a file of ours (the two arguments may have been swapped).
static int check_output(const char *output)
{
    char folder[PATH_CAPACITY], partial[PATH_CAPACITY];
    const char *slash = strrchr(output, '/');
    int rc = partial_path(partial, output);
    if (rc != RETORT_OK)
        return rc;
    if (file_size(output) > 0 && !h5file_is_ours(output))
        return FAIL(RETORT_WRITE, "%s exists and is not a file of retort's; remove it first",
                    output);
    if (!slash)
        strcpy(folder, ".");
    else if (slash == output)
        strcpy(folder, "/");
    else {
        memcpy(folder, output, (size_t)(slash - output));
        folder[slash - output] = '\0';
    }
    if (access(folder, W_OK | X_OK) != 0)
        return FAIL(RETORT_WRITE, "cannot write into %s: %s", folder, strerror(errno));
    return RETORT_OK;
}

// Moves blocks from the decoding threads to the file.
static int write_blocks(struct dataset_writer *writer, struct decode_job *job, int64_t total)
{
    struct progress progress;
    progress_init(&progress, "packing", total);
    int rc;
    int64_t done = 0;
    for (;;) {
        struct decode_block *block;
        TRY(decode_job_take(job, &block));
        if (!block)
            break;
        TRY(dataset_writer_put(writer, block->split, block->first, block->count, block->pixels,
                               block->labels));
        done += block->count;
        decode_job_return(job, block);
        progress_update(&progress, done, NULL);
        TRY_ELSE(!interrupt_waits(), RETORT_STOPPED, "interrupted: nothing is left behind");
    }
fail:
    progress_end(&progress);
    return rc;
}

// The source's name without its folders, so that the same content makes the same file anywhere.
static const char *source_name(const char *location)
{
    const char *slash = strrchr(location, '/');
    return slash && slash[1] ? slash + 1 : location;
}

static int write_file(const struct pack_options *o, const struct decode_settings *settings)
{
    const struct image_folder *f = settings->folder;
    struct dataset_header header = {
        .count = {f->count[SPLIT_TRAIN], f->count[SPLIT_VAL]},
        .height = settings->height,
        .width = settings->width,
        .class_count = f->class_count,
        .class_ids = (const char *const *)f->class_ids,
        .class_names = (const char *const *)f->class_names,
        .source = source_name(o->source),
        .seed = o->seed,
    };
    struct dataset_writer *writer = NULL;
    struct decode_job *job = NULL;
    sigset_t before;
    int rc;
    interrupt_hold(&before);
    TRY(dataset_writer_create(&writer, o->output, &header));
    TRY(decode_job_start(&job, settings));
    TRY(write_blocks(writer, job, f->count[SPLIT_TRAIN] + f->count[SPLIT_VAL]));
    TRY(dataset_writer_commit(&writer));
fail:
    decode_job_finish(&job);
    dataset_writer_discard(&writer);
    interrupt_release(&before);
    return rc;
}

static void print_summary(const struct pack_options *o, const struct pack_summary *s)
{
    char size[32], time[32];
    format_bytes((double)file_size(o->output), size, sizeof size);
    format_duration(s->seconds, time, sizeof time);
    double pictures = (double)(s->train_count + s->val_count);
    log_info(
        "%s: %lld train and %lld val pictures of %d classes, %d x %d, %s; packed in %s (%.0f "
        "pictures/s)",
        o->output, (long long)s->train_count, (long long)s->val_count, s->class_count, s->width,
        s->height, size, time, pictures / (s->seconds > 0 ? s->seconds : 1));
    if (s->skipped_count > 0)
        log_warn("%lld pictures could not be decoded and were left out",
                 (long long)s->skipped_count);
}

int pack(const struct pack_options *o, struct pack_summary *out)
{
    double start = clock_seconds();
    struct source source = {0};
    struct image_folder folder = {0};
    struct pack_summary summary = {0};
    struct decode_settings settings = {.source = &source,
                                       .folder = &folder,
                                       .size = o->size,
                                       .height = o->size,
                                       .width = o->size,
                                       .seed = o->seed,
                                       .threads = o->threads > 0 ? o->threads : default_threads()};
    int rc;
    TRY(check_output(o->output));
    TRY(source_read(&source, o->source, image_folder_wants, memory_bytes() / 2));
    TRY(image_folder_read(&folder, &source));
    for (enum dataset_split s = SPLIT_TRAIN; o->skip_bad && s < SPLIT_COUNT; s++)
        TRY(decode_drop_bad(&source, &folder, s, settings.threads, &summary.skipped_count));
    TRY(image_folder_check_classes(&folder, &source));
    if (o->size == 0)
        TRY(decode_first_size(&source, &folder, SPLIT_TRAIN, &settings.height, &settings.width));
    TRY(write_file(o, &settings));
    summary.train_count = folder.count[SPLIT_TRAIN];
    summary.val_count = folder.count[SPLIT_VAL];
    summary.class_count = folder.class_count;
    summary.height = settings.height;
    summary.width = settings.width;
    summary.seconds = clock_seconds() - start;
    print_summary(o, &summary);
    if (out)
        *out = summary;
fail:
    image_folder_free(&folder);
    source_free(&source);
    return rc;
}
