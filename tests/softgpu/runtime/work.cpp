#include "work.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <list>
#include <map>
#include <random>
#include <thread>

#include "../fault.h"
#include "../settings.h"
#include "memory.h"

namespace softgpu
{

namespace
{

std::mutex mutex; // held while an API call runs
thread_local cudaError_t last_error = cudaSuccess;

std::list<NodeRef> pending; // in the order of queueing: needs come before who needs them
std::mt19937_64 dice;
std::map<const void *, bool> ahead; // the random policy's streams

bool ready(const Node &node)
{
    return std::all_of(node.needs.begin(), node.needs.end(),
                       [](const NodeRef &need) { return need->done; });
}

// Whether it is done now.
bool node_run(Node &node)
{
    if (!node.step)
        node.step = node.operation.start();
    if (fault_sticky() == cudaSuccess) { // else the device does nothing any more
        if (node.operation.outside) {
            if (!node.step())
                return false;
        } else {
            MemoryOpen open;
            if (!node.step())
                return false;
        }
    }
    if (settings.trace)
        fprintf(stderr, "softgpu: stream %p: %s\n", node.stream, node.operation.what.c_str());
    node.done = true;
    node.done_ms = clock_ms();
    node.step = nullptr;
    node.operation.start = nullptr;
    node.needs.clear();
    return true;
}

void want(const NodeRefs &targets)
{
    NodeRefs open = targets;
    while (!open.empty()) {
        NodeRef node = open.back();
        open.pop_back();
        if (!node || node->done || node->wanted)
            continue;
        node->wanted = true;
        open.insert(open.end(), node->needs.begin(), node->needs.end());
    }
}

// Runs what can run among the nodes that `chosen` picks, until none can; at most `limit`. With the
// random policy the streams take turns at random.
int run_some(const std::function<bool(const Node &)> &chosen, int limit)
{
    int ran = 0;
    bool progress = true;
    while (progress && ran < limit) {
        progress = false;
        std::vector<std::list<NodeRef>::iterator> now;
        for (auto it = pending.begin(); it != pending.end(); ++it)
            if (chosen(**it) && ready(**it))
                now.push_back(it);
        if (settings.policy == SOFTGPU_RANDOM)
            std::shuffle(now.begin(), now.end(), dice);
        for (auto it : now) {
            if (ran == limit || !node_run(**it))
                continue;
            pending.erase(it);
            progress = true;
            ran++;
            if (settings.policy == SOFTGPU_RANDOM)
                break; // others may be ready now: throw the dice again
        }
    }
    return ran;
}

bool all_done(const NodeRefs &targets)
{
    return std::all_of(targets.begin(), targets.end(),
                       [](const NodeRef &node) { return !node || node->done; });
}

// What the policy runs on its own after work was queued.
void policy_run()
{
    if (settings.policy == SOFTGPU_EAGER)
        run_some([](const Node &) { return true; }, INT32_MAX);
    if (settings.policy != SOFTGPU_RANDOM)
        return;
    for (const NodeRef &node : pending)
        ahead.emplace(node->stream, dice() % 2 != 0);
    for (auto &[stream, is_ahead] : ahead)
        if (dice() % 8 == 0)
            is_ahead = !is_ahead;
    run_some([](const Node &node) { return ahead.at(node.stream); }, static_cast<int>(dice() % 8));
}

} // namespace

Operation operation(const std::string &what, std::function<void()> run)
{
    auto start = [run] {
        return [run] {
            run();
            return true;
        };
    };
    return {what, start};
}

NodeRef work_queue(Operation operation, NodeRefs needs, const void *stream)
{
    auto node = std::make_shared<Node>();
    node->operation = std::move(operation);
    node->stream = stream;
    node->queued_ms = clock_ms();
    for (NodeRef &need : needs)
        if (need && !need->done)
            node->needs.push_back(std::move(need));
    pending.push_back(node);
    policy_run();
    return node;
}

void work_finish(const NodeRefs &targets)
{
    want(targets);
    while (!all_done(targets)) {
        if (run_some([](const Node &node) { return node.wanted; }, INT32_MAX) > 0)
            continue;
        // Another process is awaited; another thread may have something to say meanwhile.
        mutex.unlock();
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        mutex.lock();
    }
}

bool work_poll(const NodeRefs &targets)
{
    if (all_done(targets))
        return true;
    want(targets);
    if (run_some([](const Node &node) { return node.wanted; }, 1) == 0)
        std::this_thread::sleep_for(std::chrono::microseconds(20)); // polled in a loop
    return false;
}

NodeRefs work_all()
{
    return {pending.begin(), pending.end()};
}

void work_remote(double older_than_ms)
{
    double now = clock_ms();
    NodeRefs due;
    for (const NodeRef &node : pending)
        if (node->operation.remote && now - node->queued_ms >= older_than_ms)
            due.push_back(node);
    want(due);
    if (!due.empty())
        run_some([](const Node &node) { return node.wanted; }, INT32_MAX);
}

void work_drop()
{
    pending.clear();
    ahead.clear();
    dice.seed(settings.policy_seed);
}

double clock_ms()
{
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

cudaError_t api(const char *name, const std::function<cudaError_t()> &body)
{
    std::lock_guard<std::mutex> lock(mutex);
    cudaError_t rc = fault_sticky();
    if (rc == cudaSuccess)
        rc = static_cast<cudaError_t>(injected(name));
    if (rc == cudaSuccess)
        rc = body();
    if (rc == cudaSuccess)
        rc = fault_sticky();
    if (rc != cudaSuccess && rc != cudaErrorNotReady)
        last_error = rc;
    return rc;
}

void locked(const std::function<void()> &body)
{
    std::lock_guard<std::mutex> lock(mutex);
    body();
}

cudaError_t last_error_take(bool clear)
{
    cudaError_t rc = last_error;
    if (clear)
        last_error = fault_sticky();
    return rc;
}

} // namespace softgpu

using namespace softgpu;

void softgpu_set_policy(enum softgpu_policy policy, uint64_t seed)
{
    settings.policy = policy;
    settings.policy_seed = seed;
    dice.seed(seed);
}
