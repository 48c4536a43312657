#include "launcher/sbatch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

enum { CODE_NOT_FOUND = 127 };

// In the child: never returns.
static _Noreturn void become_sbatch(const char *const *words, int output)
{
    dup2(output, STDOUT_FILENO);
    execvp(words[0], (char *const *)(uintptr_t)words); // which changes none of them
    _exit(errno == ENOENT ? CODE_NOT_FOUND : RETORT_FAILED);
}

// "1234" or "1234;cluster".
static void read_job(char job[JOB_ID], int from)
{
    size_t used = 0;
    for (ssize_t count; used < JOB_ID - 1; used += (size_t)count) {
        count = read(from, job + used, JOB_ID - 1 - used);
        if (count <= 0)
            break;
    }
    job[used] = '\0';
    job[strcspn(job, ";\n")] = '\0';
}

int sbatch_submit(char job[JOB_ID], const char *const *words)
{
    int output[2], status = 0;
    if (pipe2(output, O_CLOEXEC) != 0)
        return FAIL(RETORT_FAILED, "cannot make a pipe: %s", strerror(errno));
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        become_sbatch(words, output[1]);
    close(output[1]);
    if (pid > 0)
        read_job(job, output[0]);
    close(output[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return FAIL(RETORT_FAILED, "cannot start %s: %s", words[0], strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == CODE_NOT_FOUND)
        return FAIL(RETORT_FAILED,
                    "sbatch is not in the PATH: is this a login node of a Slurm "
                    "cluster? --dry-run shows what would be submitted");
    if (status != 0 || !job[0])
        return FAIL(RETORT_USAGE, "sbatch has refused the job (see above)");
    return RETORT_OK;
}
