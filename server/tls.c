/* tls.c: reading, checking and handing out a certificate with its key. A pair is immutable and
 * reference-counted: the process holds the newest, each connection the one that it was shown. */
#include "tls.h"

#include "http_raw.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { MAX_CERTS = 16, KEY_ID_MAX = 64 };

struct tls_pair {
    int refs; /* atomic */
    gnutls_pcert_st certs[MAX_CERTS];
    unsigned n_certs;
    gnutls_privkey_t key;
    time_t end; /* of the server's own certificate */
};

struct tls {
    const char *cert, *key; /* paths */
    pthread_mutex_t mutex;  /* guards pair */
    struct tls_pair *pair;
};

/* ---- a pair ---------------------------------------------------------------------------------- */

static void pair_unref(struct tls_pair **pair)
{
    struct tls_pair *p = *pair;
    *pair = NULL;
    if (!p || __atomic_sub_fetch(&p->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (unsigned i = 0; i < p->n_certs; i++)
        gnutls_pcert_deinit(&p->certs[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    free(p);
}

static struct tls_pair *pair_ref(struct tls *t)
{
    pthread_mutex_lock(&t->mutex);
    struct tls_pair *p = t->pair;
    __atomic_fetch_add(&p->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&t->mutex);
    return p;
}

static void time_write(time_t at, char text[24])
{
    struct tm tm;
    if (!gmtime_r(&at, &tm) || !strftime(text, 24, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(text, 24, "(no time)");
}

static int file_load(const char *flag, const char *path, gnutls_datum_t *d, struct error *e)
{
    errno = 0;
    int failed = gnutls_load_file(path, d);
    if (!failed)
        return 0;
    return error_set(e, ERROR_NOT_READY, "cannot read %s '%s': %s", flag, path,
                     errno ? strerror(errno) : gnutls_strerror(failed));
}

static int check_times(const char *path, gnutls_x509_crt_t cert, struct error *e)
{
    char text[24];
    time_t now = time(NULL), begin = gnutls_x509_crt_get_activation_time(cert),
           end = gnutls_x509_crt_get_expiration_time(cert);
    if (end < now) {
        time_write(end, text);
        return error_set(e, ERROR_NOT_READY, "the certificate in --tls-cert '%s' expired at %s",
                         path, text);
    }
    time_write(begin, text);
    return begin <= now
               ? 0
               : error_set(e, ERROR_NOT_READY,
                           "the certificate in --tls-cert '%s' is not valid before %s", path, text);
}

static int take_certs(const char *path, struct tls_pair *p, gnutls_x509_crt_t *list, unsigned n,
                      struct error *e)
{
    if (check_times(path, list[0], e))
        return -1;
    p->end = gnutls_x509_crt_get_expiration_time(list[0]);
    for (; p->n_certs < n; p->n_certs++) {
        int failed = gnutls_pcert_import_x509(&p->certs[p->n_certs], list[p->n_certs], 0);
        if (failed)
            return error_set(e, ERROR_NOT_READY, "--tls-cert '%s', certificate %u: %s", path,
                             p->n_certs + 1, gnutls_strerror(failed));
    }
    return 0;
}

static int read_certs(const char *path, struct tls_pair *p, struct error *e)
{
    gnutls_datum_t text;
    gnutls_x509_crt_t list[MAX_CERTS];
    unsigned n = MAX_CERTS;
    if (file_load("--tls-cert", path, &text, e))
        return -1;
    int failed = gnutls_x509_crt_list_import(list, &n, &text, GNUTLS_X509_FMT_PEM,
                                             GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED |
                                                 GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);
    gnutls_free(text.data);
    if (failed < 0)
        return error_set(e, ERROR_NOT_READY,
                         "--tls-cert '%s' has no certificates in PEM, the server's first and each "
                         "issuer after it (at most %d): %s",
                         path, MAX_CERTS, gnutls_strerror(failed));
    int status = take_certs(path, p, list, n, e);
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(list[i]);
    return status;
}

static int read_key(const char *path, struct tls_pair *p, struct error *e)
{
    gnutls_datum_t text;
    if (file_load("--tls-key", path, &text, e))
        return -1;
    int failed = gnutls_privkey_init(&p->key);
    if (!failed)
        failed = gnutls_privkey_import_x509_raw(p->key, &text, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return failed ? error_set(e, ERROR_NOT_READY,
                              "--tls-key '%s' has no private key in PEM without a password: %s",
                              path, gnutls_strerror(failed))
                  : 0;
}

static int check_fit(const struct tls *t, const struct tls_pair *p, struct error *e)
{
    unsigned char cert_id[KEY_ID_MAX], key_id[KEY_ID_MAX];
    size_t cert_size = sizeof cert_id, key_size = sizeof key_id;
    gnutls_pubkey_t public;
    int failed = gnutls_pubkey_init(&public);
    if (failed)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a key");
    failed = gnutls_pubkey_import_privkey(public, p->key, 0, 0);
    failed = failed ? failed : gnutls_pubkey_get_key_id(public, 0, key_id, &key_size);
    failed = failed ? failed : gnutls_pubkey_get_key_id(p->certs[0].pubkey, 0, cert_id, &cert_size);
    gnutls_pubkey_deinit(public);
    if (failed)
        return error_set(e, ERROR_NOT_READY, "--tls-key '%s': %s", t->key, gnutls_strerror(failed));
    if (cert_size == key_size && !memcmp(cert_id, key_id, key_size))
        return 0;
    return error_set(e, ERROR_NOT_READY,
                     "--tls-key '%s' is not the key of the certificate in --tls-cert '%s'", t->key,
                     t->cert);
}

/* ---- all connections ------------------------------------------------------------------------- */

int tls_reload(struct tls *t, struct error *e)
{
    struct tls_pair *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a certificate");
    fresh->refs = 1;
    if (read_certs(t->cert, fresh, e) || read_key(t->key, fresh, e) || check_fit(t, fresh, e)) {
        pair_unref(&fresh);
        return -1;
    }
    pthread_mutex_lock(&t->mutex);
    struct tls_pair *old = t->pair;
    t->pair = fresh;
    pthread_mutex_unlock(&t->mutex);
    pair_unref(&old);
    return 0;
}

struct tls *tls_create(const char *cert, const char *key, struct error *e)
{
    struct tls *t = calloc(1, sizeof *t);
    if (!t) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for TLS");
        return NULL;
    }
    *t = (struct tls){.cert = cert, .key = key};
    pthread_mutex_init(&t->mutex, NULL);
    if (tls_reload(t, e))
        tls_destroy(&t);
    return t;
}

void tls_destroy(struct tls **t)
{
    if (!*t)
        return;
    pair_unref(&(*t)->pair);
    pthread_mutex_destroy(&(*t)->mutex);
    free(*t);
    *t = NULL;
}

struct tls_end tls_end(struct tls *t)
{
    struct tls_end end;
    struct tls_pair *p = pair_ref(t);
    time_write(p->end, end.text);
    pair_unref(&p);
    return end;
}

/* ---- one connection -------------------------------------------------------------------------- */

/* Reads for GnuTLS. A handshake begins with the byte 22, a request with a letter. */
static ssize_t pull(gnutls_transport_ptr_t arg, void *out, size_t size)
{
    struct tls_peer *p = arg;
    ssize_t n = recv(p->fd, out, size, 0);
    if (n < 1 || p->begun)
        return n;
    p->begun = true;
    char first = *(const char *)out;
    if (first < 'A' || first > 'Z')
        return n;
    http_answer_raw(p->fd, ERROR_TLS_REQUIRED,
                    "this port speaks TLS: the address begins with https://");
    shutdown(p->fd, SHUT_WR);
    return 0;
}

void tls_peer_begin(struct tls_peer *p, struct tls *t, struct MHD_Connection *c, int fd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    *p = (struct tls_peer){.tls = t, .fd = fd};
    if (!info || !info->tls_session)
        return;
    gnutls_session_t session = info->tls_session;
    gnutls_session_set_ptr(session, p);
    gnutls_transport_set_ptr2(session, p, (gnutls_transport_ptr_t)(intptr_t)fd);
    gnutls_transport_set_pull_function(session, pull);
}

void tls_peer_end(struct tls_peer *p)
{
    pair_unref(&p->pair);
}

int tls_certificate(gnutls_session_t session, const gnutls_datum_t *names, int n_names,
                    const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                    gnutls_pcert_st **certs_r, unsigned *n_certs_r, gnutls_privkey_t *key_r)
{
    struct tls_peer *p = gnutls_session_get_ptr(session);
    (void)names, (void)n_names, (void)algorithms, (void)n_algorithms;
    if (!p || !p->tls)
        return -1;
    pair_unref(&p->pair);
    p->pair = pair_ref(p->tls);
    *certs_r = p->pair->certs;
    *n_certs_r = p->pair->n_certs;
    *key_r = p->pair->key;
    return 0;
}
