/* coco_read.c: reading COCO's JSON. Every sentence names the entry: its list, its place in it, and
 * its id where it has one. */
#include "coco_read.h"

#include "describe_fields.h"

#include <math.h>
#include <stdlib.h>

static const double LIMIT = 1e9; /* of coordinates: products of four stay finite in float32 */

/* An entry of a list. */
struct entry {
    const char *list; /* "ground_truth.images" */
    size_t at;
    const json_t *object;
    struct error *e;
};

/* The sentence about one field; `value` NULL: it is not there. */
static int refuse(const struct entry *v, const char *field, const char *expected,
                  const json_t *value)
{
    struct place found;
    const json_t *id = json_object_get(v->object, "id");
    struct place entry = describe_place("%s[%zu]", v->list, v->at);
    if (json_is_integer(id))
        entry =
            describe_place("%s[%zu] (id %lld)", v->list, v->at, (long long)json_integer_value(id));
    if (!value)
        return error_set(v->e, ERROR_BAD_VALUE, "%s: the field '%s' is missing, expected %s",
                         entry.text, field, expected);
    return error_set(v->e, ERROR_BAD_VALUE, "%s: %s: expected %s, found %s", entry.text, field,
                     expected, describe_found(value, &found));
}

static int read_int(const struct entry *v, const char *field, int64_t *r)
{
    const json_t *value = json_object_get(v->object, field);
    if (!json_is_integer(value))
        return refuse(v, field, "a whole number", value);
    *r = json_integer_value(value);
    return 0;
}

/* A finite number of at most `max`, not below `min`. */
static int read_number(const struct entry *v, const char *field, const json_t *value, double min,
                       double max, const char *expected, double *r)
{
    if (!json_is_number(value))
        return refuse(v, field, expected, value);
    *r = json_number_value(value);
    return *r >= min && *r <= max ? 0 : refuse(v, field, expected, value);
}

static int read_box(const struct entry *v, double box[4])
{
    static const struct {
        const char *field, *expected;
        double min;
    } rows[] = {{"bbox[0]", "a number of at most 1e9 (x)", -1e9},
                {"bbox[1]", "a number of at most 1e9 (y)", -1e9},
                {"bbox[2]", "a width from 0 to 1e9", 0},
                {"bbox[3]", "a height from 0 to 1e9", 0}};
    const json_t *list = json_object_get(v->object, "bbox");
    if (!json_is_array(list) || json_array_size(list) != 4)
        return refuse(v, "bbox", "a list of four numbers: x, y, width, height", list);
    for (size_t i = 0; i < 4; i++)
        if (read_number(v, rows[i].field, json_array_get(list, i), rows[i].min, LIMIT,
                        rows[i].expected, &box[i]))
            return -1;
    return 0;
}

/* 0, 1, true or false; nothing is 0. */
static int read_crowd(const struct entry *v, bool *r)
{
    const json_t *value = json_object_get(v->object, "iscrowd");
    json_int_t i = json_is_integer(value) ? json_integer_value(value) : -1;
    *r = json_is_true(value) || i == 1;
    if (!value || json_is_boolean(value) || i == 0 || i == 1)
        return 0;
    return refuse(v, "iscrowd", "0 or 1", value);
}

/* ---- ids ----------------------------------------------------------------------------------------
 */

struct id {
    int64_t id;
    size_t at; /* in its list */
};
struct ids {
    struct id *v; /* [n], by rising id */
    size_t n;
};

static int compare_ids(const void *a, const void *b)
{
    const struct id *s = a, *t = b;
    int order = (s->id > t->id) - (s->id < t->id);
    return order ? order : (s->at > t->at) - (s->at < t->at);
}

static int compare_id(const void *key, const void *row)
{
    int64_t id = *(const int64_t *)key, other = ((const struct id *)row)->id;
    return (id > other) - (id < other);
}

static int read_entry(struct entry *v, const json_t *list, size_t at)
{
    struct place found;
    v->at = at;
    v->object = json_array_get(list, at);
    if (json_is_object(v->object))
        return 0;
    return error_set(v->e, ERROR_BAD_VALUE, "%s[%zu]: expected an object, found %s", v->list, at,
                     describe_found(v->object, &found));
}

/* The ids of a list of entries, which must differ. */
static int read_ids(const char *name, const json_t *list, struct arena *a, struct ids *ids,
                    struct error *e)
{
    struct entry v = {.list = name, .e = e};
    ids->n = json_array_size(list);
    ids->v = arena_array(a, ids->n + 1, sizeof *ids->v);
    if (!ids->v)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %s", name);
    for (size_t i = 0; i < ids->n; i++) {
        ids->v[i].at = i;
        if (read_entry(&v, list, i) || read_int(&v, "id", &ids->v[i].id))
            return -1;
    }
    qsort(ids->v, ids->n, sizeof *ids->v, compare_ids);
    for (size_t i = 1; i < ids->n; i++)
        if (ids->v[i].id == ids->v[i - 1].id)
            return error_set(e, ERROR_BAD_VALUE, "%s[%zu]: id: %lld is the id of %s[%zu] already",
                             name, ids->v[i].at, (long long)ids->v[i].id, name, ids->v[i - 1].at);
    return 0;
}

