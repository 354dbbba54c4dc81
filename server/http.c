/* http.c: the glue to libmicrohttpd.
 *
 * libmicrohttpd calls answer() several times for a request: when the headers are there, for each
 * part of the body, and once more at its end. A slow request is then given to the workers and its
 * connection suspended; when the worker has filled the response it resumes the connection, and
 * answer() is called yet again, in the HTTP thread, to send it. Responses are only ever queued from
 * the HTTP thread.
 *
 * Stopping: new connections are no longer accepted, new requests get 503, what waits for a worker
 * is cancelled, what runs ends; no connection may be suspended when the daemon is stopped. */
#include "exchange.h"

#include "dispatch.h"
#include "keyring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum {
    STOP_SECONDS = 5,      /* for answers to go out */
    PULL_BLOCK = 64 << 10, /* bytes of a body that is made while it goes out */
};
static const double SHORT_WAIT_SECONDS = 0.01;

/* ---- answering ------------------------------------------------------------------------------- */

static void add_headers(struct exchange *x, struct MHD_Response *m)
{
    const struct response *r = &x->q->response;
    MHD_add_response_header(m, "Content-Type",
                            r->content_type ? r->content_type : "application/json");
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(m, "Cross-Origin-Resource-Policy", "same-origin");
    for (int i = 0; i < r->n_headers; i++)
        MHD_add_response_header(m, r->headers[i].name, r->headers[i].value);
    if (x->q->id)
        MHD_add_response_header(m, "X-Request-Id", x->q->id);
    if (atomic_load(&x->http->stopping))
        MHD_add_response_header(m, "Connection", "close");
}

/* From here on the request is waited for when the server stops. */
static void count_open(struct exchange *x)
{
    if (!x->counted)
        atomic_fetch_add(&x->http->open, 1);
    x->counted = true;
}

static ssize_t pull_read(void *arg, uint64_t at, char *out, size_t room)
{
    const struct body_pull *p = arg;
    return (ssize_t)p->read(p->arg, (size_t)at, out, room);
}

static void pull_done(void *arg)
{
    struct body_pull *p = arg;
    p->done(p->arg);
    free(p);
}

/* libmicrohttpd keeps the response for as long as it needs; the request may be gone before. */
static struct MHD_Response *pull_response(const struct response *r)
{
    struct body_pull *p = malloc(sizeof *p);
    struct MHD_Response *m = NULL;
    if (p) {
        *p = r->pull;
        m = MHD_create_response_from_callback(r->size, PULL_BLOCK, pull_read, p, pull_done);
    }
    if (!m)
        free(p);
    return m;
}

