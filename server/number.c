/* number.c: from digits and a power of ten to floats and integers.
 *
 * number_scan gives an integer of 64 bits and a power of ten. Three ways lead from
 * there to the nearest float, each exact where it is used:
 *
 *   1. digits < 2^53 and |exponent| <= 22: both are doubles without error, so one multiplication or
 *      division gives the nearest double. The nearest float to that is the nearest to the decimal,
 *      unless the double lies exactly between two floats, which its low bits show.
 *   2. |exponent| <= 27: 5^27 is below 2^64, so a 128-bit product, or quotient with remainder, is
 *      the exact value; it is rounded once, half to even.
 *   3. Anything else, and results that are subnormal or overflow: strtof or strtod in the C locale.
 *
 * Of more digits than 64 bits hold, the first ones and their successor are converted; when both
 * give the same result, so does everything in between. */
#define _GNU_SOURCE
#include "number.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 u128;

enum { POW5_MAX = 27, POW10_DOUBLE_MAX = 22 };

/* ---- digits and exponent -> float, double ---------------------------------------------------- */

static const double pow10_double[POW10_DOUBLE_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const uint64_t pow5[POW5_MAX + 1] = {
    1u,
    5u,
    25u,
    125u,
    625u,
    3125u,
    15625u,
    78125u,
    390625u,
    1953125u,
    9765625u,
    48828125u,
    244140625u,
    1220703125u,
    6103515625u,
    30517578125u,
    152587890625u,
    762939453125u,
    3814697265625u,
    19073486328125u,
    95367431640625u,
    476837158203125u,
    2384185791015625u,
    11920928955078125u,
    59604644775390625u,
    298023223876953125u,
    1490116119384765625u,
    7450580596923828125u,
};

/* A positive value: bits * 2^exponent with the top bit of `bits` set; `sticky`: a little more. */
struct scaled {
    uint64_t bits;
    int exponent;
    bool sticky;
};

static struct scaled scale_up(uint64_t digits, int power)
{
    u128 product = (u128)digits * pow5[power];
    uint64_t high = (uint64_t)(product >> 64);
    int shift = high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)product);
    product <<= shift;
    return (struct scaled){(uint64_t)(product >> 64), power + 64 - shift, (uint64_t)product != 0};
}

static struct scaled scale_down(uint64_t digits, int power)
{
    int up = __builtin_clzll(digits), up_divisor = __builtin_clzll(pow5[power]);
    uint64_t divisor = pow5[power] << up_divisor;
    u128 dividend = (u128)(digits << up) << 63;
    uint64_t quotient = (uint64_t)(dividend / divisor);   /* 2^62 and more */
    bool rest = (uint64_t)dividend != quotient * divisor; /* modulo 2^64 tells */
    int shift = __builtin_clzll(quotient);
    return (struct scaled){quotient << shift, up_divisor - up - 63 - power - shift, rest};
}

/* Rounds to `precision` bits, half to even; the result may be 2^precision. */
static uint64_t scaled_round(struct scaled s, int precision)
{
    int drop = 64 - precision;
    uint64_t kept = s.bits >> drop, rest = s.bits << precision, half = (uint64_t)1 << 63;
    bool up = rest > half || (rest == half && (s.sticky || (kept & 1)));
    return kept + up;
}

static bool scaled_double(struct scaled s, double *r)
{
    int e = s.exponent + 63; /* of the leading bit */
    if (e < -1022 || e >= 1023)
        return false;
    /* The leading one adds 1 to the biased exponent, and a carry one more. */
    uint64_t bits = ((uint64_t)(e + 1022) << 52) + scaled_round(s, 53);
    memcpy(r, &bits, sizeof bits);
    return true;
}

static bool scaled_float(struct scaled s, float *r)
{
    int e = s.exponent + 63;
    if (e < -126 || e >= 127)
        return false;
    uint32_t bits = ((uint32_t)(e + 126) << 23) + (uint32_t)scaled_round(s, 24);
    memcpy(r, &bits, sizeof bits);
    return true;
}

