/* api_prometheus.c: GET /metrics. What is read goes into a struct first, then tables say which of
 * its fields is which family. Labels are bounded: routes and statuses are those of the tables,
 * models those that there are (--max-models).
 *
 * It runs on a worker: a model's log may be waiting for the disk. */
#include "api.h"
#include "http.h"
#include "process.h"
#include "prometheus.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

/* A family with one number, from a double at `offset` of some struct. */
struct gauge {
    struct prometheus_family family;
    size_t offset;
};

static double field_at(const void *from, size_t offset)
{
    return *(const double *)((const char *)from + offset);
}

/* ---- the server ------------------------------------------------------------------------------ */

struct server_reading {
    struct process_info process;
    double models, max_models, memory_used, memory_limit;
    double connections, workers, running, running_writes, waiting_reads, waiting_writes;
    double database, database_free, storage_up;
    double bytes_in, bytes_out;
};
#define OF(field) offsetof(struct server_reading, field)

static const struct gauge server_rows[] = {
    {{"backpropd_models", "gauge", "Models that there are."}, OF(models)},
    {{"backpropd_models_limit", "gauge", "Models that there may be."}, OF(max_models)},
    {{"backpropd_memory_budget_used_bytes", "gauge", "Memory that models and runs have taken."},
     OF(memory_used)},
    {{"backpropd_memory_budget_limit_bytes", "gauge", "Memory that they may take."},
     OF(memory_limit)},
    {{"backpropd_connections", "gauge", "Open connections."}, OF(connections)},
    {{"backpropd_workers", "gauge", "Worker threads."}, OF(workers)},
    {{"backpropd_workers_busy", "gauge", "Workers that run a request."}, OF(running)},
    {{"backpropd_workers_busy_writing", "gauge", "Of those, the ones that change a model."},
     OF(running_writes)},
    {{"backpropd_queue_reads", "gauge", "Requests that wait to read."}, OF(waiting_reads)},
    {{"backpropd_queue_writes", "gauge", "Requests that wait to change a model."},
     OF(waiting_writes)},
    {{"backpropd_request_body_bytes_total", "counter", "Bytes of request bodies."}, OF(bytes_in)},
    {{"backpropd_response_body_bytes_total", "counter", "Bytes of response bodies."},
     OF(bytes_out)},
    {{"backpropd_database_bytes", "gauge", "Size of the database."}, OF(database)},
    {{"backpropd_database_free_bytes", "gauge", "Of it, what is free to be used again."},
     OF(database_free)},
    {{"backpropd_storage_up", "gauge", "1 while the data folder can be written, else 0."},
     OF(storage_up)},
    {{"process_cpu_seconds_total", "counter", "CPU time, user and system."},
     OF(process.cpu_seconds)},
    {{"process_start_time_seconds", "gauge", "When the process began, Unix time."},
     OF(process.start_time)},
    {{"process_resident_memory_bytes", "gauge", "Resident memory."}, OF(process.resident_bytes)},
    {{"process_virtual_memory_bytes", "gauge", "Virtual memory."}, OF(process.virtual_bytes)},
    {{"process_threads", "gauge", "Threads."}, OF(process.threads)},
    {{"process_open_fds", "gauge", "Open file descriptors."}, OF(process.open_fds)},
    {{"process_max_fds", "gauge", "File descriptors that there may be."}, OF(process.max_fds)},
};
#undef OF

static void server_read(struct server *s, struct server_reading *v)
{
    struct work_stats w;
    struct error ignored;
    int64_t bytes, unused;
    process_info_get(&v->process);
    work_stats_get(s->work, &w);
    v->memory_used = (double)budget_used(&s->models->budget);
    v->memory_limit = (double)s->models->budget.limit;
    v->max_models = (double)s->models->max_models;
    v->connections = http_connections(s->http);
    v->workers = w.workers;
    v->running = w.running;
    v->running_writes = w.running_writes;
    v->waiting_reads = (double)w.waiting_reads;
    v->waiting_writes = (double)w.waiting_writes;
    bool sized = !store_size(s->store, &bytes, &unused, &ignored);
    v->database = sized ? (double)bytes : NAN;
    v->database_free = sized ? (double)unused : NAN;
    v->storage_up = !store_health(s->store, &ignored);
    v->bytes_in = (double)stats_read(&s->stats->bytes_in);
    v->bytes_out = (double)stats_read(&s->stats->bytes_out);
}

