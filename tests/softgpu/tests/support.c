#include "support.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void order_set(int index)
{
    const enum softgpu_order orders[ORDERS] = {SOFTGPU_FORWARD, SOFTGPU_REVERSE, SOFTGPU_SHUFFLED,
                                               SOFTGPU_SHUFFLED, SOFTGPU_SHUFFLED};
    softgpu_set_order(orders[index], (uint64_t)index);
}

void *device_new(const void *from, size_t bytes)
{
    void *p;
    OK(cudaMalloc(&p, bytes));
    if (from != NULL)
        OK(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

void device_get(void *to, const void *from, size_t bytes)
{
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

void expect_fault(cudaError_t code, ...)
{
    char line[1024];
    va_list texts;
    assert_int_equal(cudaDeviceSynchronize(), code);
    snprintf(line, sizeof(line), "%s", softgpu_fault());
    va_start(texts, code);
    for (const char *text; (text = va_arg(texts, const char *)) != NULL;)
        if (strstr(line, text) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", line, text);
    va_end(texts);
    softgpu_reset();
}

int keep_faults(void **state)
{
    (void)state;
    softgpu_reset();
    softgpu_keep_faults(true);
    return 0;
}

int end_on_faults(void **state)
{
    (void)state;
    softgpu_keep_faults(false);
    softgpu_reset();
    return 0;
}

int in_child(void (*body)(void *context), void *context, char *line, size_t line_bytes)
{
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        body(context);
        _exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; length + 1 < line_bytes &&
                    (n = read(ends[0], line + length, line_bytes - 1 - length)) > 0;)
        length += (size_t)n;
    line[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}
