#include "data/picture.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h> // jpeglib.h wants FILE
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <spng.h>

#include "base/error.h"

// 64 million pixels, no side beyond JPEG's own bound: far above any picture, far below what a
// forged header could ask for.
static const int64_t PIXEL_LIMIT = (int64_t)1 << 26;
enum { SIDE_LIMIT = 65535 };
// Bytes of a PNG's texts and profiles, unpacked; we use none.
enum { PNG_EXTRAS_LIMIT = 1 << 24 };
// A progressive JPEG has about ten scans; each costs a pass over the whole picture.
enum { SCAN_LIMIT = 100 };

void picture_free(struct picture *p)
{
    free(p->pixels);
    *p = (struct picture){0};
}

// What the header says is believed only up to the limits: before anything is allocated for it.
static int picture_check_size(int64_t height, int64_t width, char *why)
{
    if (height >= 1 && width >= 1 && height <= SIDE_LIMIT && width <= SIDE_LIMIT &&
        height * width <= PIXEL_LIMIT)
        return RETORT_OK;
    snprintf(why, PICTURE_WHY, "%lld x %lld pixels; the limit is %lld pixels, %d a side",
             (long long)width, (long long)height, (long long)PIXEL_LIMIT, SIDE_LIMIT);
    return RETORT_INPUT;
}

static int picture_allocate(struct picture *p, int64_t height, int64_t width, char *why)
{
    p->height = (int)height;
    p->width = (int)width;
    p->pixels = malloc((size_t)(height * width) * 3);
    if (p->pixels)
        return RETORT_OK;
    snprintf(why, PICTURE_WHY, "out of memory");
    return RETORT_MEMORY;
}

struct jpeg_errors {
    struct jpeg_error_mgr base; // first, so that the library's pointer is ours
    jmp_buf escape;
    char *why;    // borrowed
    uint8_t *row; // of four channels, owned; here, so that a longjmp cannot lose it
};

_Noreturn static void jpeg_fail(j_common_ptr info)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)info->err;
    char text[JMSG_LENGTH_MAX];
    errors->base.format_message(info, text);
    snprintf(errors->why, PICTURE_WHY, "%s", text);
    longjmp(errors->escape, 1);
}

// The library warns (level -1) of damage that it papers over with grey; we don't.
static void jpeg_message(j_common_ptr info, int level)
{
    if (level < 0)
        jpeg_fail(info);
}

// Called with every row of blocks of every scan.
static void jpeg_progress(j_common_ptr info)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)info->err;
    if (((j_decompress_ptr)info)->input_scan_number <= SCAN_LIMIT)
        return;
    snprintf(errors->why, PICTURE_WHY, "more than %d scans", SCAN_LIMIT);
    longjmp(errors->escape, 1);
}

static int jpeg_denominator(int height, int width, int short_side)
{
    int shortest = height < width ? height : width;
    int denominator = 1;
    while (short_side > 0 && denominator < 8 && shortest / (2 * denominator) >= 2 * short_side)
        denominator *= 2;
    return denominator;
}

// Four channels to three, in place, row by row. Adobe's files hold the inks inverted.
static void cmyk_to_rgb(const uint8_t *from, uint8_t *to, int width, bool inverted)
{
    for (int x = 0; x < width; x++) {
        int k = inverted ? from[4 * x + 3] : 255 - from[4 * x + 3];
        for (int c = 0; c < 3; c++) {
            int ink = inverted ? from[4 * x + c] : 255 - from[4 * x + c];
            to[3 * x + c] = (uint8_t)((ink * k + 127) / 255);
        }
    }
}

