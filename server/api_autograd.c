/* api_autograd.c: value and gradients of an expression of tensors. The expression becomes a graph
 * like any model's, with a plan of its own that lives for one request. */
#include "api.h"
#include "expression.h"

#include <string.h>

enum { MAX_TENSORS = 64 };

static const struct field fields[] = {
    {"expression", IS_STRING, "a string", true},
    {"tensors", IS_OBJECT, "an object of tensors by name", false},
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {0},
};

static const struct field parameters[] = {API_BINARY_OUTPUT, {0}};

struct question {
    struct graph *graph;
    int n, n_wrt;
    struct expression_symbol symbols[MAX_TENSORS];
    const void *data[MAX_TENSORS]; /* of each, in the order of the graph's inputs */
    struct node *wrt[MAX_TENSORS]; /* those that require gradients */
    struct node *result;
};

static bool identifier(const char *s)
{
    if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') && *s != '_')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
           strlen(s);
}

static int read_tensor(struct request *q, struct question *x, const char *name,
                       const json_t *object, struct error *e)
{
    struct tensor t;
    int64_t count;
    if (x->n == MAX_TENSORS)
        return error_set(e, ERROR_TOO_LARGE, "tensors: at most %d", MAX_TENSORS);
    if (!identifier(name))
        return error_set(e, ERROR_BAD_NAME,
                         "tensors: '%.60s' is no name: letters, digits and _, not a digit first",
                         name);
    if (tensor_read(q, "tensors", name, object, "requires_grad", &t, e))
        return -1;
    const json_t *requires = describe_get(object, "requires_grad");
    if (requires && !json_is_boolean(requires))
        return error_set(e, ERROR_BAD_TYPE, "tensors '%.60s': requires_grad must be true or false",
                         name);
    bool integral = t.datatype && t.datatype->max && !json_is_true(requires);
    enum dtype dtype = integral ? DTYPE_INT64 : DTYPE_REAL;
    if (tensor_resolve_any(&t, dtype, &count, e))
        return -1;
    struct node *n = graph_input(x->graph, name, dtype, &t.shape, e);
    if (!n)
        return -1;
    x->symbols[x->n] = (struct expression_symbol){name, n};
    if (json_is_true(requires))
        x->wrt[x->n_wrt++] = n;
    return tensor_take(&t, dtype, q->arena, count, &x->data[x->n++], e);
}

static int read_question(struct request *q, struct question *x, struct error *e)
{
    const char *name;
    json_t *object;
    if (q->raw_tensor)
        return error_set(e, ERROR_MISSING_FIELD, "a raw tensor has no expression");
    if (api_check_body(q, fields, parameters, e))
        return -1;
    json_object_foreach(json_object_get(q->json.root, "tensors"), name, object)
    {
        if (read_tensor(q, x, name, object, e))
            return -1;
    }
    if (tensors_end(q, e))
        return -1;
    const char *text = json_string_value(json_object_get(q->json.root, "expression"));
    x->result = expression_parse(x->graph, text, x->symbols, x->n, e);
    return x->result ? 0 : -1;
}

/* Where it stands names it; only bytes need to be told what they are. */
static void write_value(struct tensor_reply *r, const char *key, const struct node *n,
                        const real *data)
{
    struct json_out *w = &r->json;
    struct tensor_out t = {key, DTYPE_REAL, *node_shape(n), data, 0};
    shape_count(&t.shape, 1, &t.count);
    out_key(w, key);
    out_open_object(w);
    if (json_is_true(api_parameter(r->q, "binary_data_output"))) {
        tensor_reply_fields(r, &t, true);
    } else {
        api_put_shape(w, "shape", &t.shape);
        out_key(w, "data");
        out_floats(w, data, (size_t)t.count);
    }
    out_close(w);
}

static int answer(struct request *q, const struct question *x, const struct run *r)
{
    struct tensor_reply w;
    const char *id = describe_get_string(q->json.root, "id");
    tensor_reply_begin(&w, q);
    if (id)
        out_put_string(&w.json, "id", id);
    write_value(&w, "value", x->result, run_output(r, 0));
    out_key(&w.json, "gradients");
    out_open_object(&w.json);
    for (int i = 0; i < x->n_wrt; i++)
        write_value(&w, node_name(x->wrt[i]), x->wrt[i], run_wrt_grad(r, i));
    out_close(&w.json);
    return tensor_reply_end(&w, 200);
}

static int compute(struct request *q, struct question *x, struct plan *plan, struct error *e)
{
    struct run *r = run_create(plan, e);
    struct run_args args = {
        .pool = q->server->pool, .n = 1, .inputs = x->data, .gone = request_gone, .gone_arg = q};
    int status;
    if (!r)
        return reply_error(q, e);
    status = run_execute(r, &args, e) ? reply_error(q, e) : answer(q, x, r);
    run_destroy(&r);
    return status;
}

static int autograd(struct request *q, struct question *x)
{
    struct error e;
    if (read_question(q, x, &e))
        return reply_error(q, &e);
    if (node_dtype(x->result) != DTYPE_REAL)
        return reply_errorf(q, ERROR_BAD_DTYPE, "the expression's value is not floating point");
    struct plan_spec spec = {.training = true,
                             .outputs = &x->result,
                             .n_outputs = 1,
                             .loss = x->n_wrt ? x->result : NULL,
                             .wrt = x->wrt,
                             .n_wrt = x->n_wrt,
                             .capacity = 1,
                             .threads = pool_threads(q->server->pool)};
    struct plan *plan = plan_create(x->graph, &spec, &e);
    if (!plan)
        return reply_error(q, &e);
    struct budget *budget = &request_models(q)->budget;
    size_t bytes = plan_arena_bytes(plan);
    int status;
    if (budget_take(budget, bytes, "the expression", &e)) {
        status = reply_error(q, &e);
    } else {
        status = compute(q, x, plan, &e);
        budget_give(budget, bytes);
    }
    plan_destroy(&plan);
    return status;
}

int api_autograd(struct request *q)
{
    struct error e;
    struct question x = {.graph = graph_create(&e)};
    if (!x.graph)
        return reply_error(q, &e);
    int status = autograd(q, &x);
    graph_destroy(&x.graph);
    return status;
}
