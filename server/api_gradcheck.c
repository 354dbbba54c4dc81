/* api_gradcheck.c: the model's gradients against differences of its loss, in double precision, on a
 * batch: what gradcheck.h finds, as an answer. Changes nothing. */
#include "api.h"
#include "gradcheck.h"

#include <fnmatch.h>
#include <string.h>

static const struct field fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", true},
    {0},
};

static const struct field parameters[] = {
    {"wrt", IS_LIST, "a list of names of parameters", false},
    {"count", IS_INT, "a whole number", false},
    {"seed", IS_INT, "a whole number", false},
    {"eps", IS_NUMBER, "a number", false},
    {"tolerance", IS_NUMBER, "a number", false},
    {"mode", IS_STRING, "\"train\" or \"eval\"", false},
    API_BINARY_OUTPUT,
    {0},
};

enum { DEFAULT_COUNT = 4, MAX_COUNT = 100000 };

struct asked {
    const json_t *wrt; /* NULL: all parameters */
    struct budget *budget;
    size_t taken; /* of it */
};

static bool wanted(void *arg, const char *name)
{
    const struct asked *a = arg;
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)a->wrt, i, item)
    {
        if (fnmatch(json_string_value(item), name, 0) == 0)
            return true;
    }
    return !a->wrt;
}

static int take(void *arg, size_t bytes, struct error *e)
{
    struct asked *a = arg;
    if (budget_take(a->budget, bytes, "gradcheck", e))
        return -1;
    a->taken += bytes;
    return 0;
}

/* ---- the question ---------------------------------------------------------------------------- */

/* A number above 0 and up to `max`, or its fallback. */
static int read_positive(const struct request *q, const char *name, double fallback, double max,
                         double *value_r, struct error *e)
{
    const json_t *given = api_parameter(q, name);
    *value_r = given && !json_is_null(given) ? json_number_value(given) : fallback;
    if (*value_r > 0 && *value_r <= max)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "parameters.%s: expected a number above 0, at most %g, found %g", name, max,
                     *value_r);
}

static int read_wrt(struct request *q, const struct graph *g, struct asked *a, struct error *e)
{
    size_t i;
    json_t *item;
    a->wrt = api_parameter(q, "wrt");
    json_array_foreach((json_t *)a->wrt, i, item)
    {
        const char *glob = json_string_value(item);
        struct nearest near = {.given = glob};
        bool found = false;
        if (!glob)
            return error_set(e, ERROR_BAD_TYPE, "parameters.wrt[%zu] must be a string", i);
        for (int k = 0; k < graph_param_count(g) && !found; k++) {
            const struct param *p = graph_param(g, k);
            found = !p->buffer && fnmatch(glob, p->name, 0) == 0;
            if (!p->buffer)
                nearest_offer(&near, p->name);
        }
        if (!found)
            return error_set(e, ERROR_BAD_VALUE,
                             "parameters.wrt[%zu]: no parameter is called '%.60s'%s%s%s", i, glob,
                             near.best ? "; did you mean '" : "", near.best ? near.best : "",
                             near.best ? "'?" : "");
    }
    return 0;
}

static int read_question(struct request *q, const struct graph *g, struct gradcheck_question *x,
                         struct asked *a, struct error *e)
{
    if (api_check_body(q, fields, parameters, e))
        return -1;
    double count;
    const char *mode = json_string_value(api_parameter(q, "mode"));
    if (mode && strcmp(mode, "train") != 0 && strcmp(mode, "eval") != 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.mode must be \"train\" or \"eval\", not \"%.40s\"", mode);
    if (read_positive(q, "count", DEFAULT_COUNT, MAX_COUNT, &count, e) ||
        read_positive(q, "eps", 1e-6, 0.1, &x->eps, e) ||
        read_positive(q, "tolerance", 1e-5, 1, &x->tolerance, e) || read_wrt(q, g, a, e))
        return -1;
    x->count = (int64_t)count;
    x->seed = (uint64_t)json_integer_value(api_parameter(q, "seed"));
    x->training = !mode || strcmp(mode, "train") == 0;
    return 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void write_counts(struct json_out *w, int64_t checked, int64_t agreed, int64_t kinks,
                         int64_t disagreed, int64_t padding)
{
    out_put_bool(w, "agrees", disagreed == 0);
    out_put_int(w, "checked", checked);
    out_put_int(w, "agreed", agreed);
    out_put_int(w, "kinks", kinks);
    out_put_int(w, "disagreed", disagreed);
    if (padding)
        out_put_int(w, "padding", padding);
}

static void write_row(void *arg, const struct gradcheck_row *row)
{
    struct json_out *w = arg;
    out_open_object(w);
    out_put_string(w, "name", row->name);
    out_put_int64s(w, "shape", row->dim, (size_t)row->rank);
    write_counts(w, row->checked, row->agreed, row->kinks, row->disagreed, row->padding);
    if (row->worst.index >= 0) {
        out_key(w, "worst");
        out_open_object(w);
        out_put_int(w, "index", row->worst.index);
        out_put_double(w, "analytic", row->worst.analytic);
        out_put_double(w, "numeric", row->worst.numeric);
        out_put_double(w, "relative_error", row->worst.error);
        out_close(w);
    }
    out_close(w);
}

static int reply(struct request *q, const struct snapshot *s, const struct gradcheck_question *x)
{
    struct gradcheck_result r;
    struct json_out w = JSON_OUT_INIT;
    struct error e;
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    api_write_counters(&w, &s->at);
    out_key(&w, "parameters");
    out_open_array(&w);
    if (gradcheck_run(x, write_row, &w, &r, &e)) {
        out_free(&w);
        return reply_error(q, &e);
    }
    out_close(&w);
    out_put_double(&w, "loss", r.loss);
    out_put_double(&w, "eps", x->eps);
    out_put_double(&w, "tolerance", x->tolerance);
    write_counts(&w, r.checked, r.agreed, r.kinks, r.disagreed, r.padding);
    if (r.detaches)
        out_put_string(&w, "detaches", r.detaches);
    out_put_non_finite(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int gradcheck(struct request *q, const struct snapshot *s)
{
    const struct network *net = program_network(s->program);
    struct asked a = {.budget = &request_models(q)->budget};
    struct gradcheck_question x = {.description = s->description,
                                   .params = s->generation->params,
                                   .buffers = s->generation->buffers,
                                   .draw = s->at.draw,
                                   .wanted = wanted,
                                   .take = take,
                                   .arg = &a,
                                   .gone = request_gone,
                                   .gone_arg = q};
    struct batch b;
    struct error e;
    if (read_question(q, net->graph, &x, &a, &e) ||
        (x.training ? api_read_training_batch(q, net, s->at.draw, &b, &e)
                    : api_read_batch(q, net, true, &b, &e)))
        return reply_error(q, &e);
    x.data = b.data;
    x.n = b.n;
    int status = reply(q, s, &x);
    budget_give(a.budget, a.taken);
    return status;
}

int api_gradcheck(struct request *q)
{
    struct snapshot s;
    struct error e;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    int status = gradcheck(q, &s);
    snapshot_release(&s);
    return status;
}
