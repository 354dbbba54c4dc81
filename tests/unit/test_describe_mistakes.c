/* test_describe_mistakes.c: the sentence for each mistake of a model description. */
#include "describe_fixture.h"

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
    {"{" ROW "'layers':[{'op':'linear','out_features':2,'colour':3}]}", ERROR_BAD_ATTRIBUTE,
     "no attribute 'colour'; there are: out_features, bias, in_features"},
    {"{" ROW "'layers':[{'op':'relu','colour':3}]}", ERROR_BAD_ATTRIBUTE, "it has none"},
    {"{" ROW "'layers':[{'op':'linear','units':3}]}", ERROR_BAD_ATTRIBUTE, "mean 'out_features'?"},

    /* What torch's constructors are told is held against the input. */
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':3,'in_channels':3}]}",
     ERROR_BAD_SHAPE,
     "layers[0]: layer 'layers.0' (conv2d): in_channels is 3, but the input has 1"},
    {"{" ROW "'layers':[{'op':'linear','out_features':2,'in_features':5}]}", ERROR_BAD_SHAPE,
     "in_features is 5, but the input has 4"},
    {"{" IMAGE "'layers':[{'op':'batch_norm2d','num_features':2}]}", ERROR_BAD_SHAPE,
     "num_features is 2, but the input has 1"},
    {"{'inputs':[{'shape':[-1,4,6]}],'layers':[{'op':'lstm','hidden_size':2,'input_size':4}]}",
     ERROR_BAD_SHAPE, "input_size is 4, but the input has 6"},
    {"{" ROW "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':3,'in_channels':3}]}",
     ERROR_BAD_SHAPE, "(conv2d): "},
    {"{" ROW "'layers':[{'op':'linear','out_features':2,'in_features':'4'}]}", ERROR_BAD_ATTRIBUTE,
     "attribute 'in_features' must be an integer, not a string"},
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':2,'padding':'same'}]}",
     ERROR_BAD_ATTRIBUTE, "an odd number of pixels, not 2"},
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':3,'padding':'same',"
     "'stride':[1,2]}]}",
     ERROR_BAD_ATTRIBUTE, "a stride of 1 only, not 2"},
    {"{" IMAGE "'layers':[{'op':'conv2d','out_channels':2,'kernel_size':3,'padding':'valid'}]}",
     ERROR_BAD_ATTRIBUTE, "attribute 'padding' must be"},

    /* Other libraries' names. */
    {MLP("'loss':'mae'"), ERROR_UNKNOWN_OPERATOR, "no loss 'mae'; did you mean 'l1'?"},
    {MLP("'loss':'CrossEntropyLoss'"), ERROR_UNKNOWN_OPERATOR, "did you mean 'cross_entropy'?"},
    {MLP("'loss':'MSELoss'"), ERROR_UNKNOWN_OPERATOR, "did you mean 'mse'?"},
    {MLP("'loss':'binary_cross_entropy'"), ERROR_UNKNOWN_OPERATOR, "did you mean 'bce'?"},
    {MLP("'loss':'nll_loss'"), ERROR_UNKNOWN_OPERATOR, "did you mean 'nll'?"},
    {MLP("'loss':'BCEWithLogitsLoss'"), ERROR_UNKNOWN_OPERATOR, "did you mean 'bce_with_logits'?"},
    {MLP("'loss':'zzzzzzzzzz'"), ERROR_UNKNOWN_OPERATOR,
     "no loss 'zzzzzzzzzz'; there are cross_entropy, bce_with_logits, mse, l1, huber"},
    {"{" ROW "'layers':[{'op':'GELU'}]}", ERROR_UNKNOWN_OPERATOR, "did you mean 'gelu'?"},
    {"{" ROW "'layers':[{'op':'LSTM'}]}", ERROR_UNKNOWN_OPERATOR, "did you mean 'lstm'?"},
    {"{" ROW "'layers':[{'op':'ReLU'}]}", ERROR_UNKNOWN_OPERATOR, "did you mean 'relu'?"},
    {"{" ROW "'layers':[{'op':'BatchNorm2d'}]}", ERROR_UNKNOWN_OPERATOR,
     "did you mean 'batch_norm2d'?"},
    {"{" ROW "'layers':[{'op':'Dense'}]}", ERROR_UNKNOWN_OPERATOR, "did you mean 'linear'?"},
    {MLP("'loss':'mse','schedule':{'op':'cosine','T_max':10}"), ERROR_BAD_ATTRIBUTE,
     "did you mean 'total_steps'?"},
    {MLP("'loss':'mse','optimizer':{'op':'sgd','learning_rate':0.1}"), ERROR_BAD_ATTRIBUTE,
     "did you mean 'lr'?"},
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
    {MLP("'loss':'mse','optimizer':{'op':'adam','betas':[0.9,0.99],'beta1':0.8}"),
     ERROR_BAD_ATTRIBUTE, "attributes 'betas' and 'beta1' say the same thing"},
    {MLP("'loss':'mse','optimizer':{'op':'lion','beta2':0.8,'betas':[0.9,0.99]}"),
     ERROR_BAD_ATTRIBUTE, "attributes 'betas' and 'beta2' say the same thing"},
    {MLP("'loss':'mse','optimizer':{'op':'adam','groups':[{'params':['fc.*'],'betas':[0.9,0.9],"
         "'beta1':0.5}]}"),
     ERROR_BAD_ATTRIBUTE, "optimizer.groups[0]: "},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_long_cycle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
