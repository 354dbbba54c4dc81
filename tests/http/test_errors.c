/* test_errors.c: requests that must be refused, as one table: each is answered with the right
 * status, the stable code and a sentence that names the place, what was found or what was expected;
 * and after each the model that was asked is, to the bit, as it was before. */
#include "../support/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pieces of the table --------------------------------------------------------------------- */

#define PUT_NEW   "PUT", "/v2/models/new"
#define STEP      "POST", "/v2/models/m/train_step"
#define INFER     "POST", "/v2/models/m/infer"
#define EVALUATE  "POST", "/v2/models/m/evaluate"
#define GRADIENTS "POST", "/v2/models/m/gradients"
#define AUTOGRAD  "POST", "/v2/autograd"

#define IMAGE  "\"inputs\":[{\"shape\":[-1,3,8,8]}]"
#define VECTOR "\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}]"
#define LINEAR "\"layers\":[{\"op\":\"linear\",\"out_features\":3}]"
/* A description of one layer on an image; and one of all that follows the layers. */
#define LAYER(text)   "{" IMAGE ",\"layers\":[{" text "}]}"
#define TRAINED(text) "{" VECTOR "," LINEAR ",\"loss\":\"cross_entropy\"," text "}"
/* A step of "m" with these inputs and targets. */
#define BATCH(inputs, targets) "{\"inputs\":" inputs ",\"targets\":" targets "}"
#define ONE                    "[[1,2,3,4]]"

