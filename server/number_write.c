/* number_write.c: writing numbers.
 *
 * A float is written with the fewest digits that read back as the same float, and of those with the
 * nearest. The method is "The Schubfach way to render doubles" (R. Giulietti, 2020), here for
 * float32: the value and the ends of the interval that rounds to it are scaled by a power of ten
 * from a table of 64-bit approximations, with the bits that are lost kept in the lowest one. The
 * scaled interval holds at most one multiple of ten and few integers; the test reads every answer
 * back. */
#include "number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POWER_MIN = -31 };

/* floor(10^e * 2^(63 - floor(log2(10^e)))) + 1 for e = -31 to 45. */
static const uint64_t powers[] = {
    0x81CEB32C4B43FCF5u, 0xA2425FF75E14FC32u, 0xCAD2F7F5359A3B3Fu, 0xFD87B5F28300CA0Eu,
    0x9E74D1B791E07E49u, 0xC612062576589DDBu, 0xF79687AED3EEC552u, 0x9ABE14CD44753B53u,
    0xC16D9A0095928A28u, 0xF1C90080BAF72CB2u, 0x971DA05074DA7BEFu, 0xBCE5086492111AEBu,
    0xEC1E4A7DB69561A6u, 0x9392EE8E921D5D08u, 0xB877AA3236A4B44Au, 0xE69594BEC44DE15Cu,
    0x901D7CF73AB0ACDAu, 0xB424DC35095CD810u, 0xE12E13424BB40E14u, 0x8CBCCC096F5088CCu,
    0xAFEBFF0BCB24AAFFu, 0xDBE6FECEBDEDD5BFu, 0x89705F4136B4A598u, 0xABCC77118461CEFDu,
    0xD6BF94D5E57A42BDu, 0x8637BD05AF6C69B6u, 0xA7C5AC471B478424u, 0xD1B71758E219652Cu,
    0x83126E978D4FDF3Cu, 0xA3D70A3D70A3D70Bu, 0xCCCCCCCCCCCCCCCDu, 0x8000000000000001u,
    0xA000000000000001u, 0xC800000000000001u, 0xFA00000000000001u, 0x9C40000000000001u,
    0xC350000000000001u, 0xF424000000000001u, 0x9896800000000001u, 0xBEBC200000000001u,
    0xEE6B280000000001u, 0x9502F90000000001u, 0xBA43B74000000001u, 0xE8D4A51000000001u,
    0x9184E72A00000001u, 0xB5E620F480000001u, 0xE35FA931A0000001u, 0x8E1BC9BF04000001u,
    0xB1A2BC2EC5000001u, 0xDE0B6B3A76400001u, 0x8AC7230489E80001u, 0xAD78EBC5AC620001u,
    0xD8D726B7177A8001u, 0x878678326EAC9001u, 0xA968163F0A57B401u, 0xD3C21BCECCEDA101u,
    0x84595161401484A1u, 0xA56FA5B99019A5C9u, 0xCECB8F27F4200F3Bu, 0x813F3978F8940985u,
    0xA18F07D736B90BE6u, 0xC9F2C9CD04674EDFu, 0xFC6F7C4045812297u, 0x9DC5ADA82B70B59Eu,
    0xC5371912364CE306u, 0xF684DF56C3E01BC7u, 0x9A130B963A6C115Du, 0xC097CE7BC90715B4u,
    0xF0BDC21ABB48DB21u, 0x96769950B50D88F5u, 0xBC143FA4E250EB32u, 0xEB194F8E1AE525FEu,
    0x92EFD1B8D0CF37BFu, 0xB7ABC627050305AEu, 0xE596B7B0C643C71Au, 0x8F7E32CE7BEA5C70u,
    0xB35DBF821AE4F38Cu,
};

/* Exact for the exponents of float32. */
static int floor_log10_pow2(int e)
{
    return (e * 1262611) >> 22;
}
static int floor_log10_three_quarters_pow2(int e)
{
    return (e * 1262611 - 524031) >> 22;
}
static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

/* The high part of g * x; its lowest bit tells whether anything that counts was below. */
static uint32_t scale_odd(uint64_t g, uint32_t x)
{
    unsigned __int128 p = (unsigned __int128)g * x;
    uint32_t high = (uint32_t)(p >> 64), low = (uint32_t)(p >> 32);
    return high | (low > 1);
}

struct decimal { /* digits * 10^exponent */
    uint32_t digits;
    int exponent;
};

static struct decimal decimal_strip(struct decimal d)
{
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    return d;
}

/* The shortest decimal of the positive c * 2^q. `closer`: c is the least of its exponent, so that
 * the float below is nearer. In quarters: value 4c, ends 4c - 2 (or - 1) and 4c + 2. */
