/* api_predictions.c: answers for people: the classes that were seen by name, and images with the
 * answer drawn on them. */
#include "api_images.h"

#include "ranking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { TOP_K = 5 };

/* ---- classes --------------------------------------------------------------------------------- */

/* Classes of a network that tells them apart; 0: it does not. */
static int64_t class_count(const struct network *net)
{
    const struct shape *s = net->probabilities ? node_shape(net->probabilities) : NULL;
    return s && s->rank == 2 && shape_batched(s) ? s->dim[1] : 0;
}

int api_top_k(struct request *q, const struct network *net, int *k_r, struct error *e)
{
    int64_t classes = class_count(net);
    const json_t *given = api_parameter(q, "top_k");
    json_int_t k = !q->fits ? 0 : api_wants_png(q) ? 1 : TOP_K;
    if (given && !json_is_integer(given))
        return error_set(e, ERROR_BAD_TYPE, "parameters.top_k must be a whole number");
    if (given && (k = json_integer_value(given)) < 0)
        return error_set(e, ERROR_BAD_VALUE, "parameters.top_k must be at least 0, not %lld",
                         (long long)k);
    if (given && k && !classes)
        return error_set(e, ERROR_CONFLICT,
                         "parameters.top_k: the model is no classifier: it has no output "
                         "'probabilities' of shape [-1, classes]");
    *k_r = (int)(k < classes ? k : classes);
    return 0;
}

const char *api_label(const json_t *description, int64_t i)
{
    return json_string_value(json_array_get(json_object_get(description, "labels"), (size_t)i));
}

int api_write_predictions(struct json_out *w, struct request *q, const json_t *description,
                          const real *probabilities, int64_t n, int64_t classes, int k)
{
    struct ranked *best = arena_array(q->arena, (size_t)ranking_room(classes, k), sizeof *best);
    if (!best) {
        w->failed = true;
        return -1;
    }
    out_key(w, "predictions");
    out_open_array(w);
    for (int64_t i = 0; i < n; i++) {
        ranking_best(probabilities + i * classes, classes, k, best);
        out_open_array(w);
        for (int r = 0; r < k; r++) {
            out_open_object(w);
            out_put_string(w, "label", api_label(description, best[r].index));
            out_put_int(w, "index", best[r].index);
            out_key(w, "probability");
            out_float(w, (float)best[r].value);
            out_close(w);
        }
        out_close(w);
    }
    out_close(w);
    return 0;
}

/* ---- drawn answers --------------------------------------------------------------------------- */

bool api_wants_png(const struct request *q)
{
    static const char png[] = "image/png";
    const char *accept = request_header(q, "Accept");
    size_t n = sizeof png - 1;
    return accept && !strncasecmp(accept, png, n) && (!accept[n] || strchr(",; \t", accept[n]));
}

int api_check_drawable(const struct request *q, struct error *e)
{
    if (q->fits && q->n_images == 1)
        return 0;
    return error_set(e, ERROR_BAD_HEADER,
                     "Accept is image/png, which draws on the one image of a request; this one has "
                     "%lld",
                     (long long)(q->fits ? q->n_images : 0));
}

int api_reply_png(struct request *q, struct image *im)
{
    struct error e;
    unsigned char *bytes;
    size_t size;
    int failed = image_write_png(im, &bytes, &size, &e);
    image_free(im);
    if (failed)
        return reply_error(q, &e);
    return reply_bytes(q, 200, "image/png", bytes, size, BODY_MALLOC);
}

int api_reply_boxes(struct request *q, const struct image_box *boxes, int n)
{
    struct error e;
    struct image im;
    if (api_images_decode(q, 0, &im, &e))
        return reply_error(q, &e);
    image_draw_boxes(&im, boxes, n);
    return api_reply_png(q, &im);
}

int api_reply_classes(struct request *q, const json_t *description, const real *probabilities,
                      int64_t classes, int k)
{
    struct error e;
    struct image im;
    struct ranked *best = arena_array(q->arena, (size_t)ranking_room(classes, k), sizeof *best);
    if (!best)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the answer");
    if (api_images_decode(q, 0, &im, &e))
        return reply_error(q, &e);
    ranking_best(probabilities, classes, k, best);
    int y = 0;
    for (int r = 0; r < k; r++) {
        const char *label = api_label(description, best[r].index);
        double percent = 100 * (double)best[r].value;
        char text[160];
        if (label)
            snprintf(text, sizeof text, "%.120s %.1f%%", label, percent);
        else
            snprintf(text, sizeof text, "class %lld %.1f%%", (long long)best[r].index, percent);
        y += image_draw_text(&im, 0, y, text, (int)best[r].index);
    }
    return api_reply_png(q, &im);
}
