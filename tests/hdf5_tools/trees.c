#include "tests/hdf5_tools/trees.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <jpeglib.h>
#include <spng.h>

#include "base/file.h"
#include "hdf5_tools/source.h"
#include "tests/data/scratch.h"

struct encoded encode_jpeg(enum jpeg_kind kind, const uint8_t *pixels, int height, int width)
{
    static const int channels[] = {3, 1, 4, 4, 4};
    static const J_COLOR_SPACE spaces[] = {JCS_RGB, JCS_GRAYSCALE, JCS_CMYK, JCS_CMYK, JCS_CMYK};
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    struct encoded out = {0};
    unsigned long bytes = 0;
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, &out.bytes, &bytes);
    info.image_width = (JDIMENSION)width;
    info.image_height = (JDIMENSION)height;
    info.input_components = channels[kind];
    info.in_color_space = spaces[kind];
    jpeg_set_defaults(&info);
    if (kind == JPEG_YCCK)
        jpeg_set_colorspace(&info, JCS_YCCK);
    if (kind == JPEG_CMYK_PLAIN)
        info.write_Adobe_marker = FALSE;
    jpeg_set_quality(&info, 100, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)info.next_scanline * (size_t)width *
                                               (size_t)channels[kind]);
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    out.count = bytes;
    return out;
}

struct encoded encode_png(int colour_type, int depth, const void *pixels, size_t bytes, int height,
                          int width, const uint8_t (*palette)[3])
{
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    struct spng_ihdr header = {.width = (uint32_t)width,
                               .height = (uint32_t)height,
                               .bit_depth = (uint8_t)depth,
                               .color_type = (uint8_t)colour_type};
    assert_int_equal(spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1), 0);
    assert_int_equal(spng_set_ihdr(context, &header), 0);
    if (palette) {
        struct spng_plte plte = {.n_entries = 256};
        for (int i = 0; i < 256; i++)
            plte.entries[i] = (struct spng_plte_entry){
                .red = palette[i][0], .green = palette[i][1], .blue = palette[i][2], .alpha = 255};
        assert_int_equal(spng_set_plte(context, &plte), 0);
    }
    int status = spng_encode_image(context, pixels, bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    assert_int_equal(status, 0);
    struct encoded out;
    out.bytes = spng_get_png_buffer(context, &out.count, &status);
    assert_int_equal(status, 0);
    spng_ctx_free(context);
    return out;
}

void tree_put(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[PATH_CAPACITY];
    assert_int_equal(path_join(path, folder, name), 0);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(folder_create(path), 0);
    *slash = '/';
    scratch_store(path, bytes, count);
}

void tree_put_colour(const char *folder, const char *name, int class, int k, int split, int height,
                     int width)
{
    size_t count = (size_t)height * (size_t)width;
    uint8_t *pixels = malloc(count * 3);
    for (size_t i = 0; i < count; i++) {
        pixels[3 * i] = (uint8_t)(class * 40 + 5);
        pixels[3 * i + 1] = (uint8_t)k;
        pixels[3 * i + 2] = (uint8_t)split;
    }
    struct encoded png =
        encode_png(SPNG_COLOR_TYPE_TRUECOLOR, 8, pixels, count * 3, height, width, NULL);
    tree_put(folder, name, png.bytes, png.count);
    free(png.bytes);
    free(pixels);
}

void tree_make(const char *folder, int per_class)
{
    static const char *const ids[TREE_CLASSES] = {"ant", "bee", "cat"};
    char name[64];
    for (int c = 0; c < TREE_CLASSES; c++) {
        for (int k = 0; k < per_class; k++) {
            snprintf(name, sizeof name, "train/%s/%03d.png", ids[c], k);
            tree_put_colour(folder, name, c, k, 0, TREE_SIDE, TREE_SIDE);
        }
        for (int k = 0; k < TREE_VAL; k++) {
            snprintf(name, sizeof name, "val/%s/%03d.png", ids[c], k);
            tree_put_colour(folder, name, c, k, 1, TREE_SIDE, TREE_SIDE);
        }
    }
}

static bool everything(const char *path, bool is_folder)
{
    (void)path;
    (void)is_folder;
    return true;
}

void tree_archive(const char *folder, const char *archive, enum archive_kind kind,
                  const char *prefix)
{
    struct source s;
    assert_int_equal(source_read(&s, folder, everything, 0), 0);
    struct archive *a = archive_write_new();
    if (kind == ARCHIVE_ZIP)
        archive_write_set_format_zip(a);
    else
        archive_write_set_format_pax_restricted(a);
    if (kind == ARCHIVE_TAR_GZ)
        archive_write_add_filter_gzip(a);
    assert_int_equal(archive_write_open_filename(a, archive), ARCHIVE_OK);
    for (size_t i = s.count; i-- > 0;) {
        const struct source_entry *e = &s.entries[i];
        struct source_bytes bytes = {0};
        char why[256], name[PATH_CAPACITY];
        snprintf(name, sizeof name, "%s%.2000s%s", prefix, e->path, e->is_folder ? "/" : "");
        if (!e->is_folder)
            assert_int_equal(source_load(&s, e, &bytes, why, sizeof why), 0);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, name);
        archive_entry_set_filetype(entry, e->is_folder ? AE_IFDIR : AE_IFREG);
        archive_entry_set_perm(entry, e->is_folder ? 0755 : 0644);
        archive_entry_set_size(entry, (la_int64_t)bytes.count);
        assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
        if (bytes.count > 0)
            assert_int_equal(archive_write_data(a, bytes.data, bytes.count), bytes.count);
        archive_entry_free(entry);
        free(bytes.owned);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    source_free(&s);
}
