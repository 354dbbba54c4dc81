/* test_templates.c: the networks that templates stand for: as many parameters as their field's own
 * implementation has (whole_*.json of tests/data/golden hold their names, outputs and gradients to
 * it), the same bits after 50 steps at any number of threads, and what is said of bad arguments.
 * Texts have ' for ". */
#include "../../server/describe.h"
#include "../../server/describe_template.h"
#include "../../server/trainer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
    char *quoted = strdup(text);
    assert_non_null(quoted);
    for (char *c = quoted; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *json = json_loads(quoted, 0, NULL);
    free(quoted);
    if (!json)
        fail_msg("not JSON: %s", text);
    return json;
}

/* ---- parameters ------------------------------------------------------------------------------ */

/* Counts are torchvision's and the papers'; mlp: 784 512 + 512 + 512 256 + 256 + 256 10 + 10. */
static const struct {
    const char *arguments;
    int64_t parameters;
} sizes[] = {
    {"'name':'mlp','in_features':784,'hidden':[512,256],'out_features':10", 535818},
    {"'name':'mlp','in_features':4,'hidden':[],'out_features':3", 15},
    {"'name':'lenet5'", 61706},
    {"'name':'autoencoder','in_features':4,'hidden':[8],'latent':2", 118},
    {"'name':'vgg11'", 132868840},
    {"'name':'vgg11','batch_norm':false", 132863336},
    {"'name':'vgg16'", 138365992},
    {"'name':'resnet18'", 11689512},
    {"'name':'resnet18','stem':'cifar','num_classes':10,'image_size':32", 11173962},
    {"'name':'resnet34'", 21797672},
    {"'name':'resnet50'", 25557032},
    {"'name':'resnet50','width_per_group':128", 68883240},
    {"'name':'resnet50','groups':32,'width_per_group':4", 25028904},
    {"'name':'resnet101'", 44549160},
    {"'name':'wide_resnet'", 36479194},
    {"'name':'mobilenet_v2'", 3504872},
    {"'name':'unet','num_classes':1,'image_size':64", 31037633},
    {"'name':'text_cnn','vocab_size':1000,'sequence_length':40,'embedding_dim':8", 18502},
    {"'name':'lstm_classifier','vocab_size':1000,'sequence_length':40", 128000 + 264192 + 514},
    {"'name':'transformer_encoder_classifier','vocab_size':100,'sequence_length':10",
     12800 + 1280 + 2 * 132480 + 256 + 258},
    {"'name':'char_gpt'", 8320 + 16384 + 4 * 198272 + 256 + 8320},
    {"'name':'yolo'", 3157184},
    {"'name':'yolo_tiny','num_classes':3", 0},
};

static int64_t parameters_of(const struct network *net)
{
    int64_t n = 0;
    for (int i = 0; i < graph_param_count(net->graph); i++)
        if (!graph_param(net->graph, i)->buffer)
            n += (int64_t)graph_param(net->graph, i)->count;
    return n;
}

static struct network *network_of(const char *arguments)
{
    struct error e = {0};
    char text[512];
    snprintf(text, sizeof text, "{'template':{%s}}", arguments);
    json_t *given = parse(text), *expanded = describe_expand(given, &e);
    struct network *net = expanded ? describe_network(expanded, &e) : NULL;
    if (!net)
        fail_msg("%s: %s", arguments, e.text);
    json_decref(given);
    json_decref(expanded);
    return net;
}

static void test_parameters(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct network *net = network_of(sizes[i].arguments);
        if (sizes[i].parameters && parameters_of(net) != sizes[i].parameters)
            fail_msg("%s: %lld parameters, expected %lld", sizes[i].arguments,
                     (long long)parameters_of(net), (long long)sizes[i].parameters);
        network_destroy(&net);
    }
}

/* Names of templates that no row of the table begins with. */
static void test_every_template(void **state)
{
    (void)state;
    for (int i = 0; template_at(i); i++) {
        char begin[80];
        bool found = false;
        snprintf(begin, sizeof begin, "'name':'%s'", template_at(i)->name);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            found |= strncmp(sizes[k].arguments, begin, strlen(begin)) == 0;
        if (!found)
            fail_msg("no test has template '%s'", template_at(i)->name);
    }
}