static const struct row {
    const char *method, *path, *body;
    int status;
    const char *code, *part;
} rows[] = {
    /* Broken JSON: line and column of the mistake. */
    {STEP, "{\"inputs\":[[1,2,3,4]],\n \"targets\":[0]", 400, "bad_json", "line 2"},
    {STEP, "{\"inputs\" [[1]]}", 400, "bad_json", "line 1, column 11"},
    {STEP, "{\"targets\":[0],\n\n  \"inputs\":[1,,2,3,4]}", 400, "bad_json", "line 3, column 15"},
    {STEP, "{\"inputs\":[1,2,}", 400, "bad_json", "column 16"},
    {STEP, "{\"inputs\":[NaN]}", 400, "bad_json", "column 12"},
    {STEP, BATCH("[[1,2,3,4.]]", "[0]"), 400, "bad_json", "column 21"},
    {STEP, BATCH("[[1,2,3,04]]", "[0]"), 400, "bad_json", "column 20"},
    {STEP, "{\"inputs\":[1],\"inputs\":[2]}", 400, "duplicate_field", "column"},
    {STEP, "{} {}", 400, "bad_json", "column 4"},
    {STEP, "nonsense", 400, "bad_json", "line 1"},
    {STEP, "", 400, "bad_json", "empty"},
    {STEP, "[]", 400, "bad_type", "object"},
    {STEP, "\"text\"", 400, "bad_type", "the string 'text'"},
    {STEP, "{\"inputs\":[1],\"inputs\":[2]", 400, "bad_json", "column 27"},
    {STEP, BATCH("[[1,2,3]]", "[0,,0]"), 400, "bad_json", "column 34"},
    {STEP, "{\"inputs\":[[\"a\",02]]}", 400, "bad_json", "column 17"},
    {STEP, "{\"id\":\"a\\u0000b\",\"inputs\":" ONE "}", 422, "bad_value", "column 7"},
    {STEP, "{\"i\\u0000d\":1}", 400, "bad_name", "column 2"},
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"data\":[1,,2]}}", 400, "bad_json", "column 47"},
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"a\":{\"inputs\":[01]}}}", 400, "bad_json",
     "column 53"},
    {PUT_NEW, "{" IMAGE ",\n\"layers\":[{\"op\":}]}", 400, "bad_json", "line 2, column 17"},
    {PUT_NEW, "{\"inputs\":\"\xff\"}", 400, "bad_json", "0xff"},

    /* Descriptions: types, fields, names. */
    {PUT_NEW, "{}", 400, "missing_field", "inputs"},
    {PUT_NEW, "{" IMAGE "}", 400, "missing_field", "layers"},
    {PUT_NEW, "{\"inputs\":{},\"layers\":[]}", 400, "bad_type", "inputs"},
    {PUT_NEW, "{\"inputs\":[],\"layers\":[]}", 422, "bad_value", "inputs"},
    {PUT_NEW, "{" IMAGE ",\"layers\":[]}", 422, "bad_value", "layers"},
    {PUT_NEW, "{" IMAGE ",\"layer\":[]}", 400, "unknown_field", "'layers'"},
    {PUT_NEW, "{" IMAGE ",\"layers\":[3]}", 400, "bad_type", "layers[0]"},
    {PUT_NEW, LAYER("\"name\":\"a\""), 400, "missing_field", "'op'"},
    {PUT_NEW, LAYER("\"op\":7"), 400, "bad_type", "layers[0].op"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"name\":\"a b\""), 400, "bad_name", "'a b'"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"name\":\"\""), 400, "bad_name", "layers[0].name"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"name\":\"a\"},{\"op\":\"relu\",\"name\":\"a\""), 400,
     "bad_name", "layers[1]"},
    {PUT_NEW, LAYER("\"op\":\"conv2\",\"out_channels\":8"), 422, "unknown_operator", "'conv2d'"},
    {PUT_NEW, LAYER("\"op\":\"\""), 422, "unknown_operator", "layers[0]"},
    {PUT_NEW, LAYER("\"op\":\"mse\""), 422, "bad_graph", "loss"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[3,-1]}]," LINEAR "}", 422, "bad_shape", "first"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[-1,0]}]," LINEAR "}", 422, "bad_shape", "at least 1"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[-1,2.5]}]," LINEAR "}", 400, "bad_type", "shape[1]"},
    {PUT_NEW, "{\"inputs\":[{\"name\":\"x\"}]," LINEAR "}", 400, "missing_field", "shape"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[-1,4],\"datatype\":\"FP8\"}]," LINEAR "}", 422,
     "bad_datatype", "FP8"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[1,1,1,1,1,1,1,1,1]}]," LINEAR "}", 422, "bad_shape", "8"},

    /* Attributes. */
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"kernel_size\":3"), 422, "bad_attribute", "out_channels"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"stride\":0"), 422,
     "bad_attribute", "stride"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"padding\":-1"), 422,
     "bad_attribute", "padding"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"groups\":2"), 422,
     "bad_shape", "groups 2"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":[3,3,3]"), 422,
     "bad_attribute", "kernel_size"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8.5,\"kernel_size\":3"), 422,
     "bad_attribute", "8.5"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":3,\"strides\":1"), 422,
     "bad_attribute", "'stride'"},
    {PUT_NEW, LAYER("\"op\":\"dropout\",\"p\":1.5"), 422, "bad_attribute", "1.5"},
    {PUT_NEW, LAYER("\"op\":\"dropout\",\"p\":\"much\""), 422, "bad_attribute", "a string"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"p\":{}"), 400, "bad_type", "layers[0].p"},
    {PUT_NEW, LAYER("\"op\":\"gelu\",\"approximate\":\"sine\""), 422, "bad_attribute", "sine"},

    /* Layers that do not fit: the layer, what was expected, what was found. */
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":9"), 422, "bad_shape",
     "layers[0]"},
    {PUT_NEW, "{" VECTOR ",\"layers\":[{\"op\":\"conv2d\",\"out_channels\":8,\"kernel_size\":1}]}",
     422, "bad_shape", "[N, 4]"},
    {PUT_NEW, "{" VECTOR ",\"layers\":[{\"op\":\"reshape\",\"shape\":[3]}]}", 422, NULL,
     "layers[0]"},
    {PUT_NEW,
     LAYER("\"op\":\"add\",\"inputs\":[\"a\",\"input\"]},{\"name\":\"a\",\"op\":\"sum\","
           "\"inputs\":[\"layers.0\"]"),
     422, "cycle", "'layers.0'"},
    {PUT_NEW, LAYER("\"name\":\"self\",\"op\":\"relu\",\"inputs\":[\"self\"]"), 422, "cycle",
     "itself"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"inputs\":[\"inputt\"]"), 422, "bad_graph", "'input'"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"inputs\":[]"), 422, "bad_value", "layers[0].inputs"},
    {PUT_NEW, LAYER("\"op\":\"relu\",\"inputs\":[\"input\",\"input\"]"), 422, NULL, "layers[0]"},
    {PUT_NEW, LAYER("\"op\":\"linear\",\"out_features\":4000000000000000"), 422, NULL, "layers[0]"},
    {PUT_NEW, "{\"inputs\":[{\"shape\":[-1,4000000000,4000000000]}]," LINEAR "}", 422, "too_large",
     "inputs[0]"},
    {PUT_NEW, LAYER("\"op\":\"conv2d\",\"out_channels\":1000000,\"kernel_size\":7"), 507,
     "out_of_memory", "--max-memory"},

    /* Training settings. */
    {PUT_NEW, TRAINED("\"outputs\":[\"layers.9\"]"), 422, "bad_graph", "'layers.9'"},
    {PUT_NEW, TRAINED("\"optimizer\":{\"op\":\"sgdd\",\"lr\":1}"), 422, "unknown_operator", "sgd"},
    {PUT_NEW, TRAINED("\"optimizer\":{\"op\":\"sgd\",\"lr\":-1}"), 422, "bad_attribute", "lr"},
    {PUT_NEW, TRAINED("\"optimizer\":{\"op\":\"sgd\",\"learning_rate\":1}"), 422, "bad_attribute",
     "learning_rate"},
    {PUT_NEW, TRAINED("\"schedule\":\"cosin\""), 422, "unknown_operator", "cosine"},
    {PUT_NEW, TRAINED("\"clip_grad_norm\":-1"), 422, "bad_value", "clip_grad_norm"},
    {PUT_NEW, TRAINED("\"seed\":-1"), 422, "bad_value", "seed"},
    {PUT_NEW, TRAINED("\"seed\":1.5"), 400, "bad_type", "seed"},
    {PUT_NEW, TRAINED("\"labels\":[\"a\",\"b\"]"), 422, "bad_value", "labels"},
    {PUT_NEW, TRAINED("\"frozen\":[\"fc\"]"), 422, "bad_value", "frozen[0]"},
    {PUT_NEW, TRAINED("\"losses\":[\"mse\"]"), 422, "bad_graph", "both"},
    {PUT_NEW, "{" VECTOR "," LINEAR ",\"loss\":\"cross_entrpy\"}", 422, "unknown_operator",
     "'cross_entropy'"},
    {PUT_NEW, "{" VECTOR "," LINEAR ",\"loss\":\"relu\"}", 422, NULL, "loss"},

    /* Batches. */
    {STEP, "{}", 400, "missing_field", "inputs"},
    {STEP, "{\"inputs\":" ONE "}", 400, "missing_field", "targets"},
    {STEP, "{\"input\":" ONE ",\"targets\":[0]}", 400, "unknown_field", "'inputs'"},
    {STEP, BATCH("3", "[0]"), 400, "bad_type", "inputs"},
    {STEP, BATCH("[\"a\"]", "[0]"), 400, "bad_type", "expected numbers of shape [N, 4]"},
    {"POST", "/v2/models/t/infer", "{\"inputs\":[\"hello\"]}", 400, "bad_type",
     "'ids'; expected INT64 (whole numbers, such as those of tokens) of shape [N, 3]"},
    {STEP, BATCH("[[\"a\",2]]", "[0]"), 400, "bad_type",
     "inputs[0][0]: expected a number, found the string 'a'"},
    {STEP, BATCH("[[[{}]]]", "[0]"), 400, "bad_type",
     "inputs[0][0][0]: expected a number, found an object"},
    {STEP, BATCH("[{\"data\":" ONE "},[1,2,3,4]]", "[0]"), 400, "bad_type",
     "inputs[1] is a list of numbers among tensors"},
    {STEP, BATCH("[{\"data\":" ONE "},7]", "[0]"), 400, "bad_type", "inputs[1] is an integer"},
    {"POST", "/v2/models/n/train_step", BATCH(ONE, "[0]"), 409, "conflict", "without a loss"},
    {"POST", "/v2/models/n/evaluate", BATCH(ONE, "[0]"), 409, "conflict", "without a loss"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"lr\":0.1}", 400, "unknown_field",
     "unknown field 'lr'; it belongs into 'parameters'"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"seq\":1}", 400, "unknown_field",
     "'seq'; it belongs into 'parameters'"},
    {INFER, "{\"inputs\":" ONE ",\"weights\":\"ema\"}", 400, "unknown_field",
     "'weights'; it belongs into 'parameters'"},
    {"POST", "/v2/models/m/profile", "{\"steps\":2}", 400, "unknown_field",
     "'steps'; it belongs into 'parameters'"},
    {"POST", "/v2/models/m/optim_step", "{\"lr\":2}", 400, "unknown_field",
     "'lr'; it belongs into 'parameters'"},
    {STEP, BATCH("[[1,2,3,\"4\"]]", "[0]"), 400, "bad_type", NULL},
    {STEP, BATCH("[[1,2,3,null]]", "[0]"), 400, NULL, NULL},
    {STEP, BATCH("[[1,2,3]]", "[0]"), 422, "bad_shape", "[N, 4]"},
    {STEP, BATCH("[[1,2,3,4],[1,2,3]]", "[0,0]"), 422, "bad_shape", "inputs"},
    {STEP, BATCH("[[[1,2,3,4]]]", "[0]"), 422, "bad_shape", "[1, 1, 4]"},
    {STEP, BATCH("[]", "[]"), 422, "empty_batch", "inputs"},
    {STEP, BATCH("[{\"shape\":[0,4],\"data\":[]}]", "[]"), 422, "empty_batch", "inputs"},
    {STEP, BATCH("[{\"data\":[1,2,3,4],\"shape\":[2,4]}]", "[0,0]"), 422, "bad_shape", "[2, 4]"},
    {STEP, BATCH("[{\"data\":[1,2,3,4,5],\"shape\":[1,4]}]", "[0]"), 422, "bad_shape", "4"},
    {STEP, BATCH("[{\"data\":[1,2,3,4],\"shape\":[-1,4]}]", "[0]"), 422, "bad_shape", "-1"},
    {STEP, BATCH("[{\"data\":[1,2,3,4],\"shape\":\"1,4\"}]", "[0]"), 400, "bad_type", "shape"},
    {STEP, BATCH("[{\"data\":[1,2,3,4],\"shap\":[1,4]}]", "[0]"), 400, "unknown_field", "shape"},
    {STEP, BATCH("[{\"shape\":[1,4]}]", "[0]"), 400, "missing_field", "data"},
    {STEP, BATCH("[{\"name\":\"y\",\"data\":" ONE "}]", "[0]"), 400, "unknown_field", "'y'"},
    {STEP, BATCH("[{\"name\":3,\"data\":" ONE "}]", "[0]"), 400, "bad_type", "name"},
    {STEP, BATCH("[{\"datatype\":\"FP33\",\"data\":" ONE "}]", "[0]"), 422, "bad_datatype", "FP32"},
    {STEP, BATCH("[{\"datatype\":\"BYTES\",\"data\":[\"ab\"]}]", "[0]"), 400, "bad_type",
     "inputs[0]"},
    {STEP, BATCH("[{\"datatype\":\"INT8\",\"data\":[[1,2,3,128]]}]", "[0]"), 422, "bad_value",
     "INT8"},
    {STEP, BATCH("[{\"datatype\":\"INT32\",\"data\":[[1,2,3,0.5]]}]", "[0]"), 400, "bad_type",
     "0.5"},
    {STEP, BATCH("[{\"shape\":[1099511627776,1099511627776],\"data\":[1]}]", "[0]"), 422,
     "too_large", "inputs"},
    {STEP, BATCH("[{\"shape\":[9223372036854775807,4],\"data\":[1]}]", "[0]"), 422, "too_large",
     "inputs"},
    {STEP, BATCH("[{\"shape\":[99999999999999999999,4],\"data\":[1]}]", "[0]"), 422, "bad_value",
     "big"},
    {STEP, BATCH(ONE, "[3]"), 422, "bad_value", "3"},
    {STEP, BATCH(ONE, "[-1]"), 422, "bad_value", "-1"},
    {STEP, BATCH(ONE, "[0.5]"), 400, "bad_type", "0.5"},
    {STEP, BATCH(ONE, "[0,1]"), 422, "bad_shape", "2 examples"},
    {STEP, BATCH(ONE, "[[0]]"), 422, "bad_shape", "targets"},
    {STEP, BATCH("[[1,2,3,1e39]]", "[0]"), 422, "bad_value", "1e39"},
    {STEP, BATCH("[[-1e400,2,3,4]]", "[0]"), 422, "bad_value", "-1e400"},
    {"POST", "/v2/models/w/train_step", BATCH("[[1e30]]", "[[0]]"), 422, "not_finite", "'loss'"},
    {"POST", "/v2/models/w/forward_backward", BATCH("[[3e38]]", "[[-3e38]]"), 422, "not_finite",
     "'loss'"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"lr\":-1}}", 422, "bad_value",
     "lr"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"lr\":\"1\"}}", 400, "bad_type",
     "lr"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"learning_rate\":1}}", 400,
     "unknown_field", "learning_rate"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"lr\":1e300}}", 422, "not_finite",
     "hidden"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":[]}", 400, "bad_type", "parameters"},
    {STEP, "{\"inputs\":" ONE ",\"targets\":[0],\"id\":7}", 400, "bad_type", "id"},
    {"POST", "/v2/models/m/optim_step", "{\"parameters\":{\"keep_gradients\":1}}", 400, "bad_type",
     "keep_gradients"},
    {"POST", "/v2/models/m/optim_step", "{}", 409, "conflict", "pending"},
    {"POST", "/v2/models/m/zero_grad", "{\"all\":true}", 400, "unknown_field", "all"},
    {"POST", "/v2/models/m/evaluate", BATCH(ONE, "[5]"), 422, "bad_value", "5"},
    {GRADIENTS, BATCH(ONE, "[7]"), 422, "bad_value", "7"},
    {"POST", "/v2/models/w/gradients", BATCH("[[1e30]]", "[[0]]"), 422, "not_finite", "'loss'"},
    {GRADIENTS, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"wrt\":[3]}}", 400,
     "bad_type", "wrt[0]"},
    {GRADIENTS, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"wrt\":[\"outt.weight\"]}}",
     422, "bad_value", "'out.weight'"},
    {GRADIENTS, "{\"inputs\":" ONE ",\"targets\":[0],\"parameters\":{\"mode\":\"test\"}}", 422,
     "bad_value", "eval"},
    {INFER, "{\"inputs\":[[1,2,3]]}", 422, "bad_shape", "[N, 4]"},
    {INFER, "{\"inputs\":" ONE ",\"targets\":[0]}", 400, "unknown_field", "targets"},
    {INFER, "{\"inputs\":" ONE ",\"outputs\":[{\"name\":\"probability\"}]}", 400, "unknown_field",
     "'probabilities'"},
    {INFER, "{\"inputs\":" ONE ",\"outputs\":[\"output\"]}", 400, "bad_type", "outputs[0]"},
    {INFER, "{\"inputs\":" ONE ",\"outputs\":[{}]}", 400, "missing_field", "name"},
    {INFER,
     "{\"inputs\":" ONE ",\"outputs\":[{\"name\":\"output\",\"parameters\":"
     "{\"classification\":-2}}]}",
     422, "bad_value", "classification"},
    /* Parameters that nobody knows would otherwise look as if they worked. */
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"weight\":\"ema\"}}", 400, "unknown_field",
     "'weights'"},
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"topk\":2}}", 400, "unknown_field", "'top_k'"},
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"conf\":0.1}}", 409, "conflict", "no detector"},
    {INFER,
     "{\"inputs\":" ONE
     ",\"outputs\":[{\"name\":\"output\",\"parameters\":{\"clasification\":1}}]}",
     400, "unknown_field", "'classification'"},
    {EVALUATE, BATCH(ONE, "[0],\"parameters\":{\"metric\":[]}"), 400, "unknown_field", "'metrics'"},
    {INFER, "{\"inputs\":" ONE ",\"parameters\":{\"binary_data_output\":1}}", 400, "bad_type",
     "binary_data_output"},

    /* Paths, methods, queries. */
    {"GET", "/v2/modles", NULL, 404, "unknown_path", "/v2/models"},
    {"POST", "/v2/models/m/trainstep", "{}", 404, "unknown_path", "train_step"},
    {"POST", "/v2/models/m/predict", "{}", 404, "unknown_path", "mean /v2/models/m/infer?"},
    {"POST", "/v2/models/m/train", "{}", 404, "unknown_path", "mean /v2/models/m/train_step?"},
    {"POST", "/v2/models/m/fit", "{}", 404, "unknown_path", "mean /v2/models/m/train_step?"},
    {"POST", "/models/m/infer", "{}", 404, "unknown_path", "mean /v2/models/m/infer?"},
    {"POST", "/v2/model/m/infr", "{}", 404, "unknown_path", "mean /v2/models/m/infer?"},
    {"GET", "/v2/models/m/train_step", NULL, 405, "method_not_allowed", "POST"},
    {"DELETE", "/v2/models", NULL, 405, "method_not_allowed", "GET"},
    {"PUT", "/v2/models/m/infer", "{}", 405, "method_not_allowed", "POST"},
    {"GET", "/v2/models/mm", NULL, 404, "unknown_model", "'mm'"},
    {"POST", "/v2/models/other/infer", "{}", 404, "unknown_model", "'other'"},
    {"GET", "/v2/models/m/versions/1", NULL, 404, "unknown_version", "1"},
    {"GET", "/v2/models/m/versions/one", NULL, 404, "unknown_alias", "one"},
    {"GET", "/v2/models/m/versions/0", NULL, 400, "bad_name", "0"},
    {"POST", "/v2/models/m/versions/99999999999999999999/restore", NULL, 400, "bad_name", NULL},
    {"POST", "/v2/models/m/versions", "{\"note\":1}", 400, "bad_type", "note"},
    {"GET", "/v2/models/m?hash=1", NULL, 400, "bad_query", "hash"},
    {"GET", "/v2/models/m/metrics?since=yesterday", NULL, 400, "bad_query", "yesterday"},
    {"GET", "/v2/models/m/metrics?max_points=0", NULL, 400, "bad_query", "max_points"},
    {"GET", "/v2/models/m/metrics?since=%zz", NULL, 400, "bad_query", "hexadecimal"},
    {"PUT", "/v2/models/a%20b", "{}", 400, "bad_name", "'a b'"},
    {"PUT", "/v2/models/%F0%9F%8D%8E", "{}", 400, "bad_name", NULL},

    /* Expressions. */
    {AUTOGRAD, "{\"tensors\":{}}", 400, "missing_field", "expression"},
    {AUTOGRAD, "{\"expression\":\"1+\"}", 400, "bad_expression", NULL},
    {AUTOGRAD, "{\"expression\":\"y\",\"tensors\":{\"x\":{\"data\":[1]}}}", 400, "bad_expression",
     "y"},
    {AUTOGRAD, "{\"expression\":\"rellu(x)\",\"tensors\":{\"x\":{\"data\":[1]}}}", 422,
     "unknown_operator", "relu"},
    {AUTOGRAD,
     "{\"expression\":\"a@b\",\"tensors\":{\"a\":{\"data\":[[1,2]]},\"b\":{\"data\":"
     "[[1,2]]}}}",
     422, "bad_shape", NULL},
    {AUTOGRAD, "{\"expression\":\"x\",\"tensors\":{\"x\":{\"data\":[1],\"requires_grad\":1}}}", 400,
     "bad_type", "requires_grad"},
    {AUTOGRAD, "{\"expression\":\"x\",\"tensors\":{\"2x\":{\"data\":[1]}}}", 400, "bad_name", "2x"},
    {AUTOGRAD, "{\"expression\":\"x\",\"tensors\":{\"x\":{\"data\":[1e99]}}}", 422, "bad_value",
     "1e99"},
    /* A bare list is no tensor here, and never another's numbers, whose place in the body it names.
     */
    {AUTOGRAD,
     "{\"expression\":\"a+b\",\"tensors\":{\"a\":[1],\"b\":{\"data\":[10]},\"c\":{\"data\":[20]}}}",
     400, "bad_type", "'a' is an array"},
    {AUTOGRAD, "{\"expression\":\"data\",\"tensors\":{\"data\":[1]}}", 400, "bad_type",
     "'data' is an array"},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- running it ------------------------------------------------------------------------------ */

