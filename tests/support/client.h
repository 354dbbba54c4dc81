/* client.h: an HTTP client for tests, on libcurl. A test reads
 *
 *     struct answer *a = client_get(d->client, "/v2/health/live");
 *     answer_expect(a, 200);
 *     assert_true(answer_number(a, "models.0.step") == 3);
 *
 * Answers belong to their client and are freed with it. What goes wrong (no connection, no JSON,
 * another status) fails the running test with the answer in full. A client is used by one thread at
 * a time and keeps its connection open; other threads make clients of their own. */
#ifndef TEST_CLIENT_H
#define TEST_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct client;

struct answer {
    int status; /* 0: the server closed without one (client_raw only) */
    char *body; /* never NULL; followed by a NUL that `size` does not count */
    size_t size;
    long connects; /* new connections that it took: 0 when the last one was kept */
    /* private */
    char *headers; /* "Name: value" lines, each ended by a NUL; an empty one ends them */
    size_t headers_size;
    json_t *json;
    struct answer *next;
};

struct call {
    const char *method, *path;
    const void *body; /* NULL: none */
    size_t size;
    const char *content_type;   /* NULL: application/json if there is a body */
    const char *const *headers; /* "Name: value", ends with NULL; may be NULL */
};

/* `address` is "host:port". */
struct client *client_create(const char *address);
/* Speaks TLS and trusts what this file (PEM) has issued. */
struct client *client_create_tls(const char *address, const char *ca_file);
void client_destroy(struct client **c);
/* Frees the answers that there are: for tests that send thousands of requests. */
void client_forget(struct client *c);

struct answer *client_send(struct client *c, const struct call *call);
struct answer *client_get(struct client *c, const char *path);
/* `json` NULL: no body. */
struct answer *client_json(struct client *c, const char *method, const char *path,
                           const char *json);
struct answer *client_post(struct client *c, const char *path, const char *json);
/* As client_send, but NULL when the connection fails or breaks, as when the daemon is killed. */
struct answer *client_try(struct client *c, const struct call *call);

/* Sends the bytes as they are on a connection of its own, for requests that no client would make.
 * Reads until the server closes or says nothing for `quiet_ms`. `body` is all that came, headers
 * included; `status` is that of the first status line. `half_close`: ends sending first. */
struct answer *client_raw(struct client *c, const void *bytes, size_t size, bool half_close,
                          int quiet_ms);

/* The same in steps, for clients that are slow: a socket, to be closed with close(). */
int raw_connect(struct client *c);
/* False when the server has closed or the socket takes no more. */
bool raw_send(int fd, const void *bytes, size_t size);
/* Adds what comes to `a` (of raw_answer) until the server closes (true) or says nothing for
 * `quiet_ms` (false). */
bool raw_receive(int fd, struct answer *a, int quiet_ms);
struct answer *raw_answer(struct client *c);

/* NULL when it is not there; names are compared without regard to case. */
const char *answer_header(const struct answer *a, const char *name);

/* Parsed when it is first asked for. A path is names and places in lists with dots between them:
 * "outputs.0.data.3"; "" is the whole. */
json_t *answer_json(struct answer *a);
json_t *answer_find(struct answer *a, const char *path); /* NULL: not there */
double answer_number(struct answer *a, const char *path);
const char *answer_string(struct answer *a, const char *path);

#define answer_expect(a, status) answer_expect_at(a, status, __FILE__, __LINE__)
void answer_expect_at(struct answer *a, int status, const char *file, int line);

/* {"error":"sentence","code":"slug"}, and part of the sentence (NULL: any that is not empty). */
#define answer_refused(a, status, slug, part)                                                      \
    answer_refused_at(a, status, slug, part, __FILE__, __LINE__)
void answer_refused_at(struct answer *a, int status, const char *slug, const char *part,
                       const char *file, int line);

#endif
