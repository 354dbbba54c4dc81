/* bench.c: measures, and prints a line or a JSON object for each net, mode and batch. Rates are of
 * the median step; GFLOP/s count what the layers with parameters do: their forward once and their
 * backward twice, but for the gradient of the first one's input, which nobody needs. */
#include "bench.h"

#include "bench_words.h"
#include "json_out.h"
#include "profile_table.h"
#include "trainer.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES_MOST = 100000, SAMPLES_FEWEST = 3, WARM_UP = 2, PROFILE_STEPS = 10 };

static const int64_t infer_batches[] = {1, 32};

/* What one measurement is of, and what came out. */
struct bench {
    const struct bench_net *net;
    bool training;
    int64_t batch;
    int threads;
    double seconds, *sample; /* [SAMPLES_MOST], sorted afterwards */
    int n;
    double flops, peak;  /* of a step; operations a second */
    size_t before, most; /* resident bytes without the net, and at the most */
    int64_t parameters;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A row of /proc/self/status in bytes; 0: cannot be known. */
static size_t process_bytes(const char *row)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kilobytes = 0;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, row, strlen(row)) == 0)
            kilobytes = strtoull(line + strlen(row) + 1, NULL, 10);
    if (f)
        fclose(f);
    return (size_t)kilobytes << 10;
}

/* From here on the most that was resident is counted anew, where the kernel lets us. */
static void process_forget_most(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    if (!f)
        return;
    fputs("5", f);
    fclose(f);
}

/* ---- measuring ------------------------------------------------------------------------------- */

