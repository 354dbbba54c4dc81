/* onnx_optimizer.c: ONNX's optimisers as ours.
 *
 * Their inputs are R (the learning rate), T (the count of steps), then the parameters, their
 * gradients, and each kind of state; the outputs are the new parameters and states. The parameters
 * become those of a network, each the weight of a layer_norm, and network_apply takes the step. */
#include "onnx_case.h"

#include <string.h>

#define DOMAIN "ai.onnx.preview.training"

enum { MAX_PARAMS = 4, FAR = 1 << 30 /* steps, after which Adam corrects nothing any more */ };

/* What a row makes of the node: attributes of ours, and how many steps our state has seen. */
struct settings {
    struct attr attrs[6];
    int n;
    uint64_t step;
};

static double number(const struct onnx_node *n, const char *name, double fallback)
{
    const struct onnx_attr *a = onnx_attr_find(n, name);
    return a ? a->f : fallback;
}

static void set(struct settings *s, const char *name, double value)
{
    s->attrs[s->n++] = (struct attr)ONNX_REAL(name, value);
}

/* ---- the optimisers -------------------------------------------------------------------------- */

/* ONNX corrects the bias at T > 0 only, and then its epsilon with it. */
static const char *adam(const struct onnx_node *n, int64_t t, struct settings *s)
{
    set(s, "beta1", number(n, "alpha", 0.9));
    set(s, "beta2", number(n, "beta", 0.999));
    set(s, "eps", number(n, "epsilon", 1e-6));
    set(s, "weight_decay", number(n, "norm_coefficient", 0));
    s->step = FAR;
    if (t > 0)
        return "Adam whose correction scales epsilon";
    return number(n, "norm_coefficient_post", 0) != 0 ? "Adam that decays behind the step" : NULL;
}

static const char *adagrad(const struct onnx_node *n, int64_t t, struct settings *s)
{
    set(s, "lr_decay", number(n, "decay_factor", 0));
    set(s, "eps", number(n, "epsilon", 1e-6));
    set(s, "weight_decay", number(n, "norm_coefficient", 0));
    s->step = (uint64_t)t;
    return NULL;
}

/* At T = 0 ONNX takes the whole gradient; its momentum is used at once, ours from the second step.
 */
static const char *momentum(const struct onnx_node *n, int64_t t, struct settings *s)
{
    const struct onnx_attr *mode = onnx_attr_find(n, "mode");
    const bool nesterov = mode && !strcmp(mode->s, "nesterov");
    set(s, "momentum", number(n, "alpha", 0));
    set(s, "dampening", t > 0 ? 1 - number(n, "beta", 1) : 0);
    set(s, "weight_decay", number(n, "norm_coefficient", 0));
    s->attrs[s->n++] = (struct attr)ONNX_BOOLEAN("nesterov", nesterov);
    s->step = 1;
    return nesterov && t > 0 && number(n, "beta", 1) != 1 ? "nesterov with dampening" : NULL;
}

static const struct kind {
    const char *name, *ours;
    int slots;
    const char *(*read)(const struct onnx_node *n, int64_t t, struct settings *s);
} kinds[] = {{"Adam", "adam", 2, adam},
             {"Adagrad", "adagrad", 1, adagrad},
             {"Momentum", "sgd", 1, momentum}};

const struct onnx_row onnx_rows_optimizer[] = {
    {"Adam", "adam", NULL, 2},
    {"Adagrad", "adagrad", NULL, 2},
    {"Momentum", "sgd", NULL, 3},
    {0},
};

static const struct kind *kind_of(const struct onnx_node *n)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, n->op))
            return &kinds[i];
    return NULL;
}

bool onnx_optimizer_is(const struct onnx_model *m)
{
    return m->n_nodes == 1 && !strcmp(m->nodes[0].domain, DOMAIN) && kind_of(&m->nodes[0]);
}