static bool row_holds(struct client *c, const struct row *r)
{
    struct answer *a = client_json(c, r->method, r->path, r->body);
    json_t *root = json_loadb(a->body, a->size, 0, NULL);
    const char *code = json_string_value(json_object_get(root, "code"));
    const char *sentence = json_string_value(json_object_get(root, "error"));
    bool holds = a->status == r->status && code && sentence &&
                 (!r->code || !strcmp(code, r->code)) && (!r->part || strstr(sentence, r->part)) &&
                 !strchr(sentence, '\n');
    if (!holds)
        print_error("%s %s %s\n    is answered %d %s    expected %d %s with '%s'\n", r->method,
                    r->path, r->body ? r->body : "", a->status, a->body, r->status,
                    r->code ? r->code : "(any code)", r->part ? r->part : "");
    json_decref(root);
    return holds;
}

/* A hint that leads elsewhere is worse than none. */
static void no_hint(struct daemon *d)
{
    static const char *const paths[] = {"/v2/models/m/generate", "/v2/models/m/fine-tune", "/x",
                                        "/v2/models/m/infer/more", "/v2/chat/completions"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct answer *a = client_post(d->client, paths[i], "{}");
        answer_refused(a, 404, "unknown_path", "no such path");
        if (strstr(a->body, "did you mean"))
            fail_msg("%s", a->body);
    }
}

