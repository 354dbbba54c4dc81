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

/* Live weights and versions together: the version is "". */
static void write_model(void *arg, struct model *m)
{
    struct json_out *w = arg;
    const struct infer_stats *s = &m->infer_stats;
    struct snapshot now;
    if (model_snapshot(m, &now, NULL))
        return;
    out_open_object(w);
    out_put_string(w, "name", m->name);
    out_put_string(w, "version", "");
    out_put_uint(w, "last_inference", read_counter(&s->last_ms));
    out_put_uint(w, "inference_count", read_counter(&s->samples));
    out_put_uint(w, "execution_count", read_counter(&s->infer.count));
    put_stats(w, s);
    out_key(w, "memory_usage");
    out_open_array(w);
    out_open_object(w);
    out_put_string(w, "type", "CPU");
    out_put_int(w, "id", 0);
    out_put_uint(w, "byte_size", model_bytes(program_network(now.program)));
    out_close(w);
    out_close(w);
    out_close(w);
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
