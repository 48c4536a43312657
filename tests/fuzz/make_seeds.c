// Writes the seeds of the fuzz targets: `fuzz_make_seeds FOLDER` makes FOLDER/<target>/<name>. All
// of it is drawn or written here; run by hand when a format changes (docs/fuzzing.md).

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <spng.h>

#include "base/error.h"
#include "base/recipe.h"
#include "data/checkpoint.h"
#include "hdf5_tools/draw.h"
#include "hdf5_tools/pack.h"
#include "tests/data/scratch.h"
#include "tests/fuzz/h5script.h"
#include "tests/hdf5_tools/trees.h"

enum { SIDE = 12, PIXELS = SIDE * SIDE };

static const char *folder; // of all seeds

static void put(const char *target, const char *name, const void *bytes, size_t count)
{
    char inner[PATH_CAPACITY];
    (void)snprintf(inner, sizeof inner, "%s/%s", target, name);
    tree_put(folder, inner, bytes, count);
}

static void put_text(const char *target, const char *name, const char *text)
{
    put(target, name, text, strlen(text));
}

static void make_recipes(void)
{
    struct recipe r;
    char *text;
    recipe_defaults(&r);
    CHECK(recipe_to_text(&r, &text) == RETORT_OK);
    put_text("recipe", "defaults.yaml", text);
    free(text);
    put_text("recipe", "set", "teacher.optimizer.lr=0.1");
    put_text("recipe", "set-stages", "run.stages=[teacher, logits,student]");
    put_text("recipe", "flow.yaml",
             "data: {path: \"a b.h5\", augment: none, shuffle: shard}\n"
             "student: {arch: conv4, batch: 7, distill: {kind: kd, temperature: 3, alpha: 3e-1}}\n"
             "logits: {views: auto}\nrun: {stages: [baseline], seed: 2}\n");
    put_text("recipe", "errors.yaml", "teacher:\n  epoch: 3\n  lr: .inf\n? [a]\n: b\n--- |\n x\n");
    put_text("recipe", "billion-laughs.yaml",
             "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
             "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n"
             "e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\n"
             "run: {stages: [*f, *f, *f, *f, *f, *f, *f, *f, *f]}\n");
}

// The picture target's first byte is the side to resize to.
static void put_picture(const char *name, int side, const uint8_t *bytes, size_t count)
{
    uint8_t *seed = malloc(count + 1);
    CHECK(seed);
    seed[0] = (uint8_t)side;
    memcpy(seed + 1, bytes, count);
    put("picture", name, seed, count + 1);
    free(seed);
}

static void make_jpegs(const uint8_t *rgb)
{
    static const char *const names[] = {"rgb.jpg", "grey.jpg", "cmyk.jpg", "ycck.jpg", "plain.jpg"};
    static const int channels[] = {3, 1, 4, 4, 4};
    uint8_t pixels[4 * PIXELS];
    for (int kind = 0; kind < 5; kind++) {
        for (int i = 0; i < PIXELS * channels[kind]; i++)
            pixels[i] = rgb[i % (3 * PIXELS)];
        struct encoded e = encode_jpeg((enum jpeg_kind)kind, pixels, SIDE, SIDE);
        put_picture(names[kind], kind, e.bytes, e.count);
        if (kind == JPEG_RGB) { // the same, as 60000 x 60000
            for (size_t i = 0; i + 9 < e.count; i++)
                if (e.bytes[i] == 0xff && e.bytes[i + 1] == 0xc0)
                    memcpy(e.bytes + i + 5, "\xea\x60\xea\x60", 4);
            put_picture("60000x60000.jpg", 64, e.bytes, e.count);
        }
        free(e.bytes);
    }
}

static void put_png(const char *name, int type, int depth, const void *pixels, size_t bytes,
                    const uint8_t (*palette)[3])
{
    struct encoded e = encode_png(type, depth, pixels, bytes, SIDE, SIDE, palette);
    put_picture(name, 8, e.bytes, e.count);
    free(e.bytes);
}

