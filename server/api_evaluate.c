/* api_evaluate.c: loss and metrics of a labelled batch, by one published state, which they say. If
 * asked to, they become metrics of the model at that state's revision: "val_loss" and so on. */
#include "access.h"
#include "api.h"
#include "score.h"

#include <math.h>
#include <stdio.h>

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
    {"record", IS_BOOL, "true or false", false},
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

/* ---- recording ------------------------------------------------------------------------------- */

enum { MAX_ROWS = 1 + RUN_MAX_PARTS + SCORE_MAX };

struct row_list {
    struct store_metric like; /* what the rows have in common */
    struct store_metric rows[MAX_ROWS];
    char names[MAX_ROWS][STORE_SERIES_NAME];
    int n;
};

static void add_row(struct row_list *r, struct model *m, const char *name, double value)
{
    if (isnan(value))
        return;
    struct store_metric *row = &r->rows[r->n];
    *row = r->like;
    row->series = r->names[r->n++];
    row->value = value;
    snprintf(r->names[row - r->rows], STORE_SERIES_NAME, "val_%.48s", name);
    model_note_metric(m, row->series, value);
}

/* A state that has been passed may be recorded, so the rows are late ones. */
static int record(struct model *m, const struct step_result *result, const struct scores *scores,
                  struct error *e)
{
    struct row_list r = {.like = {.model_id = m->id,
                                  .revision = result->at.revision,
                                  .step = result->at.step,
                                  .time_ms = metrics_now_ms(),
                                  .late = 1}};
    add_row(&r, m, "loss", result->loss);
    for (int i = 0; i < result->n_parts; i++)
        add_row(&r, m, result->parts[i].name, result->parts[i].value);
    for (int i = 0; i < scores->n; i++)
        if (!scores->v[i].matrix)
            add_row(&r, m, scores->v[i].name, scores->v[i].value);
    return store_metrics_append(m->models->store, r.rows, r.n, e);
}

/* Questions change nothing, so recording one takes a key that may train; and what a version is
 * asked is no point of a curve of the model. */
static int check_record(struct request *q, bool *record_r, struct error *e)
{
    *record_r = json_is_true(api_parameter(q, "record"));
    if (*record_r && request_param(q, "version"))
        return error_set(e, ERROR_BAD_VALUE,
                         "parameters.record: only evaluations of the live weights are recorded");
    return *record_r ? access_check_role(q, ROLE_TRAIN, "parameters.record", e) : 0;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static int reply_scores(struct request *q, const struct step_result *r, const struct scores *scores,
                        int64_t version)
{
    struct json_out w = JSON_OUT_INIT;
    char number[24];
    out_open_object(&w);
    api_write_name(&w, q, request_model(q)->name);
    snprintf(number, sizeof number, "%lld", (long long)version);
    if (version)
        out_put_string(&w, "model_version", number);
    api_write_counters(&w, &r->at);
    metrics_open(&w, r);
    score_write(&w, scores);
    out_close(&w);
    out_put_non_finite(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}

static int evaluate(struct request *q, struct snapshot *s, int64_t version)
{
    const struct network *net = program_network(s->program);
    struct evaluation v = {.arena = q->arena};
    struct step_result r;
    struct batch b;
    struct error e;
    bool recorded;
    if (api_check_body(q, fields, parameters, &e) || check_record(q, &recorded, &e) ||
        api_choose_weights(q, s, &e) ||
        score_wishes_read(net, api_parameter(q, "metrics"), &v.wishes, &e) ||
        api_read_batch(q, net, true, &b, &e) ||
        snapshot_evaluate(s, q->server->pool, &b, compute_scores, &v, &r, &e) ||
        (recorded && record(request_model(q), &r, &v.scores, &e)))
        return reply_error(q, &e);
    if (recorded)
        reply_changed(q);
    r.accuracy = NAN; /* it is among the scores */
    return reply_scores(q, &r, &v.scores, version);
}

int api_evaluate(struct request *q)
{
    struct snapshot s;
    struct error e;
    int64_t version = 0;
    if (request_param(q, "version") && api_param_version(q, &version))
        return q->status;
    if (api_snapshot(q, version, &s, &e))
        return reply_error(q, &e);
    int status = evaluate(q, &s, version);
    snapshot_release(&s);
    return status;
}
