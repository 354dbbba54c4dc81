/* key_file.c: DIR/keys.json, which is read whole and replaced whole. key.h says what it promises.
 *
 *   {"keys":[{"id":"1f0a99b3","name":"ann","role":"train","models":["a*"],"max_models":3,
 *             "max_bytes":null,"requests_per_second":null,"created_ms":1700000000000,
 *             "salt":"32 hex digits","sha256":"64 hex digits"}]} */
#define _GNU_SOURCE
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char file_name[] = "keys.json", lock_name[] = "keys.lock";

struct file_path {
    char text[PATH_MAX];
};

static int failed(struct error *e, const char *doing, const char *path)
{
    return error_set(e, ERROR_STORAGE, "cannot %s %s: %s", doing, path, strerror(errno));
}

static int path_join(struct file_path *p, const char *dir, const char *name, struct error *e)
{
    if (snprintf(p->text, sizeof p->text, "%s/%s", dir, name) < (int)sizeof p->text)
        return 0;
    return error_set(e, ERROR_STORAGE, "the name of the folder '%.80s...' is too long", dir);
}

bool key_file_exists(const char *dir)
{
    struct file_path p;
    return !path_join(&p, dir, file_name, NULL) && !access(p.text, F_OK);
}

void key_list_free(struct key_list *l)
{
    for (int i = 0; i < l->n; i++)
        key_clear(&l->keys[i]);
    free(l->keys);
    *l = (struct key_list){NULL, 0};
}

/* ---- hex ------------------------------------------------------------------------------------- */

static void hex_write(const uint8_t *bytes, size_t n, char *text_r)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *text_r++ = digits[bytes[i] >> 4];
        *text_r++ = digits[bytes[i] & 15];
    }
    *text_r = 0;
}

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
        return failed(e, "read", path);
    if (!(st.st_mode & (S_IWGRP | S_IWOTH)))
        return 0;
    return error_set(e, ERROR_STORAGE, "%s may be written by others than its owner; chmod 600 it",
                     path);
}

static int text_read(struct key_list *l, int fd, const char *path, struct error *e)
{
    json_error_t where;
    json_t *root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(e, ERROR_STORAGE, "%s:%d: %s", path, where.line, where.text);
    int status = rows_read(l, json_object_get(root, "keys"), e);
    json_decref(root);
    if (!status)
        return 0;
    key_list_free(l);
    e->code = ERROR_STORAGE;
    return error_prefix(e, "%s", path);
}

