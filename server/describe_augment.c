/* describe_augment.c: the field `augment`: what training batches go through. A list of rows of the
 * engine's table, {"op":"hflip","p":0.5} or just "hflip", in the order in which they are applied;
 * or an object with Ultralytics' names, {"hsv_h":0.015,"fliplr":0.5,"mosaic":1.0}, which stands for
 * a list in Ultralytics' order. The expanded description has the list. */
#include "describe.h"
#include "describe_parts.h"

#include <string.h>

static const struct field op_fields[] = {{"op", IS_STRING, "a string", true}, {0}};

static const struct field names[] = {
    {"mosaic", IS_NUMBER, "a number from 0 to 1", false},
    {"degrees", IS_NUMBER, "a number from 0 to 180", false},
    {"translate", IS_NUMBER, "a number from 0 to 1", false},
    {"scale", IS_NUMBER, "a number from 0 to 0.99", false},
    {"shear", IS_NUMBER, "a number from 0 to 80", false},
    {"perspective", IS_NUMBER, "a number from 0 to 0.001", false},
    {"mixup", IS_NUMBER, "a number from 0 to 1", false},
    {"cutmix", IS_NUMBER, "a number from 0 to 1", false},
    {"hsv_h", IS_NUMBER, "a number from 0 to 1", false},
    {"hsv_s", IS_NUMBER, "a number from 0 to 1", false},
    {"hsv_v", IS_NUMBER, "a number from 0 to 1", false},
    {"flipud", IS_NUMBER, "a number from 0 to 1", false},
    {"fliplr", IS_NUMBER, "a number from 0 to 1", false},
    {"bgr", IS_NUMBER, "a number from 0 to 1", false},
    {"auto_augment", IS_STRING, "\"randaugment\"", false},
    {"erasing", IS_NUMBER, "a number from 0 to 1", false},
    {0},
};

/* The rows that those names stand for, in order; consecutive names with one op are one row. */
static const struct {
    const char *name, *op, *attr;
} meanings[] = {
    {"mosaic", "mosaic", "p"},
    {"degrees", "affine", "degrees"},
    {"translate", "affine", "translate"},
    {"scale", "affine", "scale"},
    {"shear", "affine", "shear"},
    {"perspective", "affine", "perspective"},
    {"mixup", "mixup", "p"},
    {"cutmix", "cutmix", "p"},
    {"hsv_h", "hsv", "hsv_h"},
    {"hsv_s", "hsv", "hsv_s"},
    {"hsv_v", "hsv", "hsv_v"},
    {"flipud", "vflip", "p"},
    {"fliplr", "hflip", "p"},
    {"bgr", "bgr", "p"},
    {"erasing", "erasing", "p"},
};
enum { MEANINGS = sizeof meanings / sizeof meanings[0] };

/* ---- rows ------------------------------------------------------------------------------------ */

static int row_add(struct describe *d, const json_t *object, const char *place)
{
    struct attr *attrs;
    int n;
    if (describe_check_fields(object, place, op_fields, true, d->e) ||
        describe_attrs(object, place, op_fields, d->scratch, &attrs, &n, d->e))
        return -1;
    if (augment_add(d->net->augment, describe_get_string(object, "op"), attrs, n, d->e))
        return error_prefix(d->e, "%s", place);
    return describe_append(describe_list(d, "augment"), json_deep_copy(object), d->e);
}

static int list_read(struct describe *d, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const struct place p = describe_place("augment[%zu]", i);
        if (describe_check_type(item, p.text, IS_STRING | IS_OBJECT, "a string or an object", d->e))
            return -1;
        json_t *object =
            json_is_string(item) ? json_pack("{s:O}", "op", item) : json_incref((json_t *)item);
        const int failed = object ? row_add(d, object, p.text) : describe_no_memory(d);
        json_decref(object);
        if (failed)
            return -1;
    }
    return 0;
}

/* ---- Ultralytics' names ---------------------------------------------------------------------- */

/* The row of the names from `first` on that have its op, and what they are given as; *end_r is
 * behind the last. NULL: all are 0 or not given. A new reference. */
static json_t *row_of(struct describe *d, const json_t *given, int first, int *end_r)
{
    const char *op = meanings[first].op;
    json_t *row = json_pack("{s:s}", "op", op);
    bool any = false;
    int failed = !row;
    int k = first;
    for (; k < MEANINGS && strcmp(meanings[k].op, op) == 0; k++) {
        const json_t *value = describe_get(given, meanings[k].name);
        any |= json_number_value(value) != 0;
        failed = failed || describe_put(row, meanings[k].attr,
                                        value ? json_deep_copy(value) : json_integer(0), d->e);
    }
    *end_r = k;
    if (any && !failed)
        return row;
    json_decref(row);
    return NULL;
}

