/* ranking.c: the best of a row: a few are inserted one by one, for many all are sorted. */
#include "ranking.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 64 };

int64_t ranking_room(int64_t n, int64_t k)
{
    return k <= FEW ? k : n;
}

static int order(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    bool x_nan = x->value != x->value, y_nan = y->value != y->value;
    if (x_nan != y_nan)
        return x_nan ? 1 : -1;
    if (!x_nan && x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void insert(struct ranked *best, int64_t n, int64_t k, struct ranked r)
{
    int64_t at = n;
    while (at > 0 && order(&r, &best[at - 1]) < 0)
        at--;
    if (at == k)
        return;
    int64_t moved = (n < k ? n : k - 1) - at;
    memmove(best + at + 1, best + at, (size_t)moved * sizeof *best);
    best[at] = r;
}

void ranking_best(const real *row, int64_t n, int64_t k, struct ranked *best)
{
    for (int64_t i = 0; i < n; i++)
        if (k <= FEW)
            insert(best, i < k ? i : k, k, (struct ranked){row[i], i});
        else
            best[i] = (struct ranked){row[i], i};
    if (k > FEW)
        qsort(best, (size_t)n, sizeof *best, order);
}