int key_file_read(const char *dir, struct key_list *l, struct error *e)
{
    struct file_path p;
    *l = (struct key_list){NULL, 0};
    if (path_join(&p, dir, file_name, e))
        return -1;
    int fd = open(p.text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : failed(e, "read", p.text);
    int status = check_mode(fd, p.text, e) || text_read(l, fd, p.text, e) ? -1 : 0;
    close(fd);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *row_write(const struct key *k)
{
    json_t *row = key_description(k);
    char salt[2 * KEY_SALT_BYTES + 1], sha256[DIGEST_HEX];
    hex_write(k->salt, sizeof k->salt, salt);
    hex_write(k->sha256, sizeof k->sha256, sha256);
    json_object_set_new(row, "id", json_string(k->id));
    json_object_set_new(row, "salt", json_string(salt));
    if (json_object_set_new(row, "sha256", json_string(sha256))) {
        json_decref(row);
        return NULL;
    }
    return row;
}

static char *list_text(const struct key_list *l, const struct key *more)
{
    json_t *root = json_object(), *rows = json_array();
    int bad = json_object_set_new(root, "keys", rows);
    for (int i = 0; i < l->n; i++)
        bad |= json_array_append_new(rows, row_write(&l->keys[i]));
    if (more)
        bad |= json_array_append_new(rows, row_write(more));
    char *text = bad ? NULL : json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}

/* Root may change the keys of a daemon that runs as another user: the file is the folder's owner's.
 */
static int give_to_owner(int fd, const char *dir)
{
    struct stat st;
    if (geteuid() != 0)
        return 0;
    return stat(dir, &st) || fchown(fd, st.st_uid, st.st_gid) ? -1 : 0;
}

static int sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = fd < 0 ? -1 : fsync(fd);
    if (fd >= 0)
        close(fd);
    return status;
}

static int write_new(int fd, const char *text, const char *dir)
{
    size_t size = strlen(text), done = 0;
    while (done < size) {
        ssize_t n = write(fd, text + done, size - done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return give_to_owner(fd, dir) || fsync(fd) ? -1 : 0;
}

/* Under the lock, so that the name of the new file is nobody else's. */
static int replace(const char *dir, const char *text, struct error *e)
{
    struct file_path path, temp;
    if (path_join(&path, dir, file_name, e) || path_join(&temp, dir, "keys.new", e))
        return -1;
    unlink(temp.text); /* of a writer that was killed */
    int fd = open(temp.text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int bad = fd < 0 || write_new(fd, text, dir);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (!bad && !rename(temp.text, path.text) && !sync_folder(dir))
        return 0;
    why = bad ? why : errno;
    unlink(temp.text);
    errno = why;
    return failed(e, "write", path.text);
}

/* ---- changes --------------------------------------------------------------------------------- */

/* Closing it gives it up. */
static int lock_take(const char *dir, struct error *e)
{
    struct file_path p;
    if (path_join(&p, dir, lock_name, e))
        return -1;
    int fd = open(p.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(e, "write", p.text);
    int locked;
    while ((locked = flock(fd, LOCK_EX)) && errno == EINTR)
        ;
    if (!locked && !give_to_owner(fd, dir))
        return fd;
    failed(e, "lock", p.text);
    close(fd);
    return -1;
}

static int list_find(const struct key_list *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->keys[i].name, name))
            return i;
    return -1;
}

/* The list with one more, or without the one at `out`; either may be missing. */
static int list_write(const char *dir, struct key_list *l, const struct key *more, int out,
                      struct error *e)
{
    if (out >= 0) {
        key_clear(&l->keys[out]);
        l->keys[out] = l->keys[--l->n];
    }
    char *text = list_text(l, more);
    int status = text ? replace(dir, text, e)
                      : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the list of keys");
    free(text);
    return status;
}

static int random_bytes(void *to, size_t n, struct error *e)
{
    if (getrandom(to, n, 0) == (ssize_t)n)
        return 0;
    return error_set(e, ERROR_INTERNAL, "no random numbers: %s", strerror(errno));
}

/* Its text, id, salt and hash. Two keys have one id once in thousands of millions. */
static int key_make(struct key *k, char text_r[KEY_TEXT_SIZE], struct error *e)
{
    uint8_t id[4], secret[32];
    struct timespec now;
    struct digest d;
    if (random_bytes(id, sizeof id, e) || random_bytes(secret, sizeof secret, e) ||
        random_bytes(k->salt, sizeof k->salt, e) || digest_init(&d, e))
        return -1;
    hex_write(id, sizeof id, k->id);
    memcpy(text_r, "bpd_", 4);
    memcpy(text_r + 4, k->id, KEY_ID_SIZE);
    text_r[12] = '_';
    hex_write(secret, sizeof secret, text_r + 13);
    explicit_bzero(secret, sizeof secret);
    digest_update(&d, k->salt, sizeof k->salt);
    digest_update(&d, text_r, KEY_TEXT_SIZE - 1);
    clock_gettime(CLOCK_REALTIME, &now);
    k->created_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return digest_finish(&d, k->sha256, e);
}

int key_file_add(const char *dir, struct key *k, char text_r[KEY_TEXT_SIZE], struct error *e)
{
    struct key_list l;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return failed(e, "make the folder", dir);
    int lock = lock_take(dir, e);
    if (lock < 0)
        return -1;
    int status = key_file_read(dir, &l, e);
    if (!status && list_find(&l, k->name) >= 0)
        status =
            error_set(e, ERROR_KEY_EXISTS, "there is a key named '%s'; revoke it first", k->name);
    if (!status && l.n >= KEY_MAX)
        status = error_set(e, ERROR_QUOTA, "there are %d keys already", l.n);
    if (!status)
        status = key_make(k, text_r, e) || list_write(dir, &l, k, -1, e) ? -1 : 0;
    key_list_free(&l);
    close(lock);
    return status;
}

int key_file_revoke(const char *dir, const char *name, struct error *e)
{
    struct key_list l;
    int lock = lock_take(dir, e);
    if (lock < 0)
        return -1;
    int status = key_file_read(dir, &l, e), at = status ? -1 : list_find(&l, name);
    if (!status)
        status = at < 0 ? error_set(e, ERROR_UNKNOWN_KEY, "no key named '%.70s'", name)
                        : list_write(dir, &l, NULL, at, e);
    key_list_free(&l);
    close(lock);
    return status;
}