// Everything between create and destroy; longjmps out of here on any error.
static int jpeg_decode_inside(struct jpeg_decompress_struct *info, const uint8_t *bytes,
                              size_t byte_count, int short_side, struct picture *out)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)info->err;
    jpeg_mem_src(info, bytes, byte_count);
    jpeg_read_header(info, TRUE);
    int rc = picture_check_size(info->image_height, info->image_width, errors->why);
    if (rc != RETORT_OK)
        return rc;
    bool four = info->jpeg_color_space == JCS_CMYK || info->jpeg_color_space == JCS_YCCK;
    info->out_color_space = four ? JCS_CMYK : JCS_RGB;
    info->scale_num = 1;
    info->scale_denom =
        (unsigned)jpeg_denominator((int)info->image_height, (int)info->image_width, short_side);
    jpeg_calc_output_dimensions(info);
    rc = picture_allocate(out, info->output_height, info->output_width, errors->why);
    if (rc != RETORT_OK)
        return rc;
    if (four && !(errors->row = malloc((size_t)out->width * 4))) {
        snprintf(errors->why, PICTURE_WHY, "out of memory");
        return RETORT_MEMORY;
    }
    jpeg_start_decompress(info);
    while (info->output_scanline < info->output_height) {
        uint8_t *to = out->pixels + (size_t)info->output_scanline * (size_t)out->width * 3;
        JSAMPROW row = four ? errors->row : to;
        jpeg_read_scanlines(info, &row, 1);
        if (four)
            cmyk_to_rgb(row, to, out->width, info->saw_Adobe_marker);
    }
    jpeg_finish_decompress(info);
    return RETORT_OK;
}

static int jpeg_decode(const uint8_t *bytes, size_t byte_count, int short_side, struct picture *out,
                       char *why)
{
    struct jpeg_decompress_struct info = {0};
    struct jpeg_errors errors = {.why = why};
    struct jpeg_progress_mgr progress = {.progress_monitor = jpeg_progress};
    info.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = jpeg_fail;
    errors.base.emit_message = jpeg_message;
    volatile int rc = RETORT_INPUT;
    if (setjmp(errors.escape) == 0) {
        jpeg_create_decompress(&info);
        info.progress = &progress;
        rc = jpeg_decode_inside(&info, bytes, byte_count, short_side, out);
    }
    jpeg_destroy_decompress(&info);
    free(errors.row);
    return rc;
}

// Whether the chunks reach their end mark. The decoder is content once it has all pixels.
static bool png_is_complete(const uint8_t *bytes, size_t byte_count)
{
    for (size_t at = 8; byte_count - at >= 12;) {
        size_t length = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 |
                        (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (length > byte_count - at - 12)
            return false;
        if (memcmp(bytes + at + 4, "IEND", 4) == 0)
            return true;
        at += 12 + length;
    }
    return false;
}

static int png_status(int status, char *why)
{
    if (status == 0)
        return RETORT_OK;
    snprintf(why, PICTURE_WHY, "%s", spng_strerror(status));
    return RETORT_INPUT;
}

static int png_decode_inside(spng_ctx *context, const uint8_t *bytes, size_t byte_count,
                             struct picture *out, char *why)
{
    struct spng_ihdr header = {0};
    size_t needed = 0;
    int rc;
    TRY(png_status(spng_set_chunk_limits(context, PNG_EXTRAS_LIMIT, PNG_EXTRAS_LIMIT), why));
    TRY(png_status(spng_set_png_buffer(context, bytes, byte_count), why));
    TRY(png_status(spng_get_ihdr(context, &header), why));
    TRY(picture_check_size(header.height, header.width, why));
    TRY(png_status(spng_decoded_image_size(context, SPNG_FMT_RGB8, &needed), why));
    TRY(picture_allocate(out, header.height, header.width, why));
    TRY(png_status(spng_decode_image(context, out->pixels, needed, SPNG_FMT_RGB8, 0), why));
    TRY(png_status(spng_decode_chunks(context), why)); // the last one's checksum
fail:
    return rc;
}

static int png_decode(const uint8_t *bytes, size_t byte_count, struct picture *out, char *why)
{
    if (!png_is_complete(bytes, byte_count)) {
        snprintf(why, PICTURE_WHY, "the PNG file ends early");
        return RETORT_INPUT;
    }
    spng_ctx *context = spng_ctx_new(0);
    if (!context) {
        snprintf(why, PICTURE_WHY, "out of memory");
        return RETORT_MEMORY;
    }
    int rc = png_decode_inside(context, bytes, byte_count, out, why);
    spng_ctx_free(context);
    return rc;
}

int picture_decode(const uint8_t *bytes, size_t byte_count, int short_side, struct picture *out,
                   char why[PICTURE_WHY])
{
    *out = (struct picture){0};
    int rc = RETORT_INPUT;
    if (byte_count >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        rc = jpeg_decode(bytes, byte_count, short_side, out, why);
    else if (byte_count >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        rc = png_decode(bytes, byte_count, out, why);
    else
        snprintf(why, PICTURE_WHY, "%s", byte_count ? "neither JPEG nor PNG" : "the file is empty");
    if (rc != RETORT_OK)
        picture_free(out);
    return rc;
}
