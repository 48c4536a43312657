// Decoding: every kind of JPEG and PNG becomes RGB, every damaged one is refused. Resizing.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <spng.h>

#include "base/error.h"
#include "data/picture.h"
#include "tests/hdf5_tools/trees.h"

enum { SIDE = 16 };

// Decodes and frees `e`, and checks the size.
static struct picture decode(struct encoded e)
{
    struct picture p;
    char why[PICTURE_WHY] = "";
    int rc = picture_decode(e.bytes, e.count, 0, &p, why);
    if (rc != 0)
        fail_msg("%s", why);
    free(e.bytes);
    assert_int_equal(p.height, SIDE);
    assert_int_equal(p.width, SIDE);
    return p;
}

// Every pixel is (r, g, b), give or take.
static void expect_colour(struct picture p, int r, int g, int b, int tolerance)
{
    const int wanted[3] = {r, g, b};
    for (int i = 0; i < p.height * p.width; i++)
        for (int c = 0; c < 3; c++)
            assert_in_range(p.pixels[3 * i + c] + 10, wanted[c] + 10 - tolerance,
                            wanted[c] + 10 + tolerance);
    picture_free(&p);
}

static uint8_t *solid(const uint8_t *pixel, size_t channels)
{
    uint8_t *out = malloc(SIDE * SIDE * channels);
    for (size_t i = 0; i < SIDE * SIDE * channels; i++)
        out[i] = pixel[i % channels];
    return out;
}

static void jpegs_become_rgb(void **state)
{
    (void)state;
    uint8_t *rgb = solid((uint8_t[]){200, 40, 90}, 3), *grey = solid((uint8_t[]){77}, 1);
    uint8_t *cmyk = solid((uint8_t[]){200, 120, 40, 204}, 4);
    expect_colour(decode(encode_jpeg(JPEG_RGB, rgb, SIDE, SIDE)), 200, 40, 90, 2);
    expect_colour(decode(encode_jpeg(JPEG_GREY, grey, SIDE, SIDE)), 77, 77, 77, 0);
    // Adobe stores inks inverted: what is stored, times stored black / 255.
    expect_colour(decode(encode_jpeg(JPEG_CMYK, cmyk, SIDE, SIDE)), 160, 96, 32, 1);
    expect_colour(decode(encode_jpeg(JPEG_YCCK, cmyk, SIDE, SIDE)), 160, 96, 32, 2);
    // Without Adobe's marker they are not inverted: (255 - ink) * (255 - black) / 255.
    expect_colour(decode(encode_jpeg(JPEG_CMYK_PLAIN, cmyk, SIDE, SIDE)), 11, 27, 43, 1);
    free(rgb);
    free(grey);
    free(cmyk);
}

static void pngs_become_rgb(void **state)
{
    (void)state;
    uint8_t palette[256][3];
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++)
            palette[i][c] = (uint8_t)(i * (c + 1));
    struct {
        int type, depth;
        uint8_t pixel[8];
        size_t channels; // bytes of a pixel
        int r, g, b;
    } cases[] = {
        {SPNG_COLOR_TYPE_GRAYSCALE, 8, {90}, 1, 90, 90, 90},
        {SPNG_COLOR_TYPE_GRAYSCALE, 16, {0x34, 0x34}, 2, 0x34, 0x34, 0x34},
        {SPNG_COLOR_TYPE_GRAYSCALE_ALPHA, 8, {60, 10}, 2, 60, 60, 60},
        {SPNG_COLOR_TYPE_TRUECOLOR, 8, {1, 2, 3}, 3, 1, 2, 3},
        {SPNG_COLOR_TYPE_TRUECOLOR, 16, {9, 9, 8, 8, 7, 7}, 6, 9, 8, 7},
        {SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8, {5, 6, 7, 100}, 4, 5, 6, 7},
        {SPNG_COLOR_TYPE_INDEXED, 8, {50}, 1, 50, 100, 150},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *pixels = solid(cases[i].pixel, cases[i].channels);
        bool indexed = cases[i].type == SPNG_COLOR_TYPE_INDEXED;
        struct encoded e =
            encode_png(cases[i].type, cases[i].depth, pixels, SIDE * SIDE * cases[i].channels, SIDE,
                       SIDE, indexed ? (const uint8_t(*)[3])palette : NULL);
        expect_colour(decode(e), cases[i].r, cases[i].g, cases[i].b, 0);
        free(pixels);
    }
    // One bit a pixel, white: rows of SIDE / 8 bytes.
    uint8_t bits[SIDE * SIDE / 8];
    memset(bits, 0xff, sizeof bits);
    expect_colour(
        decode(encode_png(SPNG_COLOR_TYPE_GRAYSCALE, 1, bits, sizeof bits, SIDE, SIDE, NULL)), 255,
        255, 255, 0);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    uint8_t pixels[SIDE * SIDE * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    struct encoded pictures[] = {
        encode_jpeg(JPEG_RGB, pixels, SIDE, SIDE), encode_jpeg(JPEG_GREY, pixels, SIDE, SIDE),
        encode_png(SPNG_COLOR_TYPE_TRUECOLOR, 8, pixels, sizeof pixels, SIDE, SIDE, NULL)};
    for (int i = 0; i < 3; i++) {
        for (size_t kept = 0; kept < pictures[i].count; kept++) {
            uint8_t *cut = malloc(kept + 1); // so that a sanitizer sees a read past the end
            memcpy(cut, pictures[i].bytes, kept);
            struct picture p;
            char why[PICTURE_WHY] = "";
            assert_int_equal(picture_decode(cut, kept, 0, &p, why), RETORT_INPUT);
            assert_true(why[0] != '\0');
            assert_null(p.pixels);
            free(cut);
        }
        free(pictures[i].bytes);
    }
}

