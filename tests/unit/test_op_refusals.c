/* test_op_refusals.c: layers that cannot be, each refused with a sentence that says why: sizes that
 * are not positive, axes that are not there, kernels larger than the input, heads that do not
 * divide. A row is the shape of an input, a layer on it, and a part of the sentence. What needs no
 * row is walked: every attribute of every operator outside its range, inputs too few and too many,
 * shapes of all ranks. Data that are refused: test_data_refusals.c. */
#include "../../server/describe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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
    /* attention */
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'batch_first':false",
     "'batch_first' must be true"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'kdim':5", "key of 5 features"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'vdim':7,'inputs':['x','x','x']",
     "value of 7 features"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'attn_mask':true", "then the attn_mask"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'attn_mask':true,'inputs':['x','x']",
     "the mask must have the shape [N, 4, 4]"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'inputs':['x','x','x','x']",
     "one to three inputs"},
    {"-1,4,6", "'op':'multihead_attention','num_heads':2,'dropout':1.1", "dropout"},
    {"-1,6", "'op':'multihead_attention','num_heads':2", "rank 3"},
    {"-1,4,6", "'op':'scaled_dot_product_attention','inputs':['x','x','x','x']",
     "the mask must have the shape [N, 4, 4]"},
    {"-1,4,6", "'op':'scaled_dot_product_attention','inputs':['x','x','x'],'dropout_p':-0.1",
     "dropout_p"},
    {"-1,6", "'op':'scaled_dot_product_attention','inputs':['x','x','x']", "rank 3 to 4"},
    /* windows, channels */
    {"-1,3,4", "'op':'avg_pool1d','kernel_size':5", "kernel"},
    {"-1,3,4,4", "'op':'avg_pool2d','kernel_size':5", "kernel"},
    {"-1,3,4,4", "'op':'max_pool2d','kernel_size':2,'padding':2", "padding"},
    {"-1,3,4,4", "'op':'adaptive_avg_pool2d','output_size':0", "output_size"},
    {"-1,3,4", "'op':'adaptive_max_pool2d','output_size':2", "rank 4"},
    {"-1,3,4,4", "'op':'conv_transpose2d','out_channels':2,'kernel_size':1,'output_padding':1",
     "output_padding"},
    {"-1,3,4,4", "'op':'conv2d','out_channels':2,'kernel_size':3,'dilation':2", "kernel"},
    {"-1,3,4", "'op':'conv2d','out_channels':2,'kernel_size':1", "rank 4"},
    {"-1,3,4,4", "'op':'batch_norm1d'", "rank 2 to 3"},
    {"-1,3,4", "'op':'batch_norm2d'", "rank 4"},
    {"-1,3,4", "'op':'layer_norm','normalized_shape':[5]", "normalized_shape"},
    {"-1,3,4", "'op':'rms_norm','normalized_shape':[3]", "normalized_shape"},
    {"-1,3,4,4", "'op':'pixel_unshuffle','downscale_factor':3", "downscale_factor"},
    {"-1,3,4,4", "'op':'upsample','scale_factor':0", "scale_factor"},
    {"-1,3,4,4", "'op':'prelu','num_parameters':2", "num_parameters"},
    /* shapes, indices */
    {"-1,4,6", "'op':'reshape','shape':[5,-1]", "shape"},
    {"-1,4,6", "'op':'transpose','dim0':1,'dim1':3", "out of range"},
    {"-1,4,6", "'op':'permute','dims':[0,1,1]", "dims"},
    {"-1,4,6", "'op':'flip','dims':[3]", "out of range"},
    {"-1,4,6", "'op':'repeat','repeats':[1,2]", "repeats"},
    {"-1,4,6", "'op':'expand','shape':[-1,4,7]", "expand"},
    {"-1,4,6", "'op':'flatten','start_dim':3", "out of range"},
    {"-1,4,6", "'op':'narrow','dim':1,'start':3,'length':2", "narrow"},
    {"-1,4,6", "'op':'concat','dim':3,'inputs':['x','x']", "out of range"},
    {"-1,4,6", "'op':'matmul','inputs':['x','x']", "matmul"},
    {"-1,4,6", "'op':'embedding','num_embeddings':3,'embedding_dim':2", "INT64"},
    {"-1,4,6", "'op':'embedding','num_embeddings':0,'embedding_dim':2", "num_embeddings"},
    {"-1,4,6", "'op':'gather','dim':1,'inputs':['x','x']", "INT64"},
    {"-1,4,6", "'op':'var','dim':[1],'correction':4", "correction"},
    {"-1,4,6", "'op':'argmax','dim':3", "out of range"},
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

/* ---- every operator -------------------------------------------------------------------------- */

enum { MAX_ATTRS = 24, MAX_INPUTS = 160, BATCH_RUN = 2 };

struct given {
    struct attr attrs[MAX_ATTRS];
    double numbers[MAX_ATTRS][2];
    char words[MAX_ATTRS][24];
    int n;
};

static double clamped(const struct attr_def *d, double x)
{
    return x < d->min ? d->min : x > d->max ? d->max : x;
}

