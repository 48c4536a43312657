// retort stop: asks a run to checkpoint and leave.

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/owner.h"

static const char ABOUT[] =
    "Asks the run that owns RUN_DIR to write a checkpoint and leave (code 75). Works from any\n"
    "host that sees the folder.";

int stop_main(int argc, char **argv)
{
    const struct command_options options = {"stop", "RUN_DIR", ABOUT, NULL, 0, 1, 1};
    char path[PATH_CAPACITY];
    struct owner owner;
    bool helped;
    int first, rc;
    TRY(options_parse(&options, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    const char *folder = argv[first];
    TRY(path_join(path, folder, "recipe.yaml"));
    TRY_ELSE(file_exists(path), RETORT_INPUT, "%s is no run folder: it has no recipe.yaml", folder);
    if (!owner_read(&owner, folder) || !owner_is_alive(&owner)) {
        log_info("%s is not running", folder);
        return RETORT_OK;
    }
    // The ranks look for this file; the signal, where it can be sent, is only faster.
    TRY(path_join(path, folder, "stop-requested"));
    TRY(file_write_whole(path, "", 0));
    if (owner_is_here(&owner) && kill((pid_t)owner.pid, SIGUSR1) != 0)
        log_warn("cannot signal pid %lld: %s; the run sees the request at its next log line",
                 (long long)owner.pid, strerror(errno));
    log_info("asked %s (host %s, pid %lld) to stop after a checkpoint", folder, owner.host,
             (long long)owner.pid);
fail:
    return rc;
}
