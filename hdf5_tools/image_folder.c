#include "hdf5_tools/image_folder.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

enum place { PLACE_ELSEWHERE, PLACE_TRAIN, PLACE_VAL, PLACE_TEST };

// Where a path stands: "root/train/rest" with its two borrowed ends.
struct location {
    enum place place;
    size_t root_length; // of "root/", slash included
    const char *rest;   // after "train/"; "" for the folder itself
};

static struct location locate(const char *path)
{
    static const char *const names[] = {
        [PLACE_TRAIN] = "train", [PLACE_VAL] = "val", [PLACE_TEST] = "test"};
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "/");
        const char *next = part + length + (part[length] == '/');
        for (enum place p = PLACE_TRAIN; p <= PLACE_TEST; p++)
            if (strlen(names[p]) == length && memcmp(part, names[p], length) == 0)
                return (struct location){p, (size_t)(part - path), next};
        part = next;
    }
    return (struct location){PLACE_ELSEWHERE, 0, path};
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// By the name's ending. Kinds that can't be read count too, so that they are refused, not missed.
static bool is_picture(const char *path)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png",  ".bmp", ".gif",
                                          ".tif", ".tiff", ".webp", ".jp2", ".ppm"};
    const char *dot = strrchr(base_name(path), '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (strcasecmp(dot, endings[i]) == 0)
            return true;
    return false;
}

bool image_folder_wants(const char *path, bool is_folder)
{
    if (base_name(path)[0] == '.' || strncmp(path, "__MACOSX", 8) == 0)
        return false;
    struct location l = locate(path);
    if (l.place == PLACE_TEST)
        return false;
    if (is_folder)
        return true;
    const char *name = base_name(path);
    if (strcmp(name, "words.txt") == 0 || strcmp(name, "val_annotations.txt") == 0)
        return true;
    return l.place != PLACE_ELSEWHERE && is_picture(path);
}

void image_folder_free(struct image_folder *f)
{
    for (int c = 0; c < f->class_count; c++) {
        if (f->class_ids)
            free(f->class_ids[c]);
        if (f->class_names)
            free(f->class_names[c]);
    }
    free(f->class_ids);
    free(f->class_names);
    for (int s = 0; s < SPLIT_COUNT; s++)
        free(f->items[s]);
    *f = (struct image_folder){0};
}

static int out_of_memory(void)
{
    return FAIL(RETORT_MEMORY, "out of memory listing pictures");
}

static int text_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int class_find(const struct image_folder *f, const char *id)
{
    char **found =
        bsearch(&id, f->class_ids, (size_t)f->class_count, sizeof *f->class_ids, text_compare);
    return found ? (int)(found - f->class_ids) : -1;
}

// The first folder of `rest` ("n01443537" of "n01443537/images/x.JPEG"); the caller's to free().
// NULL for a file that lies in none, or out of memory.
static char *first_folder(const char *rest, bool is_folder)
{
    size_t length = strcspn(rest, "/");
    if (length == 0 || (rest[length] == '\0' && !is_folder))
        return NULL;
    return strndup(rest, length);
}

// Every folder below train is a class, with pictures or without.
static int read_classes(struct image_folder *f, const struct source *s)
{
    f->class_ids = calloc(s->count + 1, sizeof *f->class_ids);
    if (!f->class_ids)
        return out_of_memory();
    for (size_t i = 0; i < s->count; i++) {
        const struct source_entry *e = &s->entries[i];
        struct location l = locate(e->path);
        if (l.place != PLACE_TRAIN || l.rest[0] == '\0')
            continue;
        char *id = first_folder(l.rest, e->is_folder);
        if (!id && is_picture(l.rest))
            return FAIL(RETORT_INPUT, "%s: %s lies in no class folder", s->location, e->path);
        // Entries are sorted, but "a-b/x" comes between "a" and "a/x": look at all, in the end.
        if (id && f->class_count > 0 && strcmp(f->class_ids[f->class_count - 1], id) == 0)
            free(id);
        else if (id)
            f->class_ids[f->class_count++] = id;
    }
    qsort(f->class_ids, (size_t)f->class_count, sizeof *f->class_ids, text_compare);
    int kept = 0;
    for (int c = 0; c < f->class_count; c++) {
        if (kept > 0 && strcmp(f->class_ids[kept - 1], f->class_ids[c]) == 0)
            free(f->class_ids[c]);
        else
            f->class_ids[kept++] = f->class_ids[c];
    }
    f->class_count = kept;
    return RETORT_OK;
}