/* One more attribute: a number, once or in a list, or the `way`-th word of a choice. */
static void give(struct given *g, const struct attr_def *d, double x, int way)
{
    struct attr *a = &g->attrs[g->n];
    assert_true(g->n < MAX_ATTRS);
    *a = (struct attr){.name = d->name, .kind = ATTR_IS_REAL, .d = x, .i = (int64_t)x};
    if (d->type == ATTR_BOOL)
        *a = (struct attr){.name = d->name, .kind = ATTR_IS_BOOL, .i = way & 1};
    if (d->type == ATTR_INTS || d->type == ATTR_REALS) {
        g->numbers[g->n][0] = g->numbers[g->n][1] = x;
        a->kind = ATTR_IS_LIST;
        a->list = g->numbers[g->n];
        a->n_list = 1 + (way & 1);
    }
    if (d->type == ATTR_CHOICE) {
        const char *word = d->choices;
        for (; way > 0 && strchr(word, '|'); way--)
            word = strchr(word, '|') + 1;
        snprintf(g->words[g->n], sizeof g->words[0], "%.*s", (int)strcspn(word, "|"), word);
        *a = (struct attr){.name = d->name, .kind = ATTR_IS_STRING, .s = g->words[g->n]};
    }
    g->n++;
}

static bool is_number(const struct attr_def *d)
{
    return d->type != ATTR_BOOL && d->type != ATTR_CHOICE;
}

/* All that must be given, but for `but`. */
static void give_required(struct given *g, const struct attr_def *attrs, const char *but)
{
    g->n = 0;
    for (const struct attr_def *d = attrs; d && d->name; d++)
        if (!d->fallback && strcmp(d->name, but) != 0)
            give(g, d, clamped(d, 2), 0);
}

/* An operator of n equal inputs; the network is gone afterwards. True: refused by this sentence. */
static bool refused(const char *op, int n, const struct given *g, const char *part, struct error *e)
{
    struct graph *graph = graph_create(e);
    struct node *in[MAX_INPUTS];
    in[0] = graph_input(graph, "x", DTYPE_REAL, &SHAPE(BATCH, 4, 6), e);
    for (int i = 1; i < n; i++)
        in[i] = in[0];
    const bool added = graph_add(graph, op, "it", in, n, g->attrs, g->n, e) != NULL;
    graph_destroy(&graph);
    return !added && error_status(e->code) / 100 == 4 && strstr(e->text, part) &&
           strstr(e->text, op);
}

static void expect_refused(const struct op_info *op, const struct attr_def *d, double x)
{
    const int n = op->min_inputs > 0 ? op->min_inputs : 1;
    struct error e = {0};
    struct given g;
    give_required(&g, op->attrs, d->name);
    give(&g, d, x, 0);
    if (!refused(op->name, n, &g, d->name, &e) || e.code != ERROR_BAD_ATTRIBUTE)
        fail_msg("%s: %s of %g: '%s'", op->name, d->name, x, e.text);
}

static void test_attributes_out_of_range(void **state)
{
    struct op_info op;
    (void)state;
    for (int i = 0; op_info_at(i, &op); i++)
        for (const struct attr_def *d = op.attrs; d && d->name; d++) {
            if (!is_number(d))
                continue;
            if (isfinite(d->min))
                expect_refused(&op, d, floor(d->min - 1 - 1e-9 * fabs(d->min)));
            if (isfinite(d->max))
                expect_refused(&op, d, ceil(d->max + 1 + 1e-9 * fabs(d->max)));
            expect_refused(&op, d, NAN);
            if (d->type == ATTR_INT || d->type == ATTR_PAIR || d->type == ATTR_INTS)
                expect_refused(&op, d, clamped(d, 1) + 0.5);
        }
}

static void test_attributes_of_another_kind(void **state)
{
    struct op_info op;
    (void)state;
    for (int i = 0; op_info_at(i, &op); i++) {
        const int n = op.min_inputs > 0 ? op.min_inputs : 1;
        for (const struct attr_def *d = op.attrs; d && d->name; d++) {
            struct error e = {0};
            struct given g;
            give_required(&g, op.attrs, d->name);
            g.attrs[g.n++] =
                (struct attr){.name = d->name, .kind = ATTR_IS_STRING, .s = "no such word"};
            if (!refused(op.name, n, &g, d->name, &e))
                fail_msg("%s: %s as a word: '%s'", op.name, d->name, e.text);
        }
        struct given g = {.attrs = {{.name = "no_such_attribute", .kind = ATTR_IS_BOOL}}, .n = 1};
        struct error e = {0};
        if (!refused(op.name, n, &g, "no_such_attribute", &e))
            fail_msg("%s: an unknown attribute: '%s'", op.name, e.text);
    }
}

