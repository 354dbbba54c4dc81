/* test_commands.c: the command line beyond its flags: environment, configuration file, and
 * the commands that look after a data folder. */
#define _GNU_SOURCE /* memmem */
#include "../support/remote.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char step[] = "{\"inputs\":[[1]],\"targets\":[[2]]}";

struct path {
    char text[320];
};
static struct path path_in(const struct daemon *d, const char *name)
{
    struct path p;
    snprintf(p.text, sizeof p.text, "%s/%s", d->folder, name);
    return p;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect_outcome(const struct outcome *o, int status, const char *part)
{
    if (o->status != status || (!strstr(o->err, part) && !strstr(o->out, part)))
        fail_msg("status %d, expected %d and '%s' in: %s%s", o->status, status, part, o->out,
                 o->err);
}

/* ---- where flags come from ------------------------------------------------------------------- */

/* Larger bodies than that are refused. */
static bool body_limit_is(struct daemon *d, int bytes)
{
    char body[200];
    memset(body, ' ', sizeof body);
    struct call call = {.method = "POST", .path = "/v2/autograd", .body = body};
    call.size = (size_t)bytes;
    bool fits = client_send(d->client, &call)->status == 400;
    call.size++;
    return fits && client_send(d->client, &call)->status == 413;
}

/* The line goes before the environment, that before the file. */
static void precedence(struct daemon *d)
{
    struct path conf = path_in(d, "conf");
    write_file(conf.text,
               "# limits\n\n  max-body =  100 \nlog-level=debug\nallow-anonymous = true\n");
    daemon_stop(d);
    daemon_start(d, WORDS("--config", conf.text));
    assert_true(body_limit_is(d, 100));
    daemon_stop(d);
    setenv("BACKPROPD_CONFIG", conf.text, 1);
    daemon_start(d, WORDS(NULL));
    assert_true(body_limit_is(d, 100));
    daemon_stop(d);
    setenv("BACKPROPD_MAX_BODY", "90", 1);
    setenv("BACKPROPD_SERVICE_HOST", "10.0.0.1", 1); /* what a platform may set */
    daemon_start(d, WORDS(NULL));
    assert_true(body_limit_is(d, 90));
    daemon_stop(d);
    daemon_start(d, WORDS("--max-body", "80"));
    assert_true(body_limit_is(d, 80));
    unsetenv("BACKPROPD_CONFIG");
    unsetenv("BACKPROPD_MAX_BODY");
    unsetenv("BACKPROPD_SERVICE_HOST");
}

static void sources_refused(struct daemon *d)
{
    static const struct {
        const char *text, *named;
    } rows[] = {
        {"threads = none", "conf:1: threads is 'none'"},
        {"\n# x\nmax-bdy = 1", "conf:3: max-bdy: no flag has this name; did you mean max-body?"},
        {"threads", "conf:1: 'threads', expected name = value"},
        {"help = true", "belongs on the command line"},
        {"config = other", "belongs on the command line"},
        {"allow-anonymous = yes", "expected true or false"},
        {"log-format = xml", "logfmt|json"},
    };
    struct outcome o;
    struct path conf = path_in(d, "conf");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_file(conf.text, rows[i].text);
        daemon_command(d, &o, WORDS("--config", conf.text));
        expect_outcome(&o, 2, rows[i].named);
    }
    daemon_command(d, &o, WORDS("--config", path_in(d, "none").text));
    expect_outcome(&o, 2, "No such file");
    setenv("BACKPROPD_THREADS", "-1", 1);
    daemon_command(d, &o, WORDS("--data", path_in(d, "other").text));
    unsetenv("BACKPROPD_THREADS");
    expect_outcome(&o, 2, "BACKPROPD_THREADS is '-1'");
}

