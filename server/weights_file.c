/* weights_file.c: a state as a safetensors file, put together piece by piece as it is read. The
 * generation is immutable and held, so a slow reader neither copies nor blocks anything. */
#include "weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct weights_file {
    struct snapshot snapshot;
    char *header;
    size_t header_size, size;
    struct safetensors list; /* in the order of the file */
    int64_t *counts;         /* what the integers among them point into */
    size_t at, begin;        /* the piece that was read last, and where it begins; piece 0 is the
                                header, i is tensor i - 1 */
};

_Static_assert(sizeof(real) == 4 || sizeof(real) == 8, "F32 or F64");

static void list_tensors(struct weights_file *f, const struct graph *g)
{
    const struct generation *live = f->snapshot.generation;
    for (int i = 0; i < graph_param_count(g); i++) {
        const struct param *p = graph_param(g, i);
        const real *data = (p->buffer ? live->buffers : live->params) + p->offset;
        bool count = weights_name_counts(p->name);
        const char *type = count ? "I64" : sizeof(real) == 4 ? "F32" : "F64";
        if (count)
            f->counts[i] = (int64_t)*data;
        f->list.tensors[i] =
            (struct safetensor){.name = p->name,
                                .type = safetensors_type(type),
                                .shape = p->shape,
                                .data = count ? (const void *)&f->counts[i] : data,
                                .size = p->count * (count ? sizeof(int64_t) : sizeof(real))};
        f->size += f->list.tensors[i].size;
    }
}

static bool write_header(struct weights_file *f, const char *model)
{
    char step[24], revision[24];
    snprintf(step, sizeof step, "%" PRIu64, f->snapshot.at.step);
    snprintf(revision, sizeof revision, "%" PRIu64, f->snapshot.at.revision);
    struct safetensors_note notes[] = {
        {"format", "pt"}, {"model", model}, {"step", step}, {"revision", revision}};
    f->header = safetensors_header(&f->list, notes, sizeof notes / sizeof *notes, &f->header_size);
    f->size += f->header_size;
    return f->header != NULL;
}

struct weights_file *weights_file_create(struct snapshot *s, const char *model, struct error *e)
{
    const struct graph *g = program_network(s->program)->graph;
    size_t n = (size_t)graph_param_count(g);
    struct weights_file *f = calloc(1, sizeof *f);
    bool made = f && (f->list.tensors = calloc(n + 1, sizeof *f->list.tensors)) &&
                (f->counts = calloc(n + 1, sizeof *f->counts));
    if (made) {
        f->list.n = n;
        f->snapshot = *s;
        list_tensors(f, g);
        made = write_header(f, model);
    }
    if (!made) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the header of the weights");
        if (f)
            f->snapshot = (struct snapshot){0}; /* still the caller's */
        weights_file_destroy(&f);
        return NULL;
    }
    *s = (struct snapshot){0};
    return f;
}

size_t weights_file_size(const struct weights_file *f)
{
    return f->size;
}

static const char *piece(const struct weights_file *f, size_t at, size_t *size_r)
{
    *size_r = at ? f->list.tensors[at - 1].size : f->header_size;
    return at ? f->list.tensors[at - 1].data : f->header;
}

size_t weights_file_read(struct weights_file *f, size_t at, char *out, size_t room)
{
    size_t size, n;
    if (at < f->begin)
        f->at = f->begin = 0;
    const char *data = piece(f, f->at, &size);
    while (at - f->begin >= size) {
        f->begin += size;
        data = piece(f, ++f->at, &size);
    }
    n = size - (at - f->begin);
    n = n < room ? n : room;
    memcpy(out, data + (at - f->begin), n);
    return n;
}

void weights_file_destroy(struct weights_file **file)
{
    struct weights_file *f = *file;
    *file = NULL;
    if (!f)
        return;
    if (f->snapshot.program)
        snapshot_release(&f->snapshot);
    free(f->header);
    free(f->list.tensors);
    free(f->counts);
    free(f);
}