// There is one train and one val, in the same folder.
static int check_roots(const struct source *s, size_t *root_length)
{
    const struct source_entry *first = NULL;
    bool seen[PLACE_TEST + 1] = {false};
    for (size_t i = 0; i < s->count; i++) {
        const struct source_entry *e = &s->entries[i];
        struct location l = locate(e->path);
        if (l.place == PLACE_ELSEWHERE)
            continue;
        seen[l.place] = true;
        if (!first) {
            first = e;
            *root_length = l.root_length;
        } else if (l.root_length != *root_length ||
                   strncmp(e->path, first->path, *root_length) != 0) {
            return FAIL(RETORT_INPUT, "%s holds more than one image folder: %s and %s", s->location,
                        first->path, e->path);
        }
    }
    for (enum place p = PLACE_TRAIN; p <= PLACE_VAL; p++)
        if (!seen[p])
            return FAIL(RETORT_INPUT,
                        "%s has no folder %s; it should hold train/<class>/… and val/<class>/…",
                        s->location, p == PLACE_TRAIN ? "train" : "val");
    return RETORT_OK;
}

// The entry "root/name", or NULL.
static const struct source_entry *find_entry(const struct source *s, const char *root,
                                             size_t root_length, const char *name)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const char *path = s->entries[middle].path;
        int order = strncmp(path, root, root_length);
        if (order == 0)
            order = strcmp(path + root_length, name);
        if (order == 0)
            return &s->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

// A list's text, NUL-terminated; the caller's to free().
static int load_text(const struct source *s, const struct source_entry *e, char **out)
{
    struct source_bytes bytes;
    char why[256];
    int rc = source_load(s, e, &bytes, why, sizeof why);
    if (rc != RETORT_OK)
        return FAIL(rc, "cannot read %s of %s: %s", e->path, s->location, why);
    *out = malloc(bytes.count + 1);
    if (*out) {
        if (bytes.count > 0)
            memcpy(*out, bytes.data, bytes.count);
        (*out)[bytes.count] = '\0';
    }
    free(bytes.owned);
    return *out ? RETORT_OK : out_of_memory();
}

// Cuts the next line off `*text` and its first two tab-separated fields; false at the end.
static bool next_fields(char **text, char **first, char **second)
{
    if (!*text || !**text)
        return false;
    char *line = strsep(text, "\n");
    line[strcspn(line, "\r")] = '\0';
    *first = strsep(&line, "\t");
    *second = line;
    return true;
}

static int read_names(struct image_folder *f, const struct source *s, const char *root,
                      size_t root_length)
{
    f->class_names = calloc((size_t)f->class_count + 1, sizeof *f->class_names);
    if (!f->class_names)
        return out_of_memory();
    const struct source_entry *e = find_entry(s, root, root_length, "words.txt");
    char *text = NULL;
    if (e) {
        int rc = load_text(s, e, &text);
        if (rc != RETORT_OK)
            return rc;
    }
    char *at = text, *id, *name;
    while (next_fields(&at, &id, &name)) {
        int c = name ? class_find(f, id) : -1;
        if (c >= 0 && !f->class_names[c])
            f->class_names[c] = strdup(name);
    }
    free(text);
    for (int c = 0; c < f->class_count; c++)
        if (!f->class_names[c] && !(f->class_names[c] = strdup("")))
            return out_of_memory();
    return RETORT_OK;
}

// What the labels of val come from.
struct annotation {
    char *picture; // borrowed from the list's text
    int32_t label; // -1 once its picture was met
};

struct annotations {
    const struct source_entry *entry; // NULL when there is no such list
    char *text;                       // owned
    struct annotation *rows;          // sorted by picture, owned
    size_t count;
};

static int annotation_compare(const void *a, const void *b)
{
    const struct annotation *x = a, *y = b;
    return strcmp(x->picture, y->picture);
}

static int read_annotations(struct annotations *a, const struct image_folder *f,
                            const struct source *s, const char *root, size_t root_length)
{
    a->entry = find_entry(s, root, root_length, "val/val_annotations.txt");
    if (!a->entry)
        return RETORT_OK;
    int rc = load_text(s, a->entry, &a->text);
    if (rc != RETORT_OK)
        return rc;
    size_t capacity = 1;
    for (const char *c = a->text; *c; c++)
        capacity += *c == '\n';
    a->rows = calloc(capacity, sizeof *a->rows);
    if (!a->rows)
        return out_of_memory();
    char *at = a->text, *picture, *id;
    while (next_fields(&at, &picture, &id)) {
        if (!id && !*picture)
            continue; // an empty line
        char *class = strsep(&id, "\t");
        int label = class ? class_find(f, class) : -1;
        if (label < 0)
            return FAIL(RETORT_INPUT, "%s: %s gives %s the class %s, which train doesn't have",
                        s->location, a->entry->path, picture, class ? class : "\"\"");
        a->rows[a->count++] = (struct annotation){picture, label};
    }
    qsort(a->rows, a->count, sizeof *a->rows, annotation_compare);
    for (size_t i = 1; i < a->count; i++)
        if (strcmp(a->rows[i - 1].picture, a->rows[i].picture) == 0)
            return FAIL(RETORT_INPUT, "%s: %s has %s twice", s->location, a->entry->path,
                        a->rows[i].picture);
    return RETORT_OK;
}

