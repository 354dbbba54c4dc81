/* test_keys.c: who may do what on a daemon whose data folder has keys: every route with every role,
 * models that a key may see, quotas, making and revoking, what is written down of who did what. */
#include "keys_fixture.h"

#include "../../server/routes.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char step[] = "{\"inputs\":[[1]],\"targets\":[[2]]}";

/* ---- every route with every role ------------------------------------------------------------- */

/* The path with something for each {name}: a model that is not there, so that nothing happens. */
static void fill_path(const char *pattern, char *out, size_t size)
{
    size_t n = 0;
    for (const char *p = pattern; *p && n + 8 < size; p++) {
        if (*p != '{') {
            out[n++] = *p;
            continue;
        }
        n += (size_t)sprintf(out + n, "%s", strncmp(p, "{file}", 6) ? "none" : "app.js");
        p += strcspn(p, "}");
    }
    out[n] = 0;
}

static void every_route(struct daemon *d)
{
    struct key_text keys[] = {
        {""}, add_key(d, "r", "read", NULL, NULL), add_key(d, "t", "train", NULL, NULL), {""}};
    keys[ROLE_ADMIN] = close_door(d);
    int refused = 0, passed = 0;
    for (const struct route *r = routes; r->method; r++)
        for (int role = ROLE_NONE; role <= ROLE_ADMIN; role++) {
            char path[256];
            fill_path(r->pattern, path, sizeof path);
            bool body = r->flags & (ROUTE_BODY | ROUTE_BODY_OPTIONAL | ROUTE_RAW);
            struct answer *a = ask(d, keys[role], r->method, path, body ? "[" : NULL, NULL);
            int expected = role >= (int)r->role ? 0 : role ? 403 : 401;
            bool denied = a->status == 401 || a->status == 403;
            if (expected ? a->status != expected : denied || a->status >= 500)
                fail_msg("%s %s with role %d: %d %s", r->method, path, role, a->status, a->body);
            if (expected)
                assert_non_null(answer_header(a, "WWW-Authenticate"));
            refused += expected != 0;
            passed += expected == 0;
        }
    assert_true(refused > 60 && passed > 60);
}

/* Of those that anybody may call, these are all that there are. */
static void open_routes(struct daemon *d)
{
    static const char *const open[] = {"/", "/dashboard/{file}", "/v2/routes", "/v2/health/live",
                                       "/v2/health/ready"};
    size_t n = 0;
    close_door(d);
    for (const struct route *r = routes; r->method; r++) {
        bool known = false;
        for (size_t i = 0; i < sizeof open / sizeof *open; i++)
            known |= !strcmp(open[i], r->pattern);
        if (known != (r->role == ROLE_NONE))
            fail_msg("%s %s", r->method, r->pattern);
        n += known;
    }
    assert_int_equal(n, sizeof open / sizeof *open);
    answer_refused(client_get(d->client, "/metrics"), 401, "unauthorized", "Bearer bpd_");
    answer_refused(client_get(d->client, "/v2/models/m/events"), 401, "unauthorized", NULL);
}

/* ---- a key's form ---------------------------------------------------------------------------- */

