/* test_op_refusals.c: layers that cannot be, each refused with a sentence that says why: sizes that
 * are not positive, axes that are not there, kernels larger than the input, heads that do not
 * divide. A row is the shape of an input, a layer on it, and a part of the sentence. */
#include "../../server/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *shape, *layer, *part;
} rows[] = {
    /* recurrent */
    {"-1,4,3", "'op':'lstm'", "'hidden_size' is missing"},
    {"-1,4,3", "'op':'lstm','hidden_size':0", "hidden_size"},
    {"-1,4,3", "'op':'gru','hidden_size':-2", "hidden_size"},
    {"-1,4,3", "'op':'rnn','hidden_size':2,'num_layers':0", "num_layers"},
    {"-1,4,3", "'op':'rnn','hidden_size':2,'num_layers':9", "num_layers"},
    {"-1,4,3", "'op':'rnn','hidden_size':2,'nonlinearity':'sigmoid'", "nonlinearity"},
    {"-1,4,3", "'op':'gru','hidden_size':2,'output':'c_n'", "output"},
    {"-1,4,3", "'op':'lstm','hidden_size':2,'dropout':1.5", "dropout"},
    {"-1,4,3", "'op':'lstm','hidden_size':2,'batch_first':false", "'batch_first' must be true"},
    {"-1,3", "'op':'lstm','hidden_size':2", "rank 3"},
    {"-1,4,3", "'op':'lstm','hidden_size':2,'inputs':['x','x']", "expects 1 input or 3"},
    {"-1,4,3", "'op':'gru','hidden_size':2,'inputs':['x','x']", "must have the shape [N, 1, 2]"},
    {"-1,4,3", "'op':'lstm','hidden_size':1048576,'num_layers':9", "num_layers"},
    /* positions, statistics */
    {"-1,4,5", "'op':'sinusoidal_encoding'", "even number of features"},
    {"-1,4", "'op':'rotary_embedding'", "rank 3 to 8"},
    {"-1,4,6", "'op':'rotary_embedding','dim':8", "even number of the 6 features"},
    {"-1,4,6", "'op':'rotary_embedding','dim':3", "even number of the 6 features"},
    {"-1,4,6", "'op':'rotary_embedding','base':0", "base"},
    {"-1,4,6", "'op':'rotary_embedding','offset':-1", "offset"},
    {"-1,4,1", "'op':'instance_norm'", "more than one number"},
    {"-1,4,6", "'op':'instance_norm','momentum':2", "momentum"},
    {"-1,4,6", "'op':'linear','out_features':2,'init':{'weight':{'op':'trunc_normal','a':2}}",
     "a < b"},
    {"-1,4,6", "'op':'linear','out_features':2,'init':{'weight':'orthogonl'}", "orthogonal"},
    /* what was there before */
    {"-1,3,4,4", "'op':'conv2d','out_channels':2,'kernel_size':5", "kernel"},
    {"-1,3,4,4", "'op':'conv2d','out_channels':-1,'kernel_size':1", "out_channels"},
    {"-1,3,4,4", "'op':'conv2d','out_channels':4,'kernel_size':1,'groups':2", "groups"},
    {"-1,3,4", "'op':'conv1d','out_channels':2,'kernel_size':5", "kernel"},
    {"-1,3,4", "'op':'max_pool1d','kernel_size':5", "kernel"},
    {"-1,3,4,4", "'op':'max_pool2d','kernel_size':0", "kernel_size"},
    {"-1,3,4,4", "'op':'pad','padding':[4,0],'mode':'reflect'", "pad"},
    {"-1,3,4,4", "'op':'pad','padding':[-5,0]", "pad"},
    {"-1,3,4,4", "'op':'group_norm','num_groups':2", "num_groups"},
    {"-1,3,4,4", "'op':'pixel_shuffle','upscale_factor':2", "upscale_factor"},
    {"-1,3,4,4", "'op':'interpolate','size':[0,3]", "size"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':4", "must divide"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':0", "num_heads"},
    {"-1,4,6", "'op':'softmax','dim':3", "out of range"},
    {"-1,4,6", "'op':'mean','dim':[-4]", "out of range"},
    {"-1,4,6", "'op':'unsqueeze','dim':4", "out of range"},
    {"-1,4,6", "'op':'index_select','dim':1,'index':[4]", "below 4"},
    {"-1,4,6", "'op':'narrow','dim':1,'start':0,'length':0", "length"},
    {"-1,4,6", "'op':'glu','dim':1,'inputs':['y']", "no layer or input"},
    {"-1,5", "'op':'glu'", "even"},
};

static json_t *parse(const char *shape, const char *layer)
{
    char text[512];
    json_error_t reason;
    snprintf(text, sizeof text,
             "{'inputs':[{'name':'x','datatype':'FP32','shape':[%s]}],'layers':[{'name':'it',%s}]}",
             shape, layer);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    json_t *d = json_loads(text, 0, &reason);
    if (!d)
        fail_msg("%s: %s", text, reason.text);
    return d;
}

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error e = {0};
        json_t *d = parse(rows[i].shape, rows[i].layer);
        struct network *net = describe_network(d, &e);
        if (net)
            fail_msg("[%s] %s: was not refused", rows[i].shape, rows[i].layer);
        if (!strstr(e.text, rows[i].part) || error_status(e.code) / 100 != 4)
            fail_msg("[%s] %s: '%s' has no '%s'", rows[i].shape, rows[i].layer, e.text,
                     rows[i].part);
        json_decref(d);
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
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_ctc_descriptions),
        cmocka_unit_test(test_ctc_data),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
