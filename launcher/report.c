// retort report: one page of curves and tables, of one run or of several side by side.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/report_page.h"

static const char ABOUT[] =
    "Writes one HTML page of what the runs have come to: a table that compares them, curves and\n"
    "the numbers of every epoch. It needs nothing beside it: open it, mail it, keep it.";

int report_main(int argc, char **argv)
{
    const char *out = "report.html";
    const struct option_row rows[] = {
        {"out", OPTION_TEXT, "FILE", &out, "the page (default: report.html)", 0, 0},
    };
    const struct command_options options = {
        "report", "RUN_DIR...", ABOUT, rows, sizeof rows / sizeof rows[0], 1, REPORT_RUNS_MAX};
    char *text = NULL;
    size_t bytes = 0;
    bool helped;
    int first, rc;
    FILE *page = NULL;
    TRY(options_parse(&options, argc, argv, &first, &helped));
    if (helped)
        return RETORT_OK;
    page = open_memstream(&text, &bytes);
    TRY_ELSE(page, RETORT_MEMORY, "no memory for the page: %s", strerror(errno));
    TRY(report_page(page, (const char *const *)argv + first, argc - first));
    rc = fclose(page) == 0 ? RETORT_OK : FAIL(RETORT_MEMORY, "no memory for the page");
    page = NULL;
    if (rc == RETORT_OK)
        rc = file_write_whole(out, text, bytes);
    if (rc == RETORT_OK)
        log_info("wrote %s", out);
fail:
    if (page)
        fclose(page);
    free(text);
    return rc;
}
