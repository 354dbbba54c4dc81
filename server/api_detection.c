/* api_detection.c: POST /v2/detection/evaluate: boxes in COCO's form in, the numbers of coco.h out.
 * No model is needed. The body is read here and not by the dispatcher: see coco_text_prepare. */
#include "api.h"
#include "coco_read.h"

#include <math.h>
#include <stdio.h>

static const struct field fields[] = {
    {"ground_truth", IS_OBJECT, "an object with images, categories and annotations", true},
    {"detections", IS_LIST, "a list of objects", true},
    {"protocol", IS_STRING, "a string", false},
    {"iou_thresholds", IS_LIST, "a list of numbers", false},
    {"inclusive_pixels", IS_BOOL, "true or false", false},
    {"curves", IS_BOOL, "true or false", false},
    {0},
};

static int read_thresholds(const json_t *list, struct coco_options *o, struct error *e)
{
    struct place found;
    size_t i;
    json_t *value;
    if (!list)
        return 0;
    if (describe_check_count(list, "iou_thresholds", COCO_MAX_THRESHOLDS, e))
        return -1;
    json_array_foreach((json_t *)list, i, value)
    {
        double t = json_number_value(value);
        if (!(t > 0 && t <= 1))
            return error_set(e, ERROR_BAD_VALUE,
                             "iou_thresholds[%zu]: expected a number over 0 and up to 1, found %s",
                             i, describe_found(value, &found));
        o->thresholds[i] = t;
    }
    o->n_thresholds = (int)json_array_size(list);
    return 0;
}

static int read_options(struct request *q, struct coco_options *o, struct error *e)
{
    const json_t *body = q->json.root;
    const char *name = describe_get_string(body, "protocol");
    const json_t *inclusive = describe_get(body, "inclusive_pixels");
    const struct coco_protocol *p = coco_protocol_find(name ? name : "coco", e);
    if (!p)
        return -1;
    coco_options_init(o, p);
    o->gone = request_gone;
    o->gone_arg = q;
    if (json_is_true(inclusive) && !o->inclusive_pixels)
        return error_set(e, ERROR_BAD_VALUE,
                         "inclusive_pixels: expected false with the protocol %s, found true",
                         coco_protocol_name(p));
    if (json_is_false(inclusive))
        o->inclusive_pixels = false;
    return read_thresholds(describe_get(body, "iou_thresholds"), o, e);
}

static int read_body(struct request *q, struct coco_set *set, struct coco_options *o,
                     struct error *e)
{
    char *text = q->body;
    size_t size = q->body_size;
    if (!size)
        return error_set(e, ERROR_BAD_JSON, "the body is empty, expected a JSON object");
    if (coco_text_prepare(&text, &size, q->arena, e) ||
        json_in_read(&q->json, q->arena, text, size, false, e) ||
        api_check_body(q, fields, NULL, e) || read_options(q, o, e))
        return -1;
    const json_t *truth = json_object_get(q->json.root, "ground_truth");
    return coco_read(truth, json_object_get(q->json.root, "detections"), q->arena, set, e);
}

/* ---- the answer ---------------------------------------------------------------------------------
 */

/* NaN is what there is no number for: null, and no non-finite number. */
static void put_number(struct json_out *w, double d)
{
    if (isnan(d))
        out_null(w);
    else
        out_double(w, d);
}

static void write_stats(struct json_out *w, const struct coco_options *o,
                        const struct coco_result *r)
{
    out_key(w, "stats");
    out_open_object(w);
    for (int i = 0; coco_stat_name(i); i++) {
        if (!coco_stat_offered(o->protocol, i))
            continue;
        out_key(w, coco_stat_name(i));
        put_number(w, r->stats[i]);
    }
    out_close(w);
}

static void put_category(struct json_out *w, int64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)id);
    out_key(w, text);
}

static void write_per_class(struct json_out *w, const char *key, const struct coco_set *set,
                            const double *values)
{
    out_key(w, key);
    out_open_object(w);
    for (int64_t k = 0; k < set->n_categories; k++) {
        put_category(w, set->category_ids[k]);
        put_number(w, values[k]);
    }
    out_close(w);
}

static void write_curves(struct json_out *w, const struct coco_set *set,
                         const struct coco_result *r)
{
    double recall[COCO_CURVE];
    for (int i = 0; i < COCO_CURVE; i++)
        recall[i] = i * 0.01;
    out_key(w, "curves");
    out_open_object(w);
    out_put_double(w, "iou", r->curve_threshold);
    out_key(w, "recall");
    out_doubles(w, recall, COCO_CURVE);
    out_key(w, "precision");
    out_open_object(w);
    for (int64_t k = 0; k < set->n_categories; k++) {
        const double *curve = r->curves + k * COCO_CURVE;
        put_category(w, set->category_ids[k]);
        if (isnan(curve[0]))
            out_null(w);
        else
            out_doubles(w, curve, COCO_CURVE);
    }
    out_close(w);
    out_close(w);
}

static void write_counts(struct json_out *w, const struct coco_set *set,
                         const struct coco_counts *c)
{
    out_key(w, "counts");
    out_open_object(w);
    out_put_int(w, "images", set->n_images);
    out_put_int(w, "categories", set->n_categories);
    out_put_int(w, "ground_truths", c->truths);
    out_put_int(w, "ground_truths_crowd", c->crowds);
    out_put_int(w, "ground_truths_ignored", c->truths_ignored);
    out_put_int(w, "detections", c->detections);
    out_put_int(w, "detections_ignored", c->ignored);
    out_put_int(w, "detections_cut", c->cut);
    out_close(w);
}

static void write_thresholds(struct json_out *w, const struct coco_options *o,
                             const struct coco_result *r)
{
    out_key(w, "iou_thresholds");
    out_doubles(w, o->thresholds, (size_t)o->n_thresholds);
    out_key(w, "per_threshold_ap");
    out_open_array(w);
    for (int t = 0; t < o->n_thresholds; t++)
        put_number(w, r->threshold_ap[t]);
    out_close(w);
}

int api_detection_evaluate(struct request *q)
{
    struct coco_set set;
    struct coco_options o;
    struct coco_result r;
    struct error e;
    struct json_out w = JSON_OUT_INIT;
    if (read_body(q, &set, &o, &e) || coco_evaluate(&set, &o, q->arena, &r, &e))
        return reply_error(q, &e);
    const json_t *curves = describe_get(q->json.root, "curves");
    out_open_object(&w);
    out_put_string(&w, "protocol", coco_protocol_name(o.protocol));
    out_put_bool(&w, "inclusive_pixels", o.inclusive_pixels);
    write_stats(&w, &o, &r);
    write_per_class(&w, "per_class_ap", &set, r.category_ap);
    if (r.curve_threshold == 0.5)
        write_per_class(&w, "per_class_ap50", &set, r.category_ap50);
    write_thresholds(&w, &o, &r);
    if (!curves || json_is_true(curves))
        write_curves(&w, &set, &r);
    write_counts(&w, &set, &r.counts);
    out_close(&w);
    return reply_json(q, 200, &w);
}
