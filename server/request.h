/* request.h: one request and its response, as handlers see them.
 *
 * A handler is a straight line: read with helpers that fill the response when they fail, do the
 * work, reply, return the status.
 *
 *     int64_t limit;
 *     if (query_int(q, "limit", 100, 1, 1000, &limit))
 *         return q->status;
 *     ...
 *     return reply_json(q, 200, &w);
 *
 * All memory of a request is in its arena, freed with it; handlers free nothing. A request is used
 * by one thread at a time: the HTTP thread, then a worker, then the HTTP thread. It knows nothing
 * of libmicrohttpd: tests build their own. */
#ifndef BACKPROPD_REQUEST_H
#define BACKPROPD_REQUEST_H

#include "json_in.h"
#include "json_out.h"
#include "routes.h"
#include "server.h"
#include "work.h"

#include <sys/types.h>

struct caller;
struct sockaddr;

enum { REQUEST_MAX_PARAMS = 6, RESPONSE_MAX_HEADERS = 16 };

struct name_value {
    const char *name, *value;
};
struct header {
    const char *name, *value;
    struct header *next;
};

enum body_kind {
    BODY_ARENA,  /* in the request's arena, or static: lives as long as the request */
    BODY_MALLOC, /* freed with free() when the answer is out */
    BODY_PULL,   /* response.pull makes it while it goes out */
    BODY_STREAM, /* a struct body_stream: made while it goes out */
};

/* A body of known size that is read piece by piece, so that it is never in memory as a whole. The
 * functions are called in the HTTP thread and must not wait. */
struct body_pull {
    /* Writes 1 to `room` bytes of the body from `at` on; their number. */
    size_t (*read)(void *arg, size_t at, char *out, size_t room);
    void (*done)(void *arg); /* once, when the answer is out or will never be */
    void *arg;
};

/* A body without a known end, such as events. While there is nothing to send its connection is
 * suspended: it costs no thread, and no time until `wake`. The stream must not keep the server from
 * stopping: it is then ended without being asked. */
struct body_stream {
    /* Up to `size` (at least 1) bytes into `out`; how many. 0: none now, `wake` will be called.
     * -1: that was all. In the HTTP thread: must not wait. */
    ssize_t (*read)(struct body_stream *b, char *out, size_t size);
    /* Frees it: all is out, or the client has gone. After it `wake` must not be called. In the HTTP
     * thread, never from within the others. */
    void (*close)(struct body_stream *b);
    /* Set before the first `read`, for any thread but not from within `read`: there is something to
     * send. One call too many does no harm. */
    void (*wake)(void *arg);
    /* Set with it, for any thread until `close`: whether the client has gone, which nobody else
     * notices while there is nothing to send. */
    bool (*gone)(void *wake_arg);
    void *wake_arg;
};
struct response {
    const char *content_type; /* NULL: application/json */
    struct name_value headers[RESPONSE_MAX_HEADERS];
    int n_headers;
    bool starved; /* there was no memory for a header */
    const void *body;
    size_t size;
    enum body_kind kind;
    struct body_pull pull;
};
/* Frees the body that there is, if any. */
void response_drop(struct response *r);

struct request {
    struct server *server;
    struct arena *arena;
    const char *id; /* X-Request-Id, the client's or ours; NULL: none yet */
    const char *method;
    const char *path;  /* as sent, %-encoded, without the query */
    const char *query; /* as sent, after '?'; "" when there is none */
    struct header *headers;
    int64_t content_length; /* -1: not given */
    bool chunked;

    const struct route *route;                    /* NULL: no such path */
    struct name_value params[REQUEST_MAX_PARAMS]; /* {model} and so on, decoded */
    int n_params;

    char *body_block;   /* malloc'd; the body lies in it */
    char *body;         /* contiguous, followed by a NUL that is not counted */
    size_t body_size;   /* all of it */
    size_t json_size;   /* the JSON at its start; what follows are binary tensors */
    size_t binary_used; /* bytes of those that tensors_read has given away */
    bool unpacked;      /* the body came compressed (encoding.h) */
    bool raw_tensor;    /* Inference-Header-Content-Length: 0: the body is one tensor, no JSON */
    struct json_in json;
    const struct image_source *images; /* that the body is or holds as files (form.h) */
    int64_t n_images;
    const struct image_fit *fits; /* of the images that were read, one a sample; NULL: none were */
    size_t reserved;              /* bytes of the models' budget, given back with the model */

