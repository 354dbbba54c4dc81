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
 * seventh allocation, and each one of some requests, FAULTS_LONG=1 (make test-faults) every one.
 * ROUTE=/events tries only routes with that in their path. */
#include "../support/faults.h"
#include "faults_requests.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { SHORT_STRIDE = 7, MAX_CALLS = 5000 };

/* ---- what is there --------------------------------------------------------------------------- */

/* All that a change could change, as text; the caller frees it. */
static char *view(struct probe *p)
{
    static const char *const fields[] = {"step",         "revision", "draw", "gradients_pending",
                                         "state_sha256", "optimizer"};
    static const char *const lists[] = {"/v2/models/m/versions", "/v2/models/m/aliases?limit=0"};
    struct client *c = p->d->client;
    struct text t = {0};
    struct answer *a = p->key ? ask_kept(p, &key_rows[0]) : remote_get(c, "m", "?state_sha256=1");
    if (p->key) {
        answer_expect(a, 200);
        text_add(&t, "%s", a->body);
        return t.data;
    }
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

/* Requests of which the short form tries every call too, for what they have shown: jansson's
 * reading, texts of the store, keys. The ends of their paths. */
static bool tried_whole(const struct row *row)
{
    static const char *const ends[] = {"/restore", "/load", "/m/versions", "/keys"};
    size_t length = strlen(row->path);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (length > strlen(ends[i]) && !strcmp(row->path + length - strlen(ends[i]), ends[i]))
            return true;
    return false;
}

static void every_call(struct probe *p, struct faults how, int stride)
{
    const char *route = getenv("ROUTE");
    for (const struct row *row = p->rows; row->method; row++) {
        bool more = !route || strstr(row->path, route);
        for (how.skip = 0; more && how.skip < MAX_CALLS; how.skip += tried_whole(row) ? 1 : stride)
            more = try_once(p, row, &how);
        works_again(p, row);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static bool is_long(void)
{
    return getenv("FAULTS_LONG") != NULL;
}

static struct probe probe_begin(struct daemon *d)
{
    struct probe p = {.d = d, .rows = model_rows};
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

/* With each durability in turn, or (in the long form) with both. */
static void fail_disk(struct probe *p, int places)
{
    static const struct faults kinds[] = {
        {.kinds = FAULT_WRITE, .error = ENOSPC, .strikes = INT32_MAX},
        {.kinds = FAULT_WRITE, .error = EIO, .strikes = 1},
        {.kinds = FAULT_WRITE, .action = STRIKE_SHORT, .error = ENOSPC, .strikes = 1},
        {.kinds = FAULT_SYNC, .error = EIO, .strikes = 1},
        {.kinds = FAULT_SYNC | FAULT_TRUNCATE | FAULT_UNLINK, .error = EIO, .strikes = INT32_MAX},
        {.kinds = FAULT_READ, .error = EIO, .strikes = 1},
    };
    struct client **c = &p->d->client;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (int power = is_long() ? 0 : k % 2; power < (is_long() ? 2 : (int)k % 2 + 1); power++) {
            struct faults how = kinds[k];
            how.places = places;
            remote_call(*c, "PATCH", "m", "",
                        power ? "{\"durability\":\"power\"}" : "{\"durability\":\"process\"}");
            every_call(p, how, 1);
            kept_after_a_kill(p, "after faults of the disk");
        }
}

static void fail_memory(struct probe *p)
{
    struct faults how = {.kinds = FAULT_ALLOCATE, .places = PLACE_MEMORY, .strikes = 1};
    every_call(p, how, is_long() ? 1 : SHORT_STRIDE);
    kept_after_a_kill(p, "after failed allocations");
    how.strikes = INT32_MAX; /* all that follow too */
    every_call(p, how, is_long() ? 1 : 5 * SHORT_STRIDE);
}

static void a_disk_that_fails(struct daemon *d)
{
    struct probe p = probe_begin(d);
    fail_disk(&p, DISK);
    probe_end(&p);
}

static void no_memory(struct daemon *d)
{
    struct probe p = probe_begin(d);
    fail_memory(&p);
    probe_end(&p);
}

static struct probe others_begin(struct daemon *d)
{
    struct probe p = probe_begin(d);
    p.rows = other_rows;
    remote_create(d->client, "pic",
                  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[-1,3,4,4]}],"
                  "\"preprocess\":{},\"augment\":[\"hflip\"],\"layers\":[{\"op\":\"flatten\"},"
                  "{\"op\":\"linear\",\"out_features\":2}],\"loss\":{\"op\":\"cross_entropy\"}}");
    remote_create(d->client, "det",
                  "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,\"image_size\":64,"
                  "\"channels\":1},\"preprocess\":{\"color\":\"gray\"}}");
    return p;
}

static void others_on_a_disk_that_fails(struct daemon *d)
{
    struct probe p = others_begin(d);
    fail_disk(&p, DISK);
    probe_end(&p);
}

static void others_without_memory(struct daemon *d)
{
    struct probe p = others_begin(d);
    fail_memory(&p);
    probe_end(&p);
}

/* Keys are in a file of their own. */
static void keys_with_faults(struct daemon *d)
{
    struct probe p = probe_begin(d);
    char header[128];
    struct outcome o;
    daemon_command(
        d, &o,
        (const char *const[]){"keys", "add", "--name", "root", "--role", "admin", d->data, NULL});
    assert_int_equal(o.status, 0);
    snprintf(header, sizeof header, "Authorization: Bearer %.*s", (int)strcspn(o.out, "\n"), o.out);
    kill(d->pid, SIGHUP);
    while (client_get(d->client, "/v2")->status != 401)
        client_forget(d->client);
    p.rows = key_rows;
    p.key = header;
    fail_disk(&p, DISK | PLACE_OTHER);
    fail_memory(&p);
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
        DAEMON_TEST(others_on_a_disk_that_fails, "--log-level", "error"),
        DAEMON_TEST(others_without_memory, "--log-level", "error"),
        DAEMON_TEST(keys_with_faults, "--log-level", "error"),
        DAEMON_TEST(starts_with_faults, "--log-level", "error"),
    };
    cmocka_set_test_filter(getenv("ONLY") ? getenv("ONLY") : "*");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