/* A slip in a variable is no setting. What is like no flag belongs to others. */
static void slips_in_variables(struct daemon *d)
{
    static const char *const others[] = {"BACKPROPD_PORT",
                                         "BACKPROPD_PORT_8080_TCP_ADDR",
                                         "BACKPROPD_SERVICE_PORT_HTTP",
                                         "BACKPROPD_KEY",
                                         "BACKPROPD_URL",
                                         "BACKPROPD_VERSION"};
    static const char *const slips[][2] = {{"BACKPROPD_MAX_BDOY", "BACKPROPD_MAX_BODY"},
                                           {"BACKPROPD_MAXBODY", "BACKPROPD_MAX_BODY"},
                                           {"BACKPROPD_THREAD", "BACKPROPD_THREADS"},
                                           {"BACKPROPD_LOGLEVEL", "BACKPROPD_LOG_LEVEL"},
                                           {"BACKPROPD_Listen", "BACKPROPD_LISTEN"}};
    struct outcome o;
    daemon_stop(d);
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        char part[128];
        setenv(slips[i][0], "1", 1);
        daemon_command(d, &o, WORDS("--data", path_in(d, "other").text));
        unsetenv(slips[i][0]);
        snprintf(part, sizeof part, "the environment has %s, which is no flag; did you mean %s?",
                 slips[i][0], slips[i][1]);
        expect_outcome(&o, 2, part);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        setenv(others[i], "1", 1);
    daemon_start(d, WORDS(NULL));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        unsetenv(others[i]);
}

/* Help is what was asked for; wrong usage is a mistake. */
static void help(struct daemon *d)
{
    static const struct {
        const char *words[3], *part;
        int status;
    } rows[] = {
        {{"-h"}, "--max-body", 0},
        {{"--help"}, "--max-body", 0},
        {{"help"}, "--max-body", 0},
        {{"check", "--help"}, "usage: backpropd check DIR", 0},
        {{"backup", "-h"}, "usage: backpropd backup DIR TARGET", 0},
        {{"keys", "--help"}, "keys revoke --name NAME DATA", 0},
        {{"keys", "add", "--help"}, "keys revoke --name NAME DATA", 0},
        {{"bench", "--help"}, "--seconds S", 0},
        {{"check"}, "usage: backpropd check DIR", 2},
        {{"backup", "x"}, "usage: backpropd backup DIR TARGET", 2},
        {{"keys"}, "expected: keys add", 2},
        {{"keys", "add", "DIR"}, "the field 'name' is missing", 2},
        {{"bench", "--nets", "alexnet"}, "no net is called 'alexnet'", 2},
        {{"chekc", "x"}, "unknown argument 'chekc'", 2},
        {{"--bogus"}, "unknown argument '--bogus'", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outcome o;
        const char *const *w = rows[i].words;
        daemon_command(d, &o, WORDS(w[0], w[1], w[2]));
        expect_outcome(&o, rows[i].status, rows[i].part);
        if (!strstr(rows[i].status ? o.err : o.out, rows[i].part) || (!rows[i].status && *o.err))
            fail_msg("row %zu: out: %s err: %s", i, o.out, o.err);
    }
}

/* The man page names every flag and every command that --help names. */
static void man_page(struct daemon *d)
{
    static char page[65536];
    struct outcome o;
    FILE *f = fopen("server/backpropd.1", "r");
    assert_non_null(f);
    size_t n = 0;
    for (int c; (c = fgetc(f)) != EOF && n < sizeof page - 1;)
        if (c != '\\') /* roff writes \- for - */
            page[n++] = (char)c;
    page[n] = 0;
    fclose(f);
    daemon_command(d, &o, WORDS("--help"));
    int flags = 0;
    for (char *at = o.out; (at = strstr(at, "\n  --")); flags++) {
        char name[64];
        at += 3;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " \n"), at);
        if (!strstr(page, name))
            fail_msg("%s is not in server/backpropd.1", name);
    }
    assert_true(flags > 15);
    int commands = 0;
    for (char *at = o.out; (at = strstr(at, "\n       backpropd ")); commands++) {
        char name[64];
        at += 8;
        snprintf(name, sizeof name, "%.*s", 10 + (int)strcspn(at + 10, " "), at);
        if (!strstr(page, name))
            fail_msg("%s is not in server/backpropd.1", name);
    }
    assert_true(commands >= 3);
}

