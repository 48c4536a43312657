#include "settings.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "fault.h"
#include "runtime/memory.h"

namespace softgpu
{

Settings settings;

namespace
{

struct Injection {
    std::string call;
    int nth, code;
};
std::vector<Injection> injections;

[[noreturn]] void refuse(const char *name, const char *value)
{
    fprintf(stderr, "softgpu: %s=%s is not understood; see tests/softgpu/softgpu.h\n", name, value);
    exit(SOFTGPU_EXIT);
}

// "lazy" or "random:7" -> index in `words`, and the seed.
int read_choice(const char *name, const char *const *words, int count, uint64_t *seed)
{
    *seed = 0;
    const char *value = getenv(name);
    if (value == nullptr)
        return 0;
    std::string word(value, strcspn(value, ":"));
    if (value[word.size()] == ':')
        *seed = strtoull(value + word.size() + 1, nullptr, 10);
    for (int i = 0; i < count; i++)
        if (word == words[i])
            return i;
    refuse(name, value);
}

uint64_t read_number(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);
    return value == nullptr ? otherwise : strtoull(value, nullptr, 10);
}

void read_injections()
{
    const char *value = getenv("SOFTGPU_INJECT");
    const int mine = static_cast<int>(read_number("OMPI_COMM_WORLD_RANK", 0));
    injections.clear();
    while (value != nullptr && *value != '\0') {
        char call[64];
        int nth = 0, code = 0, rank = mine, length = 0, more = 0;
        if (sscanf(value, "%63[^:,]:%d:%d%n", call, &nth, &code, &length) != 3)
            refuse("SOFTGPU_INJECT", value);
        if (sscanf(value + length, "@%d%n", &rank, &more) == 1)
            length += more;
        if (rank == mine)
            injections.push_back({call, nth, code});
        value += length + (value[length] == ',');
    }
}

void read_misbehaviour()
{
    const char *value = getenv("SOFTGPU_NCCL");
    int nth = 0, ms = 0;
    softgpu_misbehaviour kind = SOFTGPU_BEHAVES;
    if (value == nullptr)
        kind = SOFTGPU_BEHAVES;
    else if (strcmp(value, "busy") == 0)
        kind = SOFTGPU_BUSY;
    else if (sscanf(value, "hang:%d", &nth) == 1)
        kind = SOFTGPU_HANGS;
    else if (sscanf(value, "fail:%d", &nth) == 1)
        kind = SOFTGPU_FAILS;
    else if (sscanf(value, "slow:%d:%d", &nth, &ms) == 2)
        kind = SOFTGPU_SLOW;
    else
        refuse("SOFTGPU_NCCL", value);
    softgpu_nccl_misbehave(kind, nth, ms);
}

} // namespace

void settings_read()
{
    const char *const policies[] = {"eager", "lazy", "random"};
    const char *const orders[] = {"forward", "reverse", "shuffle"};
    settings.policy = static_cast<softgpu_policy>(
        read_choice("SOFTGPU_POLICY", policies, 3, &settings.policy_seed));
    settings.order =
        static_cast<softgpu_order>(read_choice("SOFTGPU_ORDER", orders, 3, &settings.order_seed));
    settings.races = read_number("SOFTGPU_RACES", 1) != 0;
    settings.trace = read_number("SOFTGPU_TRACE", 0) != 0;
    settings.devices = static_cast<int>(read_number("SOFTGPU_DEVICES", 1));
    memory_set_limit(read_number("SOFTGPU_MEMORY", 2ull << 30));
    read_injections();
    read_misbehaviour();
}

namespace
{
const struct Reader {
    Reader()
    {
        settings_read();
    }
} reader; // before main
} // namespace

int injected(const char *call)
{
    for (Injection &injection : injections)
        if (injection.call == call && --injection.nth == 0)
            return injection.code;
    return 0;
}

} // namespace softgpu

using namespace softgpu;

void softgpu_set_order(enum softgpu_order order, uint64_t seed)
{
    settings.order = order;
    settings.order_seed = seed;
}

void softgpu_set_races(bool on)
{
    settings.races = on;
}

void softgpu_inject(const char *call, int nth, int code)
{
    injections.push_back({call, nth, code});
}
