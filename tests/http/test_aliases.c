/* test_aliases.c: names for versions: moving them, predicting through them, taking a move back, and
 * the ledger; all of it after kill -9 too. */
#include "../support/remote.h"

#include <stdio.h>
#include <string.h>

/* A model with versions 1 to n, each after one more step. */
static void model_with_versions(struct client *c, int n)
{
    remote_create(c, "m", remote_mlp);
    for (int i = 1; i <= n; i++) {
        remote_step(c, "m", (unsigned)i, 4);
        answer_expect(remote_call(c, "POST", "m", "/versions", NULL), 201);
    }
}

static struct answer *alias_set(struct client *c, const char *alias, int version, int status)
{
    char rest[200], body[100];
    snprintf(rest, sizeof rest, "/aliases/%s", alias);
    snprintf(body, sizeof body, "{\"version\":%d,\"who\":\"ann\",\"why\":\"try %d\"}", version,
             version);
    struct answer *a = remote_call(c, "PUT", "m", rest, body);
    answer_expect(a, status);
    return a;
}

static void expect_at(struct client *c, const char *alias, int version)
{
    char rest[200];
    snprintf(rest, sizeof rest, "/aliases/%s", alias);
    assert_true(answer_number(remote_get(c, "m", rest), "version") == version);
}

static void move_and_infer(struct daemon *d)
{
    struct client *c = d->client;
    double by_number[6], by_alias[6];
    const char *question = remote_inputs(c, 3, 2, 4, NULL);
    model_with_versions(c, 2);
    struct answer *a = alias_set(c, "prod", 1, 201);
    assert_true(json_is_null(answer_find(a, "previous_version")));
    for (int version = 1; version <= 2; version++) {
        char verb[40];
        snprintf(verb, sizeof verb, "versions/%d/infer", version);
        remote_numbers(remote_post(c, "m", verb, question), "outputs.0.data", by_number, 6);
        a = remote_post(c, "m", "versions/prod/infer", question);
        remote_numbers(a, "outputs.0.data", by_alias, 6);
        assert_memory_equal(by_number, by_alias, sizeof by_alias);
        snprintf(verb, sizeof verb, "%d", version);
        assert_string_equal(answer_string(a, "model_version"), verb);
        if (version == 1)
            assert_true(answer_number(alias_set(c, "prod", 2, 200), "previous_version") == 1);
    }
    /* Wherever a version's number may stand. */
    assert_true(answer_number(remote_get(c, "m", "/versions/prod"), "version") == 2);
    a = remote_get(c, "m", "/versions/2/weights");
    struct answer *b = remote_get(c, "m", "/versions/prod/weights");
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->body, b->body, a->size);
    remote_step(c, "m", 9, 4);
    a = remote_post(c, "m", "versions/prod/restore", NULL);
    assert_true(answer_number(a, "restored_version") == 2 && answer_number(a, "step") == 2);
    /* The same again moves nothing. */
    assert_true(json_is_false(answer_find(alias_set(c, "prod", 2, 200), "moved")));
    assert_int_equal(json_array_size(answer_find(remote_get(c, "m", "/aliases/prod"), "moves")), 2);
}

static void rollback(struct daemon *d)
{
    struct client *c = d->client;
    model_with_versions(c, 4);
    alias_set(c, "prod", 1, 201);
    alias_set(c, "prod", 2, 200);
    alias_set(c, "prod", 3, 200);
    struct answer *a = remote_post(c, "m", "aliases/prod/rollback", "{\"why\":\"worse\"}");
    assert_true(answer_number(a, "version") == 2 && answer_number(a, "previous_version") == 3);
    alias_set(c, "prod", 4, 200);
    remote_post(c, "m", "aliases/prod/rollback", NULL);
    expect_at(c, "prod", 2);
    daemon_kill(d);
    daemon_start(d, d->flags);
    c = d->client;
    expect_at(c, "prod", 2);
    remote_post(c, "m", "aliases/prod/rollback", NULL);
    expect_at(c, "prod", 1);
    answer_refused(remote_call(c, "POST", "m", "/aliases/prod/rollback", NULL), 409, "conflict",
                   "no earlier version");
    expect_at(c, "prod", 1);
    a = remote_get(c, "m", "/aliases/prod");
    assert_int_equal(json_array_size(answer_find(a, "moves")), 7);
    assert_string_equal(answer_string(a, "moves.0.action"), "rollback");
    assert_string_equal(answer_string(a, "moves.3.why"), "worse");
    assert_string_equal(answer_string(a, "moves.6.who"), "ann");
    assert_string_equal(answer_string(a, "moves.6.why"), "try 1");
    assert_true(json_is_null(answer_find(a, "moves.6.from")));
    assert_true(answer_number(a, "moves.4.from") == 2 && answer_number(a, "moves.4.to") == 3);
    assert_int_equal(
        json_array_size(answer_find(remote_get(c, "m", "/aliases/prod?limit=2"), "moves")), 2);
}

