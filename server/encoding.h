/* encoding.h: compressed bodies, both ways: gzip and deflate (RFC 1950, 1951, 1952) by zlib. For
 * dispatch.c; in the thread that runs the request. */
#ifndef BACKPROPD_ENCODING_H
#define BACKPROPD_ENCODING_H

#include "request.h"

/* Whether bodies in this Content-Encoding can be read; NULL: there is none, which is fine. */
bool encoding_known(const char *name);

/* Replaces a body that Content-Encoding says is compressed by what is in it, which is at most
 * --max-body. BODY_TOO_LARGE, BAD_ENCODING. */
int encoding_unpack(struct request *q, struct error *e);
/* Frees an unpacked body: it was not counted among the bodies that wait for slow clients. */
void encoding_forget(struct request *q);

/* Compresses an answer that is JSON of some size, in what Accept-Encoding prefers of
 * gzip and deflate. */
void encoding_pack(struct request *q);

#endif
