#include "race.h"

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <vector>

#include "block.h"
#include "runtime/memory.h"
#include "settings.h"

namespace softgpu
{

Clock clock_now;
thread_local bool clock_running;

namespace
{

// What is kept of an access: 16 bytes.
struct Record {
    uint32_t serial; // of the block's run; smaller than the kernel's first: nothing is known
    uint32_t interval;
    uint32_t pc; // from the beginning of the kernel's module
    uint16_t warp_interval;
    uint16_t thread : 10;
    uint16_t atomic : 1;
    uint16_t many : 2; // reads: of how many threads
};
enum { ONE, MANY_LANES, MANY_WARPS, MANY_BLOCKS };

struct Cell { // of a word or a byte
    Record write, read;
};

enum : uintptr_t { PAGE = 4096, WORD = 4, KEPT_PAGES = 512 };

// The cells of a page of memory: of its words, until a kernel touches a part of one.
struct Page {
    std::vector<Cell> cells;
    uintptr_t unit;
};
using PageRef = std::unique_ptr<Page>;

std::unordered_map<uintptr_t, PageRef> pages; // by address / PAGE, of this kernel
std::vector<PageRef> spare;
struct {
    uintptr_t number;
    Page *page;
} recent[64]; // by number % 64

uint32_t first_serial;

// Which blocks have published, at which barrier interval and by which thread.
struct Publication {
    uint32_t interval;
    uint16_t thread;
};
using Publications = std::unordered_map<uint32_t, Publication>; // by serial
std::unordered_map<uintptr_t, Publications> published;          // by the atomic's address
// What this block has read of them, and when.
struct Receipt {
    Publication sent;
    uint32_t interval;
    uint16_t thread;
};
std::unordered_map<uint32_t, Receipt> received;

PageRef page_new()
{
    PageRef page = std::make_unique<Page>();
    if (!spare.empty()) {
        page = std::move(spare.back());
        spare.pop_back();
    }
    page->unit = WORD;
    page->cells.resize(PAGE / WORD); // what they hold of other kernels is known to be old
    return page;
}

Page &page_of(uintptr_t address)
{
    uintptr_t number = address / PAGE;
    auto &slot = recent[number % 64];
    if (slot.number == number)
        return *slot.page;
    PageRef &page = pages[number];
    if (!page)
        page = page_new();
    slot = {number, page.get()};
    return *page;
}

void page_split(Page *page)
{
    std::vector<Cell> bytes;
    bytes.reserve(PAGE);
    for (const Cell &word : page->cells)
        bytes.insert(bytes.end(), WORD, word);
    page->cells.swap(bytes);
    page->unit = 1;
}

// Whether an access of another block's run `r` was published to this thread.
bool seen(const Record &r)
{
    auto it = received.find(r.serial);
    if (it == received.end())
        return false;
    const Receipt &receipt = it->second;
    bool sent = r.thread == receipt.sent.thread || r.interval < receipt.sent.interval;
    bool arrived = clock_now.thread == receipt.thread || receipt.interval < clock_now.interval;
    return sent && arrived;
}

// own: memory that each block has for itself.
bool ordered(const Record &r, bool own)
{
    if (r.serial < first_serial)
        return true;
    if (r.many == MANY_BLOCKS)
        return false;
    if (r.serial != clock_now.serial)
        return own || seen(r);
    if (r.interval < clock_now.interval || (r.thread == clock_now.thread && r.many == ONE))
        return true;
    return r.many != MANY_WARPS && r.thread / 32 == clock_now.warp &&
           r.warp_interval < clock_now.warp_interval;
}

Record record_now(bool atomic, uintptr_t pc)
{
    Record r = {};
    r.serial = clock_now.serial;
    r.interval = clock_now.interval;
    r.pc = static_cast<uint32_t>(pc - spaces.module);
    r.warp_interval = clock_now.warp_interval;
    r.thread = clock_now.thread & 1023u;
    r.atomic = atomic;
    return r;
}

// Adds a read to what is known of the reads since the last write.
void read_merge(Record *known, const Record &now, bool own)
{
    unsigned many = known->many;
    if (ordered(*known, own))
        many = ONE; // who is ordered after this read is after those, too
    else if (known->serial != now.serial || many == MANY_BLOCKS)
        many = MANY_BLOCKS;
    else if (known->thread / 32 != now.thread / 32 || many == MANY_WARPS)
        many = MANY_WARPS;
    else
        many = MANY_LANES;
    *known = now;
    known->many = many & 3u;
}

[[noreturn]] void race(const Record &before, Access now, bool wrote, uintptr_t address,
                       uintptr_t pc)
{
    const char *const verbs[] = {"reads", "writes", "updates atomically"};
    std::string who = text("thread %u of its block", before.thread);
    if (before.many != ONE)
        who = "several threads";
    else if (before.serial != clock_now.serial)
        who = "another block";
    thread_fault(cudaErrorLaunchFailure, place_text(pc),
                 text("race: %s address %#lx that %s %s, unordered, at %s",
                      verbs[static_cast<int>(now)], address, who.c_str(),
                      !wrote          ? "read"
                      : before.atomic ? "updated atomically"
                                      : "wrote",
                      place_text(spaces.module + before.pc).c_str()));
}

void cell_check(Cell *cell, Access access, bool own, uintptr_t address, uintptr_t pc)
{
    bool atomic = access == Access::ATOMIC;
    if (!ordered(cell->write, own) && !(atomic && cell->write.atomic))
        race(cell->write, access, true, address, pc);
    if (access == Access::READ)
        return read_merge(&cell->read, record_now(false, pc), own);
    if (!ordered(cell->read, own))
        race(cell->read, access, false, address, pc);
    cell->write = record_now(atomic, pc);
}

// Of bytes that lie in one page.
void page_check(uintptr_t address, size_t bytes, Access access, bool own, uintptr_t pc)
{
    Page &page = page_of(address);
    if (page.unit == WORD && (address % WORD != 0 || bytes % WORD != 0))
        page_split(&page);
    for (uintptr_t a = address; a < address + bytes; a += page.unit)
        cell_check(&page.cells[a % PAGE / page.unit], access, own, a, pc);
}

// An atomic is where blocks meet: what this one has fenced is published, what others have
// published is received.
void publish(uintptr_t address)
{
    Publications &here = published[address];
    for (const auto &[serial, publication] : here)
        received.emplace(serial, Receipt{publication, clock_now.interval, clock_now.thread});
    if (clock_now.fenced)
        here[clock_now.serial] = {clock_now.interval, clock_now.thread};
}

bool inside(uintptr_t a, size_t bytes, uintptr_t begin, uintptr_t end)
{
    return a >= begin && a < end && bytes <= end - a;
}

// Device allocations are few and accesses many: the last one is tried first.
bool in_allocation(uintptr_t address, size_t bytes)
{
    static Allocation last;
    static uint32_t last_serial;
    if (last_serial == clock_now.serial && inside(address, bytes, last.begin, last.end))
        return true;
    const Allocation *found = memory_find(address);
    if (found == nullptr)
        return false;
    last = *found;
    last_serial = clock_now.serial;
    return inside(address, bytes, last.begin, last.end);
}

bool in_shared(uintptr_t a, size_t bytes)
{
    return inside(a, bytes, spaces.shared, spaces.shared_end) ||
           inside(a, bytes, spaces.dynamic, spaces.dynamic_end);
}

} // namespace

void race_kernel_begin(uint32_t serial)
{
    first_serial = serial;
    published.clear();
}

void race_block_begin()
{
    received.clear();
}

void race_kernel_end()
{
    for (auto &[number, page] : pages)
        if (spare.size() < KEPT_PAGES)
            spare.push_back(std::move(page));
    pages.clear();
    for (auto &slot : recent)
        slot = {0, nullptr};
}

void access_check(uintptr_t address, size_t bytes, Access access, uintptr_t pc)
{
    if (!clock_running || inside(address, bytes, spaces.stack, spaces.stack_end) ||
        inside(address, bytes, spaces.indices, spaces.indices_end))
        return;
    size_t unit = bytes < 8 ? bytes : 8; // vectors say their alignment to -fsanitize=alignment
    if ((unit & (unit - 1)) == 0 && address % unit != 0)
        thread_fault(cudaErrorMisalignedAddress, place_text(pc),
                     text("misaligned access of %zu bytes at address %#lx", bytes, address));
    bool own = in_shared(address, bytes);
    if (!own && !in_allocation(address, bytes) &&
        !inside(address, bytes, spaces.module, spaces.module_end))
        thread_fault(cudaErrorIllegalAddress, place_text(pc),
                     text("out of bounds: %s %zu bytes at address %#lx",
                          access == Access::READ ? "reads" : "writes", bytes, address));
    if (!settings.races)
        return;
    if (access == Access::ATOMIC)
        publish(address);
    while (bytes > 0) {
        size_t here = std::min<size_t>(bytes, PAGE - address % PAGE);
        page_check(address, here, access, own, pc);
        address += here;
        bytes -= here;
    }
}

} // namespace softgpu
