/* redo.c: appending to the redo log and forgetting what a checkpoint holds. The format and its
 * invariants are in redo.h. One writev a record, hash first: a record is whole or it is the tail.
 * A write that failed is cut off again, so that the next one follows a whole record; after an fsync
 * that failed nothing is written to that file any more. */
#define _GNU_SOURCE
#include "redo_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PARTS = 64 };

int redo_error(struct error *e, const struct redo *r, const char *doing)
{
    int why = errno;
    return error_set(e, ERROR_STORAGE, "%s the redo log %s: %s", doing, r->dir,
                     why == ENOSPC ? "the disk is full" : strerror(why));
}

char *redo_segment_path(const struct redo *r, uint64_t first)
{
    char *path = NULL;
    int n = asprintf(&path, "%s/%020llu.redo", r->dir, (unsigned long long)first);
    return n < 0 ? NULL : path;
}

int redo_segment_add(struct redo *r, uint64_t first, uint64_t bytes, struct error *e)
{
    if (r->n == r->cap) {
        int cap = r->cap ? 2 * r->cap : 8;
        struct segment *more = realloc(r->segments, (size_t)cap * sizeof *more);
        if (!more)
            return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        r->segments = more;
        r->cap = cap;
    }
    r->segments[r->n++] = (struct segment){first, bytes};
    return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

int redo_sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int status = fsync(fd);
    int why = errno;
    close(fd);
    errno = why;
    return status;
}

/* The name of a new file or folder is kept only when the folder that it is in is synced. */
static int make_folder(const char *path, struct error *e)
{
    char parent[PATH_MAX];
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? 0
                               : error_set(e, ERROR_STORAGE, "cannot make the folder %s: %s", path,
                                           strerror(errno));
    snprintf(parent, sizeof parent, "%s/..", path);
    if (redo_sync_path(parent) == 0)
        return 0;
    int why = errno;
    rmdir(path); /* or the next try would take it for one that is synced */
    return error_set(e, ERROR_STORAGE, "cannot sync the folder of %s: %s", path, strerror(why));
}

/* Tells this run of the system from others; 0: it cannot be known. */
static uint64_t boot_now(void)
{
    char id[64];
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, id, sizeof id);
    if (fd >= 0)
        close(fd);
    return n > 0 ? XXH3_64bits(id, (size_t)n) : 0;
}

static int by_first(const void *a, const void *b)
{
    uint64_t x = ((const struct segment *)a)->first, y = ((const struct segment *)b)->first;
    return x < y ? -1 : x > y;
}

static int list_segments(struct redo *r, struct error *e)
{
    DIR *d = opendir(r->dir);
    int status = d ? 0 : redo_error(e, r, "opening");
    for (struct dirent *f; d && !status && (f = readdir(d));) {
        char *end;
        struct stat st;
        uint64_t first = strtoull(f->d_name, &end, 10);
        if (end == f->d_name || strcmp(end, ".redo") != 0)
            continue;
        if (fstatat(dirfd(d), f->d_name, &st, 0))
            status = redo_error(e, r, "reading");
        else
            status = redo_segment_add(r, first, (uint64_t)st.st_size, e);
    }
    if (d)
        closedir(d);
    if (!status && r->n)
        qsort(r->segments, (size_t)r->n, sizeof *r->segments, by_first);
    return status;
}

struct redo *redo_open(const char *root, int64_t model_id, const char *fingerprint, struct error *e)
{
    struct redo *r = calloc(1, sizeof *r);
    if (!r) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&r->lock, NULL);
    r->fd = -1;
    r->boot = boot_now();
    r->model_id = model_id;
    r->fingerprint = strdup(fingerprint);
    if (asprintf(&r->dir, "%s/%lld", root, (long long)model_id) < 0)
        r->dir = NULL;
    if (!r->dir || !r->fingerprint)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    else if (!make_folder(root, e) && !make_folder(r->dir, e) && !list_segments(r, e))
        return r;
    redo_close(&r);
    return NULL;
}

