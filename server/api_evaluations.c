/* api_evaluations.c: evaluating a detector over several requests: begin, add batches of images with
 * their boxes, finish. One state finds the objects of all batches, however long training goes on
 * meanwhile. The numbers are those of POST /v2/detection/evaluate, and become metrics of the model
 * at that state's revision, unless they are asked for with a key that may only read. */
#include "api_detections.h"
#include "boxes.h"
#include "evaluation.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct field start_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {0},
};
static const struct field batch_fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", true},
    {0},
};
static const struct field batch_parameters[] = {API_BINARY_OUTPUT, {0}};
static const struct field start_parameters[] = {
    {"conf", IS_NUMBER, "a number", false},
    {"iou", IS_NUMBER, "a number", false},
    {"max_det", IS_INT, "a whole number", false},
    {"weights", IS_STRING, "\"live\" or \"ema\"", false},
    {0},
};

static int find_detector(const struct network *net, struct detector *d_r, struct error *e)
{
    if (detector_find(net, d_r))
        return 0;
    return error_set(e, ERROR_CONFLICT,
                     "the model is no detector: evaluations in several requests need the loss "
                     "yolo_detection, whose inputs are outputs of the model");
}

static void write_begin(struct json_out *w, const struct request *q, const struct evaluation *v)
{
    out_open_object(w);
    api_write_name(w, q, request_model(q)->name);
    api_write_counters(w, &v->state.at);
    out_put_int(w, "evaluation", v->id);
    out_put_int(w, "images", v->images);
}

/* The state that is evaluated: of a detector, with the weights that the request chooses. */
static int choose_state(struct request *q, struct snapshot *s, struct error *e)
{
    struct detector detector;
    if (model_snapshot(request_model(q), s, e))
        return -1;
    if (!find_detector(program_network(s->program), &detector, e) && !api_choose_weights(q, s, e))
        return 0;
    snapshot_release(s);
    return -1;
}

int api_evaluation_start(struct request *q)
{
    struct detect_options o = {.conf = 0.001, .iou = 0.7, .max_det = 300};
    struct evaluation *v = NULL;
    struct snapshot s;
    struct error e;
    if (api_check_body(q, start_fields, start_parameters, &e) || detect_options_read(q, &o, &e) ||
        choose_state(q, &s, &e) ||
        !(v = evaluation_start(request_model(q), &s, &o, caller_key(q->caller), &e)))
        return reply_error(q, &e);
    struct json_out w = JSON_OUT_INIT;
    reply_changed(q);
    write_begin(&w, q, v);
    out_close(&w);
    evaluation_release(&v);
    return reply_json(q, 201, &w);
}

/* ---- a batch --------------------------------------------------------------------------------- */

/* The tensor of boxes among the targets. */
static int read_truths(struct request *q, const struct network *net, const struct detector *d,
                       struct sent_boxes *sent, struct error *e)
{
    struct tensor *tensors;
    struct tensor_text text;
    int n;
    if (tensors_read(q, "targets", &tensors, &n, e))
        return -1;
    if (n != 1)
        return error_set(e, ERROR_BAD_VALUE, "targets: expected one tensor of boxes, found %d", n);
    if (tensors->name && strcmp(tensors->name, node_name(d->target)) != 0)
        return error_set(e, ERROR_UNKNOWN_FIELD, "%s: the model's target is called '%s'",
                         tensor_what(tensors, &text), node_name(d->target));
    if (!tensors->boxes)
        return error_set(e, ERROR_MISSING_FIELD,
                         "%s: an evaluation needs 'boxes', the objects of each image",
                         tensor_what(tensors, &text));
    return boxes_read_sent(q, net, d->target, tensors, sent, e) || tensors_end(q, e) ? -1 : 0;
}