static double step_flops(const struct trainer *t, bool training)
{
    const struct graph *g = t->net->graph;
    double sum = 0, first = 0;
    for (int i = 0; i < graph_node_count(g); i++) {
        const struct node *n = graph_node(g, i);
        if (node_param_count(n) == 0)
            continue;
        first = first > 0 ? first : node_flops(n);
        sum += node_flops(n);
    }
    return (training ? 3 * sum - first : sum) * (double)t->batch;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int run_once(const struct bench *b, struct trainer *t, struct error *e)
{
    return b->training ? trainer_step(t, e) : trainer_infer(t, e);
}

static int measure(struct bench *b, struct trainer *t, struct error *e)
{
    b->n = 0;
    for (int i = 0; i < WARM_UP; i++)
        if (run_once(b, t, e))
            return -1;
    for (double begin = now(), at = begin;
         b->n < SAMPLES_MOST && (b->n < SAMPLES_FEWEST || at - begin < b->seconds);) {
        if (run_once(b, t, e))
            return -1;
        double end = now();
        b->sample[b->n++] = end - at;
        at = end;
    }
    qsort(b->sample, (size_t)b->n, sizeof *b->sample, compare_doubles);
    return 0;
}

static int measure_peak(struct bench *b, struct trainer *t, struct error *e)
{
    double peak;
    if (gemm_peak(t->pool, &peak, e))
        return -1;
    b->peak = peak > b->peak ? peak : b->peak;
    return 0;
}

static void read_size(struct bench *b, const struct trainer *t)
{
    const struct graph *g = t->net->graph;
    b->most = process_bytes("VmHWM:");
    b->flops = step_flops(t, b->training);
    for (int i = 0; i < graph_param_count(g); i++)
        b->parameters += graph_param(g, i)->buffer ? 0 : (int64_t)graph_param(g, i)->count;
}

/* ---- printing -------------------------------------------------------------------------------- */

static double at_quantile(const struct bench *b, int quarters)
{
    return b->sample[b->n * quarters / 4];
}

static void print_head(FILE *out)
{
    fprintf(out, "%-13s %-5s %5s %7s %12s %9s %7s %9s\n", "net", "mode", "batch", "threads",
            "examples/s", "GFLOP/s", "of peak", "memory");
}

static void print_line(const struct bench *b, FILE *out)
{
    const double median = at_quantile(b, 2);
    fprintf(out, "%-13s %-5s %5lld %7d %12.1f %9.1f %6.0f%% %6.0f MB\n", b->net->name,
            b->training ? "train" : "infer", (long long)b->batch, b->threads,
            (double)b->batch / median, b->flops / median * 1e-9, 100 * b->flops / median / b->peak,
            (double)(b->most - b->before) / 1e6);
}

static int print_json(const struct bench *b, FILE *out, struct error *e)
{
    struct json_out w = JSON_OUT_INIT;
    const double median = at_quantile(b, 2);
    out_open_object(&w);
    out_put_string(&w, "net", b->net->name);
    out_put_string(&w, "mode", b->training ? "train" : "infer");
    out_put_int(&w, "batch", b->batch);
    out_put_int(&w, "threads", b->threads);
    out_put_int(&w, "parameters", b->parameters);
    out_put_int(&w, "steps", b->n);
    out_put_double(&w, "seconds_p25", at_quantile(b, 1));
    out_put_double(&w, "seconds_p50", median);
    out_put_double(&w, "seconds_p75", at_quantile(b, 3));
    out_put_double(&w, "examples_per_second", (double)b->batch / median);
    out_put_double(&w, "gflops_per_second", b->flops / median * 1e-9);
    out_put_double(&w, "peak_gflops_per_second", b->peak * 1e-9);
    out_put_uint(&w, "resident_bytes", b->most);
    out_put_uint(&w, "net_bytes", b->most - b->before);
    out_close(&w);
    const bool failed = w.failed || fwrite(w.data, 1, w.size, out) != w.size;
    out_free(&w);
    fputc('\n', out);
    return failed ? error_set(e, ERROR_OUT_OF_MEMORY, "the result cannot be printed") : 0;
}

/* ---- profiles -------------------------------------------------------------------------------- */

static int profile(const struct bench *b, struct trainer *t, FILE *out, struct error *e)
{
    struct profiled p = {
        .steps = PROFILE_STEPS, .batch = b->batch, .threads = b->threads, .peak = b->peak};
    int status = 0;
    t->profile = profile_create(t->run, b->batch, e);
    if (!t->profile)
        return -1;
    const double begin = now();
    for (int i = 0; i < PROFILE_STEPS && !status; i++)
        status = b->training ? trainer_gradients(t, e) : trainer_infer(t, e);
    const double between = now();
    p.seconds = between - begin;
    for (int i = 0; i < PROFILE_STEPS && !status && b->training; i++)
        status = trainer_apply(t, e);
    p.update = now() - between;
    p.seconds += p.update;
    p.profile = t->profile;
    if (!status)
        profile_table_print(&p, out);
    profile_destroy(&t->profile);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int bench_trainer(struct bench *b, const struct bench_words *w, struct trainer *t, FILE *out,
                         struct error *e)
{
    if (measure(b, t, e))
        return -1;
    read_size(b, t);
    if (measure_peak(b, t, e) || (w->json && print_json(b, out, e)))
        return -1;
    if (!w->json)
        print_line(b, out);
    return w->profile && !w->json ? profile(b, t, out, e) : 0;
}

static int bench_one(struct bench b, const struct bench_words *w, FILE *out, struct error *e)
{
    struct trainer t;
#ifdef __GLIBC__
    malloc_trim(0); /* what the net before this one has freed would pass for this one's */
#endif
    b.before = process_bytes("VmRSS:");
    process_forget_most();
    int status = b.training ? trainer_open(&t, b.net->description, b.batch, b.threads, e)
                            : trainer_open_inference(&t, b.net->description, b.batch, b.threads, e);
    if (!status)
        status = bench_trainer(&b, w, &t, out, e);
    trainer_close(&t);
    fflush(out);
    return status ? error_prefix(e, "%s", b.net->name) : 0;
}

static int bench_net_modes(struct bench b, const struct bench_words *w, FILE *out, struct error *e)
{
    b.training = true;
    b.batch = w->batch ? w->batch : b.net->batch;
    if (bench_words_have(w->mode, "train") && bench_one(b, w, out, e))
        return -1;
    b.training = false;
    for (size_t i = 0; i < sizeof infer_batches / sizeof *infer_batches; i++) {
        b.batch = w->batch ? w->batch : infer_batches[i];
        if (bench_words_have(w->mode, "infer") && (i == 0 || !w->batch) && bench_one(b, w, out, e))
            return -1;
    }
    return 0;
}

static int bench_all(const struct bench_words *w, FILE *out, struct error *e)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct bench b = {.threads = (int)(w->threads  ? w->threads
                                       : cores > 0 ? cores
                                                   : 1),
                      .seconds = w->seconds,
                      .sample = malloc(SAMPLES_MOST * sizeof *b.sample)};
    int status = b.sample ? 0 : error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the samples");
    if (!status && !w->json)
        print_head(out);
    for (b.net = bench_nets; b.net->name && !status; b.net++)
        if (bench_words_have(w->nets, b.net->name))
            status = bench_net_modes(b, w, out, e);
    free(b.sample);
    return status;
}

int bench_command(char **argv, FILE *out, struct error *e)
{
    struct bench_words w;
    if (bench_words_read(&w, argv, e))
        return -1;
    for (const struct bench_net *net = bench_nets; w.describe && net->name; net++)
        if (strcmp(net->name, w.describe) == 0)
            return fprintf(out, "%s\n", net->description) < 0
                       ? error_set(e, ERROR_STORAGE, "the description cannot be printed")
                       : 0;
    engine_start();
    return bench_all(&w, out, e);
}
