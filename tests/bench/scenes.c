/* scenes.c: makes scenes of handwritten digits for `make demo-detect`: digits of optdigits, scaled
 * and pasted on noisy grey fields of 96 x 96, as bodies for the daemon.
 *
 *   scenes DIGITS.csv IMAGES BATCH SEED PREFIX
 *
 * writes PREFIX-0000.body, ...: a JSON header with names, shapes and boxes (one "category" and
 * "bbox" a digit), then the images as little-endian FP32; PREFIX-0000.length is the length of the
 * header (Inference-Header-Content-Length). Also PREFIX.json, the ground truth in COCO's form, and
 * PREFIX.png, the first scene as a picture. */
#include "image.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 96, CELLS = 8, DIGITS_MAX = 4000, OBJECTS_MAX = 5, TRIES = 30 };

struct digit {
    float ink[CELLS][CELLS]; /* 0 to 1 */
    int label;
};
struct object {
    int label, x, y, w, h;
};
struct scene {
    float pixel[SIDE][SIDE];
    struct object object[OBJECTS_MAX];
    int n;
};

static struct digit digits[DIGITS_MAX];
static int n_digits;
static uint64_t state;

/* Uniform in [0, 1): splitmix64. */
static double chance(void)
{
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static bool digits_read(const char *path)
{
    FILE *f = fopen(path, "r");
    for (; f && n_digits < DIGITS_MAX; n_digits++) {
        struct digit *d = &digits[n_digits];
        int ink;
        for (int i = 0; i < CELLS * CELLS; i++) {
            if (fscanf(f, "%d,", &ink) != 1)
                goto end;
            d->ink[i / CELLS][i % CELLS] = (float)ink / 16;
        }
        if (fscanf(f, "%d", &d->label) != 1)
            break;
    }
end:
    if (f)
        fclose(f);
    return n_digits > 0;
}

/* Ink at a point of the digit's field, between its cells; nothing outside. */
static float ink_at(const struct digit *d, double x, double y)
{
    const int x0 = (int)floor(x), y0 = (int)floor(y);
    double sum = 0;
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 2; i++) {
            const int cx = x0 + i, cy = y0 + j;
            if (cx >= 0 && cy >= 0 && cx < CELLS && cy < CELLS)
                sum +=
                    (double)d->ink[cy][cx] * (i ? x - x0 : 1 - x + x0) * (j ? y - y0 : 1 - y + y0);
        }
    return (float)sum;
}

static bool is_free(const struct scene *s, int x, int y, int size)
{
    for (int i = 0; i < s->n; i++) {
        const struct object *o = &s->object[i];
        if (x < o->x + o->w + 2 && o->x < x + size + 2 && y < o->y + o->h + 2 &&
            o->y < y + size + 2)
            return false;
    }
    return true;
}

/* Draws a digit of `size` pixels a side and notes the box around its ink. */
static void paste(struct scene *s, const struct digit *d, int left, int top, int size)
{
    const double scale = (double)CELLS / size, strength = 0.6 + 0.4 * chance();
    int x1 = SIDE, y1 = SIDE, x2 = 0, y2 = 0;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const float ink = ink_at(d, (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5);
            float *p = &s->pixel[top + y][left + x];
            *p += (float)strength * ink * (1 - *p);
            if (ink < 0.25F)
                continue;
            x1 = left + x < x1 ? left + x : x1;
            y1 = top + y < y1 ? top + y : y1;
            x2 = left + x + 1 > x2 ? left + x + 1 : x2;
            y2 = top + y + 1 > y2 ? top + y + 1 : y2;
        }
    s->object[s->n++] = (struct object){d->label, x1, y1, x2 - x1, y2 - y1};
}

