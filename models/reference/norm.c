// BatchNorm in a network: statistics of one micro-batch, or of the whole batch.
//
// Sums are taken in the two steps that rounding wants: the mean is known before squares are summed.

#include <string.h>

#include "models/reference/network.h"
#include "models/reference/operations.h"

size_t reference_norm_sums(struct reference_network *r, int index, enum host_pass pass, int stop,
                           double *sums)
{
    const struct node *n = &r->host.graph->nodes[index];
    const double *x = r->values[n->input];
    int count = r->host.count, channels = n->channels, area = n->height * n->width;
    if (pass == HOST_FORWARD && stop == 0) {
        batchnorm_sum(count, channels, area, x, sums);
        sums[channels] = count;
        return (size_t)channels + 1;
    }
    if (pass == HOST_FORWARD && stop == 1) {
        batchnorm_squares(count, channels, area, x, r->means[index], sums);
        return (size_t)channels;
    }
    if (pass == HOST_BACKWARD && stop == 0) {
        batchnorm_backward_sums(count, channels, area, x, r->means[index], r->variances[index],
                                r->gradients[index], r->own, r->own + channels);
        memcpy(sums, r->own, 2 * (size_t)channels * sizeof(*sums));
        return 2 * (size_t)channels;
    }
    return 0;
}

// How many numbers of a channel were normalised together.
static double norm_values(const struct reference_network *r, int index)
{
    const struct node *n = &r->host.graph->nodes[index];
    return r->samples[index] * n->height * n->width;
}

void reference_norm_totals(struct reference_network *r, int index, enum host_pass pass, int stop,
                           const double *totals)
{
    int channels = r->host.graph->nodes[index].channels;
    if (pass == HOST_BACKWARD) {
        memcpy(r->whole, totals, 2 * (size_t)channels * sizeof(*totals));
        return;
    }
    if (stop == 0)
        r->samples[index] = totals[channels];
    for (int c = 0; c < channels; c++)
        (stop == 0 ? r->means : r->variances)[index][c] = totals[c] / norm_values(r, index);
}

// The micro-batch is all there is to sum over.
static void norm_alone(struct reference_network *r, int index, enum host_pass pass)
{
    for (int stop = 0; reference_norm_sums(r, index, pass, stop, r->host.base.sums) > 0; stop++)
        reference_norm_totals(r, index, pass, stop, r->host.base.sums);
}

void reference_norm_forward(struct reference_network *r, int index)
{
    const struct node *n = &r->host.graph->nodes[index];
    const double *mean = reference_weight(r, n->mean), *variance = reference_weight(r, n->variance);
    if (r->host.mode == FORWARD_TRAIN) {
        if (!n->synced)
            norm_alone(r, index, HOST_FORWARD);
        mean = r->means[index];
        variance = r->variances[index];
    }
    batchnorm_forward(r->host.count, n->channels, n->height * n->width, r->values[n->input],
                      reference_weight(r, n->weight), reference_weight(r, n->bias), mean, variance,
                      r->values[index]);
}

void reference_norm_backward(struct reference_network *r, int index, double *dgamma, double *dbeta)
{
    const struct node *n = &r->host.graph->nodes[index];
    size_t channels = (size_t)n->channels;
    if (!n->synced)
        norm_alone(r, index, HOST_BACKWARD);
    memcpy(dgamma, r->own, channels * sizeof(*dgamma));
    memcpy(dbeta, r->own + channels, channels * sizeof(*dbeta));
    batchnorm_backward(r->host.count, n->channels, n->height * n->width, r->values[n->input],
                       reference_weight(r, n->weight), r->means[index], r->variances[index],
                       r->gradients[index], norm_values(r, index), r->whole, r->whole + channels,
                       r->gradients[n->input]);
}

void reference_norm_report(const struct reference_network *r, double share, double *gradients)
{
    const struct graph *g = r->host.graph;
    for (int i = 1; i < g->node_count; i++) {
        const struct node *n = &g->nodes[i];
        if (n->kind != NODE_BATCHNORM)
            continue;
        double values = norm_values(r, i);
        double unbiased = values > 1.0 ? values / (values - 1.0) : 1.0;
        double *mean = reference_gradient(r, gradients, n->mean);
        double *variance = reference_gradient(r, gradients, n->variance);
        for (int c = 0; c < n->channels; c++) {
            mean[c] = share * r->means[i][c];
            variance[c] = share * unbiased * r->variances[i][c];
        }
    }
}
