/* store_fixture.h: a store in a temporary folder, for its unit tests: each test gets one of its
 * own, closed, and opens it with store_up. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include "../../server/store_private.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64], db[96];
    struct store *s;
    struct arena *a;
    struct error e;
};

static inline void check(const struct fixture *f, int result)
{
    if (result)
        fail_msg("%s", f->e.text);
}

static inline void store_up(struct fixture *f)
{
    f->s = store_open(f->dir, &f->e);
    if (!f->s)
        fail_msg("%s", f->e.text);
}

static inline void store_down(struct fixture *f)
{
    check(f, store_close(&f->s, &f->e));
}

static inline void store_again(struct fixture *f)
{
    store_down(f);
    store_up(f);
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/test_store.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof f->db, "%s/backpropd.db", f->dir);
    f->a = arena_create(4096);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    static const char *const files[] = {"backpropd.db", "backpropd.db-wal", "backpropd.db-shm",
                                        "lock"};
    struct fixture *f = *state;
    char path[128];
    store_close(&f->s, NULL);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", f->dir, files[i]);
        unlink(path);
    }
    rmdir(f->dir);
    arena_destroy(&f->a);
    free(f);
    return 0;
}

/* Runs SQL on the file behind the store's back. */
static inline void sql(const struct fixture *f, const char *text)
{
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &message))
        fail_msg("%s: %s", text, message);
    sqlite3_close(db);
}

static inline int64_t number(const struct fixture *f, const char *text)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

static inline void file_hash(const struct fixture *f, char hex[DIGEST_HEX])
{
    static char data[1 << 20];
    uint8_t raw[DIGEST_BYTES];
    int fd = open(f->db, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, data, sizeof data);
    close(fd);
    assert_true(n >= 0 && n < (ssize_t)sizeof data);
    check(f, digest_memory(data, (size_t)n, raw, NULL));
    digest_hex(raw, hex);
}

static inline struct store_model model_add(struct fixture *f, const char *name)
{
    struct store_model m = {.name = name, .description = "{\"layers\":[]}"};
    check(f, store_model_insert(f->s, &m, &f->e));
    assert_true(m.id > 0 && m.created_ms > 0);
    return m;
}

static inline struct store_version version_of(uint64_t revision)
{
    return (struct store_version){.step = revision,
                                  .revision = revision,
                                  .draw = revision + 1,
                                  .optimizer_step = revision + 2,
                                  .fingerprint = "test",
                                  .description = "{}",
                                  .note = "a note"};
}

/* Bytes that differ with the seed and the place. */
static inline unsigned char *data_make(size_t n, unsigned seed)
{
    unsigned char *data = malloc(n + 1);
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = (unsigned char)(x >> 24);
    }
    return data;
}

static inline int64_t version_add(struct fixture *f, int64_t model, size_t bytes, unsigned seed)
{
    unsigned char *data = data_make(bytes, seed);
    struct store_part parts[] = {{"params", data, bytes}};
    struct store_version v = version_of(seed);
    check(f, store_version_save(f->s, model, &v, parts, 1, &f->e));
    free(data);
    return v.version;
}

struct models {
    int n;
    char names[8][16];
    struct store_model last;
};

static inline int model_seen(void *arg, const struct store_model *m)
{
    struct models *seen = arg;
    snprintf(seen->names[seen->n++ % 8], 16, "%s", m->name);
    seen->last = *m;
    return 0;
}

struct versions {
    int n;
    int64_t v[8];
};

static inline int version_seen(void *arg, const struct store_version *v)
{
    struct versions *seen = arg;
    seen->v[seen->n++ % 8] = v->version;
    return 0;
}

struct rows {
    int n;
    uint64_t revision[4096];
    double value[4096];
    char series[4096][8];
};

static inline int row_seen(void *arg, const struct store_metric *m)
{
    struct rows *rows = arg;
    if (rows->n == 4096)
        return 1;
    rows->revision[rows->n] = m->revision;
    rows->value[rows->n] = m->value;
    snprintf(rows->series[rows->n++], 8, "%s", m->series);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