/* Detections have the float32 numbers that an answer of infer would have. */
static int gather_batch(struct request *q, const struct sent_boxes *sent,
                        const struct detections *d, struct evaluation_batch *b, struct error *e)
{
    struct coco_truth *truths;
    struct coco_detection *found;
    b->images = sent->n;
    b->n_truths = (size_t)sent->first[sent->n];
    b->n_found = (size_t)d->first[d->n];
    b->truths = truths = arena_array(q->arena, b->n_truths + 1, sizeof *truths);
    b->found = found = arena_array(q->arena, b->n_found + 1, sizeof *found);
    if (!truths || !found)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the batch");
    for (int64_t i = 0; i < sent->n; i++) {
        for (int64_t k = sent->first[i]; k < sent->first[i + 1]; k++) {
            const struct sent_box *s = &sent->at[k];
            truths[k] = (struct coco_truth){.image = (int32_t)i,
                                            .category = (int32_t)s->category,
                                            .area = s->area,
                                            .crowd = s->crowd};
            memcpy(truths[k].box, s->bbox, sizeof s->bbox);
        }
        for (int64_t k = d->first[i]; k < d->first[i + 1]; k++) {
            const struct detection *f = &d->at[k];
            found[k] = (struct coco_detection){
                .image = (int32_t)i,
                .category = (int32_t)f->category,
                .box = {(float)f->x1, (float)f->y1, (float)(f->x2 - f->x1), (float)(f->y2 - f->y1)},
                .score = (float)f->score};
        }
    }
    return 0;
}

static int add_batch(struct request *q, struct evaluation *v, struct error *e)
{
    const struct network *net = program_network(v->state.program);
    struct detector detector;
    struct detections d = {.detector = &detector, .options = v->options};
    struct evaluation_batch batch;
    struct sent_boxes sent;
    struct batch b;
    if (q->raw_tensor)
        return error_set(e, ERROR_MISSING_FIELD, "a raw tensor has no targets");
    if (api_check_body(q, batch_fields, batch_parameters, e) || find_detector(net, &detector, e) ||
        api_read_batch(q, net, false, &b, e) || read_truths(q, net, &detector, &sent, e))
        return -1;
    if (sent.n != b.n)
        return error_set(e, ERROR_BAD_SHAPE, "targets: 'boxes' has %lld images, the inputs %lld",
                         (long long)sent.n, (long long)b.n);
    if (detections_find(q, &v->state, &b, &d, e) || gather_batch(q, &sent, &d, &batch, e))
        return -1;
    return evaluation_add(v, &batch, e);
}

/* Whether what the request does may stay with the model: a key of the role read changes nothing. */
static bool may_change(const struct request *q)
{
    return !q->caller || q->caller->key.role >= ROLE_TRAIN;
}

/* NULL with the reply made. Others' evaluations are for those who may change the model. */
static struct evaluation *find(struct request *q)
{
    struct evaluation *v;
    struct error e;
    int64_t id;
    if (param_int(q, "evaluation", 1, &id))
        return NULL;
    if (!(v = evaluation_find(request_model(q), id, &e))) {
        reply_error(q, &e);
    } else if (!may_change(q) && strcmp(v->by, q->caller->key.id) != 0) {
        evaluation_release(&v);
        reply_errorf(q, ERROR_FORBIDDEN,
                     "evaluation %lld was begun with another key than '%s'; that takes the role "
                     "train",
                     (long long)id, q->caller->key.name);
    }
    return v;
}

int api_evaluation_add(struct request *q)
{
    struct evaluation *v = find(q);
    struct error e;
    if (!v)
        return q->status;
    if (add_batch(q, v, &e)) {
        evaluation_release(&v);
        return reply_error(q, &e);
    }
    struct json_out w = JSON_OUT_INIT;
    reply_changed(q);
    write_begin(&w, q, v);
    out_close(&w);
    evaluation_release(&v);
    return reply_json(q, 200, &w);
}

int api_evaluation_delete(struct request *q)
{
    struct evaluation *v = find(q);
    if (!v)
        return q->status;
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_int(&w, "deleted", v->id);
    out_close(&w);
    evaluation_remove(request_model(q), v);
    evaluation_release(&v);
    reply_changed(q);
    return reply_json(q, 200, &w);
}

/* ---- the numbers ----------------------------------------------------------------------------- */

/* Which number of which protocol is which metric. */
static const struct {
    const char *metric, *stat;
    bool ultralytics; /* else COCO */
} metrics[] = {
    {"mAP50-95", "AP", false},        {"mAP50", "AP50", false},   {"mAP75", "AP75", false},
    {"precision", "precision", true}, {"recall", "recall", true},
};
enum { METRICS = sizeof metrics / sizeof *metrics };

struct results {
    struct coco_result coco, ultralytics;
};