static void every_row(struct daemon *d)
{
    struct client *c = d->client;
    int wrong = 0;
    remote_create(c, "m", remote_mlp);
    remote_step(c, "m", 1, 4);
    remote_create(c, "w", remote_scalar);
    remote_create(c, "n", "{" VECTOR "," LINEAR "}");
    remote_create(
        c, "t",
        "{\"inputs\":[{\"name\":\"ids\",\"datatype\":\"INT64\",\"shape\":[-1,3]}],\"layers\":["
        "{\"op\":\"embedding\",\"num_embeddings\":9,\"embedding_dim\":2}]}");
    struct remote_hash before = remote_hash(c, "m"), scalar = remote_hash(c, "w");
    double memory = answer_number(client_get(c, "/v2"), "memory_used_bytes");
    for (int i = 0; i < ROWS; i++) {
        wrong += !row_holds(c, &rows[i]);
        assert_same_state(remote_hash(c, "m"), before);
        assert_same_state(remote_hash(c, "w"), scalar);
        assert_true(remote_number(c, "m", "revision") == 1);
        client_forget(c);
    }
    assert_int_equal(wrong, 0);
    assert_true(ROWS >= 80);
    /* Nothing was made, and nothing is kept of what was refused but runs for later. */
    assert_int_equal(json_array_size(answer_find(client_get(c, "/v2/models"), "models")), 4);
    double now = answer_number(client_get(c, "/v2"), "memory_used_bytes");
    assert_true(now - memory < 4e6);
}