void redo_close(struct redo **redo)
{
    struct redo *r = *redo;
    *redo = NULL;
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    pthread_mutex_destroy(&r->lock);
    free(r->segments);
    free(r->dir);
    free(r->fingerprint);
    free(r);
}

/* ---- appending ------------------------------------------------------------------------------- */

static int write_all(int fd, struct iovec *v, int n)
{
    while (n) {
        ssize_t done = writev(fd, v, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        for (; n && (size_t)done >= v->iov_len; v++, n--)
            done -= (ssize_t)v->iov_len;
        if (n) {
            v->iov_base = (char *)v->iov_base + done;
            v->iov_len -= (size_t)done;
        }
    }
    return 0;
}

/* The head of a segment; its length. */
static size_t segment_head(struct redo *r, char *head, size_t size)
{
    size_t n = strlen(r->fingerprint), most = size - REDO_SEGMENT_FIXED - 4 * REDO_ALIGN;
    uint32_t length = (uint32_t)(n < most ? n : most);
    memset(head, 0, size);
    memcpy(head, REDO_MAGIC, 8);
    memcpy(head + 8, &r->model_id, 8);
    memcpy(head + 16, &length, 4);
    memcpy(head + REDO_SEGMENT_FIXED, r->fingerprint, length);
    size_t at = REDO_SEGMENT_FIXED + length;
    at += redo_padding(at);
    if (getrandom(&r->salt, sizeof r->salt, 0) < 0)
        r->salt = (uint64_t)(uintptr_t)head; /* no entropy: still a salt, only guessable */
    memcpy(head + at, &r->boot, 8);
    memcpy(head + at + 8, &r->salt, 8);
    uint64_t hash = XXH3_64bits(head, at + 16);
    memcpy(head + at + 16, &hash, 8);
    return at + 24;
}

/* A file of this name that the list does not know is what a failed unlink has left. */
static int segment_begin(struct redo *r, uint64_t revision, struct error *e)
{
    char head[REDO_HEAD_BYTES];
    struct iovec v = {head, segment_head(r, head, sizeof head)};
    char *path = redo_segment_path(r, revision);
    uint64_t bytes = v.iov_len;
    if (!path || redo_segment_add(r, revision, bytes, e)) {
        free(path);
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write_all(fd, &v, 1) || fdatasync(fd) || redo_sync_path(r->dir)) {
        redo_error(e, r, "beginning a segment of");
        if (fd >= 0) {
            close(fd);
            unlink(path);
        }
        free(path);
        r->n--;
        return -1;
    }
    free(path);
    r->fd = fd;
    return 0;
}

static void segment_end(struct redo *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}

/* What was written of a record is cut off again. */
static int take_back(struct redo *r, const char *doing, struct error *e)
{
    struct segment *s = &r->segments[r->n - 1];
    redo_error(e, r, doing);
    if (ftruncate(r->fd, (off_t)s->bytes) != 0 || lseek(r->fd, (off_t)s->bytes, SEEK_SET) < 0)
        r->suspect = true;
    return -1;
}

/* Those before the open segment: a daemon that was killed may have left them unsynced. */
static int sync_older(struct redo *r, struct error *e)
{
    int status = 0;
    for (int i = 0; i + 1 < r->n && !status; i++) {
        char *path = redo_segment_path(r, r->segments[i].first);
        status = path ? redo_sync_path(path) : -1;
        free(path);
    }
    if (!status)
        return 0;
    r->suspect = true;
    return redo_error(e, r, "syncing");
}

static int append(struct redo *r, struct iovec *v, int n, size_t bytes, bool sync, struct error *e)
{
    if (write_all(r->fd, v, n))
        return take_back(r, "writing to", e);
    if (sync && fdatasync(r->fd)) {
        r->suspect = true;
        return take_back(r, "syncing", e);
    }
    r->segments[r->n - 1].bytes += bytes;
    r->unsynced = !sync;
    return 0;
}

/* The segment that the next record goes to. */
static int segment_ready(struct redo *r, uint64_t revision, struct error *e)
{
    if (r->suspect)
        return error_set(e, ERROR_STORAGE,
                         "the redo log %s cannot be trusted after an fsync that failed, until a "
                         "checkpoint takes its place",
                         r->dir);
    if (r->fd >= 0 && r->segments[r->n - 1].bytes > REDO_SEGMENT_BYTES)
        segment_end(r);
    return r->fd < 0 ? segment_begin(r, revision, e) : 0;
}

static uint64_t record_hash(const struct redo *r, const uint64_t head[3], const struct iovec *parts,
                            int n)
{
    XXH3_state_t hash;
    XXH3_INITSTATE(&hash); /* the reset looks at the seed that was there */
    XXH3_64bits_reset_withSeed(&hash, r->salt);
    XXH3_64bits_update(&hash, head + 1, REDO_RECORD_HEADER - 8);
    for (int i = 0; i < n; i++)
        XXH3_64bits_update(&hash, parts[i].iov_base, parts[i].iov_len);
    return XXH3_64bits_digest(&hash);
}

int redo_append(struct redo *r, uint64_t revision, const struct iovec *parts, int n, bool sync,
                struct error *e)
{
    uint64_t head[3] = {0, revision, 0};
    struct iovec v[MAX_PARTS + 2] = {{head, REDO_RECORD_HEADER}};
    static const char zeros[REDO_ALIGN];
    if (n > MAX_PARTS)
        return error_set(e, ERROR_INTERNAL, "a record of %d parts", n);
    for (int i = 0; i < n; i++) {
        v[i + 1] = parts[i];
        head[2] += parts[i].iov_len;
    }
    size_t padding = redo_padding(head[2]), bytes = REDO_RECORD_HEADER + head[2] + padding;
    v[n + 1] = (struct iovec){(void *)zeros, padding};
    pthread_mutex_lock(&r->lock);
    int status = segment_ready(r, revision, e);
    if (!status && sync && r->unsynced)
        status = sync_older(r, e);
    if (!status) {
        if (sync && !r->unsynced)
            head[2] |= REDO_SYNCED;
        head[0] = record_hash(r, head, parts, n);
        status = append(r, v, n + 2, bytes, sync, e);
    }
    if (!status)
        r->last = revision;
    pthread_mutex_unlock(&r->lock);
    return status;
}

/* ---- forgetting ------------------------------------------------------------------------------ */

/* A segment ends where the next one begins; what a failed unlink leaves is skipped at replay. */
void redo_forget(struct redo *r, uint64_t revision)
{
    pthread_mutex_lock(&r->lock);
    int gone = 0;
    while (gone + 1 < r->n && r->segments[gone + 1].first <= revision + 1)
        gone++;
    bool all = gone + 1 == r->n && r->last <= revision;
    if (all) {
        segment_end(r);
        gone++;
        r->unsynced = r->suspect = false;
    }
    for (int i = 0; i < gone; i++) {
        char *path = redo_segment_path(r, r->segments[i].first);
        if (path)
            unlink(path);
        free(path);
    }
    if (r->n > gone)
        memmove(r->segments, r->segments + gone, (size_t)(r->n - gone) * sizeof *r->segments);
    r->n -= gone;
    if (!all)
        segment_end(r); /* so that the next checkpoint can delete it */
    pthread_mutex_unlock(&r->lock);
}

bool redo_suspect(struct redo *r)
{
    pthread_mutex_lock(&r->lock);
    bool suspect = r->suspect;
    pthread_mutex_unlock(&r->lock);
    return suspect;
}

uint64_t redo_bytes(struct redo *r)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->n; i++)
        bytes += r->segments[i].bytes;
    pthread_mutex_unlock(&r->lock);
    return bytes;
}

int redo_remove(const char *root, int64_t model_id, struct error *e)
{
    struct redo *r = redo_open(root, model_id, "", e);
    if (!r)
        return -1;
    redo_forget(r, UINT64_MAX - 1);
    int status = rmdir(r->dir) && errno != ENOENT ? redo_error(e, r, "deleting") : 0;
    redo_close(&r);
    return status;
}
