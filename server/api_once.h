/* api_once.h: requests that may be sent again. With `Idempotency-Key: "..."` on any verb that
 * trains or changes the model, or "parameters":{"seq":N} on those with a batch, a retry gets the
 * first answer and changes nothing, also after a restart. */
#ifndef BACKPROPD_API_ONCE_H
#define BACKPROPD_API_ONCE_H

#include "api.h"

/* In the HTTP thread, before the body is read: the header is well formed (400 bad_header), and no
 * other request with this key is under way (409). Remembers that this one is. */
int api_once_begin(struct request *q, struct error *e);
void api_once_end(struct request *q);

/* In the model's queue, with the body read: sets o->key and o->request. 1: this was answered
 * before, *r is that answer; 0: carry it out; -1: 422 for a key with another request, 409 for a seq
 * that is not the next one, 412 when parameters.expect_step is not the model's step. */
int api_once_check(struct request *q, struct step_options *o, struct step_result *r,
                   struct error *e);

/* For ROUTE_LIFE, in the handler: the key that the request carries, if it does, and what was done
 * under it. *d_r is what is to be kept, with this status; use_r is it, or NULL for a request
 * without a key. 1: *d_r is what was answered before; 0: carry it out; -1: 400 bad_header, 409 when
 * another request with the key is under way, 422 for a key with another request. api_once_deed_end
 * follows in any case. */
int api_once_deed(struct request *q, int status, struct store_deed *d_r,
                  const struct store_deed **use_r, struct error *e);
void api_once_deed_end(struct request *q);

/* The same for a change that is no step. `a` is what its transaction keeps; use_r is it, or NULL
 * for a request without a key. 1: *r is the first answer: its counters and `samples`. */
int api_once_change(struct request *q, struct store_answer *a, struct store_answer **use_r,
                    struct step_result *r, struct error *e);
/* After it was carried out, with `use` of the call before; NULL: nothing to remember. */
void api_once_changed(struct request *q, const struct store_answer *use);

#endif
