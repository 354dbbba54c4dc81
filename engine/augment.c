/* augment.c: lists of augmentations: the table, made of its families; choosing rows and reading
 * their attributes; what a list asks of a batch. */
#include "augment_list.h"

#include <string.h>

/* A new family is one line here. */
static const struct augment_def *const families[] = {
    augments_geometric, augments_color, augments_pixels, augments_mixing, augments_rand,
};
enum { FAMILIES = sizeof families / sizeof families[0] };

static const struct augment_def *def_at(int i)
{
    for (int f = 0; f < FAMILIES; f++)
        for (const struct augment_def *d = families[f]; d->row.info.name; d++)
            if (i-- == 0)
                return d;
    return NULL;
}

bool augment_info_at(int i, struct augment_info *info_r)
{
    const struct augment_def *d = i < 0 ? NULL : def_at(i);
    if (d)
        *info_r = (struct augment_info){d->row.info, d->kind};
    return d != NULL;
}

static const struct augment_def *def_find(const char *name, struct error *e)
{
    struct nearest near = {.given = name};
    const struct augment_def *d;
    for (int i = 0; (d = def_at(i)); i++) {
        if (strcmp(d->row.info.name, name) == 0)
            return d;
        nearest_offer(&near, d->row.info.name);
    }
    error_set(e, ERROR_UNKNOWN_OPERATOR, "no augmentation '%.60s'%s%s%s", name,
              near.best ? "; did you mean '" : "", near.best ? near.best : "",
              near.best ? "'?" : "; GET /v2/operators lists them");
    return NULL;
}

struct augment *augment_create(struct error *e)
{
    struct arena *arena = arena_create(512);
    struct augment *a = arena ? arena_alloc(arena, sizeof *a) : NULL;
    if (a) {
        a->arena = arena;
        a->n_phases = 1;
        return a;
    }
    if (arena)
        arena_destroy(&arena);
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the augmentations");
    return NULL;
}

void augment_destroy(struct augment **a)
{
    if (!*a)
        return;
    struct arena *arena = (*a)->arena; /* the list itself lies in it */
    arena_destroy(&arena);
    *a = NULL;
}

/* Mixing rows begin a phase, unless they are the first of the first. */
static void phase_extend(struct augment *a, const struct augment_def *d)
{
    if ((d->flags & AUGMENT_BATCH) && a->n_rows > 0)
        a->phase_begin[a->n_phases++] = a->n_rows;
    a->phase_begin[a->n_phases] = a->n_rows + 1;
}

int augment_add(struct augment *a, const char *name, const struct attr *attrs, int n,
                struct error *e)
{
    static const struct rows kind = {.kind = "augmentation"};
    const struct augment_def *d = def_find(name, e);
    if (!d)
        return -1;
    if (a->n_rows == AUGMENT_MAX_ROWS)
        return error_set(e, ERROR_TOO_LARGE, "at most %d augmentations are possible",
                         AUGMENT_MAX_ROWS);
    void *values = rows_parse(&kind, &d->row, attrs, n, a->arena, e);
    if (!values)
        return -1;
    phase_extend(a, d);
    a->rows[a->n_rows++] = (struct augment_row){d, values};
    return 0;
}

const struct augment_def *augment_flagged(const struct augment *a, unsigned flag)
{
    for (int i = 0; i < a->n_rows; i++)
        if (a->rows[i].def->flags & flag)
            return a->rows[i].def;
    return NULL;
}

bool augment_mixes(const struct augment *a)
{
    return augment_flagged(a, AUGMENT_SOFT);
}

bool augment_moves(const struct augment *a)
{
    for (int i = 0; i < a->n_rows; i++)
        if (strcmp(a->rows[i].def->kind, "color") != 0)
            return true;
    return false;
}

int augment_check(const struct augment *a, int64_t c, int64_t h, int64_t w, bool boxes,
                  struct error *e)
{
    const struct augment_def *rgb = augment_flagged(a, AUGMENT_RGB);
    const struct augment_def *boxed = augment_flagged(a, AUGMENT_BOXES);
    int64_t plane;
    if (boxed && !boxes)
        return error_set(e, ERROR_BAD_GRAPH,
                         "'%s' is for detectors, whose targets are boxes; there are none",
                         boxed->row.info.name);
    if (rgb && c != 3)
        return error_set(e, ERROR_BAD_SHAPE,
                         "'%s' needs images of 3 channels (red, green, blue), found %lld",
                         rgb->row.info.name, (long long)c);
    if (c < 1 || h < 1 || w < 1 || __builtin_mul_overflow(h, w, &plane) || plane > INT32_MAX)
        return error_set(e, ERROR_BAD_SHAPE,
                         "images of %lld x %lld x %lld cannot be augmented: expected 1 to 2^31 "
                         "pixels",
                         (long long)c, (long long)h, (long long)w);
    return 0;
}

/* ---- attributes that are ranges -------------------------------------------------------------- */

struct augment_range augment_range_of(const struct real_list *list, double from, double to)
{
    return list->n ? (struct augment_range){list->v[0], list->v[list->n - 1]}
                   : (struct augment_range){from, to};
}

int augment_range_check(const struct real_list *list, const char *name, const char *what,
                        struct error *e)
{
    if (list->n > 2)
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute '%s' must be [from, to], not a list of %d", what, name,
                         list->n);
    if (list->n == 2 && list->v[0] > list->v[1])
        return error_set(e, ERROR_BAD_ATTRIBUTE,
                         "%s: attribute '%s' must be [from, to] with from at most to, not "
                         "[%.10g, %.10g]",
                         what, name, list->v[0], list->v[1]);
    return 0;
}