static int label_by_annotation(struct annotations *a, const struct source *s,
                               const struct source_entry *e, int32_t *label)
{
    char *name = (char *)base_name(e->path);
    struct annotation key = {.picture = name}, *row = NULL;
    if (a->count > 0)
        row = bsearch(&key, a->rows, a->count, sizeof *a->rows, annotation_compare);
    if (!row || row->label < 0)
        return FAIL(RETORT_INPUT, "%s: %s has no label of its own in %s", s->location, e->path,
                    a->entry->path);
    *label = row->label;
    row->label = -1;
    return RETORT_OK;
}

static int label_by_folder(const struct image_folder *f, const struct source *s,
                           const struct source_entry *e, const char *rest, int32_t *label)
{
    char *id = first_folder(rest, e->is_folder);
    if (!id)
        return FAIL(RETORT_INPUT, "%s: %s lies in no class folder", s->location, e->path);
    *label = class_find(f, id);
    int rc = RETORT_OK;
    if (*label < 0 && strcmp(id, "images") == 0)
        rc = FAIL(RETORT_INPUT, "%s: %s has no label: there is no val_annotations.txt", s->location,
                  e->path);
    else if (*label < 0)
        rc = FAIL(RETORT_INPUT, "%s: class %s is in val but not in train (%s)", s->location, id,
                  e->path);
    free(id);
    return rc;
}

static int read_items(struct image_folder *f, const struct source *s, struct annotations *a)
{
    for (int split = 0; split < SPLIT_COUNT; split++)
        if (!(f->items[split] = calloc(s->count + 1, sizeof *f->items[split])))
            return out_of_memory();
    for (size_t i = 0; i < s->count; i++) {
        const struct source_entry *e = &s->entries[i];
        struct location l = locate(e->path);
        bool picture = !e->is_folder && is_picture(e->path);
        if (l.place == PLACE_ELSEWHERE || l.rest[0] == '\0' || (!picture && !e->is_folder))
            continue;
        enum dataset_split split = l.place == PLACE_TRAIN ? SPLIT_TRAIN : SPLIT_VAL;
        int32_t label = -1;
        int rc = RETORT_OK;
        if (split == SPLIT_TRAIN || !a->entry)
            rc = label_by_folder(f, s, e, l.rest, &label);
        else if (picture)
            rc = label_by_annotation(a, s, e, &label);
        if (rc != RETORT_OK)
            return rc;
        if (picture)
            f->items[split][f->count[split]++] = (struct image_item){e, label};
    }
    for (size_t i = 0; a->entry && i < a->count; i++)
        if (a->rows[i].label >= 0)
            return FAIL(RETORT_INPUT, "%s: %s names %s, which is not in val", s->location,
                        a->entry->path, a->rows[i].picture);
    return RETORT_OK;
}

int image_folder_check_classes(const struct image_folder *f, const struct source *s)
{
    int64_t *count = calloc((size_t)f->class_count + 1, sizeof *count);
    if (!count)
        return out_of_memory();
    for (int64_t i = 0; i < f->count[SPLIT_TRAIN]; i++)
        count[f->items[SPLIT_TRAIN][i].label]++;
    int rc = RETORT_OK;
    for (int c = 0; rc == RETORT_OK && c < f->class_count; c++)
        if (count[c] == 0)
            rc = FAIL(RETORT_INPUT, "%s: class folder train/%s has no pictures", s->location,
                      f->class_ids[c]);
    free(count);
    if (rc == RETORT_OK && f->count[SPLIT_TRAIN] == 0)
        rc = FAIL(RETORT_INPUT, "%s has no pictures in train/<class>/", s->location);
    if (rc == RETORT_OK && f->count[SPLIT_VAL] == 0)
        rc = FAIL(RETORT_INPUT, "%s has no pictures in val", s->location);
    return rc;
}

int image_folder_read(struct image_folder *f, const struct source *s)
{
    *f = (struct image_folder){0};
    struct annotations annotations = {0};
    size_t root_length = 0;
    int rc;
    TRY(check_roots(s, &root_length));
    const char *root = "";
    for (size_t i = 0; i < s->count; i++)
        if (locate(s->entries[i].path).place != PLACE_ELSEWHERE)
            root = s->entries[i].path; // any: they share the first root_length characters
    TRY(read_classes(f, s));
    TRY(read_names(f, s, root, root_length));
    TRY(read_annotations(&annotations, f, s, root, root_length));
    TRY(read_items(f, s, &annotations));
    TRY(image_folder_check_classes(f, s));
fail:
    free(annotations.text);
    free(annotations.rows);
    if (rc != RETORT_OK)
        image_folder_free(f);
    return rc;
}