/* ---- check and backup ------------------------------------------------------------------------ */

/* Of a daemon that goes on: the copy has the state of that moment. */
static void backup_online(struct daemon *d)
{
    struct outcome o;
    struct path copy = path_in(d, "copy");
    remote_create(d->client, "m", remote_scalar);
    remote_post(d->client, "m", "train_step", step);
    answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    remote_post(d->client, "m", "train_step", step);
    struct remote_hash then = remote_hash(d->client, "m");
    daemon_command(d, &o, WORDS("backup", d->data, copy.text));
    expect_outcome(&o, 0, "2 records since, 1 versions");
    remote_post(d->client, "m", "train_step", step);
    assert_other_state(then, remote_hash(d->client, "m"));
    daemon_command(d, &o, WORDS("backup", d->data, copy.text));
    expect_outcome(&o, 1, "is there already");
    daemon_command(d, &o, WORDS("check", d->data));
    expect_outcome(&o, 1, "a daemon uses the data folder");
    daemon_command(d, &o, WORDS("check", copy.text));
    expect_outcome(&o, 0, "no damage: 1 models, 1 versions");
    daemon_kill(d);
    daemon_start(d, WORDS("--data", copy.text));
    assert_same_state(then, remote_hash(d->client, "m"));
    assert_true(remote_number(d->client, "m", "step") == 2);
}

struct trainer_thread {
    char address[288];
    pthread_t thread;
    bool stop; /* atomic */
};

static void *train_on(void *arg)
{
    struct trainer_thread *t = arg;
    struct client *c = client_create(t->address);
    while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
        client_try(c, &(struct call){.method = "POST",
                                     .path = "/v2/models/m/train_step",
                                     .body = step,
                                     .size = strlen(step)});
        client_forget(c);
    }
    client_destroy(&c);
    return NULL;
}

/* Steps and checkpoints go on while each copy is made; it has what was answered before. */
static void backup_while_training(struct daemon *d)
{
    struct trainer_thread t = {.stop = false};
    remote_create(d->client, "m", remote_scalar);
    snprintf(t.address, sizeof t.address, "%s", d->address);
    assert_int_equal(pthread_create(&t.thread, NULL, train_on, &t), 0);
    for (int i = 0; i < 6; i++) {
        char name[16];
        struct outcome o;
        unsigned long long at;
        long long records;
        snprintf(name, sizeof name, "copy%d", i);
        double before = remote_number(d->client, "m", "step");
        daemon_command(d, &o, WORDS("backup", d->data, path_in(d, name).text));
        expect_outcome(&o, 0, "no damage");
        if (sscanf(o.out, "model 'm': checkpoint at step %llu, %lld records", &at, &records) != 2)
            fail_msg("cannot read: %s", o.out);
        if ((double)at + (double)records < before)
            fail_msg("%g steps were answered before, the copy has: %s", before, o.out);
    }
    __atomic_store_n(&t.stop, true, __ATOMIC_RELEASE);
    pthread_join(t.thread, NULL);
}

/* Changes bytes in the middle of a file. */
static void damage(const char *path, const char *find, const char *put)
{
    static char text[4 << 20];
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text, f);
    char *at = memmem(text, n, find, strlen(find));
    assert_non_null(at);
    fseek(f, at - text, SEEK_SET);
    fwrite(put, 1, strlen(put), f);
    fclose(f);
}

