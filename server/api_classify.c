/* api_classify.c: Triton's classification extension: an output as the best classes of each sample,
 * strings of "value:index" or "value:index:label". */
#include "api_images.h"

#include "number.h"
#include "ranking.h"

#include <math.h>
#include <string.h>

static const char *class_text(struct arena *a, const struct ranked *r, const json_t *description,
                              bool labelled)
{
    char value[NUMBER_FLOAT_MAX + 1] = "nan";
    const char *label = labelled ? api_label(description, r->index) : NULL;
    if (isfinite(r->value))
        value[number_write_float(value, (float)r->value)] = 0;
    else if (isinf(r->value))
        strcpy(value, r->value > 0 ? "inf" : "-inf");
    return arena_printf(a, "%s:%lld%s%s", value, (long long)r->index, label ? ":" : "",
                        label ? label : "");
}

void api_reply_classified(struct tensor_reply *r, const json_t *description,
                          const struct tensor_out *t, bool batched, int64_t k, bool binary)
{
    struct arena *a = r->q->arena;
    int64_t rows = batched ? t->shape.dim[0] : 1, row = t->count / rows;
    bool labelled = (int64_t)json_array_size(json_object_get(description, "labels")) == row;
    k = k < row ? k : row;
    const char **text = arena_array(a, (size_t)(rows * k) + 1, sizeof *text);
    struct ranked *best = arena_array(a, (size_t)ranking_room(row, k) + 1, sizeof *best);
    bool failed = !text || !best;
    for (int64_t i = 0; i < rows && !failed; i++) {
        ranking_best((const real *)t->data + i * row, row, k, best);
        for (int64_t j = 0; j < k && !failed; j++)
            failed = !(text[i * k + j] = class_text(a, &best[j], description, labelled));
    }
    if (failed)
        r->json.failed = true;
    else
        tensor_reply_add_strings(r, t->name, batched ? &SHAPE(rows, k) : &SHAPE(k), text,
                                 (size_t)(rows * k), binary);
}
