/* bench_train.c: training steps of the engine alone, without a daemon: examples a second and
 * GFLOP/s of forward, backward and optimiser on random data. tests/bench/run.sh sets it beside
 * PyTorch, in turns.
 *
 *   bench_train [--threads N] [--batch N] [--seconds S] [--profile] NET...
 *
 * prints one line a net: name, threads, batch, median examples/s, quartiles, GFLOP/s. With
 * --profile it also prints where the time of a step goes, operator by operator. GFLOP/s count
 * three times the forward's operations, less the first layer's gradient of its input. */
#include "../../engine/plan.h"
#include "../support/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SGD  "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01,\"momentum\":0.9},"
#define LOSS "\"loss\":{\"op\":\"cross_entropy\"}}"
#define CONV(out)                                                                                  \
    "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":3,\"padding\":1,"                \
    "\"bias\":false},{\"op\":\"batch_norm2d\"},{\"op\":\"relu\"},"
#define LINEAR(out) "{\"op\":\"linear\",\"out_features\":" #out "}"
#define POOL        "{\"op\":\"max_pool2d\",\"kernel_size\":2},"
#define RELU        "{\"op\":\"relu\"},"

/* A basic block of ResNet after the layer `from`, called `to`; a block that changes the shape has
 * a 1x1 convolution beside it. */
#define BLOCK_CONVS(from, to, out, stride)                                                         \
    "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":3,\"stride\":" #stride           \
    ",\"padding\":1,\"bias\":false,\"inputs\":[\"" from "\"]},{\"op\":\"batch_norm2d\"}," RELU     \
    "{\"op\":\"conv2d\",\"out_channels\":" #out                                                    \
    ",\"kernel_size\":3,\"padding\":1,\"bias\":false},"                                            \
    "{\"op\":\"batch_norm2d\",\"name\":\"" to "b\"},"
#define BLOCK_SUM(from, to)                                                                        \
    "{\"op\":\"add\",\"inputs\":[\"" to "b\",\"" from "\"]},{\"op\":\"relu\",\"name\":\"" to "\"}" \
    ","
#define BLOCK(from, to, out) BLOCK_CONVS(from, to, out, 1) BLOCK_SUM(from, to)
#define BLOCK_DOWN(from, to, out)                                                                  \
    BLOCK_CONVS(from, to, out, 2)                                                                  \
    "{\"op\":\"conv2d\",\"out_channels\":" #out ",\"kernel_size\":1,\"stride\":2,\"bias\":false,"  \
    "\"inputs\":[\"" from "\"]},{\"op\":\"batch_norm2d\",\"name\":\"" to                           \
    "d\"}," BLOCK_SUM(to "d", to)

static const struct {
    const char *name, *description;
} nets[] = {
    {"mlp", "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,784]}],\"layers\":[" LINEAR(
                512) "," RELU LINEAR(256) "," RELU LINEAR(10) "]," SGD LOSS},
    {"lenet",
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,1,28,28]}],\"layers\":["
     "{\"op\":\"conv2d\",\"out_channels\":6,\"kernel_size\":5,\"padding\":2}," RELU POOL
     "{\"op\":\"conv2d\",\"out_channels\":16,\"kernel_size\":5}," RELU POOL
     "{\"op\":\"flatten\"}," LINEAR(120) "," RELU LINEAR(84) "," RELU LINEAR(10) "]," SGD LOSS},
    {"cifar", "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3,32,32]}],\"layers\":[" CONV(64) CONV(64)
                  POOL CONV(128) CONV(128) POOL
     "{\"op\":\"flatten\"}," LINEAR(256) "," RELU LINEAR(10) "]," SGD LOSS},
    {"resnet18",
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3,32,32]}],\"layers\":["
     "{\"op\":\"conv2d\",\"out_channels\":64,\"kernel_size\":3,\"padding\":1,"
     "\"bias\":false},{\"op\":\"batch_norm2d\"},{\"op\":\"relu\",\"name\":\"s\"}," BLOCK(
         "s", "a1", 64) BLOCK("a1", "a2", 64) BLOCK_DOWN("a2", "b1", 128) BLOCK("b1", "b2", 128)
         BLOCK_DOWN("b2", "c1", 256) BLOCK("c1", "c2", 256) BLOCK_DOWN("c2", "d1", 512)
             BLOCK("d1", "d2", 512) "{\"op\":\"adaptive_avg_pool2d\",\"output_size\":1},{\"op\":"
                                    "\"flatten\"}," LINEAR(10) "]," SGD LOSS},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Operations of a training step, as the opening comment counts them. */
static double step_flops(const struct trainer *t)
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
    return (3 * sum - first) * (double)t->batch;
}

/* ---- one net --------------------------------------------------------------------------------- */

struct options {
    int threads;
    int64_t batch;
    double seconds;
    bool profile;
};

