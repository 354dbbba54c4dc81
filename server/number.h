/* number.h: numbers of JSON, from text and to text, exact in every bit.
 *
 * Reading: number_scan takes one number of RFC 8259's grammar apart, the conversions then give what
 * strtof, strtod and strtoll in the "C" locale would give for the same text, some ten times faster.
 * Writing: the shortest text that reads back as the same float. Pure functions; any thread. */
#ifndef BACKPROPD_NUMBER_H
#define BACKPROPD_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* (-1)^negative * digits * 10^exponent; `inexact`: digits that are not zero were left out,
 * the text has them. */
struct number {
    uint64_t digits;
    int32_t exponent;
    bool negative, inexact;
    const char *text; /* the number itself */
    size_t size;
};

/* Scans the longest number at p. Returns one past it, or NULL when there is none: *where_r is then
 * the first character that does not fit. Does not look at what follows the number. */
const char *number_scan(const char *p, const char *end, struct number *n_r, const char **where_r);

/* Text for strtod that means the same, without the sign, however many digits there were. */
struct number_text {
    char text[832];
};
const char *number_text(const struct number *n, struct number_text *t);

/* False when the value is too large for the type; too small gives a subnormal or zero. */
bool number_float(const struct number *n, float *r);
bool number_double(const struct number *n, double *r);

/* Exact. 1.0 and 1e3 are whole numbers, too. */
enum number_whole { NUMBER_WHOLE, NUMBER_FRACTIONAL, NUMBER_OVERFLOW };
enum number_whole number_int64(const struct number *n, int64_t *r);
enum number_whole number_uint64(const struct number *n, uint64_t *r);

/* Writes text to `out`, which has room for NUMBER_..._MAX, without a NUL; returns its length. The
 * value must be finite. Whole numbers are written without a point, except -0.0. */
enum { NUMBER_FLOAT_MAX = 16, NUMBER_DOUBLE_MAX = 32, NUMBER_INT_MAX = 21 };
size_t number_write_float(char *out, float f);
size_t number_write_double(char *out, double d);
size_t number_write_int(char *out, int64_t i);
size_t number_write_uint(char *out, uint64_t u);

#endif
