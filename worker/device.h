#pragma once
// The device of a rank: which one, how precisely it computes, and how ranks that have a GPU each
// add up what lies in their memory.

#include "comm/comm.h"
#include "comm/device.h"
#include "models/engine.h"

// What "auto" stands for: cuda where this machine has a GPU that can be used, else cpu. Borrowed.
const char *device_choose(const char *asked);
// enum precision_kind in which `device` uses a network that was trained in `trained`: GPUs as
// it was trained, f64 and foreign ones in f32; processors in bf16 if it was and they gain by it,
// else in f32; others as they always do.
int64_t device_precision(const char *device, int64_t trained);
// "f32", "f64", "bf16", "tf32" or "fp16": of the activations of an engine opened in `precision`.
const char *device_precision_name(const struct engine *e, int64_t precision);
// Prints one JSON object: what the device's plug-in sees of this machine's GPUs.
int device_print(const char *device);

// Collective, when every rank's engine is open. From now on collectives on the engine's memory
// (comm/comm.h) are the GPUs' own; on other devices *out is NULL and nothing changes. `timeout_s`:
// of a wait between GPUs, unless a watchdog has one.
int device_connect(struct device_comm **out, struct comm *comm, struct engine *e,
                   const char *device, double timeout_s);
// Collective, before the engine is closed. Takes NULL.
void device_disconnect(struct device_comm **p, struct comm *comm);
