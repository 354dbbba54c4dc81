/* test_store_versions.c: versions are there whole or not at all, come back byte by byte, and give
 * their space back. */
#include "store_fixture.h"

/* ---- versions -------------------------------------------------------------------------------- */

static void version_round_trip(void **state)
{
    struct fixture *f = *state;
    enum { BIG = 10 << 20, EXACT = STORE_CHUNK, SMALL = 12 };
    unsigned char *big = data_make(BIG + 3, 1), *exact = data_make(EXACT, 2),
                  *small = data_make(SMALL, 3);
    struct store_part parts[] = {{"params", big, BIG + 3},
                                 {"buffers", small, SMALL},
                                 {"slots", exact, EXACT},
                                 {"none", NULL, 0}};
    struct store_version v = version_of(4), info;
    char sha256[DIGEST_HEX];
    store_up(f);
    struct store_model m = model_add(f, "m");
    check(f, store_version_save(f->s, m.id, &v, parts, 4, &f->e));
    assert_int_equal(v.version, 1);
    assert_int_equal(v.bytes, BIG + 3 + SMALL + EXACT);
    check(f, store_state_sha256(parts, 4, sha256, &f->e));
    assert_string_equal(sha256, v.sha256);
    assert_int_equal(number(f, "SELECT count(*) FROM blobs"), 6 + 1 + 1);
    store_again(f);
    unsigned char *back = calloc(1, BIG + 3), *back_exact = calloc(1, EXACT);
    struct store_part out[] = {
        {"slots", back_exact, EXACT}, {"params", back, BIG + 3}, {"none", NULL, 0}};
    check(f, store_version_load(f->s, m.id, 1, out, 3, &f->e));
    assert_memory_equal(back, big, BIG + 3);
    assert_memory_equal(back_exact, exact, EXACT);
    check(f, store_version_info(f->s, m.id, 1, f->a, &info, &f->e));
    assert_int_equal(info.revision, 4);
    assert_int_equal(info.draw, 5);
    assert_int_equal(info.optimizer_step, 6);
    assert_string_equal(info.note, "a note");
    assert_string_equal(info.sha256, sha256);
    assert_int_equal(info.n_parts, 4);
    assert_string_equal(info.parts[2].name, "slots");
    assert_int_equal(info.parts[0].bytes, BIG + 3);
    assert_int_equal(strlen(info.parts[0].sha256), 64);
    free(big), free(exact), free(small), free(back), free(back_exact);
}

