#include "hdf5_tools/synth.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "hdf5_tools/draw.h"
#include "hdf5_tools/interrupt.h"

enum { JPEG_QUALITY = 92, WORK_FOLDER_BYTES = PATH_CAPACITY - 256 };

// What is being written, into `folder` beside its destination.
struct synth_job {
    const struct synth_options *options;
    char folder[WORK_FOLDER_BYTES];
    uint8_t *pixels; // [size, size, 3]
    struct progress progress;
    int64_t done;
};

// Few shapes with few textures: neither alone says the class.
static int shape_count(const struct synth_options *o)
{
    int half = (o->classes + 1) / 2;
    return half < DRAW_SHAPES ? half : DRAW_SHAPES;
}

static int class_shape(const struct synth_options *o, int class)
{
    return class % shape_count(o);
}

static int class_texture(const struct synth_options *o, int class)
{
    return class / shape_count(o);
}

// Writes bytes to the file that the format names within the job's folder.
__attribute__((format(printf, 4, 5))) static int
write_file(const struct synth_job *job, const void *data, size_t bytes, const char *format, ...)
{
    char name[128], path[PATH_CAPACITY];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    snprintf(path, sizeof path, "%s/%s", job->folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int why = fd < 0 ? errno : write_all(fd, data, bytes);
    if (fd >= 0 && close(fd) != 0 && why == 0)
        why = errno;
    return why == 0 ? RETORT_OK
                    : FAIL(RETORT_WRITE, "cannot write %s/%s: %s", job->options->folder, name,
                           strerror(why));
}

static int make_folder(const struct synth_job *job, const char *name)
{
    char path[PATH_CAPACITY];
    snprintf(path, sizeof path, "%s/%s", job->folder, name);
    return folder_create(path);
}

// Encodes the job's pixels; *out is the caller's to free(). Writing to memory, the library can fail
// only by running out of it, and then ends the process with a message.
static void encode_jpeg(const struct synth_job *job, unsigned char **out, unsigned long *out_bytes)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    const int size = job->options->size;
    *out = NULL;
    *out_bytes = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, out, out_bytes);
    info.image_width = info.image_height = (JDIMENSION)size;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, JPEG_QUALITY, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = job->pixels + (size_t)info.next_scanline * (size_t)size * 3;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
}

// Draws picture `number` of a split (0 train, 1 val) and writes it.
static int write_picture(struct synth_job *job, int class, uint32_t split, int64_t number, int k)
{
    const struct synth_options *o = job->options;
    struct drawing d = {.shape = class_shape(o, class),
                        .texture = class_texture(o, class),
                        .size = o->size,
                        .seed = o->seed,
                        .split = split,
                        .number = (uint64_t)number};
    draw_picture(&d, job->pixels);
    unsigned char *jpeg;
    unsigned long bytes;
    encode_jpeg(job, &jpeg, &bytes);
    int rc = split == 0
                 ? write_file(job, jpeg, bytes, "train/s%03d/images/s%03d_%d.JPEG", class, class, k)
                 : write_file(job, jpeg, bytes, "val/images/val_%lld.JPEG", (long long)number);
    free(jpeg);
    progress_update(&job->progress, ++job->done, NULL);
    if (rc == RETORT_OK && interrupt_waits())
        rc = FAIL(RETORT_STOPPED, "interrupted: nothing is left behind");
    return rc;
}

static int write_train(struct synth_job *job)
{
    const struct synth_options *o = job->options;
    int rc = RETORT_OK;
    for (int c = 0; rc == RETORT_OK && c < o->classes; c++) {
        char name[64];
        snprintf(name, sizeof name, "train/s%03d/images", c);
        rc = make_folder(job, name);
        for (int k = 0; rc == RETORT_OK && k < o->per_class; k++)
            rc = write_picture(job, c, 0, (int64_t)c * o->per_class + k, k);
    }
    return rc;
}

