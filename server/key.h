/* key.h: what a key of a client is, and the file of a data folder that lists them.
 *
 * A key is "bpd_", 8 hex digits that name it, "_" and 64 hex digits of 256 random bits. It is shown
 * once, when it is made. What is kept is its name, what it allows, a random salt, and the SHA-256
 * of salt and key. The random bits cannot be guessed, so a hash that is quick to compute does; the
 * salt keeps equal keys of two folders from looking alike.
 *
 * The file is DIR/keys.json, mode 0600, which belongs to the owner of the folder. It is replaced by
 * renaming, under the lock of DIR/keys.lock, so `backpropd keys` may change it while a daemon uses
 * the folder; the daemon reads it again at SIGHUP. Once it is there keys are needed, also when it
 * lists none: revoking the last key closes the door, it does not open it. */
#ifndef BACKPROPD_KEY_H
#define BACKPROPD_KEY_H

#include "digest.h"
#include "routes.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    KEY_NAME_MAX = 64,
    KEY_ID_SIZE = 8 + 1, /* these with the final NUL */
    KEY_TEXT_SIZE = 4 + 8 + 1 + 64 + 1,
    KEY_SALT_BYTES = 16,
    KEY_MAX = 10000, /* in a file */
};

struct key {
    char id[KEY_ID_SIZE];
    char name[KEY_NAME_MAX + 1]; /* 1 to 64 of A-Z a-z 0-9 _ . - */
    enum role role;
    char *models;       /* globs of names of models, each ended by a space; NULL: all models */
    int64_t max_models; /* that it may have created; these three 0: as many as there may be */
    int64_t max_bytes;  /* of memory, of those models */
    int64_t requests_per_second;
    int64_t created_ms; /* Unix time */
    uint8_t salt[KEY_SALT_BYTES], sha256[DIGEST_BYTES];
};

struct key_list {
    struct key *keys;
    int n;
};

/* "read", "train", "admin"; ROLE_NONE when it is none of them. */
enum role key_role(const char *name);
const char *key_role_name(enum role r);

/* What `given` says of a new key: "name" and "role", and if they are there "models" (a list of
 * globs), "max_models", "max_bytes" and "requests_per_second". Checks everything: BAD_TYPE,
 * BAD_NAME, BAD_VALUE, MISSING_FIELD, UNKNOWN_FIELD. key_clear it. */
int key_describe(struct key *k_r, const json_t *given, struct error *e);
/* The same fields of a key, and "created_ms". NULL: out of memory. */
json_t *key_description(const struct key *k);
void key_clear(struct key *k);

/* Whether a model of this name may be seen. */
bool key_sees(const struct key *k, const char *model);
/* Whether it allows less than its role: such a key manages no others. */
bool key_limited(const struct key *k);
/* 1: `text` is this key, 0: it is not, in a time that does not depend on how nearly it is; -1: out
 * of memory. */
int key_matches(const struct key *k, const char *text, struct error *e);
/* The id within a key's text; false when it has not the form of a key. */
bool key_text_id(const char *text, char id_r[KEY_ID_SIZE]);

/* ---- the file: key_file*.c. Any thread; STORAGE when it cannot be read or written. -------------
 */

bool key_file_exists(const char *dir);
/* Without a file there are none. */
int key_file_read(const char *dir, struct key_list *l_r, struct error *e);
void key_list_free(struct key_list *l);
/* Makes a key as `k` says: sets its id, salt, hash and time, and text_r, which is not kept. Makes
 * the folder if it is not there. KEY_EXISTS. */
int key_file_add(const char *dir, struct key *k, char text_r[KEY_TEXT_SIZE], struct error *e);
/* UNKNOWN_KEY. */
int key_file_revoke(const char *dir, const char *name, struct error *e);

#endif
