#include "desc.h"

#include <algorithm>
#include <cstring>

#include "../fault.h"
#include "../settings.h"

struct cudnnContext {
    cudaStream_t stream;
};

namespace softgpu
{

namespace
{

// One attribute of a descriptor type.
struct Slot {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count; // at most
    bool required;
};
using Slots = std::vector<Slot>;

enum : int64_t { DIMS = 8, MANY = 4096 };
const cudnnBackendAttributeType_t REF = CUDNN_TYPE_BACKEND_DESCRIPTOR, INT = CUDNN_TYPE_INT64,
                                  REAL = CUDNN_TYPE_FLOAT; // REAL: or CUDNN_TYPE_DOUBLE

Slots convolution_slots(int first, const int (&tensors)[3])
{
    return {{static_cast<cudnnBackendAttributeName_t>(first), REAL, 1, false},
            {static_cast<cudnnBackendAttributeName_t>(first + 1), REAL, 1, false},
            {static_cast<cudnnBackendAttributeName_t>(first + 2), REF, 1, true},
            {static_cast<cudnnBackendAttributeName_t>(tensors[0]), REF, 1, true},
            {static_cast<cudnnBackendAttributeName_t>(tensors[1]), REF, 1, true},
            {static_cast<cudnnBackendAttributeName_t>(tensors[2]), REF, 1, true}};
}

// What each type has.
const std::map<int, Slots> SCHEMA = {
    {CUDNN_BACKEND_TENSOR_DESCRIPTOR,
     {{CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_TENSOR_DIMENSIONS, INT, DIMS, true},
      {CUDNN_ATTR_TENSOR_STRIDES, INT, DIMS, true},
      {CUDNN_ATTR_TENSOR_UNIQUE_ID, INT, 1, true},
      {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, INT, 1, true},
      {CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, false},
      {CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, false}}},
    {CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
     {{CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, true},
      {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, INT, 1, true},
      {CUDNN_ATTR_CONVOLUTION_DILATIONS, INT, DIMS, true},
      {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, INT, DIMS, true},
      {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, INT, DIMS, true},
      {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, INT, DIMS, true}}},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
     convolution_slots(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                       {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y})},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
     convolution_slots(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                       {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX})},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
     convolution_slots(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                       {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW})},
    {CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
     {{CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, true},
      {CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, REAL, 1, false},
      {CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, REAL, 1, false},
      {CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, REAL, 1, false},
      {CUDNN_ATTR_POINTWISE_ELU_ALPHA, REAL, 1, false},
      {CUDNN_ATTR_POINTWISE_SWISH_BETA, REAL, 1, false}}},
    {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, REF, 1, true},
      {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_TDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, REF, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1, REAL, 1, false},
      {CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2, REAL, 1, false}}},
    {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, true},
      {CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_OPERATION_GENSTATS_XDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, REF, 1, true}}},
    {CUDNN_BACKEND_REDUCTION_DESCRIPTOR,
     {{CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, true},
      {CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, CUDNN_TYPE_BOOLEAN, 1, false}}},
    {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_REDUCTION_DESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_REDUCTION_XDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_REDUCTION_YDESC, REF, 1, true}}},
    {CUDNN_BACKEND_MATMUL_DESCRIPTOR,
     {{CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, true}}},
    {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_MATMUL_DESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_MATMUL_ADESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_MATMUL_BDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_MATMUL_CDESC, REF, 1, true}}},
    {CUDNN_BACKEND_RESAMPLE_DESCRIPTOR,
     {{CUDNN_ATTR_RESAMPLE_MODE, CUDNN_TYPE_RESAMPLE_MODE, 1, true},
      {CUDNN_ATTR_RESAMPLE_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, true},
      {CUDNN_ATTR_RESAMPLE_PADDING_MODE, CUDNN_TYPE_PADDING_MODE, 1, true},
      {CUDNN_ATTR_RESAMPLE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, false},
      {CUDNN_ATTR_RESAMPLE_SPATIAL_DIMS, INT, 1, true},
      {CUDNN_ATTR_RESAMPLE_WINDOW_DIMS, INT, DIMS, true},
      {CUDNN_ATTR_RESAMPLE_STRIDES, INT, DIMS, true},
      {CUDNN_ATTR_RESAMPLE_PRE_PADDINGS, INT, DIMS, true},
      {CUDNN_ATTR_RESAMPLE_POST_PADDINGS, INT, DIMS, true}}},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_RESAMPLE_FWD_DESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_RESAMPLE_FWD_XDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_RESAMPLE_FWD_YDESC, REF, 1, true}}},
    {CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DXDESC, REF, 1, true},
      {CUDNN_ATTR_OPERATION_RESAMPLE_BWD_DYDESC, REF, 1, true}}},
    {CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
     {{CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, false},
      {CUDNN_ATTR_OPERATIONGRAPH_OPS, REF, MANY, true},
      {CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, INT, 1, false}}},
    {CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
     {{CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, REF, 1, true},
      {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, true},
      {CUDNN_ATTR_ENGINEHEUR_RESULTS, REF, MANY, false}}},
    {CUDNN_BACKEND_ENGINE_DESCRIPTOR,
     {{CUDNN_ATTR_ENGINE_OPERATION_GRAPH, REF, 1, true},
      {CUDNN_ATTR_ENGINE_GLOBAL_INDEX, INT, 1, true},
      {CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, MANY, false},
      {CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, MANY, false},
      {CUDNN_ATTR_ENGINE_KNOB_INFO, REF, MANY, false}}},
    {CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR,
     {{CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, false},
      {CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, INT, 1, false},
      {CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, INT, 1, false},
      {CUDNN_ATTR_KNOB_INFO_STRIDE, INT, 1, false}}},
    {CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
     {{CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, true},
      {CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, INT, 1, true}}},
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
     {{CUDNN_ATTR_ENGINECFG_ENGINE, REF, 1, true},
      {CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, REF, MANY, false}}},
    {CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
     {{CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, false},
      {CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, REF, 1, true},
      {CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, INT, 1, false}}},
    {CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
     {{CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, INT, MANY, true},
      {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, MANY, true},
      {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, false}}},
};

