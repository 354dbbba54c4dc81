/* fuzz_expression.c: expressions of autograd on some tensors. What must hold: what is refused has a
 * sentence; an expression in parentheses has the same shape and the same bits; small ones run. */
#include "fuzz.h"

#include "../../server/expression.h"

enum { MAX_BYTES = 1 << 18, MAX_VALUES = 1 << 14 };

static const struct leaf {
    const char *name;
    enum dtype dtype;
    struct shape shape;
} leaves[] = {
    {"a", DTYPE_REAL, {0}},
    {"v", DTYPE_REAL, {1, {3}}},
    {"m", DTYPE_REAL, {2, {2, 3}}},
    {"k", DTYPE_REAL, {2, {3, 2}}},
    {"image", DTYPE_REAL, {4, {1, 1, 3, 3}}},
    {"w", DTYPE_REAL, {4, {1, 1, 2, 2}}},
    {"classes", DTYPE_INT64, {1, {2}}},
    {"sequence", DTYPE_REAL, {3, {1, 3, 2}}},
};
enum { LEAVES = sizeof leaves / sizeof leaves[0] };

struct question {
    struct graph *graph;
    struct expression_symbol symbols[LEAVES];
    struct node *result;
    struct plan *plan;
};

static void question_end(struct question *x)
{
    if (x->plan)
        plan_destroy(&x->plan);
    graph_destroy(&x->graph);
}

/* False: refused. A plan is made where the expression has one. */
static bool question_begin(struct question *x, const char *text, struct error *e)
{
    *x = (struct question){.graph = graph_create(e)};
    for (int i = 0; i < LEAVES; i++) {
        x->symbols[i].name = leaves[i].name;
        x->symbols[i].node =
            graph_input(x->graph, leaves[i].name, leaves[i].dtype, &leaves[i].shape, e);
    }
    x->result = expression_parse(x->graph, text, x->symbols, LEAVES, e);
    if (!x->result)
        return false;
    if (node_dtype(x->result) != DTYPE_REAL)
        return true;
    struct node *wrt = x->symbols[2].node;
    int64_t count;
    bool scalar = shape_count(node_shape(x->result), 1, &count) && count == 1;
    struct plan_spec spec = {.training = true,
                             .outputs = &x->result,
                             .n_outputs = 1,
                             .loss = scalar ? x->result : NULL,
                             .wrt = &wrt,
                             .n_wrt = scalar,
                             .capacity = 1,
                             .threads = 1};
    x->plan = plan_create(x->graph, &spec, e);
    if (!x->plan)
        fuzz_check_error(e);
    return true;
}

/* The value, malloc'd; NULL: too large for here, or refused. */
static real *question_run(const struct question *x, size_t *count_r)
{
    static const real data[] = {1, -2, 0.5f, 3, 0.25f, -1, 2, 4, 5};
    static const int64_t classes[] = {2, 0};
    const void *inputs[LEAVES];
    struct error e = {0};
    int64_t count;
    if (!x->plan || plan_arena_bytes(x->plan) > MAX_BYTES ||
        !shape_count(node_shape(x->result), 1, &count) || count > MAX_VALUES)
        return NULL;
    for (int i = 0; i < LEAVES; i++)
        inputs[i] = leaves[i].dtype == DTYPE_REAL ? (const void *)data : classes;
    struct pool *pool = pool_create(1, &e);
    struct run *run = pool ? run_create(x->plan, &e) : NULL;
    struct run_args args = {.pool = pool, .n = 1, .inputs = inputs};
    real *value = NULL;
    if (run && !run_execute(run, &args, &e)) {
        *count_r = (size_t)count;
        value = malloc((size_t)count * sizeof *value + 1);
        memcpy(value, run_output(run, 0), (size_t)count * sizeof *value);
    } else {
        fuzz_check_error(&e);
    }
    if (run)
        run_destroy(&run);
    if (pool)
        pool_destroy(&pool);
    return value;
}

static void check_in_parentheses(const struct question *x, const char *text)
{
    struct question y;
    struct error e = {0};
    size_t size = strlen(text) + 3, n = 0, m = 0;
    char *wrapped = malloc(size);
    snprintf(wrapped, size, "(%s)", text);
    bool read = question_begin(&y, wrapped, &e);
    FUZZ_CHECK(read || strstr(e.text, "nesting") || strstr(e.text, "bytes"), "%s: %s", wrapped,
               e.text);
    if (read) {
        FUZZ_CHECK(shape_equal(node_shape(x->result), node_shape(y.result)), "%s", wrapped);
        real *a = question_run(x, &n), *b = question_run(&y, &m);
        FUZZ_CHECK(!a == !b && n == m && (!a || !memcmp(a, b, n * sizeof *a)), "%s", wrapped);
        free(a);
        free(b);
    }
    question_end(&y);
    free(wrapped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct question x;
    struct error e = {0};
    char *text = fuzz_copy(data, size, true);
    if (question_begin(&x, text, &e))
        check_in_parentheses(&x, text);
    else
        fuzz_check_error(&e);
    question_end(&x);
    free(text);
    return 0;
}
