/* number_scan.c: from text to digits and a power of ten. Eight digits are read at a time; digits
 * that 64 bits cannot hold are left out and remembered, and number_text finds them again. */
#include "number.h"

#include <stdio.h>
#include <string.h>

enum { DIGITS_SAFE = 19, EXPONENT_LIMIT = 1 << 24 };

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

/* ---- text -> digits and exponent ------------------------------------------------------------- */

/* Whether all eight bytes are digits: none may lie below '0', nor pass '9' when 6 is added. */
static bool eight_digits(uint64_t v)
{
    uint64_t high = 0xF0F0F0F0F0F0F0F0u, low = 0x0606060606060606u;
    return ((v & high) | (((v + low) & high) >> 4)) == 0x3333333333333333u;
}

/* Their value: neighbours are joined to pairs, pairs to fours, fours to eight. */
static uint32_t eight_digits_value(uint64_t v)
{
    v -= 0x3030303030303030u;
    v = v * 10 + (v >> 8);
    uint64_t pairs = v & 0x000000FF000000FFu, others = (v >> 16) & 0x000000FF000000FFu;
    return (uint32_t)((pairs * (100 + (1000000ull << 32)) + others * (1 + (10000ull << 32))) >> 32);
}

/* Adds a run of digits to *digits, which wraps when there are too many; number_scan notices. */
static inline const char *scan_digits(const char *p, const char *end, uint64_t *digits)
{
    uint64_t v = *digits;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t eight;
    while (end - p >= 8 && (memcpy(&eight, p, 8), eight_digits(eight))) {
        v = v * 100000000 + eight_digits_value(eight);
        p += 8;
    }
#endif
    for (; p < end && is_digit(*p); p++)
        v = v * 10 + (uint64_t)(*p - '0');
    *digits = v;
    return p;
}

/* The number after 'e'. Too large ones stay at the limit, where everything is zero or overflows. */
static const char *scan_exponent(const char *p, const char *end, int64_t *exponent)
{
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    const char *first = p;
    int64_t value = 0;
    for (; p < end && is_digit(*p); p++)
        if (value < (int64_t)1 << 50)
            value = value * 10 + (*p - '0');
    *exponent += negative ? -value : value;
    return p == first ? NULL : p;
}

/* Where the digits of a number stop: at its exponent or end. */
static bool in_mantissa(const struct number *n, const char *p)
{
    return p < n->text + n->size && *p != 'e' && *p != 'E';
}

/* Keeps the first digits that fit; those after them raise the exponent or are dropped. */
static void keep_digits(struct number *n, int64_t *exponent)
{
    bool full = false;
    uint64_t digits = 0, more;
    n->inexact = false;
    for (const char *p = n->text + n->negative; in_mantissa(n, p); p++) {
        if (!is_digit(*p))
            continue;
        full = full || __builtin_mul_overflow(digits, 10, &more) ||
               __builtin_add_overflow(more, (uint64_t)(*p - '0'), &more);
        if (full) {
            n->inexact |= *p != '0';
            *exponent += 1;
        } else {
            digits = more;
        }
    }
    n->digits = digits;
}

static int32_t clamp_exponent(int64_t e)
{
    return (int32_t)(e < -EXPONENT_LIMIT  ? -EXPONENT_LIMIT
                     : e > EXPONENT_LIMIT ? EXPONENT_LIMIT
                                          : e);
}

static const char *scan_fail(const char *p, const char **where_r)
{
    *where_r = p;
    return NULL;
}

const char *number_scan(const char *p, const char *end, struct number *n, const char **where_r)
{
    n->text = p;
    n->inexact = false;
    n->negative = p < end && *p == '-';
    p += n->negative;
    if (p == end || !is_digit(*p))
        return scan_fail(p, where_r);
    const char *first = p;
    uint64_t digits = 0;
    int64_t exponent = 0;
    p = *p == '0' ? p + 1 : scan_digits(p, end, &digits);
    size_t count = (size_t)(p - first);
    if (p < end && *p == '.') {
        const char *fraction = ++p;
        p = scan_digits(p, end, &digits);
        if (p == fraction)
            return scan_fail(p, where_r);
        count += (size_t)(p - fraction);
        exponent = -(int64_t)(p - fraction);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        const char *after = scan_exponent(p + 1, end, &exponent);
        if (!after)
            return scan_fail(p + 1 < end && (p[1] == '+' || p[1] == '-') ? p + 2 : p + 1, where_r);
        p = after;
    }
    n->size = (size_t)(p - n->text);
    n->digits = digits;
    if (count > DIGITS_SAFE)
        keep_digits(n, &exponent);
    n->exponent = clamp_exponent(exponent);
    return p;
}

/* Digits that count, then the exponent. After 780 digits one more '1' tells that something
 * followed: the middle between two doubles has fewer. */
const char *number_text(const struct number *n, struct number_text *t)
{
    enum { MOST = 780 };
    size_t size = 0;
    bool more = false;
    if (!n->inexact) {
        snprintf(t->text, sizeof t->text, "%llue%d", (unsigned long long)n->digits, n->exponent);
        return t->text;
    }
    for (const char *p = n->text + n->negative; in_mantissa(n, p); p++) {
        if (!is_digit(*p) || (*p == '0' && !size))
            continue;
        if (size < MOST)
            t->text[size++] = *p;
        else
            more |= *p != '0';
    }
    int kept = 0; /* n->exponent belongs to the digits of n->digits, which are the first */
    for (uint64_t v = n->digits; v; v /= 10)
        kept++;
    int exponent = n->exponent + kept - (int)size - more;
    if (more)
        t->text[size++] = '1';
    snprintf(t->text + size, sizeof t->text - size, "e%d", exponent);
    return t->text;
}
