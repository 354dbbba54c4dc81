/* key_file_change.c: making and revoking keys in DIR/keys.json: under the lock of DIR/keys.lock the
 * file is read, written anew beside itself, and renamed. */
#define _GNU_SOURCE
#include "key_private.h"

#include "json_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void hex_write(const uint8_t *bytes, size_t n, char *text_r)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *text_r++ = digits[bytes[i] >> 4];
        *text_r++ = digits[bytes[i] & 15];
    }
    *text_r = 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *row_write(const struct key *k)
{
    json_t *row = key_description(k);
    char salt[2 * KEY_SALT_BYTES + 1], sha256[DIGEST_HEX];
    hex_write(k->salt, sizeof k->salt, salt);
    hex_write(k->sha256, sizeof k->sha256, sha256);
    int bad = json_object_set_new(row, "id", json_string(k->id)) |
              json_object_set_new(row, "salt", json_string(salt)) |
              json_object_set_new(row, "sha256", json_string(sha256));
    if (!bad)
        return row;
    json_decref(row);
    return NULL;
}

static char *list_text(const struct key_list *l, const struct key *more)
{
    json_t *root = json_object(), *rows = json_array();
    int bad = json_object_set_new(root, "keys", rows);
    for (int i = 0; i < l->n; i++)
        bad |= json_array_append_new(rows, row_write(&l->keys[i]));
    if (more)
        bad |= json_array_append_new(rows, row_write(more));
    char *text = bad ? NULL : json_in_dump(root, JSON_INDENT(1));
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
    struct key_path path, temp;
    if (key_file_path(&path, dir, KEY_FILE, e) || key_file_path(&temp, dir, "keys.new", e))
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
    return key_file_failed(e, "write", path.text);
}

/* ---- changes --------------------------------------------------------------------------------- */

/* Closing it gives it up. */
static int lock_take(const char *dir, struct error *e)
{
    struct key_path p;
    if (key_file_path(&p, dir, "keys.lock", e))
        return -1;
    int fd = open(p.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return key_file_failed(e, "write", p.text);
    int locked;
    while ((locked = flock(fd, LOCK_EX)) && errno == EINTR)
        ;
    if (!locked && !give_to_owner(fd, dir))
        return fd;
    key_file_failed(e, "lock", p.text);
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
        return key_file_failed(e, "make the folder", dir);
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
