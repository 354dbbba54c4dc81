/* redo_private.h: what redo.c (appending, forgetting) and redo_read.c (replaying) share. */
#ifndef BACKPROPD_REDO_PRIVATE_H
#define BACKPROPD_REDO_PRIVATE_H

#include "redo.h"

#include <pthread.h>

enum {
    REDO_ALIGN = 8,
    REDO_RECORD_HEADER = 24,
    REDO_SEGMENT_FIXED = 20,       /* magic, model, length of the fingerprint */
    REDO_HEAD_BYTES = 1024,        /* the longest head of a segment that is written */
    REDO_SEGMENT_BYTES = 64 << 20, /* a segment that has grown past this is followed by another */
};
#define REDO_MAGIC     "bpredo02"
#define REDO_MAGIC_OLD "bpredo01" /* without the boot */
/* In a record's number of bytes: all records before it had reached the disk. */
#define REDO_SYNCED (UINT64_C(1) << 63)

struct segment {
    uint64_t first; /* revision of its first record: its name */
    uint64_t bytes; /* of its file */
};

struct redo {
    pthread_mutex_t lock;
    char *dir, *fingerprint;
    int64_t model_id;
    struct segment *segments; /* in order; the last one is open when fd is not -1 */
    int n, cap;
    uint64_t last; /* revision of the last record; 0: none is known */
    uint64_t salt; /* of the open segment */
    uint64_t boot; /* of the system; 0: not known */
    int fd;
    bool unsynced; /* there may be records that have not reached the disk */
    bool suspect;  /* see redo_suspect */
};

/* "DIR/00000000000000000042.redo"; NULL: out of memory. */
char *redo_segment_path(const struct redo *r, uint64_t first);
/* Adds to the list. */
int redo_segment_add(struct redo *r, uint64_t first, uint64_t bytes, struct error *e);
/* fsync of a file or a folder. */
int redo_sync_path(const char *path);
/* STORAGE with what was being done and errno. */
int redo_error(struct error *e, const struct redo *r, const char *doing);

static inline size_t redo_padding(size_t bytes)
{
    return (REDO_ALIGN - bytes % REDO_ALIGN) % REDO_ALIGN;
}

#endif
