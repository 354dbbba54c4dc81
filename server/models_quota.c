/* models_quota.c: what a key may have: so many models, and so much memory of all that are its own.
 * A model is its own when it was created with it; what others train in it counts for its owner. */
#include "models.h"

#include <string.h>

/* What the models of a key take, and how many there are. */
struct holdings {
    const char *who;
    const struct model *without; /* not counted */
    int64_t models, bytes;
};

static void holdings_add(void *arg, struct model *m)
{
    struct holdings *h = arg;
    if (m == h->without || strcmp(m->who, h->who))
        return;
    pthread_mutex_lock(&m->lock);
    h->bytes += (int64_t)model_bytes(program_network(m->program));
    pthread_mutex_unlock(&m->lock);
    h->models++;
}

static void holdings_add_unloaded(void *arg, const struct unloaded_model *u)
{
    struct holdings *h = arg;
    if (strcmp(u->who, h->who))
        return;
    h->bytes += u->bytes;
    h->models++;
}

int models_check_bytes(struct models *ms, const struct key *k, const struct model *m,
                       const struct network *net, struct error *e)
{
    struct holdings h = {.who = k->name, .without = m};
    if (!k->max_bytes)
        return 0;
    models_each(ms, holdings_add, &h);
    models_each_unloaded(ms, holdings_add_unloaded, &h);
    int64_t more = (int64_t)model_bytes(net);
    if (h.bytes > k->max_bytes || more > k->max_bytes - h.bytes)
        return error_set(e, ERROR_QUOTA,
                         "the model takes %lld bytes and the key '%s' has %lld in its models, its "
                         "quota is %lld",
                         (long long)more, k->name, (long long)h.bytes, (long long)k->max_bytes);
    return 0;
}

int models_check_quotas(struct models *ms, const struct key *k, const struct model *m,
                        struct error *e)
{
    struct holdings h = {.who = k->name};
    models_each(ms, holdings_add, &h);
    models_each_unloaded(ms, holdings_add_unloaded, &h);
    if (k->max_models && h.models >= k->max_models)
        return error_set(e, ERROR_QUOTA, "the key '%s' has %lld models already, its quota is %lld",
                         k->name, (long long)h.models, (long long)k->max_models);
    return models_check_bytes(ms, k, m, program_network(m->program), e);
}