static double metric_value(const struct results *r, int i)
{
    const struct coco_result *from = metrics[i].ultralytics ? &r->ultralytics : &r->coco;
    for (int k = 0; coco_stat_name(k); k++)
        if (strcmp(coco_stat_name(k), metrics[i].stat) == 0)
            return from->stats[k];
    return NAN;
}

static void put_number(struct json_out *w, const char *key, double x)
{
    out_key(w, key);
    if (isnan(x))
        out_null(w);
    else
        out_double(w, x);
}

/* The label of a category, or its number. */
static const char *category_name(const struct evaluation *v, int64_t category,
                                 char text[STORE_SERIES_NAME])
{
    const json_t *labels = json_object_get(v->state.description, "labels");
    const char *label = json_string_value(json_array_get(labels, (size_t)category));
    if (label)
        snprintf(text, STORE_SERIES_NAME, "%.32s", label);
    else
        snprintf(text, STORE_SERIES_NAME, "%lld", (long long)category);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    return text;
}

/* Series by class are called "mAP50/label". */
static void record_classes(struct model *m, const struct evaluation *v, const struct results *r,
                           int64_t classes, struct store_metric row)
{
    char name[STORE_SERIES_NAME], series[2 * STORE_SERIES_NAME];
    struct error ignored;
    for (int64_t i = 0; i < classes; i++)
        for (int at50 = 0; at50 < 2; at50++) {
            row.value = at50 ? r->coco.category_ap50[i] : r->coco.category_ap[i];
            snprintf(series, sizeof series, "%s/%s", at50 ? "mAP50" : "mAP50-95",
                     category_name(v, i, name));
            row.series = series;
            if (!isnan(row.value))
                store_metrics_append(m->models->store, &row, 1, &ignored);
        }
}

static void record(struct model *m, const struct evaluation *v, const struct results *r,
                   int64_t classes)
{
    struct error ignored;
    struct store_metric row = {.model_id = m->id,
                               .revision = v->state.at.revision,
                               .step = v->state.at.step,
                               .time_ms = metrics_now_ms(),
                               .late = 1};
    for (int i = 0; i < METRICS; i++) {
        row.series = metrics[i].metric;
        row.value = metric_value(r, i);
        model_note_metric(m, row.series, row.value);
        if (!isnan(row.value))
            store_metrics_append(m->models->store, &row, 1, &ignored);
    }
    record_classes(m, v, r, classes, row);
}

static void write_results(struct json_out *w, const struct evaluation *v, const struct results *r,
                          int64_t classes)
{
    char name[STORE_SERIES_NAME];
    out_key(w, "metrics");
    out_open_object(w);
    for (int i = 0; i < METRICS; i++)
        put_number(w, metrics[i].metric, metric_value(r, i));
    out_close(w);
    out_key(w, "per_class");
    out_open_object(w);
    for (int64_t i = 0; i < classes; i++) {
        out_key(w, category_name(v, i, name));
        out_open_object(w);
        put_number(w, "mAP50-95", r->coco.category_ap[i]);
        put_number(w, "mAP50", r->coco.category_ap50[i]);
        out_close(w);
    }
    out_close(w);
    out_key(w, "stats");
    out_open_object(w);
    for (int i = 0; coco_stat_name(i); i++)
        if (coco_stat_offered(coco_protocol_find("coco", NULL), i))
            put_number(w, coco_stat_name(i), r->coco.stats[i]);
    out_close(w);
}

static int finish(struct request *q, struct evaluation *v)
{
    struct detector detector;
    struct results r;
    struct error e;
    if (find_detector(program_network(v->state.program), &detector, &e) ||
        evaluation_compute(v, "coco", detector.spec.classes, q, &r.coco, &e) ||
        evaluation_compute(v, "ultralytics", detector.spec.classes, q, &r.ultralytics, &e))
        return reply_error(q, &e);
    if (may_change(q))
        record(request_model(q), v, &r, detector.spec.classes);
    reply_changed(q);
    struct json_out w = JSON_OUT_INIT;
    write_begin(&w, q, v);
    out_put_bool(&w, "recorded", may_change(q));
    write_results(&w, v, &r, detector.spec.classes);
    out_close(&w);
    evaluation_remove(request_model(q), v);
    return reply_json(q, 200, &w);
}

int api_evaluation_finish(struct request *q)
{
    struct evaluation *v = find(q);
    if (!v)
        return q->status;
    finish(q, v);
    evaluation_release(&v);
    return q->status;
}
