/* datatype.h: the datatypes of the Open Inference Protocol, a row each. */
#ifndef BACKPROPD_DATATYPE_H
#define BACKPROPD_DATATYPE_H

#include "json_in.h"

struct datatype {
    const char *name;    /* "FP32" */
    size_t size;         /* bytes of one element; 0: BYTES, each with its own length */
    bool in_json;        /* its numbers can be JSON */
    bool integer;        /* JSON numbers must be whole and in [min, max] */
    enum span_type span; /* what JSON is parsed as, when an integer or BOOL is to become a real */
    int64_t min;
    uint64_t max;
    /* From n little-endian elements at any alignment; NULL for BYTES. to_int64 returns the place of
     * the first that is no int64, or -1. */
    void (*to_real)(const unsigned char *from, size_t n, real *to);
    int64_t (*to_int64)(const unsigned char *from, size_t n, int64_t *to);
};
const struct datatype *datatype_find(const char *name); /* NULL: unknown */
const struct datatype *datatype_at(int i);              /* NULL: past the last */
const struct datatype *datatype_of(enum dtype t);       /* FP32, INT64 */

#endif
