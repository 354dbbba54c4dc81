/* data_backup.c: `backpropd backup DIR TARGET`. Logs first, then the database: data_folder.h says
 * why. The copy is made beside TARGET, checked, and renamed: TARGET is whole or not there. */
#define _GNU_SOURCE
#include "data_folder.h"
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct path {
    char text[PATH_MAX];
};

static int failed(struct error *e, const char *doing, const char *path)
{
    return error_set(e, ERROR_STORAGE, "%s '%s': %s", doing, path, strerror(errno));
}

static int path_join(struct path *p, const char *dir, const char *name, struct error *e)
{
    if (snprintf(p->text, sizeof p->text, "%s/%s", dir, name) < (int)sizeof p->text)
        return 0;
    return error_set(e, ERROR_STORAGE, "the name '%.80s...' is too long", dir);
}

static int make_folder(const char *path, struct error *e)
{
    return mkdir(path, 0700) ? failed(e, "cannot make the folder", path) : 0;
}

static int sync_folder(const char *path, struct error *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = fd < 0 || fsync(fd) ? failed(e, "cannot sync", path) : 0;
    if (fd >= 0)
        close(fd);
    return status;
}

/* ---- logs ------------------------------------------------------------------------------------ */

static int write_whole(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return -1;
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int copy_bytes(int from, int to)
{
    static const size_t block = 1 << 20;
    char *buffer = malloc(block);
    ssize_t n = buffer ? 1 : -1;
    while (n > 0) {
        n = read(from, buffer, block);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0 && write_whole(to, buffer, (size_t)n))
            n = -1;
    }
    free(buffer);
    return n < 0 || fsync(to) ? -1 : 0;
}

/* A segment that is gone is held by a checkpoint. */
static int copy_file(const char *from, const char *to, struct error *e)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return errno == ENOENT ? 0 : failed(e, "cannot read", from);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int status = out < 0 || copy_bytes(in, out) ? failed(e, "cannot write", to) : 0;
    if (out >= 0)
        close(out);
    close(in);
    return status;
}

static int is_entry(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

typedef int copy_fn(const char *from, const char *to, struct error *e);

/* Makes the folder `to` and copies each entry of `from`, which were listed before. One that is gone
 * has none. */
static int copy_entries(const char *from, const char *to, copy_fn *copy, struct error *e)
{
    struct dirent **list = NULL;
    struct path in, out;
    if (make_folder(to, e))
        return -1;
    int n = scandir(from, &list, is_entry, alphasort), status = 0;
    if (n < 0)
        return errno == ENOENT ? 0 : failed(e, "cannot read", from);
    for (int i = 0; i < n; i++) {
        if (!status && (path_join(&in, from, list[i]->d_name, e) ||
                        path_join(&out, to, list[i]->d_name, e) || copy(in.text, out.text, e)))
            status = -1;
        free(list[i]);
    }
    free(list);
    return status || sync_folder(to, e) ? -1 : 0;
}

static int copy_log(const char *from, const char *to, struct error *e)
{
    return copy_entries(from, to, copy_file, e);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int copy_database(const char *dir, const char *to, struct error *e)
{
    struct path file;
    if (path_join(&file, to, "backpropd.db", e))
        return -1;
    struct store *s = store_open_reader(dir, e);
    int status = s ? store_copy(s, file.text, e) : -1;
    store_close_reader(&s);
    return status;
}

/* Into the new folder `to`. */
static int copy_folder(const char *dir, char *to, FILE *out, struct error *e)
{
    struct path from_logs, to_logs, from_keys, to_keys;
    if (path_join(&from_logs, dir, "redo", e) || path_join(&to_logs, to, "redo", e) ||
        copy_entries(from_logs.text, to_logs.text, copy_log, e) || copy_database(dir, to, e))
        return -1;
    if (path_join(&from_keys, dir, "keys.json", e) || path_join(&to_keys, to, "keys.json", e) ||
        copy_file(from_keys.text, to_keys.text, e))
        return -1;
    return data_folder_check(&to, out, e) || sync_folder(to, e) ? -1 : 0;
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

/* The folder that holds `path`. */
static int sync_parent(const char *path, struct error *e)
{
    char *copy = strdup(path);
    if (!copy)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    char *slash = strrchr(copy, '/');
    if (slash)
        slash[slash == copy] = 0;
    int status = sync_folder(slash ? copy : ".", e);
    free(copy);
    return status;
}

int data_folder_backup(char **words, FILE *out, struct error *e)
{
    const char *dir = words[0], *target = words[1];
    struct path partial;
    struct stat st;
    size_t n = strlen(target);
    while (n > 1 && target[n - 1] == '/')
        words[1][--n] = 0;
    if (!lstat(target, &st))
        return error_set(e, ERROR_STORAGE, "'%s' is there already; a backup goes to a new folder",
                         target);
    if (snprintf(partial.text, sizeof partial.text, "%s.partial", target) >=
        (int)sizeof partial.text)
        return error_set(e, ERROR_STORAGE, "the name '%.80s...' is too long", target);
    if (make_folder(partial.text, e))
        return -1;
    if (!copy_folder(dir, partial.text, out, e)) {
        if (!rename(partial.text, target))
            return sync_parent(target, e);
        failed(e, "cannot rename to", target);
    }
    nftw(partial.text, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return -1;
}