// The header of a PNG of this size, and an end; checksums as they should be.
static void put_png_header(const char *name, uint32_t width, uint32_t height, uint32_t header_crc)
{
    uint8_t png[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDRwwwwhhhh\x08\x02\0\0\0cccc"
        "\0\0\0\0IEND\xae\x42\x60\x82";
    for (int i = 0; i < 4; i++) {
        png[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        png[20 + i] = (uint8_t)(height >> (24 - 8 * i));
        png[29 + i] = (uint8_t)(header_crc >> (24 - 8 * i));
    }
    put_picture(name, 64, png, sizeof png - 1);
}

static void make_pngs(const uint8_t *rgb)
{
    uint8_t palette[256][3], wide[8 * PIXELS];
    for (int i = 0; i < 256; i++)
        memset(palette[i], i, 3);
    for (size_t i = 0; i < sizeof wide; i++)
        wide[i] = rgb[i % (3 * PIXELS)];
    put_png("rgb.png", SPNG_COLOR_TYPE_TRUECOLOR, 8, rgb, 3 * PIXELS, NULL);
    put_png("rgba16.png", SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 16, wide, 8 * PIXELS, NULL);
    put_png("grey1.png", SPNG_COLOR_TYPE_GRAYSCALE, 1, wide, SIDE * ((SIDE + 7) / 8), NULL);
    put_png("palette.png", SPNG_COLOR_TYPE_INDEXED, 8, wide, PIXELS, (const uint8_t(*)[3])palette);
    put_png_header("60000x60000.png", 60000, 60000, 0x0fb0e215);
    put_png_header("1x67108864.png", 1, 1 << 26, 0x06c7d177);
}

static void make_pictures(void)
{
    uint8_t rgb[3 * PIXELS];
    draw_picture(&(struct drawing){.shape = 3, .texture = 2, .size = SIDE, .seed = 1}, rgb);
    make_jpegs(rgb);
    make_pngs(rgb);
    put_picture("neither", 8, (const uint8_t *)"GIF89a", 6);
}

// A picture of TinyImageNet's layout at "<root>/<name>".
static void put_drawing(const char *root, const char *name, int class)
{
    uint8_t rgb[3 * PIXELS];
    draw_picture(&(struct drawing){.shape = class, .size = SIDE, .seed = 1}, rgb);
    struct encoded e = encode_jpeg(JPEG_RGB, rgb, SIDE, SIDE);
    tree_put(root, name, e.bytes, e.count);
    free(e.bytes);
}

static void put_file(const char *target, const char *name, const char *path)
{
    size_t bytes;
    uint8_t *content = scratch_load(path, &bytes);
    put(target, name, content, bytes);
    free(content);
}

// The header of a tar's file that claims ten gigabytes, and nothing of them.
static void put_large_member(void)
{
    char header[1024] = "train/a/0.jpg";
    unsigned sum = 0;
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 124, "112402762000", 12); // octal
    memcpy(header + 148, "        ", 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    (void)snprintf(header + 148, 8, "%06o", sum);
    put("archive", "ten-gigabytes.tar", header, sizeof header);
}

static void make_archives(const struct scratch *s)
{
    static const char words[] = "n01\tgoldfish, \xc3\xa9\nn02\tant\n";
    static const char labels[] = "val_0.JPEG\tn01\t0\t0\t9\t9\nval_1.JPEG\tn02\t0\t0\t9\t9\n";
    const char *plain = scratch_path(s, "plain"), *tiny = scratch_path(s, "tiny");
    const char *archive = scratch_path(s, "archive");
    tree_make(plain, 1);
    put_drawing(tiny, "train/n01/images/n01_0.JPEG", 0);
    put_drawing(tiny, "train/n02/images/n02_0.JPEG", 1);
    put_drawing(tiny, "val/images/val_0.JPEG", 0);
    put_drawing(tiny, "val/images/val_1.JPEG", 1);
    tree_put(tiny, "words.txt", words, sizeof words - 1);
    tree_put(tiny, "val/val_annotations.txt", labels, sizeof labels - 1);
    tree_archive(plain, archive, ARCHIVE_TAR, "./");
    put_file("archive", "plain.tar", archive);
    tree_archive(plain, archive, ARCHIVE_TAR_GZ, "");
    put_file("archive", "plain.tar.gz", archive);
    tree_archive(plain, archive, ARCHIVE_ZIP, "");
    put_file("archive", "plain.zip", archive);
    tree_archive(tiny, archive, ARCHIVE_TAR_GZ, "tiny-imagenet-200/");
    put_file("archive", "tiny.tar.gz", archive);
    tree_archive(tiny, archive, ARCHIVE_ZIP, "tiny-imagenet-200/");
    put_file("archive", "tiny.zip", archive);
    put_large_member();
}

static void make_folders(void)
{
    put_text("folder", "plain",
             "train/a/0.png=\n--\ntrain/b/1.JPEG=x\n--\nval/a/2.jpg=y\n--\n"
             "train/\n--\ntrain/a/\n--\nval/b/3.png=z");
    put_text("folder", "tiny",
             "t/words.txt=n1\tgoldfish\r\nn2\tant\n\n--\nt/train/n1/images/n1_0.JPEG=\n--\n"
             "t/train/n2/images/n2_0.JPEG=\n--\nt/train/n1/n1_boxes.txt=\n--\n"
             "t/val/val_annotations.txt=v0.JPEG\tn1\t0\t0\nv1.JPEG\tn2\n\n--\n"
             "t/val/images/v0.JPEG=\n--\nt/val/images/v1.JPEG=\n--\nt/test/images/u.JPEG=");
    put_text("folder", "two-roots", "a/train/x/0.png=\n--\nb/val/x/0.png=\n--\na/val/x/1.png=");
    put_text("folder", "names",
             "train/a-b/0.png=\n--\ntrain/a/0.png=\n--\ntrain/a.b/0.png=\n--\n"
             "./val//a/0.png=\n--\nval/a-b/.hidden.png=\n--\n__MACOSX/x.png=");
}

// Scripts of tests/fuzz/h5script.h. A number is (shift, byte).
struct script_seed {
    const char *target, *name;
    uint8_t count, bytes[24];
};

enum { NEWEST = 1, OTHER = 4 };
// Members by their positions in the targets' tables.
enum { TRAIN_IMAGES, TRAIN_LABELS, VAL_IMAGES = 3, CLASS_IDS = 6, FINGERPRINT = 10 };
enum { LOGITS, VIEWS = 2, LOGITS_BLOCK = 10 };
enum { WEIGHTS, EMA, STATE = 4, CHECKPOINT_BLOCK = 11 };

static const struct script_seed SCRIPTS[] = {
    {"dataset", "plain", 1, {0}},
    {"dataset", "described", 1, {OTHER}},
    {"dataset", "newest", 1, {NEWEST}},
    {"dataset", "2-to-the-40-pictures", 6, {0, TRAIN_IMAGES, EDIT_DIMENSION, 0, 40, 1}},
    {"dataset", "wide", 11, {0, 0, EDIT_DIMENSION, 1, 16, 1, 0, EDIT_DIMENSION, 2, 16, 1}},
    {"dataset", "no-pictures", 6, {0, VAL_IMAGES, EDIT_DIMENSION, 0, 0, 0}},
    {"dataset",
     "two-blocks",
     11,
     {0, TRAIN_IMAGES, EDIT_DIMENSION, 0, 1, 100, TRAIN_LABELS, EDIT_DIMENSION, 0, 1, 100}},
    {"dataset", "label", 10, {0, TRAIN_LABELS, EDIT_VALUES, 0, 0, 4, 9, 0, 0, 0}},
    {"dataset", "digits", 4, {0, FINGERPRINT, EDIT_CUT, 0}},
    {"dataset", "elsewhere", 4, {0, TRAIN_IMAGES, EDIT_LAYOUT, LAYOUT_EXTERNAL}},
    {"dataset", "link-to-a-file", 5, {0, VAL_IMAGES, EDIT_LINK, LINK_EXTERNAL, 0}},
    {"dataset", "groups-in-themselves", 5, {OTHER, CLASS_IDS, EDIT_LINK, LINK_CYCLE, 0}},
    {"dataset", "wide-ids", 4, {0, CLASS_IDS, EDIT_TYPE, SCRIPT_WIDE}},
    {"logits", "plain", 1, {0}},
    {"logits", "quiet", 4, {OTHER, VIEWS, EDIT_TYPE, SCRIPT_F64}},
    {"logits", "2-to-the-40-samples", 6, {0, LOGITS, EDIT_DIMENSION, 1, 40, 1}},
    {"logits",
     "no-views",
     16,
     {0, LOGITS, EDIT_DIMENSION, 0, 0, 0, 1, EDIT_DIMENSION, 0, 0, 0, VIEWS, EDIT_VALUES, 0, 0, 1}},
    {"logits",
     "attribute-of-16384",
     9,
     {NEWEST, VIEWS, EDIT_RANK, 1, VIEWS, EDIT_DIMENSION, 0, 14, 1}},
    {"logits", "version", 5, {0, LOGITS_BLOCK, 0, 0, 1}},
    {"logits", "region", 5, {0, LOGITS_BLOCK, 3, 3, 64}},
    {"checkpoint", "plain", 1, {0}},
    {"checkpoint", "quiet", 5, {OTHER, WEIGHTS, EDIT_LINK, LINK_GROUP, 0}},
    {"checkpoint", "other-ema", 4, {0, EMA, EDIT_TYPE, SCRIPT_F64}},
    {"checkpoint", "f64", 9, {0, WEIGHTS, EDIT_TYPE, SCRIPT_F64, EMA, EDIT_LINK, LINK_MISSING, 0}},
    {"checkpoint", "state", 7, {0, STATE, EDIT_VALUES, 0, 0, 1, '['}},
    {"checkpoint", "2-to-the-50-weights", 6, {0, WEIGHTS, EDIT_DIMENSION, 0, 50, 1}},
    {"checkpoint", "kind", 4, {0, CHECKPOINT_BLOCK, 5, 1}},
};

static void make_scripts(void)
{
    for (size_t i = 0; i < sizeof SCRIPTS / sizeof SCRIPTS[0]; i++)
        put(SCRIPTS[i].target, SCRIPTS[i].name, SCRIPTS[i].bytes, SCRIPTS[i].count);
}

// Whole files, as small as they come.
static void make_files(const struct scratch *s)
{
    const char *path = scratch_path(s, "out.h5");
    const struct pack_options o = {
        .source = scratch_path(s, "plain"), .output = path, .threads = 1};
    CHECK(pack(&o, NULL) == RETORT_OK);
    put_file("userblock", "dataset.h5", path);
    struct checkpoint c = {.real = REAL_F32, .total = 2, .trainable = 1};
    float weights[2] = {1.0F, -1.0F};
    char empty[] = "";
    c.weights = weights;
    c.state = json_object();
    c.layout = c.recipe = c.dataset = c.classes = empty;
    CHECK(checkpoint_write(scratch_path(s, "stage"), 1, &c, 1) == RETORT_OK);
    json_decref(c.state);
    put_file("userblock", "checkpoint.h5", scratch_path(s, "stage/ckpt-000000001.h5"));
    put("userblock", "hdf5", "\x89HDF\r\n\x1a\n", 8);
    put("userblock", "magic", "RETORT\r\n", 8);
}

static void put_tensors(const char *name, const char *header, size_t data_bytes)
{
    uint8_t file[512] = {0};
    size_t length = strlen(header);
    CHECK(8 + length + data_bytes <= sizeof file && length < 256);
    file[0] = (uint8_t)length;
    memcpy(file + 8, header, length);
    put("safetensors", name, file, 8 + length + data_bytes);
}

static void make_tensors(void)
{
    put_tensors("plain",
                "{\"__metadata__\":{\"format\":\"pt\"},\"conv1.weight\":{\"dtype\":\"F32\","
                "\"shape\":[2,3],\"data_offsets\":[0,24]},\"conv1.bias\":{\"dtype\":\"BF16\","
                "\"shape\":[],\"data_offsets\":[24,26]}}  ",
                26);
    put_tensors("empty", "{}", 0);
    put_tensors("overlap",
                "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                "\"b\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
                6);
    put_tensors("overflow",
                "{\"a\":{\"dtype\":\"F64\",\"shape\":[4294967296,4294967296],"
                "\"data_offsets\":[0,0]},\"b\":{\"dtype\":\"I64\",\"shape\":[0,9],"
                "\"data_offsets\":[0,0]}}",
                0);
    put("safetensors", "length", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
}

int main(int argc, char **argv)
{
    void *state = NULL;
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fuzz_make_seeds FOLDER\n");
        return EXIT_FAILURE;
    }
    folder = argv[1];
    CHECK(scratch_setup(&state) == 0);
    make_recipes();
    make_pictures();
    make_archives(state);
    make_folders();
    make_scripts();
    make_files(state);
    make_tensors();
    return scratch_teardown(&state) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
