// retort export, retort import: weights to and from PyTorch (docs/pytorch.md).

#include "base/error.h"
#include "base/file.h"
#include "launcher/checkpoint_choice.h"
#include "launcher/commands.h"
#include "launcher/options.h"
#include "launcher/start.h"

static const char EXPORT_ABOUT[] =
    "The weights of a checkpoint, or of a run's furthest stage, as a safetensors file with the "
    "names\nand shapes of PyTorch's state_dict(). See docs/pytorch.md.";

static const char IMPORT_ABOUT[] =
    "A safetensors file of PyTorch's state_dict() as a checkpoint, for eval, predict, export and\n"
    "teacher.from. What the weights do not say is taken from the options, else from the data set,\n"
    "else from the file's __metadata__, where \"retort export\" puts it. See docs/pytorch.md.";

int export_main(int argc, char **argv)
{
    const char *weights = "raw", *stage = NULL;
    char checkpoint[PATH_CAPACITY];
    const struct option_row rows[] = {
        {"weights", OPTION_CHOICE, "raw|ema", &weights, "default raw", 0, 0},
        {"stage", OPTION_CHOICE, "teacher|baseline|student", &stage,
         "of a run (default: the student, else what there is)", 0, 0},
    };
    const struct command_options options = {"export", "CKPT_OR_RUN OUT.safetensors", EXPORT_ABOUT,
                                            rows,     sizeof rows / sizeof rows[0],  2,
                                            2};
    bool helped;
    int first, rc = options_parse(&options, argc, argv, &first, &helped);
    if (rc != RETORT_OK || helped)
        return rc;
    rc = checkpoint_choose(checkpoint, argv[first], stage);
    if (rc != RETORT_OK)
        return rc;
    const char *words[] = {"export", checkpoint, argv[first + 1], weights, NULL};
    return start_alone(words);
}

int import_main(int argc, char **argv)
{
    const char *arch = "", *norm = "", *activation = "", *data = "", *size = "", *mean = "",
               *deviation = "", *classes = "";
    const struct option_row rows[] = {
        {"arch", OPTION_TEXT, "NAME", &arch, "the network: conv12 or conv4", 0, 0},
        {"norm", OPTION_CHOICE, "batch|batch_sync|none", &norm,
         "BatchNorm behind each convolution, or none (default batch)", 0, 0},
        {"activation", OPTION_CHOICE, "relu|none", &activation, "default relu", 0, 0},
        {"data", OPTION_TEXT, "FILE", &data,
         "a packed data set: its size, mean, deviation and class names", 0, 0},
        {"size", OPTION_TEXT, "N|WxH", &size, "pixels of the pictures that the network takes", 0,
         0},
        {"mean", OPTION_TEXT, "R,G,B", &mean,
         "subtracted from pixels in [0, 1], as Normalize(mean, …) does", 0, 0},
        {"deviation", OPTION_TEXT, "R,G,B", &deviation, "and they are divided by that", 0, 0},
        {"classes", OPTION_TEXT, "FILE", &classes, "the names of the classes in order, one a line",
         0, 0},
    };
    const struct command_options options = {
        "import", "IN.safetensors OUT.h5", IMPORT_ABOUT, rows, sizeof rows / sizeof rows[0], 2, 2};
    bool helped;
    int first, rc = options_parse(&options, argc, argv, &first, &helped);
    if (rc != RETORT_OK || helped)
        return rc;
    const char *words[] = {"import", argv[first], argv[first + 1], arch,    norm, activation, data,
                           size,     mean,        deviation,       classes, NULL};
    return start_alone(words);
}
