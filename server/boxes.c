/* boxes.c: reading lists of boxes. */
#include "boxes.h"

#include "image.h"
#include "labels.h"

#include <math.h>
#include <string.h>

enum { ROW = 5 };
static const double SHARE_ROUNDING = 1e-3; /* of those who write few digits */

static const struct field box_fields[] = {
    {"category", IS_INT | IS_STRING, "an index of the labels or a label", true},
    {"bbox", IS_LIST, "a list of four numbers", true},
    {"iscrowd", IS_INT | IS_BOOL, "0 or 1", false},
    {"area", IS_NUMBER, "a number", false},
    {0},
};

const struct node *boxes_loss(const struct network *net, const struct node *target,
                              struct detection_spec *spec_r)
{
    for (int i = 0; i < net->n_losses; i++) {
        const struct node *loss = net->losses[i];
        if (node_detection(loss, spec_r) && node_input(loss, node_input_count(loss) - 1) == target)
            return loss;
    }
    return NULL;
}

struct reading {
    const char *what; /* "targets 'boxes'" */
    struct detection_spec spec;
    json_t *labels;              /* NULL: none */
    const struct image_fit *fit; /* NULL: numbers were sent */
    bool shares;                 /* format cxcywhn */
    struct error *e;
};

static int read_category(const struct reading *r, const json_t *box, const char *place,
                         int64_t *category_r)
{
    const json_t *given = json_object_get(box, "category");
    struct place p = describe_place("%s.category", place);
    if (json_is_string(given))
        return labels_find(r->labels, json_string_value(given), p.text, category_r, r->e);
    *category_r = json_integer_value(given);
    if (*category_r >= 0 && *category_r < r->spec.classes)
        return 0;
    return error_set(r->e, ERROR_BAD_VALUE, "%s: expected 0 to %lld, found %lld", p.text,
                     (long long)(r->spec.classes - 1), (long long)*category_r);
}

static int read_bbox(const struct reading *r, const json_t *box, const char *place, double v[4])
{
    const json_t *list = json_object_get(box, "bbox");
    if (json_array_size(list) != 4)
        return error_set(r->e, ERROR_BAD_SHAPE, "%s.bbox: expected 4 numbers, found %zu", place,
                         json_array_size(list));
    for (size_t i = 0; i < 4; i++) {
        const json_t *item = json_array_get(list, i);
        struct place p = describe_place("%s.bbox[%zu]", place, i);
        if (describe_check_type(item, p.text, IS_NUMBER, "a number", r->e))
            return -1;
        v[i] = json_number_value(item);
        if (!(fabs(v[i]) < 1e9) || (i >= 2 && v[i] <= 0))
            return error_set(r->e, ERROR_BAD_VALUE, "%s: expected %s, found %g", p.text,
                             i >= 2 ? "a size above 0" : "a coordinate", v[i]);
    }
    return 0;
}

/* Of the image that was sent. */
static double image_width(const struct reading *r)
{
    return r->fit ? r->fit->width : (double)r->spec.width;
}
static double image_height(const struct reading *r)
{
    return r->fit ? r->fit->height : (double)r->spec.height;
}

/* Shares of the image to its pixels. Pixels that were sent for shares would be outside of it, and
 * teach the detector that there is nothing. */
static int bbox_from_shares(const struct reading *r, const char *place, double v[4])
{
    const double w = image_width(r), h = image_height(r);
    for (int i = 0; i < 4; i++)
        if (v[i] > 1 + SHARE_ROUNDING)
            return error_set(r->e, ERROR_BAD_VALUE,
                             "%s.bbox[%d]: expected a share of the image, at most 1, found %g; "
                             "pixels have the format \"xywh\"",
                             place, i, v[i]);
    v[0] = (v[0] - v[2] / 2) * w;
    v[1] = (v[1] - v[3] / 2) * h;
    v[2] *= w;
    v[3] *= h;
    return 0;
}

/* Boxes that are partly outside are cut; of one that is wholly outside nothing would be left. */
static int check_inside(const struct reading *r, const char *place, const double v[4])
{
    const double w = image_width(r), h = image_height(r);
    if (v[0] < w && v[1] < h && v[0] + v[2] > 0 && v[1] + v[3] > 0)
        return 0;
    return error_set(r->e, ERROR_BAD_VALUE,
                     "%s.bbox: the box, %g to %g in x and %g to %g in y, is outside of its image, "
                     "which has %g x %g pixels",
                     place, v[0], v[0] + v[2], v[1], v[1] + v[3], w, h);
}

static int read_box(const struct reading *r, const json_t *given, const char *place,
                    struct sent_box *box)
{
    const json_t *crowd = json_object_get(given, "iscrowd");
    const json_t *area = describe_get(given, "area");
    if (describe_check_fields(given, place, box_fields, false, r->e) ||
        read_category(r, given, place, &box->category) || read_bbox(r, given, place, box->bbox))
        return -1;
    if ((r->shares && bbox_from_shares(r, place, box->bbox)) || check_inside(r, place, box->bbox))
        return -1;
    box->crowd = json_is_true(crowd) || json_integer_value(crowd);
    box->area = area ? json_number_value(area) : box->bbox[2] * box->bbox[3];
    if (box->area >= 0 && box->area < 1e18)
        return 0;
    return error_set(r->e, ERROR_BAD_VALUE, "%s.area: expected at least 0, found %g", place,
                     box->area);
}

static int read_format(struct reading *r, const struct tensor *t)
{
    const char *format = json_string_value(json_object_get(t->object, "format"));
    r->shares = format && strcmp(format, "cxcywhn") == 0;
    if (!format || r->shares || strcmp(format, "xywh") == 0)
        return 0;
    return error_set(r->e, ERROR_BAD_VALUE,
                     "%s: format must be \"xywh\" or \"cxcywhn\", not '%.40s'", r->what, format);
}

