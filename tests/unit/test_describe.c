/* test_describe.c: model descriptions: what they stand for, and their expansion. */
#include "describe_fixture.h"

static json_t *expand(const char *text)
{
    struct error e = {0};
    json_t *json = json_of(text), *expanded = describe_expand(json, &e);
    json_decref(json);
    if (!expanded)
        fail_msg("%s: %s", text, e.text);
    return expanded;
}

static void assert_shape(const struct node *n, const char *expected)
{
    struct shape_text text;
    assert_string_equal(shape_print(node_shape(n), &text), expected);
}

static const char cnn[] =
    "{'inputs':[{'name':'image','datatype':'FP32','shape':[-1,1,8,8]}],"
    "'layers':[" CONV ",{'op':'relu'},{'op':'max_pool2d','kernel_size':2},"
    "{'op':'flatten'}," FC "],"
    "'loss':{'op':'cross_entropy','label_smoothing':0.1},"
    "'optimizer':{'op':'adamw','weight_decay':0.01},"
    "'schedule':{'op':'cosine','warmup_steps':10,'total_steps':500},"
    "'clip_grad_norm':1.0,'seed':42,'labels':['a','b','c'],'frozen':['conv1.*']}";

/* Two inputs, a residual, a shared trunk, two outputs and three losses. */
static const char tree[] =
    "{'inputs':[{'shape':[4]},{'name':'side','datatype':'FP32','shape':[-1,4]}],"
    "'layers':[{'op':'linear','out_features':4,'inputs':'input0'},"
    "{'op':'add','inputs':['layers.0','side']},{'name':'trunk','op':'relu'}," FC ","
    "{'name':'value','op':'linear','out_features':1,'inputs':['trunk'],'bias':false}],"
    "'outputs':['fc',{'name':'worth','layer':'value'}],"
    "'losses':[{'op':'cross_entropy','weight':[1,2,3],'input':'fc'},{'op':'mse','input':'worth'},"
    "{'op':'l1','weight':0.5,'input':'value','target':'target1','name':'sparse'}],"
    "'clip_grad_value':2}";

static const char *const good[] = {
    cnn,
    tree,
    "{" ROW "'layers':[" FC "]}",
    "{" ROW "'layers':[" FC "],'loss':'cross_entropy','optimizer':'adam'}",
    "{" ROW "'layers':[" FC "],'loss':'cross_entropy','targets':[{'name':'y','shape':[3]}]}",
    "{" ROW "'layers':[" FC "],'loss':null,'outputs':null,'schedule':null,'frozen':[]}",
    "{" ROW "'layers':[" FC "],'loss':{'op':'mse','reduction':'sum','target':'y','weight':2}}",
    "{" ROW "'layers':[" FC ",{'op':'softmax','dim':1}],"
    "'losses':[{'op':'cross_entropy','input':'fc','weight':3}]}",
    "{" ROW "'layers':[{'name':'a','op':'add','inputs':['c','input']},"
    "{'name':'b','op':'relu'},{'name':'c','op':'neg','inputs':'input'}],'outputs':['b']}",
};
enum { GOOD = sizeof good / sizeof good[0] };

static void test_names_and_shapes(void **state)
{
    (void)state;
    struct network *net = network_of(cnn);
    assert_int_equal(net->n_inputs, 1);
    assert_string_equal(node_name(net->inputs[0]), "image");
    assert_shape(net->inputs[0], "[N, 1, 8, 8]");
    assert_int_equal(net->n_targets, 1);
    assert_string_equal(node_name(net->targets[0]), "target");
    assert_int_equal(node_dtype(net->targets[0]), DTYPE_INT64);
    assert_shape(net->targets[0], "[N]");
    assert_int_equal(net->n_outputs, 1);
    assert_string_equal(net->output_names[0], "output");
    assert_string_equal(node_name(net->outputs[0]), "fc");
    assert_shape(net->outputs[0], "[N, 3]");
    assert_string_equal(node_op(net->probabilities), "softmax");
    assert_shape(net->probabilities, "[N, 3]");
    assert_int_equal(net->n_losses, 1);
    assert_ptr_equal(net->losses[0], net->loss);
    assert_string_equal(node_name(net->loss), "loss");
    assert_string_equal(node_op(net->loss), "cross_entropy");
    network_destroy(&net);
    assert_null(net);
}

