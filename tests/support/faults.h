/* faults.h: what a test and the shim faults_preload.c in its daemon share: one page of a file that
 * both have mapped. The test says which calls are to go wrong and how; the shim counts. It is there
 * after a kill -9 too, so that the test can read what the kill has hit.
 *
 * A call matches when its kind is in `kinds` and the file that it is for in `places`. The first
 * `skip` matching calls are let through, the next `strikes` are struck, the others pass. */
#ifndef TEST_FAULTS_H
#define TEST_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

/* Environment variables of the daemon: the mapped file, and where all changes to files of the data
 * folder are recorded (struct trace_record), if they are to be. */
#define FAULTS_FILE  "BACKPROPD_FAULTS"
#define FAULTS_TRACE "BACKPROPD_FAULTS_TRACE"
/* When set, the system seems to have been started anew. */
#define FAULTS_BOOT "BACKPROPD_FAULTS_BOOT"

enum fault_kind {
    FAULT_WRITE = 1,  /* write, writev, pwrite */
    FAULT_SYNC = 2,   /* fsync, fdatasync */
    FAULT_RENAME = 4, /* rename */
    FAULT_UNLINK = 8, /* unlink */
    FAULT_TRUNCATE = 16 /* ftruncate, truncate */,
    FAULT_READ = 32,     /* read, pread */
    FAULT_ALLOCATE = 64, /* malloc, calloc, realloc, posix_memalign, aligned_alloc */
    FAULT_UNLOCK = 128   /* pthread_mutex_unlock */
};
enum fault_place {
    PLACE_REDO = 1,     /* a segment of a redo log, or its folder */
    PLACE_DATABASE = 2, /* backpropd.db */
    PLACE_WAL = 4,      /* backpropd.db-wal */
    PLACE_OTHER = 8,    /* another regular file or folder */
    PLACE_MEMORY = 16   /* no file: FAULT_ALLOCATE, FAULT_UNLOCK */
};
enum fault_action {
    STRIKE_ERROR,      /* errno `error`, nothing done */
    STRIKE_SHORT,      /* half of the bytes are written, and the call says so */
    STRIKE_PAUSE,      /* of a read: it waits until the test disarms; an unlock in four: 1 ms */
    STRIKE_KILL,       /* SIGKILL before the call */
    STRIKE_KILL_AFTER, /* SIGKILL when the call has been carried out */
    STRIKE_KILL_TORN   /* SIGKILL when half of the bytes are written */
};

enum { FAULTS_ARMED = 1, FAULTS_WAIT = 2 /* becomes armed when the data folder is locked */ };

struct faults {
    int32_t armed; /* set last by the test; nothing is counted while it is 0 */
    int32_t kinds, places, action, error;
    int64_t skip, strikes;
    int64_t matched, struck;     /* counted by the shim */
    int32_t hit_kind, hit_place; /* of the last strike */
};

/* ---- the test's side: faults.c ----------------------------------------------------------------
 */

struct daemon;
/* Whether this build can carry the shim: not with the sanitizers that replace malloc. */
bool faults_possible(void);
/* The page in d->folder; to be there before the daemon is started. */
struct faults *faults_create(const struct daemon *d);
void faults_destroy(struct faults **f);
/* daemon_start with the shim; `trace`, which may be NULL, is the file for trace records. */
void faults_start(struct daemon *d, const char *const *flags, const char *trace);
/* daemon_try and daemon_spawn with the shim. */
int faults_try(struct daemon *d, const char *const *flags);
void faults_spawn(struct daemon *d, const char *const *flags);
/* From now on as `how` says; its counts begin at 0. The second one, for a daemon that is started
 * next: from when it takes its data folder on. What libraries do before that is not its own. */
void faults_arm(struct faults *f, const struct faults *how);
void faults_arm_start(struct faults *f, const struct faults *how);
/* Stops the daemon and starts it with the shim; then, when armed, each of its threads stands still
 * whenever it has let go of a lock, so that what others do in between is seen. */
struct faults *faults_start_slow(struct daemon *d);
void faults_arm_slow(struct faults *f);
void faults_disarm(struct faults *f);

/* Followed by the path and, for FAULT_WRITE, by `bytes` of data. */
struct trace_record {
    uint32_t kind;  /* one of fault_kind; FAULT_SYNC of a folder too */
    uint32_t path;  /* bytes */
    uint64_t at;    /* FAULT_WRITE: offset; FAULT_TRUNCATE: the new size */
    uint64_t bytes; /* of data */
};

#endif
