/* kernels_pooling.h: the largest of windows, channels last. Part of kernels_simd.c, which is
 * compiled once for each instruction set; nothing else includes it.
 *
 * Few channels do not fill a vector. While there is room behind, whole vectors are loaded and
 * stored all the same: the lanes behind the last channel are written again by the next window. */

INLINE void largest_window(const struct largest_windows *p, int64_t q, int64_t c, int64_t left)
{
    const real *x = p->x + q * p->step + c;
    const lane_int first = p->first + (lane_int)q * p->pixel_step;
    vec y = part_load(x + p->offset[0], left);
    vec_int place = (vec_int){0} + (first + p->pixel[0]);
    for (int64_t t = 1; t < p->taps; t++) {
        const vec v = part_load(x + p->offset[t], left);
        const vec_int larger = (vec_int)(v > y) | (vec_int)(v != v);
        y = SELECT(larger, v, y);
        place = (place & ~larger) | ((first + p->pixel[t]) & larger);
    }
    real lane[LANES];
    memcpy(lane, &place, sizeof lane);
    const vec places = vec_load(lane);
    part_store(p->y + q * p->c + c, &y, left);
    part_store((real *)(void *)(p->place + q * p->c + c), &places, left);
}

static void largest_windows(const struct largest_windows *p)
{
    const int64_t reach = p->offset[p->taps - 1] + LANES;
    for (int64_t q = 0; q < p->pixels; q++)
        for (int64_t c = 0; c < p->c; c += LANES) {
            const bool fits = p->c - c >= LANES || ((p->pixels - q) * p->c - c >= LANES &&
                                                    p->end - p->x >= q * p->step + c + reach);
            if (fits)
                largest_window(p, q, c, LANES);
            else
                largest_window(p, q, c, p->c - c);
        }
}