static int rand_read(struct describe *d, const json_t *given)
{
    const char *name = describe_get_string(given, "auto_augment");
    json_t *row = name ? json_pack("{s:s}", "op", name) : NULL;
    if (name && strcmp(name, "randaugment") != 0) {
        json_decref(row);
        return error_set(d->e, ERROR_BAD_VALUE,
                         "augment.auto_augment: expected randaugment, found '%.40s'", name);
    }
    const int failed = row ? row_add(d, row, "augment.auto_augment") : 0;
    json_decref(row);
    return failed;
}

static int object_read(struct describe *d, const json_t *given)
{
    if (describe_check_fields(given, "augment", names, false, d->e))
        return -1;
    for (int k = 0; k < MEANINGS;) {
        const struct place p = describe_place("augment.%s", meanings[k].name);
        /* RandAugment comes before erasing, as in Ultralytics' classifiers. */
        if (strcmp(meanings[k].name, "erasing") == 0 && rand_read(d, given))
            return -1;
        json_t *row = row_of(d, given, k, &k);
        const int failed = row ? row_add(d, row, p.text) : 0;
        json_decref(row);
        if (failed)
            return -1;
    }
    return 0;
}

/* `[]` stays in the expanded description: as a setting, it takes the rows away. */
int describe_augment(struct describe *d)
{
    const json_t *given = describe_get(d->given, "augment");
    if (!given)
        return 0;
    d->net->augment = augment_create(d->e);
    if (!d->net->augment || !describe_list(d, "augment"))
        return -1;
    return json_is_object(given) ? object_read(d, given) : list_read(d, given);
}

/* ---- whether they fit the network ------------------------------------------------------------ */

static bool is_image(const struct node *n)
{
    return node_dtype(n) == DTYPE_REAL && node_shape(n)->rank == 4 && shape_batched(node_shape(n));
}

int network_image_input(const struct network *net)
{
    int found = -1;
    for (int i = 0; i < net->n_inputs; i++)
        if (is_image(net->inputs[i])) {
            if (found >= 0)
                return -1;
            found = i;
        }
    return found;
}

int network_boxes_target(const struct network *net)
{
    struct detection_spec spec;
    for (int i = 0; i < net->n_losses; i++) {
        const struct node *loss = net->losses[i];
        for (int k = 0; node_detection(loss, &spec) && k < net->n_targets; k++)
            if (net->targets[k] == node_input(loss, node_input_count(loss) - 1))
                return k;
    }
    return -1;
}

static int target_check(struct describe *d, int i)
{
    const struct network *net = d->net;
    const struct node *t = net->targets[i];
    struct shape_text text;
    if (augment_mixes(net->augment) && node_dtype(t) == DTYPE_INT64)
        return error_set(d->e, ERROR_BAD_GRAPH,
                         "augment: mixup and cutmix mix targets, which '%s' (INT64) cannot be",
                         node_name(t));
    if (augment_moves(net->augment) && node_shape(t)->rank > 2)
        return error_set(d->e, ERROR_BAD_GRAPH,
                         "augment: the target '%s' %s has positions that would have to move with "
                         "the pixels; only colours can be augmented",
                         node_name(t), shape_print(node_shape(t), &text));
    return 0;
}

/* Probabilities that cross_entropy takes may be given as class indices. */
static void mark_index_targets(struct network *net)
{
    for (int i = 0; i < net->n_losses; i++) {
        const struct node *t = node_input(net->losses[i], 1);
        for (int k = 0; k < net->n_targets; k++)
            if (net->targets[k] == t && node_dtype(t) == DTYPE_REAL && node_shape(t)->rank == 2 &&
                strcmp(node_op(net->losses[i]), "cross_entropy") == 0)
                net->index_targets |= 1u << k;
    }
}

int describe_augment_check(struct describe *d)
{
    struct network *net = d->net;
    const int image = network_image_input(net), boxes = network_boxes_target(net);
    mark_index_targets(net);
    if (!net->augment)
        return 0;
    if (!net->loss || json_array_size(describe_list(d, "augment")) == 0) {
        augment_destroy(&net->augment); /* it was checked, but there is nothing to do */
        return 0;
    }
    if (image < 0)
        return error_set(d->e, ERROR_BAD_GRAPH,
                         "augment: expected one input that is an image, FP32 [N, C, H, W]");
    const int64_t *dim = node_shape(net->inputs[image])->dim;
    if (augment_check(net->augment, dim[1], dim[2], dim[3], boxes >= 0, d->e))
        return error_prefix(d->e, "augment");
    for (int i = 0; i < net->n_targets; i++)
        if (i != boxes && target_check(d, i))
            return -1;
    return 0;
}