static void write_server(FILE *out, struct server *s, int models)
{
    static const struct prometheus_family build = {
        "backpropd_build_info", "gauge", "Always 1; version, and what results depend on."};
    struct server_reading v = {.models = models};
    server_read(s, &v);
    prometheus_family(out, &build);
    const struct prometheus_label labels[] = {
        {"version", BACKPROPD_VERSION}, {"engine", engine_fingerprint()}, {0}};
    prometheus_sample(out, &build, labels, 1);
    for (size_t i = 0; i < sizeof server_rows / sizeof *server_rows; i++) {
        prometheus_family(out, &server_rows[i].family);
        prometheus_sample(out, &server_rows[i].family, NULL, field_at(&v, server_rows[i].offset));
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Room for method, route, status and the end. */
typedef struct prometheus_label route_labels[4];

static void label_route(const struct route_stats *r, route_labels l)
{
    l[0] = (struct prometheus_label){"method", r->route ? r->route->method : ""};
    l[1] = (struct prometheus_label){"route", r->route ? r->route->pattern : "unknown"};
    l[2] = l[3] = (struct prometheus_label){0};
}

static void write_statuses(FILE *out, const struct stats *s)
{
    static const struct prometheus_family family = {"backpropd_requests_total", "counter",
                                                    "Requests by route and status of the answer."};
    prometheus_family(out, &family);
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < STATS_STATUSES; k++) {
            uint64_t n = stats_read(&s->routes[i].statuses[k]);
            char code[16];
            route_labels labels;
            if (!n)
                continue;
            label_route(&s->routes[i], labels);
            snprintf(code, sizeof code, "%d", k + STATS_MIN_STATUS);
            labels[2] = (struct prometheus_label){"code", code};
            prometheus_sample(out, &family, labels, (double)n);
        }
}

static bool histogram_any(const struct histogram *h)
{
    for (int i = 0; i <= STATS_BUCKETS; i++)
        if (stats_read(&h->buckets[i]))
            return true;
    return false;
}

/* Routes that nobody has asked for have no rows. */
static void write_histograms(FILE *out, const struct stats *s)
{
    static const struct {
        struct prometheus_family family;
        size_t offset;
    } rows[] = {
        {{"backpropd_request_duration_seconds", "histogram",
          "From the first line of the request to the end of the answer."},
         offsetof(struct route_stats, duration)},
        {{"backpropd_queue_duration_seconds", "histogram", "Waiting for a worker."},
         offsetof(struct route_stats, queue)},
    };
    for (size_t f = 0; f < sizeof rows / sizeof *rows; f++) {
        prometheus_family(out, &rows[f].family);
        for (int i = 0; i < s->n; i++) {
            const char *at = (const char *)&s->routes[i] + rows[f].offset;
            const struct histogram *h = (const struct histogram *)(const void *)at;
            route_labels labels;
            label_route(&s->routes[i], labels);
            if (histogram_any(h))
                prometheus_histogram(out, &rows[f].family, labels, h);
        }
    }
}

static void write_refusals(FILE *out, const struct keyring *r)
{
    static const struct prometheus_family family = {
        "backpropd_requests_refused_total", "counter",
        "Requests refused for their key: none, not in force, tried too often, too weak, too many."};
    prometheus_family(out, &family);
    for (int i = 0; i < REFUSALS; i++) {
        const struct prometheus_label labels[] = {{"reason", refusal_names[i]}, {0}};
        prometheus_sample(out, &family, labels, (double)keyring_counted(r, (enum refusal)i));
    }
}

/* ---- models ---------------------------------------------------------------------------------- */

struct model_reading {
    const char *name;
    double step, revision, loss, accuracy, grad_norm, lr, map, map50, val_loss, val_accuracy;
    double steps, samples, predictions, prediction_runs, non_finite, checkpoints;
    double queue, memory, redo;
};
#define OF(field) offsetof(struct model_reading, field)

static const struct gauge model_rows[] = {
    {{"backpropd_model_step", "gauge", "Optimiser steps in the model's state."}, OF(step)},
    {{"backpropd_model_revision", "gauge", "Changes of the model since it was created."},
     OF(revision)},
    {{"backpropd_train_steps_total", "counter", "Optimiser steps since the start."}, OF(steps)},
    {{"backpropd_train_samples_total", "counter", "Samples trained on since the start."},
     OF(samples)},
    {{"backpropd_nonfinite_steps_total", "counter",
      "Training requests refused because loss or gradients were not finite."},
     OF(non_finite)},
    {{"backpropd_predictions_total", "counter", "Samples predicted since the start."},
     OF(predictions)},
    {{"backpropd_prediction_runs_total", "counter",
      "Runs of predictions: samples divided by runs is what is batched."},
     OF(prediction_runs)},
    {{"backpropd_train_loss", "gauge", "Loss of the last training batch."}, OF(loss)},
    {{"backpropd_train_accuracy", "gauge", "Accuracy on the last training batch, 0 to 1."},
     OF(accuracy)},
    {{"backpropd_grad_norm", "gauge",
      "Norm of the gradients of the last optimiser step, before clipping."},
     OF(grad_norm)},
    {{"backpropd_learning_rate", "gauge", "Learning rate of the last step."}, OF(lr)},
    {{"backpropd_evaluation_map", "gauge",
      "Mean average precision of the last evaluation, IoU 0.5 to 0.95."},
     OF(map)},
    {{"backpropd_evaluation_map50", "gauge",
      "Mean average precision of the last evaluation, IoU 0.5."},
     OF(map50)},
    {{"backpropd_evaluation_loss", "gauge", "Loss of the last evaluation that was recorded."},
     OF(val_loss)},
    {{"backpropd_evaluation_accuracy", "gauge",
      "Accuracy of the last evaluation that was recorded, 0 to 1."},
     OF(val_accuracy)},
    {{"backpropd_checkpoints_total", "counter", "Checkpoints written since the start."},
     OF(checkpoints)},
    {{"backpropd_model_queue", "gauge", "Requests that wait to change the model."}, OF(queue)},
    {{"backpropd_model_memory_bytes", "gauge", "Memory that the model takes, without its runs."},
     OF(memory)},
    {{"backpropd_redo_log_bytes", "gauge", "Size of the model's redo log."}, OF(redo)},
};
#undef OF

static void model_read(struct model *m, struct model_reading *v)
{
    pthread_mutex_lock(&m->lock);
    struct model_totals t = m->totals;
    *v = (struct model_reading){.name = m->name,
                                .step = (double)m->at.step,
                                .revision = (double)m->at.revision,
                                .loss = m->last_loss,
                                .memory = (double)model_bytes(program_network(m->program))};
    pthread_mutex_unlock(&m->lock);
    v->accuracy = t.accuracy;
    v->grad_norm = t.grad_norm;
    v->lr = t.lr;
    v->map = t.map;
    v->map50 = t.map50;
    v->val_loss = t.val_loss;
    v->val_accuracy = t.val_accuracy;
    v->steps = (double)t.steps;
    v->samples = (double)t.samples;
    v->predictions = (double)t.predictions;
    v->prediction_runs = (double)infer_stats_runs(&m->infer_stats);
    v->non_finite = (double)t.non_finite;
    v->checkpoints = (double)t.checkpoints;
    v->queue = (double)work_queue_waiting(m->queue[WORK_WRITES]);
    v->redo = (double)redo_bytes(m->redo);
}

static void write_models(FILE *out, const struct model_reading *v, int n)
{
    for (size_t f = 0; f < sizeof model_rows / sizeof *model_rows; f++) {
        prometheus_family(out, &model_rows[f].family);
        for (int i = 0; i < n; i++) {
            const struct prometheus_label labels[] = {{"model", v[i].name}, {0}};
            prometheus_sample(out, &model_rows[f].family, labels,
                              field_at(&v[i], model_rows[f].offset));
        }
    }
}

/* ---- the handler ----------------------------------------------------------------------------- */

static void write_all(FILE *out, struct request *q, struct model *const *models, int n)
{
    struct model_reading *v = arena_array(q->arena, (size_t)n, sizeof *v);
    int seen = 0;
    for (int i = 0; v && i < n; i++)
        if (caller_sees(q->caller, models[i]->name))
            model_read(models[i], &v[seen++]);
    write_server(out, q->server, n);
    write_statuses(out, q->server->stats);
    write_histograms(out, q->server->stats);
    write_refusals(out, q->server->keys);
    write_models(out, v, seen);
}

int api_prometheus(struct request *q)
{
    char *text = NULL;
    size_t size = 0;
    int n;
    struct model **models = models_hold_all(request_models(q), q->arena, &n);
    FILE *out = open_memstream(&text, &size);
    if (out)
        write_all(out, q, models, n);
    for (int i = 0; i < n; i++)
        model_release(&models[i]);
    if (out && !fclose(out))
        return reply_bytes(q, 200, PROMETHEUS_CONTENT_TYPE, text, size, BODY_MALLOC);
    free(text);
    return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for the metrics");
}
