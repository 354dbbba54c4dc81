/* test_crash.c: the daemon is killed with SIGKILL while two clients train two models, save, restore
 * and delete versions, move aliases and add up gradients, and a third one reads. Half of the kills
 * come at random moments, the others at a chosen write, fsync, truncate, unlink or rename of a
 * chosen file, before it, behind it or in its middle (faults.h); and some while the daemon starts
 * and replays its log. After each restart, from the clients' own record of requests and answers and
 * with a second daemon as the oracle, which is given the same requests and never killed:
 *
 *   - every change that was answered is there, once, and none that was never sent;
 *   - the request whose answer was lost is sent again with the same key, and is then there once;
 *   - the whole state is the oracle's, byte for byte;
 *   - every answered loss is in the metrics, once, under its revision;
 *   - the data folder passes backpropd check.
 *
 * What a kill has hit is told by the shim (which call for which file), by the store that is left
 * (what was being written) and by when the daemon was killed. CRASH_KILLS=1000 is the long form
 * (make test-crash). */
#include "../support/client_private.h"
#include "../support/faults.h"
#include "../support/remote.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum {
    MODELS = 2,
    MAX_ENTRIES = 400000,
    SHORT_KILLS = 24,
    MAX_VERSIONS = 4,
    VERSIONS_EVER = 65536
};

/* What a client may ask for. `changes`: it moves the revision. */
enum ask {
    ASK_TRAIN,
    ASK_ADD,
    ASK_OPTIM,
    ASK_ZERO,
    ASK_VERSION,
    ASK_RESTORE,
    ASK_PATCH,
    ASK_DROP,
    ASK_ALIAS
};
static const struct {
    const char *rest, *method; /* %u: the entry's number */
    bool changes, batch;
} asks[] = {
    [ASK_TRAIN] = {"/train_step", "POST", true, true},
    [ASK_ADD] = {"/forward_backward", "POST", true, true},
    [ASK_OPTIM] = {"/optim_step", "POST", true, false},
    [ASK_ZERO] = {"/zero_grad", "POST", true, false},
    [ASK_VERSION] = {"/versions", "POST", false, false},
    [ASK_RESTORE] = {"/versions/%u/restore", "POST", true, false},
    [ASK_PATCH] = {"", "PATCH", true, false},
    [ASK_DROP] = {"/versions/%u", "DELETE", false, false},
    [ASK_ALIAS] = {"/aliases/best", "PUT", false, false},
};
enum { ASKS = sizeof asks / sizeof asks[0] };

struct entry {
    enum ask ask;
    unsigned number; /* seed of the batch, version, or learning rate */
    double loss;     /* that was answered; -1: none */
    double revision;
};

/* One client's model: everything that is known to have been carried out, and the one request whose
 * answer was lost. */
struct subject {
    const char *name, *description;
    int pixels;
    const char *address;
    struct entry *done;
    int n_done, n_replayed; /* by the oracle */
    struct entry lost;
    bool has_lost;
    int lost_place; /* in `done`, where it would stand */
    bool pending;   /* gradients are, after n_done */
    double revision;
    unsigned versions, last_version; /* that are there; the number of the newest ever */
    struct version {
        bool there, pending;
    } version[VERSIONS_EVER]; /* by number */
    unsigned alias, moves;    /* where it points, 0: nowhere; rows of its ledger */
    unsigned random;
    char problem[512];
};

static unsigned next_random(struct subject *s)
{
    s->random = s->random * 1664525u + 1013904223u;
    return s->random >> 8;
}

/* One of the versions that are there; not the alias's, unless `any`. 0: there is none. */
static unsigned choose_version(struct subject *s, bool any)
{
    unsigned from = s->last_version ? next_random(s) % s->last_version : 0;
    for (unsigned i = 0; i < s->last_version; i++) {
        unsigned v = 1 + (from + i) % s->last_version;
        if (s->version[v].there && (any || v != s->alias))
            return v;
    }
    return 0;
}