/* ---- the same bits --------------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { STEPS = 5 }; /* what is read and written is the same in each */
#else
enum { STEPS = 50 };
#endif

/* Small ones of each kind. */
static const struct {
    const char *arguments;
    int64_t batch;
    int steps; /* fewer than STEPS where a step is long */
} trained[] = {
    {"'name':'mlp','in_features':20,'hidden':[64,32],'out_features':5,'batch_norm':true,"
     "'dropout':0.2",
     70, STEPS},
    {"'name':'lenet5','image_size':16", 9, STEPS},
    {"'name':'autoencoder','in_features':30", 40, STEPS},
    {"'name':'vgg11','image_size':32,'pool_size':1,'hidden':32,'num_classes':4", 3, 8},
    {"'name':'resnet18','stem':'cifar','width':8,'image_size':16,'num_classes':4", 5, STEPS},
    {"'name':'resnet50','width':8,'image_size':32,'num_classes':4,'zero_init_residual':true", 4,
     STEPS},
    {"'name':'wide_resnet','depth':10,'widen_factor':2,'image_size':16,'dropout':0.3", 5, STEPS},
    {"'name':'mobilenet_v2','width_mult':0.25,'image_size':32,'num_classes':4", 6, STEPS},
    {"'name':'unet','base_channels':4,'depth':2,'image_size':16", 3, STEPS},
    {"'name':'text_cnn','vocab_size':50,'sequence_length':12,'embedding_dim':16", 20, STEPS},
    {"'name':'lstm_classifier','vocab_size':50,'sequence_length':12,'embedding_dim':16,"
     "'hidden_size':24,'num_layers':2",
     20, STEPS},
    {"'name':'transformer_encoder_classifier','vocab_size':50,'sequence_length':12,"
     "'embedding_dim':32,'padding_idx':0",
     20, STEPS},
    {"'name':'char_gpt','vocab_size':20,'block_size':24,'n_layer':2,'n_embd':32,'dropout':0.1", 7,
     STEPS},
};

/* The parameters after all steps; the caller frees. */
static real *train(const char *description, int64_t batch, int steps, int threads, size_t *n_r)
{
    struct error e = {0};
    struct trainer t;
    if (trainer_open(&t, description, batch, threads, &e))
        fail_msg("%s: %s", description, e.text);
    for (int i = 0; i < steps; i++)
        if (trainer_step(&t, &e))
            fail_msg("%s, step %d: %s", description, i, e.text);
    *n_r = graph_params_size(t.net->graph) * sizeof(real);
    real *params = malloc(*n_r);
    assert_non_null(params);
    memcpy(params, t.now->params, *n_r);
    trainer_close(&t);
    return params;
}

static void test_same_bits(void **state)
{
    static const int threads[] = {2, 3, 8};
    (void)state;
    for (size_t i = 0; i < sizeof trained / sizeof *trained; i++) {
        char text[512];
        const int steps = trained[i].steps;
        size_t n, m;
        snprintf(text, sizeof text,
                 "{'template':{%s},'optimizer':{'op':'sgd','lr':0.001},'seed':5}",
                 trained[i].arguments);
        json_t *json = parse(text);
        char *description = json_dumps(json, 0);
        real *one = train(description, trained[i].batch, steps, 1, &n);
        for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
            real *other = train(description, trained[i].batch, steps, threads[k], &m);
            if (m != n || memcmp(one, other, n) != 0)
                fail_msg("%s: other bits with %d threads", trained[i].arguments, threads[k]);
            free(other);
        }
        free(one);
        free(description);
        json_decref(json);
    }
}

/* ---- bad arguments --------------------------------------------------------------------------- */

