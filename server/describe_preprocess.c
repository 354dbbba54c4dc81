/* describe_preprocess.c: how encoded images become an input of the network: the field `preprocess`
 * of a description. A preset gives values that the other fields may replace; the expanded
 * description has them all and no preset. preprocess.c reads that. */
#include "describe_parts.h"

#include <string.h>

enum { SIDE_MAX = 4096, CHANNELS_MAX = 3 };

static const struct field preprocess_fields[] = {
    {"input", IS_STRING, "the name of an input", false},
    {"preset", IS_STRING, "\"imagenet\", \"yolo\" or \"none\"", false},
    {"size", IS_LIST, "a list of height and width", false},
    {"fit", IS_STRING, "\"stretch\", \"crop\" or \"letterbox\"", false},
    {"crop_pct", IS_NUMBER, "a number from 0.25 to 1", false},
    {"fill", IS_INT, "an integer from 0 to 255", false},
    {"color", IS_STRING, "\"rgb\", \"bgr\" or \"gray\"", false},
    {"scale", IS_NUMBER, "a number above 0", false},
    {"mean", IS_NUMBER | IS_LIST, "a number or a list of one for each channel", false},
    {"std", IS_NUMBER | IS_LIST, "a number or a list of one for each channel", false},
    {0},
};

struct preset {
    const char *name, *fit;
    double crop_pct;
    int channels; /* that it wants; 0: any */
    double mean[CHANNELS_MAX], std[CHANNELS_MAX];
};
static const struct preset presets[] = {
    {"none", "stretch", 1, 0, {0, 0, 0}, {1, 1, 1}},
    {"imagenet", "crop", 0.875, 3, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
    {"yolo", "letterbox", 1, 3, {0, 0, 0}, {1, 1, 1}},
};
enum { PRESETS = sizeof presets / sizeof *presets, FILL = 114 };

struct reading {
    struct describe *d;
    const json_t *given;
    json_t *out;
    const struct preset *preset;
    int64_t channels, height, width; /* of the input */
};

/* ---- choices --------------------------------------------------------------------------------- */

static int bad_choice(struct reading *r, const char *field, const char *found, const char *expected)
{
    return error_set(r->d->e, ERROR_BAD_VALUE, "preprocess.%s: expected %s, found '%.40s'", field,
                     expected, found);
}

static int read_preset(struct reading *r)
{
    const char *name = describe_get_string(r->given, "preset");
    r->preset = &presets[0];
    if (!name)
        return 0;
    for (int i = 0; i < PRESETS; i++)
        if (!strcmp(presets[i].name, name)) {
            r->preset = &presets[i];
            return 0;
        }
    return bad_choice(r, "preset", name, "imagenet, yolo or none");
}

static int read_fit(struct reading *r)
{
    static const char *const fits[] = {"stretch", "crop", "letterbox"};
    const char *fit = describe_get_string(r->given, "fit");
    if (!fit)
        fit = r->preset->fit;
    for (int i = 0; i < 3; i++)
        if (!strcmp(fits[i], fit))
            return describe_put(r->out, "fit", json_string(fit), r->d->e);
    return bad_choice(r, "fit", fit, "stretch, crop or letterbox");
}

static int read_color(struct reading *r)
{
    static const struct {
        const char *name;
        int channels;
    } colors[] = {{"rgb", 3}, {"bgr", 3}, {"gray", 1}};
    const char *color = describe_get_string(r->given, "color");
    if (!color)
        color = r->channels == 1 ? "gray" : "rgb";
    for (int i = 0; i < 3; i++) {
        if (strcmp(colors[i].name, color) != 0)
            continue;
        if (colors[i].channels == r->channels)
            return describe_put(r->out, "color", json_string(color), r->d->e);
        return error_set(r->d->e, ERROR_BAD_SHAPE,
                         "preprocess.color: %s has %d channels, the input has %lld", color,
                         colors[i].channels, (long long)r->channels);
    }
    return bad_choice(r, "color", color, "rgb, bgr or gray");
}

/* ---- the input ------------------------------------------------------------------------------- */

static int find_input(struct reading *r, int *place_r)
{
    struct network *net = r->d->net;
    const char *name = describe_get_string(r->given, "input");
    struct nearest near = {.given = name};
    *place_r = 0;
    if (!name && net->n_inputs == 1)
        return 0;
    if (!name)
        return error_set(r->d->e, ERROR_MISSING_FIELD,
                         "preprocess: the field 'input' is missing: the model has %d inputs",
                         net->n_inputs);
    for (int i = 0; i < net->n_inputs; i++) {
        *place_r = i;
        if (!strcmp(node_name(net->inputs[i]), name))
            return 0;
        nearest_offer(&near, node_name(net->inputs[i]));
    }
    return error_set(r->d->e, ERROR_BAD_GRAPH, "preprocess.input: no input is called '%.60s'%s%s%s",
                     name, near.best ? "; did you mean '" : "", near.best ? near.best : "",
                     near.best ? "'?" : "");
}

static int read_input(struct reading *r)
{
    struct shape_text text;
    int place;
    if (find_input(r, &place))
        return -1;
    const struct node *n = r->d->net->inputs[place];
    const struct shape *s = node_shape(n);
    if (node_dtype(n) != DTYPE_REAL || s->rank != 4 || (s->dim[1] != 1 && s->dim[1] != 3) ||
        s->dim[2] > SIDE_MAX || s->dim[3] > SIDE_MAX)
        return error_set(r->d->e, ERROR_BAD_SHAPE,
                         "preprocess: images need an FP32 input of shape [-1,3,H,W] or [-1,1,H,W] "
                         "with sides up to %d, '%s' has %s",
                         SIDE_MAX, node_name(n), shape_print(s, &text));
    r->channels = s->dim[1];
    r->height = s->dim[2];
    r->width = s->dim[3];
    if (r->preset->channels && r->preset->channels != r->channels)
        return error_set(r->d->e, ERROR_BAD_SHAPE,
                         "preprocess.preset: '%s' is for %d channels, the input has %lld",
                         r->preset->name, r->preset->channels, (long long)r->channels);
    return describe_put(r->out, "input", json_string(node_name(n)), r->d->e);
}

static int read_size(struct reading *r)
{
    const json_t *size = describe_get(r->given, "size");
    json_int_t height = json_integer_value(json_array_get(size, 0));
    json_int_t width = json_integer_value(json_array_get(size, 1));
    if (size && (json_array_size(size) != 2 || height != r->height || width != r->width))
        return error_set(r->d->e, ERROR_BAD_SHAPE,
                         "preprocess.size: expected height and width of the input, [%lld,%lld]",
                         (long long)r->height, (long long)r->width);
    return describe_put(r->out, "size",
                        json_pack("[II]", (json_int_t)r->height, (json_int_t)r->width), r->d->e);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int read_number(struct reading *r, const char *field, double fallback, double min,
                       double max)
{
    const json_t *given = describe_get(r->given, field);
    double v = given ? json_number_value(given) : fallback;
    if (!(v >= min && v <= max))
        return error_set(r->d->e, ERROR_BAD_VALUE, "preprocess.%s: expected %g to %g, found %g",
                         field, min, max, v);
    return describe_put(r->out, field, json_real(v), r->d->e);
}

static int read_fill(struct reading *r)
{
    const json_t *given = describe_get(r->given, "fill");
    json_int_t fill = given ? json_integer_value(given) : FILL;
    if (fill < 0 || fill > 255)
        return error_set(r->d->e, ERROR_BAD_VALUE, "preprocess.fill: expected 0 to 255, found %lld",
                         (long long)fill);
    return describe_put(r->out, "fill", json_integer(fill), r->d->e);
}

/* One number for each channel; a single one stands for all. */
static int read_list(struct reading *r, const char *field, const double *fallback, double min)
{
    const json_t *given = describe_get(r->given, field);
    json_t *list = json_array();
    size_t n = json_array_size(given);
    int failed = describe_put(r->out, field, list, r->d->e);
    if (!failed && json_is_array(given) && n != 1 && n != (size_t)r->channels)
        return error_set(r->d->e, ERROR_BAD_SHAPE,
                         "preprocess.%s: expected one number for each of %lld channels, found %zu",
                         field, (long long)r->channels, n);
    for (int c = 0; c < r->channels && !failed; c++) {
        const json_t *item =
            json_is_array(given) ? json_array_get(given, n == 1 ? 0 : (size_t)c) : given;
        struct place p = describe_place("preprocess.%s[%d]", field, c);
        if (item && describe_check_type(item, p.text, IS_NUMBER, "a number", r->d->e))
            return -1;
        double v = item ? json_number_value(item) : fallback[c];
        if (!(v >= min && v <= 1e9))
            return error_set(r->d->e, ERROR_BAD_VALUE, "%s: expected %g to 1e9, found %g", p.text,
                             min, v);
        failed = describe_append(list, json_real(v), r->d->e);
    }
    return failed;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int read_all(struct reading *r)
{
    if (read_preset(r) || read_input(r) || read_size(r) || read_fit(r) || read_color(r) ||
        read_number(r, "crop_pct", r->preset->crop_pct, 0.25, 1) || read_fill(r) ||
        read_number(r, "scale", 1.0 / 255, 1e-9, 1e9))
        return -1;
    return read_list(r, "mean", r->preset->mean, -1e9) || read_list(r, "std", r->preset->std, 1e-9)
               ? -1
               : 0;
}

int describe_preprocess(struct describe *d)
{
    const json_t *given = describe_get(d->given, "preprocess");
    if (!given)
        return 0;
    json_t *named = json_is_string(given) ? json_pack("{s:O}", "preset", given) : NULL;
    if (json_is_string(given) && !named)
        return describe_no_memory(d);
    struct reading r = {.d = d, .given = named ? named : given, .out = json_object()};
    int failed = describe_put(d->expanded, "preprocess", r.out, d->e) ||
                 describe_check_fields(r.given, "preprocess", preprocess_fields, false, d->e) ||
                 read_all(&r);
    json_decref(named);
    return failed ? -1 : 0;
}
