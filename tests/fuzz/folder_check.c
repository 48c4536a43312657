#include "tests/fuzz/folder_check.h"

#include <string.h>

#include "base/error.h"
#include "hdf5_tools/decode_job.h"
#include "tests/fuzz/fuzz.h"

static const size_t MEMORY_LIMIT = (size_t)64 << 20;

static void check_folder(const struct image_folder *f, const struct source *s)
{
    CHECK(f->class_count > 0);
    for (int c = 0; c < f->class_count; c++) {
        CHECK(f->class_ids[c][0] && f->class_names[c]);
        CHECK(c == 0 || strcmp(f->class_ids[c - 1], f->class_ids[c]) < 0);
    }
    for (int split = 0; split < SPLIT_COUNT; split++) {
        CHECK(f->count[split] > 0);
        for (int64_t i = 0; i < f->count[split]; i++) {
            const struct image_item *item = &f->items[split][i];
            CHECK(item->label >= 0 && item->label < f->class_count);
            CHECK(item->entry >= s->entries && item->entry < s->entries + s->count);
            CHECK(!item->entry->is_folder);
        }
    }
}

void folder_check(const char *location)
{
    struct source s;
    struct image_folder f;
    int height, width;
    int rc = source_read(&s, location, image_folder_wants, MEMORY_LIMIT);
    fuzz_expect(rc, RETORT_INPUT);
    if (rc != RETORT_OK)
        return;
    CHECK(s.held_bytes <= MEMORY_LIMIT);
    rc = image_folder_read(&f, &s);
    fuzz_expect(rc, RETORT_INPUT);
    if (rc == RETORT_OK) {
        check_folder(&f, &s);
        fuzz_expect(decode_first_size(&s, &f, SPLIT_TRAIN, &height, &width), RETORT_INPUT);
        image_folder_free(&f);
    }
    source_free(&s);
}
