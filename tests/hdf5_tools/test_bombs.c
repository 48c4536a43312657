// Small files that ask for a lot: pictures, archives and recipes are refused before memory or time
// is spent on what they claim. Where no sanitizer runs, the process may have 1 GB of addresses.

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jpeglib.h>
#include <spng.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/log.h"
#include "base/recipe.h"
#include "data/picture.h"
#include "hdf5_tools/image_folder.h"
#include "hdf5_tools/pack.h"
#include "tests/data/scratch.h"
#include "tests/hdf5_tools/trees.h"

static const double FEW_S = 20; // seconds that a bomb may take, with sanitizers and a busy machine

static void expect_refused(const uint8_t *bytes, size_t count, const char *cause)
{
    struct picture p;
    char why[PICTURE_WHY] = "";
    assert_int_equal(picture_decode(bytes, count, 64, &p, why), RETORT_INPUT);
    if (!strstr(why, cause))
        fail_msg("\"%s\" is not in \"%s\"", cause, why);
}

static void a_large_jpeg(void **state)
{
    (void)state;
    uint8_t pixels[8 * 8 * 3] = {0};
    struct encoded e = encode_jpeg(JPEG_RGB, pixels, 8, 8);
    for (size_t i = 0; i + 9 < e.count; i++)
        if (e.bytes[i] == 0xff && e.bytes[i + 1] == 0xc0) // height and width of the frame
            memcpy(e.bytes + i + 5, "\xea\x60\xea\x60", 4);
    expect_refused(e.bytes, e.count, "60000 x 60000 pixels");
    free(e.bytes);
}

// A whole picture of 127 scans: each coefficient one of its own, and then its last bit.
static struct encoded encode_scans(void)
{
    enum { SCANS = 1 + 2 * 63 };
    static jpeg_scan_info scans[SCANS];
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    struct encoded out = {0};
    unsigned long bytes = 0;
    JSAMPLE row[16] = {0, 200, 3, 90};
    JSAMPROW rows[1] = {row};
    scans[0] = (jpeg_scan_info){.comps_in_scan = 1};
    for (int i = 1; i < SCANS; i++) {
        int k = 1 + (i - 1) % 63;
        scans[i] = (jpeg_scan_info){
            .comps_in_scan = 1, .Ss = k, .Se = k, .Ah = i > 63 ? 1 : 0, .Al = i > 63 ? 0 : 1};
    }
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &out.bytes, &bytes);
    info.image_width = info.image_height = 16;
    info.input_components = 1;
    info.in_color_space = JCS_GRAYSCALE;
    jpeg_set_defaults(&info);
    info.scan_info = scans;
    info.num_scans = SCANS;
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height)
        jpeg_write_scanlines(&info, rows, 1);
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    out.count = bytes;
    return out;
}

static void a_jpeg_of_many_scans(void **state)
{
    (void)state;
    struct encoded e = encode_scans();
    expect_refused(e.bytes, e.count, "more than 100 scans");
    free(e.bytes);
}

// A PNG's header and end; without a checksum the size is looked at all the same.
static void a_large_png(void **state)
{
    (void)state;
    uint8_t square[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0"
        "\x0f\xb0\xe2\x15\0\0\0\0IEND\xae\x42\x60\x82";
    uint8_t narrow[] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\x04\0\0\0\x08\x02\0\0\0"
        "\x06\xc7\xd1\x77\0\0\0\0IEND\xae\x42\x60\x82";
    expect_refused(square, sizeof square - 1, "60000 x 60000 pixels");
    expect_refused(narrow, sizeof narrow - 1, "1 x 67108864 pixels");
}

// 20 MB of text in 20 kB.
static void a_png_of_much_text(void **state)
{
    (void)state;
    const size_t length = (size_t)20 << 20;
    char *text = malloc(length + 1);
    uint8_t pixels[8 * 8 * 3] = {0};
    assert_non_null(text);
    memset(text, 'x', length);
    text[length] = '\0';
    struct spng_text chunk = {.type = SPNG_ZTXT, .length = length, .text = text, .keyword = "x"};
    struct spng_ihdr header = {.width = 8, .height = 8, .bit_depth = 8, .color_type = 2};
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    assert_int_equal(spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1), 0);
    assert_int_equal(spng_set_ihdr(context, &header), 0);
    assert_int_equal(spng_set_text(context, &chunk, 1), 0);
    assert_int_equal(
        spng_encode_image(context, pixels, sizeof pixels, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    int status;
    size_t count;
    uint8_t *png = spng_get_png_buffer(context, &count, &status);
    assert_int_equal(status, 0);
    assert_true(count < 100000);
    expect_refused(png, count, "chunk");
    free(png);
    free(text);
    spng_ctx_free(context);
}

// A long narrow picture is resized from its middle, not by way of all its rows.
static void a_narrow_picture(void **state)
{
    (void)state;
    enum { HEIGHT = 65535, SIZE = 2048 }; // all its rows would take 1.6 GB
    struct picture p = {.pixels = calloc(HEIGHT, 3), .height = HEIGHT, .width = 1};
    uint8_t *out = malloc((size_t)SIZE * SIZE * 3);
    char why[PICTURE_WHY];
    assert_true(p.pixels && out);
    p.pixels[(size_t)3 * (HEIGHT / 2)] = 255; // the middle
    assert_int_equal(picture_resize(&p, SIZE, out, why), RETORT_OK);
    assert_int_equal(out[(size_t)SIZE * SIZE / 2 * 3], 255);
    assert_int_equal(out[0], 128); // half way to the pixel above
    free(out);
    picture_free(&p);
}

static void refuse_archive(struct scratch *s, const char *name, size_t limit, const char *said)
{
    struct source source;
    int rc = source_read(&source, scratch_path(s, name), image_folder_wants, limit);
    assert_int_equal(rc, RETORT_INPUT);
    assert_true(SAID(s, name, said));
}

static void archives(void **state)
{
    struct scratch *s = *state;
    static const size_t LIMIT = (size_t)16 << 20, CONTENT = (size_t)24 << 20;
    char header[1024] = "train/a/0.jpg"; // a file of 10 GB, of which there is nothing
    memcpy(header + 124, "112402762000", 12);
    memcpy(header + 148, "        ", 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    (void)snprintf(header + 148, 8, "%06o", sum);
    scratch_store(scratch_path(s, "claim.tar"), header, sizeof header);
    refuse_archive(s, "claim.tar", SIZE_MAX, "train/a/0.jpg is larger than 268435456 bytes");

    void *zeros = calloc(CONTENT, 1);
    assert_non_null(zeros);
    tree_put(scratch_path(s, "tree"), "train/a/0.jpg", zeros, CONTENT);
    free(zeros);
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "zeros.tgz"), ARCHIVE_TAR_GZ, "");
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "zeros.zip"), ARCHIVE_ZIP, "");
    assert_true(file_size(scratch_path(s, "zeros.zip")) < 100000);
    refuse_archive(s, "zeros.tgz", LIMIT, "holds more than the 16.8 MB that fit into memory");
    refuse_archive(s, "zeros.zip", LIMIT, "holds more than the 16.8 MB that fit into memory");
}