static void check_finds_damage(struct daemon *d)
{
    struct outcome o;
    char log[400];
    remote_create(d->client, "m", remote_scalar);
    for (int i = 0; i < 3; i++)
        remote_post(d->client, "m", "train_step", step);
    daemon_kill(d);
    daemon_command(d, &o, WORDS("check", d->data));
    expect_outcome(&o, 0, "3 records since");
    snprintf(log, sizeof log, "%s/redo/1/%020d.redo", d->data, 1);
    damage(log, "train_step", "drain_step"); /* the first of three records */
    daemon_command(d, &o, WORDS("check", d->data));
    expect_outcome(&o, 1, "model 'm': the redo log");
    damage(log, "drain_step", "train_step");
    /* What a kill leaves of the last record is no damage, and stays. */
    struct stat before, after;
    assert_int_equal(stat(log, &before), 0);
    assert_int_equal(truncate(log, before.st_size - 8), 0);
    daemon_command(d, &o, WORDS("check", d->data));
    expect_outcome(&o, 0, "2 records since, 0 versions; the last record was cut short");
    assert_int_equal(stat(log, &after), 0);
    assert_int_equal(after.st_size, before.st_size - 8);
    daemon_start(d, d->flags);
}

/* A model that has versions, but no checkpoint: that is damage, and no reason to delete it. */
static void check_misses_a_checkpoint(struct daemon *d)
{
    struct outcome o;
    char path[400];
    sqlite3 *db;
    remote_create(d->client, "m", remote_scalar);
    answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    daemon_stop(d);
    snprintf(path, sizeof path, "%s/backpropd.db", d->data);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "PRAGMA foreign_keys = ON; DELETE FROM versions WHERE kind = 'checkpoint'",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    daemon_command(d, &o, WORDS("check", d->data));
    expect_outcome(&o, 1, "model 'm': it has versions or metrics, but no checkpoint");
    assert_int_not_equal(daemon_try(d, d->flags), 0);
    daemon_command(d, &o, WORDS("check", d->data)); /* nothing was deleted */
    expect_outcome(&o, 1, "model 'm': it has versions or metrics, but no checkpoint");
}

/* A model that an older backpropd took and this one refuses keeps nobody else from starting. */
static void refused_by_now(struct daemon *d)
{
    char path[400];
    sqlite3 *db;
    remote_create(d->client, "m", remote_scalar);
    remote_create(d->client, "other", remote_scalar);
    daemon_stop(d);
    snprintf(path, sizeof path, "%s/backpropd.db", d->data);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "UPDATE models SET description = replace(description, 'linear', 'linnear')"
                     " WHERE name = 'm'; UPDATE versions SET description ="
                     " replace(description, 'linear', 'linnear') WHERE model_id = 1",
                     NULL, NULL, NULL),
        SQLITE_OK);
    sqlite3_close(db);
    daemon_start(d, d->flags);
    remote_post(d->client, "other", "train_step", step);
    answer_refused(remote_call(d->client, "GET", "m", "", NULL), 503, "not_ready", "linnear");
    answer_refused(client_post(d->client, "/v2/repository/models/m/load", NULL), 422,
                   "unknown_operator", "linnear");
}

static void commands_refused(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, WORDS("check"));
    expect_outcome(&o, 2, "usage: backpropd check DIR");
    daemon_command(d, &o, WORDS("backup", d->data));
    expect_outcome(&o, 2, "usage: backpropd backup DIR TARGET");
    daemon_command(d, &o, WORDS("check", path_in(d, "none").text));
    expect_outcome(&o, 1, "is no data folder");
    daemon_command(d, &o, WORDS("chek", d->data));
    expect_outcome(&o, 2, "check backup");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(precedence),
        DAEMON_TEST(sources_refused),
        DAEMON_TEST(man_page),
        DAEMON_TEST(backup_online),
        DAEMON_TEST(check_misses_a_checkpoint),
        DAEMON_TEST(check_finds_damage),
        DAEMON_TEST(backup_while_training, "--redo-bytes", "64K"),
        DAEMON_TEST(slips_in_variables),
        DAEMON_TEST(help),
        DAEMON_TEST(refused_by_now),
        DAEMON_TEST(commands_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
