// retort-worker: one rank. Started by `retort`, through mpirun where ranks are several; not for
// typing by hand.

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "worker/bench.h"
#include "worker/device.h"
#include "worker/eval_checkpoint.h"
#include "worker/export.h"
#include "worker/import.h"
#include "worker/predict.h"
#include "worker/run.h"

static const char USAGE[] = "retort-worker is started by `retort`; try `retort --help`\n";

static int whole_number(const char *text, int *out)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    *out = (int)value;
    if (end == text || *end != '\0' || value < 0 || value > 1 << 30)
        return FAIL(RETORT_USAGE, "not a whole number: %s", text);
    return RETORT_OK;
}

// run FOLDER --device D --stages LIST
static int main_run(struct comm *comm, int argc, char **argv, bool *agreed)
{
    const char *device = "auto", *stages = "";
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--device") == 0)
            device = argv[i + 1];
        else if (strcmp(argv[i], "--stages") == 0)
            stages = argv[i + 1];
    }
    return run_stages(comm, argv[2], device_choose(device), stages, agreed);
}

// eval CHECKPOINT DATA raw|ema train|val JSON DEVICE THREADS LOGITS
static int main_eval(struct comm *comm, char **argv, bool *agreed)
{
    struct eval_request request = {
        .checkpoint = argv[2],
        .data = argv[3],
        .ema = strcmp(argv[4], "ema") == 0,
        .split = strcmp(argv[5], "train") == 0 ? SPLIT_TRAIN : SPLIT_VAL,
        .as_json = strcmp(argv[6], "1") == 0,
        .device = device_choose(argv[7]),
        .logits = argv[9],
    };
    int rc = whole_number(argv[8], &request.threads);
    return rc ? rc : eval_checkpoint(comm, &request, agreed);
}

// predict CHECKPOINT raw|ema JSON DEVICE THREADS IMAGE…
static int main_predict(int argc, char **argv)
{
    struct predict_request request = {
        .checkpoint = argv[2],
        .ema = strcmp(argv[3], "ema") == 0,
        .as_json = strcmp(argv[4], "1") == 0,
        .device = device_choose(argv[5]),
        .pictures = argv + 7,
        .count = argc - 7,
    };
    int rc = whole_number(argv[6], &request.threads);
    return rc ? rc : predict(&request);
}

// export CHECKPOINT OUT raw|ema
static int main_export(char **argv)
{
    struct export_request request = {
        .checkpoint = argv[2], .out = argv[3], .ema = strcmp(argv[4], "ema") == 0};
    return export_checkpoint(&request);
}

// import IN OUT ARCH NORM ACTIVATION DATA SIZE MEAN DEVIATION CLASSES
static int main_import(char **argv)
{
    struct import_request request = {.in = argv[2],
                                     .out = argv[3],
                                     .arch = argv[4],
                                     .norm = argv[5],
                                     .activation = argv[6],
                                     .data = argv[7],
                                     .size = argv[8],
                                     .mean = argv[9],
                                     .deviation = argv[10],
                                     .classes = argv[11]};
    return import_checkpoint(&request);
}

// What needs no other ranks, and so no MPI; false when argv is none of it.
static bool dispatch_alone(int argc, char **argv, int *rc)
{
    if (argc >= 8 && strcmp(argv[1], "predict") == 0)
        *rc = main_predict(argc, argv);
    else if (argc == 3 && strcmp(argv[1], "devices") == 0)
        *rc = device_print(argv[2]);
    else if (argc == 5 && strcmp(argv[1], "export") == 0)
        *rc = main_export(argv);
    else if (argc == 12 && strcmp(argv[1], "import") == 0)
        *rc = main_import(argv);
    else
        return false;
    return true;
}

static int dispatch(struct comm *comm, int argc, char **argv, bool *agreed)
{
    if (argc >= 3 && strcmp(argv[1], "run") == 0)
        return main_run(comm, argc, argv, agreed);
    if (argc == 10 && strcmp(argv[1], "eval") == 0)
        return main_eval(comm, argv, agreed);
    if (argc == 11 && strcmp(argv[1], "bench") == 0)
        return bench_main(comm, argv + 2, agreed);
    if (argc == 2 && strcmp(argv[1], "probe") == 0) // of a launcher: that there are ranks is all
        return RETORT_OK;
    (void)fputs(USAGE, stderr);
    *agreed = true;
    return RETORT_USAGE;
}

// A launcher without a working PMI starts many worlds of one rank, which would all write the same
// files. The first of them speaks.
static int check_size(const struct comm *comm, bool *agreed)
{
    const char *asked = getenv("RETORT_RANKS"), *task = getenv("SLURM_PROCID");
    int wanted = 0, rc = RETORT_OK;
    if (asked)
        rc = whole_number(asked, &wanted);
    if (rc != RETORT_OK || !asked || wanted == comm_size(comm))
        return rc;
    *agreed = true; // it is every rank's
    if (comm_rank(comm) > 0 || (comm_size(comm) == 1 && task && strcmp(task, "0") != 0))
        return RETORT_USAGE;
    return FAIL(RETORT_USAGE,
                "MPI size is not what the launcher asked for: %d in place of %d; is retort-worker "
                "linked with the MPI of this mpirun, or the PMI of this srun?",
                comm_size(comm), wanted);
}

int main(int argc, char **argv)
{
    struct comm *comm = NULL;
    bool agreed = false;
    int rc;
    if (dispatch_alone(argc, argv, &rc))
        return rc;
    rc = comm_mpi_create(&comm);
    if (rc != RETORT_OK)
        return rc;
    rc = check_size(comm, &agreed);
    if (rc == RETORT_OK)
        rc = dispatch(comm, argc, argv, &agreed);
    if (rc != RETORT_OK && !agreed)
        comm_abort(comm, rc); // peers may wait for us in a collective
    comm_destroy(&comm);
    return rc;
}
