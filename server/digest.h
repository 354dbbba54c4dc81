/* digest.h: SHA-256 through GnuTLS, of one block of memory or of a stream. A struct digest belongs
 * to one thread at a time. */
#ifndef SERVER_DIGEST_H
#define SERVER_DIGEST_H

#include "error.h"

#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX = 2 * DIGEST_BYTES + 1 /* with the final NUL */ };

/* A stream: digest_init, any number of digest_update, then digest_finish, which must follow every
 * digest_init that worked, because it frees. A failure of digest_update is reported by
 * digest_finish. ERROR_INTERNAL when GnuTLS refuses. */
struct digest {
    struct hash_hd_st *handle; /* GnuTLS' */
    int status;                /* GnuTLS' first failure, 0 when none */
};
int digest_init(struct digest *d, struct error *e);
void digest_update(struct digest *d, const void *data, size_t bytes);
int digest_finish(struct digest *d, uint8_t sha256_r[DIGEST_BYTES], struct error *e);

/* The three in one. */
int digest_memory(const void *data, size_t bytes, uint8_t sha256_r[DIGEST_BYTES], struct error *e);

/* Lower-case hex with a final NUL. */
void digest_hex(const uint8_t sha256[DIGEST_BYTES], char text_r[DIGEST_HEX]);

#endif
