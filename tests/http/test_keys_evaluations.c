/* test_keys_evaluations.c: what a key of the role read may do with evaluations over several
 * requests, which leave something behind: only with its own, and nothing that stays. */
#include "keys_fixture.h"

/* A batch of one black image with one box. */
static void add_batch(struct daemon *d, struct key_text k, int id, int status)
{
    char path[64];
    struct text t = {0};
    text_add(&t, "{\"inputs\":[{\"shape\":[1,1,64,64],\"data\":[0");
    for (int i = 1; i < 64 * 64; i++)
        text_add(&t, ",0");
    text_add(&t, "]}],\"targets\":[{\"boxes\":[[{\"category\":0,\"bbox\":[2,4,40,50]}]]}]}");
    snprintf(path, sizeof path, "/v2/models/m/evaluations/%d", id);
    answer_expect(ask(d, k, "POST", path, t.data, NULL), status);
    text_free(&t);
}

/* The role read changes nothing: not another key's evaluation, and not the model's metrics. */
static void evaluations(struct daemon *d)
{
    static const char detector[] = "{\"template\":{\"name\":\"yolo_tiny\",\"num_classes\":2,"
                                   "\"image_size\":64,\"channels\":1}}";
    static const char path[] = "/v2/models/m/evaluations";
    static const char *const rest[][2] = {{"POST", "/v2/models/m/evaluations/1/finish"},
                                          {"DELETE", "/v2/models/m/evaluations/1"}};
    struct key_text reader = add_key(d, "r", "read", NULL, NULL),
                    other = add_key(d, "s", "read", NULL, NULL),
                    trainer = add_key(d, "t", "train", NULL, NULL), root = close_door(d);
    answer_expect(ask(d, root, "PUT", "/v2/models/m", detector, NULL), 201);
    answer_expect(ask(d, reader, "POST", path, NULL, NULL), 201);
    for (int i = 0; i < 2; i++)
        answer_refused(ask(d, other, rest[i][0], rest[i][1], NULL, NULL), 403, "forbidden",
                       "another key than 's'");
    add_batch(d, other, 1, 403);
    add_batch(d, reader, 1, 200);
    struct answer *a = ask(d, reader, "POST", rest[0][1], NULL, NULL);
    answer_expect(a, 200);
    assert_true(json_is_false(answer_find(a, "recorded")));
    assert_true(answer_number(a, "images") == 1 && answer_number(a, "metrics.mAP50") >= 0);
    a = ask(d, reader, "GET", "/v2/models/m/metrics", NULL, NULL);
    assert_int_equal(json_object_size(answer_find(a, "series")), 0);
    /* With train it is as without keys, also for what another began. */
    answer_expect(ask(d, reader, "POST", path, NULL, NULL), 201);
    add_batch(d, trainer, 2, 200);
    a = ask(d, trainer, "POST", "/v2/models/m/evaluations/2/finish", NULL, NULL);
    answer_expect(a, 200);
    assert_true(json_is_true(answer_find(a, "recorded")));
    a = ask(d, reader, "GET", "/v2/models/m/metrics?names=mAP50", NULL, NULL);
    assert_int_equal(json_object_size(answer_find(a, "series")), 1);
    answer_expect(ask(d, other, "POST", path, NULL, NULL), 201);
    answer_expect(ask(d, other, "DELETE", "/v2/models/m/evaluations/3", NULL, NULL), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {DAEMON_TEST(evaluations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
