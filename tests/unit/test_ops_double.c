/* test_ops_double.c: walks the tables of operators. Every row, on every one of its samples: it is
 * complete; its gradients equal central differences; forward and backward give the same bits twice,
 * with fenced and with shared buffers, on one thread and on several; nothing is written outside a
 * buffer; what does not fit is refused with a sentence. A new operator adds no line here. */
#include "op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH_SIZE = 3, MAX_IN = 8, MAX_ATTRS = 16, THREADS = 3 };

/* A sample string taken apart: inputs with the kind of their values, and attributes. */
struct sample {
    char text[256];
    int n_inputs, n_attrs;
    struct shape shape[MAX_IN];
    char kind[MAX_IN][24];
    struct attr attrs[MAX_ATTRS];
    double lists[MAX_ATTRS][8];
};

struct fixture {
    const struct op *op;
    char sample[256];
    bool training;
};

static void parse_shape(struct sample *s, char *word)
{
    int i = s->n_inputs++;
    char *kind = strchr(word, ':');
    if (kind) {
        *kind = 0;
        snprintf(s->kind[i], sizeof s->kind[i], "%s", kind + 1);
    }
    struct shape *shape = &s->shape[i];
    if (strcmp(word, "scalar") == 0)
        return;
    for (char *save, *dim = strtok_r(word, "x", &save); dim; dim = strtok_r(NULL, "x", &save))
        shape->dim[shape->rank++] = strcmp(dim, "N") == 0 ? BATCH : atoll(dim);
}

/* key=1, key=0.5, key=true, key=name, key=1,2 or key=[1,2] */
static void parse_attr(struct sample *s, char *word)
{
    int i = s->n_attrs++;
    struct attr *a = &s->attrs[i];
    char *value = strchr(word, '='), *end;
    *value++ = 0;
    bool list = *value == '[' || strchr(value, ',');
    value += *value == '[';
    a->name = word;
    a->s = value;
    a->d = strtod(value, &end);
    a->i = (int64_t)a->d;
    if (list) {
        a->kind = ATTR_IS_LIST;
        a->list = s->lists[i];
        for (char *at = value; strtod(at, &end), end != at; at = end + (*end == ','))
            s->lists[i][a->n_list++] = strtod(at, NULL);
    } else if (end != value) {
        a->kind = ATTR_IS_REAL;
    } else if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        a->kind = ATTR_IS_BOOL;
        a->i = value[0] == 't';
    } else {
        a->kind = ATTR_IS_STRING;
    }
}

