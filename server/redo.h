/* redo.h: the redo log of one model: what was done to it since its last checkpoint.
 *
 * A record is the request that was carried out, not its result: replaying the records on the state
 * of the checkpoint gives the state again, byte for byte on the same engine. A step is appended
 * before it is published and answered, so what was answered is in the log.
 *
 * The log is a folder DATA/redo/ID of segments, files that are only ever appended to, each called
 * after the revision of its first record. Layout, little-endian:
 *
 *   segment  "bpredo02", uint64 model id, uint32 length of the fingerprint, the fingerprint of the
 *            engine that computed the steps, zeros up to a multiple of 8; uint64 the boot of the
 *            system (a hash of its boot_id); uint64 random salt; uint64 XXH3 of all that.
 *            "bpredo01" is the same without the boot. Written and synced before the first record.
 *   record   uint64 XXH3, seeded with the salt, of the rest of the record without its padding (no
 *            client can send numbers that look like a record), uint64 revision,
 *            uint64 bytes of the payload (its highest bit: every record before this one had reached
 *            the disk when it was written), the payload, zeros up to a multiple of 8
 *
 * Invariants: revisions in a log rise without gaps but for those that a checkpoint took over. A
 * record that is not whole ends the log in two cases:
 *   - it is the last one of the last segment: a kill or the loss of power cut an append short that
 *     was never answered;
 *   - the system was started anew since, and no record after it says that it had reached the disk:
 *     the loss of power took pages of records that nobody had synced, in any order.
 * What follows is cut off. Anywhere else it is damage, and the log is refused.
 *
 * Each model has files of its own, so the fsyncs of several models go on side by side and share the
 * commits of the file system's journal. That is the group commit: four threads that write and sync
 * files of their own did 7,500 to 8,800 records a second where one did 280 to 560, and four that
 * shared one file, with one of them syncing for all, 2,400 to 7,100 (ext4).
 * tests/bench/durability.py measures it through the daemon.
 *
 * A file whose fsync failed is never written to again: the kernel may have dropped what it could
 * not write, and call it clean. The log is then suspect, and appends are refused until a checkpoint
 * has taken its place (redo_suspect).
 *
 * Threads: a struct redo may be used by several threads; appends come from one. */
#ifndef BACKPROPD_REDO_H
#define BACKPROPD_REDO_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct redo;

/* The log of a model in the folder `root` (made if missing). Nothing is read or written yet. */
struct redo *redo_open(const char *root, int64_t model_id, const char *fingerprint,
                       struct error *e);
void redo_close(struct redo **r);

/* A record that is read. `same_engine`: its segment has the fingerprint of redo_open. */
struct redo_record {
    uint64_t revision;
    const void *payload; /* for the call; aligned to 8 */
    size_t bytes;
    bool same_engine;
};
typedef int redo_fn(void *arg, const struct redo_record *record, struct error *e);

/* Calls f for every record above `revision`, in order, and cuts off a torn tail (*torn_r bytes). To
 * be called before the first append. -1: STORAGE for damage, or what f said. */
int redo_replay(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
                struct error *e);

/* The same for a log that must stay as it is: nothing is cut off. */
int redo_read(struct redo *r, uint64_t revision, redo_fn *f, void *arg, uint64_t *torn_r,
              struct error *e);

/* Appends a record; when it returns 0 the record survives the process, and with `sync` it and all
 * before it survive the loss of power. After a failure the log is as it was before (STORAGE), or
 * suspect. */
int redo_append(struct redo *r, uint64_t revision, const struct iovec *parts, int n, bool sync,
                struct error *e);

/* After an fsync that failed, or a write that could not be taken back: no append works until
 * redo_forget has been called for a checkpoint of the last record that was appended. */
bool redo_suspect(struct redo *r);

/* A checkpoint holds everything up to `revision`: segments that hold nothing newer are deleted, and
 * the next append begins a new one. */
void redo_forget(struct redo *r, uint64_t revision);

/* Bytes appended since the last redo_forget, those of replayed records included. */
uint64_t redo_bytes(struct redo *r);

/* Deletes the log of a model. A missing one is no error. */
int redo_remove(const char *root, int64_t model_id, struct error *e);

#endif