static struct MHD_Response *buffer_response(const struct response *r)
{
    return MHD_create_response_from_buffer(r->size, (void *)(uintptr_t)r->body,
                                           r->kind == BODY_MALLOC ? MHD_RESPMEM_MUST_FREE
                                                                  : MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_response(struct exchange *x)
{
    struct response *r = &x->q->response;
    struct MHD_Response *m = r->kind == BODY_PULL     ? pull_response(r)
                             : r->kind == BODY_STREAM ? http_stream_response(x)
                                                      : buffer_response(r);
    if (!m)
        return MHD_NO;
    if (r->kind == BODY_MALLOC || r->kind == BODY_PULL) { /* it is libmicrohttpd's now */
        r->kind = BODY_ARENA;
        r->body = NULL;
    }
    add_headers(x, m);
    x->state = EXCHANGE_ANSWERED;
    peer_enter(x->peer, r->kind == BODY_STREAM ? PEER_STREAM : PEER_ANSWER);
    enum MHD_Result queued = MHD_queue_response(x->connection, (unsigned)x->q->status, m);
    MHD_destroy_response(m);
    return queued;
}

/* ---- waiting for a worker -------------------------------------------------------------------- */

/* The exchange may be gone as soon as its connection is resumed. */
static void wait_end(struct exchange *x)
{
    struct http *h = x->http;
    MHD_resume_connection(x->connection);
    pthread_mutex_lock(&h->mutex);
    h->waiting--;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
}

static struct exchange *exchange_of(struct work_job *job)
{
    return (struct exchange *)job; /* its first member */
}

static void job_cancel(struct exchange *x)
{
    struct http *h = x->http;
    if (atomic_load(&h->stopping))
        reply_errorf(x->q, ERROR_NOT_READY, "the server is stopping");
    else
        reply_errorf(x->q, ERROR_CONFLICT, "the model was deleted while the request was waiting");
}

static bool client_gone(const struct request *q)
{
    return exchange_client_gone(q->connection);
}

/* A prediction that has hardly waited is mostly over sooner than the system has answered. */
static bool worth_asking(const struct request *q)
{
    return !(q->route->flags & ROUTE_PREDICTS) || q->queue_seconds > SHORT_WAIT_SECONDS;
}

/* Runs the handler for all of a chain but those for whose answer nobody waits. */
static void chain_handle(struct work_job *job)
{
    struct request *head = NULL, **last = &head;
    for (; job; job = job->next) {
        struct request *q = exchange_of(job)->q;
        q->connection = exchange_of(job);
        q->gone = client_gone;
        if (worth_asking(q) && client_gone(q)) {
            reply_errorf(q, ERROR_CLIENT_GONE, "the client closed the connection while it waited");
            continue;
        }
        *last = q;
        last = &q->together;
    }
    if (head)
        dispatch_run(head);
}

static void job_run(struct work_job *job, bool cancelled)
{
    double begun = exchange_seconds(exchange_of(job)), ended;
    for (struct work_job *j = job; j; j = j->next) {
        struct exchange *x = exchange_of(j);
        x->q->queue_seconds = exchange_seconds(x) - x->submitted;
    }
    if (cancelled)
        job_cancel(exchange_of(job));
    else
        chain_handle(job);
    ended = exchange_seconds(exchange_of(job));
    for (struct work_job *next; job; job = next) {
        next = job->next;
        exchange_of(job)->q->compute_seconds = cancelled ? 0 : ended - begun;
        wait_end(exchange_of(job));
    }
}

/* Where the requests of a route wait. */
static struct work_queue *queue_of(const struct request *q)
{
    static const struct {
        unsigned flag;
        enum work_kind kind;
    } rows[] = {{ROUTE_WRITES, WORK_WRITES},
                {ROUTE_PREDICTS, WORK_PREDICTIONS},
                {ROUTE_ASKS, WORK_QUESTIONS}};
    for (size_t i = 0; q->queues && i < sizeof rows / sizeof *rows; i++)
        if (q->route->flags & rows[i].flag)
            return q->queues[rows[i].kind];
    return NULL;
}

static void wait_begin(struct exchange *x)
{
    struct http *h = x->http;
    struct error e;
    x->state = EXCHANGE_WAITING;
    peer_enter(x->peer, PEER_BUSY);
    pthread_mutex_lock(&h->mutex);
    h->waiting++;
    pthread_mutex_unlock(&h->mutex);
    MHD_suspend_connection(x->connection);
    x->job.run = job_run;
    x->submitted = exchange_seconds(x);
    if (work_submit(h->server->work, queue_of(x->q), &x->job, &e)) {
        reply_error(x->q, &e);
        wait_end(x);
    }
}

/* Whether it may run in this thread. */
static bool quick(const struct request *q)
{
    unsigned flags = q->route->flags;
    return flags & ROUTE_QUICK ||
           (flags & ROUTE_PREDICTS && q->server->small && q->server->small(q));
}

/* All of the request is there. */
static enum MHD_Result complete(struct exchange *x)
{
    count_open(x);
    if (x->state == EXCHANGE_READING && !quick(x->q)) {
        wait_begin(x);
        return MHD_YES;
    }
    if (x->state == EXCHANGE_READING) {
        double begun = exchange_seconds(x);
        dispatch_run(x->q);
        x->q->compute_seconds = exchange_seconds(x) - begun;
    }
    return send_response(x);
}

/* ---- what libmicrohttpd calls ---------------------------------------------------------------- */

static void *request_line(void *arg, const char *uri, struct MHD_Connection *c)
{
    return exchange_create(arg, c, uri);
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **context)
{
    struct exchange *x = *context;
    (void)arg, (void)c, (void)url, (void)version;
    if (!x)
        return MHD_NO;
    if (!x->q) {
        if (!exchange_begin(x, method))
            return MHD_NO;
        peer_enter(x->peer, PEER_BODY);
        return exchange_early(x) ? send_response(x) : MHD_YES;
    }
    if (!*size)
        return x->cut ? MHD_NO : complete(x);
    bool taken = exchange_take(x, data, *size);
    *size = 0;
    return taken ? MHD_YES : MHD_NO;
}

static void log_request(const struct exchange *x, enum MHD_RequestTerminationCode why)
{
    const struct request *q = x->q;
    double seconds = exchange_seconds(x);
    const char *event = why == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "request" : "request_aborted";
    log_line(&x->http->server->log, q->status < 500 ? LOG_INFO : LOG_WARN, event,
             LOG_STR("id", q->id), LOG_STR("method", q->method), LOG_STR("path", q->path),
             LOG_STR("model", request_param(q, "model")),
             LOG_STR("key", q->caller ? q->caller->key.name : NULL), LOG_INT("status", q->status),
             LOG_STR("code", q->error ? error_slug(q->error) : NULL), LOG_STR("error", q->sentence),
             LOG_REAL("ms", seconds * 1e3), LOG_REAL("queue_ms", q->queue_seconds * 1e3),
             LOG_REAL("compute_ms", q->compute_seconds * 1e3), LOG_INT("in", q->body_size),
             LOG_INT("out", q->response.size));
    if (x->http->server->observe)
        x->http->server->observe(q, q->status, seconds);
}

static void completed(void *arg, struct MHD_Connection *c, void **context,
                      enum MHD_RequestTerminationCode why)
{
    struct http *h = arg;
    struct exchange *x = *context;
    (void)c;
    if (!x)
        return;
    if (x->q && why != MHD_REQUEST_TERMINATED_COMPLETED_OK && x->state < EXCHANGE_WAITING &&
        !x->cut && peer_was_slow(x->peer))
        x->q->status = error_status(ERROR_SLOW); /* http_peer.c has answered it */
    if (x->q)
        log_request(x, why);
    peer_enter(x->peer, PEER_HEADERS);
    bool counted = x->counted;
    http_stream_forget(x);
    exchange_destroy(&x);
    *context = NULL;
    if (counted)
        atomic_fetch_sub(&h->open, 1);
    if (!atomic_load(&h->stopping)) /* else wait_idle counts, or will after it is set */
        return;
    pthread_mutex_lock(&h->mutex);
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->mutex);
}

/* Paths and queries are decoded by us, where errors can be told. */
static size_t keep_escapes(void *arg, struct MHD_Connection *c, char *text)
{
    (void)arg, (void)c;
    return strlen(text);
}

static void library_log(void *arg, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void library_log(void *arg, const char *format, va_list args)
{
    struct http *h = arg;
    char text[300];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    log_line(&h->server->log, LOG_DEBUG, "http", LOG_STR("text", text));
}

/* ---- starting and stopping ------------------------------------------------------------------- */

/* Nothing for plain HTTP. */
static const struct MHD_OptionItem tls_options[] = {
    {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)tls_certificate},
    {MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES},
    {MHD_OPTION_END, 0, NULL},
};

static int daemon_start(struct http *h, int fd, struct error *e)
{
    const struct config *c = h->server->config;
    bool tls = h->server->tls;
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            (tls ? MHD_USE_TLS : 0),
        0, NULL, NULL, answer, h, MHD_OPTION_EXTERNAL_LOGGER, library_log, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK, request_line, h,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, h, MHD_OPTION_NOTIFY_COMPLETED, completed, h,
        MHD_OPTION_NOTIFY_CONNECTION, peers_notify, h->peers, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)c->max_headers, MHD_OPTION_CONNECTION_LIMIT, (unsigned)c->connections,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)c->request_timeout, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_ARRAY, tls ? tls_options : tls_options + 2, MHD_OPTION_END);
    return h->daemon ? 0
                     : error_set(e, ERROR_NOT_READY, "cannot start the HTTP server on %s: %s",
                                 c->listen, strerror(errno));
}

