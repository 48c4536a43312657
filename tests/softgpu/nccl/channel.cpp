#include "channel.h"

#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace softgpu
{

namespace
{

enum : size_t {
    HEADER_BYTES = 1u << 20,
    COLLECTIVE_SLOTS = RANKS_MAX * SLOTS,
    PAIR_SLOTS = RANKS_MAX * RANKS_MAX * SLOTS,
    TOTAL_BYTES = HEADER_BYTES + (COLLECTIVE_SLOTS + PAIR_SLOTS) * SLOT_BYTES,
};

// An id is where the maker's file is: other processes of the same user open it there. It has no
// name in a file system, so that nothing is left behind whoever dies.
struct Id {
    long pid;
    int fd;
};

} // namespace

ncclResult_t Channel::make_id(ncclUniqueId *out)
{
    static_assert(sizeof(Header) <= HEADER_BYTES && sizeof(Id) <= sizeof(out->internal));
    Id id = {getpid(), memfd_create("softgpu-nccl", MFD_CLOEXEC)};
    if (id.fd < 0 || ftruncate(id.fd, static_cast<off_t>(TOTAL_BYTES)) != 0)
        return ncclSystemError;
    memset(out, 0, sizeof(*out));
    memcpy(out->internal, &id, sizeof(id));
    return ncclSuccess; // the file stays open until the maker ends
}

std::shared_ptr<Channel> Channel::attach(const ncclUniqueId &from, int ranks, int rank, int device)
{
    Id id;
    char path[64];
    memcpy(&id, from.internal, sizeof(id));
    snprintf(path, sizeof(path), "/proc/%ld/fd/%d", id.pid, id.fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return nullptr;
    void *p = mmap(nullptr, TOTAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return nullptr;
    auto channel = std::make_shared<Channel>();
    channel->header_ = static_cast<Header *>(p); // zeros: a good beginning for its atomics
    channel->data_ = static_cast<char *>(p) + HEADER_BYTES;
    channel->ranks_ = ranks;
    channel->rank_ = rank;
    channel->header_->ranks[rank].device = device;
    channel->header_->ranks[rank].attached = 1;
    return channel;
}

Channel::~Channel()
{
    if (header_ != nullptr)
        munmap(header_, TOTAL_BYTES);
}

bool Channel::complete() const
{
    for (int r = 0; r < ranks_; r++)
        if (header_->ranks[r].attached == 0)
            return false;
    return true;
}

bool Channel::duplicate_gpu() const
{
    for (int r = 0; r < ranks_; r++)
        for (int other = 0; other < r; other++)
            if (header_->ranks[r].device == header_->ranks[other].device)
                return true;
    return false;
}

void Channel::fail()
{
    header_->ranks[rank_].failed = 1;
}

bool Channel::peer_failed() const
{
    for (int r = 0; r < ranks_; r++)
        if (r != rank_ && header_->ranks[r].failed != 0)
            return true;
    return false;
}

char *Channel::slot_data(int rank, uint64_t n) const
{
    return data_ + (static_cast<size_t>(rank) * SLOTS + n % SLOTS) * SLOT_BYTES;
}

char *Channel::pair_data(int from, int to, uint64_t n) const
{
    size_t pair = static_cast<size_t>(from) * RANKS_MAX + to;
    return data_ + (COLLECTIVE_SLOTS + pair * SLOTS + n % SLOTS) * SLOT_BYTES;
}

void Channel::publish(uint64_t n, const Call &call, const void *data, size_t bytes)
{
    Rank &mine = header_->ranks[rank_];
    mine.slots[n % SLOTS] = {call, bytes};
    if (bytes > 0)
        memcpy(slot_data(rank_, n), data, bytes);
    mine.published = n + 1;
}

bool Channel::published_by_all(uint64_t n) const
{
    for (int r = 0; r < ranks_; r++)
        if (header_->ranks[r].published < n + 1)
            return false;
    return true;
}

const Call &Channel::call_of(uint64_t n, int rank) const
{
    return header_->ranks[rank].slots[n % SLOTS].call;
}

const char *Channel::data_of(uint64_t n, int rank) const
{
    return slot_data(rank, n);
}

bool Channel::send(uint64_t n, int to, const Call &call, const void *data, size_t bytes)
{
    Pair &pair = header_->ranks[rank_].to[to];
    if (pair.taken + SLOTS < n + 1)
        return false;
    pair.slots[n % SLOTS] = {call, bytes};
    if (bytes > 0)
        memcpy(pair_data(rank_, to, n), data, bytes);
    pair.sent = n + 1;
    return true;
}

bool Channel::arrived(uint64_t n, int from) const
{
    return header_->ranks[from].to[rank_].sent >= n + 1;
}

const Slot &Channel::message(uint64_t n, int from) const
{
    return header_->ranks[from].to[rank_].slots[n % SLOTS];
}

const char *Channel::message_data(uint64_t n, int from) const
{
    return pair_data(from, rank_, n);
}

void Channel::take(uint64_t n, int from)
{
    header_->ranks[from].to[rank_].taken = n + 1;
}

} // namespace softgpu
