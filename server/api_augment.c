/* api_augment.c: what the model would see of a batch: augmented as its next training forward would
 * do it, or as that of another draw. A sheet of pictures for Accept: image/png, else tensors. */
#include "api_images.h"
#include "describe.h"
#include "image_sheet.h"

static const struct field fields[] = {
    {"id", IS_STRING, "a string", false},
    {"parameters", IS_OBJECT, "an object", false},
    {"inputs", IS_LIST, "a list of tensors", true},
    {"targets", IS_LIST, "a list of tensors", false},
    {0},
};

static const struct field parameters[] = {
    {"draw", IS_INT, "a whole number", false},
    {"binary_data_output", IS_BOOL, "true or false", false},
    {0},
};

struct sheet_labels {
    const json_t *labels;
};

static const char *label_of(void *arg, int64_t class)
{
    const struct sheet_labels *l = arg;
    return json_string_value(json_array_get(l->labels, (size_t) class));
}

static int read_question(struct request *q, const struct snapshot *s, uint64_t *draw_r,
                         struct error *e)
{
    if (!program_network(s->program)->augment)
        return error_set(e, ERROR_CONFLICT, "the model's description has no 'augment'");
    if (api_check_body(q, fields, parameters, e))
        return -1;
    const json_t *draw = api_parameter(q, "draw");
    if (draw && json_integer_value(draw) < 0)
        return error_set(e, ERROR_BAD_VALUE, "parameters.draw must be at least 0, not %lld",
                         (long long)json_integer_value(draw));
    *draw_r = draw ? (uint64_t)json_integer_value(draw) : s->at.draw;
    return 0;
}

static int reply_sheet(struct request *q, const struct snapshot *s, const struct batch *b)
{
    const struct network *net = program_network(s->program);
    const int image = network_image_input(net), boxes = network_boxes_target(net);
    const int64_t *dim = node_shape(net->inputs[image])->dim;
    struct image_limits limits = {q->server->config->max_image_pixels, &request_models(q)->budget};
    struct sheet_labels labels = {json_object_get(s->description, "labels")};
    struct image_sheet sheet = {.n = b->n,
                                .channels = dim[1],
                                .height = dim[2],
                                .width = dim[3],
                                .planes = b->data[image],
                                .label = label_of,
                                .arg = &labels};
    struct image im;
    struct error e;
    if (boxes >= 0 && b->data[net->n_inputs + boxes]) {
        sheet.boxes = b->data[net->n_inputs + boxes];
        sheet.max_boxes = node_shape(net->targets[boxes])->dim[1];
    }
    if (image_sheet_draw(&sheet, &limits, &im, &e))
        return reply_error(q, &e);
    return api_reply_png(q, &im);
}

static void write_leaves(struct tensor_reply *r, const char *field, struct node *const *leaves,
                         int n, const void *const *data, int64_t batch, bool binary)
{
    out_key(&r->json, field);
    out_open_array(&r->json);
    for (int i = 0; i < n; i++) {
        struct tensor_out t = {node_name(leaves[i]), node_dtype(leaves[i]), *node_shape(leaves[i]),
                               data[i], 0};
        if (!data[i])
            continue;
        if (shape_batched(&t.shape))
            t.shape.dim[0] = batch;
        shape_count(&t.shape, 1, &t.count);
        tensor_reply_add(r, &t, binary);
    }
    out_close(&r->json);
}

static int reply_tensors(struct request *q, const struct snapshot *s, const struct batch *b,
                         uint64_t draw)
{
    const struct network *net = program_network(s->program);
    const bool binary = json_is_true(api_parameter(q, "binary_data_output"));
    struct tensor_reply r;
    tensor_reply_begin(&r, q);
    api_write_name(&r.json, q, request_model(q)->name);
    api_write_counters(&r.json, &s->at);
    out_put_uint(&r.json, "draw", draw);
    write_leaves(&r, "inputs", net->inputs, net->n_inputs, b->data, b->n, binary);
    write_leaves(&r, "targets", net->targets, net->n_targets, b->data + net->n_inputs, b->n,
                 binary);
    return tensor_reply_end(&r, 200);
}

static int augment(struct request *q, const struct snapshot *s)
{
    const struct network *net = program_network(s->program);
    const bool targets = describe_get(q->json.root, "targets");
    struct batch b;
    struct error e;
    uint64_t draw;
    if (read_question(q, s, &draw, &e) || api_read_batch_raw(q, net, targets, &b, &e) ||
        api_batch_augment(q, net, draw, &b, &e))
        return reply_error(q, &e);
    if (api_wants_png(q))
        return reply_sheet(q, s, &b);
    api_batch_normalise(q, net, &b);
    return reply_tensors(q, s, &b, draw);
}

int api_augment(struct request *q)
{
    struct snapshot s;
    struct error e;
    if (model_snapshot(request_model(q), &s, &e))
        return reply_error(q, &e);
    const int status = augment(q, &s);
    snapshot_release(&s);
    return status;
}
