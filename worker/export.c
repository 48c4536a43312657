#include "worker/export.h"

#include "base/error.h"
#include "base/log.h"
#include "worker/network_file.h"
#include "worker/state_dict.h"

// The caller's to json_decref(); NULL with a message.
static json_t *make_metadata(const struct network_file *f)
{
    char *pictures = network_facts_pictures(&f->facts), *classes = network_facts_classes(&f->facts);
    json_t *metadata = NULL;
    if (pictures && classes)
        metadata = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "format", "pt", "arch", f->graph->arch,
                             "norm", f->norm, "activation", f->activation, "pictures", pictures,
                             "classes", classes);
    if (!metadata)
        (void)FAIL(RETORT_MEMORY, "no memory to describe a network");
    free(pictures);
    free(classes);
    return metadata;
}

int export_checkpoint(const struct export_request *q)
{
    struct network_file f;
    struct state_dict d = {0};
    json_t *metadata = NULL;
    const void *weights;
    char what[NETWORK_TEXT];
    int rc;
    TRY(network_file_read(&f, q->checkpoint, NULL));
    TRY(network_file_weights(&f, q->ema, q->checkpoint, &weights));
    int64_t step = json_integer_value(json_object_get(f.checkpoint.state, "step"));
    TRY(state_dict_create(&d, f.graph, f.checkpoint.real));
    state_dict_point(&d, f.graph, f.checkpoint.real, weights, &step);
    metadata = make_metadata(&f);
    TRY(metadata ? RETORT_OK : RETORT_MEMORY);
    TRY(safetensors_write(q->out, metadata, d.tensors, d.count));
    network_describe(what, f.graph, f.norm, &f.facts);
    log_info("%s: %s, %s weights of step %lld", q->out, what, q->ema ? "EMA" : "raw",
             (long long)step);
fail:
    json_decref(metadata);
    state_dict_free(&d);
    network_file_free(&f);
    return rc;
}