    const struct sockaddr *client; /* its address; NULL: not known */
    struct caller *caller;         /* whose key it carried, of server.authorize; NULL: anybody */

    void *model;                      /* of server.find_model */
    struct work_queue *const *queues; /* of server.find_model: by enum work_kind; NULL: none */
    struct request *together;         /* the next of those that are handled together */
    const char *once_key;             /* Idempotency-Key that is under way; NULL: none */

    /* Whether nobody waits for the answer any more; NULL: not known. For request_gone. */
    bool (*gone)(const struct request *q);
    void *connection;    /* of http.c, for `gone` */
    uint64_t gone_asked; /* when it was, by the monotonic clock in ns */

    bool alone;             /* no other connection has sent a request lately */
    double queue_seconds;   /* that it waited for a worker */
    double compute_seconds; /* that its handler took */

    bool changed;          /* see reply_changed */
    int status;            /* of the response; 0: not answered yet */
    enum error_code error; /* that it tells; ERROR_NONE: none */
    const char *sentence;  /* of that error, for the log, cut where it is long; NULL: none */
    struct response response;
};

/* `method`, `path` and `query` are copied. NULL: out of memory. */
struct request *request_create(struct server *s, const char *method, const char *path,
                               const char *query);
void request_destroy(struct request **q); /* releases the model, frees the body and the JSON */

/* Whether nobody waits for the answer of a struct request any more, for what takes long: costs a
 * look at the clock, and every few milliseconds one at the connection. A run_gone_fn. */
bool request_gone(void *request);

/* The strings are kept, not copied. -1: out of memory. */
int request_add_header(struct request *q, const char *name, const char *value);

/* NULL when it is not there. Header names are compared without regard to case; of several headers
 * with one name the first is given. */
const char *request_header(const struct request *q, const char *name);
const char *request_param(const struct request *q, const char *name);

/* A query parameter, decoded ('+' is a space), in the arena; the first of its name. NULL: not
 * there. NULL with q->status set: %-encoding that is broken, %00, or out of memory. */
const char *request_query(struct request *q, const char *name);

/* `size` bytes of the query, or of a segment of the path, without their %XX ('+' is a space in a
 * query); in the arena. NULL with the response filled: broken, a NUL, or out of memory. */
char *request_decode(struct request *q, const char *text, size_t size, bool query);

/* ---- read or reply: 0, or -1 with the response filled and q->status set ---------------------- */

int query_int(struct request *q, const char *name, int64_t fallback, int64_t min, int64_t max,
              int64_t *value_r);
int query_bool(struct request *q, const char *name, bool fallback, bool *value_r); /* 1/0 too */
/* `choices`: "eval|train"; the place of the one that was given. */
int query_choice(struct request *q, const char *name, const char *choices, int fallback,
                 int *choice_r);
/* Refuses query parameters that are not the route's. */
int query_known(struct request *q);
/* A version or another whole number in the path. */
int param_int(struct request *q, const char *name, int64_t min, int64_t *value_r);

/* ---- replies: fill the response, set q->status and return it --------------------------------- */

/* {"error":"...","code":"..."}; adds Retry-After to 429, if it has none. */
int reply_error(struct request *q, const struct error *e);
int reply_errorf(struct request *q, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Takes the writer's buffer. A writer that ran out of memory becomes a 507. */
int reply_json(struct request *q, int status, struct json_out *w);
/* Text that is static or in the arena. */
int reply_json_text(struct request *q, int status, const char *json);
int reply_text(struct request *q, int status, const char *content_type, const char *text);
int reply_bytes(struct request *q, int status, const char *content_type, const void *bytes,
                size_t size, enum body_kind kind);
/* A body that is made while it goes out; pull.done is called in any case. */
int reply_pull(struct request *q, int status, const char *content_type, size_t size,
               struct body_pull pull);
/* Takes the stream over. */
int reply_stream(struct request *q, int status, const char *content_type, struct body_stream *b);
/* By a handler as soon as what was asked for is done and cannot be undone: if its answer cannot be
 * written, the error says so (answer_lost) and does not pass for one that has changed nothing. */
void reply_changed(struct request *q);
/* When the handler is through: an answer that may lack something for want of memory, a header or a
 * part of its JSON, becomes an error. */
void reply_finish(struct request *q);
/* Before or after the reply. `value` is copied. Too many: dropped. */
void reply_header(struct request *q, const char *name, const char *value);

#endif
