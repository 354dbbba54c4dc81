/* tensor_convert.c: from a tensor of the wire to the shape and dtype that a model wants. */
#include "tensor.h"

#include <math.h>
#include <stdlib.h>

/* ---- shape ----------------------------------------------------------------------------------- */

static bool shape_fits(const struct shape *have, const struct shape *want)
{
    bool fits = have->rank == want->rank;
    for (int i = 0; fits && i < want->rank; i++)
        fits = have->dim[i] == want->dim[i] || (i == 0 && want->dim[0] == BATCH);
    return fits;
}

/* Bytes must be exactly those of the count; text of n numbers has 2n characters or more. */
static int check_count(const struct tensor *t, int64_t count, struct error *e)
{
    struct tensor_text text;
    struct shape_text shape;
    size_t need;
    if (t->span) {
        if (count <= (t->span->end - t->span->begin) / 2)
            return 0;
        return error_set(e, ERROR_BAD_SHAPE, "%s has fewer numbers than its shape %s needs (%lld)",
                         tensor_what(t, &text), shape_print(&t->shape, &shape), (long long)count);
    }
    if (!__builtin_mul_overflow((size_t)count, t->datatype->size, &need) && need == t->size)
        return 0;
    return error_set(e, ERROR_BAD_BINARY, "%s has %zu bytes, shape %s of %s needs %zu",
                     tensor_what(t, &text), t->size, shape_print(&t->shape, &shape),
                     t->datatype->name, need);
}

/* A flat shape for bytes that came without one. */
static int flat_shape(struct tensor *t, struct error *e)
{
    struct tensor_text text;
    if (t->size % t->datatype->size)
        return error_set(e, ERROR_BAD_BINARY, "%s has %zu bytes, not a multiple of the %zu of %s",
                         tensor_what(t, &text), t->size, t->datatype->size, t->datatype->name);
    t->shape = SHAPE((int64_t)(t->size / t->datatype->size));
    return 0;
}

int tensor_resolve_any(struct tensor *t, enum dtype dtype, int64_t *count_r, struct error *e)
{
    struct tensor_text text;
    if (t->strings && !t->datatype)
        return error_set(e, ERROR_BAD_TYPE, "%s%s is a string, expected numbers",
                         tensor_what(t, &text), t->object ? ": 'data'" : "[0]");
    if (!t->datatype && !t->span)
        t->datatype = datatype_of(dtype);
    if (tensor_is_bytes(t))
        return error_set(e, ERROR_BAD_DTYPE, "%s has the datatype BYTES, expected numbers",
                         tensor_what(t, &text));
    if (!t->has_shape && t->span && span_shape(t->span, &t->shape, count_r, e))
        return error_prefix(e, "%s", tensor_what(t, &text));
    if (!t->has_shape && !t->span && flat_shape(t, e))
        return -1;
    if (!shape_count(&t->shape, 1, count_r))
        return error_set(e, ERROR_TOO_LARGE, "%s: its shape has too many elements",
                         tensor_what(t, &text));
    return check_count(t, *count_r, e);
}

static int bad_shape(const struct tensor *t, const struct shape *want, struct error *e)
{
    struct tensor_text text;
    struct shape_text have, expected;
    return error_set(e, ERROR_BAD_SHAPE, "%s has shape %s, expected %s", tensor_what(t, &text),
                     shape_print(&t->shape, &have), shape_print(want, &expected));
}