static bool scalable(const struct number *n)
{
    return n->digits && n->exponent >= -POW5_MAX && n->exponent <= POW5_MAX &&
           n->digits < UINT64_MAX;
}

static struct scaled scale(uint64_t digits, int exponent)
{
    return exponent < 0 ? scale_down(digits, -exponent) : scale_up(digits, exponent);
}

static double slow_double(const struct number *n)
{
    struct number_text t;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double d = strtod_l(number_text(n, &t), NULL, c);
    freelocale(c);
    return d;
}

static float slow_float(const struct number *n)
{
    struct number_text t;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    float f = strtof_l(number_text(n, &t), NULL, c);
    freelocale(c);
    return f;
}

/* Way 1. */
static inline bool exact_double(const struct number *n, double *r)
{
    if (n->inexact || n->digits >> 53 || n->exponent < -POW10_DOUBLE_MAX ||
        n->exponent > POW10_DOUBLE_MAX)
        return false;
    double d = (double)n->digits;
    *r = n->exponent < 0 ? d / pow10_double[-n->exponent] : d * pow10_double[n->exponent];
    return true;
}

static bool between_floats(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return (bits & 0x1FFFFFFF) == 0x10000000;
}

bool number_float(const struct number *n, float *r)
{
    double d;
    float f = 0, next = 0;
    if (exact_double(n, &d) && !between_floats(d))
        f = (float)d;
    else if (!n->digits)
        f = 0;
    else if (!scalable(n) || !scaled_float(scale(n->digits, n->exponent), &f) ||
             (n->inexact && (!scaled_float(scale(n->digits + 1, n->exponent), &next) || next != f)))
        f = slow_float(n);
    *r = n->negative ? -f : f;
    return f <= 3.40282346638528859812e38f;
}

bool number_double(const struct number *n, double *r)
{
    double d = 0, next = 0;
    if (exact_double(n, &d))
        ;
    else if (!n->digits)
        d = 0;
    else if (!scalable(n) || !scaled_double(scale(n->digits, n->exponent), &d) ||
             (n->inexact &&
              (!scaled_double(scale(n->digits + 1, n->exponent), &next) || next != d)))
        d = slow_double(n);
    *r = n->negative ? -d : d;
    return d <= 1.7976931348623157e308;
}

/* ---- digits and exponent -> integers --------------------------------------------------------- */

/* |n| as an integer. Digits left out are a fraction unless a power of ten lifts them: then the
 * number has 20 digits or more. */
static enum number_whole whole(const struct number *n, uint64_t *r)
{
    uint64_t v = n->digits;
    int e = v ? n->exponent : 0;
    if (n->inexact && e <= 0)
        return NUMBER_FRACTIONAL;
    for (; e > 0; e--)
        if (__builtin_mul_overflow(v, 10, &v))
            return NUMBER_OVERFLOW;
    for (; e < 0; e++, v /= 10)
        if (v % 10)
            return NUMBER_FRACTIONAL;
    *r = v;
    return n->inexact ? NUMBER_OVERFLOW : NUMBER_WHOLE;
}

enum number_whole number_int64(const struct number *n, int64_t *r)
{
    uint64_t v = 0;
    enum number_whole w = whole(n, &v);
    if (w != NUMBER_WHOLE)
        return w;
    if (v > (uint64_t)INT64_MAX + n->negative)
        return NUMBER_OVERFLOW;
    *r = n->negative ? (int64_t)(0 - v) : (int64_t)v;
    return NUMBER_WHOLE;
}

enum number_whole number_uint64(const struct number *n, uint64_t *r)
{
    enum number_whole w = whole(n, r);
    return w == NUMBER_WHOLE && n->negative && *r ? NUMBER_OVERFLOW : w;
}