/* The same refusals while gradients are pending: they stay. */
static void while_pending(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    remote_post(c, "m", "forward_backward", remote_batch(c, 1, 4, 4, NULL));
    struct remote_hash before = remote_hash(c, "m");
    static const char *const bodies[] = {BATCH(ONE, "[3]"), BATCH("[[1,2,3]]", "[0]"), "{"};
    for (int i = 0; i < 3; i++) {
        struct answer *a = remote_call(c, "POST", "m", "/forward_backward", bodies[i]);
        assert_true(a->status == 422 || a->status == 400);
        assert_same_state(remote_hash(c, "m"), before);
    }
    answer_refused(remote_call(c, "POST", "m", "/optim_step", "{\"parameters\":{\"lr\":1e300}}"),
                   422, "not_finite", "hidden");
    assert_same_state(remote_hash(c, "m"), before);
    assert_true(remote_number(c, "m", "revision") == 1);
}

static void bodies(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m", remote_mlp);
    struct remote_hash before = remote_hash(c, "m");
    char *large = calloc(1, 20001);
    assert_non_null(large);
    memset(large, ' ', 20000);
    answer_refused(remote_call(c, "POST", "m", "/train_step", large), 413, "body_too_large",
                   "--max-body");
    free(large);
    static const char none[] = "POST /v2/models/m/train_step HTTP/1.1\r\nHost: localhost\r\n"
                               "Connection: close\r\n\r\n";
    struct answer *a = client_raw(c, none, sizeof none - 1, false, 5000);
    answer_expect(a, 411);
    assert_non_null(strstr(a->body, "\"length_required\""));
    const char *body = remote_batch(c, 1, 2, 4, NULL);
    static const char *const types[] = {"text/plain", "application/xml", "image/png"};
    for (int i = 0; i < 3; i++) {
        struct call call = {STEP, body, strlen(body), types[i], NULL};
        answer_refused(client_send(c, &call), 415, "unsupported_media_type", types[i]);
    }
    struct call packed = {STEP, body, strlen(body), NULL,
                          (const char *const[]){"Content-Encoding: gzip", NULL}};
    answer_refused(client_send(c, &packed), 400, "bad_encoding", "unpacked");
    packed.headers = (const char *const[]){"Content-Encoding: br", NULL};
    answer_refused(client_send(c, &packed), 415, "unsupported_media_type", "'br'");
    /* Deeper than anybody needs. */
    char deep[4001];
    memset(deep, '[', 4000);
    deep[4000] = 0;
    memcpy(deep, "{\"inputs\":", 10);
    a = remote_call(c, "POST", "m", "/train_step", deep);
    assert_int_equal(a->status, 400);
    assert_same_state(remote_hash(c, "m"), before);
    assert_true(remote_number(c, "m", "revision") == 0);
}

