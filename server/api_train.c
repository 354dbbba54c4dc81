/* api_train.c: the verbs that train. Each runs in its model's queue: read the batch, take the step,
 * answer with the counters after it. */
#include "api_once.h"

#include <math.h>

static const struct field batch_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", false}, /* api_read_batch: when there are any */
    {0},
};

static const struct field bare_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {0},
};

#define ONCE_FIELDS                                                                                \
    {"seq", IS_INT, "a whole number", false}, {"expect_step", IS_INT, "a whole number", false},    \
        API_BINARY_OUTPUT

static const struct field step_parameters[] = {
    {"lr", IS_NUMBER, "a number", false},
    ONCE_FIELDS,
    {0},
};

static const struct field optim_parameters[] = {
    {"lr", IS_NUMBER, "a number", false},
    {"keep_gradients", IS_BOOL, "true or false", false},
    ONCE_FIELDS,
    {0},
};

static const struct field no_parameters[] = {ONCE_FIELDS, {0}};

/* The body's fields, its parameters, and what they say. */
static int read_options(struct request *q, const struct field *fields,
                        const struct field *parameters, struct step_options *o_r, struct error *e)
{
    *o_r = (struct step_options){.lr = NAN};
    if (!q->json.root)
        return 0;
    if (api_check_body(q, fields, parameters, e))
        return -1;
    const json_t *lr = api_parameter(q, "lr");
    if (lr)
        o_r->lr = json_number_value(lr);
    if (lr && !(o_r->lr >= 0 && isfinite(o_r->lr)))
        return error_set(e, ERROR_BAD_VALUE, "parameters.lr must be at least 0, not %g", o_r->lr);
    o_r->keep_gradients = json_is_true(api_parameter(q, "keep_gradients"));
    return 0;
}

static int reply_step(struct request *q, const struct step_result *r)
{
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    api_write_counters(&w, &r->at);
    metrics_write(&w, r);
    out_close(&w);
    return reply_json(q, 200, &w);
}

/* The program may change only in the model's queue, which is where we are. */
static int read_batch(struct request *q, const struct field *parameters, struct batch *b_r,
                      struct step_options *o_r, struct error *e)
{
    if (q->raw_tensor)
        return error_set(e, ERROR_MISSING_FIELD, "a raw tensor has no targets");
    if (read_options(q, batch_fields, parameters, o_r, e))
        return -1;
    const struct model *m = request_model(q);
    return api_read_training_batch(q, program_network(m->program), m->at.draw, b_r, e);
}

/* What a verb does with the batch, if it has one. */
typedef int verb_fn(struct model *m, const struct batch *b, const struct step_options *o,
                    struct step_result *r, struct error *e);

/* Carries out what was read, unless it was answered before. */
static int reply_once(struct request *q, verb_fn *verb, const struct batch *b,
                      struct step_options *o)
{
    struct step_result r;
    struct error e;
    int known = api_once_check(q, o, &r, &e);
    if (known < 0 || (!known && verb(request_model(q), b, o, &r, &e)))
        return reply_error(q, &e);
    reply_changed(q);
    return reply_step(q, &r);
}

static int reply_batch(struct request *q, const struct field *parameters, verb_fn *verb)
{
    struct batch b;
    struct step_options o;
    struct error e;
    if (read_batch(q, parameters, &b, &o, &e))
        return reply_error(q, &e);
    return reply_once(q, verb, &b, &o);
}

static int reply_bare(struct request *q, const struct field *parameters, verb_fn *verb)
{
    struct step_options o;
    struct error e;
    if (read_options(q, bare_fields, parameters, &o, &e))
        return reply_error(q, &e);
    return reply_once(q, verb, NULL, &o);
}

int api_train_step(struct request *q)
{
    return reply_batch(q, step_parameters, model_train_step);
}

int api_forward_backward(struct request *q)
{
    return reply_batch(q, no_parameters, model_forward_backward);
}

static int optim_step(struct model *m, const struct batch *b, const struct step_options *o,
                      struct step_result *r, struct error *e)
{
    (void)b;
    return model_optim_step(m, o, r, e);
}

int api_optim_step(struct request *q)
{
    return reply_bare(q, optim_parameters, optim_step);
}

static int zero_grad(struct model *m, const struct batch *b, const struct step_options *o,
                     struct step_result *r, struct error *e)
{
    (void)b;
    return model_zero_grad(m, o, r, e);
}

int api_zero_grad(struct request *q)
{
    return reply_bare(q, no_parameters, zero_grad);
}
