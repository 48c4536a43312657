#pragma once
// ranks/<r>.state: what a rank is doing, as text of a fixed size, mapped and rewritten in place.
//
// A write is a store to memory, not a system call, and what a killed process wrote last stays in
// the file. The first and the last line carry the same generation unless a write is under way, so
// that readers, in other processes and on other nodes, can tell and read again. For comm/ and for
// launchers that look for ranks.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STATE_RECORDS = 8, STATE_NAME = 24, STATE_HOST = 64, STATE_PHASE = 48 };

struct state_record {
    int64_t number; // the how-manieth collective of the rank; 0: a wait that is not counted
    int64_t step;   // of the rank when it entered; -1: none yet
    uint64_t bytes;
    double entered_s, left_s; // of the wall clock; left_s = 0: still inside
    char name[STATE_NAME];
};

struct rank_state {
    bool whole; // read between two writes, not during one that never ended
    int64_t generation;
    int rank, size;
    int64_t pid;
    int64_t step;        // -1: none yet
    int64_t exit_code;   // -1: running
    int64_t collectives; // entered so far: the same number on ranks that are equally far
    int64_t latest;   // records written so far; the last is records[(latest - 1) % STATE_RECORDS]
    double changed_s; // when the rank wrote last
    double alive_s;   // when its watchdog thread woke last
    char host[STATE_HOST], phase[STATE_PHASE];
    struct state_record records[STATE_RECORDS];
};

struct state_file; // opaque: the mapped file

// Replaces the file of an earlier run; returns RETORT_WRITE when it cannot.
int state_file_create(struct state_file **out, const char *folder, const struct rank_state *s);
// Takes NULL. The file stays.
void state_file_close(struct state_file **p);

// Rewrites what changed: phase, step, exit code and collectives; with `record`, the latest record.
void state_file_write(struct state_file *f, struct rank_state *s, bool record);
// Rewrites the time the watchdog woke, and starts writing the page to disk for other nodes to see;
// the one call for another thread than the owner's.
void state_file_alive(struct state_file *f, double alive_s);
// True when the file is no longer at its place in `folder`: a launcher has removed it, since it
// holds this rank for gone, or another rank has put its own there. What cannot be looked at is not
// taken.
bool state_file_taken(const struct state_file *f, const char *folder, int rank);

// Reads rank `rank`'s file. Returns RETORT_INPUT, and prints nothing, when there is none.
int state_read(struct rank_state *s, const char *folder, int rank);
// The last record, or NULL before the first.
const struct state_record *state_latest(const struct rank_state *s);
// True when the rank is inside a collective or a wait.
bool state_inside(const struct rank_state *s);
// "student step 412, in all-reduce of 7.5 MB for 2.1 s"
void state_describe(const struct rank_state *s, char *out, size_t out_bytes);
// "all-reduce of 7.5 MB, agreement of 4 B": the records before the latest, the last of them first,
// as far as they are kept and fit; "" when there are none.
void state_history(const struct rank_state *s, char *out, size_t out_bytes);
// "all-reduce of 7.5 MB"
void record_describe(const struct state_record *r, char *out, size_t out_bytes);
// "student step 412"
void state_place(const struct rank_state *s, char *out, size_t out_bytes);

// Seconds of the wall clock, which processes of one node share.
double wall_seconds(void);