/* A request that the model's state allows. */
static struct entry choose(struct subject *s)
{
    unsigned r = next_random(s) % 100, version;
    struct entry e = {s->pending ? ASK_OPTIM : ASK_TRAIN, next_random(s) % 1000, -1, 0};
    if (r < 12)
        e.ask = ASK_ADD;
    else if (r < 15 && s->pending)
        e.ask = ASK_ZERO;
    else if (r < 19 && s->versions < MAX_VERSIONS && s->last_version < VERSIONS_EVER - 1)
        e.ask = ASK_VERSION;
    else if (r < 22)
        e.ask = ASK_PATCH;
    else if (r < 28 && (version = choose_version(s, r != 26))) {
        e.ask = r < 24 ? ASK_RESTORE : r < 26 ? ASK_ALIAS : r < 27 ? ASK_DROP : e.ask;
        if (e.ask == ASK_RESTORE || e.ask == ASK_ALIAS || e.ask == ASK_DROP)
            e.number = version;
    }
    return e;
}

/* The key is the entry's place: sent again it is the same request. */
static struct answer *ask(struct client *c, const struct subject *s, const struct entry *e)
{
    char path[128], rest[64], text[64], key[64];
    const char *body = asks[e->ask].batch ? remote_batch(c, e->number, 4, s->pixels, NULL) : NULL;
    snprintf(rest, sizeof rest, asks[e->ask].rest, e->number); /* NOLINT: a constant of the table */
    snprintf(path, sizeof path, "/v2/models/%s%s", s->name, rest);
    snprintf(key, sizeof key, "Idempotency-Key: \"%d\"", (int)(e - s->done));
    if (e == &s->lost)
        snprintf(key, sizeof key, "Idempotency-Key: \"%d\"", s->lost_place);
    if (e->ask == ASK_PATCH)
        snprintf(text, sizeof text, "{\"lr\":%g}", 0.001 * (1 + e->number % 10));
    if (e->ask == ASK_ALIAS)
        snprintf(text, sizeof text, "{\"version\":%u}", e->number);
    if (e->ask == ASK_PATCH || e->ask == ASK_ALIAS)
        body = text;
    struct call call = {.method = asks[e->ask].method,
                        .path = path,
                        .body = body,
                        .size = body ? strlen(body) : 0,
                        .headers = (const char *const[]){key, NULL}};
    return client_try(c, &call);
}

/* Takes a request as carried out. */
static void note(struct subject *s, struct entry e)
{
    if (e.ask == ASK_VERSION) {
        s->version[++s->last_version] = (struct version){true, s->pending};
        s->versions++;
    } else if (e.ask == ASK_DROP) {
        s->version[e.number].there = false;
        s->versions--;
    } else if (e.ask == ASK_ALIAS) {
        s->moves += s->alias != e.number;
        s->alias = e.number;
    } else if (e.ask == ASK_RESTORE) {
        s->pending = s->version[e.number].pending;
    } else if (e.ask == ASK_ADD) {
        s->pending = true;
    } else if (e.ask == ASK_OPTIM || e.ask == ASK_ZERO) {
        s->pending = false;
    }
    s->revision += asks[e.ask].changes;
    e.revision = s->revision;
    s->done[s->n_done++] = e;
}

