/* base64.h: base64 (RFC 4648) as text of the wire. Any thread. */
#ifndef BACKPROPD_BASE64_H
#define BACKPROPD_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* An upper bound of the bytes that `size` characters decode to. */
static inline size_t base64_room(size_t size)
{
    return size / 4 * 3 + 3;
}
/* Decodes into `out`, which has base64_room bytes. Both alphabets will do (+/ and -_), padding may
 * be left out, white space is skipped. *bad_r is the place of the character that does not belong,
 * or `size` when the end is missing; false then. */
bool base64_decode(const char *text, size_t size, unsigned char *out, size_t *size_r,
                   size_t *bad_r);

#endif
