/* digest.c: SHA-256 through GnuTLS, which uses the processor's own instructions where there are
 * any. See digest.h. */
#include "digest.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

static int digest_fail(int status, struct error *e)
{
    return error_set(e, ERROR_INTERNAL, "SHA-256 failed: %s", gnutls_strerror(status));
}

int digest_init(struct digest *d, struct error *e)
{
    *d = (struct digest){0};
    int status = gnutls_hash_init(&d->handle, GNUTLS_DIG_SHA256);
    return status < 0 ? digest_fail(status, e) : 0;
}

void digest_update(struct digest *d, const void *data, size_t bytes)
{
    if (bytes && d->status >= 0)
        d->status = gnutls_hash(d->handle, data, bytes);
}

int digest_finish(struct digest *d, uint8_t sha256_r[DIGEST_BYTES], struct error *e)
{
    gnutls_hash_deinit(d->handle, sha256_r);
    d->handle = NULL;
    return d->status < 0 ? digest_fail(d->status, e) : 0;
}

int digest_memory(const void *data, size_t bytes, uint8_t sha256_r[DIGEST_BYTES], struct error *e)
{
    struct digest d;
    if (digest_init(&d, e))
        return -1;
    digest_update(&d, data, bytes);
    return digest_finish(&d, sha256_r, e);
}

void digest_hex(const uint8_t sha256[DIGEST_BYTES], char text_r[DIGEST_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < DIGEST_BYTES; i++) {
        text_r[2 * i] = digits[sha256[i] >> 4];
        text_r[2 * i + 1] = digits[sha256[i] & 15];
    }
    text_r[2 * DIGEST_BYTES] = 0;
}
