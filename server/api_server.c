/* api_server.c: what the daemon says of itself: metadata, health, its tables, its paths. */
#include "api.h"
#include "describe_template.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int api_live(struct request *q)
{
    return reply_json_text(q, 200, "{\"live\":true}");
}

int api_ready(struct request *q)
{
    if (!__atomic_load_n(&q->server->loading, __ATOMIC_ACQUIRE))
        return reply_json_text(q, 200, "{\"live\":true,\"ready\":true}");
    reply_header(q, "Retry-After", "1");
    return reply_json_text(q, 503, "{\"live\":true,\"ready\":false}");
}

int api_server_metadata(struct request *q)
{
    static const char *const extensions[] = {
        "binary_tensor_data", "classification",      "model_repository", "training", "gradients",
        "statistics",         "model_configuration", "versions",         "aliases",  "autograd"};
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "name", "backpropd");
    out_put_string(&w, "version", BACKPROPD_VERSION);
    out_key(&w, "extensions");
    out_open_array(&w);
    for (size_t i = 0; i < sizeof extensions / sizeof extensions[0]; i++)
        out_string(&w, extensions[i]);
    out_close(&w);
    out_put_string(&w, "engine", engine_fingerprint());
    out_put_int(&w, "threads", pool_threads(q->server->pool));
    out_put_uint(&w, "memory_limit_bytes", request_models(q)->budget.limit);
    out_put_uint(&w, "memory_used_bytes", budget_used(&request_models(q)->budget));
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static const char *const type_names[] = {
    [ATTR_INT] = "integer",           [ATTR_REAL] = "number",
    [ATTR_BOOL] = "boolean",          [ATTR_CHOICE] = "string",
    [ATTR_PAIR] = "integer or two",   [ATTR_INTS] = "list of integers",
    [ATTR_REALS] = "list of numbers", [ATTR_FACT] = "integer",
};

static void write_choices(struct json_out *w, const char *choices)
{
    out_key(w, "choices");
    out_open_array(w);
    for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        out_string_n(w, c, strcspn(c, "|"));
    out_close(w);
}

/* A fallback that is no number of the range stands for "not given": it is not shown. */
static bool fallback_shown(const struct attr_def *d)
{
    double x = d->fallback ? strtod(d->fallback, NULL) : 0;
    bool number =
        d->type == ATTR_INT || d->type == ATTR_REAL || d->type == ATTR_PAIR || d->type == ATTR_FACT;
    return d->fallback && (!number || (x >= d->min && x <= d->max));
}

static void write_attribute(struct json_out *w, const struct attr_def *d)
{
    out_open_object(w);
    out_put_string(w, "name", d->name);
    out_put_string(w, "type", type_names[d->type]);
    out_put_bool(w, "required", !d->fallback);
    if (fallback_shown(d))
        out_put_string(w, "default", d->fallback);
    if (d->type == ATTR_CHOICE)
        write_choices(w, d->choices);
    else if (d->type != ATTR_BOOL && isfinite(d->min))
        out_put_double(w, "min", d->min);
    if (d->type != ATTR_CHOICE && d->type != ATTR_BOOL && isfinite(d->max))
        out_put_double(w, "max", d->max);
    out_put_string(w, "doc", d->doc);
    out_close(w);
}

static void write_attributes(struct json_out *w, const struct attr_def *defs)
{
    out_key(w, "attributes");
    out_open_array(w);
    for (const struct attr_def *d = defs; d && d->name; d++)
        write_attribute(w, d);
    out_close(w);
}

static void write_params(struct json_out *w, const struct param_def *defs)
{
    out_key(w, "parameters");
    out_open_array(w);
    for (const struct param_def *d = defs; d && d->name; d++) {
        out_open_object(w);
        out_put_string(w, "name", d->name);
        out_put_bool(w, "buffer", d->buffer);
        out_put_string(w, "init", d->init);
        out_close(w);
    }
    out_close(w);
}

static void write_operator(struct json_out *w, const struct op_info *op)
{
    out_open_object(w);
    out_put_string(w, "name", op->name);
    out_put_string(w, "family", op->family);
    out_put_string(w, "doc", op->doc);
    out_put_int(w, "min_inputs", op->min_inputs);
    out_key(w, "max_inputs");
    if (op->max_inputs < 0)
        out_null(w);
    else
        out_int(w, op->max_inputs);
    write_attributes(w, op->attrs);
    write_params(w, op->params);
    out_put_bool(w, "loss", op->is_loss);
    out_put_bool(w, "differentiable", op->differentiable);
    out_put_bool(w, "random", op->random);
    out_close(w);
}

typedef bool info_at(int i, struct optimizer_info *info_r);

static void write_augmentations(struct json_out *w)
{
    struct augment_info info;
    out_key(w, "augmentations");
    out_open_array(w);
    for (int i = 0; augment_info_at(i, &info); i++) {
        out_open_object(w);
        out_put_string(w, "name", info.row.name);
        out_put_string(w, "kind", info.kind);
        out_put_string(w, "doc", info.row.doc);
        write_attributes(w, info.row.attrs);
        out_close(w);
    }
    out_close(w);
}

static void write_table(struct json_out *w, const char *key, info_at *at)
{
    struct optimizer_info info;
    out_key(w, key);
    out_open_array(w);
    for (int i = 0; at(i, &info); i++) {
        out_open_object(w);
        out_put_string(w, "name", info.name);
        out_put_string(w, "doc", info.doc);
        write_attributes(w, info.attrs);
        out_close(w);
    }
    out_close(w);
}

/* The i-th operator that a description may have as its loss. */
static bool loss_info_at(int i, struct optimizer_info *info_r)
{
    struct op_info op;
    for (int k = 0; op_info_at(k, &op); k++)
        if (op.is_loss && i-- == 0) {
            *info_r = (struct optimizer_info){.name = op.name, .doc = op.doc, .attrs = op.attrs};
            return true;
        }
    return false;
}

int api_operators(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    struct op_info op;
    out_open_object(&w);
    out_key(&w, "operators");
    out_open_array(&w);
    for (int i = 0; op_info_at(i, &op); i++)
        write_operator(&w, &op);
    out_close(&w);
    write_table(&w, "losses", loss_info_at);
    write_table(&w, "optimizers", optimizer_info_at);
    write_table(&w, "schedules", schedule_info_at);
    write_table(&w, "initializers", init_info_at);
    write_augmentations(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_templates(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_key(&w, "templates");
    out_open_array(&w);
    for (int i = 0; template_at(i); i++) {
        out_open_object(&w);
        out_put_string(&w, "name", template_at(i)->name);
        out_put_string(&w, "doc", template_at(i)->doc);
        write_attributes(&w, template_at(i)->attrs);
        out_close(&w);
    }
    out_close(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* ---- paths ----------------------------------------------------------------------------------- */

int api_index(struct request *q)
{
    char *text = arena_strdup(q->arena, "backpropd " BACKPROPD_VERSION
                                        ": neural networks over HTTP. Paths:\n\n");
    for (const struct route *r = q->server->routes; text && r->method; r++)
        text = arena_printf(q->arena, "%s%-6s %-50s %s\n", text, r->method, r->pattern, r->doc);
    if (!text)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory");
    return reply_text(q, 200, "text/plain; charset=utf-8", text);
}
