/* shape.c: sizes of tensors, with every product checked. */
#include "backprop.h"

#include <stdio.h>
#include <string.h>

static const int64_t COUNT_LIMIT = (int64_t)1 << 48;

size_t dtype_size(enum dtype t)
{
    return t == DTYPE_REAL ? sizeof(real) : sizeof(int64_t);
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, sizeof a->dim[0] * (size_t)a->rank) == 0;
}

bool shape_batched(const struct shape *s)
{
    return s->rank > 0 && s->dim[0] == BATCH;
}

bool shape_count(const struct shape *s, int64_t batch, int64_t *count_r)
{
    int64_t count = 1;
    bool zero = false, overflow = false;
    for (int i = 0; i < s->rank; i++) {
        int64_t dim = i == 0 && s->dim[0] == BATCH ? batch : s->dim[i];
        zero |= dim == 0;
        overflow |=
            dim < 0 || __builtin_mul_overflow(count, dim ? dim : 1, &count) || count > COUNT_LIMIT;
        if (overflow)
            return false;
    }
    *count_r = zero ? 0 : count;
    return true;
}

const char *shape_print(const struct shape *s, struct shape_text *text)
{
    size_t n = 0, size = sizeof text->text;
    n += (size_t)snprintf(text->text, size, "[");
    for (int i = 0; i < s->rank && n < size - 28; i++) {
        const char *comma = i ? ", " : "";
        if (s->dim[i] == BATCH)
            n += (size_t)snprintf(text->text + n, size - n, "%sN", comma);
        else
            n += (size_t)snprintf(text->text + n, size - n, "%s%lld", comma, (long long)s->dim[i]);
    }
    snprintf(text->text + n, size - n, "]");
    return text->text;
}
