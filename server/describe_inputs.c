/* describe_inputs.c: tensors of a description (items of `inputs` and `targets`: name, datatype,
 * shape), and the inputs of the network. */
#include "describe_parts.h"

#include <stdio.h>
#include <string.h>

static const struct field tensor_fields[] = {
    {"name", IS_STRING, "a string", false},
    {"datatype", IS_STRING, "a string", false},
    {"shape", IS_LIST, "a list of integers", false},
    {0},
};

/* Reals are called FP32 in the double build too: it stands in for the float one. */
static const struct {
    const char *name;
    enum dtype dtype;
} datatypes[] = {{"FP32", DTYPE_REAL}, {"INT64", DTYPE_INT64}};

static const char *datatype_name(enum dtype dtype)
{
    return datatypes[dtype].name;
}

static int datatype_read(const char *name, const char *place, enum dtype *dtype_r, struct error *e)
{
    for (size_t i = 0; i < sizeof datatypes / sizeof datatypes[0]; i++)
        if (strcmp(datatypes[i].name, name) == 0) {
            *dtype_r = datatypes[i].dtype;
            return 0;
        }
    return error_set(e, ERROR_BAD_DTYPE, "%s.datatype: expected FP32 or INT64, found '%.40s'",
                     place, name);
}

/* One size; -1 stands for the batch and can only be the first. */
static int dim_read(const json_t *item, const char *place, bool first, int64_t *dim_r,
                    struct error *e)
{
    struct place found;
    if (describe_check_type(item, place, IS_INT, "an integer", e))
        return -1;
    *dim_r = json_integer_value(item);
    if (*dim_r >= 1 || (*dim_r == BATCH && first))
        return 0;
    if (*dim_r == BATCH)
        return error_set(e, ERROR_BAD_SHAPE, "%s: only the first size can be -1 (the batch)",
                         place);
    return error_set(e, ERROR_BAD_SHAPE, "%s: expected an integer of at least 1, found %s", place,
                     describe_found(item, &found));
}

static int shape_read(const json_t *list, const char *place, struct shape *shape_r, struct error *e)
{
    size_t n = json_array_size(list);
    struct shape s = {.rank = 1, .dim = {BATCH}};
    bool batched = json_integer_value(json_array_get(list, 0)) == BATCH;
    if (n + !batched > SHAPE_MAX_RANK)
        return error_set(e, ERROR_BAD_SHAPE,
                         "%s.shape: expected at most %d sizes with the batch, found %zu", place,
                         SHAPE_MAX_RANK, n + !batched);
    for (size_t i = 0; i < n; i++) {
        struct place p = describe_place("%s.shape[%zu]", place, i);
        int64_t dim;
        if (dim_read(json_array_get(list, i), p.text, i == 0, &dim, e))
            return -1;
        if (dim != BATCH)
            s.dim[s.rank++] = dim;
    }
    *shape_r = s;
    return 0;
}

int describe_tensor(struct describe *d, const json_t *item, const char *place, const char *name,
                    struct tensor_spec *spec_r)
{
    struct place p = describe_place("%s.name", place);
    if (describe_check_fields(item, place, tensor_fields, false, d->e))
        return -1;
    const char *datatype = describe_get_string(item, "datatype");
    const json_t *shape = describe_get(item, "shape");
    *spec_r = (struct tensor_spec){.name = describe_get_string(item, "name"),
                                   .has_dtype = datatype != NULL,
                                   .has_shape = shape != NULL};
    if (!spec_r->name && !(spec_r->name = arena_strdup(d->scratch, name)))
        return describe_no_memory(d);
    if (describe_check_name(spec_r->name, p.text, d->e) ||
        (datatype && datatype_read(datatype, place, &spec_r->dtype, d->e)))
        return -1;
    return shape ? shape_read(shape, place, &spec_r->shape, d->e) : 0;
}

int describe_put_tensor(struct describe *d, const char *field, const struct tensor_spec *spec)
{
    json_t *list = describe_list(d, field), *item = json_object(), *shape = json_array();
    int failed = describe_put(item, "name", json_string(spec->name), d->e) ||
                 describe_put(item, "datatype", json_string(datatype_name(spec->dtype)), d->e);
    for (int i = 0; !failed && i < spec->shape.rank; i++)
        failed = describe_append(shape, json_integer(spec->shape.dim[i]), d->e);
    failed |= describe_put(item, "shape", shape, d->e) || describe_append(list, item, d->e);
    return failed ? -1 : 0;
}

static int input_add(struct describe *d, const struct tensor_spec *spec, const char *place)
{
    struct network *net = d->net;
    if (!spec->has_shape)
        return error_set(d->e, ERROR_MISSING_FIELD,
                         "%s: the field 'shape' is missing (a list of integers)", place);
    if (json_object_get(d->names, spec->name))
        return error_set(d->e, ERROR_BAD_NAME, "%s.name: another input is called '%s'", place,
                         spec->name);
    struct node *n = graph_input(net->graph, spec->name, spec->dtype, &spec->shape, d->e);
    if (!n)
        return error_prefix(d->e, "%s", place);
    int i = net->n_inputs++;
    net->inputs[i] = n;
    if (describe_put(d->names, spec->name, json_integer(~i), d->e))
        return -1;
    return describe_put_tensor(d, "inputs", spec);
}

int describe_inputs(struct describe *d)
{
    const json_t *list = describe_get(d->given, "inputs");
    size_t n = json_array_size(list);
    if (describe_check_count(list, "inputs", NETWORK_MAX_IO, d->e))
        return -1;
    for (size_t i = 0; i < n; i++) {
        struct place p = describe_place("inputs[%zu]", i), name = {"input"};
        struct tensor_spec spec;
        if (n > 1)
            name = describe_place("input%zu", i);
        if (describe_tensor(d, json_array_get(list, i), p.text, name.text, &spec) ||
            input_add(d, &spec, p.text))
            return -1;
    }
    return 0;
}