const Slot &slot_of(const Desc &desc, cudnnBackendAttributeName_t name,
                    cudnnBackendAttributeType_t type)
{
    for (const Slot &slot : SCHEMA.at(desc.type)) {
        if (slot.name != name)
            continue;
        if (slot.type != type && !(slot.type == REAL && type == CUDNN_TYPE_DOUBLE))
            throw Refusal(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
                          text("attribute %d takes type %d, not %d", name, slot.type, type));
        return slot;
    }
    throw Refusal(CUDNN_STATUS_BAD_PARAM,
                  text("descriptors of type %d have no attribute %d", desc.type, name));
}

size_t element_bytes(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
        return 8;
    default:
        return 4; // float, and the enumerations
    }
}

DescRef &deref(cudnnBackendDescriptor_t handle)
{
    if (handle == nullptr)
        throw Refusal(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a descriptor is NULL");
    return *static_cast<DescRef *>(handle);
}

void finalize(Desc *desc)
{
    for (const Slot &slot : SCHEMA.at(desc->type))
        if (slot.required && !desc->has(slot.name))
            throw Refusal(CUDNN_STATUS_BAD_PARAM, text("descriptor of type %d: attribute %d is "
                                                       "missing",
                                                       desc->type, slot.name));
    if (desc->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        tensor_finalize(*desc);
    else if (desc->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
        graph_finalize(*desc);
    else if (desc->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
        heuristics_finalize(*desc);
    else if (desc->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR)
        engine_finalize(*desc);
    else if (desc->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        plan_finalize(desc);
    else
        operation_finalize(*desc);
    desc->finalized = true;
}

void set(Desc *desc, const Slot &slot, cudnnBackendAttributeType_t type, int64_t count,
         const void *elements)
{
    if (desc->finalized)
        throw Refusal(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already");
    if (count < (slot.required ? 1 : 0) || count > slot.count || (count > 0 && !elements))
        throw Refusal(CUDNN_STATUS_BAD_PARAM, text("attribute %d takes 1 to %ld elements, not %ld",
                                                   slot.name, slot.count, count));
    if (type != REF)
        return desc->set(slot.name, type, count, elements);
    Value value = {type, count, {}, {}};
    for (int64_t i = 0; i < count; i++) {
        value.refs.push_back(deref(static_cast<cudnnBackendDescriptor_t const *>(elements)[i]));
        if (!value.refs.back()->finalized)
            throw Refusal(
                CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                text("attribute %d is given a descriptor that is not finalized", slot.name));
    }
    desc->values[slot.name] = value;
}

// Attributes that are the answer to a question.
std::vector<DescRef> asked_refs(const Desc &desc, cudnnBackendAttributeName_t name)
{
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS)
        return heuristics_results(desc);
    if (name == CUDNN_ATTR_ENGINE_KNOB_INFO)
        return engine_knobs(desc);
    return desc.refs(name);
}

void get_refs(const Desc &desc, cudnnBackendAttributeName_t name, int64_t asked, int64_t *count,
              void *out)
{
    std::vector<DescRef> refs = asked_refs(desc, name);
    int64_t there = static_cast<int64_t>(refs.size());
    if (count != nullptr)
        *count = asked > 0 ? std::min(asked, there) : there;
    for (int64_t i = 0; i < std::min(asked, there); i++) {
        Desc &to = *deref(static_cast<cudnnBackendDescriptor_t *>(out)[i]);
        if (to.type != refs[i]->type)
            throw Refusal(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                          text("element %ld is to be a descriptor of type %d", i, refs[i]->type));
        to = *refs[i];
    }
}

void get(const Desc &desc, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
         int64_t asked, int64_t *count, void *out)
{
    if (!desc.finalized)
        throw Refusal(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is not finalized");
    slot_of(desc, name, type);
    if (type == REF)
        return get_refs(desc, name, asked, count, out);
    Value value = {type, 0, {}, {}};
    if (desc.has(name))
        value = desc.values.at(name);
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)
        for (int64_t note : engine_notes(desc)) {
            int plain = static_cast<int>(note);
            value.bytes.insert(value.bytes.end(), reinterpret_cast<char *>(&plain),
                               reinterpret_cast<char *>(&plain + 1));
            value.count++;
        }
    int64_t given = std::min(asked, value.count);
    if (count != nullptr)
        *count = asked > 0 ? given : value.count;
    if (given > 0)
        memcpy(out, value.bytes.data(), static_cast<size_t>(given) * element_bytes(type));
}

thread_local std::string last_refusal;

// Every call runs its body in here.
template <typename Body> cudnnStatus_t call(const char *name, Body body)
{
    int code = injected(name);
    if (code != 0)
        return static_cast<cudnnStatus_t>(code);
    try {
        body();
    } catch (const Refusal &refusal) {
        last_refusal = std::string(name) + ": " + refusal.what();
        return refusal.status;
    }
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

bool Desc::has(cudnnBackendAttributeName_t name) const
{
    return values.count(name) != 0;
}

std::vector<int64_t> Desc::integers(cudnnBackendAttributeName_t name) const
{
    std::vector<int64_t> out;
    if (!has(name))
        return out;
    const Value &value = values.at(name);
    size_t bytes = element_bytes(value.type);
    for (int64_t i = 0; i < value.count; i++) {
        int64_t v = 0; // little-endian, and never negative unless it is 8 bytes long
        memcpy(&v, value.bytes.data() + i * bytes, bytes);
        out.push_back(v);
    }
    return out;
}

int64_t Desc::integer(cudnnBackendAttributeName_t name, int64_t otherwise) const
{
    return has(name) ? integers(name)[0] : otherwise;
}

double Desc::number(cudnnBackendAttributeName_t name, double otherwise) const
{
    if (!has(name))
        return otherwise;
    const Value &value = values.at(name);
    float f;
    double d;
    memcpy(&f, value.bytes.data(), sizeof(f));
    if (value.type == CUDNN_TYPE_FLOAT)
        return static_cast<double>(f);
    memcpy(&d, value.bytes.data(), sizeof(d));
    return d;
}

std::vector<void *> Desc::pointers(cudnnBackendAttributeName_t name) const
{
    std::vector<void *> out(has(name) ? values.at(name).count : 0);
    if (!out.empty())
        memcpy(out.data(), values.at(name).bytes.data(), out.size() * sizeof(void *));
    return out;
}

const DescRef &Desc::ref(cudnnBackendAttributeName_t name) const
{
    return values.at(name).refs.at(0);
}

std::vector<DescRef> Desc::refs(cudnnBackendAttributeName_t name) const
{
    return has(name) ? values.at(name).refs : std::vector<DescRef>();
}

void Desc::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t value_type,
               int64_t count, const void *elements)
{
    const char *bytes = static_cast<const char *>(elements);
    size_t size = static_cast<size_t>(count) * element_bytes(value_type);
    values[name] = {value_type, count, std::vector<char>(bytes, bytes + size), {}};
}

} // namespace softgpu

using namespace softgpu;

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out)
{
    return call("cudnnBackendCreateDescriptor", [&] {
        *out = nullptr;
        if (SCHEMA.count(type) == 0)
            throw Refusal(CUDNN_STATUS_NOT_SUPPORTED,
                          text("descriptors of type %d are not known here", type));
        *out = new DescRef(new Desc{type, false, {}});
    });
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    delete static_cast<DescRef *>(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    return call("cudnnBackendFinalize", [&] { finalize(deref(descriptor).get()); });
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *elements)
{
    return call("cudnnBackendSetAttribute", [&] {
        Desc *desc = deref(descriptor).get();
        set(desc, slot_of(*desc, name, type), type, count, elements);
    });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t asked,
                                       int64_t *count, void *out)
{
    return call("cudnnBackendGetAttribute",
                [&] { get(*deref(descriptor), name, type, asked, count, out); });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    return call("cudnnBackendExecute", [&] {
        cudnnStatus_t status = plan_execute(*deref(plan), *deref(pack), handle->stream);
        if (status != CUDNN_STATUS_SUCCESS)
            throw Refusal(status, "the plan could not be queued");
    });
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    return call("cudnnCreate", [&] { *out = new cudnnContext{nullptr}; });
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    *stream = handle->stream;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

size_t cudnnGetCudartVersion(void)
{
    return CUDART_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    static thread_local std::string name;
    name = status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS"
                                          : text("cuDNN status %d", static_cast<int>(status));
    return name.c_str();
}

void cudnnGetLastErrorString(char *message, size_t bytes)
{
    snprintf(message, bytes, "%s", last_refusal.c_str());
}
