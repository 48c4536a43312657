// Graphs of operations, the engines that could run them, and plans.
//
// Engine 0 adds in order. Engine 1 has a knob, in how many parts it adds, and takes f32 as tensor
// cores do. Engine 2 is offered and refused. Engine 3 wants a gigabyte of workspace. Engine 4 adds
// in another order every other time. So whoever chooses plans has to look at notes, workspaces and
// refusals, and whoever wants the same bits to keep engine and knobs.

#include <algorithm>
#include <set>

#include "../fault.h"
#include "../runtime/memory.h"
#include "../runtime/stream.h"
#include "ops.h"

namespace softgpu
{

namespace
{

enum { ENGINES = 5, REFUSED = 2, NONDETERMINISTIC = 4 };
const cudnnBackendKnobType_t KNOB = CUDNN_KNOB_TYPE_SPLIT_K_SLC;
enum { KNOB_MIN = 1, KNOB_MAX = 8 };
const int64_t WORKSPACES[ENGINES] = {0, 16 << 20, 0, 1 << 30, 16 << 20};

// ---- graphs

std::vector<DescRef> graph_operations(const Desc &graph)
{
    return graph.refs(CUDNN_ATTR_OPERATIONGRAPH_OPS);
}

// The operations in an order in which each runs after those whose results it reads.
std::vector<DescRef> graph_sorted(const Desc &graph)
{
    std::vector<DescRef> left = graph_operations(graph), sorted;
    std::set<int64_t> missing; // tensors that an operation still to come writes
    for (const DescRef &op : left)
        for (const Tensor &tensor : operation_writes(*op))
            missing.insert(tensor.id);
    while (!left.empty()) {
        auto ready = std::find_if(left.begin(), left.end(), [&](const DescRef &op) {
            for (const Tensor &tensor : operation_reads(*op))
                if (missing.count(tensor.id) != 0)
                    return false;
            return true;
        });
        if (ready == left.end())
            throw Refusal(CUDNN_STATUS_BAD_PARAM, "the graph's operations wait for each other");
        for (const Tensor &tensor : operation_writes(**ready))
            missing.erase(tensor.id);
        sorted.push_back(*ready);
        left.erase(ready);
    }
    return sorted;
}

// Every tensor once, and whether an operation writes it.
struct Use {
    Tensor tensor;
    bool written;
};

std::map<int64_t, Use> graph_tensors(const Desc &graph)
{
    std::map<int64_t, Use> uses;
    for (const DescRef &op : graph_operations(graph)) {
        for (const Tensor &tensor : operation_reads(*op)) {
            auto [it, fresh] = uses.insert({tensor.id, {tensor, false}});
            if (!fresh && it->second.tensor.dims != tensor.dims)
                shapes_refuse("two tensors of one id", {it->second.tensor, tensor});
        }
        for (const Tensor &tensor : operation_writes(*op)) {
            auto [it, fresh] = uses.insert({tensor.id, {tensor, true}});
            if (!fresh && it->second.written)
                throw Refusal(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES,
                              text("tensor %ld is written twice", tensor.id));
            it->second.written = true;
        }
    }
    return uses;
}

// ---- engines

DescRef desc_new(cudnnBackendDescriptorType_t type)
{
    return std::make_shared<Desc>(Desc{type, true, {}});
}

void set_integer(Desc *desc, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                 int64_t v)
{
    int narrow = static_cast<int>(v);
    desc->set(name, type, 1,
              type == CUDNN_TYPE_INT64 ? static_cast<void *>(&v) : static_cast<void *>(&narrow));
}

void set_ref(Desc *desc, cudnnBackendAttributeName_t name, const DescRef &ref)
{
    desc->values[name] = {CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {ref}};
}

DescRef config_new(const DescRef &graph, int64_t index, int64_t knob)
{
    DescRef engine = desc_new(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    set_ref(engine.get(), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set_integer(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, index);
    DescRef config = desc_new(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_ref(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (knob > 0) {
        DescRef choice = desc_new(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set_integer(choice.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, KNOB);
        set_integer(choice.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, knob);
        set_ref(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, choice);
    }
    return config;
}

int64_t engine_index(const Desc &config)
{
    return config.ref(CUDNN_ATTR_ENGINECFG_ENGINE)->integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
}

const Desc &config_graph(const Desc &config)
{
    return *config.ref(CUDNN_ATTR_ENGINECFG_ENGINE)->ref(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
}

int config_knob(const Desc &config)
{
    int value = KNOB_MIN;
    for (const DescRef &choice : config.refs(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
        int64_t type = choice->integer(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
        value = static_cast<int>(choice->integer(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
        if (engine_index(config) != 1 || type != KNOB || value < KNOB_MIN || value > KNOB_MAX)
            throw Refusal(CUDNN_STATUS_BAD_PARAM,
                          text("engine %ld has no knob %ld, or it does not go to %d",
                               engine_index(config), type, value));
    }
    return value;
}

// ---- a run

// Tensors while a graph runs: read from memory when first needed, written back at the end.
class Run : public Env
{
  public:
    Run(const std::map<int64_t, void *> &where, const std::map<int64_t, Values> &given)
        : where_(where), values_(given)
    {
    }
    const Values &get(const Tensor &tensor) override
    {
        auto it = values_.find(tensor.id);
        if (it == values_.end())
            it = values_.emplace(tensor.id, tensor_load(tensor, where_.at(tensor.id))).first;
        return it->second;
    }
    void put(const Tensor &tensor, Values values) override
    {
        for (float &v : values)
            v = type_round(tensor.type, v);
        values_[tensor.id] = std::move(values);
        if (!tensor.is_virtual)
            written_.push_back(tensor);
    }
    void write_back()
    {
        for (const Tensor &tensor : written_)
            tensor_store(tensor, values_.at(tensor.id), where_.at(tensor.id));
    }

  private:
    const std::map<int64_t, void *> &where_;
    std::map<int64_t, Values> values_;
    std::vector<Tensor> written_;
};

struct Plan {
    std::vector<DescRef> operations; // sorted
    std::vector<Use> tensors;        // that are in memory
    int64_t index, workspace_bytes;
    int parts;
};

// What a plan is given to run with.
struct Pack {
    std::map<int64_t, void *> where;
    std::map<int64_t, Values> given; // of tensors by value: they are read when the call is made
    void *workspace;
};

Plan plan_of(const Desc &plan)
{
    const Desc &config = *plan.ref(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    Plan out = {graph_sorted(config_graph(config)),
                {},
                engine_index(config),
                plan.integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE),
                config_knob(config)};
    for (const auto &[id, use] : graph_tensors(config_graph(config)))
        if (!use.tensor.is_virtual)
            out.tensors.push_back(use);
    return out;
}

bool memory_fits(const Plan &plan, const Pack &pack)
{
    for (const Use &use : plan.tensors)
        if (!use.tensor.by_value &&
            !memory_check(pack.where.at(use.tensor.id), use.tensor.bytes(),
                          text("cudnnBackendExecute: tensor %ld", use.tensor.id)))
            return false;
    return memory_check(pack.workspace, static_cast<size_t>(plan.workspace_bytes),
                        "cudnnBackendExecute: workspace");
}

// A workspace holds nothing that outlives the plan: what lies there is gone, at both ends.
void workspace_spoil(void *workspace, int64_t bytes)
{
    int64_t edge = std::min<int64_t>(bytes, 4096);
    char *p = static_cast<char *>(workspace);
    std::fill_n(p, edge, static_cast<char>(0xff));
    std::fill_n(p + bytes - edge, edge, static_cast<char>(0xff));
}

void plan_run(const Plan &plan, const Pack &pack)
{
    static bool turn;
    if (!memory_fits(plan, pack))
        return;
    if (plan.workspace_bytes > 0)
        workspace_spoil(pack.workspace, plan.workspace_bytes);
    Run run(pack.where, pack.given);
    run.order = {plan.parts, plan.index == 3, plan.index == 1};
    if (plan.index == NONDETERMINISTIC)
        run.order = {(turn = !turn) ? 3 : 5, turn, false};
    for (const DescRef &op : plan.operations)
        operation_run(*op, run);
    run.write_back();
}

std::map<int64_t, void *> pack_pointers(const Desc &pack)
{
    std::vector<int64_t> ids = pack.integers(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    std::vector<void *> pointers = pack.pointers(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (ids.size() != pointers.size())
        throw Refusal(CUDNN_STATUS_BAD_PARAM,
                      text("variant pack: %zu ids, %zu pointers", ids.size(), pointers.size()));
    std::map<int64_t, void *> where;
    for (size_t i = 0; i < ids.size(); i++)
        where[ids[i]] = pointers[i];
    return where;
}

Pack pack_of(const Desc &desc, const Plan &plan)
{
    Pack pack = {pack_pointers(desc), {}, nullptr};
    std::vector<void *> workspace = desc.pointers(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    if (!workspace.empty())
        pack.workspace = workspace[0];
    if (plan.workspace_bytes > 0 && pack.workspace == nullptr)
        throw Refusal(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the plan needs a workspace");
    for (const Use &use : plan.tensors) {
        const Tensor &tensor = use.tensor;
        void *p = pack.where[tensor.id];
        if (p == nullptr)
            throw Refusal(CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
                          text("variant pack: no pointer for tensor %ld", tensor.id));
        if (tensor.by_value)
            pack.given[tensor.id] = tensor_load(tensor, p);
        else if (reinterpret_cast<uintptr_t>(p) % tensor.alignment != 0)
            throw Refusal(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER,
                          text("variant pack: tensor %ld is not aligned to %ld bytes", tensor.id,
                               tensor.alignment));
    }
    return pack;
}

} // namespace

void graph_finalize(const Desc &desc)
{
    graph_sorted(desc);
    for (const auto &[id, use] : graph_tensors(desc))
        if (use.tensor.is_virtual && !use.written)
            throw Refusal(CUDNN_STATUS_BAD_PARAM,
                          text("virtual tensor %ld is read, but nothing writes it", id));
}

void heuristics_finalize(const Desc &desc)
{
    if (desc.ref(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)->type !=
        CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
        throw Refusal(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "a graph is expected");
}

std::vector<DescRef> heuristics_results(const Desc &desc)
{
    const DescRef &graph = desc.ref(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    switch (desc.integer(CUDNN_ATTR_ENGINEHEUR_MODE)) {
    case CUDNN_HEUR_MODE_FALLBACK:
        return {config_new(graph, 0, 0)};
    case CUDNN_HEUR_MODE_B:
        return {config_new(graph, NONDETERMINISTIC, 0), config_new(graph, 3, 0),
                config_new(graph, 1, 4)};
    default:
        return {config_new(graph, REFUSED, 0), config_new(graph, 1, 2),
                config_new(graph, NONDETERMINISTIC, 0)};
    }
}

void engine_finalize(const Desc &desc)
{
    int64_t index = desc.integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (index < 0 || index >= ENGINES)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, text("there is no engine %ld", index));
}

std::vector<int64_t> engine_notes(const Desc &engine)
{
    int64_t index = engine.integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (index == 1)
        return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS};
    if (index == NONDETERMINISTIC)
        return {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    return {};
}

std::vector<DescRef> engine_knobs(const Desc &engine)
{
    if (engine.integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX) != 1)
        return {};
    DescRef knob = desc_new(CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR);
    set_integer(knob.get(), CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, KNOB);
    set_integer(knob.get(), CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, CUDNN_TYPE_INT64, KNOB_MIN);
    set_integer(knob.get(), CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, CUDNN_TYPE_INT64, KNOB_MAX);
    set_integer(knob.get(), CUDNN_ATTR_KNOB_INFO_STRIDE, CUDNN_TYPE_INT64, 1);
    return {knob};
}

void plan_finalize(Desc *desc)
{
    const Desc &config = *desc->ref(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    int64_t index = engine_index(config);
    if (index == REFUSED)
        throw Refusal(CUDNN_STATUS_NOT_SUPPORTED, "engine 2 does not run this graph");
    config_knob(config);
    set_integer(desc, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                WORKSPACES[index]);
}

cudnnStatus_t plan_execute(const Desc &desc, const Desc &pack, cudaStream_t stream)
{
    if (!desc.finalized || !pack.finalized)
        throw Refusal(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan or variant pack");
    auto plan = std::make_shared<const Plan>(plan_of(desc));
    auto with = std::make_shared<const Pack>(pack_of(pack, *plan));
    cudaError_t rc = api("cudnnBackendExecute's queueing", [&] {
        return submit(stream, operation("cudnnBackendExecute", [=] { plan_run(*plan, *with); }));
    });
    return rc == cudaSuccess ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED_CUDART;
}

} // namespace softgpu
