/* api_images.c: images of a request as an input of its model. */
#include "api_images.h"

#include "preprocess.h"

#include <string.h>

static struct image_limits limits(const struct request *q)
{
    struct models *ms = request_models(q);
    return (struct image_limits){q->server->config->max_image_pixels, &ms->budget};
}

/* The description that a model was created with says it; that part never changes. */
static bool read_preprocess(const struct request *q, const struct network *net,
                            struct preprocess *p_r)
{
    return q->model && preprocess_read(request_model(q)->given, net, p_r);
}

int api_images_input(struct request *q, const struct network *net)
{
    struct preprocess p;
    return read_preprocess(q, net, &p) ? p.input : -1;
}

/* An input that no 'preprocess' can be made for. */
static int refuse_input(const struct node *input, const struct tensor *t, struct error *e)
{
    struct tensor_text text;
    struct shape_text shape;
    const bool whole = api_wire_dtype(input) == DTYPE_INT64;
    return error_set(e, ERROR_BAD_TYPE,
                     "%s: strings and images cannot become the input '%s'; expected %s of shape %s",
                     tensor_what(t, &text), node_name(input),
                     whole ? "INT64 (whole numbers, such as those of tokens)" : "numbers",
                     shape_print(node_shape(input), &shape));
}

static int check_input(struct request *q, const struct network *net, int at, const struct tensor *t,
                       struct preprocess *p_r, struct error *e)
{
    struct tensor_text text;
    const struct node *input = net->inputs[at];
    const bool there = read_preprocess(q, net, p_r);
    if (!there && (api_wire_dtype(input) == DTYPE_INT64 || node_shape(input)->rank != 4))
        return refuse_input(input, t, e);
    if (!there)
        return error_set(e, ERROR_CONFLICT,
                         "%s: the model's description has no 'preprocess', which says how an image "
                         "becomes its input '%s'; send numbers, or create it with "
                         "\"preprocess\":{}",
                         tensor_what(t, &text), node_name(net->inputs[at]));
    if (p_r->input != at)
        return error_set(e, ERROR_CONFLICT,
                         "%s: the description's 'preprocess' is for the input '%s'; send numbers",
                         tensor_what(t, &text), node_name(net->inputs[p_r->input]));
    return 0;
}

/* Planes and fits of n images, counted before they are there. */
static int reserve(struct request *q, int64_t n, size_t sample, real **data_r,
                   struct image_fit **fits_r, struct error *e)
{
    size_t each = sample * sizeof(real) + sizeof **fits_r, bytes;
    if (__builtin_mul_overflow((size_t)n, each, &bytes))
        return error_set(e, ERROR_TOO_LARGE, "%lld images are too many", (long long)n);
    if (budget_take(&request_models(q)->budget, bytes, "the batch of images", e))
        return -1;
    q->reserved += bytes;
    *data_r = arena_array(q->arena, (size_t)n, sample * sizeof **data_r);
    *fits_r = arena_array(q->arena, (size_t)n, sizeof **fits_r);
    return *data_r && *fits_r
               ? 0
               : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for %lld images", (long long)n);
}

int api_images_read(struct request *q, const struct network *net, int at, const struct tensor *t,
                    const void **data_r, int64_t *n_r, struct error *e)
{
    const struct image_source *sources;
    struct image_work w = {
        .pool = q->server->pool, .limits = limits(q), .gone = request_gone, .gone_arg = q};
    struct tensor_text text;
    struct image_fit *fits;
    struct preprocess p;
    real *data;
    int64_t sample;
    if (check_input(q, net, at, t, &p, e) || tensor_sources(q, t, &sources, n_r, e))
        return -1;
    shape_count(node_shape(net->inputs[at]), 1, &sample);
    if (reserve(q, *n_r, (size_t)sample, &data, &fits, e))
        return -1;
    if (preprocess_decode(&p, &w, sources, *n_r, data, fits, e))
        return error_prefix(e, "%s", tensor_what(t, &text));
    *data_r = data;
    q->images = sources;
    q->n_images = *n_r;
    q->fits = fits;
    return 0;
}

void api_batch_normalise(struct request *q, const struct network *net, const struct batch *b)
{
    struct preprocess p;
    if (q->fits && read_preprocess(q, net, &p)) /* the data lie in the request's own arena */
        preprocess_normalise(&p, q->server->pool, (real *)(uintptr_t)b->data[p.input], b->n);
}

int api_images_decode(struct request *q, int64_t i, struct image *im, struct error *e)
{
    struct image_limits l = limits(q);
    if (image_source_decode(&q->images[i], &l, im, e))
        return -1;
    if (!image_to_rgb(im, e))
        return 0;
    image_free(im);
    return -1;
}