static void load_refuses(void **state)
{
    struct fixture *f = *state;
    char data[100];
    store_up(f);
    struct store_model m = model_add(f, "m");
    version_add(f, m.id, 100, 1);
    assert_int_equal(store_version_load(f->s, m.id, 7, NULL, 0, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_UNKNOWN_VERSION);
    assert_int_equal(store_version_load(f->s, m.id, STORE_CHECKPOINT, NULL, 0, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_UNKNOWN_VERSION);
    assert_int_equal(
        store_version_load(f->s, m.id, 1, &(struct store_part){"params", data, 99}, 1, &f->e), -1);
    assert_non_null(strstr(f->e.text, "has 100 bytes, expected 99"));
    assert_int_equal(
        store_version_load(f->s, m.id, 1, &(struct store_part){"slots", data, 99}, 1, &f->e), -1);
    assert_non_null(strstr(f->e.text, "'slots' is not in the store"));
    assert_int_equal(f->e.code, ERROR_STORAGE);
}

static void bit_flip(const struct fixture *f, int64_t row, int at)
{
    sqlite3 *db;
    sqlite3_blob *blob;
    unsigned char c;
    assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000); /* the store may be sweeping */
    assert_int_equal(sqlite3_blob_open(db, "main", "blobs", "data", row, 1, &blob), SQLITE_OK);
    assert_int_equal(sqlite3_blob_read(blob, &c, 1, at), SQLITE_OK);
    c ^= 4;
    assert_int_equal(sqlite3_blob_write(blob, &c, 1, at), SQLITE_OK);
    assert_int_equal(sqlite3_blob_close(blob), SQLITE_OK);
    sqlite3_close(db);
}

static void damage_is_found(void **state)
{
    struct fixture *f = *state;
    enum { BYTES = 3 << 20 };
    store_up(f);
    struct store_model m = model_add(f, "m");
    version_add(f, m.id, BYTES, 1);
    struct store_part part = {"params", malloc(BYTES), BYTES};
    bit_flip(f, number(f, "SELECT id FROM blobs WHERE chunk = 1"), 1000);
    assert_int_equal(store_version_load(f->s, m.id, 1, &part, 1, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_STORAGE);
    assert_non_null(strstr(f->e.text, "version 1"));
    assert_non_null(strstr(f->e.text, "SHA-256"));
    sql(f, "DELETE FROM blobs WHERE chunk = 1");
    assert_int_equal(store_version_load(f->s, m.id, 1, &part, 1, &f->e), -1);
    assert_non_null(strstr(f->e.text, "missing"));
    free(part.data);
}

static void numbers_are_not_used_again(void **state)
{
    struct fixture *f = *state;
    struct versions seen = {0};
    store_up(f);
    struct store_model m = model_add(f, "m"), other = model_add(f, "other");
    for (int i = 1; i <= 3; i++)
        assert_int_equal(version_add(f, m.id, 10, 1), i);
    check(f, store_version_delete(f->s, m.id, 3, NULL, &f->e));
    assert_int_equal(store_version_delete(f->s, m.id, 3, NULL, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_UNKNOWN_VERSION);
    store_again(f);
    assert_int_equal(version_add(f, m.id, 10, 1), 4);
    assert_int_equal(version_add(f, other.id, 10, 1), 1);
    check(f, store_version_list(f->s, m.id, version_seen, &seen, &f->e));
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.v[0], 1);
    assert_int_equal(seen.v[2], 4);
}

static void checkpoint_replaces(void **state)
{
    struct fixture *f = *state;
    struct versions seen = {0};
    struct models models = {0};
    char data[8];
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (uint64_t i = 1; i <= 3; i++) {
        struct store_version v = version_of(i);
        memset(data, (int)i, sizeof data);
        check(f, store_checkpoint_save(f->s, m.id, &v, &(struct store_part){"params", data, 8}, 1,
                                       &f->e));
        assert_int_equal(v.version, STORE_CHECKPOINT);
    }
    assert_int_equal(version_add(f, m.id, 10, 1), 1); /* checkpoints use up no numbers */
    check(f, store_version_list(f->s, m.id, version_seen, &seen, &f->e));
    assert_int_equal(seen.n, 1);
    memset(data, 0, sizeof data);
    check(f, store_version_load(f->s, m.id, STORE_CHECKPOINT,
                                &(struct store_part){"params", data, 8}, 1, &f->e));
    assert_int_equal(data[7], 3);
    check(f, store_model_list(f->s, model_seen, &models, &f->e));
    assert_int_equal(models.last.revision, 3);
    check(f, store_settle(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM versions"), 2);
    assert_int_equal(number(f, "SELECT count(*) FROM blobs"), 2);
}

/* The process ends in the middle of a save: nothing of it is to be seen, and it is removed. */
static void half_written_is_not_seen(void **state)
{
    struct fixture *f = *state;
    struct versions seen = {0};
    store_up(f);
    struct store_model m = model_add(f, "m");
    version_add(f, m.id, 100, 1);
    store_down(f);
    sql(f, "INSERT INTO versions SELECT 77, model_id, kind, 'writing', NULL, step, revision, draw,"
           " optimizer_step, pending, fingerprint, description, note, sha256, bytes, created_at,"
           " who FROM versions; INSERT INTO blobs VALUES (NULL, 77, 0, 0, zeroblob(3000000))");
    store_up(f);
    check(f, store_version_list(f->s, m.id, version_seen, &seen, &f->e));
    assert_int_equal(seen.n, 1);
    check(f, store_settle(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM versions"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM blobs"), 1);
}

static void killed_saves_leave_nothing(void **state)
{
    struct fixture *f = *state;
    struct versions seen = {0};
    store_up(f);
    struct store_model m = model_add(f, "m");
    store_down(f);
    pid_t child = fork();
    if (!child) {
        struct store *s = store_open(f->dir, NULL);
        struct store_part part = {"params", data_make(40 << 20, 1), 40 << 20};
        struct store_version v = version_of(1);
        for (;;)
            if (!s || store_checkpoint_save(s, m.id, &v, &part, 1, NULL))
                _exit(1);
    }
    usleep(700000);
    kill(child, SIGKILL);
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    store_up(f);
    assert_int_equal(version_add(f, m.id, 100, 1), 1);
    check(f, store_version_list(f->s, m.id, version_seen, &seen, &f->e));
    assert_int_equal(seen.n, 1);
    check(f, store_settle(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM versions WHERE state <> 'complete'"), 0);
    assert_int_equal(number(f, "SELECT count(*) FROM blobs WHERE version_id NOT IN"
                               " (SELECT id FROM versions)"),
                     0);
    if (number(f, "SELECT count(*) FROM versions WHERE kind = 'checkpoint'")) {
        struct store_part part = {"params", malloc(40 << 20), 40 << 20};
        check(f, store_version_load(f->s, m.id, STORE_CHECKPOINT, &part, 1, &f->e));
        free(part.data);
    }
}

static int64_t file_bytes(const struct fixture *f)
{
    struct stat st;
    assert_int_equal(stat(f->db, &st), 0);
    return st.st_size;
}

static void deleting_gives_back(void **state)
{
    struct fixture *f = *state;
    int64_t bytes, unused, before;
    store_up(f);
    struct store_model m = model_add(f, "m");
    for (int i = 0; i < 4; i++)
        version_add(f, m.id, 6 << 20, 1);
    check(f, store_size(f->s, &before, &unused, &f->e));
    assert_true(before > 24 << 20);
    check(f, store_version_delete(f->s, m.id, 1, NULL, &f->e));
    check(f, store_version_delete(f->s, m.id, 3, NULL, &f->e));
    check(f, store_settle(f->s, &f->e));
    check(f, store_size(f->s, &bytes, &unused, &f->e));
    assert_true(bytes < before - (12 << 20) + (1 << 16));
    assert_int_equal(unused, 0);
    struct store_part part = {"params", malloc(6 << 20), 6 << 20};
    check(f, store_version_load(f->s, m.id, 4, &part, 1, &f->e)); /* moved, not lost */
    free(part.data);
    store_down(f);
    assert_int_equal(file_bytes(f), bytes);
}

static void full_disk_has_a_sentence(void **state)
{
    struct fixture *f = *state;
    struct versions seen = {0};
    unsigned char *data = data_make(8 << 20, 1);
    struct store_part part = {"params", data, 8 << 20};
    struct store_version v = version_of(1);
    store_up(f);
    struct store_model m = model_add(f, "m");
    db_lock(&f->s->db, "testing");
    check(f, db_exec(&f->s->db, "PRAGMA max_page_count = 600", &f->e)); /* 4.9 MB */
    db_unlock(&f->s->db);
    assert_int_equal(store_version_save(f->s, m.id, &v, &part, 1, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_STORAGE);
    assert_non_null(strstr(f->e.text, "saving a version failed: the disk is full"));
    check(f, store_version_list(f->s, m.id, version_seen, &seen, &f->e));
    assert_int_equal(seen.n, 0);
    check(f, store_settle(f->s, &f->e)); /* what was written is removed */
    assert_int_equal(number(f, "SELECT count(*) FROM blobs"), 0);
    assert_int_equal(version_add(f, m.id, 1 << 20, 1), 1); /* the number was not used up */
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(version_round_trip),         TEST(load_refuses),        TEST(damage_is_found),
        TEST(numbers_are_not_used_again), TEST(checkpoint_replaces), TEST(half_written_is_not_seen),
        TEST(killed_saves_leave_nothing), TEST(deleting_gives_back), TEST(full_disk_has_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