// Members without content have names all the same.
static void an_archive_of_names(void **state)
{
    struct scratch *s = *state;
    char name[256];
    for (int i = 0; i < 64; i++) {
        (void)snprintf(name, sizeof name, "train/%0200d/%03d.jpg", i, i);
        tree_put(scratch_path(s, "tree"), name, "", 0);
    }
    tree_archive(scratch_path(s, "tree"), scratch_path(s, "names.tar"), ARCHIVE_TAR, "");
    refuse_archive(s, "names.tar", 16384, "holds more than the 16.4 kB");
}

static void pictures_too_large_to_pack(void **state)
{
    struct scratch *s = *state;
    const struct pack_options o = {
        .source = scratch_path(s, "tree"), .output = scratch_path(s, "out.h5"), .threads = 1024};
    tree_put_colour(scratch_path(s, "tree"), "train/a/0.png", 0, 0, 0, 2048, 2048);
    tree_put_colour(scratch_path(s, "tree"), "val/a/0.png", 0, 0, 1, 2048, 2048);
    assert_int_equal(pack(&o, NULL), RETORT_MEMORY);
    assert_true(SAID(s, "pictures of 2048 x 2048 pixels need 1.65 TB", "smaller --size"));
    assert_false(file_exists(scratch_path(s, "out.h5")));
}

static void refuse_recipe(struct scratch *s, const char *text, const char *said)
{
    static struct recipe r;
    double start = clock_seconds();
    scratch_store(scratch_path(s, "r.yaml"), text, strlen(text));
    assert_int_equal(recipe_load(&r, scratch_path(s, "r.yaml")), RETORT_USAGE);
    assert_true(SAID(s, "r.yaml", said));
    assert_true(clock_seconds() - start < FEW_S);
}

static char *repeated(const char *what, size_t bytes)
{
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    for (size_t i = 0; i < bytes; i++)
        text[i] = what[i % strlen(what)];
    text[bytes] = '\0';
    return text;
}

static void recipes(void **state)
{
    struct scratch *s = *state;
    static const char *const nested[] = {"[", "{a: ", "- ", "? ", "a: [", "[{"};
    refuse_recipe(s,
                  "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n"
                  "c: &c [*b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c]\n"
                  "e: &e [*d, *d, *d, *d, *d, *d, *d]\nrun: {stages: [*e, *e, *e, *e, *e]}\n",
                  "anchors (&), aliases (*) and tags (!) are not for recipes");
    for (size_t i = 0; i < sizeof nested / sizeof nested[0]; i++) {
        char *text = repeated(nested[i], 1 << 20);
        refuse_recipe(s, text, "r.yaml");
        free(text);
    }
    char *text = repeated("x", (1 << 20) + 1);
    scratch_store(scratch_path(s, "r.yaml"), text, (1 << 20) + 1);
    static struct recipe r;
    assert_int_equal(recipe_load(&r, scratch_path(s, "r.yaml")), RETORT_INPUT);
    free(text);
}

int main(void)
{
#if !defined(__SANITIZE_ADDRESS__)
    const struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    setrlimit(RLIMIT_AS, &limit);
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_jpeg),
        cmocka_unit_test(a_jpeg_of_many_scans),
        cmocka_unit_test(a_large_png),
        cmocka_unit_test(a_png_of_much_text),
        cmocka_unit_test(a_narrow_picture),
        cmocka_unit_test_setup_teardown(archives, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(an_archive_of_names, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(pictures_too_large_to_pack, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(recipes, scratch_setup, scratch_teardown),
    };
    return cmocka_run_group_tests_name("bombs", tests, NULL, NULL);
}
