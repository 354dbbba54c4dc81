/* test_faults.c: a daemon whose calls fail. For each route the n-th write, fsync, read or
 * allocation of the request goes wrong (faults.h), for n = 0, 1, ... until none is left to go
 * wrong:
 *
 *   - the daemon lives and answers: 2xx, or 500, 503 or 507 with a sentence;
 *   - after an error nothing has changed, unless it is answer_lost, which says the opposite;
 *   - when the fault is gone the same request works;
 *   - after a kill -9 the state is the one that was last seen.
 *
 * A connection that is closed without an answer is allowed when no memory is left for one: a client
 * cannot know what became of its request, as after any lost answer. The short form tries every
 * seventh allocation, FAULTS_LONG=1 (make test-faults) every one. */
#include "../support/client_private.h"
#include "../support/faults.h"
#include "../support/remote.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { SHORT_STRIDE = 7, MAX_CALLS = 5000 };

/* ---- requests -------------------------------------------------------------------------------- */

enum body { NO_BODY, A_BATCH, SOME_INPUTS, A_FILE, A_TEXT };
enum prepare { NOTHING, PENDING, NO_PENDING, A_VERSION, AN_ALIAS, TWO_MOVES, A_MODEL };

/* In a path {v} is the version and {n} the number of the model that was prepared, or a new one. */
static const struct row {
    const char *method, *path;
    enum prepare prepare;
    enum body body;
    const char *text;
} rows[] = {
    {"GET", "/v2", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/operators", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/templates", NOTHING, NO_BODY, NULL},
    {"GET", "/openapi.json", NOTHING, NO_BODY, NULL},
    {"GET", "/metrics", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/stats", NOTHING, NO_BODY, NULL},
    {"POST", "/v2/repository/index", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m?state_sha256=1", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/ready", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/stats", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/config", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/metrics", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/weights", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/versions", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/versions/{v}", A_VERSION, NO_BODY, NULL},
    {"GET", "/v2/models/m/versions/{v}/weights", A_VERSION, NO_BODY, NULL},
    {"GET", "/v2/models/m/aliases", NOTHING, NO_BODY, NULL},
    {"GET", "/v2/models/m/aliases/best", AN_ALIAS, NO_BODY, NULL},
    {"POST", "/v2/autograd", NOTHING, A_TEXT,
     "{\"expression\":\"(w*x-10)**2\",\"tensors\":{\"w\":{\"data\":[2],\"requires_grad\":true},"
     "\"x\":{\"data\":[3]}}}"},
    {"POST", "/v2/models/m/infer", NOTHING, SOME_INPUTS, NULL},
    {"POST", "/v2/models/m/versions/{v}/infer", A_VERSION, SOME_INPUTS, NULL},
    {"POST", "/v2/models/m/gradients", NOTHING, A_BATCH, NULL},
    {"POST", "/v2/models/m/evaluate", NOTHING, A_BATCH, NULL},
    {"POST", "/v2/models/m/train_step", NO_PENDING, A_BATCH, NULL},
    {"POST", "/v2/models/m/forward_backward", NOTHING, A_BATCH, NULL},
    {"POST", "/v2/models/m/optim_step", PENDING, NO_BODY, NULL},
    {"POST", "/v2/models/m/zero_grad", PENDING, NO_BODY, NULL},
    {"PATCH", "/v2/models/m", NOTHING, A_TEXT, "{\"lr\":0.01}"},
    {"POST", "/v2/models/m/versions", NOTHING, A_TEXT, "{\"note\":\"n\"}"},
    {"POST", "/v2/models/m/versions/{v}/restore", A_VERSION, NO_BODY, NULL},
    {"DELETE", "/v2/models/m/versions/{v}", A_VERSION, NO_BODY, NULL},
    {"PUT", "/v2/models/m/aliases/a{n}", NOTHING, A_TEXT, "{\"version\":1}"},
    {"POST", "/v2/models/m/aliases/best/rollback", TWO_MOVES, NO_BODY, NULL},
    {"DELETE", "/v2/models/m/aliases/best", AN_ALIAS, NO_BODY, NULL},
    {"PUT", "/v2/models/m/weights", NO_PENDING, A_FILE, NULL},
    {"PUT", "/v2/models/n{n}", NOTHING, A_TEXT, remote_mlp},
    {"POST", "/v2/models/m/clone", NOTHING, A_TEXT, "{\"name\":\"c{n}\"}"},
    {"DELETE", "/v2/models/n{n}", A_MODEL, NO_BODY, NULL},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

struct probe {
    struct daemon *d;
    struct faults *faults;
    int version, number; /* {v} and {n} */
    char *file;          /* a safetensors file of the model's */
    size_t file_size;
    int asked, refused, lost, dropped, failures;
};

/* A copy with {v} and {n} filled in; belongs to the client. */
static const char *fill(const struct probe *p, const char *text)
{
    struct text out = {0};
    for (; *text; text++)
        if (strncmp(text, "{v}", 3) == 0 || strncmp(text, "{n}", 3) == 0) {
            text_add(&out, "%d", text[1] == 'v' ? p->version : p->number);
            text += 2;
        } else {
            text_add(&out, "%c", *text);
        }
    struct answer *keeper = client_answer(p->d->client);
    free(keeper->body);
    return keeper->body = out.data;
}

/* Over a connection of its own: libcurl sends a request again when one that was kept has been
 * closed.
 */
static struct answer *ask(struct probe *p, const struct row *row)
{
    client_destroy(&p->d->client);
    struct client *c = p->d->client = client_create(p->d->address);
    struct call call = {.method = row->method, .path = fill(p, row->path)};
    if (row->body == A_BATCH)
        call.body = remote_batch(c, 7, 4, 4, NULL);
    else if (row->body == SOME_INPUTS)
        call.body = remote_inputs(c, 7, 4, 4, NULL);
    else if (row->body == A_TEXT)
        call.body = fill(p, row->text);
    if (row->body == A_FILE) {
        call.body = p->file;
        call.size = p->file_size;
        call.content_type = "application/octet-stream";
    } else if (call.body) {
        call.size = strlen(call.body);
    }
    return client_try(c, &call);
}

static bool is_pending(struct probe *p)
{
    return json_is_true(answer_find(remote_get(p->d->client, "m", ""), "gradients_pending"));
}

static void set_alias(struct probe *p, int version)
{
    char body[32];
    snprintf(body, sizeof body, "{\"version\":%d}", version);
    struct answer *a = remote_call(p->d->client, "PUT", "m", "/aliases/best", body);
    assert_true(a->status < 300);
}

static void prepare(struct probe *p, const struct row *row)
{
    struct client *c = p->d->client;
    char name[16];
    p->number++;
    if (row->prepare == PENDING && !is_pending(p))
        remote_post(c, "m", "forward_backward", remote_batch(c, 1, 4, 4, NULL));
    if (row->prepare == NO_PENDING && is_pending(p))
        remote_post(c, "m", "zero_grad", NULL);
    if (row->prepare == A_VERSION) {
        struct answer *a = remote_call(c, "POST", "m", "/versions", NULL);
        answer_expect(a, 201);
        p->version = (int)answer_number(a, "version");
    }
    if (row->prepare == TWO_MOVES)
        set_alias(p, 1);
    if (row->prepare == AN_ALIAS || row->prepare == TWO_MOVES)
        set_alias(p, 2);
    snprintf(name, sizeof name, "n%d", p->number);
    if (row->prepare == A_MODEL)
        remote_create(c, name, remote_mlp);
}

/* What must not be left behind: thousands of models and versions make views long. */
static void tidy(struct probe *p, const struct row *row)
{
    struct client *c = p->d->client;
    char rest[64], name[16];
    snprintf(rest, sizeof rest, "/versions/%d", p->version);
    if (row->prepare == A_VERSION)
        remote_call(c, "DELETE", "m", rest, NULL);
    for (const char *kind = "nc"; *kind; kind++) {
        snprintf(name, sizeof name, "%c%d", *kind, p->number);
        if (strstr(row->path, "n{n}") || (row->text && strstr(row->text, "c{n}")))
            remote_call(c, "DELETE", name, "", NULL);
    }
    client_forget(c);
}

/* ---- what is there --------------------------------------------------------------------------- */

/* All that a change could change, as text; the caller frees it. */
static char *view(struct probe *p)
{
    static const char *const fields[] = {"step",         "revision", "draw", "gradients_pending",
                                         "state_sha256", "optimizer"};
    static const char *const lists[] = {"/v2/models/m/versions", "/v2/models/m/aliases?limit=0"};
    struct client *c = p->d->client;
    struct text t = {0};
    struct answer *a = remote_get(c, "m", "?state_sha256=1");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char *value = json_dumps(answer_find(a, fields[i]), JSON_ENCODE_ANY);
        text_add(&t, "%s ", value ? value : "");
        free(value);
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        text_add(&t, "\n%s", client_get(c, lists[i])->body);
    a = client_get(c, "/v2/models");
    for (size_t i = 0; i < json_array_size(answer_find(a, "models")); i++)
        text_add(&t, "\n%s",
                 json_string_value(
                     json_object_get(json_array_get(answer_find(a, "models"), i), "name")));
    return t.data;
}

/* ---- one request with one fault -------------------------------------------------------------- */

static void complain(struct probe *p, const struct row *row, const struct faults *how,
                     const char *what, const char *more)
{
    if (p->failures++ < 20)
        print_error("%s %s, kind %d action %d at call %lld: %s %.600s\n", row->method, row->path,
                    how->kinds, how->action, (long long)how->skip, what, more);
}

static void judge_error(struct probe *p, const struct row *row, const struct faults *how,
                        struct answer *a, const char *before)
{
    char *after = view(p);
    json_t *json = json_loads(a->body, 0, NULL);
    if (a->status != 500 && a->status != 503 && a->status != 507)
        complain(p, row, how, "a fault was answered with", a->body);
    if (a->status >= 400 && !json_string_value(json_object_get(json, "error")))
        complain(p, row, how, "no sentence:", a->body);
    bool lost = strstr(a->body, "\"answer_lost\"") != NULL;
    p->lost += lost;
    if (!lost && strcmp(before, after) != 0) {
        complain(p, row, how, "changed, but answered", a->body);
        if (p->failures < 4)
            print_error("before: %.900s\nafter: %.900s\n", before, after);
    }
    json_decref(json);
    free(after);
    p->refused++;
}

static void revive_if_dead(struct probe *p, const struct row *row, const struct faults *how)
{
    int status;
    if (waitpid(p->d->pid, &status, WNOHANG) != p->d->pid)
        return;
    p->d->pid = 0;
    complain(p, row, how, "the daemon ended", "");
    faults_start(p->d, p->d->flags, NULL);
}

/* Whether the fault came about. */
static bool try_once(struct probe *p, const struct row *row, const struct faults *how)
{
    prepare(p, row);
    char *before = view(p);
    client_forget(p->d->client);
    faults_arm(p->faults, how);
    struct answer *a = ask(p, row);
    faults_disarm(p->faults);
    bool struck = p->faults->struck > 0;
    p->asked++;
    if (!a) {
        p->dropped++;
        revive_if_dead(p, row, how);
    } else if (a->status >= 300) {
        judge_error(p, row, how, a, before);
    }
    free(before);
    tidy(p, row);
    return struck;
}

/* Whatever was struck may have left work that is tried again in the background. */
static void works_again(struct probe *p, const struct row *row)
{
    static const struct faults none = {.kinds = 0};
    prepare(p, row);
    struct answer *a = ask(p, row);
    if (!a || a->status >= 300)
        complain(p, row, &none, "still fails without a fault:", a ? a->body : "");
    tidy(p, row);
}

static void kept_after_a_kill(struct probe *p, const char *what)
{
    char *before = view(p);
    daemon_kill(p->d);
    faults_start(p->d, p->d->flags, NULL);
    char *after = view(p);
    size_t same = 0;
    while (before[same] && before[same] == after[same])
        same++;
    if (strcmp(before, after) != 0)
        fail_msg("%s: after a kill the state has changed from byte %zu on: %.200s\nit was: %.200s",
                 what, same, after + same, before + same);
    free(before);
    free(after);
}

static void every_call(struct probe *p, struct faults how, int stride)
{
    for (int i = 0; i < ROWS; i++) {
        bool more = true;
        for (how.skip = 0; more && how.skip < MAX_CALLS; how.skip += stride)
            more = try_once(p, &rows[i], &how);
        works_again(p, &rows[i]);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static bool is_long(void)
{
    return getenv("FAULTS_LONG") != NULL;
}

static struct probe probe_begin(struct daemon *d)
{
    struct probe p = {.d = d};
    if (!faults_possible())
        skip();
    daemon_stop(d);
    p.faults = faults_create(d);
    faults_start(d, d->flags, NULL);
    remote_create(d->client, "m", remote_mlp);
    for (unsigned i = 0; i < 3; i++) {
        remote_step(d->client, "m", i, 4);
        answer_expect(remote_call(d->client, "POST", "m", "/versions", NULL), 201);
    }
    struct answer *a = remote_get(d->client, "m", "/weights");
    p.file = malloc(a->size);
    p.file_size = a->size;
    memcpy(p.file, a->body, a->size);
    set_alias(&p, 1);
    return p;
}

static void probe_end(struct probe *p)
{
    kept_after_a_kill(p, "at the end");
    print_message("%d requests, %d refused, %d of them after the change, %d without an answer\n",
                  p->asked, p->refused, p->lost, p->dropped);
    faults_destroy(&p->faults);
    free(p->file);
    assert_int_equal(p->failures, 0);
}

enum { DISK = PLACE_REDO | PLACE_WAL | PLACE_DATABASE };

static void a_disk_that_fails(struct daemon *d)
{
    static const struct faults kinds[] = {
        {.kinds = FAULT_WRITE, .error = ENOSPC, .strikes = INT32_MAX},
        {.kinds = FAULT_WRITE, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE, .action = STRIKE_SHORT, .error = ENOSPC, .strikes = 1},
        {.kinds = FAULT_SYNC, .error = EIO, .strikes = 1},
        {.kinds = FAULT_SYNC | FAULT_TRUNCATE | FAULT_UNLINK, .error = EIO, .strikes = INT32_MAX},
        {.kinds = FAULT_READ, .error = EIO, .strikes = 1},
    };
    struct probe p = probe_begin(d);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int power = is_long() ? 0 : k % 2; power < (is_long() ? 2 : (int)k % 2 + 1); power++) {
            struct faults how = kinds[k];
            how.places = DISK;
            remote_call(d->client, "PATCH", "m", "",
                        power ? "{\"durability\":\"power\"}" : "{\"durability\":\"process\"}");
            every_call(&p, how, 1);
            kept_after_a_kill(&p, "after faults of the disk");
        }
    probe_end(&p);
}

static void no_memory(struct daemon *d)
{
    struct probe p = probe_begin(d);
    struct faults how = {.kinds = FAULT_ALLOCATE, .places = PLACE_MEMORY, .strikes = 1};
    every_call(&p, how, is_long() ? 1 : SHORT_STRIDE);
    kept_after_a_kill(&p, "after failed allocations");
    how.strikes = INT32_MAX; /* all that follow too */
    every_call(&p, how, is_long() ? 1 : 5 * SHORT_STRIDE);
    probe_end(&p);
}

/* At start, with steps to replay: it starts or says why it does not, and starts when the fault is
 * gone. */
static void starts_with_faults(struct daemon *d)
{
    struct probe p = probe_begin(d);
    struct faults kinds[] = {
        {.kinds = FAULT_ALLOCATE, .places = PLACE_MEMORY, .strikes = 1},
        {.kinds = FAULT_READ, .places = DISK, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE | FAULT_SYNC, .places = DISK, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE, .places = DISK, .error = ENOSPC, .strikes = INT32_MAX},
    };
    char *before = view(&p);
    int refused = 0, started = 0;
    daemon_kill(d);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        int64_t stride = kinds[k].kinds != FAULT_ALLOCATE ? 1 : is_long() ? 1 : 61;
        do {
            faults_arm_start(p.faults, &kinds[k]);
            int status = faults_try(d, d->flags);
            if (status > 1)
                fail_msg("with call %lld of kind %d failing the daemon ended with %d",
                         (long long)kinds[k].skip, kinds[k].kinds, status);
            refused += status == 1;
            started += status < 0;
            if (status < 0)
                daemon_kill(d);
            kinds[k].skip += stride;
        } while (p.faults->struck);
    }
    print_message("%d starts, %d refused\n", started + refused, refused);
    faults_disarm(p.faults);
    faults_start(d, d->flags, NULL);
    char *after = view(&p);
    assert_string_equal(before, after);
    free(before);
    free(after);
    probe_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(a_disk_that_fails, "--log-level", "error"),
        DAEMON_TEST(no_memory, "--log-level", "error"),
        DAEMON_TEST(starts_with_faults, "--log-level", "error"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
