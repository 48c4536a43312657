#pragma once
// Attributes of cuDNN's descriptors, one call each; for dnn_*.c.

#include "models/cuda/dnn.h"

int dnn_desc_create(dnn_desc *out, cudnnBackendDescriptorType_t type);
int dnn_set(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
            int64_t count, const void *values);
int dnn_set_enum(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                 int value);
int dnn_set_ints(dnn_desc d, cudnnBackendAttributeName_t name, int64_t count,
                 const int64_t *values);
int dnn_set_float(dnn_desc d, cudnnBackendAttributeName_t name, float value);
int dnn_set_descs(dnn_desc d, cudnnBackendAttributeName_t name, int64_t count,
                  const dnn_desc *values);
int dnn_set_handle(dnn_desc d, cudnnBackendAttributeName_t name, cudnnHandle_t handle);
int dnn_finalize(dnn_desc d);
// Element 0 of what the descriptor answers; false when there is none.
bool dnn_get(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             void *out);
// cuDNN's words for the last call that failed on this thread. Borrowed until the next such call.
const char *dnn_last_error(void);
