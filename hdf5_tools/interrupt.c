#include "hdf5_tools/interrupt.h"

#include <stddef.h>

static const int ENDING[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDING_COUNT = sizeof ENDING / sizeof *ENDING };

// A signal that is ignored (nohup) would, once held, wait like any other.
static bool is_ignored(int signal)
{
    struct sigaction action;
    return sigaction(signal, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
           action.sa_handler == SIG_IGN;
}

void interrupt_hold(sigset_t *before)
{
    sigset_t ending;
    sigemptyset(&ending);
    for (int i = 0; i < ENDING_COUNT; i++)
        if (!is_ignored(ENDING[i]))
            sigaddset(&ending, ENDING[i]);
    pthread_sigmask(SIG_BLOCK, &ending, before);
}

void interrupt_release(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

bool interrupt_waits(void)
{
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    bool waits = false;
    for (int i = 0; i < ENDING_COUNT; i++)
        waits = waits || (sigismember(&pending, ENDING[i]) == 1 && !is_ignored(ENDING[i]));
    return waits;
}
