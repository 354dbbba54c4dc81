/* api_detections.c: finding the objects in a detector's maps, and answering with them. */
#include "api_detections.h"

#include "api_images.h"

#include <math.h>
#include <string.h>

/* ---- which networks are detectors ------------------------------------------------------------ */

static int output_find(const struct network *net, const struct node *map)
{
    for (int i = 0; i < net->n_outputs; i++)
        if (net->outputs[i] == map)
            return i;
    return -1;
}

bool detector_find(const struct network *net, struct detector *d_r)
{
    *d_r = (struct detector){.bits = 0};
    if (!net->n_losses || !node_detection(net->losses[0], &d_r->spec))
        return false;
    for (int k = 0; k < d_r->spec.n_maps; k++) {
        d_r->output[k] = output_find(net, node_input(net->losses[0], k));
        if (d_r->output[k] < 0)
            return false;
        d_r->bits |= 1u << d_r->output[k];
    }
    d_r->target = node_input(net->losses[0], d_r->spec.n_maps);
    return true;
}

/* Numbers of one image in map k. */
static int64_t detector_map_size(const struct detection_spec *spec, int k)
{
    const int64_t stride = spec->stride[k];
    return (4 * spec->reg_max + spec->classes) * (spec->width / stride) * (spec->height / stride);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static int read_share(const struct request *q, const char *name, double *value, struct error *e)
{
    const json_t *given = api_parameter(q, name);
    if (given && !json_is_number(given))
        return error_set(e, ERROR_BAD_TYPE, "parameters.%s must be a number", name);
    if (given)
        *value = json_number_value(given);
    if (*value >= 0 && *value <= 1)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "parameters.%s must be 0 to 1, not %g", name, *value);
}

int detect_options_read(const struct request *q, struct detect_options *o, struct error *e)
{
    const json_t *max = api_parameter(q, "max_det");
    if (read_share(q, "conf", &o->conf, e) || read_share(q, "iou", &o->iou, e))
        return -1;
    if (max && !json_is_integer(max))
        return error_set(e, ERROR_BAD_TYPE, "parameters.max_det must be a whole number");
    if (max)
        o->max_det = json_integer_value(max);
    if (o->max_det >= 1 && o->max_det <= 10000)
        return 0;
    return error_set(e, ERROR_BAD_VALUE, "parameters.max_det must be 1 to 10000, not %lld",
                     (long long)o->max_det);
}

/* ---- finding --------------------------------------------------------------------------------- */

enum { ROUND = 8 }; /* images whose anchors are in memory at a time */

struct finding {
    struct detections *d;
    struct pool *pool;
    int64_t anchors, image;                 /* `image`: place of the round's first */
    const real *maps[DETECTION_MAX_LEVELS]; /* of the round */
    struct detection *room;                 /* [ROUND][2][anchors] */
    int64_t count[ROUND];
};

static void find_images(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    struct finding *f = arg;
    const struct detection_spec *spec = &f->d->detector->spec;
    for (int64_t i = begin; i < end; i++) {
        struct detect_maps m = {.spec = spec};
        struct detection *found = f->room + 2 * f->anchors * i;
        for (int k = 0; k < spec->n_maps; k++)
            m.map[k] = f->maps[k] + i * detector_map_size(spec, k);
        const int64_t n = detect_decode(&m, f->d->options.conf, found);
        f->count[i] = detect_nms(found, n, &f->d->options, found + f->anchors);
    }
}

static void find_round(struct finding *f, int64_t n)
{
    struct detections *d = f->d;
    pool_for(f->pool, n, 1, find_images, f);
    for (int64_t i = 0; i < n; i++) {
        int64_t *first = &d->first[f->image++];
        first[1] = first[0] + f->count[i];
        memcpy(d->at + first[0], f->room + 2 * f->anchors * i, (size_t)f->count[i] * sizeof *d->at);
    }
}

void detections_slice(void *arg, int64_t begin, int64_t n, const real *const *out)
{
    struct finding *f = arg;
    const struct detector *detector = f->d->detector;
    (void)begin; /* slices come in order */
    for (int64_t i = 0; i < n; i += ROUND) {
        for (int k = 0; k < detector->spec.n_maps; k++) {
            const int place = program_output_place(detector->bits, 1u << detector->output[k]);
            f->maps[k] = out[place] + i * detector_map_size(&detector->spec, k);
        }
        find_round(f, n - i < ROUND ? n - i : ROUND);
    }
}