static void wrong_keys(struct daemon *d)
{
    struct key_text root = close_door(d), bad = root;
    static const char *const headers[] = {
        "Authorization: Basic cm9vdDpyb290", "Authorization: Bearer",
        "Authorization:", "Authorization: Bearer bpd_", "X-Api-Key: x"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        answer_refused(ask(d, (struct key_text){""}, "GET", "/v2", NULL, headers[i]), 401,
                       "unauthorized", NULL);
    bad.text[76] = bad.text[76] == '0' ? '1' : '0';
    answer_refused(ask(d, bad, "GET", "/v2", NULL, NULL), 401, "unauthorized", "not one");
    bad.text[76] = 0;
    answer_refused(ask(d, bad, "GET", "/v2", NULL, NULL), 401, "unauthorized", "not one");
    char lower[120];
    snprintf(lower, sizeof lower, "authorization: bearer  %s", root.text);
    answer_expect(ask(d, (struct key_text){""}, "GET", "/v2", NULL, lower), 200);
}

/* Neither the file nor the log has the key itself, and the file is the owner's alone. */
static void not_kept(struct daemon *d)
{
    struct key_text root = close_door(d);
    static const char *const files[] = {"%s/data/keys.json", "%s/log"};
    for (size_t i = 0; i < 2; i++) {
        char path[320];
        static char text[65536];
        struct stat st;
        snprintf(path, sizeof path, files[i], d->folder);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = 0;
        fclose(f);
        assert_null(strstr(text, root.text + 13));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
    }
}

/* Tries with this key until one has to wait; fails when none has to. */
static struct answer *try_until_refused(struct daemon *d, struct key_text k)
{
    for (int i = 0; i < 1000; i++) {
        struct answer *a = ask(d, k, "GET", "/v2", NULL, NULL);
        if (a->status == 429)
            return a;
    }
    fail_msg("no request was answered 429");
    return NULL;
}

/* Failed tries have to wait; who has a key does not. */
static void tries_are_slowed(struct daemon *d)
{
    struct key_text other = add_key(d, "other", "read", NULL, NULL);
    struct key_text root = close_door(d), bad = {"bpd_00000000_0"};
    struct answer *a = try_until_refused(d, bad);
    answer_refused(a, 429, "rate_limited", "not in force");
    assert_true(atoi(answer_header(a, "Retry-After")) >= 1);
    answer_expect(ask(d, root, "GET", "/v2", NULL, NULL), 200);
    a = ask(d, root, "GET", "/metrics", NULL, NULL);
    assert_null(strstr(a->body, "refused_total{reason=\"throttled\"} 0"));
    assert_null(strstr(a->body, "refused_total{reason=\"invalid\"} 0"));
    /* Guesses at a key whose id is known stand in the way of that key only, even when it comes. */
    bad = root;
    bad.text[20] = bad.text[20] == '0' ? '1' : '0';
    int status = 200;
    for (int i = 0; i < 20 && status == 200; i++) { /* the wait may be over before it is asked */
        try_until_refused(d, bad);
        status = ask(d, root, "GET", "/v2", NULL, NULL)->status;
    }
    assert_int_equal(status, 429);
    answer_expect(ask(d, other, "GET", "/v2", NULL, NULL), 200);
}

/* ---- models that a key may see --------------------------------------------------------------- */

static void make_models(struct daemon *d, struct key_text k, const char *const *names)
{
    char path[80];
    for (int i = 0; names[i]; i++) {
        snprintf(path, sizeof path, "/v2/models/%s", names[i]);
        answer_expect(ask(d, k, "PUT", path, remote_scalar, NULL), 201);
    }
}

/* Questions are for all, but recording one changes what others see. */
static void recording(struct daemon *d)
{
    static const char path[] = "/v2/models/m/evaluate";
    static const char asked[] = "{\"inputs\":[[1]],\"targets\":[[2]],"
                                "\"parameters\":{\"record\":%s}}";
    char yes[120], no[120];
    struct key_text reader = add_key(d, "reader", "read", NULL, NULL);
    struct key_text trainer = add_key(d, "trainer", "train", NULL, NULL);
    struct key_text root = close_door(d);
    snprintf(yes, sizeof yes, asked, "true");
    snprintf(no, sizeof no, asked, "false");
    make_models(d, root, WORDS("m"));
    answer_refused(ask(d, reader, "POST", path, yes, NULL), 403, "forbidden",
                   "parameters.record needs the role train, the key 'reader' has read");
    answer_expect(ask(d, reader, "POST", path, no, NULL), 200);
    struct answer *a = ask(d, reader, "GET", "/v2/models/m/metrics", NULL, NULL);
    assert_null(answer_find(a, "series.val_loss"));
    answer_expect(ask(d, trainer, "POST", path, yes, NULL), 200);
    a = ask(d, reader, "GET", "/v2/models/m/metrics", NULL, NULL);
    assert_non_null(answer_find(a, "series.val_loss"));
}

static void scopes(struct daemon *d)
{
    struct key_text team = add_key(d, "team", "admin", "--models", "a-*,b?");
    struct key_text root = close_door(d);
    make_models(d, root, WORDS("a-one", "b2", "b22", "c"));
    static const char *const lists[][2] = {{"GET", "/v2/models"},
                                           {"POST", "/v2/repository/index"},
                                           {"GET", "/v2/models/stats"},
                                           {"GET", "/metrics"}};
    for (size_t i = 0; i < 4; i++) {
        struct answer *a = ask(d, team, lists[i][0], lists[i][1], NULL, NULL);
        answer_expect(a, 200);
        assert_non_null(strstr(a->body, "\"a-one\""));
        assert_non_null(strstr(a->body, "\"b2\""));
        assert_null(strstr(a->body, "\"b22\""));
        assert_null(strstr(a->body, "\"c\""));
        assert_non_null(strstr(ask(d, root, lists[i][0], lists[i][1], NULL, NULL)->body, "\"c\""));
    }
    answer_expect(ask(d, team, "GET", "/v2/models/b2", NULL, NULL), 200);
    /* The same for one that is not there, and %-encoding is no way around. */
    answer_refused(ask(d, team, "GET", "/v2/models/c", NULL, NULL), 403, "forbidden", "'team'");
    answer_refused(ask(d, team, "GET", "/v2/models/%63", NULL, NULL), 403, "forbidden", NULL);
    answer_refused(ask(d, team, "GET", "/v2/models/none", NULL, NULL), 403, "forbidden", NULL);
    answer_refused(ask(d, team, "GET", "/v2/models/c/events", NULL, NULL), 403, "forbidden", NULL);
    answer_refused(ask(d, team, "PUT", "/v2/models/c", remote_scalar, NULL), 403, "forbidden",
                   NULL);
    answer_refused(ask(d, team, "POST", "/v2/models/b2/clone", "{\"name\":\"c2\"}", NULL), 403,
                   "forbidden", "c2");
    answer_expect(ask(d, team, "POST", "/v2/models/b2/clone", "{\"name\":\"a-2\"}", NULL), 201);
    struct answer *a = ask(d, team, "GET", "/v2/models/b3", NULL, NULL);
    answer_refused(a, 404, "unknown_model", "no model 'b3'");
    assert_null(strstr(a->body, "b22")); /* not the nearest */
    answer_refused(ask(d, team, "POST", "/v2/keys", "{\"name\":\"x\",\"role\":\"read\"}", NULL),
                   403, "forbidden", "scope");
    answer_refused(ask(d, team, "GET", "/v2/keys", NULL, NULL), 403, "forbidden", "scope");
    answer_refused(ask(d, team, "DELETE", "/v2/keys/root", NULL, NULL), 403, "forbidden", "scope");
}

/* ---- quotas ---------------------------------------------------------------------------------- */

static void quotas(struct daemon *d)
{
    struct key_text few = add_key(d, "few", "admin", "--max-models", "2");
    struct key_text small = add_key(d, "small", "admin", "--max-bytes", "3000");
    struct key_text slow = add_key(d, "slow", "read", "--requests-per-second", "2");
    struct key_text root = close_door(d);
    make_models(d, root, WORDS("r1", "r2"));
    make_models(d, few, WORDS("f1", "f2"));
    answer_refused(ask(d, few, "PUT", "/v2/models/f3", remote_scalar, NULL), 403, "quota_exceeded",
                   "2 models already");
    answer_refused(ask(d, few, "POST", "/v2/models/f1/clone", "{\"name\":\"f3\"}", NULL), 403,
                   "quota_exceeded", NULL);
    answer_expect(ask(d, few, "PUT", "/v2/models/f2", remote_scalar, NULL), 200);
    answer_expect(ask(d, few, "DELETE", "/v2/models/f1", NULL, NULL), 200);
    make_models(d, few, WORDS("f3"));
    answer_refused(ask(d, small, "PUT", "/v2/models/s", remote_cnn, NULL), 403, "quota_exceeded",
                   "its quota is 3000");
    make_models(d, small, WORDS("s"));
    struct answer *a = try_until_refused(d, slow);
    answer_refused(a, 429, "rate_limited", "2 requests a second");
    assert_int_equal(atoi(answer_header(a, "Retry-After")), 1);
    /* What a key has counts again after a restart. */
    daemon_stop(d);
    daemon_start(d, d->flags);
    answer_refused(ask(d, few, "PUT", "/v2/models/f4", remote_scalar, NULL), 403, "quota_exceeded",
                   NULL);
}

/* A larger optimiser makes a larger model. */
static void quota_of_a_change(struct daemon *d)
{
    struct key_text root = close_door(d);
    char path[64], words[200];
    make_models(d, root, WORDS("big"));
    struct answer *a = ask(d, root, "GET", "/v2/models/big", NULL, NULL);
    double bytes = answer_number(a, "memory_bytes.model");
    snprintf(words, sizeof words, "{\"name\":\"k\",\"role\":\"admin\",\"max_bytes\":%.0f}", bytes);
    a = ask(d, root, "POST", "/v2/keys", words, NULL);
    answer_expect(a, 201);
    struct key_text k;
    snprintf(k.text, sizeof k.text, "%s", answer_string(a, "key"));
    make_models(d, k, WORDS("mine"));
    snprintf(path, sizeof path, "/v2/models/mine");
    answer_expect(ask(d, k, "PATCH", path, "{\"lr\":0.5}", NULL), 200);
    answer_refused(ask(d, k, "PATCH", path, "{\"optimizer\":{\"op\":\"adam\",\"lr\":0.1}}", NULL),
                   403, "quota_exceeded", NULL);
    answer_expect(ask(d, root, "PATCH", path, "{\"optimizer\":{\"op\":\"adam\",\"lr\":0.1}}", NULL),
                  200);
}

/* ---- making and revoking --------------------------------------------------------------------- */

static void by_api(struct daemon *d)
{
    struct key_text none = {""};
    answer_refused(ask(d, none, "POST", "/v2/keys", "{\"name\":\"x\",\"role\":\"admin\"}", NULL),
                   403, "forbidden", "keys add");
    answer_expect(client_get(d->client, "/v2/keys"), 200);
    struct key_text root = close_door(d), k;
    static const struct {
        const char *body;
        int status;
        const char *code;
    } bad[] = {
        {"{\"name\":\"x\"}", 400, "missing_field"},
        {"{\"name\":\"x\",\"role\":\"god\"}", 422, "bad_value"},
        {"{\"name\":\"a b\",\"role\":\"read\"}", 400, "bad_name"},
        {"{\"name\":\"x\",\"role\":\"read\",\"models\":[]}", 422, "bad_value"},
        {"{\"name\":\"x\",\"role\":\"read\",\"models\":[\"a b\"]}", 422, "bad_value"},
        {"{\"name\":\"x\",\"role\":\"read\",\"models\":[1]}", 422, "bad_value"},
        {"{\"name\":\"x\",\"role\":\"read\",\"max_models\":0}", 422, "bad_value"},
        {"{\"name\":\"x\",\"role\":\"read\",\"key\":\"mine\"}", 400, "unknown_field"},
        {"{\"name\":\"root\",\"role\":\"read\"}", 409, "key_exists"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        answer_refused(ask(d, root, "POST", "/v2/keys", bad[i].body, NULL), bad[i].status,
                       bad[i].code, NULL);
    struct answer *a = ask(d, root, "POST", "/v2/keys",
                           "{\"name\":\"x\",\"role\":\"train\",\"models\":[\"m*\"]}", NULL);
    answer_expect(a, 201);
    assert_string_equal(answer_header(a, "Cache-Control"), "no-store");
    snprintf(k.text, sizeof k.text, "%s", answer_string(a, "key"));
    a = ask(d, root, "GET", "/v2/keys", NULL, NULL);
    assert_null(strstr(a->body, k.text + 13));
    assert_null(strstr(a->body, "sha256"));
    assert_non_null(strstr(a->body, "\"name\":\"x\",\"role\":\"train\",\"models\":[\"m*\"]"));
    answer_expect(ask(d, k, "GET", "/v2", NULL, NULL), 200);
    answer_refused(ask(d, root, "DELETE", "/v2/keys/y", NULL, NULL), 404, "unknown_key", "'y'");
    answer_expect(ask(d, root, "DELETE", "/v2/keys/x", NULL, NULL), 200);
    answer_expect(ask(d, k, "GET", "/v2", NULL, NULL), 401);
}

/* Revoking the last key closes the door, and so does nothing else open it. */
static void by_command(struct daemon *d)
{
    struct outcome o;
    struct key_text root = close_door(d);
    char path[320];
    daemon_command(d, &o, WORDS("keys", "list", d->data));
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.out, "root"));
    assert_null(strstr(o.out, root.text + 13));
    daemon_command(d, &o, WORDS("keys", "revoke", "--name", "rot", d->data));
    assert_int_equal(o.status, 1);
    daemon_command(d, &o, WORDS("keys", "revoke", "--name", "root", d->data));
    assert_int_equal(o.status, 0);
    answer_expect(ask(d, root, "GET", "/v2", NULL, NULL), 200); /* until SIGHUP */
    hang_up_until(d, root, 401);
    answer_expect(client_get(d->client, "/v2"), 401);
    daemon_stop(d);
    daemon_start(d, d->flags);
    answer_expect(client_get(d->client, "/v2"), 401);
    snprintf(path, sizeof path, "%s/keys.json", d->data);
    unlink(path);
    root = add_key(d, "root", "admin", NULL, NULL);
    hang_up_until(d, root, 200);
    unlink(path);
    kill(d->pid, SIGHUP);
    struct key_text next = add_key(d, "next", "read", NULL, NULL);
    hang_up_until(d, next, 200);
    answer_expect(client_get(d->client, "/v2"), 401);
}

static void commands_refused(struct daemon *d)
{
    static const char *const rows[][10] = {
        {"keys"},
        {"keys", "add"},
        {"keys", "make", "--name", "x"},
        {"keys", "add", "--name", "x", "DIR"},
        {"keys", "add", "--name", "x", "--role", "god", "DIR"},
        {"keys", "add", "--name", "x", "--role", "read", "--key", "bpd_", "DIR"},
        {"keys", "add", "--name", "x", "--role", "read", "--max-models", "many", "DIR"},
        {"keys", "add", "--name", "x", "--role", "read", "DIR", "DIR"},
        {"keys", "list", "--name", "x", "DIR"},
        {"keys", "revoke", "DIR"},
    };
    struct outcome o;
    struct stat st;
    char file[320];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *words[11] = {NULL};
        for (int k = 0; rows[i][k]; k++)
            words[k] = strcmp(rows[i][k], "DIR") ? rows[i][k] : d->data;
        daemon_command(d, &o, words);
        if (o.status != 2 || !strstr(o.err, "backpropd keys: "))
            fail_msg("row %zu: status %d, %s%s", i, o.status, o.out, o.err);
    }
    snprintf(file, sizeof file, "%s/keys.json", d->data);
    assert_int_equal(stat(file, &st), -1);
    add_key(d, "x", "read", NULL, NULL);
    chmod(file, 0620);
    daemon_command(d, &o, WORDS("keys", "list", d->data));
    assert_int_equal(o.status, 1);
    assert_non_null(strstr(o.err, "chmod 600"));
}

