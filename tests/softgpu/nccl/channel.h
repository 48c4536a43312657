#pragma once
// What ranks of a communicator share: memory in which each puts what the others read.
//
// A collective is published by each rank into its slot, and done when all have published and it has
// read them. Two slots in turn suffice: a rank publishes n + 2 when all have published n + 1, which
// they did after they had read n. Messages from one rank to another go through slots of the pair,
// which wait to be taken. Nothing here waits: calls say whether they could.

#include <nccl.h>

#include <atomic>
#include <memory>
#include <string>

namespace softgpu
{

enum { RANKS_MAX = 8, SLOTS = 2 };
enum : size_t { SLOT_BYTES = 64u << 20 }; // address space; memory is taken as it is written

// What a rank says it does: the others must say the same.
struct Call {
    char name[24]; // "ncclAllReduce"
    uint64_t count;
    int type, operation, root;
};

struct Slot {
    Call call;
    uint64_t bytes;
};

class Channel
{
  public:
    // The memory behind an id, and the id of fresh memory.
    static ncclResult_t make_id(ncclUniqueId *id);
    // NULL where the id's maker is gone.
    static std::shared_ptr<Channel> attach(const ncclUniqueId &id, int ranks, int rank, int device);
    ~Channel();

    bool complete() const;      // all ranks have attached
    bool duplicate_gpu() const; // two ranks have one device
    void fail();                // this rank has failed: the others' asynchronous error
    bool peer_failed() const;

    int rank() const
    {
        return rank_;
    }
    int ranks() const
    {
        return ranks_;
    }

    // Collective number `n` of this communicator, from 0.
    void publish(uint64_t n, const Call &call, const void *data, size_t bytes);
    bool published_by_all(uint64_t n) const;
    const Call &call_of(uint64_t n, int rank) const;
    const char *data_of(uint64_t n, int rank) const;

    // Message number `n` of a pair of ranks.
    bool send(uint64_t n, int to, const Call &call, const void *data, size_t bytes);
    bool arrived(uint64_t n, int from) const;
    const Slot &message(uint64_t n, int from) const;
    const char *message_data(uint64_t n, int from) const;
    void take(uint64_t n, int from);

  private:
    struct Pair {
        std::atomic<uint64_t> sent, taken;
        Slot slots[SLOTS];
    };
    struct Rank {
        std::atomic<int> attached, failed, device;
        std::atomic<uint64_t> published;
        Slot slots[SLOTS];
        Pair to[RANKS_MAX];
    };
    struct Header {
        Rank ranks[RANKS_MAX];
    };

    char *slot_data(int rank, uint64_t n) const;
    char *pair_data(int from, int to, uint64_t n) const;

    Header *header_ = nullptr;
    char *data_ = nullptr;
    int ranks_ = 0, rank_ = 0;
};

} // namespace softgpu