static void http_free(struct http *h)
{
    if (!h)
        return;
    peers_destroy(&h->peers);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->mutex);
    body_blocks_free(&h->blocks); /* peers have called body_blocks_trim */
    free(h);
}

static void http_init(struct http *h, struct server *s)
{
    const struct config *c = s->config;
    int64_t half = c->max_memory / 2;
    h->server = s;
    if (getrandom(&h->next_id, sizeof h->next_id, 0) < 0)
        h->next_id = (uint64_t)time(NULL); /* no entropy: still other than the last start's */
    h->body_limit = (size_t)(half > c->max_body ? half : c->max_body) + 1;
    body_blocks_init(&h->blocks);
    pthread_mutex_init(&h->mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static void each_second(void *arg)
{
    struct http *h = arg;
    body_blocks_trim(&h->blocks, http_now());
}

struct http *http_create(struct server *s, struct http_listener *l, struct error *e)
{
    struct http *h = calloc(1, sizeof *h);
    if (h) {
        http_init(h, s);
        h->peers = peers_create(s->config, s->tls, each_second, h, e);
    } else {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the HTTP server");
    }
    if (!h || !h->peers || daemon_start(h, l->fd, e)) {
        close(l->fd);
        http_free(h);
        h = NULL;
    }
    l->fd = -1;
    return h;
}

unsigned http_connections(const struct http *h)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info ? info->num_connections : 0;
}

/* Until no worker has a connection, then a few seconds for answers to go out. */
static void wait_idle(struct http *h)
{
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_SECONDS;
    pthread_mutex_lock(&h->mutex);
    while (h->waiting)
        pthread_cond_wait(&h->changed, &h->mutex);
    while (atomic_load(&h->open) && !late)
        late = pthread_cond_timedwait(&h->changed, &h->mutex, &until);
    pthread_mutex_unlock(&h->mutex);
}

void http_destroy(struct http **http)
{
    struct http *h = *http;
    if (!h)
        return;
    pthread_mutex_lock(&h->mutex); /* with http_streams_end: a stream that begins sees it */
    atomic_store(&h->stopping, true);
    pthread_mutex_unlock(&h->mutex);
    /* Closed only when its thread has ended: that may still take the socket out of its epoll set.
     */
    int fd = MHD_quiesce_daemon(h->daemon);
    work_stop(h->server->work);
    http_streams_wake(h); /* they end */
    wait_idle(h);
    MHD_stop_daemon(h->daemon);
    if (fd >= 0)
        close(fd);
    http_free(h);
    *http = NULL;
}
