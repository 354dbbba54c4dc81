/* augment_random.c: the random numbers of one row of an augment and one sample: a stream of
 * Philox words (random.c), of which sample i has those from i * 2^22 on. */
#include "augment.h"

#include <math.h>

enum { SAMPLE_BITS = 22, GAMMA_TRIES = 64 };

void augment_random_begin(struct augment_random *r, const struct random_key *key, int64_t sample)
{
    r->key = *key;
    r->next = (uint64_t)sample << SAMPLE_BITS;
}

double augment_uniform(struct augment_random *r, double from, double to)
{
    if (r->next % 4 == 0)
        random_block(&r->key, r->next / 4, r->word);
    return from + (to - from) * (r->word[r->next++ % 4] * 0x1p-32);
}

int64_t augment_below(struct augment_random *r, int64_t n)
{
    return (int64_t)augment_uniform(r, 0, (double)n);
}

/* Box and Muller, one coordinate. */
static double draw_normal(struct augment_random *r)
{
    double radius = sqrt(-2 * log(1 - augment_uniform(r, 0, 1)));
    return radius * cos(augment_uniform(r, 0, 2 * M_PI));
}

/* log of a Gamma(alpha, 1): Marsaglia and Tsang (2000), whose tries succeed 19 times of 20; for
 * alpha below 1 from that of alpha + 1 times U^(1/alpha), which only its logarithm can hold. */
static double draw_log_gamma(struct augment_random *r, double alpha)
{
    double boost = alpha < 1 ? log(1 - augment_uniform(r, 0, 1)) / alpha : 0;
    double d = (alpha < 1 ? alpha + 1 : alpha) - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (int i = 0; i < GAMMA_TRIES; i++) {
        double x = draw_normal(r), v = 1 + c * x;
        double u = 1 - augment_uniform(r, 0, 1);
        v = v * v * v;
        if (v > 0 && log(u) < x * x / 2 + d - d * v + d * log(v))
            return log(d * v) + boost;
    }
    return log(d) + boost;
}

double augment_beta(struct augment_random *r, double alpha)
{
    double a = draw_log_gamma(r, alpha), b = draw_log_gamma(r, alpha);
    return 1 / (1 + exp(b - a));
}