/* A file that cannot be read leaves the keys that there are; at start it is an end. */
static void damaged_file(struct daemon *d)
{
    struct key_text root = close_door(d);
    struct outcome o;
    char path[320];
    snprintf(path, sizeof path, "%s/keys.json", d->data);
    FILE *f = fopen(path, "w");
    fputs("{\"keys\":[{\"name\":\"root\",\"role\":\"admin\"}]}", f);
    fclose(f);
    kill(d->pid, SIGHUP);
    for (int i = 0; i < 20; i++)
        answer_expect(ask(d, root, "GET", "/v2", NULL, NULL), 200);
    daemon_stop(d);
    daemon_command(d, &o, WORDS("--listen", "127.0.0.1:0", "--data", d->data));
    assert_int_equal(o.status, 1);
    assert_non_null(strstr(o.err, "keys[0]"));
    unlink(path);
    daemon_start(d, d->flags);
}

/* Calls f in another process, a moment from now, while this one reads. */
static void soon(struct daemon *d, struct key_text k,
                 void (*f)(struct daemon *d, struct key_text k))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child)
        return;
    struct daemon other = *d;
    nanosleep(&(struct timespec){0, 500000000}, NULL);
    other.client = client_create(d->address);
    f(&other, k);
    _exit(0);
}

