/* histogram.c: two passes over the numbers, one for the ends, one to count. */
#include "histogram.h"

#include <math.h>
#include <string.h>

struct histogram *histogram_create(struct arena *a, int bins)
{
    struct histogram *h = arena_alloc(a, sizeof *h);
    if (!h)
        return NULL;
    h->bins = bins;
    h->counts = arena_array(a, (size_t)bins, sizeof *h->counts);
    return h->counts ? h : NULL;
}

static void find_ends(struct histogram *h, const real *x, int64_t n)
{
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        if (!isfinite(v))
            continue;
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    if (low > high)
        low = high = 0; /* there was none */
    h->low = low == high ? low - 0.5 : low;
    h->high = low == high ? high + 0.5 : high;
}

void histogram_fill(struct histogram *h, const real *x, int64_t n)
{
    memset(h->counts, 0, (size_t)h->bins * sizeof *h->counts);
    find_ends(h, x, n);
    double scale = h->bins / (h->high - h->low);
    for (int64_t i = 0; i < n; i++) {
        double at = ((double)x[i] - h->low) * scale;
        if (isfinite((double)x[i]))
            h->counts[at >= h->bins ? h->bins - 1 : (int)at]++;
    }
}

void histogram_write(struct json_out *w, const struct histogram *h)
{
    out_open_object(w);
    out_put_double(w, "min", h->low);
    out_put_double(w, "max", h->high);
    out_put_int64s(w, "counts", h->counts, (size_t)h->bins);
    out_close(w);
}

void histogram_put(struct json_out *w, const char *key, const struct histogram *h)
{
    out_key(w, key);
    histogram_write(w, h);
}
