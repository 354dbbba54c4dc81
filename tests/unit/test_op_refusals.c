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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refusals)};
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
