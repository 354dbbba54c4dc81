/* bench_augment.c: what augmentation costs beside a training step: bench_augment [--threads N]
 * [--batch N] [--seconds S]
 *
 * A batch of RGB images of 32x32 goes through lists of augmentations, and through a step of LeNet-5
 * (forward, backward, optimiser) in turns, so that a busy machine hurts both alike. Printed are the
 * medians, and the share of the step that the augmentation costs: under 5% is wanted of those that
 * small classifiers are trained with. */
#include "../../server/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POOL "{\"op\":\"max_pool2d\",\"kernel_size\":2}"
#define RELU "{\"op\":\"relu\"}"
static const char lenet[] =
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,3,32,32]}],\"layers\":["
    "{\"op\":\"conv2d\",\"out_channels\":6,\"kernel_size\":5}," RELU "," POOL ","
    "{\"op\":\"conv2d\",\"out_channels\":16,\"kernel_size\":5}," RELU "," POOL ","
    "{\"op\":\"flatten\"},{\"op\":\"linear\",\"out_features\":120}," RELU ","
    "{\"op\":\"linear\",\"out_features\":84}," RELU ",{\"op\":\"linear\",\"out_features\":10}],"
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01,\"momentum\":0.9},\"loss\":\"cross_entropy\"}";

enum { LIST_MAX = 4, SAMPLES = 2000 };

static const struct {
    const char *name, *rows[LIST_MAX];
} lists[] = {
    {"hflip", {"hflip"}},
    {"random_crop + hflip", {"random_crop", "hflip"}},
    {"random_crop + hflip + cutout", {"random_crop", "hflip", "cutout"}},
    {"hsv", {"hsv"}},
    {"affine (rotation, scale)", {"affine"}},
    {"affine + hsv + hflip", {"affine", "hsv", "hflip"}},
    {"random_resized_crop + hflip", {"random_resized_crop", "hflip"}},
    {"mixup", {"mixup"}},
    {"cutmix", {"cutmix"}},
    {"randaugment", {"randaugment"}},
    {"gaussian_noise", {"gaussian_noise"}},
    {"gaussian_blur", {"gaussian_blur"}},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    return x[n / 2];
}

static struct augment *list_create(const char *const *rows, struct error *e)
{
    static const struct attr turn[] = {{.name = "degrees", .kind = ATTR_IS_REAL, .d = 15},
                                       {.name = "scale", .kind = ATTR_IS_REAL, .d = 0.2}};
    struct augment *a = augment_create(e);
    for (int i = 0; a && i < LIST_MAX && rows[i]; i++)
        if (augment_add(a, rows[i], turn, strcmp(rows[i], "affine") ? 0 : 2, e))
            augment_destroy(&a);
    return a;
}

struct bench {
    struct trainer t;
    real *images, *out;
    int64_t batch;
    double seconds;
};

static int measure(struct bench *b, const char *name, const char *const *rows, struct error *e)
{
    static double step[SAMPLES], cost[SAMPLES];
    struct augment_batch x = {.n = b->batch,
                              .c = 3,
                              .h = 32,
                              .w = 32,
                              .images = b->images,
                              .images_out = b->out,
                              .seed = 1};
    struct augment *a = list_create(rows, e);
    size_t bytes;
    if (!a || augment_work_bytes(a, &x, x.n, pool_threads(b->t.pool), &bytes, e))
        return -1;
    void *work = malloc(bytes);
    int n = 0, status = work ? 0 : -1;
    for (double begin = now(); n < SAMPLES && now() - begin < b->seconds && !status; n++) {
        x.draw++;
        const double at = now();
        status = augment_apply(a, b->t.pool, &x, work, e);
        cost[n] = now() - at;
        status = status || trainer_step(&b->t, e);
        step[n] = now() - at - cost[n];
    }
    free(work);
    augment_destroy(&a);
    if (status || !n)
        return -1;
    const double c = median(cost, n), s = median(step, n);
    printf("%-30s %8.1f us  LeNet-5 %8.1f us  %5.1f%%\n", name, 1e6 * c, 1e6 * s, 100 * c / s);
    fflush(stdout);
    return 0;
}

static int run(struct bench *b, int threads, struct error *e)
{
    const size_t count = (size_t)b->batch * 3 * 32 * 32;
    b->images = malloc(count * sizeof *b->images);
    b->out = malloc(count * sizeof *b->out);
    if (!b->images || !b->out)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        b->images[i] = (real)(i * 2654435761u % 1000) / 1000;
    if (trainer_open(&b->t, lenet, b->batch, threads, e))
        return -1;
    printf("batch %lld of 3x32x32, %d threads\n", (long long)b->batch, threads);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (measure(b, lists[i].name, lists[i].rows, e))
            return -1;
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.batch = 64, .seconds = 1};
    struct error e = {0};
    int threads = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--batch") == 0)
            b.batch = atoll(argv[i + 1]);
        else if (strcmp(argv[i], "--seconds") == 0)
            b.seconds = atof(argv[i + 1]);
    }
    engine_start();
    const int status = run(&b, threads, &e);
    if (status)
        fprintf(stderr, "bench_augment: %s\n", e.text);
    trainer_close(&b.t);
    free(b.images);
    free(b.out);
    return status ? 1 : 0;
}
