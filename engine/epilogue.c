/* epilogue.c: what was fused into a node, in one run. */
#include "epilogue.h"

#include "norm.h"

#include <math.h>

struct epilogue epilogue_of(const struct node *n, const struct run *r)
{
    const struct fused *f = n->fused;
    if (!f)
        return (struct epilogue){.activation = ACTIVATION_NONE};
    return (struct epilogue){.activation = f->activation,
                             .residual = f->residual ? run_in(r, n, 1) : NULL,
                             .residual_last = f->residual_last};
}

int64_t epilogue_fold_size(const struct node *n, int64_t outs, int64_t each)
{
    return n->fused && n->fused->norm ? outs * each : 0;
}

static const real *norm_values(const struct node *n, const struct run *r, int k)
{
    const int at = n->fused->norm + k;
    return n->in[at] ? run_in(r, n, at) : NULL;
}

struct folded epilogue_fold(const struct node *n, const struct run *r, int64_t outs, int64_t each,
                            struct folded given, bool ready, real *bias, real *work)
{
    if (!n->fused || !n->fused->norm)
        return given;
    const real *scale = norm_values(n, r, NORM_WEIGHT), *shift = norm_values(n, r, NORM_BIAS);
    const real *mean = norm_values(n, r, NORM_MEAN), *var = norm_values(n, r, NORM_VAR);
    for (int64_t o = 0; o < outs && !ready; o++) {
        const double s = (scale ? (double)scale[o] : 1) / sqrt((double)var[o] + n->fused->eps);
        const double b = given.bias ? (double)given.bias[o] : 0;
        for (int64_t i = 0; i < each; i++)
            work[o * each + i] = (real)((double)given.weight[o * each + i] * s);
        bias[o] = (real)((b - (double)mean[o]) * s + (shift ? (double)shift[o] : 0));
    }
    return (struct folded){work, bias};
}