static void test_training_settings(void **state)
{
    (void)state;
    struct network *net = network_of(cnn);
    assert_string_equal(optimizer_name(net->optimizer), "adamw");
    assert_non_null(net->schedule);
    assert_true(net->clip_grad_norm == 1.0);
    assert_true(net->clip_grad_value == 0.0);
    assert_int_equal(net->seed, 42);
    network_destroy(&net);
    net = network_of("{" ROW "'layers':[" FC "],'loss':'mse','seed':9007199254740992}");
    assert_string_equal(optimizer_name(net->optimizer), "sgd");
    assert_true(optimizer_lr(net->optimizer) == 0.01);
    assert_null(net->schedule);
    assert_true(net->seed == (uint64_t)1 << 53);
    network_destroy(&net);
}

static void test_parameters_and_frozen(void **state)
{
    static const char *const names[] = {"conv1.weight", "conv1.bias", "fc.weight", "fc.bias"};
    (void)state;
    struct network *net = network_of(cnn);
    assert_int_equal(graph_param_count(net->graph), 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(graph_param(net->graph, i)->name, names[i]);
        assert_int_equal(graph_param(net->graph, i)->frozen, i < 2);
    }
    network_destroy(&net);
}

static void test_several_inputs_outputs_losses(void **state)
{
    (void)state;
    struct network *net = network_of(tree);
    assert_int_equal(net->n_inputs, 2);
    assert_string_equal(node_name(net->inputs[0]), "input0");
    assert_shape(net->inputs[0], "[N, 4]");
    assert_string_equal(node_name(net->inputs[1]), "side");
    assert_int_equal(net->n_outputs, 2);
    assert_string_equal(net->output_names[0], "fc");
    assert_string_equal(net->output_names[1], "worth");
    assert_int_equal(net->n_targets, 2);
    assert_string_equal(node_name(net->targets[0]), "target0");
    assert_int_equal(node_dtype(net->targets[0]), DTYPE_INT64);
    assert_string_equal(node_name(net->targets[1]), "target1");
    assert_shape(net->targets[1], "[N, 1]");
    assert_int_equal(net->n_losses, 3);
    assert_string_equal(node_name(net->losses[0]), "losses.0");
    assert_string_equal(node_name(net->losses[2]), "sparse");
    assert_string_equal(node_op(net->loss), "add");
    assert_int_equal(node_shape(net->loss)->rank, 0);
    assert_non_null(net->probabilities);
    network_destroy(&net);
}

/* As many losses as outputs: each takes its own. */
static void test_losses_in_order(void **state)
{
    (void)state;
    struct network *net = network_of("{" ROW "'layers':[" FC ",{'name':'g','op':'linear',"
                                     "'out_features':2}],'outputs':['fc','g'],"
                                     "'losses':['mse','cross_entropy'],"
                                     "'targets':[{'name':'y'},{'name':'z'}]}");
    assert_shape(net->targets[0], "[N, 3]");
    assert_string_equal(node_name(net->targets[1]), "z");
    assert_shape(net->targets[1], "[N]");
    assert_null(net->probabilities); /* outputs[0] is no classifier */
    network_destroy(&net);
}

/* The leaves of the graph come in the order of inputs, then targets: runs take them so. */
static void test_order_of_leaves(void **state)
{
    (void)state;
    struct network *net = network_of(tree);
    struct node *expected[4] = {net->inputs[0], net->inputs[1], net->targets[0], net->targets[1]};
    int found = 0;
    for (int i = 0; i < graph_node_count(net->graph); i++)
        if (strcmp(node_op(graph_node(net->graph, i)), "input") == 0)
            assert_ptr_equal(graph_node(net->graph, i), expected[found++]);
    assert_int_equal(found, 4);
    network_destroy(&net);
}

static void test_inference_only(void **state)
{
    (void)state;
    struct network *net = network_of("{" ROW "'layers':[" FC "],'optimizer':'adam'}");
    assert_null(net->loss);
    assert_null(net->optimizer);
    assert_null(net->probabilities);
    assert_int_equal(net->n_targets, 0);
    network_destroy(&net);
}

static void test_targets_of_probabilities(void **state)
{
    (void)state;
    struct network *net = network_of(good[4]);
    assert_string_equal(node_name(net->targets[0]), "y");
    assert_int_equal(node_dtype(net->targets[0]), DTYPE_REAL);
    assert_shape(net->targets[0], "[N, 3]");
    network_destroy(&net);
    net = network_of("{" ROW "'layers':[" FC "],'loss':'cross_entropy',"
                     "'targets':[{'datatype':'FP32'}]}");
    assert_shape(net->targets[0], "[N, 3]");
    network_destroy(&net);
}

static void test_binary_probabilities(void **state)
{
    (void)state;
    struct network *net = network_of("{" ROW "'layers':[" FC "],'loss':'bce_with_logits'}");
    assert_string_equal(node_op(net->probabilities), "sigmoid");
    assert_int_equal(node_dtype(net->targets[0]), DTYPE_REAL);
    assert_shape(net->targets[0], "[N, 3]");
    network_destroy(&net);
    net = network_of("{" ROW "'layers':[" FC "],'loss':'mse','labels':['x']}");
    assert_null(net->probabilities);
    network_destroy(&net);
}