static struct decimal shortest(uint32_t c, int q, bool closer)
{
    int k = closer ? floor_log10_three_quarters_pow2(q) : floor_log10_pow2(q);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t g = powers[-k - POWER_MIN];
    bool odd = c & 1; /* the ends themselves round to even */
    uint32_t low = scale_odd(g, (4 * c - (closer ? 1 : 2)) << h) + odd;
    uint32_t value = scale_odd(g, (4 * c) << h);
    uint32_t high = scale_odd(g, (4 * c + 2) << h) - odd;
    uint32_t s = value / 4, tens = s / 10;
    if (s >= 10) {
        bool under = low <= 40 * tens, over = 40 * tens + 40 <= high;
        if (under != over)
            return decimal_strip((struct decimal){tens + over, k + 1});
    }
    bool under = low <= 4 * s, over = 4 * s + 4 <= high;
    if (under != over)
        return decimal_strip((struct decimal){s + over, k});
    uint32_t middle = 4 * s + 2;
    bool up = value > middle || (value == middle && (s & 1));
    return decimal_strip((struct decimal){s + up, k});
}

static struct decimal float_decimal(uint32_t bits)
{
    uint32_t fraction = bits & 0x7FFFFF;
    int biased = (int)(bits >> 23 & 0xFF);
    if (!biased)
        return shortest(fraction, -149, false);
    return shortest(fraction | 0x800000, biased - 150, fraction == 0 && biased > 1);
}

/* ---- layout ---------------------------------------------------------------------------------- */

size_t number_write_uint(char *out, uint64_t u)
{
    char text[NUMBER_INT_MAX], *p = text + sizeof text;
    do
        *--p = (char)('0' + u % 10);
    while (u /= 10);
    size_t n = (size_t)(text + sizeof text - p);
    memcpy(out, p, n);
    return n;
}

size_t number_write_int(char *out, int64_t i)
{
    if (i >= 0)
        return number_write_uint(out, (uint64_t)i);
    *out = '-';
    return 1 + number_write_uint(out + 1, 0 - (uint64_t)i);
}

/* d.ddde-7 */
static char *write_scientific(char *out, const char *digits, size_t n, int exponent)
{
    *out++ = digits[0];
    if (n > 1) {
        *out++ = '.';
        memcpy(out, digits + 1, n - 1);
        out += n - 1;
    }
    *out++ = 'e';
    return out + number_write_int(out, exponent);
}

/* 0.000ddd, ddd.ddd or ddd000; `point` digits stand before the point. */
static char *write_fixed(char *out, const char *digits, int n, int point)
{
    if (point <= 0) {
        memcpy(out, "0.00000", 2 + (size_t)-point);
        out += 2 - point;
        memcpy(out, digits, (size_t)n);
        return out + n;
    }
    for (int i = 0; i < n || i < point; i++) {
        if (i == point)
            *out++ = '.';
        *out++ = i < n ? digits[i] : '0';
    }
    return out;
}

static size_t write_whole_float(char *out, float f)
{
    if (f == 0 && signbit(f)) {
        memcpy(out, "-0.0", 4); /* -0 would be read as an integer, which has no sign */
        return 4;
    }
    return number_write_int(out, (int64_t)f);
}

size_t number_write_float(char *out, float f)
{
    enum { FIXED_MIN = -5, FIXED_MAX = 9 };
    if (fabsf(f) < 1e7f && f == (float)(int32_t)f)
        return write_whole_float(out, f);
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    struct decimal d = float_decimal(bits & 0x7FFFFFFF);
    char digits[NUMBER_INT_MAX], *p = out;
    int n = (int)number_write_uint(digits, d.digits), exponent = d.exponent + n - 1;
    if (f < 0)
        *p++ = '-';
    if (exponent >= FIXED_MIN && exponent < FIXED_MAX)
        p = write_fixed(p, digits, n, exponent + 1);
    else
        p = write_scientific(p, digits, (size_t)n, exponent);
    return (size_t)(p - out);
}

/* Fifteen digits nearly always do, and seventeen always; subnormals have fewer to give. */
size_t number_write_double(char *out, double d)
{
    if (fabs(d) < 1e15 && d == (double)(int64_t)d && (d != 0 || !signbit(d)))
        return number_write_int(out, (int64_t)d);
    if (d == 0) {
        memcpy(out, "-0.0", 4);
        return 4;
    }
    int n = 0;
    for (int precision = fabs(d) < 2.2250738585072014e-308 ? 1 : 15; precision <= 17; precision++) {
        n = snprintf(out, NUMBER_DOUBLE_MAX, "%.*g", precision, d);
        if (strtod(out, NULL) == d)
            break;
    }
    return (size_t)n;
}
