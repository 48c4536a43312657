#include "launcher/allocation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/machine.h"
#include "launcher/probe.h"
#include "launcher/start.h"

enum { TASKS_MAX = 1 << 20, SAID = 256 };

// A whole number of the environment, 0 when there is none.
static int number_of(const char *name)
{
    const char *text = getenv(name);
    long value = text ? strtol(text, NULL, 10) : 0;
    return value > 0 && value <= TASKS_MAX ? (int)value : 0;
}

bool allocation_tasks(const char *text, int *all, int *most)
{
    *all = *most = 0;
    while (*text) {
        char *end;
        long tasks = strtol(text, &end, 10), nodes = 1;
        if (end == text || tasks < 1 || tasks > TASKS_MAX)
            return false;
        if (strncmp(end, "(x", 2) == 0) {
            nodes = strtol(end + 2, &end, 10);
            if (*end != ')' || nodes < 1 || tasks * nodes > TASKS_MAX - *all)
                return false;
            end++;
        }
        if (*end != ',' && *end != '\0')
            return false;
        *all += (int)(tasks * nodes);
        *most = tasks > *most ? (int)tasks : *most;
        text = end + (*end == ',');
    }
    return *all > 0;
}

bool allocation_read(struct allocation *out)
{
    const char *job = getenv("SLURM_JOB_ID"), *tasks = getenv("SLURM_TASKS_PER_NODE");
    *out = (struct allocation){0};
    if (!job || !*job)
        return false;
    int cores = machine_cores();
    out->node_cpus = number_of("SLURM_CPUS_ON_NODE");
    out->nodes = number_of("SLURM_JOB_NUM_NODES");
    out->nodes = out->nodes ? out->nodes : 1;
    out->rank_cpus = number_of("SLURM_CPUS_PER_TASK");
    out->node_cores = out->node_cpus && out->node_cpus < cores ? out->node_cpus : cores;
    if (!tasks || !allocation_tasks(tasks, &out->ranks, &out->node_ranks)) {
        out->ranks = out->nodes;
        out->node_ranks = 1;
    }
    return true;
}

int allocation_threads(const struct allocation *a)
{
    int threads = a->node_cores / a->node_ranks;
    // Hardware threads count as CPUs on most clusters, but are no cores: the fewer hold.
    if (a->rank_cpus && a->rank_cpus < threads)
        threads = a->rank_cpus;
    return threads < 1 ? 1 : threads;
}

int launcher_choose(enum launcher *out, const struct start *s, const char *worker)
{
    struct allocation a;
    char said[SAID];
    const char *asked = s->launcher ? s->launcher : "mpirun";
    bool inside = allocation_read(&a);
    *out = LAUNCHER_MPIRUN;
    if (strcmp(asked, "srun") == 0) {
        if (!inside)
            return FAIL(RETORT_USAGE,
                        "--launcher srun: this is no Slurm allocation; \"retort "
                        "submit\" makes a job, salloc an allocation");
        if (s->hosts)
            return FAIL(RETORT_USAGE,
                        "--launcher srun takes the allocation's hosts; --hosts is "
                        "for mpirun");
        *out = LAUNCHER_SRUN;
    } else if (strcmp(asked, "auto") == 0 && inside && !s->hosts) {
        if (probe_srun(worker, a.nodes < 2 ? 1 : 2, s->ranks < 2 ? 1 : 2, said, sizeof said))
            *out = LAUNCHER_SRUN;
        else
            log_info("srun starts no MPI ranks here (%s): mpirun does", said);
    }
    return RETORT_OK;
}
