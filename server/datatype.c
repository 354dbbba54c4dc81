/* datatype.c: the table of datatypes and their conversions. Bytes on the wire are little-endian, as
 * are the machines that this runs on; a big-endian build is refused below. */
#include "datatype.h"

#include <math.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "binary tensors are little-endian: conversions for big-endian machines are missing"
#endif

/* IEEE half: 1 sign, 5 exponent, 10 fraction bits. Moved to where a float has them, its exponent is
 * too small by 127 - 15; subnormal halves come out right by the same multiplication. */
static float half_value(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    uint32_t bits = (uint32_t)(h & 0x7FFF) << 13;
    bool special = bits >= 0x0F800000; /* infinite or NaN */
    float f;
    if (special)
        bits |= 0x7F800000;
    memcpy(&f, &bits, sizeof f);
    f *= special ? 1 : 0x1p112f;
    return h & 0x8000 ? -f : f;
}

/* bfloat16: the upper half of a float. */
static float bfloat_value(const unsigned char *p)
{
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static bool bool_value(const unsigned char *p)
{
    return *p != 0;
}

/* Reads one element of a C type at any alignment. */
#define VALUE(type, p)                                                                             \
    ({                                                                                             \
        type value;                                                                                \
        memcpy(&value, (p), sizeof value);                                                         \
        value;                                                                                     \
    })

/* The two conversions of a type of `size` bytes whose element at p is `value` and which an int64
 * can hold when `fits`. */
#define CONVERSIONS(name, size, type, value, fits)                                                 \
    static void real_of_##name(const unsigned char *p, size_t n, real *to)                         \
    {                                                                                              \
        for (size_t i = 0; i < n; i++, p += (size))                                                \
            to[i] = (real)(value);                                                                 \
    }                                                                                              \
    static int64_t int64_of_##name(const unsigned char *p, size_t n, int64_t *to)                  \
    {                                                                                              \
        for (size_t i = 0; i < n; i++, p += (size)) {                                              \
            type x = (value);                                                                      \
            if (!(fits))                                                                           \
                return (int64_t)i;                                                                 \
            to[i] = (int64_t)x;                                                                    \
        }                                                                                          \
        return -1;                                                                                 \
    }

#define WHOLE(x) ((x) >= -0x1p63 && (x) < 0x1p63 && (x) == nearbyint(x))

CONVERSIONS(bool, 1, bool, bool_value(p), true)
CONVERSIONS(uint8, 1, uint8_t, *p, true)
CONVERSIONS(uint16, 2, uint16_t, VALUE(uint16_t, p), true)
CONVERSIONS(uint32, 4, uint32_t, VALUE(uint32_t, p), true)
CONVERSIONS(uint64, 8, uint64_t, VALUE(uint64_t, p), x <= INT64_MAX)
CONVERSIONS(int8, 1, int8_t, VALUE(int8_t, p), true)
CONVERSIONS(int16, 2, int16_t, VALUE(int16_t, p), true)
CONVERSIONS(int32, 4, int32_t, VALUE(int32_t, p), true)
CONVERSIONS(int64, 8, int64_t, VALUE(int64_t, p), true)
CONVERSIONS(fp16, 2, double, half_value(p), WHOLE(x))
CONVERSIONS(bf16, 2, double, bfloat_value(p), WHOLE(x))
CONVERSIONS(fp32, 4, double, VALUE(float, p), WHOLE(x))
CONVERSIONS(fp64, 8, double, VALUE(double, p), WHOLE(x))

/* name, bytes, in JSON, integer, span, min, max, conversions */
static const struct datatype datatypes[] = {
    {"BOOL", 1, true, false, SPAN_BOOL, 0, 1, real_of_bool, int64_of_bool},
    {"UINT8", 1, true, true, SPAN_INT64, 0, UINT8_MAX, real_of_uint8, int64_of_uint8},
    {"UINT16", 2, true, true, SPAN_INT64, 0, UINT16_MAX, real_of_uint16, int64_of_uint16},
    {"UINT32", 4, true, true, SPAN_INT64, 0, UINT32_MAX, real_of_uint32, int64_of_uint32},
    {"UINT64", 8, true, true, SPAN_UINT64, 0, UINT64_MAX, real_of_uint64, int64_of_uint64},
    {"INT8", 1, true, true, SPAN_INT64, INT8_MIN, INT8_MAX, real_of_int8, int64_of_int8},
    {"INT16", 2, true, true, SPAN_INT64, INT16_MIN, INT16_MAX, real_of_int16, int64_of_int16},
    {"INT32", 4, true, true, SPAN_INT64, INT32_MIN, INT32_MAX, real_of_int32, int64_of_int32},
    {"INT64", 8, true, true, SPAN_INT64, INT64_MIN, INT64_MAX, real_of_int64, int64_of_int64},
    {"FP16", 2, false, false, SPAN_FLOAT, 0, 0, real_of_fp16, int64_of_fp16},
    {"BF16", 2, false, false, SPAN_FLOAT, 0, 0, real_of_bf16, int64_of_bf16},
    {"FP32", 4, true, false, SPAN_FLOAT, 0, 0, real_of_fp32, int64_of_fp32},
    {"FP64", 8, true, false, SPAN_DOUBLE, 0, 0, real_of_fp64, int64_of_fp64},
    {"BYTES", 0, false, false, SPAN_FLOAT, 0, 0, NULL, NULL},
};

const struct datatype *datatype_at(int i)
{
    int n = (int)(sizeof datatypes / sizeof *datatypes);
    return i >= 0 && i < n ? &datatypes[i] : NULL;
}

/* Not inlined: with a constant name gcc 12 unrolls the loop and warns of comparisons that differ.
 */
__attribute__((noinline)) const struct datatype *datatype_find(const char *name)
{
    const struct datatype *d;
    for (int i = 0; (d = datatype_at(i)) && strcmp(d->name, name); i++)
        ;
    return d;
}

const struct datatype *datatype_of(enum dtype t)
{
    return datatype_find(t == DTYPE_REAL ? "FP32" : "INT64");
}