enum { SAMPLES_MOST = 100000, SAMPLES_FEWEST = 5, WARM_UP = 3 };

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(struct trainer *t, const char *name, const struct options *o, double *sample,
                   struct error *e)
{
    int n = 0;
    for (int i = 0; i < WARM_UP; i++)
        if (trainer_step(t, e))
            return -1;
    for (double begin = now(), at = begin;
         n < SAMPLES_MOST && (n < SAMPLES_FEWEST || at - begin < o->seconds);) {
        if (trainer_step(t, e))
            return -1;
        double end = now();
        sample[n++] = end - at;
        at = end;
    }
    qsort(sample, (size_t)n, sizeof *sample, compare_doubles);
    double batch = (double)t->batch;
    printf("%-9s threads %d batch %lld  %9.1f examples/s [%.1f..%.1f]  %7.1f GFLOP/s\n", name,
           o->threads, (long long)t->batch, batch / sample[n / 2], batch / sample[n * 3 / 4],
           batch / sample[n / 4], step_flops(t) / sample[n / 2] * 1e-9);
    fflush(stdout);
    return 0;
}

/* ---- the profile ----------------------------------------------------------------------------- */

enum { FORWARD, BACKWARD, DIRECTIONS, PROFILE_STEPS = 10 };

/* A row of operators whose functions are timed: the plan's own copies of the nodes are made to
 * point at these. */
struct timed {
    struct op op; /* first: a node's op leads back to its timer */
    const struct op *real;
    double seconds[DIRECTIONS];
};

static void timed_call(const struct node *n, struct run *r, int direction)
{
    struct timed *t = (struct timed *)(uintptr_t)n->op;
    double begin = now();
    (direction == FORWARD ? t->real->forward : t->real->backward)(n, r);
    t->seconds[direction] += now() - begin;
}

static void timed_forward(const struct node *n, struct run *r)
{
    timed_call(n, r, FORWARD);
}

static void timed_backward(const struct node *n, struct run *r)
{
    timed_call(n, r, BACKWARD);
}

static void profile_print(const struct graph *g, const struct timed *timers, double total)
{
    struct shape_text text;
    printf("  %-22s %-18s %9s %9s   of %.3f ms a step\n", "operator", "shape", "forward",
           "backward", 1e3 * total / PROFILE_STEPS);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct timed *t = &timers[i];
        if (t->seconds[FORWARD] + t->seconds[BACKWARD] > 0)
            printf("  %-22s %-18s %8.3f %9.3f ms\n", t->real->name,
                   shape_print(&g->nodes[i]->shape, &text),
                   1e3 * t->seconds[FORWARD] / PROFILE_STEPS,
                   1e3 * t->seconds[BACKWARD] / PROFILE_STEPS);
    }
}

static int profile(struct trainer *t, struct error *e)
{
    struct graph *g = t->plan->graph;
    struct timed *timers = calloc((size_t)g->n_nodes, sizeof *timers);
    if (!timers)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a profile");
    for (int i = 0; i < g->n_nodes; i++) {
        timers[i] = (struct timed){.op = *g->nodes[i]->op, .real = g->nodes[i]->op};
        timers[i].op.forward = timed_forward;
        timers[i].op.backward = timed_backward;
        g->nodes[i]->op = &timers[i].op;
    }
    int status = 0;
    double begin = now();
    for (int i = 0; i < PROFILE_STEPS && !status; i++)
        status = trainer_step(t, e);
    profile_print(g, timers, now() - begin);
    for (int i = 0; i < g->n_nodes; i++)
        g->nodes[i]->op = timers[i].real;
    free(timers);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const char *description_of(const char *name)
{
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++)
        if (strcmp(nets[i].name, name) == 0)
            return nets[i].description;
    return NULL;
}

static int bench(const char *name, const struct options *o)
{
    struct error e = {0};
    struct trainer t = {0};
    double *sample = malloc(SAMPLES_MOST * sizeof *sample);
    const char *description = description_of(name);
    int status = -1;
    if (!description)
        error_set(&e, ERROR_BAD_NAME, "no such net");
    else if (sample && !trainer_open(&t, description, o->batch, o->threads, &e))
        status = measure(&t, name, o, sample, &e);
    if (!status && o->profile)
        status = profile(&t, &e);
    if (status)
        fprintf(stderr, "%s: %s\n", name, e.text);
    trainer_close(&t);
    free(sample);
    return status;
}

int main(int argc, char **argv)
{
    struct options o = {.threads = 1, .batch = 64, .seconds = 2};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--profile") == 0)
            o.profile = true;
        else if (i + 1 < argc && strcmp(argv[i], "--threads") == 0)
            o.threads = atoi(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--batch") == 0)
            o.batch = atoll(argv[++i]);
        else if (i + 1 < argc && strcmp(argv[i], "--seconds") == 0)
            o.seconds = atof(argv[++i]);
        else
            break;
    }
    if (i >= argc || argv[i][0] == '-') {
        fprintf(stderr, "bench_train [--threads N] [--batch N] [--seconds S] [--profile] NET...\n");
        return 2;
    }
    engine_start();
    for (; i < argc; i++)
        if (bench(argv[i], &o))
            return 1;
    return 0;
}
