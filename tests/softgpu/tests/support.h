#pragma once
// What the software GPU's tests of itself share.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "tests/softgpu/softgpu.h"

#define OK(call) assert_int_equal((call), cudaSuccess)

// The three orders of threads, the last by seed: for (int o = 0; o < ORDERS; o++) order_set(o).
enum { ORDERS = 5 };
void order_set(int index);

// Device memory holding a copy of `from`, or untouched where from is NULL.
void *device_new(const void *from, size_t bytes);
// Waits for everything and copies back.
void device_get(void *to, const void *from, size_t bytes);

// What was refused since the last softgpu_reset, in the mode that keeps faults: fails the test
// unless the line has all of these texts (NULL ends them) and the device reports `code`.
void expect_fault(cudaError_t code, ...);
// Faults end the process again: for teardown.
int keep_faults(void **state);
int end_on_faults(void **state);

// Runs body(context) in a process of its own, whose standard error goes to `line`; returns its
// exit status.
int in_child(void (*body)(void *context), void *context, char *line, size_t line_bytes);
