/* test_redo.c: the redo log: what was appended is replayed, torn tails are cut off at every length,
 * damage is refused, checkpoints let go of segments. */
#define _GNU_SOURCE
#include "../../server/redo.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MODEL = 7, RECORDS = 5 };

struct fixture {
    char root[64], dir[128];
    struct redo *r;
    struct error e;
};

/* What a replay has seen: revisions in order, and whether payloads are those of `payload`. */
struct seen {
    uint64_t revision[64];
    int n;
    bool same_engine;
};

/* A payload that depends on the revision, of an odd length. */
static size_t payload(uint64_t revision, char *out)
{
    size_t n = 13 + 7 * revision % 50;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(revision * 31 + i);
    return n;
}

static int see(void *arg, const struct redo_record *record, struct error *e)
{
    struct seen *s = arg;
    char want[256];
    (void)e;
    assert_int_equal(record->bytes, payload(record->revision, want));
    assert_memory_equal(record->payload, want, record->bytes);
    s->revision[s->n++] = record->revision;
    s->same_engine = record->same_engine;
    return 0;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->root, "/tmp/redo-XXXXXX");
    if (!mkdtemp(f->root))
        return -1;
    snprintf(f->dir, sizeof f->dir, "%s/%d", f->root, MODEL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    redo_close(&f->r);
    redo_remove(f->root, MODEL, NULL);
    rmdir(f->root);
    free(f);
    return 0;
}

static void log_open(struct fixture *f)
{
    redo_close(&f->r);
    f->r = redo_open(f->root, MODEL, "engine A", &f->e);
    assert_non_null(f->r);
}

static void log_append_sync(struct fixture *f, uint64_t revision, bool sync)
{
    char text[256];
    size_t n = payload(revision, text);
    struct iovec v[2] = {{text, 5}, {text + 5, n - 5}};
    assert_int_equal(redo_append(f->r, revision, v, 2, sync, &f->e), 0);
}

static void log_append(struct fixture *f, uint64_t revision)
{
    log_append_sync(f, revision, revision % 2);
}

static struct seen log_replay(struct fixture *f, uint64_t after, uint64_t *torn_r)
{
    struct seen s = {.n = 0};
    if (redo_replay(f->r, after, see, &s, torn_r, &f->e))
        fail_msg("%s", f->e.text);
    return s;
}

/* The path of the i-th segment in order; the number of segments when `path` is NULL. */
static int segment(const struct fixture *f, int i, char *path)
{
    struct dirent **list;
    int n = scandir(f->dir, &list, NULL, alphasort), segments = 0;
    for (int k = 0; k < n; k++) {
        if (strstr(list[k]->d_name, ".redo") && segments++ == i && path)
            sprintf(path, "%s/%s", f->dir, list[k]->d_name);
        free(list[k]);
    }
    free(list);
    return segments;
}

static void replays_what_was_appended(void **state)
{
    struct fixture *f = *state;
    uint64_t torn;
    log_open(f);
    for (uint64_t i = 1; i <= RECORDS; i++)
        log_append(f, i);
    log_open(f);
    struct seen s = log_replay(f, 0, &torn);
    assert_int_equal(s.n, RECORDS);
    assert_int_equal(torn, 0);
    assert_true(s.same_engine);
    for (int i = 0; i < RECORDS; i++)
        assert_int_equal(s.revision[i], i + 1);
    assert_int_equal(log_replay(f, 3, &torn).n, 2);
    log_append(f, RECORDS + 1); /* into a second segment */
    log_open(f);
    assert_int_equal(log_replay(f, 0, &torn).n, RECORDS + 1);
    assert_int_equal(segment(f, 0, NULL), 2);
}

static void another_engine_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t torn;
    log_open(f);
    log_append(f, 1);
    redo_close(&f->r);
    f->r = redo_open(f->root, MODEL, "engine B", &f->e);
    assert_false(log_replay(f, 0, &torn).same_engine);
}

