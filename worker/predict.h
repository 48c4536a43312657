#pragma once
// `retort predict`: what a checkpoint's network sees in pictures.

#include <stdbool.h>

struct predict_request {
    const char *checkpoint, *device;
    char *const *pictures; // their files, JPEG or PNG
    int count;
    bool ema; // the EMA weights in place of the raw ones
    bool as_json;
    int threads;
};

// Prints the five likeliest classes of each picture. All pictures are read before the first is
// looked at: one that cannot be read is an error, and nothing is printed. Not collective: no ranks.
int predict(const struct predict_request *request);