static void named_versions_stay(struct daemon *d)
{
    struct client *c = d->client;
    model_with_versions(c, 3);
    alias_set(c, "prod", 1, 201);
    answer_refused(remote_call(c, "DELETE", "m", "/versions/1", NULL), 409, "conflict", "'prod'");
    answer_refused(remote_call(c, "DELETE", "m", "/versions/prod", NULL), 409, "conflict",
                   "'prod'");
    alias_set(c, "prod", 2, 200);
    alias_set(c, "next", 2, 201);
    answer_expect(remote_call(c, "DELETE", "m", "/versions/1", NULL), 200);
    answer_refused(remote_call(c, "POST", "m", "/aliases/prod/rollback", NULL), 409, "conflict",
                   "version 1 before, which was deleted");
    answer_refused(remote_call(c, "PUT", "m", "/aliases/prod", "{\"version\":1}"), 404,
                   "unknown_version", "1");
    struct answer *a = remote_call(c, "DELETE", "m", "/aliases/prod", "{\"why\":\"done\"}");
    answer_expect(a, 200);
    assert_true(json_is_null(answer_find(a, "version")));
    answer_refused(remote_call(c, "DELETE", "m", "/versions/2", NULL), 409, "conflict", "'next'");
    answer_refused(remote_call(c, "GET", "m", "/aliases/prod", NULL), 404, "unknown_alias", "prod");
    a = remote_get(c, "m", "/aliases");
    assert_int_equal(json_array_size(answer_find(a, "aliases")), 1);
    assert_string_equal(answer_string(a, "aliases.0.alias"), "next");
    assert_string_equal(answer_string(a, "moves.0.action"), "delete");
    assert_string_equal(answer_string(a, "moves.0.why"), "done");
    /* Made anew it has no past to go back to. */
    alias_set(c, "prod", 3, 201);
    answer_refused(remote_call(c, "POST", "m", "/aliases/prod/rollback", NULL), 409, "conflict",
                   "no earlier");
}

static void refusals(struct daemon *d)
{
    struct client *c = d->client;
    char longest[200] = "/aliases/";
    static const struct {
        const char *method, *rest, *body;
        int status;
        const char *code;
    } rows[] = {
        {"PUT", "/aliases/12", "{\"version\":1}", 400, "bad_name"},
        {"PUT", "/aliases/a%20b", "{\"version\":1}", 400, "bad_name"},
        {"PUT", "/aliases/a", "{\"version\":2}", 404, "unknown_version"},
        {"PUT", "/aliases/a", "{\"version\":0}", 404, "unknown_version"},
        {"PUT", "/aliases/a", "{}", 400, "missing_field"},
        {"PUT", "/aliases/a", "{\"version\":\"1\"}", 400, "bad_type"},
        {"PUT", "/aliases/a", "{\"version\":1,\"by\":\"x\"}", 400, "unknown_field"},
        {"GET", "/aliases/a", NULL, 404, "unknown_alias"},
        {"GET", "/aliases?limit=-1", NULL, 400, "bad_query"},
        {"DELETE", "/aliases/a", NULL, 404, "unknown_alias"},
        {"POST", "/aliases/a/rollback", NULL, 404, "unknown_alias"},
        {"POST", "/versions/a/infer", "{\"inputs\":[[1,2,3,4]]}", 404, "unknown_alias"},
        {"POST", "/versions/a/restore", NULL, 404, "unknown_alias"},
    };
    model_with_versions(c, 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(remote_call(c, rows[i].method, "m", rows[i].rest, rows[i].body),
                       rows[i].status, rows[i].code, NULL);
    memset(longest + 9, 'x', 128);
    answer_expect(remote_call(c, "PUT", "m", longest, "{\"version\":1}"), 201);
    longest[9 + 128] = 'x';
    answer_refused(remote_call(c, "PUT", "m", longest, "{\"version\":1}"), 400, "bad_name", "128");
    /* A model of the same name begins without them. */
    answer_expect(remote_call(c, "DELETE", "m", "", NULL), 200);
    model_with_versions(c, 1);
    struct answer *a = remote_get(c, "m", "/aliases");
    assert_int_equal(json_array_size(answer_find(a, "aliases")), 0);
    assert_int_equal(json_array_size(answer_find(a, "moves")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(move_and_infer),
        DAEMON_TEST(rollback),
        DAEMON_TEST(named_versions_stay),
        DAEMON_TEST(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
