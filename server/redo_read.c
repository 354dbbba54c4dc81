/* redo_read.c: replaying a log. A segment is read whole (not mapped: a disk that cannot be read
 * would be a SIGBUS); each record is checked before it is handed out. Where a record is not whole,
 * redo.h says whether the log ends there or is damaged. */
#define _GNU_SOURCE
#include "redo_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A segment that is read. */
struct reading {
    struct redo *r;
    const struct segment *s;
    char *data; /* all of it */
    size_t size, at;
    uint64_t salt, boot;
    bool same_engine;
    bool any; /* it holds a whole record */
};

/* A log that is read. */
struct pass {
    struct redo *r;
    uint64_t revision; /* records above it are asked for */
    bool keep;         /* the files stay as they are */
    redo_fn *f;
    void *arg;
    uint64_t torn; /* bytes that were cut off */
};

static int damaged(const struct reading *g, const char *what, struct error *e)
{
    return error_set(e, ERROR_STORAGE,
                     "the redo log %s is damaged: segment %020llu.redo, %s at byte %zu; what it "
                     "holds after that cannot be trusted",
                     g->r->dir, (unsigned long long)g->s->first, what, g->at);
}

static uint64_t read_u64(const char *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* 1: there is a whole head; 0: it is cut short; -1: it is another file's. */
static int read_head(struct reading *g)
{
    uint32_t n;
    if (g->size < REDO_SEGMENT_FIXED)
        return 0;
    bool old = memcmp(g->data, REDO_MAGIC_OLD, 8) == 0;
    memcpy(&n, g->data + 16, 4);
    size_t end = REDO_SEGMENT_FIXED + (size_t)n;
    end += redo_padding(end) + (old ? 0 : 8);
    if (n > 4096 || g->size < end + 16)
        return n > 4096 ? -1 : 0;
    if ((!old && memcmp(g->data, REDO_MAGIC, 8) != 0) ||
        (int64_t)read_u64(g->data + 8) != g->r->model_id ||
        read_u64(g->data + end + 8) != XXH3_64bits(g->data, end + 8))
        return -1;
    g->same_engine = n == strlen(g->r->fingerprint) &&
                     memcmp(g->data + REDO_SEGMENT_FIXED, g->r->fingerprint, n) == 0;
    g->boot = old ? 0 : read_u64(g->data + end - 8);
    g->salt = read_u64(g->data + end);
    g->at = end + 16;
    return 1;
}

/* 1: a whole record; 0: the end, or what is left is not whole. */
static int read_record(struct reading *g, struct redo_record *record_r)
{
    size_t left = g->size - g->at;
    const char *p = g->data + g->at;
    if (left < REDO_RECORD_HEADER)
        return 0;
    uint64_t bytes = read_u64(p + 16) & ~REDO_SYNCED;
    if (bytes > left - REDO_RECORD_HEADER)
        return 0;
    if (read_u64(p) != XXH3_64bits_withSeed(p + 8, REDO_RECORD_HEADER - 8 + bytes, g->salt))
        return 0;
    *record_r = (struct redo_record){.revision = read_u64(p + 8),
                                     .payload = p + REDO_RECORD_HEADER,
                                     .bytes = bytes,
                                     .same_engine = g->same_engine};
    size_t step = REDO_RECORD_HEADER + bytes + redo_padding(bytes);
    g->at += step < left ? step : left;
    return 1;
}

/* Whether a whole record begins anywhere behind the place where reading stopped; `synced`: one that
 * says that all before it had reached the disk. Records begin at multiples of 8. */
static bool record_behind(const struct reading *g, bool synced)
{
    struct reading probe = *g;
    struct redo_record record;
    for (size_t at = (g->at / REDO_ALIGN + 1) * REDO_ALIGN; at + REDO_RECORD_HEADER < g->size;
         at += REDO_ALIGN) {
        uint64_t bytes = read_u64(g->data + at + 16);
        probe.at = at;
        if ((bytes & ~REDO_SYNCED) && (!synced || (bytes & REDO_SYNCED)) &&
            read_record(&probe, &record))
            return true;
    }
    return false;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int read_all(int fd, char *data, size_t size)
{
    while (size) {
        ssize_t n = read(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n ? errno : EIO; /* shorter than it was a moment ago */
            return -1;
        }
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

/* g->data is the caller's to free, also after a failure. */
static int segment_load(struct reading *g, struct error *e)
{
    g->size = (size_t)g->s->bytes;
    g->data = malloc(g->size ? g->size : 1);
    char *path = redo_segment_path(g->r, g->s->first);
    if (!path || !g->data) {
        free(path);
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a segment of the redo log");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int status = fd < 0 ? -1 : read_all(fd, g->data, g->size);
    if (status)
        redo_error(e, g->r, "reading");
    if (fd >= 0)
        close(fd);
    free(path);
    return status;
}

/* What is cut off stays so: what is appended later follows it. */
static int file_cut(const char *path, off_t size)
{
    int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return -1;
    int status = ftruncate(fd, size) || fsync(fd) ? -1 : 0;
    int why = errno;
    close(fd);
    errno = why;
    return status;
}

/* After the last whole record what is left is cut off. */
static int cut_tail(const struct pass *p, const struct reading *g, struct error *e)
{
    char *path = redo_segment_path(p->r, g->s->first);
    int status = file_cut(path, (off_t)g->at) ? redo_error(e, p->r, "mending") : 0;
    free(path);
    p->r->segments[g->s - p->r->segments].bytes = g->at;
    return status;
}

/* The segments from number i on. The last first: what a kill leaves is a log that is shorter. */
static int drop_from(const struct pass *p, int i, struct error *e)
{
    int status = 0;
    while (p->r->n > i && !status) {
        char *path = redo_segment_path(p->r, p->r->segments[p->r->n - 1].first);
        status = path && unlink(path) == 0 ? 0 : redo_error(e, p->r, "mending");
        free(path);
        if (!status)
            p->r->n--;
    }
    if (!status && redo_sync_path(p->r->dir))
        status = redo_error(e, p->r, "mending");
    return status;
}

/* ---- the end of a log ------------------------------------------------------------------------ */

/* Whether segment i, which follows a place where the log is not whole, denies that the loss of
 * power did that: 1, 0, or -1 when it cannot be read. */
static int segment_denies(const struct pass *p, int i, struct error *e)
{
    struct reading g = {.r = p->r, .s = &p->r->segments[i]};
    int denies = segment_load(&g, e);
    if (!denies && read_head(&g) > 0) {
        g.at -= REDO_ALIGN; /* its first record counts too */
        /* One of this boot was begun when the log before it was whole. */
        denies = !g.boot || g.boot == p->r->boot || record_behind(&g, true);
    }
    free(g.data);
    return denies;
}

/* The log is not whole at g->at of segment i, or ends there too early. It ends there when that is
 * a torn tail or the loss of power (redo.h), and what follows is given up; else it is damaged. */
static int end_here(struct pass *p, const struct reading *g, int i, const char *what,
                    struct error *e)
{
    bool last = i == p->r->n - 1;
    if (!last || record_behind(g, false)) {
        int denies = !g->boot || g->boot == p->r->boot || record_behind(g, true);
        for (int k = i + 1; k < p->r->n && !denies; k++)
            denies = segment_denies(p, k, e);
        if (denies)
            return denies < 0 ? -1 : damaged(g, what, e);
    }
    p->torn += g->size - g->at;
    for (int k = i + 1; k < p->r->n; k++)
        p->torn += p->r->segments[k].bytes;
    if (p->keep)
        return 0;
    if (drop_from(p, i + 1, e))
        return -1;
    return g->at < g->size ? cut_tail(p, g, e) : 0;
}

/* ---- the pass -------------------------------------------------------------------------------- */

static int read_records(struct pass *p, struct reading *g, struct error *e)
{
    struct redo_record record;
    while (read_record(g, &record)) {
        if (record.revision > p->revision && p->f(p->arg, &record, e))
            return -1;
        p->r->last = record.revision;
        g->any = true;
    }
    return 0;
}

/* Whether the next segment does not begin where this one ends. What a checkpoint holds may be
 * missing. */
static bool gap_behind(const struct pass *p, int i)
{
    uint64_t last = p->r->last > p->revision ? p->r->last : p->revision;
    return i + 1 < p->r->n && p->r->segments[i + 1].first > last + 1;
}

/* 1: go on with the next one; 0: the log has ended; -1. */
static int read_segment(struct pass *p, struct reading *g, int i, struct error *e)
{
    int head = read_head(g);
    bool last = i == p->r->n - 1;
    if (head < 0 || (!head && !last))
        return damaged(g, "no valid head", e);
    if (head && read_records(p, g, e))
        return -1;
    if ((g->at < g->size || gap_behind(p, i)) && end_here(p, g, i, "a record that is not whole", e))
        return -1;
    last = i == p->r->n - 1;
    if (last && !g->any && !p->keep)
        return drop_from(p, i, e); /* the next one may need its name */
    return g->at < g->size || last ? 0 : 1;
}

static int read_log(struct pass *p, struct error *e)
{
    int more = 1;
    for (int i = 0; i < p->r->n && more > 0; i++) {
        struct reading g = {.r = p->r, .s = &p->r->segments[i]};
        if (i + 1 < p->r->n && p->r->segments[i + 1].first <= p->revision + 1)
            continue; /* the checkpoint holds all of it */
        more = segment_load(&g, e) ? -1 : read_segment(p, &g, i, e);
        free(g.data);
    }
    return more < 0 ? -1 : 0;
}

int redo_replay(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
                struct error *e)
{
    struct pass p = {.r = r, .revision = revision, .f = f, .arg = arg};
    int status = read_log(&p, e);
    *torn_r = p.torn;
    r->unsynced = r->n > 0;
    return status;
}

int redo_read(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
              struct error *e)
{
    struct pass p = {.r = r, .revision = revision, .keep = true, .f = f, .arg = arg};
    int status = read_log(&p, e);
    *torn_r = p.torn;
    return status;
}