static void parse_sample(struct sample *s, const char *text)
{
    memset(s, 0, sizeof *s);
    snprintf(s->text, sizeof s->text, "%s", text);
    for (char *save, *w = strtok_r(s->text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (strchr(w, '=') && !strchr(w, ':'))
            parse_attr(s, w);
        else
            parse_shape(s, w);
    }
}

static double random_at(uint32_t key, int64_t i)
{
    struct random_key k = {12345, 0, key};
    return 2 * random_uniform(&k, (uint64_t)i) - 1;
}

/* Distinct values, 0.02 apart and 0.01 from zero, scattered by a step that is prime to n. */
static double spread_at(int64_t i, int64_t n)
{
    int64_t step = n % 7919 ? 7919 : 7907;
    double v = 0.02 * (double)(i * step % n - n / 2);
    return v + (v >= 0 ? 0.011 : -0.011);
}

/* Row i of a target of boxes: every third is padding, the others are well inside the image. */
static double box_at(int64_t row, int column, double classes, double u)
{
    if (row % 3 == 2)
        return column == 0 ? -1 : 0;
    return column == 0 ? (double)(row % (int64_t)classes) : column < 3 ? 0.5 + u / 5 : 0.5 + u / 4;
}

static void fill_values(void *dst, const char *kind, const struct shape *shape, uint32_t key)
{
    int64_t n;
    assert_true(shape_count(shape, BATCH_SIZE, &n));
    double *x = dst;
    int64_t *c = dst;
    for (int64_t i = 0; i < n; i++) {
        double u = random_at(key, i);
        if (strncmp(kind, "classes=", 8) == 0)
            c[i] = (int64_t)((u + 1) / 2 * atof(kind + 8));
        else if (strncmp(kind, "lengths=", 8) == 0)
            c[i] = atoll(kind + 8) - i % 2;
        else if (strncmp(kind, "boxes=", 6) == 0)
            x[i] = box_at(i / 5, (int)(i % 5), atof(kind + 6), u);
        else if (strcmp(kind, "spread") == 0)
            x[i] = spread_at(i, n);
        else
            x[i] = strcmp(kind, "positive") == 0        ? 1 + u / 2
                   : strcmp(kind, "binary") == 0        ? (double)(u > 0)
                   : strcmp(kind, "probabilities") == 0 ? 1.1 + u
                                                        : u;
    }
    if (strcmp(kind, "probabilities") != 0)
        return;
    int64_t rows = BATCH_SIZE, classes = shape->dim[1], inner = n / rows / classes;
    for (int64_t r = 0; r < rows * inner; r++) {
        double *p = x + r / inner * classes * inner + r % inner, sum = 0;
        for (int64_t k = 0; k < classes; k++)
            sum += p[k * inner];
        for (int64_t k = 0; k < classes; k++)
            p[k * inner] /= sum;
    }
}

/* A graph whose loss is sum(output * weights), or the operator itself when it is a loss. */
struct subject {
    struct graph *graph;
    int n_inputs; /* without the weights */
    struct node *inputs[MAX_IN + 1], *out, *loss;
    void *data[MAX_IN + 1];
    int64_t count[MAX_IN + 1];
    real *params, *buffers, *grads;
    bool training;
};

static void subject_build(struct subject *t, const struct op *op, struct sample *s, bool training)
{
    struct error e = {0};
    memset(t, 0, sizeof *t);
    t->training = training;
    t->graph = graph_create(&e);
    t->n_inputs = s->n_inputs;
    for (int i = 0; i < s->n_inputs; i++) {
        bool classes =
            strncmp(s->kind[i], "classes", 7) == 0 || strncmp(s->kind[i], "lengths", 7) == 0;
        t->inputs[i] =
            graph_input(t->graph, "x", classes ? DTYPE_INT64 : DTYPE_REAL, &s->shape[i], &e);
        assert_non_null(t->inputs[i]);
    }
    t->out = graph_add(t->graph, op->name, "it", t->inputs, s->n_inputs, s->attrs, s->n_attrs, &e);
    if (!t->out)
        fail_msg("%s: %s", op->name, e.text);
    t->loss = t->out;
    if (!(op->flags & OP_LOSS)) {
        struct node *w = graph_input(t->graph, "w", DTYPE_REAL, node_shape(t->out), &e);
        t->inputs[s->n_inputs] = w;
        struct node *product =
            graph_add(t->graph, "mul", "w", (struct node *[]){t->out, w}, 2, NULL, 0, &e);
        assert_non_null(product);
        t->loss = graph_add(t->graph, "sum", "s", &product, 1, NULL, 0, &e);
        assert_non_null(t->loss);
    }
    for (int i = 0; i <= s->n_inputs && t->inputs[i]; i++) {
        assert_true(shape_count(node_shape(t->inputs[i]), BATCH_SIZE, &t->count[i]));
        t->data[i] = malloc((size_t)t->count[i] * 8);
        fill_values(t->data[i], i < s->n_inputs ? s->kind[i] : "", node_shape(t->inputs[i]),
                    (uint32_t)i);
    }
    size_t np = graph_params_size(t->graph), nb = graph_buffers_size(t->graph);
    t->params = calloc(np + 1, sizeof(real));
    t->buffers = calloc(nb + 1, sizeof(real));
    t->grads = calloc(np + 1, sizeof(real));
    graph_init(t->graph, 7, t->params, t->buffers);
    for (size_t i = 0; i < np; i++) /* not at the special values of the initialisers */
        t->params[i] += 0.3 * random_at(99, (int64_t)i);
    for (size_t i = 0; i < nb; i++)
        t->buffers[i] += 0.2 * (1 + random_at(98, (int64_t)i));
}

static void subject_free(struct subject *t)
{
    for (int i = 0; i <= MAX_IN; i++)
        free(t->data[i]);
    free(t->params);
    free(t->buffers);
    free(t->grads);
    graph_destroy(&t->graph);
}

static struct run *subject_plan(struct subject *t, bool backward, size_t fence, struct plan **p)
{
    struct error e = {0};
    struct node *wrt[MAX_IN];
    int n_wrt = 0;
    for (int i = 0; i < t->n_inputs; i++)
        if (node_dtype(t->inputs[i]) == DTYPE_REAL)
            wrt[n_wrt++] = t->inputs[i];
    struct plan_spec spec = {.training = t->training,
                             .outputs = &t->out,
                             .n_outputs = 1,
                             .loss = t->loss,
                             .wrt = wrt,
                             .n_wrt = backward ? n_wrt : 0,
                             .params_wrt = backward && graph_params_size(t->graph) > 0,
                             .capacity = BATCH_SIZE + 1,
                             .threads = THREADS,
                             .fence = fence};
    *p = plan_create(t->graph, &spec, &e);
    if (!*p)
        fail_msg("plan: %s", e.text);
    struct run *r = run_create(*p, &e);
    assert_non_null(r);
    return r;
}

static double subject_run(struct subject *t, struct run *r, struct pool *pool)
{
    struct error e = {0};
    struct run_args args = {.pool = pool,
                            .n = BATCH_SIZE,
                            .inputs = (const void *const *)t->data,
                            .params = t->params,
                            .buffers = t->buffers,
                            .grads = t->grads,
                            .seed = 5,
                            .draw = 2};
    if (run_execute(r, &args, &e))
        fail_msg("run: %s", e.text);
    return (double)run_loss(r);
}

/* Relative error of the analytic gradient of x[0..n), in norms. */
static double gradient_error(struct subject *t, struct run *forward, double *x, const real *g,
                             int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double h = 1e-5, old = x[i];
        x[i] = old + h;
        double up = subject_run(t, forward, NULL);
        x[i] = old - h;
        double down = subject_run(t, forward, NULL);
        x[i] = old;
        double numeric = (up - down) / (2 * h);
        diff += (numeric - g[i]) * (numeric - g[i]);
        norm += numeric * numeric;
    }
    return norm > 1e-18 ? sqrt(diff / norm) : sqrt(diff);
}

