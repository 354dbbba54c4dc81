/* test_json.c: JSONTestSuite (github.com/nst/JSONTestSuite) through real requests. Each file is
 * sent as the whole body and as a value in places that different readers read: what is not JSON
 * (n_) is answered with bad_json, what is (y_) never is, and what parsers may settle as they like
 * (i_) is answered one way or the other. tests/data/json has the smallest telling files; the whole
 * suite is run when $JSON_TESTSUITE or ../shared/data/json-testsuite is there.
 *
 * jansson itself takes one n_ file, n_multidigit_number_then_00 (it passes over a NUL), and refuses
 * y_string_null_escape, y_object_escaped_null_in_key and keys that come twice: the first is found
 * by json_scan.c, the others are refused with codes that say what they are. */
#include "../support/remote.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char model[] =
    "{\"inputs\":[{\"shape\":[-1,4]}],\"layers\":[{\"op\":\"linear\",\"out_features\":3}],"
    "\"loss\":\"cross_entropy\"}";

/* Where a file is put. */
static const struct place {
    const char *method, *path, *before, *after;
} places[] = {
    /* Read by jansson alone. */
    {"PUT", "/v2/models/new", "", ""},
    {"PUT", "/v2/models/new", "{\"inputs\":", "}"},
    {"POST", "/v2/models/m/clone", "{\"name\":", "}"},
    /* Lists of numbers are left to the reader of tensors. */
    {"POST", "/v2/autograd", "", ""},
    {"POST", "/v2/autograd", "{\"expression\":\"x\",\"tensors\":{\"x\":{\"data\":", "}}}"},
    {"POST", "/v2/models/m/infer", "", ""},
    {"POST", "/v2/models/m/infer", "{\"inputs\":", "}"},
    {"POST", "/v2/models/m/infer", "{\"inputs\":[{\"shape\":[1,4],\"data\":", "}]}"},
    {"POST", "/v2/models/m/infer", "{\"inputs\":[[1,2,3,4]],\"parameters\":{\"data\":", "}}"},
    {"POST", "/v2/models/m/train_step", "{\"inputs\":[[1,2,3]],\"targets\":", "}"},
};
enum { PLACES = sizeof places / sizeof *places };

struct bytes {
    char *data;
    size_t size;
};

static struct bytes read_file(const char *folder, const char *name)
{
    char path[700];
    struct bytes b = {malloc(1 << 20), 0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_non_null(b.data);
    b.size = fread(b.data, 1, 1 << 20, f);
    assert_true(b.size < 1 << 20);
    fclose(f);
    return b;
}

/* 'n', 'y' or 0: i_ and what has no such name. */
static char verdict(const char *name)
{
    return name[1] == '_' && (*name == 'n' || *name == 'y') ? *name : 0;
}

/* Whether the file, put there, is answered as its name wants. */
static bool answered(struct client *c, const struct place *p, const char *name, struct bytes file)
{
    size_t before = strlen(p->before), after = strlen(p->after);
    char *body = malloc(before + file.size + after + 1);
    assert_non_null(body);
    memcpy(body, p->before, before);
    memcpy(body + before, file.data, file.size);
    memcpy(body + before + file.size, p->after, after);
    struct call call = {p->method, p->path, body, before + file.size + after, NULL, NULL};
    struct answer *a = client_send(c, &call);
    free(body);
    json_t *root = json_loadb(a->body, a->size, 0, NULL);
    const char *code = json_string_value(json_object_get(root, "code"));
    bool bad_json = a->status == 400 && code && !strcmp(code, "bad_json");
    bool holds = root && a->status >= 200 && a->status < 500 &&
                 (verdict(name) != 'n' || bad_json) && (verdict(name) != 'y' || !bad_json);
    if (!holds)
        print_error("%s in %s %s %s...: %d %.200s\n", name, p->method, p->path, p->before,
                    a->status, a->body);
    json_decref(root);
    client_forget(c);
    return holds;
}

/* Runs the files of a folder; the number of those whose names begin with n_ or y_. */
static int run_folder(struct daemon *d, const char *folder)
{
    struct dirent *entry;
    int wrong = 0, named = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    remote_create(d->client, "m", model);
    struct remote_hash before = remote_hash(d->client, "m");
    while ((entry = readdir(dir))) {
        const char *name = entry->d_name, *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".json") != 0)
            continue;
        struct bytes file = read_file(folder, name);
        for (int i = 0; i < PLACES; i++)
            wrong += !answered(d->client, &places[i], name, file);
        free(file.data);
        named += verdict(name) != 0;
    }
    closedir(dir);
    assert_int_equal(wrong, 0);
    assert_same_state(remote_hash(d->client, "m"), before);
    remote_call(d->client, "DELETE", "m", "", NULL);
    return named;
}

static void telling_files(struct daemon *d)
{
    assert_true(run_folder(d, "tests/data/json") >= 60);
}

static void whole_suite(struct daemon *d)
{
    const char *suite = getenv("JSON_TESTSUITE");
    char folder[600];
    snprintf(folder, sizeof folder, "%s/test_parsing",
             suite ? suite : "../shared/data/json-testsuite");
    DIR *there = opendir(folder);
    if (!there) {
        print_message("skipped: JSONTestSuite is not in %s\n", folder);
        return;
    }
    closedir(there);
    assert_true(run_folder(d, folder) >= 283);
    snprintf(folder, sizeof folder, "%s/test_transform",
             suite ? suite : "../shared/data/json-testsuite");
    run_folder(d, folder);
}

/* Texts that are JSON and are refused nevertheless: what they are told instead. */
static void exceptions(struct daemon *d)
{
    static const struct {
        const char *body, *code;
        int status;
    } rows[] = {
        {"{\"a\":1,\"a\":2}", "duplicate_field", 400},
        {"{\"expression\":\"a\\u0000b\"}", "bad_value", 422},
        {"{\"a\\u0000b\":1}", "bad_name", 400},
        {"{\"expression\":\"x\",\"n\":18446744073709551616}", "bad_value", 422},
        {"true", "bad_type", 400},
        {" 42\n", "bad_type", 400},
        /* What comes first is not what counts: these are not JSON. */
        {"{\"a\":1,\"a\":2,}", "bad_json", 400},
        {"{\"expression\":\"a\\u0000b\",\"c\":\"\xff\"}", "bad_json", 400},
        {"{\"expressions\":1,\"data\":[1,2,03]}", "bad_json", 400},
        {"{\"tensors\":{\"x\":{\"data\":[1,\"two\",}}}", "bad_json", 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        answer_refused(client_post(d->client, "/v2/autograd", rows[i].body), rows[i].status,
                       rows[i].code, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(telling_files),
        DAEMON_TEST(whole_suite),
        DAEMON_TEST(exceptions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
