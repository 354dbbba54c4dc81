/* onnx_case.c: reading, running and comparing one of ONNX's backend tests. */
#include "onnx_case.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double RELATIVE = 1e-3, ABSOLUTE = 1e-7;

enum { MAX_PORTS = 32 };

void onnx_case_end(struct onnx_case *k, enum onnx_verdict verdict, const char *format, ...)
{
    va_list list;
    if (k->verdict != ONNX_APPLIES)
        return;
    k->verdict = verdict;
    va_start(list, format);
    vsnprintf(k->why, sizeof k->why, format, list);
    va_end(list);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static bool near(double found, double expected)
{
    if (isnan(expected) || isnan(found))
        return isnan(expected) && isnan(found);
    return found == expected || fabs(found - expected) <= ABSOLUTE + RELATIVE * fabs(expected);
}

void onnx_case_compare(struct onnx_case *k, const char *name, const struct shape *shape,
                       const real *found, const struct onnx_tensor *expected)
{
    struct shape_text a, b;
    if (!shape_equal(shape, &expected->shape)) {
        onnx_case_end(k, ONNX_FAILS, "%s has the shape %s, expected %s", name,
                      shape_print(shape, &a), shape_print(&expected->shape, &b));
        return;
    }
    for (int64_t i = 0; i < expected->count; i++) {
        const double x = expected->reals ? (double)expected->reals[i] : (double)expected->ints[i];
        const double y = (double)found[i];
        if (expected->reals ? !near(y, x) : y != x) {
            onnx_case_end(k, ONNX_FAILS, "%s [%lld] is %.9g, expected %.9g", name, (long long)i, y,
                          x);
            return;
        }
    }
}

/* ---- running --------------------------------------------------------------------------------- */

static int run_plan(const struct onnx_build *b, struct plan *plan, struct pool *pool,
                    struct run **run_r, struct error *e)
{
    real *params = calloc(graph_params_size(b->graph) + 1, sizeof *params);
    real *buffers = calloc(graph_buffers_size(b->graph) + 1, sizeof *buffers);
    *run_r = plan && params && buffers ? run_create(plan, e) : NULL;
    const struct run_args args = {
        .pool = pool, .n = 1, .inputs = b->feeds, .params = params, .buffers = buffers};
    const int bad = *run_r ? run_execute(*run_r, &args, e) : -1;
    free(params);
    free(buffers);
    return bad;
}

static void run_graph(struct onnx_case *k, const struct onnx_build *b, struct pool *pool,
                      const struct onnx_tensor *const *expected)
{
    const struct onnx_model *m = k->model;
    struct node *outputs[MAX_PORTS];
    struct error e = {0};
    for (int i = 0; i < m->n_outputs; i++) {
        const struct onnx_value *v = onnx_output(b, m->outputs[i].name);
        if (!v || !v->node) {
            onnx_case_end(k, ONNX_NOT_OURS, "output %s is not computed", m->outputs[i].name);
            return;
        }
        outputs[i] = v->node;
    }
    const struct plan_spec spec = {.training = b->training,
                                   .outputs = outputs,
                                   .n_outputs = m->n_outputs,
                                   .capacity = 1,
                                   .threads = pool_threads(pool)};
    struct plan *plan = plan_create(b->graph, &spec, &e);
    struct run *run = NULL;
    if (run_plan(b, plan, pool, &run, &e))
        onnx_case_end(k, ONNX_FAILS, "%s", e.text);
    for (int i = 0; i < m->n_outputs && k->verdict == ONNX_APPLIES; i++)
        onnx_case_compare(k, m->outputs[i].name, node_shape(outputs[i]), run_output(run, i),
                          expected[i]);
    run_destroy(&run);
    plan_destroy(&plan);
}

static void run_model(struct arena *a, struct onnx_case *k, struct pool *pool,
                      const struct onnx_tensor *const *inputs,
                      const struct onnx_tensor *const *expected)
{
    struct error e = {0};
    struct onnx_build *b = arena_alloc(a, sizeof *b);
    if (!b || !(b->graph = graph_create(&e))) {
        onnx_case_end(k, ONNX_FAILS, "out of memory");
        return;
    }
    b->arena = a;
    onnx_build(b, k->model, inputs);
    if (b->verdict != ONNX_APPLIES)
        onnx_case_end(k, b->verdict, "%s", b->why);
    else
        run_graph(k, b, pool, expected);
    graph_destroy(&b->graph);
}

/* ---- reading --------------------------------------------------------------------------------- */

static const struct onnx_tensor *read_tensor(struct arena *a, const struct onnx_archive *archive,
                                             const char *name, int set, const char *what, int i)
{
    const char *path = arena_printf(a, "node/%s/test_data_set_%d/%s_%d.pb", name, set, what, i);
    const struct onnx_file *f = path ? onnx_archive_find(archive, path) : NULL;
    return f ? onnx_tensor_read(a, f->bytes, f->size) : NULL;
}

/* All of one data set. False when one is missing; the first data set must be there. */
static bool read_set(struct arena *a, const struct onnx_archive *archive, const struct onnx_case *k,
                     int set, const struct onnx_tensor **inputs,
                     const struct onnx_tensor **expected)
{
    for (int i = 0; i < k->model->n_inputs; i++)
        if (!(inputs[i] = read_tensor(a, archive, k->name, set, "input", i)))
            return false;
    for (int i = 0; i < k->model->n_outputs; i++)
        if (!(expected[i] = read_tensor(a, archive, k->name, set, "output", i)))
            return false;
    return true;
}

static bool tensors_only(const struct onnx_model *m)
{
    for (int i = 0; i < m->n_inputs + m->n_outputs; i++)
        if ((i < m->n_inputs ? m->inputs[i] : m->outputs[i - m->n_inputs]).type == ONNX_NO_TENSOR)
            return false;
    return m->n_inputs <= MAX_PORTS && m->n_outputs <= MAX_PORTS;
}

/* Our results are numbers; where another dtype is expected, the case is not ours. */
static bool expects_numbers(const struct onnx_model *m)
{
    for (int i = 0; i < m->n_outputs; i++) {
        const int type = m->outputs[i].type;
        if (!onnx_computes(type) && type != ONNX_INT64)
            return false;
    }
    return true;
}

void onnx_case_run(struct arena *a, const struct onnx_archive *archive, const char *name,
                   struct pool *pool, struct onnx_case *k)
{
    const char *path = arena_printf(a, "node/%s/model.onnx", name);
    const struct onnx_file *f = path ? onnx_archive_find(archive, path) : NULL;
    const struct onnx_tensor *inputs[MAX_PORTS], *expected[MAX_PORTS];
    int sets = 0;
    *k = (struct onnx_case){.name = name, .verdict = ONNX_APPLIES};
    k->model = f ? onnx_model_read(a, f->bytes, f->size) : NULL;
    if (!k->model)
        onnx_case_end(k, ONNX_FAILS, "the model cannot be read");
    else if (!tensors_only(k->model))
        onnx_case_end(k, ONNX_NOT_OURS, "inputs or outputs that are no tensors");
    else if (!expects_numbers(k->model))
        onnx_case_end(k, ONNX_NOT_OURS, "results of a dtype that is not computed in");
    for (; k->verdict == ONNX_APPLIES && read_set(a, archive, k, sets, inputs, expected); sets++)
        if (onnx_optimizer_is(k->model))
            onnx_optimizer_run(k, pool, inputs, expected);
        else
            run_model(a, k, pool, inputs, expected);
    if (sets == 0)
        onnx_case_end(k, ONNX_FAILS, "the data cannot be read");
}
