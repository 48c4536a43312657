#include "launcher/job_script.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "launcher/shell_word.h"

static const char *const LINES[] = {
#include "job_script_lines.h"
};
enum { LINE_COUNT = sizeof LINES / sizeof LINES[0] };
static const char BEGIN[] = "# == settings", END[] = "# == end of settings";

static void write_text(FILE *out, const char *option, const char *value)
{
    if (value)
        (void)fprintf(out, "#SBATCH --%s=%s\n", option, value);
}

static void write_count(FILE *out, const char *option, int value)
{
    if (value > 0)
        (void)fprintf(out, "#SBATCH --%s=%d\n", option, value);
}

static void write_word(FILE *out, const char *name, const char *value)
{
    (void)fprintf(out, "%s=", name);
    shell_word(out, value);
    (void)fputc('\n', out);
}

static void write_words(FILE *out, const char *name, const char *const *items, int count)
{
    (void)fprintf(out, "%s=(", name);
    for (int i = 0; i < count; i++) {
        (void)fputs(i ? " " : "", out);
        shell_word(out, items[i]);
    }
    (void)fputs(")\n", out);
}

// A name with blanks is quoted for sbatch as for a shell. %A_%a: an array's own and its task's
// number.
static void write_settings(const struct job *j, FILE *out)
{
    write_text(out, "job-name", j->name);
    (void)fputs("#SBATCH --chdir=", out);
    shell_word(out, j->work_folder);
    (void)fputs("\n#SBATCH --output=", out);
    char log[PATH_CAPACITY + 32], ranks[16];
    (void)snprintf(log, sizeof log, "%s/slurm-%s.log", j->folder, j->sweep ? "%A_%a" : "%j");
    shell_word(out, log);
    (void)fputc('\n', out);
    write_text(out, "nodes", j->nodes);
    if (j->elastic) {
        write_count(out, "mincpus", j->ranks_per_node * j->threads);
    } else {
        write_count(out, "ntasks-per-node", j->ranks_per_node);
        write_count(out, "cpus-per-task", j->threads);
    }
    write_count(out, "gpus-per-node", j->gpus_per_node);
    write_text(out, "time", j->time);
    write_text(out, "partition", j->partition);
    write_text(out, "account", j->account);
    (void)fprintf(out, "#SBATCH --signal=B:USR1@%d\n", j->warn_s);
    if (j->sweep)
        (void)fprintf(out, "#SBATCH --array=0-%d\n", j->sweep->count - 1);
    (void)fputc('\n', out);
    write_words(out, "modules", j->modules.items, j->modules.count);
    write_word(out, "retort", j->retort);
    write_word(out, "recipe", j->recipe);
    write_word(out, "out", j->folder);
    write_words(out, "options", j->options.items, j->options.count);
    (void)snprintf(ranks, sizeof ranks, "%d", j->ranks_per_node);
    write_word(out, "ranks_per_node", j->elastic ? ranks : "");
    write_words(out, "sweep", j->sweep ? j->sweep->items : NULL, j->sweep ? j->sweep->count : 0);
}

void job_script_write(const struct job *j, FILE *out)
{
    bool settings = false, written = false;
    for (size_t i = 0; i < LINE_COUNT; i++) {
        if (strcmp(LINES[i], END) == 0) {
            settings = false;
            written = true;
            write_settings(j, out);
        }
        if (!settings)
            (void)fprintf(out, "%s\n", LINES[i]);
        settings = settings || strcmp(LINES[i], BEGIN) == 0;
    }
    CHECK(written && !settings);
}
