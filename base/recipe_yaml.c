// The recipe's file: a YAML document walked along the table of options.

#include <string.h>
#include <yaml.h>

#include "base/error.h"
#include "base/recipe_option.h"

enum { WHERE_CAPACITY = PATH_CAPACITY + 32, DEPTH_LIMIT = 8 };

struct reader {
    const char *file;
    struct recipe *recipe;
    yaml_document_t document;
};

static void place(const char *file, yaml_mark_t mark, char where[WHERE_CAPACITY])
{
    snprintf(where, WHERE_CAPACITY, "%s:%zu", file, mark.line + 1);
}

static int refuse(const struct reader *reader, const yaml_node_t *node, const char *path,
                  const char *why)
{
    char where[WHERE_CAPACITY];
    place(reader->file, node->start_mark, where);
    return FAIL(RETORT_USAGE, "%s: %s: %s", where, path, why);
}

static int refuse_syntax(const char *file, const yaml_parser_t *parser)
{
    const char *problem = parser->problem ? parser->problem : "not readable";
    if (parser->error == YAML_MEMORY_ERROR)
        return FAIL(RETORT_MEMORY, "no memory to read %s", file);
    if (parser->error == YAML_READER_ERROR)
        return FAIL(RETORT_USAGE, "%s: byte %zu: not YAML: %s", file, parser->problem_offset,
                    problem);
    char where[WHERE_CAPACITY];
    place(file, parser->problem_mark, where);
    return FAIL(RETORT_USAGE, "%s: not YAML: %s", where, problem);
}

// Room for one more byte than any value may have, so that what is too long is seen to be.
enum { VALUE_CAPACITY = PATH_CAPACITY + 1 };

// A scalar as a string; what is too long is cut, and a NUL inside becomes a control character that
// no option takes.
static void scalar_text(const yaml_node_t *node, char *out, size_t out_bytes)
{
    size_t length = node->data.scalar.length;
    if (length > out_bytes - 1)
        length = out_bytes - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = node->data.scalar.value[i] ? (char)node->data.scalar.value[i] : '\1';
    out[length] = '\0';
}

