/* key_file.c: reading DIR/keys.json; key_file_change.c writes it. key.h says what it promises.
 *
 *   {"keys":[{"id":"1f0a99b3","name":"ann","role":"train","models":["a*"],"max_models":3,
 *             "max_bytes":null,"requests_per_second":null,"created_ms":1700000000000,
 *             "salt":"32 hex digits","sha256":"64 hex digits"}]} */
#define _GNU_SOURCE
#include "key_private.h"

#include "json_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int key_file_failed(struct error *e, const char *doing, const char *path)
{
    return error_set(e, ERROR_STORAGE, "cannot %s %s: %s", doing, path, strerror(errno));
}

int key_file_path(struct key_path *p, const char *dir, const char *name, struct error *e)
{
    if (snprintf(p->text, sizeof p->text, "%s/%s", dir, name) < (int)sizeof p->text)
        return 0;
    return error_set(e, ERROR_STORAGE, "the name of the folder '%.80s...' is too long", dir);
}

bool key_file_exists(const char *dir)
{
    struct key_path p;
    return !key_file_path(&p, dir, KEY_FILE, NULL) && !access(p.text, F_OK);
}

void key_list_free(struct key_list *l)
{
    for (int i = 0; i < l->n; i++)
        key_clear(&l->keys[i]);
    free(l->keys);
    *l = (struct key_list){NULL, 0};
}

/* ---- hex ------------------------------------------------------------------------------------- */

static bool hex_read(const char *text, uint8_t *bytes_r, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    if (!text || strlen(text) != 2 * n || strspn(text, digits) != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++)
        bytes_r[i] = (uint8_t)((strchr(digits, text[2 * i]) - digits) << 4 |
                               (strchr(digits, text[2 * i + 1]) - digits));
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A stored row holds more than what describes a key: the rest is taken out first. */
static int row_read(struct key *k, json_t *row, struct error *e)
{
    static const char *const stored[] = {"id", "salt", "sha256", "created_ms"};
    json_t *given = json_copy(row);
    if (!given)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a key");
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++)
        json_object_del(given, stored[i]);
    int status = key_describe(k, given, e);
    json_decref(given);
    if (status)
        return -1;
    const char *id = json_string_value(json_object_get(row, "id"));
    k->created_ms = json_integer_value(json_object_get(row, "created_ms"));
    if (!id || strlen(id) != KEY_ID_SIZE - 1 ||
        !hex_read(json_string_value(json_object_get(row, "salt")), k->salt, sizeof k->salt) ||
        !hex_read(json_string_value(json_object_get(row, "sha256")), k->sha256, sizeof k->sha256))
        return error_set(e, ERROR_STORAGE, "its id, salt or sha256 cannot be read");
    memcpy(k->id, id, KEY_ID_SIZE);
    return 0;
}

static int rows_read(struct key_list *l, const json_t *rows, struct error *e)
{
    size_t n = json_array_size(rows);
    if (!json_is_array(rows) || n > KEY_MAX)
        return error_set(e, ERROR_STORAGE, "expected a list \"keys\" of at most %d", KEY_MAX);
    l->keys = calloc(n + 1, sizeof *l->keys);
    if (!l->keys)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %zu keys", n);
    for (size_t i = 0; i < n; i++) {
        int status = row_read(&l->keys[i], json_array_get(rows, i), e);
        l->n++;
        if (status)
            return error_prefix(e, "keys[%zu]", i);
    }
    return 0;
}

/* Whoever may write to the file may make keys. */
static int check_mode(int fd, const char *path, struct error *e)
{
    struct stat st;
    if (fstat(fd, &st))
        return key_file_failed(e, "read", path);
    if (!(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    return error_set(e, ERROR_STORAGE, "%s may be written by others than its owner; chmod 600 it",
                     path);
}

/* All of the file; NULL: not read. */
static char *bytes_read(int fd, const char *path, size_t *size_r, struct error *e)
{
    struct stat st;
    char *bytes = fstat(fd, &st) ? NULL : malloc((size_t)st.st_size + 1);
    ssize_t n = bytes ? 1 : -1;
    for (*size_r = 0; n > 0 && *size_r<(size_t)st.st_size; *size_r += n> 0 ? (size_t)n : 0)
        n = read(fd, bytes + *size_r, (size_t)st.st_size - *size_r);
    if (n >= 0)
        return bytes;
    key_file_failed(e, "read", path);
    free(bytes);
    return NULL;
}

static int text_read(struct key_list *l, int fd, const char *path, struct error *e)
{
    json_error_t where;
    size_t size;
    char *bytes = bytes_read(fd, path, &size, e);
    if (!bytes)
        return -1;
    json_t *root = json_in_load(bytes, size, &where);
    free(bytes);
    if (!root && json_in_starved())
        return error_set(e, ERROR_OUT_OF_MEMORY, "%s: out of memory for the keys", path);
    if (!root)
        return error_set(e, ERROR_STORAGE, "%s:%d: %s", path, where.line, where.text);
    int status = rows_read(l, json_object_get(root, "keys"), e);
    json_decref(root);
    if (!status)
        return 0;
    key_list_free(l);
    e->code = e->code == ERROR_OUT_OF_MEMORY ? e->code : ERROR_STORAGE;
    return error_prefix(e, "%s", path);
}

int key_file_read(const char *dir, struct key_list *l, struct error *e)
{
    struct key_path p;
    *l = (struct key_list){NULL, 0};
    if (key_file_path(&p, dir, KEY_FILE, e))
        return -1;
    int fd = open(p.text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : key_file_failed(e, "read", p.text);
    int status = check_mode(fd, p.text, e) || text_read(l, fd, p.text, e) ? -1 : 0;
    close(fd);
    return status;
}
