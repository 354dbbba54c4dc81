/* preprocess.c: decoding and normalising batches of images. */
#include "preprocess.h"

#include "base64.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- from the description -------------------------------------------------------------------- */

static int choice(const json_t *object, const char *field, const char *const *names)
{
    const char *name = json_string_value(json_object_get(object, field));
    for (int i = 1; name && names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    return 0;
}

static int input_place(const struct network *net, const char *name)
{
    for (int i = 0; name && i < net->n_inputs; i++)
        if (!strcmp(node_name(net->inputs[i]), name))
            return i;
    return -1;
}

bool preprocess_read(const json_t *description, const struct network *net, struct preprocess *p)
{
    static const char *const fits[] = {"stretch", "crop", "letterbox", NULL};
    static const char *const colors[] = {"rgb", "bgr", "gray", NULL};
    const json_t *d = json_object_get(description, "preprocess");
    int input = input_place(net, json_string_value(json_object_get(d, "input")));
    if (input < 0)
        return false;
    const struct shape *s = node_shape(net->inputs[input]);
    *p = (struct preprocess){
        .input = input,
        .channels = (int)s->dim[1],
        .fitting = {.width = (int)s->dim[3],
                    .height = (int)s->dim[2],
                    .mode = (enum image_fit_mode)choice(d, "fit", fits),
                    .color = (enum image_color)choice(d, "color", colors),
                    .crop_pct = json_number_value(json_object_get(d, "crop_pct")),
                    .fill = (int)json_integer_value(json_object_get(d, "fill"))},
        .gain = 255 * json_number_value(json_object_get(d, "scale"))};
    for (int c = 0; c < p->channels; c++) {
        p->mean[c] = json_number_value(json_array_get(json_object_get(d, "mean"), (size_t)c));
        p->std[c] = json_number_value(json_array_get(json_object_get(d, "std"), (size_t)c));
    }
    return true;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static int decode_base64(const struct image_source *s, const struct image_limits *l,
                         struct image *im, struct error *e)
{
    size_t size, bad;
    unsigned char *bytes = malloc(base64_room(s->size));
    if (!bytes)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for base64 of %zu characters",
                         s->size);
    int failed;
    if (base64_decode(s->bytes, s->size, bytes, &size, &bad))
        failed = image_decode(bytes, size, l, im, e);
    else if (bad == s->size)
        failed = error_set(e, ERROR_BAD_IMAGE, "the base64 text of %zu characters ends early", bad);
    else
        failed = error_set(e, ERROR_BAD_IMAGE,
                           "character %zu is not of base64, which images in "
                           "JSON are written in",
                           bad);
    free(bytes);
    return failed;
}

int image_source_decode(const struct image_source *s, const struct image_limits *l,
                        struct image *im, struct error *e)
{
    return s->base64 ? decode_base64(s, l, im, e) : image_decode(s->bytes, s->size, l, im, e);
}

struct decoding {
    const struct preprocess *p;
    const struct image_work *work;
    const struct image_source *sources;
    float *out;
    struct image_fit *fits;
    int64_t sample; /* elements */
    pthread_mutex_t lock;
    int64_t bad; /* the first that cannot be used; n: none so far */
    int64_t n;
    bool gone; /* nobody waits any more */
    struct error *e;
};

static void decode_one(struct decoding *d, int64_t i)
{
    struct error e;
    struct image im;
    int failed = image_source_decode(&d->sources[i], &d->work->limits, &im, &e);
    if (!failed) {
        failed = image_fit_planes(&im, &d->p->fitting, d->out + i * d->sample, &d->fits[i], &e);
        image_free(&im);
    }
    if (!failed)
        return;
    pthread_mutex_lock(&d->lock);
    if (i < d->bad) {
        d->bad = i;
        *d->e = e;
    }
    pthread_mutex_unlock(&d->lock);
}

static void decode_range(void *arg, int64_t begin, int64_t end, int worker)
{
    struct decoding *d = arg;
    (void)worker;
    for (int64_t i = begin; i < end; i++) {
        pthread_mutex_lock(&d->lock);
        d->gone = d->gone || (d->work->gone && d->work->gone(d->work->gone_arg));
        bool stop = d->gone || d->bad < i; /* images after a bad one are not needed */
        pthread_mutex_unlock(&d->lock);
        if (!stop)
            decode_one(d, i);
    }
}

int preprocess_decode(const struct preprocess *p, const struct image_work *w,
                      const struct image_source *sources, int64_t n, real *out,
                      struct image_fit *fits, struct error *e)
{
    struct error first;
    struct decoding d = {.p = p,
                         .work = w,
                         .sources = sources,
                         .out = out,
                         .fits = fits,
                         .sample = (int64_t)p->channels * p->fitting.height * p->fitting.width,
                         .bad = n,
                         .n = n,
                         .e = &first};
    pthread_mutex_init(&d.lock, NULL);
    pool_for(w->pool, n, 1, decode_range, &d);
    pthread_mutex_destroy(&d.lock);
    if (d.gone)
        return error_set(e, ERROR_CLIENT_GONE, "the client has closed its connection");
    if (d.bad == n)
        return 0;
    if (e)
        *e = first;
    return n > 1 ? error_prefix(e, "image %lld", (long long)d.bad) : -1;
}

/* ---- normalising ----------------------------------------------------------------------------- */

struct normalising {
    const struct preprocess *p;
    real *data;
};

static void normalise_range(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct normalising *x = arg;
    const struct preprocess *p = x->p;
    int64_t plane = (int64_t)p->fitting.height * p->fitting.width;
    (void)worker;
    for (int64_t i = begin * p->channels; i < end * p->channels; i++) {
        int c = (int)(i % p->channels);
        real gain = (real)p->gain, mean = (real)p->mean[c], std = (real)p->std[c];
        for (real *v = x->data + i * plane, *stop = v + plane; v < stop; v++)
            *v = (*v * gain - mean) / std;
    }
}

void preprocess_normalise(const struct preprocess *p, struct pool *pool, real *data, int64_t n)
{
    pool_for(pool, n, 1, normalise_range, &(struct normalising){p, data});
}