static int write_val(struct synth_job *job)
{
    const struct synth_options *o = job->options;
    int64_t count = (int64_t)o->classes * o->val_per_class;
    char *text = NULL;
    size_t bytes = 0;
    FILE *annotations = open_memstream(&text, &bytes);
    if (!annotations)
        return FAIL(RETORT_MEMORY, "out of memory");
    int rc = make_folder(job, "val/images");
    for (int64_t i = 0; rc == RETORT_OK && i < count; i++) {
        int class = (int)(i % o->classes);
        // TinyImageNet has the object's box in columns 3 to 6; ours is the whole picture.
        fprintf(annotations, "val_%lld.JPEG\ts%03d\t0\t0\t%d\t%d\n", (long long)i, class,
                o->size - 1, o->size - 1);
        rc = write_picture(job, class, 1, i, 0);
    }
    fclose(annotations);
    if (rc == RETORT_OK)
        rc = write_file(job, text, bytes, "val/val_annotations.txt");
    free(text);
    return rc;
}

static int write_lists(struct synth_job *job)
{
    const struct synth_options *o = job->options;
    char ids[SYNTH_CLASS_LIMIT * 8], words[SYNTH_CLASS_LIMIT * 48];
    size_t id_bytes = 0, word_bytes = 0;
    for (int c = 0; c < o->classes; c++) {
        id_bytes += (size_t)snprintf(ids + id_bytes, sizeof ids - id_bytes, "s%03d\n", c);
        word_bytes += (size_t)snprintf(words + word_bytes, sizeof words - word_bytes,
                                       "s%03d\t%s %s\n", c, draw_texture_name(class_texture(o, c)),
                                       draw_shape_name(class_shape(o, c)));
    }
    int rc = write_file(job, ids, id_bytes, "wnids.txt");
    return rc == RETORT_OK ? write_file(job, words, word_bytes, "words.txt") : rc;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int check_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder && errno == ENOENT)
        return RETORT_OK;
    if (!folder)
        return FAIL(RETORT_WRITE, "cannot write into %s: %s", path, strerror(errno));
    bool empty = true;
    for (struct dirent *d; (d = readdir(folder)) != NULL;)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
            empty = false;
    closedir(folder);
    return empty ? RETORT_OK : FAIL(RETORT_WRITE, "%s is not empty; name a new folder", path);
}

// Writes everything into the job's folder and renames that.
static int write_set(struct synth_job *job)
{
    const struct synth_options *o = job->options;
    int rc;
    TRY(folder_create(job->folder));
    TRY(write_train(job));
    TRY(write_val(job));
    TRY(write_lists(job));
    TRY_ELSE(rename(job->folder, o->folder) == 0, RETORT_WRITE, "cannot write %s: %s", o->folder,
             strerror(errno));
    return RETORT_OK;
fail:
    nftw(job->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return rc;
}

int synth(const struct synth_options *o)
{
    double start = clock_seconds();
    int rc = check_empty(o->folder);
    if (rc != RETORT_OK)
        return rc;
    struct synth_job job = {.options = o};
    size_t length = strlen(o->folder);
    while (length > 1 && o->folder[length - 1] == '/')
        length--;
    if (length > sizeof job.folder - 32)
        return FAIL(RETORT_USAGE, "synth: the folder's name is too long");
    snprintf(job.folder, sizeof job.folder, "%.*s.%ld.partial", (int)length, o->folder,
             (long)getpid());
    job.pixels = malloc((size_t)o->size * (size_t)o->size * 3);
    if (!job.pixels)
        return FAIL(RETORT_MEMORY, "out of memory");
    int64_t train = (int64_t)o->classes * o->per_class;
    int64_t val = (int64_t)o->classes * o->val_per_class;
    sigset_t before;
    interrupt_hold(&before);
    progress_init(&job.progress, "drawing", train + val);
    rc = write_set(&job);
    progress_end(&job.progress);
    interrupt_release(&before);
    free(job.pixels);
    char time[32];
    format_duration(clock_seconds() - start, time, sizeof time);
    if (rc == RETORT_OK)
        log_info("%s: %lld train and %lld val pictures of %d classes, %d x %d, in %s", o->folder,
                 (long long)train, (long long)val, o->classes, o->size, o->size, time);
    return rc;
}
