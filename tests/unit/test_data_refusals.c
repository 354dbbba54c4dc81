/* test_data_refusals.c: data that an operator or a loss refuses when they come, and what describes
 * them: indices that are out of range, targets of ctc. */
#include "../../server/describe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- data that are refused when they come ---------------------------------------------------- */

static void test_indices_out_of_range(void **state)
{
    static const struct {
        const char *layer;
        int64_t bad;
        const char *part; /* NULL: not refused */
    } rows_of_data[] = {
        {"'op':'embedding','num_embeddings':4,'embedding_dim':2,'inputs':['i']", 3, NULL},
        {"'op':'embedding','num_embeddings':4,'embedding_dim':2,'inputs':['i']", 4, "4"},
        {"'op':'embedding','num_embeddings':4,'embedding_dim':2,'inputs':['i']", -1, "-1"},
        {"'op':'gather','dim':1,'inputs':['x','i']", 2, NULL},
        {"'op':'gather','dim':1,'inputs':['x','i']", 3, "3"},
        {"'op':'gather','dim':1,'inputs':['x','i']", INT64_MIN, "-9223372036854775808"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows_of_data / sizeof rows_of_data[0]; i++) {
        char text[300];
        struct error e = {0};
        snprintf(text, sizeof text,
                 "{'inputs':[{'name':'x','shape':[-1,3]},{'name':'i','datatype':'INT64','shape':"
                 "[-1,2]}],'layers':[{%s}]}",
                 rows_of_data[i].layer);
        for (char *c = text; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        json_t *d = json_loads(text, 0, NULL);
        struct network *net = describe_network(d, &e);
        json_decref(d);
        if (!net)
            fail_msg("%s: %s", text, e.text);
        const struct plan_spec spec = {
            .outputs = net->outputs, .n_outputs = 1, .capacity = 2, .threads = 1};
        struct plan *plan = plan_create(net->graph, &spec, &e);
        struct run *run = plan ? run_create(plan, &e) : NULL;
        assert_non_null(run);
        const real zeros[8] = {0};
        const int64_t index[4] = {0, 1, rows_of_data[i].bad, 0};
        const void *inputs[] = {zeros, index};
        const struct run_args args = {.n = 2, .inputs = inputs, .params = zeros};
        const int status = run_execute(run, &args, &e);
        if ((status != 0) != (rows_of_data[i].part != NULL) ||
            (status && (e.code != ERROR_BAD_VALUE || !strstr(e.text, rows_of_data[i].part))))
            fail_msg("%s with %lld: %d '%s'", text, (long long)rows_of_data[i].bad, status, e.text);
        run_destroy(&run);
        plan_destroy(&plan);
        network_destroy(&net);
    }
}

/* ---- ctc: what describes it, and the data that it refuses ------------------------------------ */

static const char ctc_target[] = "{'name':'target','datatype':'INT64','shape':[-1,2]}";

static struct network *ctc_network(const char *loss, const char *target, struct error *e)
{
    char text[512];
    json_error_t reason;
    snprintf(text, sizeof text,
             "{'inputs':[{'name':'x','shape':[-1,4,3]},{'name':'steps','datatype':'INT64',"
             "'shape':[-1]}],'layers':[{'name':'out','op':'log_softmax','dim':2,'inputs':['x']}],"
             "'loss':{'op':'ctc','input':['out','steps'],%s},'targets':[%s]}",
             loss, target);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    json_t *d = json_loads(text, 0, &reason);
    if (!d)
        fail_msg("%s: %s", text, reason.text);
    struct network *net = describe_network(d, e);
    json_decref(d);
    return net;
}

static void test_ctc_descriptions(void **state)
{
    static const struct {
        const char *loss, *target, *part;
    } bad[] = {
        {"'blank':3", ctc_target, "'blank' must be below"},
        {"'blank':-1", ctc_target, "blank"},
        {"'blank':0", "{'name':'target','datatype':'FP32','shape':[-1,2]}", "INT64"},
        {"'blank':0", "{'name':'target','datatype':'INT64','shape':[-1,2,2]}", "labels [N, S]"},
        {"'reduction':'none'", ctc_target, "reduction"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error e = {0};
        assert_null(ctc_network(bad[i].loss, bad[i].target, &e));
        if (!strstr(e.text, bad[i].part))
            fail_msg("'%s' has no '%s'", e.text, bad[i].part);
    }
}

/* Two samples of four steps and three classes; the blank is 0. */
static void test_ctc_data(void **state)
{
    static const struct {
        int64_t steps[2], labels[4];
        const char *part; /* NULL: not refused */
    } rows[] = {
        {{4, 3}, {1, 2, 2, -1}, NULL},
        {{0, 4}, {1, 2, 1, 2}, "lengths 0 and 2 of sample 0"},
        {{4, 5}, {1, 2, 1, 2}, "of sample 1"},
        {{4, 4}, {1, 3, 1, 2}, "label 1 of sample 0 is 3"},
    };
    struct error e = {0};
    (void)state;
    struct network *net = ctc_network("'blank':0", ctc_target, &e);
    if (!net)
        fail_msg("%s", e.text);
    const struct plan_spec spec = {.loss = net->loss, .capacity = 2, .threads = 1};
    struct plan *plan = plan_create(net->graph, &spec, &e);
    struct run *run = plan ? run_create(plan, &e) : NULL;
    assert_non_null(run);
    const real x[2 * 4 * 3] = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const void *inputs[] = {x, rows[i].steps, rows[i].labels};
        const struct run_args args = {.n = 2, .inputs = inputs};
        const int status = run_execute(run, &args, &e);
        assert_int_equal(status, rows[i].part ? -1 : 0);
        assert_true(!rows[i].part || e.code == ERROR_BAD_VALUE);
        if (rows[i].part && !strstr(e.text, rows[i].part))
            fail_msg("'%s' has no '%s'", e.text, rows[i].part);
    }
    run_destroy(&run);
    plan_destroy(&plan);
    network_destroy(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indices_out_of_range),
        cmocka_unit_test(test_ctc_descriptions),
        cmocka_unit_test(test_ctc_data),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
