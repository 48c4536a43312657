#include "launcher/gpus.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "launcher/start_command.h"

enum { REPORT_BYTES = 65536 };
static const double ASK_S = 60; // a driver may have to be loaded

// In the child: never returns.
static _Noreturn void become_worker(const char *worker, const char *device, int output)
{
    int nothing = open("/dev/null", O_RDWR);
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO);
        dup2(nothing, STDERR_FILENO);
    }
    dup2(output, STDOUT_FILENO);
    execl(worker, worker, "devices", device, (char *)NULL);
    _exit(127);
}

// All that comes, until the end or for ASK_S.
static void read_all(char text[REPORT_BYTES], int from)
{
    const double end_s = clock_seconds() + ASK_S;
    size_t used = 0;
    while (used < REPORT_BYTES - 1) {
        struct pollfd watched = {.fd = from, .events = POLLIN};
        const double left_s = end_s - clock_seconds();
        if (left_s <= 0 || poll(&watched, 1, (int)(left_s * 1000) + 1) <= 0)
            break;
        ssize_t count = read(from, text + used, REPORT_BYTES - 1 - used);
        if (count <= 0)
            break;
        used += (size_t)count;
    }
    text[used] = '\0';
}

json_t *gpus_ask(const char *device)
{
    static char text[REPORT_BYTES];
    char worker[PATH_CAPACITY];
    int output[2];
    text[0] = '\0';
    if (!start_worker_find(worker) || pipe2(output, O_CLOEXEC) != 0)
        return NULL;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become_worker(worker, device, output[1]);
    close(output[1]);
    if (pid > 0)
        read_all(text, output[0]);
    close(output[0]);
    if (pid > 0) {
        kill(pid, SIGKILL); // it has said all it has to say, or hangs
        waitpid(pid, NULL, 0);
    }
    return json_loads(text, 0, NULL);
}

static int count_usable(const char *device)
{
    json_t *report = gpus_ask(device), *gpu;
    size_t i;
    int count = 0;
    json_array_foreach(json_object_get(report, "gpus"), i, gpu)
    {
        const char *why = json_string_value(json_object_get(gpu, "why"));
        count += why && !why[0];
    }
    json_decref(report);
    return count;
}

bool gpus_are(const char *device)
{
    return strcmp(device, "cpu") != 0 && strcmp(device, "reference") != 0;
}

int gpus_settle(const char **device, int ranks)
{
    int count = 0;
    if (strcmp(*device, "auto") == 0) {
        count = count_usable("cuda");
        *device = count > 0 ? "cuda" : "cpu";
    } else if (ranks == 0 && gpus_are(*device)) {
        count = count_usable(*device);
    }
    return count;
}
