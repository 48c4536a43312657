#include "models/cuda/dnn_desc.h"

#include <string.h>

// Its line breaks would break ours.
const char *dnn_last_error(void)
{
    static _Thread_local char text[512];
    text[0] = '\0';
    cudnnGetLastErrorString(text, sizeof(text));
    for (char *p = text; *p != '\0'; p++)
        if (*p == '\n')
            *p = ' ';
    return text;
}

int dnn_desc_create(dnn_desc *out, cudnnBackendDescriptorType_t type)
{
    *out = NULL;
    if (cudnnBackendCreateDescriptor(type, out) != CUDNN_STATUS_SUCCESS)
        return FAIL(RETORT_FAILED, "cuDNN makes no descriptor of type %d: %s", (int)type,
                    dnn_last_error());
    return RETORT_OK;
}

void dnn_desc_destroy(dnn_desc *d)
{
    if (*d != NULL)
        (void)cudnnBackendDestroyDescriptor(*d);
    *d = NULL;
}

int dnn_set(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
            int64_t count, const void *values)
{
    if (cudnnBackendSetAttribute(d, name, type, count, values) != CUDNN_STATUS_SUCCESS)
        return FAIL(RETORT_FAILED, "cuDNN refuses attribute %d: %s", (int)name, dnn_last_error());
    return RETORT_OK;
}

int dnn_set_enum(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                 int value)
{
    return dnn_set(d, name, type, 1, &value);
}

int dnn_set_ints(dnn_desc d, cudnnBackendAttributeName_t name, int64_t count, const int64_t *values)
{
    return dnn_set(d, name, CUDNN_TYPE_INT64, count, values);
}

int dnn_set_float(dnn_desc d, cudnnBackendAttributeName_t name, float value)
{
    return dnn_set(d, name, CUDNN_TYPE_FLOAT, 1, &value);
}

int dnn_set_descs(dnn_desc d, cudnnBackendAttributeName_t name, int64_t count,
                  const dnn_desc *values)
{
    return dnn_set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, values);
}

int dnn_set_handle(dnn_desc d, cudnnBackendAttributeName_t name, cudnnHandle_t handle)
{
    return dnn_set(d, name, CUDNN_TYPE_HANDLE, 1, (const void *)&handle);
}

int dnn_finalize(dnn_desc d)
{
    if (cudnnBackendFinalize(d) != CUDNN_STATUS_SUCCESS)
        return FAIL(RETORT_FAILED, "cuDNN refuses a descriptor: %s", dnn_last_error());
    return RETORT_OK;
}

bool dnn_get(dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             void *out)
{
    int64_t count = 0;
    return cudnnBackendGetAttribute(d, name, type, 1, &count, out) == CUDNN_STATUS_SUCCESS &&
           count > 0;
}
