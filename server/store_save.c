/* store_save.c: saving versions and checkpoints.
 *
 * A version goes through three steps, and the lock is given back after each small transaction, so
 * metrics and other versions are written meanwhile, and the log stays short however large it is:
 *   1. its row, in state 'writing';
 *   2. its data, STORE_CHUNK bytes a transaction;
 *   3. in one transaction that waits for the disk: the manifest with the SHA-256 of each part, the
 *      number (so a save that fails uses none up), state 'complete'; for a checkpoint also the
 *      older one's end and the model's counters.
 * Nothing reads a version that is not complete. One that was left 'writing', by a failure or by the
 * end of the process, is removed by store_sweep.c. */
#include "store_private.h"

#include <string.h>

/* One save: what is constant during it. */
struct save {
    struct store *s;
    int64_t model_id, row; /* row: id in versions */
    bool checkpoint;
    struct store_version *v;
    const struct store_part *parts;
    int n;
    struct error *e;
};

/* ---- hashes ---------------------------------------------------------------------------------- */

static void put_le64(uint64_t x, uint8_t out[8])
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(x >> 8 * i);
}

/* store_state_sha256; `hex`, when not NULL, gets the hash of each part. */
static int state_hash(const struct store_part *parts, int n, char (*hex)[DIGEST_HEX],
                      char sha256_r[DIGEST_HEX], struct error *e)
{
    struct digest d;
    uint8_t raw[DIGEST_BYTES], size[8];
    int result = 0;
    if (digest_init(&d, e))
        return -1;
    for (int i = 0; i < n && !result; i++) {
        result = digest_memory(parts[i].data, parts[i].bytes, raw, e);
        if (!result && hex)
            digest_hex(raw, hex[i]);
        put_le64(parts[i].bytes, size);
        digest_update(&d, parts[i].name, strlen(parts[i].name) + 1);
        digest_update(&d, size, sizeof size);
        digest_update(&d, raw, sizeof raw);
    }
    if (digest_finish(&d, raw, e) || result)
        return -1;
    digest_hex(raw, sha256_r);
    return 0;
}

int store_state_sha256(const struct store_part *parts, int n, char sha256_r[DIGEST_HEX],
                       struct error *e)
{
    return state_hash(parts, n, NULL, sha256_r, e);
}

/* ---- the three steps ------------------------------------------------------------------------- */

static int check_model(const struct save *w)
{
    int64_t id;
    int found =
        db_integer(&w->s->db, w->e, &id, "SELECT id FROM models WHERE id = ? AND name IS NOT NULL",
                   "i", w->model_id);
    if (found == 0)
        return error_set(w->e, ERROR_UNKNOWN_MODEL, "the model with id %lld is gone",
                         (long long)w->model_id);
    return found < 0 ? -1 : 0;
}

static int row_begin(struct save *w)
{
    const struct store_version *v = w->v;
    if (check_model(w) ||
        db_run(&w->s->db, w->e,
               "INSERT INTO versions (model_id, kind, state, step, revision, draw, optimizer_step,"
               " pending, fingerprint, description, note, who, sha256, bytes, created_at)"
               " VALUES (?, ?, 'writing', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
               "ituuuuitttttii", w->model_id, w->checkpoint ? "checkpoint" : "version", v->step,
               v->revision, v->draw, v->optimizer_step, (int64_t)v->pending, v->fingerprint,
               v->description, v->note, v->who ? v->who : "", v->sha256, v->bytes, v->created_ms))
        return -1;
    w->row = sqlite3_last_insert_rowid(w->s->db.handle);
    return 0;
}

static const char *doing(const struct save *w)
{
    return w->checkpoint ? "saving a checkpoint" : "saving a version";
}

static int chunk_write(const struct save *w, int position, int64_t chunk, const void *data,
                       size_t bytes)
{
    struct db *db = &w->s->db;
    db_lock(db, doing(w));
    int result = db_begin(db, false, w->e);
    if (!result) {
        result = db_run(db, w->e,
                        "INSERT INTO blobs (version_id, position, chunk, data) VALUES (?, ?, ?, ?)",
                        "iiib", w->row, (int64_t)position, chunk, data, bytes);
        result = db_end(db, result, w->e);
    }
    db_unlock(db);
    return result;
}

static int part_write(const struct save *w, int position)
{
    const char *data = w->parts[position].data;
    size_t left = w->parts[position].bytes;
    for (int64_t chunk = 0; left; chunk++) {
        size_t bytes = left < STORE_CHUNK ? left : STORE_CHUNK;
        if (chunk_write(w, position, chunk, data, bytes))
            return -1;
        data += bytes;
        left -= bytes;
    }
    return 0;
}

static int manifest_write(const struct save *w, const char (*sha256)[DIGEST_HEX])
{
    for (int i = 0; i < w->n; i++) {
        size_t bytes = w->parts[i].bytes;
        int64_t chunks = (int64_t)(bytes / STORE_CHUNK + (bytes % STORE_CHUNK != 0));
        if (db_run(&w->s->db, w->e,
                   "INSERT INTO parts (version_id, position, name, bytes, chunks, sha256)"
                   " VALUES (?, ?, ?, ?, ?, ?)",
                   "iitiit", w->row, (int64_t)i, w->parts[i].name, (int64_t)bytes, chunks,
                   sha256[i]))
            return -1;
    }
    return 0;
}

