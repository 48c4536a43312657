// What checkpoints say of pictures and classes: to the last bit, or refused; and where it comes
// from when a checkpoint does not say it.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/recipe.h"
#include "data/network_facts.h"
#include "tests/data/scratch.h"

enum { SIDE = 4, PIXELS = SIDE * SIDE * 3, COUNT = 8 };

static const char PICTURES[] =
    "{\"height\":64,\"width\":32,\"mean\":[0.10000000000000001,0,1],"
    "\"deviation\":[0.33333333333333331,1,0.5]}";

static void it_keeps_numbers_to_the_last_bit(void **state)
{
    (void)state;
    struct network_facts f, again;
    assert_int_equal(network_facts_parse(&f, "x", PICTURES, "[\"caf\xc3\xa9, Kaffee\",\"b\"]"), 0);
    assert_int_equal(f.height, 64);
    assert_int_equal(f.width, 32);
    assert_true(f.mean[0] == 0.1 && f.mean[1] == 0.0 && f.mean[2] == 1.0);
    assert_true(f.deviation[0] == 1.0 / 3.0);
    assert_int_equal(f.class_count, 2);
    assert_string_equal(network_facts_class(&f, 0), "caf\xc3\xa9, Kaffee");
    char *pictures = network_facts_pictures(&f), *classes = network_facts_classes(&f);
    assert_int_equal(network_facts_parse(&again, "x", pictures, classes), 0);
    assert_memory_equal(f.mean, again.mean, sizeof f.mean);
    assert_memory_equal(f.deviation, again.deviation, sizeof f.deviation);
    assert_true(json_equal(f.classes, again.classes));
    free(pictures);
    free(classes);
    network_facts_free(&f);
    network_facts_free(&again);
}

static void it_refuses_what_makes_no_sense(void **state)
{
    static const char CLASSES[] = "[\"a\"]", BAD_PICTURES[] = "x.h5: its \"pictures\"",
                      BAD_CLASSES[] = "x.h5: its \"classes\"";
    static const struct {
        const char *pictures, *classes, *says;
    } cases[] = {
        {"", CLASSES, BAD_PICTURES},
        {"[]", CLASSES, BAD_PICTURES},
        {"{\"height\":0,\"width\":32,\"mean\":[0,0,0],\"deviation\":[1,1,1]}", CLASSES,
         BAD_PICTURES},
        {"{\"height\":64,\"width\":65537,\"mean\":[0,0,0],\"deviation\":[1,1,1]}", CLASSES,
         BAD_PICTURES},
        {"{\"height\":64,\"width\":32,\"mean\":[0,0],\"deviation\":[1,1,1]}", CLASSES,
         BAD_PICTURES},
        {"{\"height\":64,\"width\":32,\"mean\":[0,0,\"0\"],\"deviation\":[1,1,1]}", CLASSES,
         BAD_PICTURES},
        {"{\"height\":64,\"width\":32,\"mean\":[0,0,0],\"deviation\":[1,0,1]}", CLASSES,
         BAD_PICTURES},
        {"{\"height\":64,\"width\":32,\"mean\":[0,0,0]}", CLASSES, BAD_PICTURES},
        {PICTURES, "", BAD_CLASSES},
        {PICTURES, "{}", BAD_CLASSES},
        {PICTURES, "[]", BAD_CLASSES},
        {PICTURES, "[\"a\",2]", BAD_CLASSES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network_facts f;
        assert_int_equal(network_facts_parse(&f, "x.h5", cases[i].pictures, cases[i].classes),
                         RETORT_INPUT);
        assert_true(SAID(*state, cases[i].says));
        assert_null(f.classes);
    }
}

// Two classes, of which one has a name that is no text.
static void make_dataset(const char *path, uint8_t shade)
{
    static const char *const ids[2] = {"a", "b"}, *const names[2] = {"ape", "\xff\xfe"};
    struct dataset_header header = {.count = {COUNT, COUNT},
                                    .height = SIDE,
                                    .width = SIDE,
                                    .class_count = 2,
                                    .class_ids = ids,
                                    .class_names = names,
                                    .source = "test"};
    struct dataset_writer *w;
    static uint8_t pixels[COUNT * PIXELS];
    const int32_t labels[COUNT] = {0, 1, 0, 1, 0, 1, 0, 1};
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * shade);
    assert_int_equal(dataset_writer_create(&w, path, &header), 0);
    for (int s = 0; s < SPLIT_COUNT; s++)
        assert_int_equal(dataset_writer_put(w, (enum dataset_split)s, 0, COUNT, pixels, labels), 0);
    assert_int_equal(dataset_writer_commit(&w), 0);
}

static char *recipe_naming(const char *data)
{
    static struct recipe r;
    char *text;
    recipe_defaults(&r);
    strncpy(r.data.path, data, sizeof r.data.path - 1);
    assert_int_equal(recipe_to_text(&r, &text), 0);
    return text;
}

static void the_first_checkpoints_ask_their_data_set(void **state)
{
    const char *data = scratch_path(*state, "d.h5");
    struct dataset d;
    struct network_facts f;
    make_dataset(data, 3);
    assert_int_equal(dataset_open(&d, data), 0);
    struct checkpoint c = {.recipe = recipe_naming(data), .dataset = d.fingerprint};
    assert_int_equal(network_facts_of_checkpoint(&f, &c, "c.h5"), RETORT_OK);
    assert_int_equal(f.height, SIDE);
    assert_memory_equal(f.mean, d.mean, sizeof f.mean);
    assert_memory_equal(f.deviation, d.deviation, sizeof f.deviation);
    assert_string_equal(network_facts_class(&f, 0), "ape");
    assert_string_equal(network_facts_class(&f, 1), "class 1");
    network_facts_free(&f);

    make_dataset(data, 5); // another one in its place
    assert_int_equal(network_facts_of_checkpoint(&f, &c, "c.h5"), RETORT_INPUT);
    assert_true(SAID(*state, data, "c.h5", "is not the data set"));
    dataset_close(&d);
    free(c.recipe);
    c.recipe = recipe_naming("/nowhere/d.h5");
    assert_int_equal(network_facts_of_checkpoint(&f, &c, "c.h5"), RETORT_INPUT);
    assert_true(SAID(*state, "c.h5", "/nowhere/d.h5", "is not there"));
    free(c.recipe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_keeps_numbers_to_the_last_bit),
        cmocka_unit_test_setup_teardown(it_refuses_what_makes_no_sense, scratch_setup,
                                        scratch_teardown),
        cmocka_unit_test_setup_teardown(the_first_checkpoints_ask_their_data_set, scratch_setup,
                                        scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
