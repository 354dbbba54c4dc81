/* key.c: what a key says, and whether a text is that key. The file is key_file.c's. */
#include "key.h"

#include "describe_fields.h"

#include <fnmatch.h>
#include <gnutls/gnutls.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GLOBS = 100 };

static const struct {
    enum role role;
    const char *name;
} roles[] = {{ROLE_READ, "read"}, {ROLE_TRAIN, "train"}, {ROLE_ADMIN, "admin"}};
enum { ROLES = sizeof roles / sizeof *roles };

enum role key_role(const char *name)
{
    for (int i = 0; i < ROLES; i++)
        if (!strcmp(roles[i].name, name))
            return roles[i].role;
    return ROLE_NONE;
}

const char *key_role_name(enum role r)
{
    for (int i = 0; i < ROLES; i++)
        if (roles[i].role == r)
            return roles[i].name;
    return "none";
}

/* ---- its description ------------------------------------------------------------------------- */

static const struct field fields[] = {
    {"name", IS_STRING, "a string", true},
    {"role", IS_STRING, "\"read\", \"train\" or \"admin\"", true},
    {"models", IS_LIST | IS_NULL, "a list of globs of models' names", false},
    {"max_models", IS_INT | IS_NULL, "a number of models", false},
    {"max_bytes", IS_INT | IS_NULL, "a number of bytes", false},
    {"requests_per_second", IS_INT | IS_NULL, "a number of requests", false},
    {0},
};

static const struct {
    const char *name;
    size_t offset;
} quotas[] = {
    {"max_models", offsetof(struct key, max_models)},
    {"max_bytes", offsetof(struct key, max_bytes)},
    {"requests_per_second", offsetof(struct key, requests_per_second)},
};
enum { QUOTAS = sizeof quotas / sizeof *quotas };

static int read_quotas(struct key *k, const json_t *given, struct error *e)
{
    for (int i = 0; i < QUOTAS; i++) {
        const json_t *value = describe_get(given, quotas[i].name);
        int64_t n = value ? json_integer_value(value) : 0;
        if (value && n < 1)
            return error_set(e, ERROR_BAD_VALUE, "%s is %lld, expected 1 or more", quotas[i].name,
                             (long long)n);
        memcpy((char *)k + quotas[i].offset, &n, sizeof n);
    }
    return 0;
}

/* A glob of the characters that names have, and of those that stand for some. */
static int check_glob(const json_t *item, size_t i, struct error *e)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-*?[]!";
    const char *glob = json_string_value(item);
    size_t n = glob ? strlen(glob) : 0;
    if (n && n <= 128 && strspn(glob, letters) == n)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "models[%zu] is '%.40s', expected a glob of 1 to 128 of A-Z a-z 0-9 _ . - * ? "
                     "[ ] !",
                     i, glob ? glob : "no string");
}

static int read_globs(struct key *k, const json_t *given, struct error *e)
{
    const json_t *list = describe_get(given, "models"), *item;
    size_t i, size = 1;
    if (!list)
        return 0;
    if (describe_check_count(list, "models", MAX_GLOBS, e))
        return -1;
    json_array_foreach(list, i, item)
    {
        if (check_glob(item, i, e))
            return -1;
        size += strlen(json_string_value(item)) + 1;
    }
    char *to = k->models = malloc(size);
    if (!to)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a key");
    json_array_foreach(list, i, item)
    {
        to = stpcpy(to, json_string_value(item));
        to = stpcpy(to, " ");
    }
    return 0;
}

int key_describe(struct key *k, const json_t *given, struct error *e)
{
    *k = (struct key){.models = NULL};
    if (describe_check_fields(given, "", fields, false, e))
        return -1;
    const char *name = describe_get_string(given, "name");
    const char *role = describe_get_string(given, "role");
    if (describe_check_name(name, "name", e))
        return -1;
    snprintf(k->name, sizeof k->name, "%s", name);
    k->role = key_role(role);
    if (k->role == ROLE_NONE)
        return error_set(e, ERROR_BAD_VALUE, "role is '%.40s', expected read, train or admin",
                         role);
    return read_quotas(k, given, e) || read_globs(k, given, e) ? -1 : 0;
}

json_t *key_description(const struct key *k)
{
    json_t *o = json_pack("{s:s, s:s, s:I}", "name", k->name, "role", key_role_name(k->role),
                          "created_ms", (json_int_t)k->created_ms);
    json_t *globs = k->models ? json_array() : json_null();
    const char *at = k->models ? k->models : "";
    int bad = 0; /* a key that has lost a limit on its way would be one without */
    for (size_t n; (n = strcspn(at, " ")) > 0; at += n + 1)
        bad |= json_array_append_new(globs, json_stringn(at, n));
    bad |= json_object_set_new(o, "models", globs);
    for (int i = 0; i < QUOTAS; i++) {
        int64_t n;
        memcpy(&n, (const char *)k + quotas[i].offset, sizeof n);
        bad |= json_object_set_new(o, quotas[i].name, n ? json_integer(n) : json_null());
    }
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

void key_clear(struct key *k)
{
    free(k->models);
    k->models = NULL;
}

/* ---- what it allows -------------------------------------------------------------------------- */

bool key_sees(const struct key *k, const char *model)
{
    char glob[129];
    const char *at = k->models;
    if (!at)
        return true;
    for (size_t n; (n = strcspn(at, " ")) > 0; at += n + 1) {
        if (n >= sizeof glob)
            continue;
        memcpy(glob, at, n);
        glob[n] = 0;
        if (!fnmatch(glob, model, 0))
            return true;
    }
    return false;
}

bool key_limited(const struct key *k)
{
    return k->models || k->max_models || k->max_bytes || k->requests_per_second;
}

/* ---- its text -------------------------------------------------------------------------------- */

bool key_text_id(const char *text, char id_r[KEY_ID_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    if (strlen(text) != KEY_TEXT_SIZE - 1 || strncmp(text, "bpd_", 4) ||
        strspn(text + 4, hex) != KEY_ID_SIZE - 1 || text[12] != '_' || strspn(text + 13, hex) != 64)
        return false;
    memcpy(id_r, text + 4, KEY_ID_SIZE - 1);
    id_r[KEY_ID_SIZE - 1] = 0;
    return true;
}

int key_matches(const struct key *k, const char *text, struct error *e)
{
    uint8_t sha256[DIGEST_BYTES];
    struct digest d;
    if (digest_init(&d, e))
        return -1;
    digest_update(&d, k->salt, sizeof k->salt);
    digest_update(&d, text, strlen(text));
    if (digest_finish(&d, sha256, e))
        return -1;
    return !gnutls_memcmp(sha256, k->sha256, sizeof sha256);
}