int tensor_resolve(struct tensor *t, enum dtype dtype, const struct shape *want, int64_t *batch_r,
                   int64_t *count_r, struct error *e)
{
    struct tensor_text text;
    int64_t each, batch = 1;
    if (tensor_resolve_any(t, dtype, count_r, e))
        return -1;
    if (!shape_count(want, 1, &each))
        return bad_shape(t, want, e);
    bool fits = shape_fits(&t->shape, want), batched = shape_batched(want);
    bool flat = !fits && !t->has_shape && t->shape.rank == 1 && each > 0 && *count_r % each == 0 &&
                (batched || *count_r == each);
    if (!fits && !flat)
        return bad_shape(t, want, e);
    if (batched)
        batch = fits ? t->shape.dim[0] : *count_r / each;
    if (!batch)
        return error_set(e, ERROR_EMPTY_BATCH, "%s has no examples", tensor_what(t, &text));
    t->shape = *want;
    if (batched)
        t->shape.dim[0] = batch;
    t->has_shape = true;
    *batch_r = batch;
    return 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int read_span(const struct tensor *t, enum span_type type, void *out, int64_t count,
                     struct error *e)
{
    struct tensor_text text;
    if (type == SPAN_FLOAT && span_read_pieces(t->span, t->pool, out, count))
        return 0;
    if (span_read(t->span, type, &t->shape, out, count, e))
        return error_prefix(e, "%s", tensor_what(t, &text));
    return 0;
}

/* JSON integers must be in the range of the datatype that was named. */
static int check_range(const struct tensor *t, const int64_t *v, int64_t count, struct error *e)
{
    const struct datatype *d = t->datatype;
    struct tensor_text text;
    if (!d || !d->integer)
        return 0;
    for (int64_t i = 0; i < count; i++)
        if (v[i] < d->min || (v[i] > 0 && (uint64_t)v[i] > d->max))
            return error_set(e, ERROR_BAD_VALUE, "%s: element %lld is %lld, out of range for %s",
                             tensor_what(t, &text), (long long)i, (long long)v[i], d->name);
    return 0;
}

static int check_finite(const struct tensor *t, const real *v, int64_t count, struct error *e)
{
    struct tensor_text text;
    bool bad = false;
    for (int64_t i = 0; i < count; i++)
        bad |= !(v[i] - v[i] == 0);
    if (!bad)
        return 0;
    int64_t at = 0;
    while (isfinite(v[at]))
        at++;
    return error_set(e, ERROR_NOT_FINITE, "%s: element %lld is %s, expected finite numbers",
                     tensor_what(t, &text), (long long)at,
                     isnan(v[at]) ? "NaN"
                     : v[at] > 0  ? "Infinity or too large"
                                  : "-Infinity or too large");
}

/* JSON of an integer datatype or BOOL: parsed as what it is, then converted like binary. */
static int span_to_real(const struct tensor *t, struct arena *a, real *out, int64_t count,
                        struct error *e)
{
    const struct datatype *d = t->datatype;
    if (!d || (!d->integer && d->span != SPAN_BOOL))
        return read_span(t, sizeof(real) == sizeof(float) ? SPAN_FLOAT : SPAN_DOUBLE, out, count,
                         e);
    void *whole = arena_array(a, (size_t)count, span_type_size(d->span));
    if (!whole)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %lld numbers",
                         (long long)count);
    if (read_span(t, d->span, whole, count, e) ||
        (d->span == SPAN_INT64 && check_range(t, whole, count, e)))
        return -1;
    const char *names[] = {[SPAN_BOOL] = "BOOL", [SPAN_INT64] = "INT64", [SPAN_UINT64] = "UINT64"};
    datatype_find(names[d->span])->to_real(whole, (size_t)count, out);
    return 0;
}

static int tensor_to_real(const struct tensor *t, struct arena *a, real *out, int64_t count,
                          struct error *e)
{
    if (t->span)
        return span_to_real(t, a, out, count, e);
    t->datatype->to_real(t->bytes, (size_t)count, out);
    return check_finite(t, out, count, e);
}

static int span_to_int64(const struct tensor *t, struct arena *a, int64_t *out, int64_t count,
                         struct error *e)
{
    if (!t->datatype || t->datatype->span != SPAN_BOOL)
        return read_span(t, SPAN_INT64, out, count, e) || check_range(t, out, count, e) ? -1 : 0;
    unsigned char *flags = arena_alloc(a, (size_t)count);
    if (!flags)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %lld numbers",
                         (long long)count);
    if (read_span(t, SPAN_BOOL, flags, count, e))
        return -1;
    t->datatype->to_int64(flags, (size_t)count, out);
    return 0;
}

int tensor_to_int64(const struct tensor *t, struct arena *a, int64_t *out, int64_t count,
                    struct error *e)
{
    struct tensor_text text;
    if (t->span)
        return span_to_int64(t, a, out, count, e);
    int64_t bad = t->datatype->to_int64(t->bytes, (size_t)count, out);
    if (bad < 0)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "%s: element %lld is not a whole number that INT64 can hold",
                     tensor_what(t, &text), (long long)bad);
}

/* Whether an array of the engine's numbers can begin right at the tensor's bytes. */
static bool lies_ready(const struct tensor *t, enum dtype to)
{
    const size_t size = dtype_size(to);
    return !t->span && t->datatype == datatype_of(to) && t->datatype->size == size &&
           (uintptr_t)t->bytes % size == 0;
}

int tensor_take(const struct tensor *t, enum dtype to, struct arena *a, int64_t count,
                const void **data_r, struct error *e)
{
    struct tensor_text text;
    if (lies_ready(t, to)) {
        *data_r = t->bytes;
        return to == DTYPE_REAL ? check_finite(t, *data_r, count, e) : 0;
    }
    void *out = arena_array(a, (size_t)count, dtype_size(to));
    if (!out)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", tensor_what(t, &text));
    *data_r = out;
    return to == DTYPE_REAL ? tensor_to_real(t, a, out, count, e)
                            : tensor_to_int64(t, a, out, count, e);
}
