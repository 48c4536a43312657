// An image folder: any names and lists are refused with one line, or mean classes and labels. The
// input is text: "name=content", records end with a line of "--"; a name that ends with a slash is
// a folder's. It is read by way of an archive of these.

#include <archive.h>
#include <archive_entry.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/fuzz/folder_check.h"
#include "tests/fuzz/fuzz.h"

enum { BLOCK = 512, NAME_BYTES = 2048 }; // a tar's block; a long name takes a few
static const char END[] = "\n--\n";

// Long names and contents in a tar: headers, and each rounded up to blocks.
static size_t tar_bytes(const uint8_t *data, size_t bytes)
{
    size_t records = 1;
    for (size_t i = 0; i < bytes; i++)
        records += data[i] == '\n';
    return 4 * bytes + (records + 4) * 16 * BLOCK;
}

static void put_record(struct archive *a, const uint8_t *record, size_t bytes)
{
    const uint8_t *equals = memchr(record, '=', bytes);
    size_t length = equals ? (size_t)(equals - record) : bytes;
    size_t content = equals ? bytes - length - 1 : 0;
    char name[NAME_BYTES];
    if (length == 0 || length >= sizeof name)
        return;
    memcpy(name, record, length);
    name[length] = '\0';
    bool is_folder = name[length - 1] == '/';
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, is_folder ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, is_folder ? 0 : (la_int64_t)content);
    if (archive_write_header(a, entry) == ARCHIVE_OK && !is_folder && content > 0)
        CHECK(archive_write_data(a, equals + 1, content) == (la_ssize_t)content);
    archive_entry_free(entry);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    size_t capacity = tar_bytes(data, bytes), used = 0;
    uint8_t *tar = malloc(capacity);
    struct archive *a = archive_write_new();
    CHECK(tar && a);
    archive_write_set_format_gnutar(a);
    CHECK(archive_write_open_memory(a, tar, capacity, &used) == ARCHIVE_OK);
    while (bytes > 0) {
        const uint8_t *end = memmem(data, bytes, END, sizeof END - 1);
        size_t record = end ? (size_t)(end - data) : bytes;
        put_record(a, data, record);
        record += end ? sizeof END - 1 : 0;
        data += record;
        bytes -= record;
    }
    CHECK(archive_write_close(a) == ARCHIVE_OK);
    archive_write_free(a);
    folder_check(fuzz_file(tar, used));
    free(tar);
    return 0;
}