static void revoke_k(struct daemon *d, struct key_text root)
{
    ask(d, root, "DELETE", "/v2/keys/k", NULL, NULL);
}

static void want_keys(struct daemon *d, struct key_text none)
{
    (void)none;
    add_key(d, "k", "read", NULL, NULL);
    kill(d->pid, SIGHUP);
}

/* Reads a stream of events until the daemon ends it. */
static void read_stream(struct daemon *d, struct key_text k)
{
    char request[300];
    snprintf(request, sizeof request,
             "GET /v2/models/m/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
             "Connection: close\r\n\r\n",
             k.text);
    struct answer *a = client_raw(d->client, request, strlen(request), false, 20000);
    assert_int_equal(a->status, 200);
    assert_non_null(strstr(a->body, "\r\n0\r\n\r\n")); /* its last chunk: it was not cut off */
}

/* Streams end with the right to them: when the first key is made, and when theirs is revoked. */
static void streams_end(struct daemon *d)
{
    remote_create(d->client, "m", remote_scalar);
    soon(d, (struct key_text){""}, want_keys);
    read_stream(d, (struct key_text){""});
    struct key_text root = close_door(d);
    hang_up_until(d, root, 200);
    answer_expect(ask(d, root, "DELETE", "/v2/keys/k", NULL, NULL), 200);
    struct key_text k = add_key(d, "k", "read", NULL, NULL);
    hang_up_until(d, k, 200);
    soon(d, root, revoke_k);
    read_stream(d, k);
    answer_expect(ask(d, k, "GET", "/v2", NULL, NULL), 401);
}

