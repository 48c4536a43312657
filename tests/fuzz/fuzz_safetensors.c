// A safetensors file: any bytes are refused with one line, or tensors that lie in them.

#include <string.h>

#include "base/error.h"
#include "data/safetensors.h"
#include "tests/fuzz/fuzz.h"

static void check_tensor(const struct safetensors *s, const struct safetensor *t,
                         const uint8_t *data, size_t bytes)
{
    const uint8_t *at = t->data;
    size_t wanted = safetensors_type_bytes(t->type);
    CHECK(t->type < SAFETENSORS_TYPES && t->rank >= 0 && t->rank <= SAFETENSORS_RANK);
    for (int i = 0; i < t->rank; i++) {
        CHECK(t->shape[i] >= 0);
        wanted *= (size_t)t->shape[i];
    }
    CHECK(t->bytes == wanted && at >= data && at <= data + bytes);
    CHECK(t->bytes <= (size_t)(data + bytes - at));
    CHECK(safetensors_find(s, t->name) == t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct safetensors s;
    size_t sum = 0;
    int rc = safetensors_parse(&s, data, bytes, "model.safetensors");
    fuzz_expect(rc, RETORT_INPUT);
    if (rc != RETORT_OK)
        return 0;
    for (size_t i = 0; i < s.count; i++) {
        check_tensor(&s, &s.tensors[i], data, bytes);
        sum += s.tensors[i].bytes;
    }
    CHECK(sum < bytes);
    const char *text = safetensors_text(&s, "format");
    CHECK(!text || strlen(text) < bytes);
    safetensors_free(&s);
    return 0;
}
