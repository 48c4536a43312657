#pragma once
// cuDNN's backend descriptors: a type and its attributes, checked against the table of what each
// type has.

#include <cudnn_backend.h>

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace softgpu
{

struct Desc;
using DescRef = std::shared_ptr<Desc>; // a descriptor outlives its Destroy while a parent holds it

struct Value {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<char> bytes;   // of plain values
    std::vector<DescRef> refs; // of CUDNN_TYPE_BACKEND_DESCRIPTOR
};

struct Desc {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    std::map<int, Value> values; // by attribute

    bool has(cudnnBackendAttributeName_t name) const;
    // CUDNN_TYPE_INT64 and every enumeration; booleans are one byte
    int64_t integer(cudnnBackendAttributeName_t name, int64_t otherwise = 0) const;
    std::vector<int64_t> integers(cudnnBackendAttributeName_t name) const;
    double number(cudnnBackendAttributeName_t name, double otherwise) const; // float or double
    std::vector<void *> pointers(cudnnBackendAttributeName_t name) const;
    const DescRef &ref(cudnnBackendAttributeName_t name) const; // which there is
    std::vector<DescRef> refs(cudnnBackendAttributeName_t name) const;

    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t value_type,
             int64_t count, const void *elements);
};

// What a call that is refused throws: its status, and the text of cudnnGetLastErrorString.
struct Refusal : std::runtime_error {
    cudnnStatus_t status;
    Refusal(cudnnStatus_t code, const std::string &what) : std::runtime_error(what), status(code)
    {
    }
};

// Checks of a descriptor that has all its required attributes; throw a Refusal.
void tensor_finalize(const Desc &desc);
void operation_finalize(const Desc &desc); // operations, and what they are described by
void graph_finalize(const Desc &desc);
void heuristics_finalize(const Desc &desc);
void engine_finalize(const Desc &desc);
void plan_finalize(Desc *desc);

// Attributes that nobody sets: filled in by whoever asks.
// The configurations that the heuristics offer, best first.
std::vector<DescRef> heuristics_results(const Desc &desc);
std::vector<int64_t> engine_notes(const Desc &engine);
std::vector<DescRef> engine_knobs(const Desc &engine);

cudnnStatus_t plan_execute(const Desc &plan, const Desc &pack, cudaStream_t stream);

} // namespace softgpu
