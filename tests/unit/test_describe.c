/* test_describe.c: model descriptions: what they stand for, their expansion, and the sentence for
 * each mistake. */
#include "../../server/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* JSON with ' for ", so that it can stand in C. */
static json_t *json_of(const char *text)
{
    json_error_t where;
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    json_t *json = json_loads(copy, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!json)
        fail_msg("%s: %s", text, where.text);
    free(copy);
    return json;
}

static struct network *network_of(const char *text)
{
    struct error e = {0};
    json_t *json = json_of(text);
    struct network *net = describe_network(json, &e);
    json_decref(json);
    if (!net)
        fail_msg("%s: %s", text, e.text);
    return net;
}

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

#define IMAGE "'inputs':[{'shape':[-1,1,8,8]}],"
#define CONV  "{'name':'conv1','op':'conv2d','out_channels':4,'kernel_size':3,'padding':1}"
#define ROW   "'inputs':[{'shape':[-1,4]}],"
#define FC    "{'name':'fc','op':'linear','out_features':3}"

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

/* ---- mistakes -------------------------------------------------------------------------------- */

#define MLP(more) "{" ROW "'layers':[" FC "]," more "}"

/* What is said, and a part of the sentence. */
static const struct {
    const char *text;
    enum error_code code;
    const char *part;
} bad[] = {
    {"[]", ERROR_BAD_TYPE, "expected an object, found a list"},
    {"{'layers':[]}", ERROR_MISSING_FIELD, "the field 'inputs' is missing"},
    {"{" ROW "'layrs':[]}", ERROR_UNKNOWN_FIELD, "unknown field 'layrs'; did you mean 'layers'?"},
    {"{'template':{'name':'resnet19'}}", ERROR_UNKNOWN_OPERATOR, "no template 'resnet19'"},
    {"{" ROW "'layers':{}}", ERROR_BAD_TYPE, "layers: expected a list of layers, found an object"},
    {"{" ROW "'layers':[]}", ERROR_BAD_VALUE, "layers: expected at least one, found an empty list"},
    {"{'inputs':[],'layers':[" FC "]}", ERROR_BAD_VALUE, "inputs: expected at least one"},
    {"{'inputs':[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}],'layers':[" FC "]}",
     ERROR_TOO_LARGE, "inputs: expected at most 16, found 17"},

    {"{'inputs':[3],'layers':[" FC "]}", ERROR_BAD_TYPE, "inputs[0]: expected an object, found 3"},
    {"{'inputs':[{'name':'x'}],'layers':[" FC "]}", ERROR_MISSING_FIELD,
     "inputs[0]: the field 'shape' is missing"},
    {"{'inputs':[{'shape':4}],'layers':[" FC "]}", ERROR_BAD_TYPE,
     "inputs[0].shape: expected a list of integers, found 4"},
    {"{'inputs':[{'shape':[-1,0]}],'layers':[" FC "]}", ERROR_BAD_SHAPE,
     "inputs[0].shape[1]: expected an integer of at least 1, found 0"},
    {"{'inputs':[{'shape':[-1,2.5]}],'layers':[" FC "]}", ERROR_BAD_TYPE,
     "inputs[0].shape[1]: expected an integer, found 2.5"},
    {"{'inputs':[{'shape':['x']}],'layers':[" FC "]}", ERROR_BAD_TYPE,
     "inputs[0].shape[0]: expected an integer, found the string 'x'"},
    {"{'inputs':[{'shape':[4,-1]}],'layers':[" FC "]}", ERROR_BAD_SHAPE,
     "inputs[0].shape[1]: only the first size can be -1 (the batch)"},
    {"{'inputs':[{'shape':[1,2,3,4,5,6,7,8]}],'layers':[" FC "]}", ERROR_BAD_SHAPE,
     "inputs[0].shape: expected at most 8 sizes with the batch, found 9"},
    {"{'inputs':[{'shape':[1000000000,1000000000]}],'layers':[" FC "]}", ERROR_TOO_LARGE,
     "inputs[0]: "},
    {"{'inputs':[{'shape':[4],'datatype':'FP16'}],'layers':[" FC "]}", ERROR_BAD_DTYPE,
     "inputs[0].datatype: expected FP32 or INT64, found 'FP16'"},
    {"{'inputs':[{'shape':[4],'dtype':'FP32'}],'layers':[" FC "]}", ERROR_UNKNOWN_FIELD,
     "inputs[0]: unknown field 'dtype'; did you mean 'datatype'?"},
    {"{'inputs':[{'shape':[4],'name':'a b'}],'layers':[" FC "]}", ERROR_BAD_NAME,
     "inputs[0].name: a name has 1 to 64 of the characters A-Z a-z 0-9 _ . -, found 'a b'"},
    {"{'inputs':[{'shape':[4],'name':'a'},{'shape':[4],'name':'a'}],'layers':[" FC "]}",
     ERROR_BAD_NAME, "inputs[1].name: another input is called 'a'"},
    {"{'inputs':[{'shape':[4]},{'shape':[4]}],'layers':[" FC "]}", ERROR_MISSING_FIELD,
     "layers[0]: the field 'inputs' is missing: say which of the 2 inputs it takes"},

    {"{" ROW "'layers':['relu']}", ERROR_BAD_TYPE,
     "layers[0]: expected an object, found the string 'relu'"},
    {"{" ROW "'layers':[{'name':'a'}]}", ERROR_MISSING_FIELD,
     "layers[0]: the field 'op' is missing (a string)"},
    {"{" ROW "'layers':[{'op':true}]}", ERROR_BAD_TYPE,
     "layers[0].op: expected a string, found true"},
    {"{" ROW "'layers':[{'op':'reul'}]}", ERROR_UNKNOWN_OPERATOR, "did you mean 'relu'?"},
    {"{" ROW "'layers':[{'op':'linear','out_features':{}}]}", ERROR_BAD_TYPE,
     "layers[0].out_features: expected a number, a boolean, a string or a list of numbers, "
     "found an object"},
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':[3,'x']}]}", ERROR_BAD_TYPE,
     "layers[0].kernel_size[1]: expected a number, found the string 'x'"},
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernal_size':3}]}", ERROR_BAD_ATTRIBUTE,
     "layers[0]: layer 'layers.0' (conv2d): no attribute 'kernal_size'; did you "
     "mean 'kernel_size'?"},
    {"{" ROW "'layers':[" CONV "]}", ERROR_BAD_SHAPE, "layers[0]: layer 'conv1' (conv2d)"},
    {"{" ROW "'layers':[{'name':'','op':'relu'}]}", ERROR_BAD_NAME, "layers[0].name: "},
    {"{" ROW "'layers':[{'name':'a/b','op':'relu'}]}", ERROR_BAD_NAME, "found 'a/b'"},
    {"{" ROW "'layers':[{'name':'input','op':'relu'}]}", ERROR_BAD_NAME,
     "layers[0].name: an input is called 'input'"},
    {"{" ROW "'layers':[{'name':'a','op':'relu'},{'name':'a','op':'relu'}]}", ERROR_BAD_NAME,
     "layers[1].name: layers[0] is called 'a' too"},
    {"{" ROW "'layers':[{'name':'layers.1','op':'relu'},{'op':'relu'}]}", ERROR_BAD_NAME,
     "layers[1].name: layers[0] is called 'layers.1' too"},
    {"{" ROW "'layers':[{'op':'relu','inputs':'imput'}]}", ERROR_BAD_GRAPH,
     "layers[0].inputs: no layer or input is called 'imput'; did you mean 'input'?"},
    {"{" ROW "'layers':[" FC ",{'op':'add','inputs':['fc',1]}]}", ERROR_BAD_TYPE,
     "layers[1].inputs[1]: expected a name, found 1"},
    {"{" ROW "'layers':[{'op':'relu','inputs':[]}]}", ERROR_BAD_VALUE,
     "layers[0].inputs: expected at least one"},
    {"{" ROW "'layers':[{'op':'add','inputs':'input'}]}", ERROR_BAD_ATTRIBUTE, "layers[0]: "},
    {"{" ROW "'layers':[{'name':'a','op':'relu','inputs':'b'},{'name':'b','op':'relu'}]}",
     ERROR_CYCLE, "layers 'a' -> 'b' -> 'a' feed themselves"},
    {"{" ROW "'layers':[{'name':'a','op':'relu','inputs':'a'}]}", ERROR_CYCLE,
     "layer 'a' -> 'a' feeds itself"},
    {"{" ROW "'layers':[{'name':'a','op':'relu'},{'name':'b','op':'add','inputs':['a','d']},"
     "{'name':'c','op':'relu'},{'name':'d','op':'relu'}]}",
     ERROR_CYCLE, "layers 'b' -> 'c' -> 'd' -> 'b' feed themselves"},
    {"{" ROW "'layers':[{'op':'mse'}]}", ERROR_BAD_GRAPH,
     "layers[0]: 'mse' is a loss: it belongs in the field 'loss'"},
    {"{" ROW "'layers':[{'op':'mse','inputs':['input','input']}]}", ERROR_BAD_GRAPH,
     "'mse' is a loss"},
    {"{'inputs':[{'shape':[9000000]}],'layers':[{'op':'linear','out_features':90000000}]}",
     ERROR_TOO_LARGE, "layers[0]: "},
    {"{'inputs':[{'shape':[16000000]}],'layers':[{'op':'linear','out_features':16000000},"
     "{'op':'linear','out_features':16000000}]}",
     ERROR_TOO_LARGE, "layers: expected at most 2^48 parameters, found 512000032000000"},

    {MLP("'outputs':[]"), ERROR_BAD_VALUE, "outputs: expected at least one"},
    {MLP("'outputs':'fc'"), ERROR_BAD_TYPE, "outputs: expected a list of outputs"},
    {MLP("'outputs':[3]"), ERROR_BAD_TYPE,
     "outputs[0]: expected the name of a layer or {name, layer}, found 3"},
    {MLP("'outputs':['f']"), ERROR_BAD_GRAPH,
     "outputs[0]: no layer is called 'f'; did you mean 'fc'?"},
    {MLP("'outputs':['input']"), ERROR_BAD_GRAPH, "outputs[0]: no layer is called 'input'"},
    {MLP("'outputs':[{'name':'x'}]"), ERROR_MISSING_FIELD,
     "outputs[0]: the field 'layer' is missing"},
    {MLP("'outputs':[{'layer':'g'}]"), ERROR_BAD_GRAPH, "outputs[0].layer: no layer is called 'g'"},
    {MLP("'outputs':[{'layer':'fc','nam':'x'}]"), ERROR_UNKNOWN_FIELD,
     "outputs[0]: unknown field 'nam'; did you mean 'name'?"},
    {MLP("'outputs':[{'layer':'fc','name':'x y'}]"), ERROR_BAD_NAME, "outputs[0].name: "},
    {MLP("'outputs':['fc','fc']"), ERROR_BAD_NAME,
     "outputs[1].name: outputs[0] is called 'fc' too"},
    {MLP("'loss':'cross_entropy','outputs':[{'layer':'fc','name':'probabilities'}]"),
     ERROR_BAD_NAME, "outputs[0].name: 'probabilities' is what a classifier offers besides"},
    {"{" ROW "'layers':[" FC ",{'name':'s','op':'sum'}]}", ERROR_BAD_GRAPH,
     "outputs: layer 's' gives [], expected one result for each sample ([N, ...])"},

    {MLP("'loss':3"), ERROR_BAD_TYPE, "loss: expected a string or an object, found 3"},
    {MLP("'loss':{}"), ERROR_MISSING_FIELD, "loss: the field 'op' is missing"},
    {MLP("'loss':'mse','losses':['mse']"), ERROR_BAD_GRAPH,
     "loss: expected 'loss' or 'losses', found both"},
    {MLP("'losses':[]"), ERROR_BAD_VALUE, "losses: expected at least one"},
    {MLP("'losses':[['mse']]"), ERROR_BAD_TYPE,
     "losses[0]: expected a string or an object, found a list"},
    {MLP("'loss':'cross_entrpy'"), ERROR_UNKNOWN_OPERATOR, "'cross_entropy'"},
    {MLP("'loss':'relu'"), ERROR_UNKNOWN_OPERATOR, "loss: "},
    {MLP("'loss':{'op':'mse','weight':'heavy'}"), ERROR_BAD_TYPE,
     "loss.weight: expected a number or a list of numbers, found the string 'heavy'"},
    {MLP("'loss':{'op':'cross_entropy','weight':[1,'x',2]}"), ERROR_BAD_TYPE,
     "loss.weight[1]: expected a number"},
    {MLP("'loss':{'op':'cross_entropy','weight':[1,2]}"), ERROR_BAD_ATTRIBUTE, "loss: "},
    {MLP("'loss':{'op':'cross_entropy','label_smoothing':2}"), ERROR_BAD_ATTRIBUTE,
     "loss: layer 'loss' (cross_entropy): attribute 'label_smoothing' must be within [0, 1], not "
     "2"},
    {MLP("'losses':['mse',{'op':'l1','input':'gc'}]"), ERROR_BAD_GRAPH,
     "losses[1].input: no layer or input is called 'gc'; did you mean 'fc'?"},
    {MLP("'losses':[{'op':'mse','name':'a'},{'op':'l1','name':'a'}]"), ERROR_BAD_NAME,
     "losses[1].name: losses[0] is called 'a' too"},
    {MLP("'loss':{'op':'mse','name':'a b'}"), ERROR_BAD_NAME, "loss.name: "},
    {MLP("'loss':{'op':'mse','target':'a b'}"), ERROR_BAD_NAME, "loss.target: "},
    {"{" ROW "'layers':[" FC ",{'name':'g','op':'relu'}],'outputs':['fc','g'],"
     "'losses':['mse','l1','mse']}",
     ERROR_MISSING_FIELD,
     "losses[0]: the field 'input' is missing: say which of the 2 outputs it takes"},
    {"{" ROW "'layers':[" FC ",{'name':'s','op':'sum','inputs':'fc'}],'outputs':['fc'],"
     "'loss':{'op':'mse','input':'s'}}",
     ERROR_BAD_GRAPH, "loss.input: 's' gives [], expected one result for each sample"},

    {MLP("'loss':'mse','targets':[]"), ERROR_BAD_VALUE, "targets: expected at least one"},
    {MLP("'targets':[{'name':'y'}]"), ERROR_BAD_GRAPH, "targets[0]: no loss takes 'y'"},
    {MLP("'loss':'mse','targets':[{'name':'y','shape':[4]}]"), ERROR_BAD_SHAPE,
     "loss: layer 'loss' (mse)"},
    {MLP("'loss':'mse','targets':[{'name':'y'},{'name':'y'}]"), ERROR_BAD_NAME,
     "targets[1].name: targets[0] is called 'y' too"},
    {MLP("'loss':'mse','targets':[{'name':'y'},{'name':'z'}]"), ERROR_MISSING_FIELD,
     "loss: the field 'target' is missing: say which of the 2 targets it takes"},
    {MLP("'loss':{'op':'mse','target':'label'},'targets':[{'name':'labels'}]"), ERROR_BAD_GRAPH,
     "loss.target: no target is called 'label'; did you mean 'labels'?"},
    {MLP("'loss':'cross_entropy','targets':[{'datatype':'INT32'}]"), ERROR_BAD_DTYPE,
     "targets[0].datatype: expected FP32 or INT64, found 'INT32'"},

    {MLP("'loss':'mse','optimizer':{}"), ERROR_MISSING_FIELD,
     "optimizer: the field 'op' is missing"},
    {MLP("'loss':'mse','optimizer':[]"), ERROR_BAD_TYPE,
     "optimizer: expected a string or an object, found a list"},
    {MLP("'loss':'mse','optimizer':'adem'"), ERROR_UNKNOWN_OPERATOR, "no optimizer 'adem'"},
    {MLP("'optimizer':'adem'"), ERROR_UNKNOWN_OPERATOR, "no optimizer 'adem'"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','lr':-1}"), ERROR_BAD_ATTRIBUTE, "'lr'"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','lr':{}}"), ERROR_BAD_TYPE,
     "optimizer.lr: expected a number"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','momentun':0.9}"), ERROR_BAD_ATTRIBUTE,
     "did you mean 'momentum'?"},
    {MLP("'loss':'mse','schedule':'cosign'"), ERROR_UNKNOWN_OPERATOR, "no schedule 'cosign'"},

    {MLP("'clip_grad_norm':0"), ERROR_BAD_VALUE,
     "clip_grad_norm: expected a number above 0, found 0"},
    {MLP("'clip_grad_value':-0.5"), ERROR_BAD_VALUE,
     "clip_grad_value: expected a number above 0, found -0.5"},
    {MLP("'clip_grad_norm':'1'"), ERROR_BAD_TYPE,
     "clip_grad_norm: expected a number above 0, found the string '1'"},
    {MLP("'seed':-1"), ERROR_BAD_VALUE, "seed: expected 0 to 2^53, found -1"},
    {MLP("'seed':9007199254740993"), ERROR_BAD_VALUE, "seed: expected 0 to 2^53, found 90071"},
    {MLP("'seed':1.5"), ERROR_BAD_TYPE, "seed: expected an integer from 0 to 2^53, found 1.5"},
    {MLP("'labels':'a'"), ERROR_BAD_TYPE, "labels: expected a list of strings"},
    {MLP("'labels':['a',2]"), ERROR_BAD_TYPE, "labels[1]: expected a string, found 2"},
    {MLP("'loss':'cross_entropy','labels':['a','b']"), ERROR_BAD_VALUE,
     "labels: expected 3, as many as 'output' has classes, found 2"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':{}}"), ERROR_BAD_TYPE, "optimizer.groups"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'lr':1}]}"), ERROR_MISSING_FIELD,
     "optimizer.groups[0]: the field 'params' is missing"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'params':['*.bias'],'op':'adam'}]}"),
     ERROR_BAD_VALUE, "optimizer.groups[0].op"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'params':['*.bias'],'lr':-1}]}"),
     ERROR_BAD_ATTRIBUTE, "optimizer.groups[0]: "},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'params':['*.bias'],'beta1':0}]}"),
     ERROR_BAD_ATTRIBUTE, "no attribute 'beta1'"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'params':['fc.*'],'momentum':0.5}]}"),
     ERROR_BAD_VALUE, "keep 1 blocks of state"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','groups':[{'params':['fc.*','gc.*']}]}"),
     ERROR_BAD_VALUE, "optimizer.groups[0].params[1]: no parameter matches 'gc.*'"},
    {MLP("'frozen':[3]"), ERROR_BAD_TYPE, "frozen[0]: expected a string, found 3"},
    {MLP("'frozen':['fc.weigth']"), ERROR_BAD_VALUE,
     "frozen[0]: no parameter matches 'fc.weigth'; did you mean 'fc.weight'?"},
    {MLP("'frozen':['fc.*','gc.*']"), ERROR_BAD_VALUE, "frozen[1]: no parameter matches 'gc.*'"},
};
enum { BAD = sizeof bad / sizeof bad[0] };

