/* dispatch.h: from a request's method, path and headers to its handler. What every route would have
 * to check is checked here, once. http.c calls the two halves, before and after the body. */
#ifndef BACKPROPD_DISPATCH_H
#define BACKPROPD_DISPATCH_H

#include "request.h"

/* Before the body is read, in the HTTP thread: finds the route and checks what the headers tell.
 * 0: go on, read the body if there is one. Else the status, with the response filled in:
 *   400 bad_name, bad_header; 401, 403; 404 unknown_path (with the nearest), unknown_model;
 *   405 with Allow; 421 unknown_host; 204 a preflight; 411 neither Content-Length nor chunked where
 * a body must be; 413; 415. */
int dispatch_begin(struct request *q);

/* When the body is there: splits it (400 bad_binary), reads it (400 bad_json), calls the handler.
 * Always a status with the response filled in. The same for all of q->together, which their handler
 * gets at once. */
int dispatch_run(struct request *q);

/* Both, for callers that have it all. */
int dispatch(struct request *q);

/* The content type of every route's body that is not raw: whether it can be read, and as what. */
bool dispatch_media_accepted(const char *content_type, unsigned route_flags);

/* Whether a model may be called so: 1 to 128 of A-Z a-z 0-9 _ . -, not "." or "..". */
bool dispatch_name_valid(const char *name);

/* Whether a new model may be called so: a valid name, and none that stands in the place of {model}
 * in another row of `routes`, whose path would then be the model's. BAD_NAME. */
int dispatch_check_new_name(const struct route *routes, const char *name, struct error *e);

#endif
