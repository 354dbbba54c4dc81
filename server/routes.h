/* routes.h: a row a route. The dispatcher uses the row's flags to answer what can be answered once
 * for all routes, before the handler is called. To add a path, add a row in routes.c and write its
 * handler. */
#ifndef BACKPROPD_ROUTES_H
#define BACKPROPD_ROUTES_H

struct request;

enum route_flags {
    ROUTE_BODY = 1 << 0,          /* a body that is JSON must be there: request.json is read */
    ROUTE_BODY_OPTIONAL = 1 << 1, /* the same, if there is one: request.json.root may be NULL */
    ROUTE_RAW = 1 << 2,           /* a body of any media type must be there; it is not looked at */
    ROUTE_BINARY = 1 << 3,        /* with one of the first two: a request of tensors. Arrays of
                                     numbers are kept as spans (json_in.h) and
                                     application/octet-stream framing is accepted */
    ROUTE_MODEL = 1 << 4,    /* {model} is a well-formed name, and server.find_model knows it */
    ROUTE_CREATES = 1 << 5,  /* find_model is not asked: the model need not be there yet */
    ROUTE_WRITES = 1 << 6,   /* runs in the model's queue of writes, one at a time */
    ROUTE_QUICK = 1 << 7,    /* runs in the HTTP thread: must take microseconds and never wait */
    ROUTE_PREDICTS = 1 << 8, /* runs in the model's queue of predictions, before the others. The
                                handler answers all of request.together, whose bodies are read */
    ROUTE_UNREAD = 1 << 9, /* with ROUTE_BODY: the handler reads the JSON of request.body itself */
    ROUTE_FORM = 1 << 10,  /* with ROUTE_BINARY: multipart/form-data with images will do, too */
    ROUTE_IMAGE = 1 << 11, /* with ROUTE_BINARY: a body that is one image will do, too */
    ROUTE_ONCE = 1 << 12,  /* takes an Idempotency-Key */
    ROUTE_LIFE = 1 << 14,  /* makes or deletes a model, and takes an Idempotency-Key, too: with
                              one the handler is called also when there is no such model */
    ROUTE_REPEATS = 1 << 16, /* changes something, and does it again when it is sent again: an
                                Idempotency-Key, which promises otherwise, is refused */
    ROUTE_TENSORS = 1 << 15, /* its answer has tensors, whose bytes may follow the JSON */
    ROUTE_ASKS = 1 << 13,    /* runs in the model's queue of questions, which may take long */
};

enum role { ROLE_NONE, ROLE_READ, ROLE_TRAIN, ROLE_ADMIN };

/* What may stand behind the ?. */
struct query_param {
    const char *name;
    const char *type;   /* of JSON Schema: "integer", "boolean", "string" */
    const char *values; /* of a string: "live|ema"; NULL: any */
    const char *doc;
};

struct route {
    const char *method;  /* GET also answers HEAD */
    const char *pattern; /* "/v2/models/{model}/train_step": a {name} matches one segment */
    int (*handle)(struct request *q); /* fills the response, returns the HTTP status */
    unsigned flags;
    enum role role;
    const char *request_schema, *response_schema; /* names in openapi.yaml; NULL: none */
    const char *doc;                              /* one line */
    /* Others are refused, but on routes for everybody: pages and probes. NULL: none; ends with name
     * NULL. */
    const struct query_param *query;
};

extern const struct route routes[]; /* ends with method NULL */

#endif
