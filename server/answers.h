/* answers.h: what a model has answered to requests that may be sent again: those with an
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) or a `seq`. A retry gets the first
 * answer and is not carried out again, also after a restart: answers to steps are in the redo log
 * with their requests, and with each checkpoint go to the store; those to other changes (versions,
 * restore, PATCH, weights, aliases) are in the store, in the transaction that makes the change. The
 * newest ANSWERS_KEPT of a model are known, and the one with the last seq.
 *
 * Any thread. */
#ifndef BACKPROPD_ANSWERS_H
#define BACKPROPD_ANSWERS_H

#include "model.h"

enum { ANSWERS_KEPT = STORE_ANSWERS_KEPT, ANSWER_KEY = 300 /* with the final NUL */ };

struct answers;
struct answers *answers_create(void); /* NULL: out of memory */
void answers_destroy(struct answers **a);

/* Remembers a result under a key; `request` is a hash of the request. */
void answers_add(struct answers *a, const char *key, uint64_t request, const struct step_result *r);
/* The answer to a change that is no step, which the store has: what it needs is in its counters and
 * `samples`. */
void answers_add_change(struct answers *a, const struct store_answer *s);
/* At start: forgets answers to steps above this revision, here and in the store. They were lost
 * with the power or the process, and so is what they promised. */
int answers_trim(struct answers *a, struct store *s, int64_t model_id, uint64_t revision,
                 struct error *e);
/* Whether it is known. *request_r is the hash that belongs to it. */
bool answers_find(struct answers *a, const char *key, uint64_t *request_r,
                  struct step_result *result_r);
/* The highest seq that was carried out; 0: none. */
uint64_t answers_last_seq(struct answers *a);

/* A request with this key begins. -1: another one is under way, so many are, or out of memory. */
int answers_begin(struct answers *a, const char *key, struct error *e);
void answers_end(struct answers *a, const char *key);

/* From and to the store: all that are known; those that were added since the last save. */
int answers_load(struct answers *a, struct store *s, int64_t model_id, struct error *e);
int answers_save(struct answers *a, struct store *s, int64_t model_id, struct error *e);

#endif
