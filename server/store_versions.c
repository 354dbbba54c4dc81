/* store_versions.c: listing, describing, loading and deleting versions. Saving is in store_save.c.
 *
 * A part is read chunk by chunk, the lock given back after each, and hashed on the way: what does
 * not match the SHA-256 of the manifest is refused. */
#include "store_private.h"

#include <string.h>

/* Columns that row_version reads. */
#define VERSION_COLUMNS                                                                            \
    "coalesce(version, 0), step, revision, draw, optimizer_step, pending, fingerprint, "           \
    "description, note, sha256, bytes, created_at, id, who"
#define VERSION_WHERE                                                                              \
    " FROM versions WHERE model_id = ?1 AND state = 'complete'"                                    \
    " AND CASE ?2 WHEN 0 THEN kind = 'checkpoint' ELSE version = ?2 END"

/* A hash in hex; empty when the row does not hold one. */
static void column_sha256(sqlite3_stmt *row, int column, char hex_r[DIGEST_HEX])
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    bool whole = text && strlen(text) == DIGEST_HEX - 1;
    memcpy(hex_r, whole ? text : "", whole ? DIGEST_HEX : 1);
}

static struct store_version row_version(sqlite3_stmt *row)
{
    struct store_version v = {
        .version = sqlite3_column_int64(row, 0),
        .step = (uint64_t)sqlite3_column_int64(row, 1),
        .revision = (uint64_t)sqlite3_column_int64(row, 2),
        .draw = (uint64_t)sqlite3_column_int64(row, 3),
        .optimizer_step = (uint64_t)sqlite3_column_int64(row, 4),
        .pending = sqlite3_column_int(row, 5),
        .fingerprint = (const char *)sqlite3_column_text(row, 6),
        .description = (const char *)sqlite3_column_text(row, 7),
        .note = (const char *)sqlite3_column_text(row, 8),
        .bytes = sqlite3_column_int64(row, 10),
        .created_ms = sqlite3_column_int64(row, 11),
        .who = (const char *)sqlite3_column_text(row, 13),
    };
    column_sha256(row, 9, v.sha256);
    return v;
}

static int refuse_unknown(int64_t version, struct error *e)
{
    if (version == STORE_CHECKPOINT)
        return error_set(e, ERROR_UNKNOWN_VERSION, "the model has no checkpoint");
    return error_set(e, ERROR_UNKNOWN_VERSION, "the model has no version %lld", (long long)version);
}

/* ---- listing --------------------------------------------------------------------------------- */

int store_version_list(struct store *s, int64_t model_id, store_version_fn *f, void *arg,
                       struct error *e)
{
    db_lock(&s->reader, "listing versions");
    sqlite3_stmt *row = db_query(&s->reader, e,
                                 "SELECT " VERSION_COLUMNS " FROM versions WHERE model_id = ?"
                                 " AND kind = 'version' AND state = 'complete' ORDER BY version",
                                 "i", model_id);
    int more = row ? db_next(&s->reader, row, e) : -1;
    while (more > 0) {
        struct store_version v = row_version(row);
        if (f(arg, &v)) {
            sqlite3_reset(row);
            break;
        }
        more = db_next(&s->reader, row, e);
    }
    db_unlock(&s->reader);
    return more < 0 ? -1 : 0;
}

static int parts_count(struct store *s, int64_t row, int *n_r, struct error *e)
{
    int64_t n = 0;
    int found =
        db_integer(&s->reader, e, &n, "SELECT count(*) FROM parts WHERE version_id = ?", "i", row);
    *n_r = (int)n;
    return found < 0 ? -1 : 0;
}

static int refuse_memory(struct error *e)
{
    return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a version's description");
}

