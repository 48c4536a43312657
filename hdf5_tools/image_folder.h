#pragma once
// What an image folder means: classes, and for each split the pictures with their labels.
//
//   train/<class>/…/picture        class by the first folder below train
//   val/<class>/…/picture          the same, or TinyImageNet's:
//   val/images/picture             with val/val_annotations.txt ("picture<TAB>class<TAB>…")
//   words.txt                      "class<TAB>names", optional
// All may lie in folders above (tiny-imagenet-200/train/…). `test` is left out.

#include <stddef.h>
#include <stdint.h>

#include "data/dataset.h"
#include "hdf5_tools/source.h"

struct image_item {
    const struct source_entry *entry; // borrowed from the source
    int32_t label;
};

struct image_folder {
    int class_count;
    char **class_ids, **class_names; // [class_count], sorted by id (strcmp); owned; names may be ""
    struct image_item *items[SPLIT_COUNT]; // in the order of their paths; owned
    int64_t count[SPLIT_COUNT];
};

// What of a source is of use: a source_filter.
bool image_folder_wants(const char *path, bool is_folder);

// RETORT_INPUT with one line: no train or val, a class without pictures or only in val, a picture
// without label, an annotation without picture.
int image_folder_read(struct image_folder *f, const struct source *s);
void image_folder_free(struct image_folder *f);

// RETORT_INPUT names the first class that has no picture in train.
int image_folder_check_classes(const struct image_folder *f, const struct source *s);