/* Layers may name later ones: those come first in the graph, the others keep their order. */
static void test_forward_references(void **state)
{
    (void)state;
    struct network *net =
        network_of("{" ROW "'layers':[{'name':'a','op':'linear','out_features':4},"
                   "{'name':'sum','op':'add','inputs':['a','late']},"
                   "{'name':'b','op':'linear','out_features':2},"
                   "{'name':'late','op':'linear','out_features':4,'inputs':'a'}],'outputs':['b']}");
    static const char *const weights[] = {"a.weight", "late.weight", "b.weight"};
    for (int i = 0; i < 3; i++)
        assert_string_equal(graph_param(net->graph, 2 * i)->name, weights[i]);
    assert_string_equal(node_name(net->outputs[0]), "b");
    network_destroy(&net);
}

/* Neither a long list nor a chain in reverse order uses up the stack. */
static void test_long_chains(void **state)
{
    enum { LAYERS = 10000 };
    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        struct error e = {0};
        json_t *layers = json_array();
        for (int i = 0; i < LAYERS; i++) {
            json_t *layer = json_pack("{s:s}", "op", "relu");
            char from[32];
            snprintf(from, sizeof from, "layers.%d", i + 1);
            if (reversed)
                json_object_set_new(layer, "inputs", json_string(i + 1 < LAYERS ? from : "input"));
            json_array_append_new(layers, layer);
        }
        json_t *model = json_pack("{s:[{s:[i]}], s:o}", "inputs", "shape", 2, "layers", layers);
        struct network *net = describe_network(model, &e);
        assert_non_null(net);
        network_destroy(&net);
        json_array_append_new(layers, json_pack("{s:s}", "op", "relu"));
        assert_null(describe_network(model, &e));
        assert_int_equal(e.code, ERROR_TOO_LARGE);
        assert_string_equal(e.text, "layers: expected at most 10000, found 10001");
        json_decref(model);
    }
}

/* ---- expansion ------------------------------------------------------------------------------- */

static void test_expanded_text(void **state)
{
    (void)state;
    json_t *got = expand("{'inputs':[{'shape':[4]}],'layers':[{'op':'linear','out_features':3},"
                         "{'name':'r','op':'relu','inputs':'layers.0'}],'loss':'mse'}");
    json_t *want = json_of("{'inputs':[{'name':'input','datatype':'FP32','shape':[-1,4]}],"
                           "'layers':[{'name':'layers.0','op':'linear','out_features':3},"
                           "{'name':'r','op':'relu','inputs':['layers.0']}],"
                           "'outputs':[{'name':'output','layer':'r'}],"
                           "'targets':[{'name':'target','datatype':'FP32','shape':[-1,3]}],"
                           "'loss':{'op':'mse'},'optimizer':{'op':'sgd','lr':0.01},'seed':0}");
    assert_true(json_equal(got, want));
    json_decref(got);
    json_decref(want);
}

/* Expanding is done once: the expanded description expands to itself, in every byte. */
static void test_expand_twice(void **state)
{
    (void)state;
    for (int i = 0; i < GOOD; i++) {
        struct error e = {0};
        json_t *once = expand(good[i]), *twice = describe_expand(once, &e);
        if (!twice)
            fail_msg("%s: %s", good[i], e.text);
        char *a = json_dumps(once, 0), *b = json_dumps(twice, 0);
        assert_string_equal(a, b);
        free(a);
        free(b);
        json_decref(once);
        json_decref(twice);
    }
}

static const char told[] =
    "{'inputs':[{'shape':[-1,3,8,8]}],'layers':[{'op':'conv2d','in_channels':3,'out_channels':4,"
    "'kernel_size':3},{'op':'batch_norm2d','num_features':4},{'op':'group_norm','num_groups':2,"
    "'num_channels':4},{'op':'conv_transpose2d','in_channels':4,'out_channels':4,'kernel_size':3},"
    "{'op':'flatten','start_dim':2},{'op':'conv1d','in_channels':4,'out_channels':2,"
    "'kernel_size':1},{'op':'gru','input_size':64,'hidden_size':6},{'op':'multihead_attention',"
    "'num_heads':2,'embed_dim':6},{'op':'flatten'},{'op':'linear','in_features':12,"
    "'out_features':3}]}";