/* The manifest of the version with this row id. */
static int parts_read(struct store *s, int64_t id, struct arena *a, struct store_version *v,
                      struct error *e)
{
    if (parts_count(s, id, &v->n_parts, e))
        return -1;
    struct store_part_info *parts = arena_array(a, (size_t)v->n_parts + 1, sizeof *parts);
    if (!parts)
        return refuse_memory(e);
    v->parts = parts;
    sqlite3_stmt *row = db_query(&s->reader, e,
                                 "SELECT name, bytes, sha256 FROM parts WHERE version_id = ?"
                                 " ORDER BY position",
                                 "i", id);
    int more = row ? db_next(&s->reader, row, e) : -1;
    for (int i = 0; more > 0 && i < v->n_parts; i++) {
        parts[i].name = arena_strdup(a, (const char *)sqlite3_column_text(row, 0));
        parts[i].bytes = sqlite3_column_int64(row, 1);
        column_sha256(row, 2, parts[i].sha256);
        if (!parts[i].name) {
            sqlite3_reset(row);
            return refuse_memory(e);
        }
        more = db_next(&s->reader, row, e);
    }
    return more < 0 ? -1 : 0;
}

static int info_read(struct store *s, int64_t model_id, int64_t version, struct arena *a,
                     struct store_version *v, struct error *e)
{
    sqlite3_stmt *row =
        db_query(&s->reader, e, "SELECT " VERSION_COLUMNS VERSION_WHERE, "ii", model_id, version);
    int found = row ? db_next(&s->reader, row, e) : -1;
    if (found <= 0)
        return found < 0 ? -1 : refuse_unknown(version, e);
    *v = row_version(row);
    int64_t id = sqlite3_column_int64(row, 12);
    v->fingerprint = arena_strdup(a, v->fingerprint);
    v->description = arena_strdup(a, v->description);
    v->note = arena_strdup(a, v->note);
    v->who = arena_strdup(a, v->who);
    sqlite3_reset(row);
    if (!v->fingerprint || !v->description || !v->note || !v->who)
        return refuse_memory(e);
    return parts_read(s, id, a, v, e);
}

