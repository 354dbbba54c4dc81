/* keys_fixture.h: keys of a daemon and requests that carry them, for the tests of who may do what.
 */
#ifndef KEYS_FIXTURE_H
#define KEYS_FIXTURE_H

#include "../support/remote.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct key_text {
    char text[80];
};

/* The key that `keys add` prints for these words. */
static inline struct key_text add_key(struct daemon *d, const char *name, const char *role,
                                      const char *flag, const char *value)
{
    struct key_text k = {""};
    struct outcome o;
    daemon_command(d, &o,
                   flag ? WORDS("keys", "add", "--name", name, "--role", role, flag, value, d->data)
                        : WORDS("keys", "add", "--name", name, "--role", role, d->data));
    if (o.status)
        fail_msg("keys add: %s", o.err);
    snprintf(k.text, sizeof k.text, "%.*s", (int)strcspn(o.out, "\n"), o.out);
    assert_int_equal(strlen(k.text), 77);
    return k;
}

/* A request with a key ("": none) and perhaps one more header. */
static inline struct answer *ask(struct daemon *d, struct key_text k, const char *method,
                                 const char *path, const char *json, const char *more)
{
    char header[120];
    const char *headers[3] = {NULL};
    int n = 0;
    snprintf(header, sizeof header, "Authorization: Bearer %s", k.text);
    if (*k.text)
        headers[n++] = header;
    if (more)
        headers[n++] = more;
    return client_send(d->client, &(struct call){.method = method,
                                                 .path = path,
                                                 .body = json,
                                                 .size = json ? strlen(json) : 0,
                                                 .headers = headers});
}

/* A signal is taken a moment after it was sent: this waits for what it changes. */
static inline void hang_up_until(struct daemon *d, struct key_text k, int status)
{
    kill(d->pid, SIGHUP);
    for (int i = 0; i < 2000; i++) {
        if (ask(d, k, "GET", "/v2", NULL, NULL)->status == status)
            return;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    fail_msg("GET /v2 does not answer %d after SIGHUP", status);
}

/* An administrator of a daemon that then wants keys. */
static inline struct key_text close_door(struct daemon *d)
{
    struct key_text root = add_key(d, "root", "admin", NULL, NULL);
    hang_up_until(d, (struct key_text){""}, 401);
    return root;
}

#endif
