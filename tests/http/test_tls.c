/* test_tls.c: HTTPS with certificates that the test makes itself: a CA, what it issues, and what
 * must be refused. */
#include "../support/remote.h"

#include <gnutls/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct path {
    char text[320];
};
static struct path path_in(const struct daemon *d, const char *name)
{
    struct path p;
    snprintf(p.text, sizeof p.text, "%s/%s", d->folder, name);
    return p;
}

/* ---- making certificates --------------------------------------------------------------------- */

struct issued {
    gnutls_x509_crt_t cert;
    gnutls_x509_privkey_t key;
};

static void file_write(const char *path, const gnutls_datum_t *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text->data, 1, text->size, f), text->size);
    fclose(f);
}

/* A certificate of 127.0.0.1 by `ca`, or a CA when that is NULL; valid in these seconds from now.
 */
static struct issued issue(const struct issued *ca, const char *name, int from, int until)
{
    struct issued i;
    static const unsigned char loopback[] = {127, 0, 0, 1};
    unsigned char serial = (unsigned char)(*name + until);
    assert_int_equal(gnutls_x509_privkey_init(&i.key), 0);
    assert_int_equal(gnutls_x509_privkey_generate(i.key, GNUTLS_PK_ECDSA,
                                                  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                                  0),
                     0);
    assert_int_equal(gnutls_x509_crt_init(&i.cert), 0);
    gnutls_x509_crt_set_version(i.cert, 3);
    gnutls_x509_crt_set_serial(i.cert, &serial, 1);
    gnutls_x509_crt_set_activation_time(i.cert, time(NULL) + from);
    gnutls_x509_crt_set_expiration_time(i.cert, time(NULL) + until);
    gnutls_x509_crt_set_dn_by_oid(i.cert, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  (unsigned)strlen(name));
    gnutls_x509_crt_set_key(i.cert, i.key);
    gnutls_x509_crt_set_ca_status(i.cert, !ca);
    if (!ca)
        gnutls_x509_crt_set_key_usage(i.cert, GNUTLS_KEY_KEY_CERT_SIGN);
    else
        gnutls_x509_crt_set_subject_alt_name(i.cert, GNUTLS_SAN_IPADDRESS, loopback,
                                             sizeof loopback, GNUTLS_FSAN_SET);
    assert_int_equal(gnutls_x509_crt_sign2(i.cert, ca ? ca->cert : i.cert, ca ? ca->key : i.key,
                                           GNUTLS_DIG_SHA256, 0),
                     0);
    return i;
}

static void issued_write(const struct issued *i, const char *cert_path, const char *key_path)
{
    gnutls_datum_t text;
    assert_int_equal(gnutls_x509_crt_export2(i->cert, GNUTLS_X509_FMT_PEM, &text), 0);
    file_write(cert_path, &text);
    gnutls_free(text.data);
    if (!key_path)
        return;
    assert_int_equal(gnutls_x509_privkey_export2(i->key, GNUTLS_X509_FMT_PEM, &text), 0);
    file_write(key_path, &text);
    gnutls_free(text.data);
}

static void issued_free(struct issued *i)
{
    gnutls_x509_crt_deinit(i->cert);
    gnutls_x509_privkey_deinit(i->key);
}

/* A CA in NAME.ca.pem, and what it issued in cert.pem and key.pem. */
static struct path certificates(struct daemon *d, const char *name, int from, int until)
{
    char file[64];
    snprintf(file, sizeof file, "%s.ca.pem", name);
    struct path ca_path = path_in(d, file);
    struct issued ca = issue(NULL, name, -60, 3600), own = issue(&ca, "127.0.0.1", from, until);
    issued_write(&ca, ca_path.text, NULL);
    issued_write(&own, path_in(d, "cert.pem").text, path_in(d, "key.pem").text);
    issued_free(&own);
    issued_free(&ca);
    return ca_path;
}

/* Starts it again over TLS; the flags live as long as the daemon's test. */
static void start_tls(struct daemon *d)
{
    static struct path cert, key;
    static const char *flags[] = {"--tls-cert", cert.text, "--tls-key", key.text, NULL};
    cert = path_in(d, "cert.pem");
    key = path_in(d, "key.pem");
    daemon_stop(d);
    daemon_start(d, flags);
}

/* ---- speaking TLS ---------------------------------------------------------------------------- */

static void trains(struct daemon *d)
{
    struct path ca = certificates(d, "first", -60, 3600);
    start_tls(d);
    struct client *c = client_create_tls(d->address, ca.text);
    answer_expect(client_get(c, "/v2/health/ready"), 200);
    remote_create(c, "m", remote_mlp);
    for (int i = 0; i < 5; i++)
        assert_int_equal(remote_step(c, "m", 1, 4)->connects, 0); /* kept alive */
    struct answer *a = client_get(c, "/");
    answer_expect(a, 200);
    a = client_send(
        c, &(struct call){.method = "GET", .path = "/", .headers = WORDS("Accept: text/html")});
    answer_expect(a, 200);
    assert_non_null(strstr(a->body, "<html"));
    answer_expect(client_get(c, "/openapi.json"), 200);
    client_destroy(&c);
}

