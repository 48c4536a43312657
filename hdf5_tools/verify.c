#include "hdf5_tools/verify.h"

#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/dataset.h"

static int verify_dataset(const char *path)
{
    struct dataset d;
    int rc = dataset_open(&d, path);
    if (rc != RETORT_OK)
        return rc;
    for (enum dataset_split s = SPLIT_TRAIN; s < SPLIT_COUNT; s++) {
        int split_rc = dataset_verify_blocks(&d, s);
        rc = rc == RETORT_OK ? split_rc : rc;
    }
    if (rc == RETORT_OK)
        log_info("%s is whole: a data set of %lld train and %lld val pictures, fingerprint %s",
                 path, (long long)d.count[SPLIT_TRAIN], (long long)d.count[SPLIT_VAL],
                 d.fingerprint);
    dataset_close(&d);
    return rc;
}

int verify(const char *path)
{
    struct h5file f;
    int rc = h5file_open(&f, path, NULL, false);
    if (rc != RETORT_OK)
        return rc;
    bool is_dataset = strcmp(f.kind, H5_KIND_DATASET) == 0;
    if (!is_dataset && f.region_count > 0)
        rc = FAIL(RETORT_INPUT, "%s: the sample blocks of a %s file are not known here", path,
                  f.kind);
    else if (!is_dataset)
        log_info("%s is whole: kind %s, format version %u", path, f.kind, f.version);
    h5file_close(&f);
    return is_dataset ? verify_dataset(path) : rc;
}
