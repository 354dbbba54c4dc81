/* keyring.h: the keys that are in force, as the daemon holds them: those of the folder's file when
 * it was last read. A key that a request carries is held until the request is over; one that is
 * revoked meanwhile says so, and ends streams. Any thread may call any of this. */
#ifndef BACKPROPD_KEYRING_H
#define BACKPROPD_KEYRING_H

#include "key.h"
#include "throttle.h"

struct keyring;

/* A key in force. */
struct caller {
    struct key key;
    int refs;      /* atomic */
    bool revoked;  /* atomic */
    double tokens; /* requests that it may still make at `filled_ms`; by the ring's mutex */
    int64_t filled_ms;
};

/* Why a request was refused, and how often that was: for GET /metrics. */
enum refusal {
    REFUSED_MISSING,
    REFUSED_INVALID,
    REFUSED_THROTTLED,
    REFUSED_FORBIDDEN,
    REFUSED_RATE,
    REFUSALS
};
extern const char *const refusal_names[REFUSALS];

/* Reads the keys of the folder. NULL: STORAGE. */
struct keyring *keyring_create(const char *dir, struct error *e);
void keyring_destroy(struct keyring **r);

/* Reads them again; keys that stay as they were keep their state. -1: those from before stay in
 * force, also when the file is gone: removing it does not open a daemon that runs. *n_r, which may
 * be NULL, is how many there are. */
int keyring_reload(struct keyring *r, int *n_r, struct error *e);

/* Makes or revokes a key, in the file and at once in force. key_file_add, key_file_revoke. */
int keyring_add(struct keyring *r, struct key *k, char text_r[KEY_TEXT_SIZE], struct error *e);
int keyring_revoke(struct keyring *r, const char *name, struct error *e);

/* Whether requests need a key at all. */
bool keyring_required(struct keyring *r);

/* The key with this id, held; NULL: none. */
struct caller *keyring_find(struct keyring *r, const char *id);
void caller_release(struct caller **c);
bool caller_revoked(const struct caller *c);
/* Whether it may see a model of this name; NULL, anybody, may see all. */
bool caller_sees(const struct caller *c, const char *model);
const struct key *caller_key(const struct caller *c); /* NULL for NULL */

/* Takes one of its requests a second; else milliseconds until there is one. */
int64_t keyring_take(struct keyring *r, struct caller *c, int64_t now_ms);

struct throttle *keyring_throttle(struct keyring *r);
void keyring_count(struct keyring *r, enum refusal why);
uint64_t keyring_counted(const struct keyring *r, enum refusal why);

/* Calls f for each key in the order of their ids. */
typedef void keyring_fn(void *arg, const struct key *k);
void keyring_each(struct keyring *r, keyring_fn *f, void *arg);

#endif