static void test_counts_of_inputs(void **state)
{
    struct op_info op;
    (void)state;
    for (int i = 0; op_info_at(i, &op); i++) {
        struct error e = {0};
        struct given g;
        int most = op.max_inputs;
        for (const struct param_def *p = op.params; p && p->name; p++)
            most++;
        give_required(&g, op.attrs, "");
        if (op.min_inputs > 0 && !refused(op.name, op.min_inputs - 1, &g, "input", &e))
            fail_msg("%s of %d inputs: '%s'", op.name, op.min_inputs - 1, e.text);
        if (op.max_inputs < 0)
            continue;
        assert_true(most < MAX_INPUTS);
        if (!refused(op.name, most + 1, &g, "input", &e) || e.code != ERROR_BAD_GRAPH)
            fail_msg("%s of %d inputs: '%s'", op.name, most + 1, e.text);
    }
}

/* ---- every operator on inputs of all ranks: refused, or it runs ------------------------------ */

static struct shape some_shape(int rank, int way)
{
    static const int64_t sizes[] = {1, 2, 4, 3, 6};
    struct shape s = {.rank = rank};
    for (int i = 0; i < rank; i++)
        s.dim[i] = sizes[(3 * i + way) % 5];
    if (rank && way % 2)
        s.dim[0] = BATCH;
    return s;
}

/* Values for all attributes, or for those that must be given. */
static void give_some(struct given *g, const struct attr_def *attrs, int way)
{
    static const double numbers[] = {1, 2, 0, -1, 3};
    int k = 0;
    give_required(g, attrs, "");
    if (way % 3 == 0)
        return;
    g->n = 0;
    for (const struct attr_def *d = attrs; d && d->name; d++, k++)
        if (!d->fallback || (k + way) % 3)
            give(g, d, clamped(d, numbers[(k + way) % 5]), k + way);
}

/* Runs it on zeros; data may be refused. */
static void run_zeros(const struct op_info *op, struct graph *g, struct node *it, int n)
{
    struct error e = {0};
    const bool backward = op->is_loss && op->differentiable;
    void *zeros = calloc(1 << 16, 8);
    const void *inputs[MAX_INPUTS];
    struct pool *pool = pool_create(1, &e);
    for (int i = 0; i < n; i++)
        inputs[i] = zeros;
    real *grads = calloc(graph_params_size(g) + 1, sizeof *grads);
    const struct plan_spec spec = {.training = backward,
                                   .outputs = &it,
                                   .n_outputs = 1,
                                   .loss = backward ? it : NULL,
                                   .params_wrt = backward,
                                   .capacity = BATCH_RUN,
                                   .threads = 1};
    assert_true(graph_params_size(g) < 1 << 16 && graph_buffers_size(g) < 1 << 16);
    struct plan *plan = plan_create(g, &spec, &e);
    struct run *run = plan ? run_create(plan, &e) : NULL;
    const struct run_args args = {.pool = pool,
                                  .n = BATCH_RUN,
                                  .inputs = inputs,
                                  .params = zeros,
                                  .buffers = zeros,
                                  .grads = grads};
    if (!run || run_execute(run, &args, &e))
        if (error_status(e.code) / 100 != 4)
            fail_msg("%s: '%s'", op->name, e.text);
    run_destroy(&run);
    plan_destroy(&plan);
    pool_destroy(&pool);
    free(grads);
    free(zeros);
}

static int try_shapes(const struct op_info *op, int rank, int way)
{
    struct error e = {0};
    struct given given;
    struct graph *g = graph_create(&e);
    struct node *in[MAX_INPUTS];
    const int n = op->min_inputs > 0 ? op->min_inputs : 1;
    for (int i = 0; i < n; i++) {
        struct shape s = some_shape(way % 5 == 4 && i && rank ? rank - 1 : rank, way);
        if (rank && way % 7 == 6 && i == n - 1)
            s.dim[s.rank ? s.rank - 1 : 0] = 5;
        const enum dtype dtype = way % 3 == 2 && i == n - 1 ? DTYPE_INT64 : DTYPE_REAL;
        in[i] = graph_input(g, "x", dtype, &s, &e);
        assert_non_null(in[i]);
    }
    give_some(&given, op->attrs, way);
    struct node *it = graph_add(g, op->name, "it", in, n, given.attrs, given.n, &e);
    if (it)
        run_zeros(op, g, it, n);
    else if (error_status(e.code) / 100 != 4 || !strstr(e.text, op->name))
        fail_msg("%s of rank %d: '%s'", op->name, rank, e.text);
    graph_destroy(&g);
    return it != NULL;
}

static void test_shapes_of_all_ranks(void **state)
{
    struct op_info op;
    (void)state;
    for (int i = 0; op_info_at(i, &op); i++) {
        int accepted = 0, tried = 0;
        for (int rank = 0; rank <= SHAPE_MAX_RANK; rank++)
            for (int way = 0; way < 24; way++, tried++)
                accepted += try_shapes(&op, rank, way);
        if (accepted == tried)
            fail_msg("%s: nothing was refused", op.name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_attributes_out_of_range),
        cmocka_unit_test(test_attributes_of_another_kind),
        cmocka_unit_test(test_counts_of_inputs),
        cmocka_unit_test(test_shapes_of_all_ranks),
    };
    engine_start();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
