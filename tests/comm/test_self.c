// One process: every collective gives what one rank holds, and abort leaves with its code.

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/comm/collectives.h"

static int abort_code(struct comm *c)
{
    pid_t child = fork();
    if (child == 0)
        comm_abort(c, RETORT_NUMERIC);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    struct comm *c = NULL;
    CHECK(comm_self_create(&c) == RETORT_OK);
    CHECK(comm_size(c) == 1 && comm_rank(c) == 0);
    CHECK(abort_code(c) == RETORT_NUMERIC);
    int failed = collectives_run(c, &test_memory_host);
    comm_destroy(&c);
    CHECK(c == NULL);
    comm_destroy(&c); // takes NULL
    return failed;
}
