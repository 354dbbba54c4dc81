/* redo_read.c: replaying a log. Segments are mapped, not copied; each record is checked before it
 * is handed out. What is not whole at the very end is an append that was cut short and never
 * answered. */
#define _GNU_SOURCE
#include "redo_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A segment that is read. */
struct reading {
    struct redo *r;
    const struct segment *s;
    const char *data; /* mapped */
    size_t size, at;
    uint64_t salt;
    bool same_engine;
    bool any;  /* it holds a whole record */
    bool keep; /* the file stays as it is */
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
    memcpy(&n, g->data + 16, 4);
    size_t end = REDO_SEGMENT_FIXED + (size_t)n;
    end += redo_padding(end);
    if (n > 4096 || g->size < end + 16)
        return n > 4096 ? -1 : 0;
    if (memcmp(g->data, REDO_MAGIC, 8) != 0 || (int64_t)read_u64(g->data + 8) != g->r->model_id ||
        read_u64(g->data + end + 8) != XXH3_64bits(g->data, end + 8))
        return -1;
    g->same_engine = n == strlen(g->r->fingerprint) &&
                     memcmp(g->data + REDO_SEGMENT_FIXED, g->r->fingerprint, n) == 0;
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
    uint64_t bytes = read_u64(p + 16);
    if (bytes > left - REDO_RECORD_HEADER)
        return 0;
    if (read_u64(p) != XXH3_64bits_withSeed(p + 8, REDO_RECORD_HEADER - 8 + bytes, g->salt))
        return 0;
    *record_r =
        (struct redo_record){read_u64(p + 8), p + REDO_RECORD_HEADER, bytes, g->same_engine};
    size_t step = REDO_RECORD_HEADER + bytes + redo_padding(bytes);
    g->at += step < left ? step : left;
    return 1;
}

/* Whether a whole record begins anywhere behind the place where reading stopped: then this is no
 * torn tail. Records begin at multiples of 8. */
static bool record_behind(const struct reading *g)
{
    struct reading probe = *g;
    struct redo_record record;
    for (size_t at = (g->at / REDO_ALIGN + 1) * REDO_ALIGN; at + REDO_RECORD_HEADER < g->size;
         at += REDO_ALIGN) {
        probe.at = at;
        if (read_u64(g->data + at + 16) && read_record(&probe, &record))
            return true;
    }
    return false;
}

/* After the last whole record of the last segment: what is left is cut off. */
static int cut_tail(struct reading *g, uint64_t *torn_r, struct error *e)
{
    *torn_r += g->size - g->at;
    if (g->keep)
        return 0;
    char *path = redo_segment_path(g->r, g->s->first);
    int status = path && truncate(path, (off_t)g->at) == 0 ? 0 : redo_error(e, g->r, "mending");
    free(path);
    g->r->segments[g->r->n - 1].bytes = g->at;
    return status;
}

/* A last segment without a record: the next one may need its name. */
static int drop_empty(struct reading *g, struct error *e)
{
    char *path = redo_segment_path(g->r, g->s->first);
    int status = path && unlink(path) == 0 ? 0 : redo_error(e, g->r, "mending");
    free(path);
    g->r->n--;
    return status;
}

static int read_records(struct reading *g, uint64_t revision, redo_fn *f, void *arg,
                        struct error *e)
{
    struct redo_record record;
    while (read_record(g, &record)) {
        if (record.revision > revision && f(arg, &record, e))
            return -1;
        g->r->last = record.revision;
        g->any = true;
    }
    return 0;
}

static int read_segment(struct reading *g, bool is_last, uint64_t revision, redo_fn *f, void *arg,
                        uint64_t *torn_r, struct error *e)
{
    int head = read_head(g);
    if (head < 0 || (!head && !is_last))
        return damaged(g, "no valid head", e);
    if (head && read_records(g, revision, f, arg, e))
        return -1;
    if (g->at < g->size && (!is_last || (head && record_behind(g))))
        return damaged(g, "a record that is not whole", e);
    if (g->at < g->size && cut_tail(g, torn_r, e))
        return -1;
    return is_last && !g->any && !g->keep ? drop_empty(g, e) : 0;
}

static int map_segment(struct reading *g, struct error *e)
{
    char *path = redo_segment_path(g->r, g->s->first);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    free(path);
    if (fd < 0)
        return redo_error(e, g->r, "reading");
    g->size = (size_t)g->s->bytes;
    g->data = g->size ? mmap(NULL, g->size, PROT_READ, MAP_PRIVATE, fd, 0) : "";
    close(fd);
    return g->data == MAP_FAILED ? redo_error(e, g->r, "reading") : 0;
}

static int read_log(struct redo *r, uint64_t revision, bool keep, redo_fn *f, void *arg,
                    uint64_t *torn_r, struct error *e)
{
    int status = 0;
    *torn_r = 0;
    for (int i = 0; i < r->n && !status; i++) {
        struct reading g = {.r = r, .s = &r->segments[i], .keep = keep};
        if (i + 1 < r->n && r->segments[i + 1].first <= revision + 1)
            continue; /* the checkpoint holds all of it */
        if (map_segment(&g, e))
            return -1;
        status = read_segment(&g, i == r->n - 1, revision, f, arg, torn_r, e);
        if (g.size)
            munmap((void *)g.data, g.size);
    }
    return status;
}

int redo_replay(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
                struct error *e)
{
    return read_log(r, revision, false, f, arg, torn_r, e);
}

int redo_read(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
              struct error *e)
{
    return read_log(r, revision, true, f, arg, torn_r, e);
}
