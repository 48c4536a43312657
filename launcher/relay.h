#pragma once
// What mpirun writes to stderr, line by line: the ranks' own lines go on to the user, mpirun's
// chatter (banners between rows of dashes, "[host:pid] …" notes) only to a log file. What the
// chatter says of a rank that died or left is kept, and so is the last of each kind.

#include <stdbool.h>
#include <stddef.h>

enum { RELAY_LINE = 16384, RELAY_TEXT = 1024, RELAY_NAME = 256 };

struct relay {
    int log;                // descriptor of the log of everything, or -1; borrowed
    bool terminal;          // stdout and stderr are one: erase a progress line first
    bool framed;            // inside a banner
    bool fresh;             // whose first line is to come
    bool dull;              // that says nothing of the cause
    bool error_seen;        // a rank has said what is wrong
    int error_rank;         // which, or -1
    char error[RELAY_TEXT]; // its words, without the rank in front
    int dead_rank;          // that died by a signal, or -1
    int dead_signal;
    char dead_host[RELAY_NAME];
    int exit_rank;           // the first to end with a code other than 0, or -1
    int exit_code;           // that code
    char banner[RELAY_TEXT]; // the last banner as one line, "" for none
    char note[RELAY_TEXT];   // the last note, "" for none
    char line[RELAY_LINE];
    size_t used;
};

void relay_init(struct relay *r, int log);
void relay_feed(struct relay *r, const char *bytes, size_t count);
// What stands without an end of line is a line too.
void relay_end(struct relay *r);