/* Trains until the daemon is gone. No checks of cmocka here: they belong to the main thread. */
static void *client_main(void *arg)
{
    struct subject *s = arg;
    struct client *c = client_create(s->address);
    while (s->n_done < MAX_ENTRIES && !s->problem[0]) {
        struct entry e = s->lost = choose(s);
        s->lost_place = s->n_done;
        struct answer *a = ask(c, s, &s->lost);
        if (!a) {
            s->has_lost = true;
            break;
        }
        const char *loss = strstr(a->body, "\"loss\":");
        if (asks[e.ask].batch && loss)
            e.loss = strtod(loss + 7, NULL);
        if (a->status < 300)
            note(s, e);
        else
            snprintf(s->problem, sizeof s->problem, "%s %s (%u) was answered %d: %.300s", s->name,
                     asks[e.ask].rest, e.number, a->status, a->body);
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

/* Reads what people read, until the daemon is gone. */
static void *reader_main(void *arg)
{
    struct client *c = client_create(arg);
    struct call call = {.method = "GET", .path = "/v2/models/crash0/metrics?max_points=50"};
    while (client_try(c, &call))
        client_forget(c);
    client_destroy(&c);
    return NULL;
}

/* ---- checks ---------------------------------------------------------------------------------- */

/* What the daemon says that is there is what the client knows. */
static void check_known(struct client *c, const struct subject *s)
{
    struct answer *a = remote_get(c, s->name, "");
    const json_t *versions = answer_find(a, "versions");
    assert_true(answer_number(a, "revision") == s->revision);
    assert_int_equal(json_array_size(versions), s->versions);
    for (size_t i = 0; i < json_array_size(versions); i++)
        assert_true(s->version[atoi(json_string_value(json_array_get(versions, i)))].there);
    assert_int_equal(json_is_true(answer_find(a, "gradients_pending")), s->pending);
    a = remote_get(c, s->name, "/aliases?limit=1000");
    json_t *now = answer_find(a, "aliases.0.version");
    assert_int_equal(now ? json_integer_value(now) : 0, s->alias);
    assert_int_equal(json_array_size(answer_find(a, "moves")), s->moves < 1000 ? s->moves : 1000);
}

/* A request whose answer was lost is sent again with its key: carried out before or not, it is
 * there once afterwards, and the answer is that of its one time. */
static void settle_lost(struct client *c, struct subject *s)
{
    if (s->has_lost) {
        struct answer *a = ask(c, s, &s->lost);
        if (!a || a->status >= 300)
            fail_msg("%s: sent again, %s was answered %s", s->name, asks[s->lost.ask].rest,
                     a ? a->body : "nothing");
        note(s, s->lost);
        const char *loss = strstr(a->body, "\"loss\":");
        if (asks[s->lost.ask].batch && loss)
            s->done[s->n_done - 1].loss = strtod(loss + 7, NULL);
        if (asks[s->lost.ask].changes && s->lost.ask != ASK_PATCH)
            assert_true(answer_number(a, "revision") == s->revision);
    }
    s->has_lost = false;
    check_known(c, s);
}

/* The oracle is given what was carried out since the last time. */
static void replay_on_oracle(struct client *oracle, struct subject *s)
{
    for (; s->n_replayed < s->n_done; s->n_replayed++) {
        const struct entry *e = &s->done[s->n_replayed];
        struct answer *a = ask(oracle, s, e);
        if (!a || a->status >= 300)
            fail_msg("the oracle refused %s: %s", s->name, a ? a->body : "no answer");
        if (e->loss >= 0)
            assert_true(answer_number(a, "loss") == e->loss);
        client_forget(oracle);
    }
}

/* Every answered loss under its revision, once, and nothing else. */
static void check_metrics(struct client *c, const struct subject *s)
{
    struct answer *a = remote_get(c, s->name, "/metrics?names=loss&max_points=100000");
    json_t *revisions = answer_find(a, "series.loss.revision");
    json_t *values = answer_find(a, "series.loss.value");
    size_t k = 0;
    for (int i = 0; i < s->n_done; i++) {
        const struct entry *e = &s->done[i];
        if (!asks[e->ask].batch)
            continue;
        double found = json_number_value(json_array_get(revisions, k));
        if (found != e->revision)
            fail_msg("%s: metrics row %zu has revision %.0f, expected %.0f of %.0f", s->name, k,
                     found, e->revision, s->revision);
        if (e->loss >= 0)
            assert_true((float)json_number_value(json_array_get(values, k)) == (float)e->loss);
        k++;
    }
    assert_int_equal(json_array_size(revisions), k);
}

static void check_subject(struct daemon *d, struct daemon *oracle, struct subject *s)
{
    if (s->problem[0])
        fail_msg("%s", s->problem);
    settle_lost(d->client, s);
    replay_on_oracle(oracle->client, s);
    assert_same_state(remote_hash(d->client, s->name), remote_hash(oracle->client, s->name));
    check_metrics(d->client, s);
    client_forget(d->client);
    client_forget(oracle->client);
}

/* ---- the test -------------------------------------------------------------------------------- */

/* What kills have hit. */
struct hits {
    int step, checkpoint, version, start, lost[ASKS], kinds[8], idle;
};

static void wait_for_end(struct daemon *d, int ms)
{
    int status;
    for (; ms > 0 && waitpid(d->pid, &status, WNOHANG) != d->pid; ms -= 2)
        sleep_ms(2);
    if (ms > 0)
        d->pid = 0;
    else
        daemon_kill(d);
}

/* Clients at work, then the kill: at a call that the shim is told, or at a random moment. */
static void work_and_kill(struct daemon *d, struct subject *s, struct faults *f,
                          const struct faults *at)
{
    pthread_t thread[MODELS + 1];
    int ms = 5 + (int)(next_random(&s[0]) % 250);
    if (at)
        faults_arm(f, at);
    for (int i = 0; i < MODELS; i++) {
        s[i].address = d->address;
        assert_int_equal(pthread_create(&thread[i], NULL, client_main, &s[i]), 0);
    }
    assert_int_equal(pthread_create(&thread[MODELS], NULL, reader_main, d->address), 0);
    if (at) {
        wait_for_end(d, 2000);
    } else {
        sleep_ms((unsigned)ms);
        daemon_kill(d);
    }
    for (int i = 0; i <= MODELS; i++)
        pthread_join(thread[i], NULL);
}

static const struct {
    int kind, place;
    const char *name;
} points[] = {
    {FAULT_WRITE, PLACE_REDO, "write of a log"},
    {FAULT_SYNC, PLACE_REDO, "fsync of a log"},
    {FAULT_UNLINK, PLACE_REDO, "unlink of a log"},
    {FAULT_WRITE, PLACE_WAL, "write to the store"},
    {FAULT_SYNC, PLACE_WAL, "fsync of the store"},
    {FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE, PLACE_DATABASE, "move into the database"},
    {FAULT_TRUNCATE | FAULT_READ, PLACE_REDO, "read of a log"},
    {FAULT_RENAME, PLACE_OTHER, "rename"},
};
enum { POINTS = sizeof points / sizeof points[0], WORK_POINTS = POINTS - 2 };

static struct faults choose_point(struct subject *s, bool start)
{
    unsigned r = next_random(s), point = start ? r % POINTS : r % WORK_POINTS;
    bool often = points[point].kind == FAULT_WRITE && !start;
    return (struct faults){.kinds = points[point].kind,
                           .places = points[point].place,
                           .action = STRIKE_KILL + (int32_t)(next_random(s) % 3),
                           .skip = next_random(s) % (often ? 40 : 3),
                           .strikes = 1};
}

static void count_point(struct hits *h, const struct faults *f)
{
    for (int i = 0; i < POINTS && f->struck; i++)
        if ((points[i].kind & f->hit_kind) && points[i].place == f->hit_place) {
            h->kinds[i]++;
            return;
        }
}

/* Versions of a kind that were being written when the daemon was killed: rows above *last_io, read
 * from a copy, since reading would mend the file. */
static int being_written(const struct daemon *d, const char *kind, int64_t *last_io)
{
    char command[2048], path[512];
    sqlite3 *db;
    sqlite3_stmt *row;
    int n = 0;
    snprintf(path, sizeof path, "%s/copy.db", d->folder);
    snprintf(command, sizeof command, "cp %s/backpropd.db %s && cp %s/backpropd.db-wal %s-wal",
             d->data, path, d->data, path);
    if (system(command) || sqlite3_open(path, &db))
        return 0;
    sqlite3_prepare_v2(db,
                       "SELECT id FROM versions WHERE state = 'writing' AND kind = ?1 AND id > ?2",
                       -1, &row, NULL);
    sqlite3_bind_text(row, 1, kind, -1, SQLITE_STATIC);
    sqlite3_bind_int64(row, 2, *last_io);
    while (sqlite3_step(row) == SQLITE_ROW) {
        *last_io = sqlite3_column_int64(row, 0);
        n++;
    }
    sqlite3_finalize(row);
    sqlite3_close(db);
    return n;
}

static void count_hits(struct hits *h, const struct daemon *d, const struct subject *s,
                       const struct faults *f, bool chosen, int64_t last[2])
{
    int step = 0;
    for (int i = 0; i < MODELS; i++) {
        if (s[i].has_lost)
            h->lost[s[i].lost.ask]++;
        else
            h->idle++;
        step |= s[i].has_lost && s[i].lost.ask <= ASK_ZERO;
    }
    h->step += step;
    h->version += being_written(d, "version", &last[0]) > 0;
    h->checkpoint += being_written(d, "checkpoint", &last[1]) > 0 ||
                     (chosen && f->struck && f->hit_kind == FAULT_UNLINK);
    if (chosen)
        count_point(h, f);
}

/* Kills while the daemon starts and replays: at a chosen call, or after a random time. */
static void kill_starts(struct daemon *d, struct subject *s, struct faults *f, struct hits *h)
{
    for (int n = (int)(next_random(s) % 3); n > 0; n--) {
        struct faults at = choose_point(s, true);
        bool chosen = next_random(s) % 2;
        if (chosen)
            faults_arm_start(f, &at);
        faults_spawn(d, d->flags);
        if (chosen)
            wait_for_end(d, 100);
        else
            sleep_ms(next_random(s) % 40);
        if (d->pid)
            daemon_kill(d);
        faults_disarm(f);
        h->start++;
        if (chosen)
            count_point(h, f);
    }
}

static void check_folder(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, (const char *const[]){"check", d->data, NULL});
    if (o.status)
        fail_msg("backpropd check: %s %s", o.out, o.err);
}

static void print_hits(const struct hits *h, int n, const struct subject *s)
{
    print_message(
        "%d kills at work, %d of them at a step, %d at a checkpoint, %d at a version being "
        "written; %d kills at start; %d changes kept\n",
        n, h->step, h->checkpoint, h->version, h->start, s[0].n_done + s[1].n_done);
    for (int i = 0; i < POINTS; i++)
        print_message("  %4d at a %s\n", h->kinds[i], points[i].name);
    for (int i = 0; i < ASKS; i++)
        print_message("  %4d answers lost: %s %s\n", h->lost[i], asks[i].method, asks[i].rest);
}

/* The second daemon, in the first one's folder. */
static struct daemon start_oracle(const struct daemon *d, const char *const *flags)
{
    struct daemon oracle = *d;
    oracle.pid = 0;
    oracle.client = NULL;
    snprintf(oracle.folder, sizeof oracle.folder, "%.240s/oracle", d->folder);
    snprintf(oracle.data, sizeof oracle.data, "%s/data", oracle.folder);
    assert_int_equal(mkdir(oracle.folder, 0700), 0);
    daemon_start(&oracle, flags);
    return oracle;
}

static void one_kill(struct daemon *d, struct daemon *oracle, struct subject *s, struct faults *f,
                     struct hits *h, int64_t last[2], bool check)
{
    struct faults at = choose_point(s, false);
    bool chosen = next_random(s) % 2;
    work_and_kill(d, s, f, chosen ? &at : NULL);
    faults_disarm(f);
    count_hits(h, d, s, f, chosen, last);
    kill_starts(d, s, f, h);
    if (check)
        check_folder(d);
    faults_start(d, d->flags, NULL);
    for (int i = 0; i < MODELS; i++)
        check_subject(d, oracle, &s[i]);
}

static void kills(struct daemon *d)
{
    static const char *const flags[] = {"--redo-bytes", "64K", "--log-level", "warn", NULL};
    static struct subject s[MODELS] = {
        {.name = "crash0", .description = remote_cnn, .pixels = 36, .random = 1},
        {.name = "crash1", .description = remote_mlp, .pixels = 4, .random = 2},
    };
    const char *asked = getenv("CRASH_KILLS");
    int n = asked ? atoi(asked) : SHORT_KILLS;
    struct hits h = {0};
    int64_t last[2] = {0};
    if (!faults_possible())
        skip();
    struct daemon oracle = start_oracle(d, flags);
    daemon_stop(d);
    struct faults *f = faults_create(d);
    faults_start(d, d->flags, NULL);
    for (int i = 0; i < MODELS; i++) {
        s[i].done = calloc(MAX_ENTRIES, sizeof *s[i].done);
        remote_create(d->client, s[i].name, s[i].description);
        remote_create(oracle.client, s[i].name, s[i].description);
    }
    /* One of them is to survive more than the process: its log is synced. */
    remote_call(d->client, "PATCH", "crash1", "", "{\"durability\":\"power\"}");
    remote_call(oracle.client, "PATCH", "crash1", "", "{\"durability\":\"power\"}");
    s[1].revision = 1;
    for (int k = 0; k < n; k++) {
        one_kill(d, &oracle, s, f, &h, last, k % 50 == 49 || k == n - 1);
    }
    print_hits(&h, n, s);
    assert_int_equal(h.idle, 0);
    daemon_stop(&oracle);
    client_destroy(&oracle.client);
    faults_destroy(&f);
    for (int i = 0; i < MODELS; i++)
        free(s[i].done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(kills, "--redo-bytes", "64K", "--log-level", "warn"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
