#include "block.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "fiber.h"
#include "race.h"
#include "settings.h"

// What kernels read; declared in device.h.
extern "C" {
#define INDICES __attribute__((section("softgpu_indices")))
INDICES uint3 threadIdx, blockIdx;
INDICES dim3 blockDim, gridDim;
alignas(1024) thread_local unsigned char dynamic_shared[227 * 1024];
}

namespace softgpu
{

namespace
{

enum { WARP = 32, POISON = 0xff };

struct Fiber {
    Stack stack;
    uint3 index;
    enum State { READY, AT_BARRIER, AT_WARP, DONE } state;
    Place place; // of the barrier or shuffle it waits at
    Meet kind;
    unsigned mask;
    uint64_t value, result;
    int source;  // lane
    int count;   // what it brought to the barrier
    bool fenced; // has passed a __threadfence
};

struct Block {
    const Kernel *kernel;
    std::vector<Fiber> fibers; // grows, stacks are kept
    int threads;
    uint3 index;
    uint32_t serial, interval;
    uint16_t warp_interval[WARP];
    int barrier_count;
    bool failed;
    void *scheduler; // its stack pointer while a thread runs
    int running;     // index of the thread that runs
    std::vector<int> order;
    std::mt19937_64 random;
} block;

Fiber &running()
{
    return block.fibers[block.running];
}

void fiber_leave()
{
    Fiber &fiber = running();
    softgpu_switch(&fiber.stack.kept, block.scheduler);
}

void fiber_main()
{
    const Kernel &kernel = *block.kernel;
    alignas(64) char call[4096]; // the limit of kernel parameters
    memcpy(call, kernel.call.data(), kernel.call.size());
    kernel.run(call);
    running().state = Fiber::DONE;
    fiber_leave();
}

void fiber_resume(int thread)
{
    Fiber &fiber = block.fibers[thread];
    block.running = thread;
    threadIdx = fiber.index;
    uint16_t warp = static_cast<uint16_t>(thread / WARP);
    clock_now = {block.serial, block.interval, (uint16_t)thread, warp, block.warp_interval[warp],
                 fiber.fenced};
    spaces.stack = reinterpret_cast<uintptr_t>(fiber.stack.low);
    spaces.stack_end = spaces.stack + FIBER_STACK_BYTES;
    clock_running = true;
    softgpu_switch(&block.scheduler, fiber.stack.kept);
    clock_running = false;
}

std::string three(const uint3 &at)
{
    return text("(%u, %u, %u)", at.x, at.y, at.z);
}

std::string who(const uint3 &block_index)
{
    Code code = code_at(reinterpret_cast<uintptr_t>(block.kernel->function));
    return "kernel " + code.function + ", block " + three(block_index);
}

// A fault outside of any one thread, at the place where `fiber` waits.
void block_fault(const Fiber &fiber, const std::string &what)
{
    block.failed = true;
    fault(cudaErrorLaunchFailure, place_text(fiber.place) + ": " + who(block.index) + ": " + what);
}

// ---- what lanes of a warp wait for

bool lanes_have_met(int first, int lanes, unsigned mask, const Fiber &one)
{
    for (int lane = 0; lane < WARP; lane++) {
        if ((mask >> lane & 1u) == 0)
            continue;
        if (lane >= lanes || block.fibers[first + lane].state == Fiber::DONE) {
            block_fault(one, text("mask %#x names lane %d, which %s", mask, lane,
                                  lane >= lanes ? "the block does not have" : "has returned"));
            return false;
        }
        const Fiber &other = block.fibers[first + lane];
        if (other.state != Fiber::AT_WARP || other.mask != mask || other.kind != one.kind ||
            other.place.line != one.place.line || strcmp(other.place.file, one.place.file) != 0)
            return false;
    }
    return true;
}

uint64_t lanes_result(Meet kind, int first, unsigned mask)
{
    uint64_t result = kind == Meet::MIN ? UINT32_MAX : 0;
    for (int lane = 0; lane < WARP; lane++) {
        if ((mask >> lane & 1u) == 0)
            continue;
        uint64_t value = block.fibers[first + lane].value;
        if (kind == Meet::BALLOT)
            result |= static_cast<uint64_t>(value != 0) << lane;
        else if (kind == Meet::ADD)
            result = static_cast<uint32_t>(result + value);
        else if (kind == Meet::MIN)
            result = std::min(result, value);
        else if (kind == Meet::MAX)
            result = std::max(result, value);
    }
    return result;
}

void lanes_release(int first, unsigned mask, Meet kind)
{
    uint64_t common = lanes_result(kind, first, mask);
    for (int lane = 0; lane < WARP; lane++) {
        if ((mask >> lane & 1u) == 0)
            continue;
        Fiber &fiber = block.fibers[first + lane];
        fiber.state = Fiber::READY;
        fiber.result = common;
        if (kind != Meet::SHUFFLE)
            continue;
        if ((mask >> fiber.source & 1u) == 0) {
            block_fault(fiber, text("lane %d reads lane %d, which mask %#x leaves out", lane,
                                    fiber.source, mask));
            return;
        }
        fiber.result = block.fibers[first + fiber.source].value;
    }
    // Lanes outside the mask are ordered too: a race between them and the mask's is not seen.
    if (kind == Meet::SYNC)
        block.warp_interval[first / WARP]++;
}

void warps_release()
{
    for (int first = 0; first < block.threads; first += WARP) {
        int lanes = std::min<int>(WARP, block.threads - first);
        for (int lane = 0; lane < lanes && !block.failed; lane++) {
            const Fiber &fiber = block.fibers[first + lane];
            if (fiber.state == Fiber::AT_WARP && lanes_have_met(first, lanes, fiber.mask, fiber) &&
                !block.failed)
                lanes_release(first, fiber.mask, fiber.kind);
        }
    }
}

// ---- what the block waits for

// Called when no thread can go on: releases the barrier, or says why it can't be.
void barrier_release()
{
    const Fiber *one = nullptr;
    for (int t = 0; t < block.threads; t++)
        if (block.fibers[t].state == Fiber::AT_BARRIER)
            one = &block.fibers[t];
    block.barrier_count = 0;
    for (int t = 0; t < block.threads; t++) {
        const Fiber &fiber = block.fibers[t];
        if (fiber.state == Fiber::AT_WARP)
            return block_fault(
                fiber, "thread " + three(fiber.index) +
                           text(" waits for lanes of mask %#x that wait elsewhere", fiber.mask));
        if (fiber.state == Fiber::DONE)
            return block_fault(*one, "thread " + three(fiber.index) +
                                         " has returned and does not reach this barrier");
        if (fiber.place.line != one->place.line || strcmp(fiber.place.file, one->place.file) != 0)
            return block_fault(*one,
                               "other threads wait at another barrier, " + place_text(fiber.place));
        block.barrier_count += fiber.count != 0;
    }
    for (int t = 0; t < block.threads; t++)
        block.fibers[t].state = Fiber::READY;
    block.interval++;
}

// ---- one block

void order_fill(std::vector<int> &order, int count)
{
    order.resize(count);
    std::iota(order.begin(), order.end(), 0);
    if (settings.order == SOFTGPU_REVERSE)
        std::reverse(order.begin(), order.end());
    if (settings.order == SOFTGPU_SHUFFLED)
        std::shuffle(order.begin(), order.end(), block.random);
}

void fibers_begin()
{
    const dim3 &shape = block.kernel->block;
    size_t old = block.fibers.size();
    if (old < static_cast<size_t>(block.threads)) {
        block.fibers.resize(block.threads);
        for (size_t t = old; t < block.fibers.size(); t++)
            stack_create(&block.fibers[t].stack);
    }
    for (int t = 0; t < block.threads; t++) {
        Fiber &fiber = block.fibers[t];
        unsigned n = static_cast<unsigned>(t);
        fiber.index = {n % shape.x, n / shape.x % shape.y, n / shape.x / shape.y};
        fiber.state = Fiber::READY;
        fiber.fenced = false;
        stack_begin(&fiber.stack, fiber_main);
    }
}

int fibers_with(Fiber::State state)
{
    int count = 0;
    for (int t = 0; t < block.threads; t++)
        count += block.fibers[t].state == state;
    return count;
}

bool block_run()
{
    fibers_begin();
    block.interval = 0;
    std::fill(std::begin(block.warp_interval), std::end(block.warp_interval), (uint16_t)0);
    block.serial++;
    race_block_begin();
    while (fibers_with(Fiber::DONE) < block.threads) {
        order_fill(block.order, block.threads);
        for (int thread : block.order)
            if (block.fibers[thread].state == Fiber::READY && !block.failed)
                fiber_resume(thread);
        if (!block.failed)
            warps_release();
        if (block.failed)
            return false;
        if (fibers_with(Fiber::READY) == 0 && fibers_with(Fiber::DONE) < block.threads)
            barrier_release();
    }
    return !block.failed;
}

// ---- a grid

// Shared memory holds nothing that can be relied on: NaN, -1.
void shared_poison(const Kernel &kernel)
{
    memset(reinterpret_cast<void *>(spaces.shared), POISON, spaces.shared_end - spaces.shared);
    memset(dynamic_shared, POISON, kernel.dynamic_bytes);
}

} // namespace

bool grid_run(const Kernel &kernel)
{
    static uint64_t kernels;
    block.kernel = &kernel;
    block.failed = false;
    block.threads = static_cast<int>(kernel.block.x * kernel.block.y * kernel.block.z);
    block.random.seed(settings.order_seed + ++kernels);
    blockDim = kernel.block;
    gridDim = kernel.grid;
    spaces_fill(kernel.function, kernel.dynamic_bytes);
    std::vector<int> order;
    order_fill(order, static_cast<int>(kernel.grid.x * kernel.grid.y * kernel.grid.z));
    race_kernel_begin(block.serial + 1);
    for (int i : order) {
        unsigned n = static_cast<unsigned>(i);
        block.index = {n % kernel.grid.x, n / kernel.grid.x % kernel.grid.y,
                       n / kernel.grid.x / kernel.grid.y};
        blockIdx = block.index;
        shared_poison(kernel);
        if (!block_run())
            break;
    }
    race_kernel_end();
    return !block.failed;
}

uint64_t warp_meet(Meet kind, unsigned mask, uint64_t value, int source, Place place)
{
    Fiber &fiber = running();
    if ((mask >> thread_lane() & 1u) == 0)
        thread_fault(cudaErrorLaunchFailure, place_text(place),
                     text("lane %d is not in its own mask %#x", thread_lane(), mask));
    fiber.state = Fiber::AT_WARP;
    fiber.place = place;
    fiber.kind = kind;
    fiber.mask = mask;
    fiber.value = value;
    fiber.source = source;
    fiber_leave();
    return fiber.result;
}

int block_meet(int count, Place place)
{
    Fiber &fiber = running();
    fiber.state = Fiber::AT_BARRIER;
    fiber.place = place;
    fiber.count = count;
    fiber_leave();
    return block.barrier_count;
}

int thread_lane()
{
    return block.running % WARP;
}

void thread_fence()
{
    running().fenced = true;
    clock_now.fenced = true;
}

void thread_fault(cudaError_t code, const std::string &where, const std::string &what)
{
    fault(code,
          where + ": " + who(block.index) + ", thread " + three(running().index) + ": " + what);
    block.failed = true;
    fiber_leave(); // for ever: the kernel is over, and its stacks are used again
    __builtin_unreachable();
}

void code_fault(cudaError_t code, const std::string &where, const std::string &what)
{
    if (clock_running)
        thread_fault(code, where, what);
    fault(code, where + ": " + what);
}

} // namespace softgpu
