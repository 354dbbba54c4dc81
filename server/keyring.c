/* keyring.c: the keys that are in force. */
#include "keyring.h"

#include <stdlib.h>
#include <string.h>

struct keyring {
    pthread_mutex_t mutex;   /* guards this group */
    struct caller **callers; /* sorted by id */
    int n;
    bool required;
    pthread_mutex_t reloading; /* one at a time, so that an older file does not win; before mutex */
    char *dir;
    uint64_t refused[REFUSALS]; /* atomic */
    struct throttle throttle;
};

const char *const refusal_names[REFUSALS] = {
    [REFUSED_MISSING] = "missing",     [REFUSED_INVALID] = "invalid",
    [REFUSED_THROTTLED] = "throttled", [REFUSED_FORBIDDEN] = "forbidden",
    [REFUSED_RATE] = "rate",
};

/* ---- one key --------------------------------------------------------------------------------- */

void caller_release(struct caller **caller)
{
    struct caller *c = *caller;
    *caller = NULL;
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    key_clear(&c->key);
    free(c);
}

static struct caller *caller_hold(struct caller *c)
{
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

bool caller_revoked(const struct caller *c)
{
    return __atomic_load_n(&c->revoked, __ATOMIC_ACQUIRE);
}

bool caller_sees(const struct caller *c, const char *model)
{
    return !c || key_sees(&c->key, model);
}

const struct key *caller_key(const struct caller *c)
{
    return c ? &c->key : NULL;
}

/* Whether nothing has changed in the file. */
static bool key_same(const struct key *a, const struct key *b)
{
    bool globs = a->models && b->models ? !strcmp(a->models, b->models) : a->models == b->models;
    return globs && !strcmp(a->name, b->name) && a->role == b->role &&
           a->max_models == b->max_models && a->max_bytes == b->max_bytes &&
           a->requests_per_second == b->requests_per_second &&
           !memcmp(a->salt, b->salt, sizeof a->salt) &&
           !memcmp(a->sha256, b->sha256, sizeof a->sha256);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
    return strcmp((*(struct caller *const *)a)->key.id, (*(struct caller *const *)b)->key.id);
}

static struct caller *find(struct caller *const *callers, int n, const char *id)
{
    int low = 0, high = n;
    while (low < high) {
        int mid = (low + high) / 2, order = strcmp(callers[mid]->key.id, id);
        if (!order)
            return callers[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static void callers_free(struct caller **callers, int n)
{
    for (int i = 0; i < n; i++)
        caller_release(&callers[i]);
    free(callers);
}

/* New callers of the keys, which they take over; NULL: out of memory. */
static struct caller **callers_make(struct key_list *l, struct error *e)
{
    struct caller **all = calloc((size_t)l->n + 1, sizeof(struct caller *));
    int n = 0;
    for (; all && n < l->n; n++) {
        all[n] = calloc(1, sizeof **all);
        if (!all[n])
            break;
        *all[n] = (struct caller){.key = l->keys[n], .refs = 1};
        all[n]->tokens = (double)l->keys[n].requests_per_second;
        l->keys[n].models = NULL;
    }
    if (all && n == l->n) {
        qsort(all, (size_t)n, sizeof(struct caller *), by_id);
        return all;
    }
    callers_free(all, n);
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %d keys", l->n);
    return NULL;
}

/* Puts the new ones in force; those that are as they were stay, the others are revoked. The old
 * list, to be freed; *n_io is the number of the new ones, then of these. */
static struct caller **swap(struct keyring *r, struct caller **next, int *n_io)
{
    int n = *n_io;
    pthread_mutex_lock(&r->mutex);
    for (int i = 0; i < n; i++) {
        struct caller *old = find(r->callers, r->n, next[i]->key.id);
        if (!old || !key_same(&old->key, &next[i]->key))
            continue;
        caller_release(&next[i]);
        next[i] = caller_hold(old);
    }
    for (int i = 0; i < r->n; i++)
        if (find(next, n, r->callers[i]->key.id) != r->callers[i])
            __atomic_store_n(&r->callers[i]->revoked, true, __ATOMIC_RELEASE);
    struct caller **before = r->callers;
    *n_io = r->n;
    r->callers = next;
    r->n = n;
    pthread_mutex_unlock(&r->mutex);
    return before;
}

static int reload(struct keyring *r, int *n_r, struct error *e)
{
    struct key_list l;
    bool there = key_file_exists(r->dir);
    if (keyring_required(r) && !there)
        return error_set(e, ERROR_STORAGE,
                         "%s/keys.json is gone; the keys from before stay in force", r->dir);
    if (key_file_read(r->dir, &l, e))
        return -1;
    int n = l.n;
    struct caller **next = callers_make(&l, e);
    key_list_free(&l);
    if (!next)
        return -1;
    if (n_r)
        *n_r = n;
    struct caller **before = swap(r, next, &n);
    callers_free(before, n);
    __atomic_store_n(&r->required, there, __ATOMIC_RELEASE);
    return 0;
}

int keyring_reload(struct keyring *r, int *n_r, struct error *e)
{
    pthread_mutex_lock(&r->reloading);
    int status = reload(r, n_r, e);
    pthread_mutex_unlock(&r->reloading);
    return status;
}

struct keyring *keyring_create(const char *dir, struct error *e)
{
    struct keyring *r = calloc(1, sizeof *r);
    char *copy = strdup(dir);
    if (!r || !copy) {
        free(r);
        free(copy);
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    r->dir = copy;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_mutex_init(&r->reloading, NULL);
    pthread_mutex_init(&r->throttle.mutex, NULL);
    if (keyring_reload(r, NULL, e))
        keyring_destroy(&r);
    return r;
}

void keyring_destroy(struct keyring **ring)
{
    struct keyring *r = *ring;
    *ring = NULL;
    if (!r)
        return;
    callers_free(r->callers, r->n);
    pthread_mutex_destroy(&r->throttle.mutex);
    pthread_mutex_destroy(&r->reloading);
    pthread_mutex_destroy(&r->mutex);
    free(r->dir);
    free(r);
}

bool keyring_required(struct keyring *r)
{
    return __atomic_load_n(&r->required, __ATOMIC_ACQUIRE);
}

int keyring_add(struct keyring *r, struct key *k, char text_r[KEY_TEXT_SIZE], struct error *e)
{
    return key_file_add(r->dir, k, text_r, e) || keyring_reload(r, NULL, e) ? -1 : 0;
}

int keyring_revoke(struct keyring *r, const char *name, struct error *e)
{
    return key_file_revoke(r->dir, name, e) || keyring_reload(r, NULL, e) ? -1 : 0;
}

struct caller *keyring_find(struct keyring *r, const char *id)
{
    pthread_mutex_lock(&r->mutex);
    struct caller *c = find(r->callers, r->n, id);
    if (c)
        caller_hold(c);
    pthread_mutex_unlock(&r->mutex);
    return c;
}

void keyring_each(struct keyring *r, keyring_fn *f, void *arg)
{
    pthread_mutex_lock(&r->mutex);
    for (int i = 0; i < r->n; i++)
        f(arg, &r->callers[i]->key);
    pthread_mutex_unlock(&r->mutex);
}

/* ---- quotas and counts ----------------------------------------------------------------------- */

/* A bucket of tokens that holds those of one second. */
int64_t keyring_take(struct keyring *r, struct caller *c, int64_t now_ms)
{
    double rate = (double)c->key.requests_per_second;
    int64_t wait = 0;
    if (!c->key.requests_per_second)
        return 0;
    pthread_mutex_lock(&r->mutex);
    if (c->filled_ms)
        c->tokens += (double)(now_ms - c->filled_ms) * rate / 1000;
    c->tokens = c->tokens < rate ? c->tokens : rate;
    c->filled_ms = now_ms;
    if (c->tokens >= 1)
        c->tokens -= 1;
    else
        wait = (int64_t)((1 - c->tokens) * 1000 / rate) + 1;
    pthread_mutex_unlock(&r->mutex);
    return wait;
}

struct throttle *keyring_throttle(struct keyring *r)
{
    return &r->throttle;
}

void keyring_count(struct keyring *r, enum refusal why)
{
    __atomic_fetch_add(&r->refused[why], 1, __ATOMIC_RELAXED);
}

uint64_t keyring_counted(const struct keyring *r, enum refusal why)
{
    return __atomic_load_n(&r->refused[why], __ATOMIC_RELAXED);
}
