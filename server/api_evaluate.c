/* api_evaluate.c: loss and metrics of a labelled batch, by one published state, which they say. */
#include "api.h"
#include "score.h"

#include <math.h>

static const struct field fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", false}, /* api_read_batch: when there are any */
    {0},
};

static const struct field parameters[] = {
    {"weights", IS_STRING, "\"live\" or \"ema\"", false},
    {"metrics", IS_LIST, "a list of names of metrics", false},
    API_BINARY_OUTPUT,
    {0},
};

struct evaluation {
    struct score_wishes wishes;
    struct arena *arena;
    struct scores scores;
};

static int compute_scores(void *arg, const struct network *net, const struct batch *b,
                          const real *prediction, struct error *e)
{
    struct evaluation *v = arg;
    struct scored scored = score_batch(net, b, prediction);
    return score_compute(&scored, &v->wishes, v->arena, &v->scores, e);
}

static int evaluate(struct request *q, struct snapshot *s)
{
    const struct network *net = program_network(s->program);
    struct evaluation v = {.arena = q->arena};
    struct step_result r;
    struct batch b;
    struct error e;
    if (api_check_body(q, fields, parameters, &e) || api_choose_weights(q, s, &e) ||
        score_wishes_read(net, api_parameter(q, "metrics"), &v.wishes, &e) ||
        api_read_batch(q, net, true, &b, &e) ||
        snapshot_evaluate(s, q->server->pool, &b, compute_scores, &v, &r, &e))
        return reply_error(q, &e);
    struct json_out w = JSON_OUT_INIT;
    r.accuracy = NAN; /* it is among the scores */
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    api_write_counters(&w, &r.at);
    metrics_open(&w, &r);
    score_write(&w, &v.scores);
    out_close(&w);
    out_put_non_finite(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

int api_evaluate(struct request *q)
{
    struct snapshot s;
    struct error e;
    if (api_snapshot(q, &s, &e))
        return reply_error(q, &e);
    int status = evaluate(q, &s);
    snapshot_release(&s);
    return status;
}
