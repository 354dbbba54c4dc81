/* weights_match.c: which tensors of a file become which parameters of a graph. */
#define _GNU_SOURCE
#include "weights.h"

#include "datatype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What wrappers of a module put before all of its names: DataParallel, a module that holds the
 * model, torch.compile. */
static const char *const prefixes[] = {"module.", "model.", "_orig_mod."};

bool weights_name_counts(const char *name)
{
    static const char leaf[] = "num_batches_tracked";
    size_t n = strlen(name), k = sizeof leaf - 1;
    return n >= k && !strcmp(name + n - k, leaf) && (n == k || name[n - k - 1] == '.');
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The parameters by name. */
struct names {
    const struct graph *graph;
    int *sorted, n;
};

static int by_name(const void *a, const void *b, void *arg)
{
    const struct graph *g = arg;
    return strcmp(graph_param(g, *(const int *)a)->name, graph_param(g, *(const int *)b)->name);
}

static bool names_sort(struct names *s, const struct graph *g, struct arena *a)
{
    s->graph = g;
    s->n = graph_param_count(g);
    s->sorted = arena_array(a, (size_t)s->n + 1, sizeof *s->sorted);
    for (int i = 0; s->sorted && i < s->n; i++)
        s->sorted[i] = i;
    if (s->sorted)
        qsort_r(s->sorted, (size_t)s->n, sizeof *s->sorted, by_name, (void *)(uintptr_t)g);
    return s->sorted != NULL;
}

/* The place of a parameter in the graph; -1: there is none of this name. */
static int names_find(const struct names *s, const char *name)
{
    int low = 0, high = s->n;
    while (low < high) {
        int middle = low + (high - low) / 2, at = s->sorted[middle];
        int order = strcmp(name, graph_param(s->graph, at)->name);
        if (!order)
            return at;
        *(order < 0 ? &high : &low) = order < 0 ? middle : middle + 1;
    }
    return -1;
}

/* The length of the wrapper's prefix that all names have after their first `skip` bytes. */
static size_t common_prefix(const struct safetensors *file, size_t skip)
{
    for (size_t k = 0; file->n && k < sizeof prefixes / sizeof *prefixes; k++) {
        size_t size = strlen(prefixes[k]), i = 0;
        while (i < file->n && !strncmp(file->tensors[i].name + skip, prefixes[k], size))
            i++;
        if (i == file->n)
            return size;
    }
    return 0;
}

static size_t count_known(const struct names *s, const struct safetensors *file, size_t skip)
{
    size_t known = 0;
    for (size_t i = 0; i < file->n; i++)
        known += names_find(s, file->tensors[i].name + skip) >= 0;
    return known;
}

/* The number of bytes to take off every name, so that most of them are known. */
static size_t best_skip(const struct names *s, const struct safetensors *file)
{
    size_t skip = 0, best = 0, most = count_known(s, file, 0), more;
    while ((more = common_prefix(file, skip))) {
        skip += more;
        size_t known = count_known(s, file, skip);
        if (known > most) {
            most = known;
            best = skip;
        }
    }
    return best;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

static int check_type(const struct param *p, const struct safetensor *t, struct error *e)
{
    bool count = weights_name_counts(p->name);
    const struct datatype *d = t->type->datatype ? datatype_find(t->type->datatype) : NULL;
    if (d && (t->type->floating || (count && d->integer)))
        return 0;
    return error_set(e, ERROR_BAD_DTYPE, "the tensor '%.100s' has the dtype %s, expected %s",
                     t->name, t->type->name, count ? "I64" : "F32, F16, BF16 or F64");
}

/* A number may come as a list of one, as in files of PyTorch before 0.4. */
static int check_shape(const struct param *p, const struct safetensor *t, struct error *e)
{
    struct shape_text have, want;
    bool one = p->shape.rank == 0 && t->shape.rank == 1 && t->shape.dim[0] == 1;
    if (one || shape_equal(&p->shape, &t->shape))
        return 0;
    if (t->shape.rank > SHAPE_MAX_RANK)
        return error_set(e, ERROR_BAD_SHAPE,
                         "the tensor '%.100s' has more than %d dimensions, expected shape %s",
                         t->name, SHAPE_MAX_RANK, shape_print(&p->shape, &want));
    return error_set(e, ERROR_BAD_SHAPE, "the tensor '%.100s' has shape %s, expected %s", t->name,
                     shape_print(&t->shape, &have), shape_print(&p->shape, &want));
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int match_tensors(const struct names *s, const struct safetensors *file, size_t skip,
                         const struct safetensor **from, struct weights_report *r, struct error *e)
{
    for (size_t i = 0; i < file->n; i++) {
        const struct safetensor *t = &file->tensors[i];
        int at = names_find(s, t->name + skip);
        if (at < 0 && !weights_name_counts(t->name))
            r->unexpected[r->n_unexpected++] = t->name + skip;
        if (at < 0)
            continue;
        const struct param *p = graph_param(s->graph, at);
        if (check_type(p, t, e) || check_shape(p, t, e))
            return -1;
        from[at] = t;
        r->loaded++;
    }
    for (int i = 0; i < s->n; i++)
        if (!from[i] && !weights_name_counts(graph_param(s->graph, i)->name))
            r->missing[r->n_missing++] = graph_param(s->graph, i)->name;
    return 0;
}

static int refuse_unexpected(const struct names *s, const struct weights_report *r, struct error *e)
{
    struct nearest near = {.given = r->unexpected[0]};
    for (int i = 0; i < s->n; i++)
        nearest_offer(&near, graph_param(s->graph, i)->name);
    return error_set(e, ERROR_BAD_VALUE,
                     "the model has no parameter '%.100s'%s%.100s%s (one of %d tensors that do not "
                     "belong; %d are missing); ?strict=false takes those that do",
                     r->unexpected[0], near.best ? "; did you mean '" : "",
                     near.best ? near.best : "", near.best ? "'?" : "", r->n_unexpected,
                     r->n_missing);
}

static int check_complete(const struct names *s, bool strict, const struct weights_report *r,
                          struct error *e)
{
    if (strict && r->n_unexpected)
        return refuse_unexpected(s, r, e);
    if (strict && r->n_missing)
        return error_set(e, ERROR_BAD_VALUE,
                         "the file has no tensor '%.100s' (one of %d that are missing); "
                         "?strict=false takes a part",
                         r->missing[0], r->n_missing);
    if (!r->loaded && s->n)
        return error_set(
            e, ERROR_BAD_VALUE,
            "no tensor of the file has the name of a parameter; the model has '%.100s'",
            graph_param(s->graph, 0)->name);
    return 0;
}

int weights_match(const struct graph *g, const struct safetensors *file, bool strict,
                  struct arena *a, const struct safetensor **from, struct weights_report *r_r,
                  struct error *e)
{
    struct names s;
    *r_r = (struct weights_report){.prefix = ""};
    bool sorted = names_sort(&s, g, a);
    r_r->missing = arena_array(a, (size_t)graph_param_count(g) + 1, sizeof *r_r->missing);
    r_r->unexpected = arena_array(a, file->n + 1, sizeof *r_r->unexpected);
    if (!sorted || !r_r->missing || !r_r->unexpected)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %zu names", file->n);
    size_t skip = best_skip(&s, file);
    if (skip && !(r_r->prefix = arena_printf(a, "%.*s", (int)skip, file->tensors[0].name)))
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    if (match_tensors(&s, file, skip, from, r_r, e))
        return -1;
    return check_complete(&s, strict, r_r, e);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Above it a real would not count on by ones, and round what is read. */
static const real COUNT_LIMIT = 1 << 24;

static int check_count(const struct safetensor *t, real count, struct error *e)
{
    if (count >= 0 && count < COUNT_LIMIT)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "the tensor '%.100s' is %.10g, expected a count from 0 to %.0f; a file may "
                     "leave it out",
                     t->name, (double)count, (double)COUNT_LIMIT - 1);
}

int weights_read(const struct graph *g, const struct safetensor *const *from, real *params,
                 real *buffers, struct error *e)
{
    for (int i = 0; i < graph_param_count(g); i++) {
        const struct param *p = graph_param(g, i);
        real *to = (p->buffer ? buffers : params) + p->offset;
        if (!from[i])
            continue;
        datatype_find(from[i]->type->datatype)->to_real(from[i]->data, p->count, to);
        for (size_t k = 0; k < p->count; k++)
            if (!isfinite(to[k]))
                return error_set(e, ERROR_NOT_FINITE,
                                 "the tensor '%.100s': element %zu is not finite, or too large for "
                                 "a float32",
                                 from[i]->name, k);
        if (weights_name_counts(p->name) && check_count(from[i], *to, e))
            return -1;
    }
    return 0;
}
