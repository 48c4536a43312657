#pragma once
// Starts the ranks again when one of them died.

#include "launcher/start.h"

enum { RESTARTS_MAX = 100 };

// Runs the ranks to their end, as start_ranks does, and up to `limit` times again (RESTARTS_MAX at
// most) from the last checkpoint when one was killed, left without a word or was failed by a
// library or its peers: never after wrong usage, bad input, a full disk, a loss that is not finite,
// or when asked to stop. Waits longer before each; gives up with the first cause when the ranks
// fail twice at the same step. Each restart is a line of metrics.jsonl and of log.txt. The start
// has a run folder and an owner.
int restart_ranks(const struct start *start, int limit);
