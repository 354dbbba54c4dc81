/* test_store.c: opening the store and refusing to, migrations, digests, models, and several threads
 * at once. Versions and metrics have their own files. */
#include "store_fixture.h"

/* ---- digests --------------------------------------------------------------------------------- */

static void digest_is_sha256(void **state)
{
    (void)state;
    uint8_t raw[DIGEST_BYTES];
    char hex[DIGEST_HEX];
    struct digest d;
    assert_int_equal(digest_init(&d, NULL), 0);
    digest_update(&d, "a", 1);
    digest_update(&d, NULL, 0);
    digest_update(&d, "bc", 2);
    assert_int_equal(digest_finish(&d, raw, NULL), 0);
    digest_hex(raw, hex);
    /* FIPS 180-2, appendix B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(digest_memory("", 0, raw, NULL), 0);
    digest_hex(raw, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* ---- opening --------------------------------------------------------------------------------- */

static void fresh_and_again(void **state)
{
    struct fixture *f = *state;
    rmdir(f->dir); /* made by the store */
    store_up(f);
    assert_int_equal(number(f, "PRAGMA user_version"), store_n_migrations);
    assert_int_equal(number(f, "PRAGMA application_id"), STORE_APPLICATION_ID);
    assert_int_equal(number(f, "PRAGMA page_size"), 8192);
    assert_int_equal(number(f, "PRAGMA auto_vacuum"), 2);
    model_add(f, "m");
    store_again(f);
    assert_int_equal(number(f, "SELECT count(*) FROM models WHERE name = 'm'"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    struct error e;
    assert_int_equal(store_health(f->s, &e), 0);
}

static void refused_with(struct fixture *f, const char *sentence)
{
    char before[DIGEST_HEX], after[DIGEST_HEX];
    file_hash(f, before);
    assert_null(store_open(f->dir, &f->e));
    assert_int_equal(f->e.code, ERROR_STORAGE);
    if (!strstr(f->e.text, sentence))
        fail_msg("no '%s' in: %s", sentence, f->e.text);
    file_hash(f, after);
    assert_string_equal(before, after);
}

static void newer_is_refused(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    store_down(f);
    sql(f, "PRAGMA user_version = 99");
    refused_with(f, "schema version 99");
    assert_int_equal(number(f, "PRAGMA user_version"), 99);
}

static void foreign_is_refused(void **state)
{
    struct fixture *f = *state;
    sql(f, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
    refused_with(f, "another program");
    sql(f, "PRAGMA application_id = 1234");
    refused_with(f, "another program");
    sql(f, "PRAGMA journal_mode = WAL; INSERT INTO theirs VALUES (2)");
    refused_with(f, "another program");
}

static void rubbish_is_refused(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {10, 5000};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(f->db, "w");
        for (size_t k = 0; k < sizes[i]; k++)
            fputc('x', file);
        fclose(file);
        refused_with(f, "not an SQLite database");
    }
}

static void empty_file_is_new(void **state)
{
    struct fixture *f = *state;
    fclose(fopen(f->db, "w"));
    store_up(f);
    model_add(f, "m");
}

static void second_is_refused(void **state)
{
    struct fixture *f = *state;
    struct error e;
    char expected[64];
    store_up(f);
    assert_null(store_open(f->dir, &e));
    assert_int_equal(e.code, ERROR_STORAGE);
    snprintf(expected, sizeof expected, "in use by another backpropd (process %ld)",
             (long)getpid());
    assert_non_null(strstr(e.text, expected));
    store_again(f); /* the lock goes with the store */
}

static void bad_folder_is_refused(void **state)
{
    (void)state;
    struct error e;
    assert_null(store_open("/proc/no/such/folder", &e));
    assert_int_equal(e.code, ERROR_STORAGE);
    assert_non_null(strstr(e.text, "cannot be made"));
}

/* store_open as a user who is not root, for whom permissions count: 0 when it is refused with this.
 */
static int refused_to_user(const char *dir, const char *part)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        struct error e = {0};
        if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
            _exit(2);
        struct store *s = store_open(dir, &e);
        if (s || e.code != ERROR_STORAGE || !strstr(e.text, part)) {
            fprintf(stderr, "%s\n", s ? "it was opened" : e.text);
            _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void give_away(const char *path, mode_t mode)
{
    if (geteuid() == 0)
        assert_int_equal(chown(path, 65534, 65534), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* A folder that may only be read: refused with its name, and nothing in it changes. */
static void read_only_is_refused(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    char lock[96];
    give_away(f->dir, 0555);
    assert_int_equal(refused_to_user(f->dir, "cannot be written: Permission denied"), 0);
    assert_int_equal(chmod(f->dir, 0755), 0);
    store_up(f);
    model_add(f, "m");
    store_down(f);
    snprintf(lock, sizeof lock, "%s/lock", f->dir);
    give_away(f->db, 0444);
    give_away(lock, 0444);
    give_away(f->dir, 0555);
    assert_int_equal(stat(f->db, &before), 0);
    assert_int_equal(refused_to_user(f->dir, "cannot be written: Permission denied"), 0);
    /* The lock can be taken, the database cannot be written. */
    assert_int_equal(chmod(lock, 0644), 0);
    assert_int_equal(refused_to_user(f->dir, f->dir), 0);
    assert_int_equal(stat(f->db, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    assert_int_equal(chmod(f->dir, 0755), 0);
    assert_int_equal(chmod(f->db, 0644), 0);
    store_up(f);
}

/* A migration that fails half-way leaves the file at the one before; later it goes on from there.
 */
static void migration_is_whole(void **state)
{
    struct fixture *f = *state;
    static const struct store_migration broken[] = {
        {1, "001.sql", "CREATE TABLE one (x)"},
        {2, "002.sql", "CREATE TABLE two (x); CREATE TABLE one (x)"},
    };
    static const struct store_migration mended[] = {
        {1, "001.sql", "CREATE TABLE one (x)"},
        {2, "002.sql", "CREATE TABLE two (x)"},
    };
    struct db db;
    enum store_kind kind;
    int version;
    check(f, db_open(&db, f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &f->e));
    db_lock(&db, "testing");
    check(f, store_schema_inspect(&db, &kind, &version, &f->e));
    assert_int_equal(kind, STORE_NEW);
    assert_int_equal(version, 0);
    assert_int_equal(store_schema_migrate(&db, version, broken, 2, &f->e), -1);
    assert_non_null(strstr(f->e.text, "002.sql"));
    assert_int_equal(number(f, "SELECT count(*) FROM sqlite_schema"), 1);
    check(f, store_schema_inspect(&db, &kind, &version, &f->e));
    assert_int_equal(kind, STORE_OURS);
    assert_int_equal(version, 1);
    check(f, store_schema_migrate(&db, version, mended, 2, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM sqlite_schema"), 2);
    assert_int_equal(number(f, "PRAGMA user_version"), 2);
    db_unlock(&db);
    db_close(&db);
}

/* A file of every older version, with a model in it, is brought to the present one and keeps it. */
static void every_older_version_comes_up(void **state)
{
    struct fixture *f = *state;
    for (int old = 1; old < store_n_migrations; old++) {
        struct db db;
        struct models seen = {0};
        unlink(f->db);
        check(f, db_open(&db, f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &f->e));
        db_lock(&db, "testing");
        check(f, store_schema_migrate(&db, 0, store_migrations, old, &f->e));
        check(f, db_exec(&db,
                         "INSERT INTO models (name, description, created_at, step, revision, draw,"
                         " pending) VALUES ('old', '{}', 1, 2, 3, 4, 0)",
                         &f->e));
        assert_int_equal(number(f, "PRAGMA user_version"), old);
        if (old >= 2)
            check(f, db_exec(&db,
                             "INSERT INTO answers (model_id, key, request, revision, step, draw,"
                             " samples, parts) VALUES (1, 'key b', 1, 2, 0, 0, 0, '[]'),"
                             " (1, 'key a', 1, 3, 0, 0, 0, '[]')",
                             &f->e));
        db_unlock(&db);
        db_close(&db);
        store_up(f);
        assert_int_equal(number(f, "PRAGMA user_version"), store_n_migrations);
        check(f, store_model_list(f->s, model_seen, &seen, &f->e));
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.last.revision, 3);
        if (old >= 2)
            assert_int_equal(number(f, "SELECT sum(number * (key = 'key b')) = 1 AND count(*) = 2"
                                       " FROM answers"),
                             1);
        store_down(f);
    }
}

/* Deeds are of no model: the newest 1000 stay, one of a key. */
static void deeds_are_kept(void **state)
{
    struct fixture *f = *state;
    struct store_deed d = {.request = UINT64_MAX, .status = 201, .model_id = 7}, found;
    char key[24];
    store_up(f);
    for (int i = 0; i < 1003; i++) {
        snprintf(key, sizeof key, "m key %d", i);
        d.key = key;
        check(f, store_deed_save(f->s, &d, &f->e));
    }
    assert_int_equal(store_deed_save(f->s, &d, &f->e), -1);
    store_down(f);
    store_up(f);
    assert_int_equal(store_deed_find(f->s, "m key 2", &found, &f->e), 0);
    assert_int_equal(store_deed_find(f->s, "m key 3", &found, &f->e), 1);
    assert_true(found.request == UINT64_MAX && found.status == 201 && found.model_id == 7);
    store_down(f);
}

static void migrations_are_numbered(void **state)
{
    (void)state;
    for (int i = 0; i < store_n_migrations; i++) {
        assert_int_equal(store_migrations[i].version, i + 1);
        assert_int_equal(atoi(store_migrations[i].name), i + 1);
    }
}

/* ---- models ---------------------------------------------------------------------------------- */

static void models_keep(void **state)
{
    struct fixture *f = *state;
    struct models seen = {0};
    store_up(f);
    struct store_model b = {
        .name = "b", .description = "{}", .step = 5, .revision = 7, .draw = 9, .pending = true};
    check(f, store_model_insert(f->s, &b, &f->e));
    struct store_model a = model_add(f, "a");
    struct store_model again = {.name = "a", .description = "{}"};
    assert_int_equal(store_model_insert(f->s, &again, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_MODEL_EXISTS);
    store_again(f);
    check(f, store_model_list(f->s, model_seen, &seen, &f->e));
    assert_int_equal(seen.n, 2);
    assert_string_equal(seen.names[0], "a");
    assert_string_equal(seen.names[1], "b");
    assert_int_equal(seen.last.step, 5);
    assert_int_equal(seen.last.revision, 7);
    assert_int_equal(seen.last.draw, 9);
    assert_true(seen.last.pending);
    assert_int_equal(store_model_delete(f->s, a.id + 99, NULL, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_UNKNOWN_MODEL);
}

/* Signals of one layer at revisions 1 to n. */
static void signals_add(struct fixture *f, int64_t model, int n)
{
    struct graph *g = graph_create(&f->e);
    struct node *in = graph_input(g, "x", DTYPE_REAL, &SHAPE(BATCH, 2), &f->e);
    struct layer_signals l = {.layer = graph_add(g, "relu", "act", &in, 1, NULL, 0, &f->e),
                              .gradient_norm = NAN,
                              .dead_share = 0.5,
                              .unit_numbers = 3};
    for (int i = 1; i <= n; i++) {
        l.activation_mean = i;
        struct store_histogram h = {"w", "{}", NULL};
        struct store_signals x = {model, (uint64_t)i, (uint64_t)i, 1, &l, 1, &h, 1};
        check(f, store_signals_save(f->s, &x, &f->e));
    }
    graph_destroy(&g);
}

static int signal_seen(void *arg, const struct store_signal *row)
{
    struct rows *rows = arg;
    assert_true(row->place == 0 && isnan(row->layer.gradient_norm));
    assert_true(row->layer.dead_share == 0.5 && row->layer.unit_numbers == 3);
    rows->revision[rows->n] = row->revision;
    rows->value[rows->n++] = row->layer.activation_mean;
    return 0;
}

/* Once each, sampled, trimmed with the metrics, and counted among the revisions that have rows. */
static void signals_keep(void **state)
{
    struct fixture *f = *state;
    struct rows *rows = calloc(1, sizeof *rows);
    store_up(f);
    struct store_model m = model_add(f, "m");
    signals_add(f, m.id, 20);
    signals_add(f, m.id, 20);
    store_again(f);
    struct store_signals_query q = {m.id, 0, UINT64_MAX, 100};
    check(f, store_signals_query(f->s, &q, signal_seen, rows, &f->e));
    assert_int_equal(rows->n, 20);
    assert_int_equal(number(f, "SELECT count(*) FROM signal_histograms"), STORE_HISTOGRAM_STEPS);
    assert_int_equal(number(f, "SELECT min(revision) FROM signal_histograms"), 13);
    q.max_points = 4;
    rows->n = 0;
    check(f, store_signals_query(f->s, &q, signal_seen, rows, &f->e));
    assert_int_equal(rows->n, 4);
    assert_true(rows->revision[0] == 1 && rows->revision[3] == 20 && rows->value[3] == 20);
    uint64_t last;
    check(f, store_last_revision(f->s, m.id, &last, &f->e));
    assert_int_equal(last, 20);
    check(f, store_metrics_trim(f->s, m.id, 7, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM signals"), 7);
    check(f, store_last_revision(f->s, m.id, &last, &f->e));
    assert_int_equal(last, 7);
    free(rows);
}

static void model_delete_removes_all(void **state)
{
    struct fixture *f = *state;
    store_up(f);
    struct store_model m = model_add(f, "m"), other = model_add(f, "other");
    version_add(f, m.id, 5 << 20, 1);
    version_add(f, other.id, 100, 1);
    struct store_version v = version_of(3);
    check(f, store_checkpoint_save(f->s, m.id, &v,
                                   &(struct store_part){"params", (char[]){"abc"}, 3}, 1, &f->e));
    for (int i = 0; i < 20000; i++)
        check(f, store_metrics_append(f->s, &(struct store_metric){m.id, "loss", i, i, 1, 1, 0}, 1,
                                      &f->e));
    check(f, store_metrics_append(f->s, &(struct store_metric){other.id, "loss", 1, 1, 1, 1, 0}, 1,
                                  &f->e));
    signals_add(f, m.id, 300);
    signals_add(f, other.id, 2);
    check(f, store_model_delete(f->s, m.id, NULL, &f->e));
    signals_add(f, m.id, 1); /* of a model that is gone: not written */
    assert_int_equal(store_model_delete(f->s, m.id, NULL, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_UNKNOWN_MODEL);
    struct store_model next = model_add(f, "m"); /* the name is free at once, the id is new */
    assert_true(next.id != m.id);
    check(f, store_metrics_append(f->s, &(struct store_metric){m.id, "late", 1, 1, 1, 1, 0}, 1,
                                  &f->e));
    check(f, store_settle(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM models"), 2);
    assert_int_equal(number(f, "SELECT count(*) FROM versions"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM blobs"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM parts"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM metrics"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM series"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM signals"), 2);
    assert_int_equal(number(f, "SELECT count(*) FROM signal_steps"), 2);
    assert_int_equal(number(f, "SELECT count(*) FROM signal_layers"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM signal_histograms"), 2);
    assert_int_equal(number(f, "PRAGMA freelist_count"), 0);
}

/* ---- several threads ------------------------------------------------------------------------- */

struct worker {
    struct fixture *f;
    int64_t model;
    int failures;
};

static void *appender(void *arg)
{
    struct worker *w = arg;
    for (uint64_t i = 1; i <= 3000; i++) {
        struct store_metric m = {w->model, "loss", i, i, 1, 1, 0};
        w->failures += store_metrics_append(w->f->s, &m, 1, NULL) != 0;
        if (i % 1000 == 0) {
            struct rows *rows = calloc(1, sizeof *rows);
            struct store_metrics_query q = {.model_id = w->model, .until = UINT64_MAX};
            w->failures += store_metrics_query(w->f->s, &q, row_seen, rows, NULL) != 0;
            w->failures += rows->n != (int)i;
            free(rows);
        }
    }
    return NULL;
}

static void *saver(void *arg)
{
    struct worker *w = arg;
    unsigned char *data = data_make(3 << 20, 1), *back = malloc(3 << 20);
    struct store_part part = {"params", data, 3 << 20}, out = {"params", back, 3 << 20};
    for (int i = 0; i < 4; i++) {
        struct store_version v = version_of(1), c = version_of(2);
        w->failures += store_version_save(w->f->s, w->model, &v, &part, 1, NULL) != 0;
        w->failures += store_checkpoint_save(w->f->s, w->model, &c, &part, 1, NULL) != 0;
        w->failures += store_version_load(w->f->s, w->model, v.version, &out, 1, NULL) != 0;
        w->failures += memcmp(data, back, 3 << 20) != 0;
        w->failures += store_version_delete(w->f->s, w->model, v.version, NULL, NULL) != 0;
    }
    free(data), free(back);
    return NULL;
}

static void threads_share(void **state)
{
    struct fixture *f = *state;
    void *(*const jobs[])(void *) = {appender, saver, appender, saver};
    struct worker workers[4];
    pthread_t threads[4];
    store_up(f);
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        workers[i] = (struct worker){f, model_add(f, name).id, 0};
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, jobs[i], &workers[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
    }
    check(f, store_settle(f->s, &f->e));
    assert_int_equal(number(f, "SELECT count(*) FROM metrics"), 6000);
    assert_int_equal(number(f, "SELECT count(*) FROM versions"), 2);
    assert_int_equal(number(f, "PRAGMA freelist_count"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(digest_is_sha256),
        TEST(fresh_and_again),
        TEST(newer_is_refused),
        TEST(foreign_is_refused),
        TEST(rubbish_is_refused),
        TEST(empty_file_is_new),
        TEST(second_is_refused),
        TEST(bad_folder_is_refused),
        TEST(read_only_is_refused),
        TEST(migration_is_whole),
        TEST(deeds_are_kept),
        TEST(migrations_are_numbered),
        TEST(every_older_version_comes_up),
        TEST(models_keep),
        TEST(signals_keep),
        TEST(model_delete_removes_all),
        TEST(threads_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