/* The model's next number, which moves on. */
static int number_take(struct save *w)
{
    if (db_integer(&w->s->db, w->e, &w->v->version, "SELECT next_version FROM models WHERE id = ?",
                   "i", w->model_id) <= 0)
        return -1;
    return db_run(&w->s->db, w->e, "UPDATE models SET next_version = next_version + 1 WHERE id = ?",
                  "i", w->model_id);
}

static int checkpoint_replace(struct save *w)
{
    const struct store_version *v = w->v;
    if (db_run(&w->s->db, w->e,
               "UPDATE versions SET state = 'dropped'"
               " WHERE model_id = ? AND kind = 'checkpoint' AND state = 'complete'",
               "i", w->model_id))
        return -1;
    return db_run(&w->s->db, w->e,
                  "UPDATE models SET step = ?, revision = ?, draw = ?, pending = ? WHERE id = ?",
                  "uuuii", v->step, v->revision, v->draw, (int64_t)v->pending, w->model_id);
}

static int answer_keep(struct save *w)
{
    const struct store_version *v = w->v;
    struct store_answer *a = v->answer;
    if (store_deed_put(w->s, w->model_id, v->deed, w->e))
        return -1;
    if (!a)
        return 0;
    a->step = v->step;
    a->revision = v->revision;
    a->draw = v->draw;
    if (!w->checkpoint)
        a->samples = v->version;
    return store_answer_put(w->s, w->model_id, a, w->e);
}

static int row_complete(struct save *w, const char (*sha256)[DIGEST_HEX])
{
    w->v->version = STORE_CHECKPOINT;
    if (check_model(w) || manifest_write(w, sha256))
        return -1;
    if ((w->checkpoint ? checkpoint_replace(w) : number_take(w)) || answer_keep(w))
        return -1;
    return db_run(&w->s->db, w->e,
                  "UPDATE versions SET state = 'complete', version = nullif(?2, 0) WHERE id = ?1",
                  "ii", w->row, w->v->version);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Runs a step in a transaction and counts the saves under way, which store_sweep.c leaves alone. */
static int save_begin(struct save *w)
{
    struct db *db = &w->s->db;
    db_lock(db, doing(w));
    int result = db_begin(db, false, w->e);
    if (!result)
        result = db_end(db, row_begin(w), w->e);
    if (!result)
        w->s->saves++;
    db_unlock(db);
    return result;
}

/* `result` is that of the steps before. */
static int save_end(struct save *w, int result, const char (*sha256)[DIGEST_HEX])
{
    struct db *db = &w->s->db;
    db_lock(db, doing(w));
    if (!result)
        result = db_begin(db, true, w->e);
    if (!result)
        result = db_end(db, row_complete(w, sha256), w->e);
    w->s->saves--;
    db_unlock(db);
    /* Also after success: what other saves have left is not removed while one is under way. */
    store_sweep_wake(w->s, result != 0);
    return result;
}

enum { MAX_PARTS = 16 };

static int check_parts(struct save *w)
{
    if (w->n > MAX_PARTS)
        return error_set(w->e, ERROR_TOO_LARGE, "a state has at most %d parts, found %d", MAX_PARTS,
                         w->n);
    w->v->bytes = 0;
    for (int i = 0; i < w->n; i++) {
        size_t name = strlen(w->parts[i].name);
        if (!name || name >= STORE_PART_NAME)
            return error_set(w->e, ERROR_BAD_NAME, "the part name '%s' must have 1 to %d bytes",
                             w->parts[i].name, STORE_PART_NAME - 1);
        if (__builtin_add_overflow(w->v->bytes, w->parts[i].bytes, &w->v->bytes))
            return error_set(w->e, ERROR_TOO_LARGE, "the state has too many bytes");
    }
    return 0;
}

static int save_run(struct save *w)
{
    char sha256[MAX_PARTS][DIGEST_HEX];
    if (check_parts(w))
        return -1;
    if (state_hash(w->parts, w->n, sha256, w->v->sha256, w->e))
        return -1;
    w->v->created_ms = store_now_ms();
    int result = save_begin(w);
    if (result)
        return -1;
    for (int i = 0; i < w->n && !result; i++)
        result = part_write(w, i);
    return save_end(w, result, sha256);
}

int store_version_save(struct store *s, int64_t model_id, struct store_version *v,
                       const struct store_part *parts, int n, struct error *e)
{
    struct save w = {s, model_id, 0, false, v, parts, n, e};
    return save_run(&w);
}

int store_checkpoint_save(struct store *s, int64_t model_id, struct store_version *v,
                          const struct store_part *parts, int n, struct error *e)
{
    struct save w = {s, model_id, 0, true, v, parts, n, e};
    return save_run(&w);
}
