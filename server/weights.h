/* weights.h: a model's parameters and buffers under the names, shapes and dtypes that PyTorch's
 * state_dict gives them, from a safetensors file and to one.
 *
 * num_batches_tracked of batch norm is an int64 of rank 0 there, a number like any other here; it
 * is never missing and never unexpected. Names of a file may all begin with what a wrapper of the
 * module has put before them ("module." of DataParallel): that is taken off when more names fit
 * without it. */
#ifndef BACKPROPD_WEIGHTS_H
#define BACKPROPD_WEIGHTS_H

#include "model.h"
#include "safetensors.h"

/* Whether a parameter of this name counts batches: the one that is an int64 in PyTorch. */
bool weights_name_counts(const char *name);

struct weights_options {
    bool strict;          /* every parameter is in the file, and nothing else is */
    bool reset_optimizer; /* the optimiser's state begins anew */
};

/* Which tensors were taken. Lists are in the arena, the names in it or in the model. */
struct weights_report {
    int loaded;
    const char **missing, **unexpected; /* keys, as load_state_dict calls them */
    int n_missing, n_unexpected;
    const char *prefix; /* what was taken off the names; "" for nothing */
};

/* Which tensor becomes the i-th parameter of the graph: from[i], NULL for none. BAD_VALUE when
 * `strict` and keys are missing or unexpected, or when nothing fits; BAD_SHAPE, BAD_DTYPE. Any
 * thread. */
int weights_match(const struct graph *g, const struct safetensors *file, bool strict,
                  struct arena *a, const struct safetensor **from, struct weights_report *r_r,
                  struct error *e);
/* Writes what was matched over the two blocks. NOT_FINITE. Any thread. */
int weights_read(const struct graph *g, const struct safetensor *const *from, real *params,
                 real *buffers, struct error *e);

/* Loads a file into the model: a change like a restore, whole or not at all, on the disk when this
 * returns; `revision` counts it, `step` and `draw` stay. `answer`, which may be NULL, is kept with
 * it. CONFLICT while gradients are pending. In the model's queue. */
int model_weights_load(struct model *m, const struct safetensors *file,
                       const struct weights_options *o, struct store_answer *answer,
                       struct arena *a, struct weights_report *r_r, struct error *e);

/* The parameters and buffers of a state as a file that is put together while it is read: only the
 * header and the int64 numbers are made, the rest are read where they are. */
struct weights_file;
/* Keeps the snapshot, and nulls its parts, when it works. `model` names it in the metadata. */
struct weights_file *weights_file_create(struct snapshot *s, const char *model, struct error *e);
size_t weights_file_size(const struct weights_file *f);
/* Copies up to `room` bytes from `at` on, at least one; at < size. One thread at a time. */
size_t weights_file_read(struct weights_file *f, size_t at, char *out, size_t room);
void weights_file_destroy(struct weights_file **f);

#endif