// Every chunk of a PNG has a checksum.
static void every_flipped_bit_of_a_png_is_refused(void **state)
{
    (void)state;
    uint8_t pixels[SIDE * SIDE * 3];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37);
    struct encoded e =
        encode_png(SPNG_COLOR_TYPE_TRUECOLOR, 8, pixels, sizeof pixels, SIDE, SIDE, NULL);
    size_t refused = 0;
    for (size_t bit = 0; bit < 8 * e.count; bit++) {
        struct picture p;
        char why[PICTURE_WHY];
        e.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        refused += picture_decode(e.bytes, e.count, 0, &p, why) == RETORT_INPUT;
        picture_free(&p);
        e.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(refused, 8 * e.count);
    free(e.bytes);
}

static void forged_sizes_and_other_files_are_refused(void **state)
{
    (void)state;
    uint8_t *pixels = solid((uint8_t[]){1, 2, 3}, 3);
    struct encoded jpeg = encode_jpeg(JPEG_RGB, pixels, SIDE, SIDE);
    uint8_t *frame = jpeg.bytes; // the header with the size begins with ff c0
    while (frame[0] != 0xff || frame[1] != 0xc0)
        frame++;
    memset(frame + 5, 0xff, 4); // 65535 x 65535
    struct picture p;
    char why[PICTURE_WHY];
    assert_int_equal(picture_decode(jpeg.bytes, jpeg.count, 0, &p, why), RETORT_INPUT);
    assert_int_equal(picture_decode((const uint8_t *)"GIF89a....", 10, 0, &p, why), RETORT_INPUT);
    assert_string_equal(why, "neither JPEG nor PNG");
    assert_int_equal(picture_decode(NULL, 0, 0, &p, why), RETORT_INPUT);
    assert_string_equal(why, "the file is empty");
    free(jpeg.bytes);
    free(pixels);
}

static void large_jpegs_are_shrunk_while_decoding(void **state)
{
    (void)state;
    uint8_t *pixels = calloc(400 * 600, 3);
    struct encoded jpeg = encode_jpeg(JPEG_RGB, pixels, 400, 600);
    struct picture p;
    char why[PICTURE_WHY];
    assert_int_equal(picture_decode(jpeg.bytes, jpeg.count, 64, &p, why), 0);
    assert_int_equal(p.height, 200); // 100 would be less than twice 64
    assert_int_equal(p.width, 300);
    picture_free(&p);
    free(jpeg.bytes);
    free(pixels);
}

// A picture whose value at (y, x) is y_step * y + x_step * x in every channel.
static struct picture ramp(int height, int width, int y_step, int x_step)
{
    struct picture p = {malloc((size_t)(height * width) * 3), height, width};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memset(p.pixels + (y * width + x) * 3, y_step * y + x_step * x, 3);
    return p;
}

static void resizing_takes_the_middle(void **state)
{
    (void)state;
    uint8_t out[40 * 40 * 3];
    char why[PICTURE_WHY];
    // As large as it was: nothing changes but the sides that fall off.
    struct picture p = ramp(10, 30, 0, 8);
    assert_int_equal(picture_resize(&p, 10, out, why), 0);
    for (int x = 0; x < 10; x++)
        assert_int_equal(out[3 * x], 8 * (x + 10));
    // Half: on a ramp a symmetric filter gives the value at the centre, 8 * (2 x + 0.5 + 10).
    picture_free(&p);
    p = ramp(20, 30, 0, 8);
    assert_int_equal(picture_resize(&p, 10, out, why), 0);
    for (int x = 0; x < 10; x++)
        assert_int_equal(out[3 * (50 + x)], 8 * (2 * x + 5) + 4);
    picture_free(&p);
    // Upright too, and double: centres at y / 2 - 1/4, edges repeat.
    p = ramp(20, 10, 8, 0);
    assert_int_equal(picture_resize(&p, 20, out, why), 0);
    for (int y = 0; y < 20; y++)
        assert_int_equal(out[3 * 20 * y], 8 * 5 + 4 * y - 2);
    picture_free(&p);
    // One pixel fills all.
    p = ramp(1, 1, 0, 0);
    p.pixels[1] = 99;
    assert_int_equal(picture_resize(&p, 40, out, why), 0);
    assert_int_equal(out[3 * 40 * 40 - 2], 99);
    picture_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jpegs_become_rgb),
        cmocka_unit_test(pngs_become_rgb),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_flipped_bit_of_a_png_is_refused),
        cmocka_unit_test(forged_sizes_and_other_files_are_refused),
        cmocka_unit_test(large_jpegs_are_shrunk_while_decoding),
        cmocka_unit_test(resizing_takes_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