static const char untold[] =
    "{'inputs':[{'shape':[-1,3,8,8]}],'layers':[{'op':'conv2d','out_channels':4,"
    "'kernel_size':3},{'op':'batch_norm2d'},{'op':'group_norm','num_groups':2},"
    "{'op':'conv_transpose2d','out_channels':4,'kernel_size':3},"
    "{'op':'flatten','start_dim':2},{'op':'conv1d','out_channels':2,"
    "'kernel_size':1},{'op':'gru','hidden_size':6},{'op':'multihead_attention','num_heads':2},"
    "{'op':'flatten'},{'op':'linear','out_features':3}]}";

/* What the inputs say anyway is no part of what a description expands to. */
static void test_expand_without_facts(void **state)
{
    (void)state;
    json_t *with = expand(told), *without = expand(untold);
    assert_true(json_equal(with, without));
    json_decref(with);
    json_decref(without);
}

/* The padding that "same" stands for, for each axis its own. */
static void test_padding_same(void **state)
{
    static const char layer[] = "{'inputs':[{'shape':[-1,1,8,9]}],'layers':[{'op':'conv2d',"
                                "'out_channels':2,'kernel_size':[3,5],'dilation':[1,2],"
                                "'padding':'same'}]}";
    static const char line[] = "{'inputs':[{'shape':[-1,2,9]}],'layers':[{'op':'conv1d',"
                               "'out_channels':3,'kernel_size':7,'padding':'same'}]}";
    (void)state;
    struct network *net = network_of(layer);
    assert_shape(net->outputs[0], "[N, 2, 8, 9]");
    network_destroy(&net);
    net = network_of(line);
    assert_shape(net->outputs[0], "[N, 3, 9]");
    network_destroy(&net);
}

static void assert_same_graph(const struct network *a, const struct network *b)
{
    struct shape_text x, y;
    assert_int_equal(graph_node_count(a->graph), graph_node_count(b->graph));
    for (int i = 0; i < graph_node_count(a->graph); i++) {
        const struct node *n = graph_node(a->graph, i), *m = graph_node(b->graph, i);
        assert_string_equal(node_name(n), node_name(m));
        assert_string_equal(node_op(n), node_op(m));
        assert_int_equal(node_dtype(n), node_dtype(m));
        assert_string_equal(shape_print(node_shape(n), &x), shape_print(node_shape(m), &y));
    }
    assert_int_equal(graph_param_count(a->graph), graph_param_count(b->graph));
    for (int i = 0; i < graph_param_count(a->graph); i++)
        assert_int_equal(graph_param(a->graph, i)->frozen, graph_param(b->graph, i)->frozen);
}

static void test_expanded_network(void **state)
{
    (void)state;
    for (int i = 0; i < GOOD; i++) {
        struct error e = {0};
        json_t *expanded = expand(good[i]);
        struct network *a = network_of(good[i]), *b = describe_network(expanded, &e);
        if (!b)
            fail_msg("%s: %s", good[i], e.text);
        assert_same_graph(a, b);
        assert_int_equal(a->n_outputs, b->n_outputs);
        for (int k = 0; k < a->n_outputs; k++)
            assert_string_equal(a->output_names[k], b->output_names[k]);
        assert_int_equal(a->seed, b->seed);
        assert_true(a->clip_grad_norm == b->clip_grad_norm);
        assert_true(a->clip_grad_value == b->clip_grad_value);
        assert_int_equal(!a->optimizer, !b->optimizer);
        if (a->optimizer)
            assert_true(optimizer_lr(a->optimizer) == optimizer_lr(b->optimizer));
        network_destroy(&a);
        network_destroy(&b);
        json_decref(expanded);
    }
}

/* The description is only read: several threads may share it. */
static void test_description_unchanged(void **state)
{
    (void)state;
    json_t *json = json_of(tree), *copy = json_deep_copy(json);
    struct network *net = describe_network(json, NULL);
    json_t *expanded = describe_expand(json, NULL);
    assert_true(json_equal(json, copy));
    network_destroy(&net);
    json_decref(expanded);
    json_decref(copy);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_shapes),
        cmocka_unit_test(test_training_settings),
        cmocka_unit_test(test_parameters_and_frozen),
        cmocka_unit_test(test_several_inputs_outputs_losses),
        cmocka_unit_test(test_losses_in_order),
        cmocka_unit_test(test_order_of_leaves),
        cmocka_unit_test(test_inference_only),
        cmocka_unit_test(test_targets_of_probabilities),
        cmocka_unit_test(test_binary_probabilities),
        cmocka_unit_test(test_forward_references),
        cmocka_unit_test(test_long_chains),
        cmocka_unit_test(test_expanded_text),
        cmocka_unit_test(test_expand_twice),
        cmocka_unit_test(test_expand_without_facts),
        cmocka_unit_test(test_padding_same),
        cmocka_unit_test(test_expanded_network),
        cmocka_unit_test(test_description_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