/* ---- who did what ---------------------------------------------------------------------------- */

static void who(struct daemon *d)
{
    struct key_text ann = add_key(d, "ann", "train", NULL, NULL), root = close_door(d);
    make_models(d, root, WORDS("m"));
    answer_expect(ask(d, ann, "POST", "/v2/models/m/train_step", step, NULL), 200);
    answer_expect(ask(d, ann, "POST", "/v2/models/m/versions", "{}", NULL), 201);
    answer_expect(ask(d, ann, "PUT", "/v2/models/m/aliases/prod",
                      "{\"version\":1,\"who\":\"bob\",\"why\":\"good\"}", NULL),
                  201);
    for (int restart = 0; restart < 2; restart++) {
        struct answer *a = ask(d, root, "GET", "/v2/models/m", NULL, NULL);
        assert_string_equal(answer_string(a, "who"), "root");
        a = ask(d, root, "GET", "/v2/models/m/versions/1", NULL, NULL);
        assert_string_equal(answer_string(a, "who"), "ann");
        a = ask(d, root, "GET", "/v2/models/m/aliases", NULL, NULL);
        assert_string_equal(answer_string(a, "moves.0.who"), "ann");
        daemon_kill(d);
        daemon_start(d, d->flags);
    }
}

/* A copy of the folder wants the same keys. */
static void backup(struct daemon *d)
{
    struct key_text root = close_door(d);
    struct outcome o;
    char target[320];
    snprintf(target, sizeof target, "%s/copy", d->folder);
    daemon_command(d, &o, WORDS("backup", d->data, target));
    assert_int_equal(o.status, 0);
    daemon_stop(d);
    snprintf(d->data, sizeof d->data, "%s/copy", d->folder);
    daemon_start(d, d->flags);
    answer_expect(client_get(d->client, "/v2"), 401);
    answer_expect(ask(d, root, "GET", "/v2", NULL, NULL), 200);
}

/* With keys it may listen anywhere, without --allow-anonymous. */
static void listens(struct daemon *d)
{
    add_key(d, "root", "admin", NULL, NULL);
    daemon_stop(d);
    daemon_start(d, WORDS("--listen", "0.0.0.0:0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(every_route),  DAEMON_TEST(open_routes),      DAEMON_TEST(wrong_keys),
        DAEMON_TEST(not_kept),     DAEMON_TEST(tries_are_slowed), DAEMON_TEST(recording),
        DAEMON_TEST(scopes),       DAEMON_TEST(quotas),           DAEMON_TEST(quota_of_a_change),
        DAEMON_TEST(by_api),       DAEMON_TEST(by_command),       DAEMON_TEST(commands_refused),
        DAEMON_TEST(damaged_file), DAEMON_TEST(streams_end),      DAEMON_TEST(who),
        DAEMON_TEST(backup),       DAEMON_TEST(listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
