/* tls.h: the certificate that is shown, and a new one in its place without a restart.
 *
 * libmicrohttpd and GnuTLS speak TLS; this file reads and checks the two PEM files of --tls-cert
 * (the server's certificate first, then those of its issuers) and --tls-key. A connection keeps the
 * pair that it began with. */
#ifndef BACKPROPD_TLS_H
#define BACKPROPD_TLS_H

#include "backprop.h"

#include <gnutls/abstract.h>
#include <microhttpd.h>

struct tls;
struct tls_pair;

/* TLS 1.2 with forward secrecy and authenticated encryption, and 1.3. */
#define TLS_PRIORITIES                                                                             \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:"      \
    "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-MAC-ALL:+AEAD:-SIGN-RSA-SHA1:"                  \
    "-SIGN-ECDSA-SHA1:%SERVER_PRECEDENCE"

/* Reads both files; they must outlive it. NULL and ERROR_NOT_READY: a file that cannot be read or
 * is no PEM, a certificate whose time is not now, a key that does not fit it. */
struct tls *tls_create(const char *cert, const char *key, struct error *e);
void tls_destroy(struct tls **t);

/* Reads the files again, for new connections. -1: as tls_create; what was there stays. Any thread.
 */
int tls_reload(struct tls *t, struct error *e);

/* When the certificate ends, "2024-01-31T12:00:00Z". Any thread. */
struct tls_end {
    char text[24];
} tls_end(struct tls *t);

/* ---- one connection, of the HTTP thread ------------------------------------------------------ */

struct tls_peer {
    struct tls *tls; /* NULL: plain HTTP */
    struct tls_pair *pair;
    int fd;
    bool begun; /* its first byte has been looked at */
};

/* Before its handshake; `p` must stay where it is until tls_peer_end. A client that speaks plain
 * HTTP is answered 400 in plain HTTP. */
void tls_peer_begin(struct tls_peer *p, struct tls *t, struct MHD_Connection *c, int fd);
void tls_peer_end(struct tls_peer *p);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
int tls_certificate(gnutls_session_t session, const gnutls_datum_t *names, int n_names,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                    gnutls_pcert_st **certs_r, unsigned *n_certs_r, gnutls_privkey_t *key_r);

#endif