static void test_mistakes(void **state)
{
    (void)state;
    for (int i = 0; i < BAD; i++) {
        struct error e = {0}, again = {0};
        json_t *json = json_of(bad[i].text);
        assert_null(describe_network(json, &e));
        assert_null(describe_expand(json, &again));
        if (e.code != bad[i].code || !strstr(e.text, bad[i].part))
            fail_msg("%s\n  said (%s): %s\n  expected (%s): %s", bad[i].text, error_slug(e.code),
                     e.text, error_slug(bad[i].code), bad[i].part);
        assert_string_equal(e.text, again.text);
        json_decref(json);
    }
}

static void test_long_names(void **state)
{
    char name[80] = "", text[400];
    (void)state;
    memset(name, 'n', 64);
    snprintf(text, sizeof text, "{" ROW "'layers':[{'name':'%s','op':'relu'}]}", name);
    struct network *net = network_of(text);
    network_destroy(&net);
    name[64] = 'n';
    snprintf(text, sizeof text, "{" ROW "'layers':[{'name':'%s','op':'relu'}]}", name);
    struct error e = {0};
    json_t *json = json_of(text);
    assert_null(describe_network(json, &e));
    assert_int_equal(e.code, ERROR_BAD_NAME);
    json_decref(json);
}

/* A long loop is named in part. */
static void test_long_cycle(void **state)
{
    (void)state;
    struct error e = {0};
    json_t *layers = json_array();
    for (int i = 0; i < 1000; i++)
        json_array_append_new(layers, json_pack("{s:s}", "op", "relu"));
    json_object_set_new(json_array_get(layers, 0), "inputs", json_string("layers.999"));
    json_t *model = json_pack("{s:[{s:[i]}], s:o}", "inputs", "shape", 2, "layers", layers);
    assert_null(describe_network(model, &e));
    assert_int_equal(e.code, ERROR_CYCLE);
    assert_string_equal(e.text, "layers 'layers.0' -> 'layers.1' -> 'layers.2' -> 'layers.3' -> "
                                "'layers.4' -> 'layers.5' -> ... -> 'layers.0' feed themselves");
    json_decref(model);
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
        cmocka_unit_test(test_expanded_network),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_long_cycle),
        cmocka_unit_test(test_description_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