/* Boxes of all images together; checks that each is a list. */
static int count_boxes(const struct reading *r, const json_t *images, size_t *count_r)
{
    *count_r = 0;
    for (size_t i = 0; i < json_array_size(images); i++) {
        struct place p = describe_place("%s[%zu]", r->what, i);
        if (describe_check_type(json_array_get(images, i), p.text, IS_LIST,
                                "the list of an image's boxes", r->e))
            return -1;
        *count_r += json_array_size(json_array_get(images, i));
    }
    return 0;
}

static int read_images(struct request *q, struct reading *r, const json_t *images,
                       struct sent_boxes *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        const json_t *list = json_array_get(images, (size_t)i);
        r->fit = q->fits ? &q->fits[i] : NULL;
        s->first[i + 1] = s->first[i];
        for (size_t k = 0; k < json_array_size(list); k++) {
            struct place p = describe_place("%s[%lld][%zu]", r->what, (long long)i, k);
            if (read_box(r, json_array_get(list, k), p.text, &s->at[s->first[i + 1]++]))
                return -1;
        }
    }
    return 0;
}

int boxes_read_sent(struct request *q, const struct network *net, const struct node *target,
                    const struct tensor *t, struct sent_boxes *s, struct error *e)
{
    struct tensor_text text;
    struct reading r = {.what = tensor_what(t, &text), .e = e};
    size_t count;
    *s = (struct sent_boxes){.n = (int64_t)json_array_size(t->boxes)};
    if (!boxes_loss(net, target, &r.spec))
        return error_set(e, ERROR_UNKNOWN_FIELD,
                         "%s: 'boxes' are for the target of a detector's loss; send data", r.what);
    if (!s->n)
        return error_set(e, ERROR_EMPTY_BATCH, "%s: 'boxes' has no image", r.what);
    if (q->fits && s->n != q->n_images)
        return error_set(e, ERROR_BAD_SHAPE, "%s: 'boxes' has %lld images, the inputs %lld", r.what,
                         (long long)s->n, (long long)q->n_images);
    if (read_format(&r, t) || count_boxes(&r, t->boxes, &count))
        return -1;
    s->spec = r.spec;
    s->first = arena_array(q->arena, (size_t)s->n + 1, sizeof *s->first);
    s->at = arena_array(q->arena, count + 1, sizeof *s->at);
    if (!s->first || !s->at)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", r.what);
    r.labels = labels_of(request_model(q));
    const int failed = read_images(q, &r, t->boxes, s);
    json_decref(r.labels);
    return failed;
}

/* ---- targets of training --------------------------------------------------------------------- */

/* Where the network sees the box, cut at its image's edges. False when nothing of it is inside. */
static bool put_row(const struct detection_spec *spec, const struct image_fit *fit,
                    const struct sent_box *b, real *row)
{
    const struct image_fit same = {1, 1, 0, 0, 0, 0}, *f = fit ? fit : &same;
    const double w = (double)spec->width, h = (double)spec->height;
    const double x = b->bbox[0] * f->sx + f->dx, y = b->bbox[1] * f->sy + f->dy;
    const double x1 = fmax(x, 0), x2 = fmin(x + b->bbox[2] * f->sx, w);
    const double y1 = fmax(y, 0), y2 = fmin(y + b->bbox[3] * f->sy, h);
    row[0] = (real)b->category;
    row[1] = (real)((x1 + x2) / 2 / w);
    row[2] = (real)((y1 + y2) / 2 / h);
    row[3] = (real)((x2 - x1) / w);
    row[4] = (real)((y2 - y1) / h);
    return x2 > x1 && y2 > y1 && row[3] > 0 && row[4] > 0;
}

/* The rows of image i, padding after them. */
static int put_rows(const struct request *q, const struct sent_boxes *s, int64_t i, real *rows,
                    int64_t max_boxes, struct error *e)
{
    const struct image_fit *fit = q->fits ? &q->fits[i] : NULL;
    int64_t n = 0;
    for (int64_t k = s->first[i]; k < s->first[i + 1]; k++) {
        if (s->at[k].crowd)
            continue;
        if (n == max_boxes)
            return error_set(e, ERROR_BAD_VALUE,
                             "image %lld has more than the %lld boxes that the target has room "
                             "for; the description's \"targets\" say its shape",
                             (long long)i, (long long)max_boxes);
        n += put_row(&s->spec, fit, &s->at[k], rows + n * ROW);
    }
    for (; n < max_boxes; n++) {
        memset(rows + n * ROW, 0, ROW * sizeof *rows);
        rows[n * ROW] = -1;
    }
    return 0;
}

int boxes_read(struct request *q, const struct network *net, const struct node *target,
               const struct tensor *t, const void **rows_r, int64_t *n_r, struct error *e)
{
    const int64_t max_boxes = node_shape(target)->dim[1];
    struct tensor_text text;
    struct sent_boxes s;
    if (boxes_read_sent(q, net, target, t, &s, e))
        return -1;
    real *rows = arena_array(q->arena, (size_t)s.n, (size_t)max_boxes * ROW * sizeof *rows);
    if (!rows)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", tensor_what(t, &text));
    for (int64_t i = 0; i < s.n; i++)
        if (put_rows(q, &s, i, rows + i * max_boxes * ROW, max_boxes, e))
            return error_prefix(e, "%s", tensor_what(t, &text));
    *rows_r = rows;
    *n_r = s.n;
    return 0;
}
