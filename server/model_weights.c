/* model_weights.c: weights from a file, as a change of the model. It is written into the next
 * generation, saved as the checkpoint, and then published. */
#include "model_private.h"
#include "weights.h"

#include <string.h>

/* The present state, with statistics that forward_backward has moved. */
static struct generation *copy_state(struct model *m, const struct weights_options *o,
                                     struct error *e)
{
    const struct network *net = program_network(m->program);
    size_t params = graph_params_size(net->graph) * sizeof(real);
    size_t slots = net->optimizer ? (size_t)optimizer_slots(net->optimizer) * params : 0;
    struct generation *next = model_next(m, e);
    if (!next)
        return NULL;
    memcpy(next->params, m->live->params, params);
    memcpy(next->buffers, model_training_buffers(m), graph_buffers_size(net->graph) * sizeof(real));
    if (o->reset_optimizer) {
        memset(next->slots, 0, slots);
        next->schedule = (struct schedule_state){0};
    } else {
        memcpy(next->slots, m->live->slots, slots);
        next->schedule = m->live->schedule;
    }
    generation_take_steps(net, next, o->reset_optimizer ? NULL : m->live);
    return next;
}

/* The checkpoint first: weights that were answered are there after any restart. */
static int weights_commit(struct model *m, struct generation *next, struct store_answer *answer,
                          struct error *e)
{
    struct model_state s = model_state(m);
    s.generation = next;
    s.c.at.revision++;
    s.c.moved = false;
    if (model_state_checkpoint(m, &s, answer, e) || model_commit(m, next, &s.c, NULL, e))
        return -1;
    m->dirty = false;
    return 0;
}

static int load(struct model *m, const struct safetensor *const *from,
                const struct weights_options *o, struct store_answer *answer, struct error *e)
{
    if (m->pending)
        return error_set(e, ERROR_CONFLICT,
                         "gradients of the present weights are pending; optim_step applies them, "
                         "zero_grad clears them");
    struct generation *next = copy_state(m, o, e);
    if (!next)
        return -1;
    const struct graph *g = program_network(m->program)->graph;
    int status = weights_read(g, from, next->params, next->buffers, e);
    generation_averages_reset(program_network(m->program), next);
    if (!status && !weights_commit(m, next, answer, e))
        return 0;
    model_keep_spare(m, &next);
    return -1;
}

int model_weights_load(struct model *m, const struct safetensors *file,
                       const struct weights_options *o, struct store_answer *answer,
                       struct arena *a, struct weights_report *r_r, struct error *e)
{
    const struct graph *g = program_network(m->program)->graph;
    const struct safetensor **from = arena_array(a, (size_t)graph_param_count(g) + 1, sizeof *from);
    if (!from)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    if (weights_match(g, file, o->strict, a, from, r_r, e))
        return -1;
    pthread_mutex_lock(&m->writing);
    int status = model_check_there(m, e) || load(m, from, o, answer, e);
    pthread_mutex_unlock(&m->writing);
    return status ? -1 : 0;
}
