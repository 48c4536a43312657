#include "launcher/start_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "comm/carried_mpi.h"
#include "launcher/allocation.h"
#include "launcher/machine.h"
#include "launcher/shell_word.h"

// Freed memory stays with the process: a page fault costs more than what it saves.
static const char MALLOC_TUNABLES[] =
    "glibc.malloc.mmap_threshold=34359738368:"
    "glibc.malloc.trim_threshold=34359738368";

// Where ranks find the engines that are plug-ins, and these their libraries, on other hosts too.
static const char *const PLUGIN_SETTINGS[] = {"RETORT_PLUGINS", "RETORT_CUDA_PATH", "CUDA_HOME",
                                              "VIRTUAL_ENV"};

static void add(struct start_command *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// What does not fit is noticed by start_command_build.
static void add(struct start_command *c, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof c->text - c->used;
    int length = vsnprintf(c->text + c->used, room, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= room || c->count >= COMMAND_WORDS) {
        c->count = COMMAND_WORDS + 1;
        return;
    }
    c->words[c->count++] = c->text + c->used;
    c->used += (size_t)length + 1;
}

// srun hands its own environment on; mpirun's ranks on other hosts get what it names.
static void add_environment(struct start_command *c, const char *name, const char *value)
{
    if (c->by_mpirun)
        add(c, "-x");
    add(c, "%s=%s", name, value);
}

// The user's own setting, when there is one, else ours.
static void add_default(struct start_command *c, const char *name, const char *value)
{
    const char *set = getenv(name);
    add_environment(c, name, set && *set ? set : value);
}

// The folder of this program.
static void own_folder(char own[PATH_CAPACITY])
{
    ssize_t length = readlink("/proc/self/exe", own, PATH_CAPACITY - 1);
    own[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(own, '/');
    if (slash)
        *slash = '\0';
}

bool start_worker_find(char *out)
{
    const char *places[] = {"retort-worker", "../libexec/retort/retort-worker"};
    const char *set = getenv("RETORT_WORKER");
    char own[PATH_CAPACITY];
    if (set && *set) {
        (void)snprintf(out, PATH_CAPACITY, "%s", set);
        return strlen(set) < PATH_CAPACITY && access(set, X_OK) == 0;
    }
    own_folder(own);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (path_join(out, own, places[i]) == RETORT_OK && access(out, X_OK) == 0)
            return true;
    return false;
}

int start_worker_path(char *out)
{
    const char *set = getenv("RETORT_WORKER");
    char own[PATH_CAPACITY];
    if (start_worker_find(out))
        return RETORT_OK;
    if (set && *set)
        return FAIL(RETORT_FAILED, "RETORT_WORKER=%s is no program that can be run", set);
    own_folder(own);
    return FAIL(RETORT_FAILED,
                "retort-worker is neither in %s nor in %s/../libexec/retort; install both, or name "
                "it in RETORT_WORKER",
                own, own);
}

// Where the ranks go: how many on the fullest host, and whether its cores are enough.
struct placement {
    bool inside; // a Slurm allocation, `a`
    struct allocation a;
    bool as_asked; // one rank for each of its tasks
    int host_ranks;
    bool fits, tight; // into the cores; into no fewer than half of them
};

static struct placement place(const struct start *s)
{
    struct placement p = {.host_ranks = s->ranks};
    p.inside = !s->hosts && allocation_read(&p.a);
    int cores = machine_cores();
    if (p.inside) {
        int nodes = s->ranks < p.a.nodes ? s->ranks : p.a.nodes;
        p.as_asked = s->ranks == p.a.ranks;
        p.host_ranks = p.as_asked ? p.a.node_ranks : (s->ranks + nodes - 1) / nodes;
        cores = p.a.node_cores;
    }
    long wanted = (long)p.host_ranks * s->threads;
    p.fits = s->hosts || wanted <= cores; // those of other hosts we do not know
    p.tight = !s->hosts && !s->gpus && p.fits && 2 * wanted > cores;
    return p;
}

// That of the worker's own Open MPI, where one is carried along with it: by its path, where mpirun
// then looks for its daemon on other hosts too. On this host alone it is to do without ssh, which
// it would refuse to. Else the one in the PATH.
static void add_mpirun_program(struct start_command *c, const char *worker, bool alone)
{
    char home[PATH_CAPACITY];
    if (!carried_mpi_find(home, worker)) {
        add(c, "mpirun");
        return;
    }
    add(c, "env");
    for (int i = 0; i < CARRIED_MPI_SETTINGS; i++)
        add(c, "%s=%s%s", carried_mpi_settings[i].name, home, carried_mpi_settings[i].below);
    add(c, "%s/bin/mpirun", home);
    if (alone) {
        add(c, "--mca");
        add(c, "plm");
        add(c, "isolated");
    }
}

// Ranks are bound to cores of their own where there are enough: a thread that wanders loses its
// cache, and two that share a core wait for each other. A run on half of the machine or less is
// not: a second one beside it would be bound to the same cores. Nor are ranks with GPUs: they bind
// themselves to the cores near theirs.
static void add_mpirun(struct start_command *c, const struct start *s, const struct placement *p,
                       const char *worker)
{
    bool spread = p->inside && !p->as_asked; // else Slurm's tasks are the slots
    add_mpirun_program(c, worker, !p->inside && !s->hosts);
    add(c, "-n");
    add(c, "%d", s->ranks);
    if (s->hosts) {
        add(c, "--host");
        add(c, "%s", s->hosts);
    } else if (spread || p->tight) {
        char each[16] = "slot";
        if (spread)
            (void)snprintf(each, sizeof each, "ppr:%d:node", p->host_ranks);
        add(c, "--map-by");
        if (p->tight)
            add(c, "%s:PE=%d", each, s->threads);
        else
            add(c, "%s", each);
    }
    if (!p->fits || (spread && p->host_ranks > p->a.node_ranks))
        add(c, "--oversubscribe");
    add(c, "--bind-to");
    add(c, "%s", p->tight ? "core" : "none");
}

// A rank that leaves ends the others by itself, through MPI; srun that kills them at the first code
// other than 0 would take the others' checkpoint codes for deaths. What srun binds to what, the
// cluster's own setting says.
static void add_srun(struct start_command *c, const struct start *s, const struct placement *p)
{
    int cpus = p->a.rank_cpus ? p->a.rank_cpus : s->threads;
    add(c, "srun");
    add(c, "--mpi=pmix");
    add(c, "--export=ALL");
    add(c, "--kill-on-bad-exit=0");
    add(c, "--distribution=block");
    add(c, "--nodes=%d", s->ranks < p->a.nodes ? s->ranks : p->a.nodes);
    add(c, "--ntasks=%d", s->ranks);
    if (!p->as_asked)
        add(c, "--ntasks-per-node=%d", p->host_ranks);
    // srun does not take it from the job
    if ((long)p->host_ranks * cpus <= p->a.node_cpus)
        add(c, "--cpus-per-task=%d", cpus);
    else
        add(c, "--overcommit");
}

static void add_environments(struct start_command *c, const struct start *s, bool fits)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%d", s->ranks);
    add_environment(c, "RETORT_RANKS", number); // they refuse to be another number
    (void)snprintf(number, sizeof number, "%d", s->threads);
    add_environment(c, "OMP_NUM_THREADS", number);
    if (!fits) // threads that spin while they wait would take the core from those that work
        add_default(c, "OMP_WAIT_POLICY", "PASSIVE");
    add_default(c, "GLIBC_TUNABLES", MALLOC_TUNABLES);
    for (size_t i = 0; i < sizeof PLUGIN_SETTINGS / sizeof PLUGIN_SETTINGS[0]; i++) {
        const char *value = getenv(PLUGIN_SETTINGS[i]);
        if (value && *value)
            add_environment(c, PLUGIN_SETTINGS[i], value);
    }
    if (s->owner) // they write nothing more once the folder is another's
        add_environment(c, "RETORT_OWNER", s->owner->token);
    // mpirun gives rank 0 a terminal of its own, whatever ours is.
    add_environment(c, "RETORT_TERMINAL", isatty(STDOUT_FILENO) ? "1" : "0");
}

int start_command_build(struct start_command *c, const struct start *s)
{
    char worker[PATH_CAPACITY];
    enum launcher launcher;
    c->used = 0;
    c->count = 0;
    int rc = start_worker_path(worker);
    if (rc == RETORT_OK)
        rc = launcher_choose(&launcher, s, worker);
    if (rc != RETORT_OK)
        return rc;
    const struct placement p = place(s);
    c->by_mpirun = launcher == LAUNCHER_MPIRUN;
    if (c->by_mpirun)
        add_mpirun(c, s, &p, worker);
    else
        add(c, "env");
    add_environments(c, s, p.fits);
    if (!c->by_mpirun)
        add_srun(c, s, &p);
    add(c, "%s", worker);
    for (const char *const *argument = s->arguments; *argument; argument++)
        add(c, "%s", *argument);
    if (c->count > COMMAND_WORDS)
        return FAIL(RETORT_USAGE, "the command line of the ranks is too long");
    c->words[c->count] = NULL;
    return RETORT_OK;
}

void start_command_print(const struct start_command *c)
{
    shell_line(stdout, (const char *const *)c->words);
}