static void check_gradients(struct subject *t, struct run *r, struct run *forward)
{
    subject_run(t, r, NULL);
    for (int i = 0, k = 0; i < t->n_inputs; i++) {
        if (node_dtype(t->inputs[i]) != DTYPE_REAL)
            continue;
        double error = gradient_error(t, forward, t->data[i], run_wrt_grad(r, k++), t->count[i]);
        if (!(error < 1e-6))
            fail_msg("gradient of input %d: relative error %g", i, error);
    }
    for (int i = 0; i < graph_param_count(t->graph); i++) {
        const struct param *p = graph_param(t->graph, i);
        if (p->buffer)
            continue;
        real *copy = malloc(p->count * sizeof *copy);
        memcpy(copy, t->grads + p->offset, p->count * sizeof *copy);
        double error = gradient_error(t, forward, t->params + p->offset, copy, (int64_t)p->count);
        free(copy);
        if (!(error < 1e-6))
            fail_msg("gradient of %s: relative error %g", p->name, error);
    }
}

/* Everything that a run gives, in one array, to compare bits. */
static size_t collect(struct subject *t, struct run *r, real **all)
{
    int64_t n_out;
    assert_true(shape_count(node_shape(t->out), BATCH_SIZE, &n_out));
    size_t size = (size_t)n_out + 1 + graph_params_size(t->graph), k = 0;
    for (int i = 0; i < t->n_inputs; i++)
        size += (size_t)t->count[i];
    real *a = *all = calloc(size, sizeof *a);
    a[k++] = run_loss(r);
    memcpy(a + k, run_output(r, 0), (size_t)n_out * sizeof *a);
    k += (size_t)n_out;
    memcpy(a + k, t->grads, graph_params_size(t->graph) * sizeof *a);
    k += graph_params_size(t->graph);
    for (int i = 0, w = 0; i < t->n_inputs; i++)
        if (node_dtype(t->inputs[i]) == DTYPE_REAL) {
            memcpy(a + k, run_wrt_grad(r, w++), (size_t)t->count[i] * sizeof *a);
            k += (size_t)t->count[i];
        }
    return size * sizeof *a;
}