static bool is_empty_plain(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0 &&
           node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

// A list as the text "a,b", which is what the option's parser takes.
static int list_text(struct reader *reader, const yaml_node_t *node, const char *path, char *out,
                     size_t out_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    const yaml_node_item_t *item = node->data.sequence.items.start;
    for (; item < node->data.sequence.items.top; item++) {
        const yaml_node_t *member = yaml_document_get_node(&reader->document, *item);
        char text[RECIPE_WORD];
        if (member->type != YAML_SCALAR_NODE)
            return refuse(reader, member, path, "the list holds something that is no word");
        scalar_text(member, text, sizeof text);
        int more = snprintf(out + used, out_bytes - used, "%s%s", used ? "," : "", text);
        used += (size_t)more;
        if (used >= out_bytes)
            return refuse(reader, member, path, "the list is too long");
    }
    return RETORT_OK;
}

static int read_value(struct reader *reader, const yaml_node_t *node, const struct option_ref *o)
{
    char text[VALUE_CAPACITY], why[OPTION_WHY], kind[OPTION_KIND];
    bool is_list = node->type == YAML_SEQUENCE_NODE, takes_list = o->row->type == OPTION_STAGES;
    bool quoted = false;
    if (node->type == YAML_MAPPING_NODE || is_list != takes_list) {
        option_kind(o->row, kind);
        const char *found = is_list                           ? "a list"
                            : node->type == YAML_MAPPING_NODE ? "a section"
                                                              : "a single value";
        snprintf(why, sizeof why, "%s stands there; it takes %s", found, kind);
        return refuse(reader, node, o->path, why);
    }
    if (is_list) {
        int rc = list_text(reader, node, o->path, text, sizeof text);
        if (rc != RETORT_OK)
            return rc;
    } else {
        scalar_text(node, text, sizeof text);
        quoted = node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    }
    if (!option_parse(o, reader->recipe, text, quoted, why))
        return refuse(reader, node, o->path, why);
    return RETORT_OK;
}

// "section.key"; false when the key cannot be one of ours (`path` is then fit for a message).
static bool key_path(const yaml_node_t *key, const char *section,
                     char path[2 * OPTION_PATH_CAPACITY])
{
    char word[OPTION_PATH_CAPACITY];
    scalar_text(key, word, sizeof word);
    snprintf(path, 2 * OPTION_PATH_CAPACITY, "%s%s%s", section, section[0] ? "." : "", word);
    return key->data.scalar.length < sizeof word && !strchr(word, '.');
}

static bool stands_before(struct reader *reader, const yaml_node_t *section,
                          const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(&reader->document, pair->key);
    const yaml_node_pair_t *earlier = section->data.mapping.pairs.start;
    for (; earlier < pair; earlier++) {
        const yaml_node_t *other = yaml_document_get_node(&reader->document, earlier->key);
        if (other->data.scalar.length == key->data.scalar.length &&
            memcmp(other->data.scalar.value, key->data.scalar.value, key->data.scalar.length) == 0)
            return true;
    }
    return false;
}

static int read_section(struct reader *reader, const yaml_node_t *node, const char *section);

static int read_pair(struct reader *reader, const yaml_node_t *node, const yaml_node_pair_t *pair,
                     const char *section)
{
    const yaml_node_t *key = yaml_document_get_node(&reader->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
    char path[2 * OPTION_PATH_CAPACITY], where[WHERE_CAPACITY];
    struct option_ref o;
    place(reader->file, key->start_mark, where);
    if (key->type != YAML_SCALAR_NODE)
        return FAIL(RETORT_USAGE, "%s: a key must be a word", where);
    bool plausible = key_path(key, section, path);
    bool is_option = plausible && option_find(path, &o);
    if (!is_option && !(plausible && option_is_section(path, &o)))
        return option_refuse_unknown(where, path);
    if (stands_before(reader, node, pair))
        return FAIL(RETORT_USAGE, "%s: %s stands there twice; keep one of the two", where, path);
    return is_option ? read_value(reader, value, &o) : read_section(reader, value, path);
}

// Only known sections are entered, so that the table bounds the depth.
static int read_section(struct reader *reader, const yaml_node_t *node, const char *section)
{
    char why[OPTION_WHY];
    struct option_ref first = {.path = ""};
    if (is_empty_plain(node))
        return RETORT_OK;
    if (node->type != YAML_MAPPING_NODE) {
        option_is_section(section, &first);
        snprintf(why, sizeof why, "needs keys below it, such as %s", first.path);
        return refuse(reader, node, section[0] ? section : "the recipe",
                      section[0] ? why : "needs keys, such as data, teacher, student and run");
    }
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
    for (; pair < node->data.mapping.pairs.top; pair++) {
        int rc = read_pair(reader, node, pair, section);
        if (rc != RETORT_OK)
            return rc;
    }
    return RETORT_OK;
}

// How a token changes the depth of nesting.
static int depth_change(yaml_token_type_t type)
{
    switch (type) {
    case YAML_BLOCK_SEQUENCE_START_TOKEN:
    case YAML_BLOCK_MAPPING_START_TOKEN:
    case YAML_FLOW_SEQUENCE_START_TOKEN:
    case YAML_FLOW_MAPPING_START_TOKEN:
        return 1;
    case YAML_BLOCK_END_TOKEN:
    case YAML_FLOW_SEQUENCE_END_TOKEN:
    case YAML_FLOW_MAPPING_END_TOKEN:
        return -1;
    default:
        return 0;
    }
}

// Anchors, aliases and tags have no use in a recipe, and the document does not show them any more.
// Neither has deep nesting, for which the library takes time that grows with its square.
static int check_token(const char *file, const yaml_token_t *token, int depth)
{
    char where[WHERE_CAPACITY];
    place(file, token->start_mark, where);
    if (depth > DEPTH_LIMIT)
        return FAIL(RETORT_USAGE, "%s: lists and sections lie deeper than %d in each other", where,
                    DEPTH_LIMIT);
    if (token->type == YAML_ANCHOR_TOKEN || token->type == YAML_ALIAS_TOKEN ||
        token->type == YAML_TAG_TOKEN)
        return FAIL(RETORT_USAGE,
                    "%s: anchors (&), aliases (*) and tags (!) are not for recipes; "
                    "write the value, in quotes if it begins with one of these",
                    where);
    return RETORT_OK;
}

static int refuse_tricks(const char *file, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    int rc = RETORT_OK, depth = 0;
    bool done = false;
    if (!yaml_parser_initialize(&parser))
        return FAIL(RETORT_MEMORY, "no memory to read %s", file);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    while (!done && rc == RETORT_OK) {
        yaml_token_t token;
        if (!yaml_parser_scan(&parser, &token)) {
            rc = refuse_syntax(file, &parser);
            break;
        }
        done = token.type == YAML_STREAM_END_TOKEN;
        depth += depth_change(token.type);
        rc = check_token(file, &token, depth);
        yaml_token_delete(&token);
    }
    yaml_parser_delete(&parser);
    return rc;
}

static int refuse_second_document(const char *file, yaml_parser_t *parser)
{
    yaml_document_t second;
    int rc = RETORT_OK;
    if (!yaml_parser_load(parser, &second))
        return refuse_syntax(file, parser);
    if (yaml_document_get_root_node(&second)) {
        char where[WHERE_CAPACITY];
        place(file, second.start_mark, where);
        rc = FAIL(RETORT_USAGE, "%s: a second document begins; a recipe is one", where);
    }
    yaml_document_delete(&second);
    return rc;
}

int recipe_read_yaml(struct recipe *r, const char *file, const char *text, size_t bytes)
{
    struct reader reader = {.file = file, .recipe = r};
    yaml_parser_t parser;
    int rc = refuse_tricks(file, text, bytes);
    if (rc != RETORT_OK)
        return rc;
    if (!yaml_parser_initialize(&parser))
        return FAIL(RETORT_MEMORY, "no memory to read %s", file);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    if (!yaml_parser_load(&parser, &reader.document)) {
        rc = refuse_syntax(file, &parser);
        yaml_parser_delete(&parser);
        return rc;
    }
    // An empty file has no root: all defaults.
    const yaml_node_t *root = yaml_document_get_root_node(&reader.document);
    if (root)
        rc = read_section(&reader, root, "");
    if (root && rc == RETORT_OK)
        rc = refuse_second_document(file, &parser);
    yaml_document_delete(&reader.document);
    yaml_parser_delete(&parser);
    return rc;
}
