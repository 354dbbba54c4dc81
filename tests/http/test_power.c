/* test_power.c: the loss of power. A daemon works once, with every change of its files recorded;
 * then, for many moments of that record, a state that the disk may hold when the power fails at
 * that moment (power_cut.h) is made, and a daemon started on it. For the model with durability
 * `power` every step that had been answered is there; the one with `process` may have lost the last
 * ones; each is in a state that it once had, byte for byte, and goes on from there. The store holds
 * each version that had been answered. FAULTS_LONG=1 is the long form (make test-faults). */
#include "../support/faults.h"
#include "../support/power_cut.h"
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 120, SHORT_CUTS = 30, LONG_CUTS = 400, MAX_REVISIONS = 2 * STEPS + 20 };

/* A model as its client knows it. */
struct known {
    const char *name, *durability;
    struct remote_hash hash[MAX_REVISIONS]; /* by revision */
    uint64_t answered[MAX_REVISIONS];       /* bytes of the trace when its answer came */
    int revision;
    uint64_t version[STEPS]; /* the same of versions, by number */
    int versions;
};

static uint64_t trace_size(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static void learn(struct known *k, struct client *c, const char *trace)
{
    uint64_t size = trace_size(trace); /* before the questions, which change nothing */
    int revision = (int)remote_number(c, k->name, "revision");
    assert_in_range(revision, 0, MAX_REVISIONS - 1);
    if (revision == k->revision && k->answered[revision])
        return;
    k->revision = revision;
    k->answered[revision] = size;
    k->hash[revision] = remote_hash(c, k->name);
}

static void create(struct known *k, struct client *c, const char *trace)
{
    char text[64];
    remote_create(c, k->name, remote_mlp);
    snprintf(text, sizeof text, "{\"durability\":\"%s\"}", k->durability);
    answer_expect(remote_call(c, "PATCH", k->name, "", text), 200);
    learn(k, c, trace);
}

static void work(struct known *k, struct client *c, const char *trace, unsigned i)
{
    remote_step(c, k->name, i, 4);
    learn(k, c, trace);
    if (i % 20 == 7) {
        answer_expect(remote_call(c, "POST", k->name, "/versions", NULL), 201);
        k->version[++k->versions] = trace_size(trace);
    }
    if (i % 50 == 49) {
        answer_expect(remote_call(c, "POST", k->name, "/versions/1/restore", NULL), 200);
        learn(k, c, trace);
    }
    client_forget(c);
}

/* The state is one that it had, none that was promised is missing, and it can go on. Whether it has
 * lost steps that were answered. */
static bool check_model(struct client *c, const struct known *k, bool power, uint64_t cut)
{
    int promised = -1, revision = (int)remote_number(c, k->name, "revision"), versions = 0;
    for (int i = 0; i <= k->revision; i++)
        if (k->answered[i] && k->answered[i] <= cut)
            promised = i;
    if (power && revision < promised)
        fail_msg("%s: revision %d was promised, found %d", k->name, promised, revision);
    /* One that lost its last steps skips revisions of which there are metrics: it has the hash of
     * the state before. */
    bool had = false;
    struct remote_hash now = remote_hash(c, k->name);
    for (int i = 0; i <= k->revision; i++)
        had = had || strcmp(k->hash[i].text, now.text) == 0;
    if (!had)
        fail_msg("%s: a state at revision %d that it never had", k->name, revision);
    for (int i = 1; i <= k->versions; i++)
        versions += k->version[i] <= cut;
    assert_in_range(json_array_size(answer_find(remote_get(c, k->name, ""), "versions")), versions,
                    versions + 1);
    remote_step(c, k->name, 1, 4);
    return promised >= 0 && strcmp(k->hash[promised].text, now.text) != 0 &&
           revision != promised + 1;
}

static bool one_cut(struct daemon *d, const char *trace, uint64_t cut, unsigned seed,
                    const struct known *known)
{
    struct daemon after = *d;
    struct outcome o;
    after.pid = 0;
    after.client = NULL;
    snprintf(after.folder, sizeof after.folder, "%.200s/cut%u", d->folder, seed);
    snprintf(after.data, sizeof after.data, "%.280s/data", after.folder);
    mkdir(after.folder, 0700);
    power_cut(trace, cut, d->data, after.data, seed);
    faults_start(&after, d->flags, NULL); /* with the shim, which says that it is another boot */
    check_model(after.client, &known[0], true, cut);
    bool lost = check_model(after.client, &known[1], false, cut);
    daemon_stop(&after);
    daemon_command(&after, &o, (const char *const[]){"check", after.data, NULL});
    if (o.status)
        fail_msg("check after cut %u: %s %s", seed, o.out, o.err);
    client_destroy(&after.client);
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", after.folder);
    assert_int_equal(system(command), 0);
    return lost;
}

static void power_fails(struct daemon *d)
{
    static struct known known[2] = {{.name = "safe", .durability = "power"},
                                    {.name = "quick", .durability = "process"}};
    char trace[320];
    if (!faults_possible())
        skip();
    /* The folder is recorded from its beginning. */
    daemon_stop(d);
    snprintf(trace, sizeof trace, "rm -rf '%s'", d->data);
    assert_int_equal(system(trace), 0);
    snprintf(trace, sizeof trace, "%s/trace", d->folder);
    struct faults *f = faults_create(d);
    faults_start(d, d->flags, trace);
    for (int i = 0; i < 2; i++)
        create(&known[i], d->client, trace);
    uint64_t begin = trace_size(trace);
    for (unsigned i = 0; i < STEPS; i++)
        for (int k = 0; k < 2; k++)
            work(&known[k], d->client, trace, i);
    uint64_t end = trace_size(trace);
    daemon_kill(d);
    unsigned random = 1;
    int lost = 0;
    int cuts = getenv("FAULTS_LONG") ? LONG_CUTS : SHORT_CUTS;
    setenv(FAULTS_BOOT, "1", 1);
    for (int i = 0; i < cuts; i++) {
        random = random * 1664525u + 1013904223u;
        lost += one_cut(d, trace, begin + (uint64_t)random * (end - begin) / UINT32_MAX,
                        (unsigned)i, known);
    }
    unsetenv(FAULTS_BOOT);
    print_message(
        "%d losses of power within %llu bytes of changes; %d of them took steps that nobody "
        "had asked to sync\n",
        cuts, (unsigned long long)(end - begin), lost);
    assert_true(lost > 0); /* else this would prove nothing */
    faults_destroy(&f);
    daemon_start(d, d->flags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(power_fails, "--redo-bytes", "64K", "--log-level", "error"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
