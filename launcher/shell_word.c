#include "launcher/shell_word.h"

#include <string.h>

void shell_word(FILE *out, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        "0123456789_-./:=,@%+";
    if (*word && word[strspn(word, plain)] == '\0') {
        (void)fputs(word, out);
        return;
    }
    (void)fputc('\'', out);
    for (; *word; word++)
        (void)(*word == '\'' ? fputs("'\\''", out) : fputc(*word, out));
    (void)fputc('\'', out);
}

void shell_line(FILE *out, const char *const *words)
{
    for (; *words; words++) {
        shell_word(out, *words);
        (void)fputc(words[1] ? ' ' : '\n', out);
    }
}