int store_version_info(struct store *s, int64_t model_id, int64_t version, struct arena *a,
                       struct store_version *v_r, struct error *e)
{
    db_lock(&s->reader, "reading a version");
    int result = info_read(s, model_id, version, a, v_r, e);
    db_unlock(&s->reader);
    return result;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* One load, and the part that is being read. */
struct load {
    struct store *s;
    int64_t model_id, version, row; /* row: id in versions */
    int64_t position;               /* of the part */
    char sha256[DIGEST_HEX];        /* of the part, by the manifest */
    struct error *e;
};

static int version_find(struct load *l)
{
    db_lock(&l->s->reader, "loading a version");
    int found = db_integer(&l->s->reader, l->e, &l->row, "SELECT id" VERSION_WHERE, "ii",
                           l->model_id, l->version);
    db_unlock(&l->s->reader);
    if (found == 0)
        return refuse_unknown(l->version, l->e);
    return found < 0 ? -1 : 0;
}

/* What is wrong with the stored part. A version that was deleted meanwhile has lost its data. */
static int refuse_part(struct load *l, const struct store_part *p, const char *what)
{
    if (version_find(l))
        return -1;
    char which[40] = "the checkpoint";
    if (l->version != STORE_CHECKPOINT)
        sqlite3_snprintf(sizeof which, which, "version %lld", (long long)l->version);
    return error_set(l->e, ERROR_STORAGE, "%s cannot be loaded: its part '%s' %s", which, p->name,
                     what);
}

static int part_find(struct load *l, const struct store_part *p)
{
    struct db *db = &l->s->reader;
    int64_t bytes = -1;
    db_lock(db, "loading a version");
    sqlite3_stmt *row = db_query(db, l->e,
                                 "SELECT position, bytes, sha256 FROM parts"
                                 " WHERE version_id = ? AND name = ?",
                                 "it", l->row, p->name);
    int found = row ? db_next(db, row, l->e) : -1;
    if (found > 0) {
        l->position = sqlite3_column_int64(row, 0);
        bytes = sqlite3_column_int64(row, 1);
        column_sha256(row, 2, l->sha256);
        sqlite3_reset(row);
    }
    db_unlock(db);
    if (found < 0)
        return -1;
    if (!found)
        return refuse_part(l, p, "is not in the store");
    if ((uint64_t)bytes == p->bytes)
        return 0;
    char what[96];
    sqlite3_snprintf(sizeof what, what, "has %lld bytes, expected %lld", (long long)bytes,
                     (long long)p->bytes);
    return refuse_part(l, p, what);
}

/* 1: read; 0: it is not there or has another size; -1. */
static int chunk_read(struct load *l, int64_t chunk, void *out, size_t bytes)
{
    struct db *db = &l->s->reader;
    db_lock(db, "loading a version");
    sqlite3_stmt *row = db_query(db, l->e,
                                 "SELECT data FROM blobs"
                                 " WHERE version_id = ? AND position = ? AND chunk = ?",
                                 "iii", l->row, l->position, chunk);
    int found = row ? db_next(db, row, l->e) : -1;
    if (found > 0) {
        const void *data = sqlite3_column_blob(row, 0);
        found = data && (size_t)sqlite3_column_bytes(row, 0) == bytes;
        if (found)
            memcpy(out, data, bytes);
        sqlite3_reset(row);
    }
    db_unlock(db);
    return found;
}

/* Reads and hashes all chunks. 1, 0 and -1 as above. */
static int chunks_read(struct load *l, const struct store_part *p, struct digest *d)
{
    char *out = p->data;
    size_t left = p->bytes;
    for (int64_t chunk = 0; left; chunk++) {
        size_t bytes = left < STORE_CHUNK ? left : STORE_CHUNK;
        int found = chunk_read(l, chunk, out, bytes);
        if (found <= 0)
            return found;
        digest_update(d, out, bytes);
        out += bytes;
        left -= bytes;
    }
    return 1;
}

static int part_load(struct load *l, const struct store_part *p)
{
    struct digest d;
    uint8_t raw[DIGEST_BYTES];
    char hex[DIGEST_HEX];
    if (part_find(l, p) || digest_init(&d, l->e))
        return -1;
    int found = chunks_read(l, p, &d);
    if (digest_finish(&d, raw, l->e) || found < 0)
        return -1;
    if (!found)
        return refuse_part(l, p, "is damaged: some of its data are missing");
    digest_hex(raw, hex);
    if (strcmp(hex, l->sha256) != 0)
        return refuse_part(l, p, "is damaged: its SHA-256 is not that of its manifest");
    return 0;
}

int store_version_load(struct store *s, int64_t model_id, int64_t version,
                       const struct store_part *parts, int n, struct error *e)
{
    struct load l = {.s = s, .model_id = model_id, .version = version, .e = e};
    if (version_find(&l))
        return -1;
    for (int i = 0; i < n; i++)
        if (part_load(&l, &parts[i]))
            return -1;
    return 0;
}

/* ---- deleting -------------------------------------------------------------------------------- */

/* In a transaction that writes, so that no alias is moved here meanwhile. */
static int check_unnamed(struct store *s, int64_t model_id, int64_t version, struct error *e)
{
    sqlite3_stmt *row = db_query(&s->db, e,
                                 "SELECT name FROM aliases WHERE model_id = ? AND version = ?"
                                 " ORDER BY name LIMIT 1",
                                 "ii", model_id, version);
    int found = row ? db_next(&s->db, row, e) : -1;
    if (found <= 0)
        return found;
    error_set(e, ERROR_CONFLICT,
              "version %lld has the alias '%.128s'; move or delete the alias first",
              (long long)version, (const char *)sqlite3_column_text(row, 0));
    sqlite3_reset(row);
    return -1;
}

static int version_drop(struct store *s, int64_t model_id, int64_t version,
                        const struct store_answer *answer, struct error *e)
{
    if (db_begin(&s->db, true, e))
        return -1;
    int result = check_unnamed(s, model_id, version, e) ||
                 db_run(&s->db, e,
                        "UPDATE versions SET state = 'dropped'"
                        " WHERE model_id = ? AND version = ? AND state = 'complete'",
                        "ii", model_id, version);
    if (!result && sqlite3_changes64(s->db.handle) == 0)
        result = refuse_unknown(version, e);
    if (!result)
        result = store_answer_put(s, model_id, answer, e);
    return db_end(&s->db, result, e);
}

int store_version_delete(struct store *s, int64_t model_id, int64_t version,
                         const struct store_answer *answer, struct error *e)
{
    db_lock(&s->db, "deleting a version");
    int result = version_drop(s, model_id, version, answer, e);
    db_unlock(&s->db);
    if (!result)
        store_sweep_wake(s, true);
    return result;
}