static double within(double x, int most)
{
    return x < 0 ? 0 : x > most ? most : x;
}

/* To the coordinates of the image that was sent. */
static void unfit(const struct image_fit *fit, struct detection *b)
{
    b->x1 = within((b->x1 - fit->dx) / fit->sx, fit->width);
    b->x2 = within((b->x2 - fit->dx) / fit->sx, fit->width);
    b->y1 = within((b->y1 - fit->dy) / fit->sy, fit->height);
    b->y2 = within((b->y2 - fit->dy) / fit->sy, fit->height);
}

int detections_begin(struct request *q, int64_t n, struct detections *d, void **arg_r,
                     struct error *e)
{
    const int64_t anchors = detect_anchors(&d->detector->spec);
    const int64_t most = anchors < d->options.max_det ? anchors : d->options.max_det;
    struct finding *f = *arg_r = arena_alloc(q->arena, sizeof *f);
    d->n = n;
    d->first = arena_array(q->arena, (size_t)n + 1, sizeof *d->first);
    d->at = arena_array(q->arena, (size_t)n, (size_t)most * sizeof *d->at);
    if (f)
        *f = (struct finding){.d = d,
                              .pool = q->server->pool,
                              .anchors = anchors,
                              .room = arena_array(q->arena, n < ROUND ? (size_t)n : ROUND,
                                                  2 * (size_t)anchors * sizeof *f->room)};
    if (f && d->first && d->at && f->room)
        return 0;
    return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the boxes of %lld images",
                     (long long)n);
}

void detections_end(const struct request *q, struct detections *d)
{
    for (int64_t i = 0; q->fits && i < d->n; i++)
        for (int64_t k = d->first[i]; k < d->first[i + 1]; k++)
            unfit(&q->fits[i], &d->at[k]);
}

int detections_find(struct request *q, const struct snapshot *s, const struct batch *b,
                    struct detections *d, struct error *e)
{
    struct snapshot asked = *s; /* of several requests; this one may be left alone */
    void *arg;
    asked.gone = request_gone;
    asked.gone_arg = q;
    if (detections_begin(q, b->n, d, &arg, e) ||
        snapshot_infer(&asked, q->server->pool, b, d->detector->bits, detections_slice, arg, e))
        return -1;
    detections_end(q, d);
    return 0;
}

/* ---- answering ------------------------------------------------------------------------------- */

static const char *label_of(const json_t *description, int64_t category)
{
    return json_string_value(
        json_array_get(json_object_get(description, "labels"), (size_t)category));
}

static void write_detection(struct json_out *w, const json_t *description,
                            const struct detection *b)
{
    const float bbox[] = {(float)b->x1, (float)b->y1, (float)(b->x2 - b->x1),
                          (float)(b->y2 - b->y1)};
    out_open_object(w);
    out_put_int(w, "category", b->category);
    if (label_of(description, b->category))
        out_put_string(w, "label", label_of(description, b->category));
    out_key(w, "score");
    out_float(w, (float)b->score);
    out_key(w, "bbox");
    out_open_array(w);
    for (int i = 0; i < 4; i++)
        out_float(w, bbox[i]);
    out_close(w);
    out_close(w);
}

void detections_write(struct json_out *w, const json_t *description, const struct detections *d)
{
    out_key(w, "detections");
    out_open_array(w);
    for (int64_t i = 0; i < d->n; i++) {
        out_open_array(w);
        for (int64_t k = d->first[i]; k < d->first[i + 1]; k++)
            write_detection(w, description, &d->at[k]);
        out_close(w);
    }
    out_close(w);
}

int detections_draw(struct request *q, const json_t *description, const struct detections *d)
{
    const int64_t n = d->first[1];
    struct image_box *boxes = arena_array(q->arena, (size_t)n + 1, sizeof *boxes);
    for (int64_t i = 0; boxes && i < n; i++) {
        const struct detection *b = &d->at[i];
        const char *label = label_of(description, b->category);
        boxes[i] = (struct image_box){
            b->x1,
            b->y1,
            b->x2,
            b->y2,
            label ? arena_printf(q->arena, "%s %.2f", label, b->score)
                  : arena_printf(q->arena, "%lld %.2f", (long long)b->category, b->score),
            (int)b->category};
    }
    if (!boxes)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the answer");
    return api_reply_boxes(q, boxes, (int)n);
}