static void torn_at_every_length(void **state)
{
    struct fixture *f = *state;
    char path[512], *copy;
    uint64_t torn;
    struct stat st;
    log_open(f);
    for (uint64_t i = 1; i <= 3; i++)
        log_append(f, i);
    redo_close(&f->r);
    segment(f, 0, path);
    assert_int_equal(stat(path, &st), 0);
    copy = malloc((size_t)st.st_size);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, copy, (size_t)st.st_size), st.st_size);
    close(fd);
    int last = 0;
    for (off_t size = 0; size <= st.st_size; size++) {
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, copy, (size_t)size), size);
        close(fd);
        log_open(f);
        int n = log_replay(f, 0, &torn).n;
        assert_true(n == last || n == last + 1);
        last = n;
        log_append(f, (uint64_t)n + 1); /* goes on after what is whole */
        log_open(f);
        assert_int_equal(log_replay(f, 0, &torn).n, n + 1);
        assert_int_equal(torn, 0);
        redo_forget(f->r, UINT64_MAX - 1);
        redo_close(&f->r);
    }
    assert_int_equal(last, 3);
    free(copy);
}

static void damage_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[512];
    uint64_t torn;
    struct seen s = {.n = 0};
    struct stat st;
    log_open(f);
    for (uint64_t i = 1; i <= RECORDS; i++)
        log_append(f, i);
    redo_close(&f->r);
    segment(f, 0, path);
    stat(path, &st);
    int fd = open(path, O_RDWR);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, st.st_size / 2),
                     1); /* inside a record that others follow */
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 2), 1);
    close(fd);
    log_open(f);
    assert_int_equal(redo_replay(f->r, 0, see, &s, &torn, &f->e), -1);
    assert_int_equal(f->e.code, ERROR_STORAGE);
    assert_non_null(strstr(f->e.text, "damaged"));
    struct stat after;
    stat(path, &after);
    assert_int_equal(after.st_size, st.st_size);
}

/* As if the system had been started anew since the segment was begun. */
static void another_boot(const char *path)
{
    char head[1024];
    uint32_t length;
    int fd = open(path, O_RDWR);
    assert_true(pread(fd, head, sizeof head, 0) > 64);
    memcpy(&length, head + 16, 4);
    size_t boot = (20 + length + 7) / 8 * 8;
    head[boot] ^= 1;
    uint64_t hash = XXH3_64bits(head, boot + 16);
    memcpy(head + boot + 16, &hash, 8);
    assert_int_equal(pwrite(fd, head, boot + 24, 0), boot + 24);
    close(fd);
}

/* A log that a backpropd before "bpredo02" has left. */
static void old_segments_are_read(void **state)
{
    struct fixture *f = *state;
    char path[512], data[4096];
    uint32_t length;
    uint64_t torn;
    log_open(f);
    for (uint64_t i = 1; i <= 3; i++)
        log_append_sync(f, i, false);
    redo_close(&f->r);
    segment(f, 0, path);
    int fd = open(path, O_RDWR);
    ssize_t n = read(fd, data, sizeof data);
    assert_in_range(n, 100, sizeof data - 1);
    memcpy(data, "bpredo01", 8);
    memcpy(&length, data + 16, 4);
    size_t boot = (20 + length + 7) / 8 * 8;
    memmove(data + boot, data + boot + 8, (size_t)n - boot - 8);
    uint64_t hash = XXH3_64bits(data, boot + 8);
    memcpy(data + boot + 8, &hash, 8);
    assert_int_equal(pwrite(fd, data, (size_t)n - 8, 0), n - 8);
    assert_int_equal(ftruncate(fd, n - 8), 0);
    close(fd);
    log_open(f);
    assert_int_equal(log_replay(f, 0, &torn).n, 3);
    assert_int_equal(torn, 0);
    log_append(f, 4);
    log_open(f);
    assert_int_equal(log_replay(f, 0, &torn).n, 4);
}