static void scene_make(struct scene *s)
{
    const double level = 0.25 * chance(), noise = 0.1 + 0.2 * chance();
    const int wanted = 1 + (int)(chance() * OBJECTS_MAX);
    s->n = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        s->pixel[i / SIDE][i % SIDE] = (float)(level + noise * chance());
    for (int t = 0; t < TRIES && s->n < wanted; t++) {
        const int size = 18 + (int)(chance() * 19);
        const int x = (int)(chance() * (SIDE - size)), y = (int)(chance() * (SIDE - size));
        const struct digit *d = &digits[(int)(chance() * n_digits)];
        if (is_free(s, x, y, size))
            paste(s, d, x, y, size);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static FILE *file_open(const char *prefix, int number, const char *suffix)
{
    char path[4096];
    if (number >= 0)
        snprintf(path, sizeof path, "%s-%04d%s", prefix, number, suffix);
    else
        snprintf(path, sizeof path, "%s%s", prefix, suffix);
    FILE *f = fopen(path, "wb");
    if (!f) {
        perror(path);
        exit(1);
    }
    return f;
}

static json_t *boxes_of(const struct scene *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n; i++) {
        const struct object *o = &s->object[i];
        json_array_append_new(list, json_pack("{s:i,s:[i,i,i,i]}", "category", o->label, "bbox",
                                              o->x, o->y, o->w, o->h));
    }
    return list;
}

static void batch_write(const char *prefix, int number, const struct scene *scenes, int n)
{
    json_t *boxes = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(boxes, boxes_of(&scenes[i]));
    json_t *header =
        json_pack("{s:[{s:s,s:s,s:[i,i,i,i],s:{s:i}}],s:[{s:s,s:o}]}", "inputs", "name", "image",
                  "datatype", "FP32", "shape", n, 1, SIDE, SIDE, "parameters", "binary_data_size",
                  (int)(n * sizeof scenes[0].pixel), "targets", "name", "boxes", "boxes", boxes);
    char *text = json_dumps(header, JSON_COMPACT);
    FILE *f = file_open(prefix, number, ".body");
    fputs(text, f);
    for (int i = 0; i < n; i++)
        fwrite(scenes[i].pixel, sizeof scenes[i].pixel, 1, f);
    fclose(f);
    f = file_open(prefix, number, ".length");
    fprintf(f, "%zu", strlen(text));
    fclose(f);
    free(text);
    json_decref(header);
}

static void truth_add(json_t *truth, const struct scene *s, int image)
{
    json_t *annotations = json_object_get(truth, "annotations");
    json_array_append_new(json_object_get(truth, "images"), json_pack("{s:i}", "id", image));
    for (int i = 0; i < s->n; i++) {
        const struct object *o = &s->object[i];
        json_array_append_new(annotations,
                              json_pack("{s:i,s:i,s:i,s:[i,i,i,i],s:i,s:i}", "id",
                                        (int)json_array_size(annotations) + 1, "image_id", image,
                                        "category_id", o->label, "bbox", o->x, o->y, o->w, o->h,
                                        "area", o->w * o->h, "iscrowd", 0));
    }
}

static void truth_write(const char *prefix, json_t *truth)
{
    for (int i = 0; i < 10; i++) {
        char name[2] = {(char)('0' + i), 0};
        json_array_append_new(json_object_get(truth, "categories"),
                              json_pack("{s:i,s:s}", "id", i, "name", name));
    }
    FILE *f = file_open(prefix, -1, ".json");
    json_dumpf(truth, f, JSON_COMPACT);
    fclose(f);
}

static int picture_write(const char *prefix, const struct scene *s)
{
    struct image im;
    struct image_limits limits = {.max_pixels = 1 << 20};
    struct error e;
    unsigned char *bytes;
    size_t size;
    if (image_create(&im, SIDE, SIDE, 1, &limits, &e))
        return -1;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            *image_at(&im, x, y) = (unsigned char)(s->pixel[y][x] * 255);
    int failed = image_write_png(&im, &bytes, &size, &e);
    image_free(&im);
    if (failed)
        return -1;
    FILE *f = file_open(prefix, -1, ".png");
    fwrite(bytes, size, 1, f);
    fclose(f);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 6 || !digits_read(argv[1])) {
        fprintf(stderr, "usage: scenes DIGITS.csv IMAGES BATCH SEED PREFIX\n");
        return 2;
    }
    const int images = atoi(argv[2]), batch = atoi(argv[3]);
    const char *prefix = argv[5];
    struct scene *scenes = batch > 0 ? calloc((size_t)batch, sizeof *scenes) : NULL;
    json_t *truth = json_pack("{s:[],s:[],s:[]}", "images", "categories", "annotations");
    if (!scenes || !truth)
        return 2;
    state = (uint64_t)atoi(argv[4]);
    for (int first = 0; first < images; first += batch) {
        const int n = images - first < batch ? images - first : batch;
        for (int i = 0; i < n; i++) {
            scene_make(&scenes[i]);
            truth_add(truth, &scenes[i], first + i);
        }
        batch_write(prefix, first / batch, scenes, n);
        if (first == 0 && picture_write(prefix, scenes))
            return 1;
    }
    truth_write(prefix, truth);
    json_decref(truth);
    free(scenes);
    return 0;
}
