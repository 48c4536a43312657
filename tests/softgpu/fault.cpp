#include "fault.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>

#include "softgpu.h"

namespace softgpu
{

namespace
{
bool keeping;
std::string first;
cudaError_t sticky = cudaSuccess;
} // namespace

std::string text(const char *format, ...)
{
    char buffer[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof(buffer), format, arguments);
    va_end(arguments);
    return buffer;
}

// The path as the repository knows it: compilers are given it from / or from the build folder.
static std::string shortened(std::string path)
{
    size_t up = path.rfind("../");
    if (up != std::string::npos)
        path.erase(0, up + 3);
    if (path.rfind(SOFTGPU_SOURCE_DIR "/", 0) == 0)
        path.erase(0, strlen(SOFTGPU_SOURCE_DIR "/"));
    return path;
}

// "(anonymous namespace)::saxpy(float*)" -> "saxpy"
static std::string plain(std::string function)
{
    const std::string nowhere = "(anonymous namespace)::";
    size_t at;
    while ((at = function.find(nowhere)) != std::string::npos)
        function.erase(at, nowhere.size());
    return function.substr(0, function.find_first_of("(\n"));
}

std::string place_text(Place place)
{
    return shortened(place.file) + text(":%d", place.line);
}

Code code_at(uintptr_t pc)
{
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(pc), &info) == 0)
        return {"?", text("%#lx", pc)};
    uintptr_t offset = pc - reinterpret_cast<uintptr_t>(info.dli_fbase);
    char function[512] = "?", place[512] = "?";
    FILE *f = popen(text("addr2line -f -C -e '%s' %#lx", info.dli_fname, offset).c_str(), "r");
    if (f != nullptr) {
        if (fgets(function, sizeof(function), f) == nullptr ||
            fgets(place, sizeof(place), f) == nullptr)
            place[0] = '?';
        pclose(f);
    }
    place[strcspn(place, " \n")] = '\0';
    if (place[0] == '?')
        return {plain(function), text("%s+%#lx", info.dli_fname, offset)};
    return {plain(function), shortened(place)};
}

std::string place_text(uintptr_t pc)
{
    return code_at(pc).place;
}

void fault(cudaError_t code, const std::string &text)
{
    if (!keeping) {
        fprintf(stderr, "softgpu: %s\n", text.c_str());
        _exit(SOFTGPU_EXIT);
    }
    if (first.empty())
        first = text;
    if (sticky == cudaSuccess)
        sticky = code;
}

cudaError_t fault_sticky()
{
    return sticky;
}

void fault_forget()
{
    first.clear();
    sticky = cudaSuccess;
}

} // namespace softgpu

using namespace softgpu;

void softgpu_keep_faults(bool keep)
{
    keeping = keep;
    fault_forget();
}

const char *softgpu_fault(void)
{
    return first.c_str();
}
