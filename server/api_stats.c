/* api_stats.c: the statistics extension: what predictions took, by model. */
#include "api.h"

static uint64_t read_counter(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void put_pair(struct json_out *w, const char *key, const struct infer_pair *p)
{
    out_key(w, key);
    out_open_object(w);
    out_put_uint(w, "count", read_counter(&p->count));
    out_put_uint(w, "ns", read_counter(&p->ns));
    out_close(w);
}

static void put_stats(struct json_out *w, const struct infer_stats *s)
{
    static const struct infer_pair none; /* answers are not cached */
    out_key(w, "inference_stats");
    out_open_object(w);
    put_pair(w, "success", &s->success);
    put_pair(w, "fail", &s->fail);
    put_pair(w, "queue", &s->queue);
    put_pair(w, "compute_input", &s->input);
    put_pair(w, "compute_infer", &s->infer);
    put_pair(w, "compute_output", &s->output);
    put_pair(w, "cache_hit", &none);
    put_pair(w, "cache_miss", &none);
    out_close(w);
}

static void put_batch(struct json_out *w, int64_t size, const struct infer_batch *b)
{
    const struct infer_pair infer = {read_counter(&b->infer.count), read_counter(&b->infer.ns)};
    const struct infer_pair input = {infer.count, read_counter(&b->input_ns)};
    const struct infer_pair output = {infer.count, read_counter(&b->output_ns)};
    if (!infer.count)
        return;
    out_open_object(w);
    out_put_int(w, "batch_size", size);
    put_pair(w, "compute_input", &input);
    put_pair(w, "compute_infer", &infer);
    put_pair(w, "compute_output", &output);
    out_close(w);
}

static void write_stats(struct json_out *w, const struct model *m, const char *version,
                        const struct infer_stats *s, size_t bytes)
{
    out_open_object(w);
    out_put_string(w, "name", m->name);
    out_put_string(w, "version", version);
    out_put_uint(w, "last_inference", read_counter(&s->last_ms));
    out_put_uint(w, "inference_count", read_counter(&s->samples));
    out_put_uint(w, "execution_count", infer_stats_runs(s));
    put_stats(w, s);
    out_key(w, "batch_stats");
    out_open_array(w);
    for (int i = 0; i <= INFER_MAX_BATCH; i++)
        put_batch(w, i, &s->batches[i]);
    out_close(w);
    out_key(w, "memory_usage");
    out_open_array(w);
    out_open_object(w);
    out_put_string(w, "type", "CPU");
    out_put_int(w, "id", 0);
    out_put_uint(w, "byte_size", bytes);
    out_close(w);
    out_close(w);
    out_close(w);
}

/* Live weights and versions together: the version is "". */
static void write_model(void *arg, struct model *m)
{
    struct snapshot now;
    if (model_snapshot(m, &now, NULL))
        return;
    write_stats(arg, m, "", &m->infer_stats, model_bytes(program_network(now.program)));
    snapshot_release(&now);
}

static void begin(struct json_out *w)
{
    out_open_object(w);
    out_key(w, "model_stats");
    out_open_array(w);
}

static int end(struct request *q, struct json_out *w)
{
    out_close(w);
    out_close(w);
    return reply_json(q, 200, w);
}

int api_stats(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    begin(&w);
    api_models_each(q, write_model, &w);
    return end(q, &w);
}

int api_model_stats(struct request *q)
{
    struct json_out w = JSON_OUT_INIT;
    begin(&w);
    write_model(&w, request_model(q));
    return end(q, &w);
}

/* Those of one version: of the requests that named it, or an alias of it. */
int api_version_stats(struct request *q)
{
    static const struct infer_stats none;
    struct model *m = request_model(q);
    struct json_out w = JSON_OUT_INIT;
    struct store_version v;
    struct error e;
    int64_t version;
    if (api_param_version(q, &version))
        return q->status;
    if (store_version_info(request_models(q)->store, m->id, version, q->arena, &v, &e))
        return reply_error(q, &e);
    const struct infer_stats *s = model_version_stats(m, version, false);
    begin(&w);
    write_stats(&w, m, arena_printf(q->arena, "%lld", (long long)version), s ? s : &none,
                model_kept_bytes(m, version));
    return end(q, &w);
}