/* The place of the id that the field holds. */
static int find_id(const struct entry *v, const char *field, const struct ids *ids,
                   const char *expected, int32_t *place_r)
{
    int64_t id = 0;
    if (read_int(v, field, &id))
        return -1;
    const struct id *found = bsearch(&id, ids->v, ids->n, sizeof *ids->v, compare_id);
    if (!found)
        return refuse(v, field, expected, json_object_get(v->object, field));
    *place_r = (int32_t)(found - ids->v);
    return 0;
}

/* ---- the set ------------------------------------------------------------------------------------
 */

struct reader {
    struct ids images, categories;
    struct arena *arena;
    struct coco_set *set;
    struct error *e;
};

static int read_place(const struct reader *r, const struct entry *v, int32_t *image,
                      int32_t *category)
{
    if (find_id(v, "image_id", &r->images, "the id of an image in ground_truth.images", image))
        return -1;
    return find_id(v, "category_id", &r->categories,
                   "the id of a category in ground_truth.categories", category);
}

static int read_truth(const struct reader *r, const struct entry *v, struct coco_truth *t)
{
    const json_t *area = json_object_get(v->object, "area");
    if (read_place(r, v, &t->image, &t->category) || read_box(v, t->box) ||
        read_number(v, "area", area, 0, LIMIT * LIMIT, "a number from 0 to 1e18", &t->area))
        return -1;
    return read_crowd(v, &t->crowd);
}

static int read_detection(const struct reader *r, const struct entry *v, struct coco_detection *d)
{
    const json_t *score = json_object_get(v->object, "score");
    if (read_place(r, v, &d->image, &d->category) || read_box(v, d->box))
        return -1;
    return read_number(v, "score", score, -HUGE_VAL, HUGE_VAL, "a finite number", &d->score);
}

static int read_truths(struct reader *r, const json_t *list)
{
    struct entry v = {.list = "ground_truth.annotations", .e = r->e};
    struct ids ids;
    size_t n = json_array_size(list);
    struct coco_truth *truths = arena_array(r->arena, n + 1, sizeof *truths);
    if (!truths)
        return error_set(r->e, ERROR_OUT_OF_MEMORY, "out of memory for %s", v.list);
    if (read_ids(v.list, list, r->arena, &ids, r->e))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (read_entry(&v, list, i) || read_truth(r, &v, &truths[i]))
            return -1;
    r->set->truths = truths;
    r->set->n_truths = (int64_t)n;
    return 0;
}

static int read_detections(struct reader *r, const json_t *list)
{
    struct entry v = {.list = "detections", .e = r->e};
    size_t n = json_array_size(list);
    struct coco_detection *detections = arena_array(r->arena, n + 1, sizeof *detections);
    if (!detections)
        return error_set(r->e, ERROR_OUT_OF_MEMORY, "out of memory for %s", v.list);
    for (size_t i = 0; i < n; i++)
        if (read_entry(&v, list, i) || read_detection(r, &v, &detections[i]))
            return -1;
    r->set->detections = detections;
    r->set->n_detections = (int64_t)n;
    return 0;
}

static int keep_category_ids(struct reader *r)
{
    const struct ids *ids = &r->categories;
    int64_t *copy = arena_array(r->arena, ids->n + 1, sizeof *copy);
    if (!copy)
        return error_set(r->e, ERROR_OUT_OF_MEMORY, "out of memory for ground_truth.categories");
    if (ids->n > COCO_MAX_CATEGORIES)
        return error_set(r->e, ERROR_TOO_LARGE,
                         "ground_truth.categories: expected at most %d, found %zu",
                         COCO_MAX_CATEGORIES, ids->n);
    for (size_t i = 0; i < ids->n; i++)
        copy[i] = ids->v[i].id;
    r->set->category_ids = copy;
    r->set->n_categories = (int64_t)ids->n;
    r->set->n_images = (int64_t)r->images.n;
    return 0;
}

/* A list of ground_truth, which must be there. */
static int get_list(const json_t *ground_truth, const char *name, const json_t **list_r,
                    struct error *e)
{
    struct place found;
    const json_t *list = json_object_get(ground_truth, name);
    *list_r = list;
    if (json_is_array(list))
        return 0;
    if (!list)
        return error_set(e, ERROR_BAD_VALUE,
                         "ground_truth: the field '%s' is missing, expected a "
                         "list of objects",
                         name);
    return error_set(e, ERROR_BAD_VALUE, "ground_truth.%s: expected a list of objects, found %s",
                     name, describe_found(list, &found));
}

int coco_read(const json_t *ground_truth, const json_t *detections, struct arena *a,
              struct coco_set *set_r, struct error *e)
{
    const json_t *images, *categories, *annotations;
    struct reader r = {.arena = a, .set = set_r, .e = e};
    *set_r = (struct coco_set){0};
    if (get_list(ground_truth, "images", &images, e) ||
        get_list(ground_truth, "categories", &categories, e) ||
        get_list(ground_truth, "annotations", &annotations, e) ||
        read_ids("ground_truth.images", images, a, &r.images, e) ||
        read_ids("ground_truth.categories", categories, a, &r.categories, e) ||
        keep_category_ids(&r) || read_truths(&r, annotations))
        return -1;
    return read_detections(&r, detections);
}