/* ---- the step -------------------------------------------------------------------------------- */

static int add_param(struct graph *g, const struct onnx_tensor *t, int i, struct error *e)
{
    const double size = (double)t->count;
    const char name[] = {'p', (char)('0' + i), 0};
    const struct attr attrs[] = {
        {.name = "normalized_shape", .kind = ATTR_IS_LIST, .list = &size, .n_list = 1},
        ONNX_BOOLEAN("bias", false)};
    struct node *x = graph_input(g, name, DTYPE_REAL, &SHAPE(t->count), e);
    return x && graph_add(g, "layer_norm", name, &x, 1, attrs, 2, e) ? 0 : -1;
}

/* Block b of tensors (parameters, gradients, a state) lies in the inputs from 2 + b * n on, and in
 * the outputs, without the gradients. */
static void fill(real *block, const struct onnx_tensor *const *tensors, int n)
{
    for (int i = 0; i < n; i++) {
        memcpy(block, tensors[i]->reals, (size_t)tensors[i]->count * sizeof *block);
        block += tensors[i]->count;
    }
}

static void compare(struct onnx_case *k, const real *block,
                    const struct onnx_tensor *const *expected, int first, int n)
{
    for (int i = first; i < first + n; i++) {
        onnx_case_compare(k, k->model->outputs[i].name, &expected[i]->shape, block, expected[i]);
        block += expected[i]->count;
    }
}

static int step(struct onnx_case *k, const struct network *net, const struct kind *kind, int n,
                struct pool *pool, const struct onnx_tensor *const *inputs,
                const struct onnx_tensor *const *expected, uint64_t steps, struct error *e)
{
    struct generation *from = generation_create(net, e),
                      *to = from ? generation_create(net, e) : NULL;
    const size_t size = graph_params_size(net->graph);
    real grads[256];
    const double lr = (double)inputs[0]->reals[0];
    int bad = !to || size > sizeof grads / sizeof *grads;
    if (!bad) {
        fill(from->params, inputs + 2, n);
        fill(grads, inputs + 2 + n, n);
        for (int s = 0; s < kind->slots; s++)
            fill(from->slots + (size_t)s * size, inputs + 2 + (2 + s) * n, n);
        from->optimizer_step = steps;
        bad = network_apply(net, pool, from, grads, 0, &lr, to, e);
    }
    if (!bad)
        compare(k, to->params, expected, 0, n);
    for (int s = 0; !bad && s < kind->slots; s++)
        compare(k, to->slots + (size_t)s * size, expected, (1 + s) * n, n);
    generation_unref(&from);
    generation_unref(&to);
    return bad;
}

void onnx_optimizer_run(struct onnx_case *k, struct pool *pool,
                        const struct onnx_tensor *const *inputs,
                        const struct onnx_tensor *const *expected)
{
    const struct onnx_node *node = &k->model->nodes[0];
    const struct kind *kind = kind_of(node);
    const int n = (k->model->n_inputs - 2) / (2 + kind->slots);
    struct settings s = {0};
    struct error e = {0};
    struct network net = {.n_outputs = 0};
    const char *why = kind->read(node, inputs[1]->ints[0], &s);
    if (why || n > MAX_PARAMS) {
        onnx_case_end(k, ONNX_NOT_OURS, "%s", why ? why : "too many parameters");
        return;
    }
    net.graph = graph_create(&e);
    int bad = !net.graph;
    for (int i = 0; i < n && !bad; i++)
        bad = add_param(net.graph, inputs[2 + i], i, &e);
    net.optimizer = bad ? NULL : optimizer_create(kind->ours, s.attrs, s.n, &e);
    if (!net.optimizer || step(k, &net, kind, n, pool, inputs, expected, s.step, &e))
        onnx_case_end(k, ONNX_FAILS, "%s", e.text);
    optimizer_destroy(&net.optimizer);
    graph_destroy(&net.graph);
}