static void check_same_bits(struct subject *t, struct run *a, struct pool *pool_a, struct run *b,
                            struct pool *pool_b, const char *what)
{
    real *x, *y;
    subject_run(t, a, pool_a);
    size_t bytes = collect(t, a, &x);
    memset(t->grads, 0xFF, graph_params_size(t->graph) * sizeof(real));
    subject_run(t, b, pool_b);
    collect(t, b, &y);
    if (memcmp(x, y, bytes) != 0)
        fail_msg("other bits %s", what);
    free(x);
    free(y);
}

static void test_sample(void **state)
{
    const struct fixture *f = *state;
    struct sample s;
    struct subject t;
    struct plan *fenced, *shared, *inference;
    parse_sample(&s, f->sample);
    subject_build(&t, f->op, &s, f->training);
    struct run *r = subject_plan(&t, true, 64, &fenced);
    struct run *tight = subject_plan(&t, true, 0, &shared);
    struct run *forward = subject_plan(&t, false, 64, &inference);
    struct pool *pool = pool_create(THREADS, NULL);
    if (f->op->flags & OP_DETACHES)
        subject_run(&t, r, NULL);
    else
        check_gradients(&t, r, forward);
    subject_run(&t, forward, NULL);
    assert_true(run_fences_intact(r));
    assert_true(run_fences_intact(forward));
    check_same_bits(&t, r, NULL, r, NULL, "the second time");
    check_same_bits(&t, r, NULL, tight, NULL, "when buffers share memory");
    check_same_bits(&t, r, NULL, r, pool, "on three threads");
    assert_true(run_fences_intact(r));
    pool_destroy(&pool);
    run_destroy(&r);
    run_destroy(&tight);
    run_destroy(&forward);
    plan_destroy(&fenced);
    plan_destroy(&shared);
    plan_destroy(&inference);
    subject_free(&t);
}

static void test_row(void **state)
{
    const struct op *op = ((const struct fixture *)*state)->op;
    assert_true(op->doc && op->doc[0] && op->family && op->family[0]);
    assert_non_null(op->shape);
    assert_non_null(op->forward);
    assert_true((op->backward != NULL) != ((op->flags & OP_NO_GRAD) != 0));
    assert_true(op->flops || (op->flags & OP_ZERO_FLOPS));
    assert_true(op->samples && op->samples[0]);
    assert_ptr_equal(op_find(op->name), op); /* no other row has this name */
    for (const struct attr_def *d = op->attrs; d && d->name; d++) {
        assert_true(d->doc && d->doc[0]);
        assert_true(d->type == ATTR_FACT ? d->offset < SHAPE_MAX_RANK || d->offset == ATTR_FACT_LAST
                                         : d->offset < op->attrs_size);
        const bool word = d->type == ATTR_REAL || d->type == ATTR_INT || d->type == ATTR_PAIR;
        assert_true(word || (d->type == ATTR_CHOICE) == (d->choices != NULL));
    }
}

static void refuse(const struct op *op, int n, const struct shape *shapes, struct attr *attrs,
                   int n_attrs, bool must)
{
    struct error e = {0};
    struct graph *g = graph_create(&e);
    struct node *in[MAX_IN] = {0};
    for (int i = 0; i < n; i++)
        in[i] = graph_input(g, "x", DTYPE_REAL, &shapes[i], &e);
    struct node *out = graph_add(g, op->name, "it", in, n, attrs, n_attrs, &e);
    if (must)
        assert_null(out);
    if (!out) {
        assert_true(e.code != ERROR_NONE && error_status(e.code) == 422);
        assert_true(strlen(e.text) > 10 && strstr(e.text, "it"));
    }
    graph_destroy(&g);
}