/* Events of steps that were taken before and of one that is taken while the stream is open. */
static void streams(struct daemon *d)
{
    struct path ca = certificates(d, "first", -60, 3600);
    char command[900];
    start_tls(d);
    struct client *c = client_create_tls(d->address, ca.text);
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    /* It ends when it has the second one. */
    snprintf(command, sizeof command,
             "curl -sN --max-time 60 --cacert %s 'https://%s/v2/models/m/events?since=0' | "
             "grep -m 1 '^id: 2'",
             ca.text, d->address);
    FILE *stream = popen(command, "r");
    assert_non_null(stream);
    remote_step(c, "m", 2, 4);
    char line[64] = "";
    assert_non_null(fgets(line, sizeof line, stream));
    assert_string_equal(line, "id: 2\n");
    remote_step(c, "m", 3, 4); /* curl notices with the next bytes that grep has ended */
    pclose(stream);
    client_destroy(&c);
}

static size_t first_bytes(const char *text)
{
    const char *at = strstr(text, "Content-Length:");
    return at ? strtoul(at + 15, NULL, 10) : 0;
}

static void plain_http_is_told(struct daemon *d)
{
    static const char request[] = "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct path ca = certificates(d, "first", -60, 3600);
    start_tls(d);
    struct answer *a = client_raw(d->client, request, sizeof request - 1, false, 5000);
    answer_expect(a, 400);
    assert_true(first_bytes(a->body) > 20);
    assert_non_null(strstr(a->body, "\"tls_required\""));
    assert_non_null(strstr(a->body, "https://"));
    /* And rubbish is just closed. */
    client_raw(d->client, "\x16\x03\x01\x00\x05hello", 10, true, 2000);
    struct client *c = client_create_tls(d->address, ca.text);
    answer_expect(client_get(c, "/v2/health/live"), 200);
    client_destroy(&c);
}

static bool connects(struct daemon *d, const char *ca_file)
{
    struct client *c = client_create_tls(d->address, ca_file);
    bool trusted = client_try(c, &(struct call){.method = "GET", .path = "/v2/health/live"});
    client_destroy(&c);
    return trusted;
}

/* SIGHUP, and then until new connections see the CA (or do not). */
static bool reload_shows(struct daemon *d, const char *ca_file)
{
    kill(d->pid, SIGHUP);
    for (int i = 0; i < 500; i++) {
        if (connects(d, ca_file))
            return true;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    return false;
}

static bool log_says(struct daemon *d, const char *part)
{
    static char text[1 << 16];
    FILE *f = fopen(path_in(d, "log").text, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return strstr(text, part);
}

/* A new certificate without a restart; connections that are open go on, and what cannot be used
 * leaves the old one in place. */
static void reload(struct daemon *d)
{
    struct path first = certificates(d, "first", -60, 3600);
    start_tls(d);
    struct client *kept = client_create_tls(d->address, first.text);
    answer_expect(client_get(kept, "/v2/health/live"), 200);
    struct path second = certificates(d, "second", -60, 3600);
    assert_true(connects(d, first.text));
    assert_true(reload_shows(d, second.text));
    assert_false(connects(d, first.text));
    struct answer *a = client_get(kept, "/v2/health/live");
    answer_expect(a, 200);
    assert_int_equal(a->connects, 0);
    client_destroy(&kept);
    struct path third = certificates(d, "third", -7200, -3600);
    kill(d->pid, SIGHUP);
    for (int i = 0; i < 500 && !log_says(d, "certificate not changed"); i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    assert_true(log_says(d, "expired at"));
    assert_false(connects(d, third.text));
    assert_true(connects(d, second.text));
    certificates(d, "second", -60, 3600); /* what it reads again at the next start */
}

/* ---- what is refused at the start ------------------------------------------------------------ */

static void refused(struct daemon *d, const char *cert, const char *key, int status,
                    const char *part)
{
    struct outcome o;
    struct path data = path_in(d, "other");
    const char *arguments[9] = {"--listen", "127.0.0.1:0", "--data", data.text};
    int n = 4;
    if (cert) {
        arguments[n++] = "--tls-cert";
        arguments[n++] = cert;
    }
    if (key) {
        arguments[n++] = "--tls-key";
        arguments[n++] = key;
    }
    daemon_command(d, &o, arguments);
    if (o.status != status || !strstr(o.err, part))
        fail_msg("status %d, expected %d and '%s' in: %s", o.status, status, part, o.err);
    struct stat st;
    assert_int_not_equal(stat(data.text, &st), 0); /* nothing was begun */
}

static void refused_at_start(struct daemon *d)
{
    struct path cert = path_in(d, "cert.pem"), key = path_in(d, "key.pem"),
                other = path_in(d, "other.pem"), none = path_in(d, "none.pem");
    certificates(d, "first", -60, 3600);
    refused(d, cert.text, NULL, 2, "--tls-cert is given without --tls-key");
    refused(d, NULL, key.text, 2, "--tls-key is given without --tls-cert");
    refused(d, none.text, key.text, 1, "cannot read --tls-cert");
    refused(d, cert.text, none.text, 1, "cannot read --tls-key");
    refused(d, key.text, key.text, 1, "has no certificates in PEM");
    refused(d, cert.text, cert.text, 1, "has no private key in PEM");
    rename(key.text, other.text);
    certificates(d, "second", -60, 3600);
    refused(d, cert.text, other.text, 1, "is not the key of the certificate in --tls-cert");
    certificates(d, "third", -7200, -3600);
    refused(d, cert.text, key.text, 1, "expired at 20");
    certificates(d, "fourth", 3600, 7200);
    refused(d, cert.text, key.text, 1, "is not valid before 20");
    certificates(d, "fifth", -60, 3600);
    if (geteuid() != 0) { /* root reads everything */
        assert_int_equal(chmod(key.text, 0), 0);
        refused(d, cert.text, key.text, 1, "Permission denied");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(trains), DAEMON_TEST(streams),          DAEMON_TEST(plain_http_is_told),
        DAEMON_TEST(reload), DAEMON_TEST(refused_at_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