static const struct {
    const char *arguments;
    enum error_code code;
    const char *part;
} bad[] = {
    {"'name':'resnet81'", ERROR_UNKNOWN_OPERATOR,
     "no template 'resnet81'; did you mean 'resnet18'"},
    {"'name':'mlp','in_features':4", ERROR_BAD_ATTRIBUTE, "out_features"},
    {"'name':'mlp','in_features':4,'out_features':2,'hidden':[3.5]", ERROR_BAD_VALUE,
     "template.hidden[0]: expected an integer, found 3.5"},
    {"'name':'mlp','in_features':4,'out_features':2,'hidden':[0]", ERROR_BAD_ATTRIBUTE, "hidden"},
    {"'name':'mlp','in_features':4,'out_features':2,'activation':'rely'", ERROR_BAD_ATTRIBUTE,
     "relu|tanh"},
    {"'name':'resnet18','groups':2", ERROR_BAD_VALUE, "networks of bottlenecks"},
    {"'name':'resnet18','stem':'mnist'", ERROR_BAD_ATTRIBUTE, "imagenet|cifar"},
    {"'name':'resnet50','width_per_group':1,'width':1", ERROR_BAD_VALUE, "width_per_group"},
    {"'name':'wide_resnet','depth':20", ERROR_BAD_VALUE, "expected 6 n + 4"},
    {"'name':'wide_resnet','dropout':1.5", ERROR_BAD_ATTRIBUTE, "dropout"},
    {"'name':'unet','image_size':100", ERROR_BAD_VALUE, "a multiple of 16 "},
    {"'name':'vgg16','image_size':16", ERROR_BAD_SHAPE, "features."},
    {"'name':'mobilenet_v2','width_mult':0", ERROR_BAD_ATTRIBUTE, "width_mult"},
    {"'name':'text_cnn','vocab_size':9,'sequence_length':4", ERROR_BAD_SHAPE, "convs.2"},
    {"'name':'char_gpt','n_embd':30", ERROR_BAD_VALUE, "a divisor of n_embd (30), found 4"},
    {"'name':'transformer_encoder_classifier','vocab_size':9,'sequence_length':4,'nhead':3",
     ERROR_BAD_VALUE, "a divisor of embedding_dim (128), found 3"},
    {"'name':'transformer_encoder_classifier','vocab_size':9,'sequence_length':4,'padding_idx':1",
     ERROR_BAD_VALUE, "template.padding_idx: expected 0"},
    {"'name':'lstm_classifier','vocab_size':9", ERROR_BAD_ATTRIBUTE, "sequence_length"},
    {"'name':'text_cnn','vocab_size':9,'sequence_length':9,'padding_idx':9", ERROR_BAD_ATTRIBUTE,
     "padding_idx"},
};

static void test_bad_arguments(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error e = {0};
        char text[512];
        snprintf(text, sizeof text, "{'template':{%s}}", bad[i].arguments);
        json_t *given = parse(text);
        assert_null(describe_network(given, &e));
        if (e.code != bad[i].code || !strstr(e.text, bad[i].part))
            fail_msg("%s: said '%s'", bad[i].arguments, e.text);
        json_decref(given);
    }
}

/* A loss that compares with an input: the network has no targets. */
static void test_target_is_input(void **state)
{
    struct error e = {0};
    json_t *given = parse("{'inputs':[{'name':'x','shape':[-1,4]}],'layers':[{'op':'linear',"
                          "'out_features':3}],'loss':{'op':'mse','target':'x'}}");
    (void)state;
    assert_null(describe_network(given, &e));
    assert_int_equal(e.code, ERROR_BAD_SHAPE);
    json_decref(given);
    struct network *net = network_of("'name':'autoencoder','in_features':4");
    assert_int_equal(net->n_targets, 0);
    assert_ptr_equal(node_input(net->losses[0], 1), net->inputs[0]);
    network_destroy(&net);
}

int main(void)
{
    engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters),      cmocka_unit_test(test_every_template),
        cmocka_unit_test(test_same_bits),       cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_target_is_input),
    };
    return cmocka_run_group_tests_name("templates", tests, NULL, NULL);
}