static void test_refusals(void **state)
{
    const struct fixture *f = *state;
    struct sample s;
    parse_sample(&s, f->sample);
    struct shape odd[] = {{0},
                          SHAPE(BATCH),
                          SHAPE(1),
                          SHAPE(BATCH, 1),
                          SHAPE(BATCH, 3, 1),
                          SHAPE(BATCH, 1, 2, 1),
                          SHAPE(7, 2, 3, 1, 2),
                          SHAPE(BATCH, 1, 1, 1, 1, 1, 1, 1),
                          SHAPE(BATCH, (int64_t)1 << 40, 1 << 7, 1)};
    struct shape many[MAX_IN];
    for (size_t k = 0; k < sizeof odd / sizeof odd[0]; k++)
        for (int n = 0; n <= s.n_inputs + 1 && n < MAX_IN; n++) {
            for (int i = 0; i < n; i++) /* one odd input among the sample's, then all of them odd */
                many[i] = i == 0 || n != s.n_inputs ? odd[k] : s.shape[i];
            refuse(f->op, n, many, s.attrs, s.n_attrs, n < f->op->min_in);
        }
    s.attrs[s.n_attrs] = (struct attr){.name = "no_such_attribute", .kind = ATTR_IS_REAL};
    refuse(f->op, s.n_inputs, s.shape, s.attrs, s.n_attrs + 1, true);
    for (int i = 0; i < s.n_attrs; i++) {
        struct attr kept = s.attrs[i];
        const enum attr_kind kinds[] = {ATTR_IS_STRING, ATTR_IS_REAL, ATTR_IS_LIST, ATTR_IS_BOOL};
        const double huge = 1e18;
        for (size_t k = 0; k < 4; k++) {
            s.attrs[i] = (struct attr){.name = kept.name,
                                       .kind = kinds[k],
                                       .s = "?",
                                       .d = -0.5,
                                       .list = &huge,
                                       .n_list = 1};
            refuse(f->op, s.n_inputs, s.shape, s.attrs, s.n_attrs, false);
        }
        s.attrs[i] = kept;
    }
}

static const struct op *public_op(int i)
{
    struct op_info info;
    return op_info_at(i, &info) ? op_find(info.name) : NULL;
}

static struct CMUnitTest *tests;
static size_t n_tests;

static void add_test(const struct op *op, const char *sample, bool training, CMUnitTestFunction f,
                     const char *suffix)
{
    struct fixture *x = calloc(1, sizeof *x);
    char *name = malloc(320);
    *x = (struct fixture){.op = op, .training = training};
    snprintf(x->sample, sizeof x->sample, "%s", sample);
    snprintf(name, 320, "%s %s%s", op->name, sample, suffix);
    tests = realloc(tests, (n_tests + 1) * sizeof *tests);
    tests[n_tests++] = (struct CMUnitTest){name, f, NULL, NULL, x};
}

int main(void)
{
    const struct op *op;
    engine_start();
    for (int i = 0; (op = public_op(i)); i++) {
        add_test(op, "", false, test_row, "is complete");
        char *samples = strdup(op->samples ? op->samples : "");
        char *save = NULL;
        bool first = true;
        for (char *s = strtok_r(samples, ";", &save); s; s = strtok_r(NULL, ";", &save)) {
            s += strspn(s, " ");
            add_test(op, s, true, test_sample, ", training");
            add_test(op, s, false, test_sample, ", evaluation");
            if (first)
                add_test(op, s, false, test_refusals, ", refusals");
            first = false;
        }
        free(samples);
    }
    int failed = _cmocka_run_group_tests("operators", tests, n_tests, NULL, NULL);
    for (size_t i = 0; i < n_tests; i++) {
        free((void *)tests[i].name);
        free(tests[i].initial_state);
    }
    free(tests);
    return failed;
}