/* A batch that needs more than the budget is refused; a small one still works. */
static void batch_over_budget(struct daemon *d)
{
    struct client *c = d->client;
    remote_create(c, "m",
                  "{\"inputs\":[{\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":20000},{\"op\":\"tanh\"},{\"op\":\"linear\","
                  "\"out_features\":1}],\"loss\":\"mse\"}");
    struct remote_hash before = remote_hash(c, "m");
    struct text t = {0};
    for (int pass = 0; pass < 2; pass++) {
        text_add(&t, pass ? "],\"targets\":[" : "{\"inputs\":[");
        for (int i = 0; i < 500; i++)
            text_add(&t, "%s[%d]", i ? "," : "", i % 7);
    }
    text_add(&t, "]}");
    answer_refused(remote_call(c, "POST", "m", "/train_step", t.data), 507, "out_of_memory",
                   "batch of 500");
    answer_refused(remote_call(c, "POST", "m", "/gradients", t.data), 507, "out_of_memory", NULL);
    text_free(&t);
    assert_same_state(remote_hash(c, "m"), before);
    remote_post(c, "m", "train_step", "{\"inputs\":[[1]],\"targets\":[[1]]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(every_row, "--max-memory", "64M"),
        DAEMON_TEST(no_hint),
        DAEMON_TEST(while_pending),
        DAEMON_TEST(bodies, "--max-body", "16K"),
        DAEMON_TEST(batch_over_budget, "--max-memory", "16M"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