static void flip_byte(const char *path, off_t at)
{
    char byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Two segments of 5 records each; the first is not whole any more in its middle. */
static void torn_in_the_middle(struct fixture *f, bool sync)
{
    char path[512];
    struct stat st;
    uint64_t torn;
    log_open(f);
    for (uint64_t i = 1; i <= 2 * RECORDS; i++) {
        log_append_sync(f, i, sync);
        if (i == RECORDS) {
            log_open(f);
            log_replay(f, 0, &torn);
        }
    }
    assert_int_equal(segment(f, 0, NULL), 2);
    for (int i = 0; i < 2; i++) {
        segment(f, i, path);
        another_boot(path);
    }
    segment(f, 0, path);
    stat(path, &st);
    flip_byte(path, st.st_size / 2);
    log_open(f);
}

static void power_loss_ends_an_unsynced_log(void **state)
{
    struct fixture *f = *state;
    uint64_t torn;
    torn_in_the_middle(f, false);
    int n = log_replay(f, 0, &torn).n;
    assert_in_range(n, 1, RECORDS - 1);
    assert_true(torn > 0);
    assert_int_equal(segment(f, 0, NULL), 1);
    log_append(f, (uint64_t)n + 1);
    log_open(f);
    assert_int_equal(log_replay(f, 0, &torn).n, n + 1);
    assert_int_equal(torn, 0);
}

static void a_hole_in_a_synced_log_is_damage(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.n = 0};
    uint64_t torn;
    torn_in_the_middle(f, true);
    assert_int_equal(redo_replay(f->r, 0, see, &s, &torn, &f->e), -1);
    assert_non_null(strstr(f->e.text, "damaged"));
    assert_int_equal(segment(f, 0, NULL), 2);
}

/* A whole segment that the loss of power took leaves a gap. */
static void a_gap_ends_an_unsynced_log(void **state)
{
    struct fixture *f = *state;
    char path[512];
    struct stat st;
    uint64_t torn;
    torn_in_the_middle(f, false);
    segment(f, 0, path);
    stat(path, &st);
    flip_byte(path, st.st_size / 2);
    for (off_t size = st.st_size - 1;; size--) { /* up to the end of a record */
        assert_int_equal(truncate(path, size), 0);
        log_open(f);
        struct seen s = {.n = 0};
        assert_int_equal(redo_read(f->r, 0, see, &s, &torn, &f->e), 0);
        if (s.n < RECORDS)
            break;
    }
    struct seen s = log_replay(f, 0, &torn);
    assert_int_equal(s.n, RECORDS - 1);
    assert_int_equal(segment(f, 0, NULL), 1);
}

static void checkpoints_let_go(void **state)
{
    struct fixture *f = *state;
    uint64_t torn;
    log_open(f);
    for (uint64_t i = 1; i <= 3; i++)
        log_append(f, i);
    redo_forget(f->r, 2); /* the third is newer */
    assert_int_equal(segment(f, 0, NULL), 1);
    log_append(f, 4);
    assert_int_equal(segment(f, 0, NULL), 2);
    redo_forget(f->r, 3);
    assert_int_equal(segment(f, 0, NULL), 1);
    redo_forget(f->r, 4);
    assert_int_equal(segment(f, 0, NULL), 0);
    assert_int_equal(redo_bytes(f->r), 0);
    log_append(f, 9); /* a checkpoint took 5 to 8 */
    log_open(f);
    assert_int_equal(log_replay(f, 8, &torn).n, 1);
}

/* A full disk: the file may not grow past a limit. */
static void a_failed_append_is_taken_back(void **state)
{
    struct fixture *f = *state;
    char path[512], big[4096] = {0};
    struct stat st;
    struct rlimit old, limit;
    uint64_t torn;
    log_open(f);
    log_append(f, 1);
    segment(f, 0, path);
    stat(path, &st);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = (rlim_t)st.st_size + 1000;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    struct iovec v = {big, sizeof big};
    assert_int_equal(redo_append(f->r, 2, &v, 1, false, &f->e), -1);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(f->e.code, ERROR_STORAGE);
    log_append(f, 2);
    log_open(f);
    assert_int_equal(log_replay(f, 0, &torn).n, 2);
    assert_int_equal(torn, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(replays_what_was_appended),
        TEST(another_engine_is_told),
        TEST(torn_at_every_length),
        TEST(damage_is_refused),
        TEST(checkpoints_let_go),
        TEST(a_failed_append_is_taken_back),
        TEST(power_loss_ends_an_unsynced_log),
        TEST(a_hole_in_a_synced_log_is_damage),
        TEST(a_gap_ends_an_unsynced_log),
        TEST(old_segments_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
