/* bench_coco.c: how long POST /v2/detection/evaluate takes for a set of the size of val2014's first
 * 5,000 images: 36,000 ground truths in 80 categories, 100,000 detections. JSON in, JSON out, one
 * thread, without HTTP. The limit is 2 seconds. From the root of the repository, after `make
 * tests`:
 *
 *   gcc -std=gnu11 -O2 -Iengine tests/bench/bench_coco.c -o build/bench_coco \
 *       $(ls build/server/[a-z]*.o | grep -v -e main.o -e double.o) build/libbackprop.a \
 *       $(pkg-config --cflags --libs libmicrohttpd jansson openblas sqlite3 gnutls libpng libjpeg)
 * \ -lm -pthread && build/bench_coco [FILE]
 *
 * FILE gets the body. Where pycocotools is installed, it answers the same with
 *
 *   python3 -c 'import json, sys, time; from pycocotools.coco import COCO; \
 *   from pycocotools.cocoeval import COCOeval; b = json.load(open(sys.argv[1])); t = time.time(); \
 *   g = COCO(); g.dataset = b["ground_truth"]; g.createIndex(); \
 *   e = COCOeval(g, g.loadRes(b["detections"]), "bbox"); e.evaluate(); e.accumulate(); \
 *   e.summarize(); print(time.time() - t)' FILE */
#include "../../server/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { IMAGES = 5000, CATEGORIES = 80, TRUTHS = 36000, DETECTIONS = 100000, ROUNDS = 5 };

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) * 0x1p-53;
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct box {
    int image, category;
    double v[4];
};

static void write_truths(FILE *f, struct box *boxes, uint64_t *state)
{
    for (int i = 0; i < TRUTHS; i++) {
        struct box *b = &boxes[i];
        b->image = (int)(uniform(state) * IMAGES);
        b->category = (int)(uniform(state) * uniform(state) * CATEGORIES);
        for (int k = 0; k < 4; k++)
            b->v[k] = uniform(state) * uniform(state) * 400 + (k >= 2 ? 4 : 0);
        fprintf(f,
                "%s{\"id\":%d,\"image_id\":%d,\"category_id\":%d,\"bbox\":[%.2f,%.2f,%.2f,%.2f],"
                "\"area\":%.4f,\"iscrowd\":%d}",
                i ? "," : "", i + 1, b->image + 1, b->category + 1, b->v[0], b->v[1], b->v[2],
                b->v[3], b->v[2] * b->v[3] * 0.7, i % 90 == 0);
    }
}

/* Two in three lie near a truth. */
static void write_detections(FILE *f, const struct box *boxes, uint64_t *state)
{
    for (int i = 0; i < DETECTIONS; i++) {
        struct box b = boxes[(int)(uniform(state) * TRUTHS)];
        bool near = uniform(state) < 2.0 / 3;
        for (int k = 0; k < 4; k++)
            b.v[k] = near ? b.v[k] * (0.85 + 0.3 * uniform(state)) : uniform(state) * 300 + 1;
        fprintf(f,
                "%s{\"image_id\":%d,\"category_id\":%d,\"bbox\":[%.2f,%.2f,%.2f,%.2f],"
                "\"score\":%.6f}",
                i ? "," : "", b.image + 1, b.category + 1, b.v[0], b.v[1], b.v[2], b.v[3],
                uniform(state) * (near ? 1 : 0.6));
    }
}

static char *make_body(size_t *size_r)
{
    char *text;
    uint64_t state = 1;
    struct box *boxes = calloc(TRUTHS, sizeof *boxes);
    FILE *f = open_memstream(&text, size_r);
    fputs("{\"ground_truth\":{\"images\":[", f);
    for (int i = 0; i < IMAGES; i++)
        fprintf(f, "%s{\"id\":%d,\"width\":640,\"height\":480}", i ? "," : "", i + 1);
    fputs("],\"categories\":[", f);
    for (int i = 0; i < CATEGORIES; i++)
        fprintf(f, "%s{\"id\":%d,\"name\":\"class%d\"}", i ? "," : "", i + 1, i + 1);
    fputs("],\"annotations\":[", f);
    write_truths(f, boxes, &state);
    fputs("]},\"detections\":[", f);
    write_detections(f, boxes, &state);
    fputs("]}", f);
    fclose(f);
    free(boxes);
    return text;
}

static void save(const char *path, const char *text, size_t size)
{
    FILE *f = fopen(path, "w");
    if (f) {
        fwrite(text, 1, size, f);
        fclose(f);
    }
}

int main(int argc, char **argv)
{
    size_t size;
    char *text = make_body(&size);
    if (argc > 1)
        save(argv[1], text, size);
    printf("%d images, %d truths, %d detections, %.1f MB\n", IMAGES, TRUTHS, DETECTIONS,
           (double)size / 1e6);
    for (int i = 0; i < ROUNDS; i++) {
        struct request *q = request_create(NULL, "POST", "/v2/detection/evaluate", "");
        q->body = memcpy(malloc(size + 1), text, size);
        q->body[size] = 0;
        q->body_size = size;
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
        int status = api_detection_evaluate(q);
        request_destroy(&q);
        printf("status %d: %.3f s, %.3f s of CPU\n", status, seconds(CLOCK_MONOTONIC) - wall,
               seconds(CLOCK_THREAD_CPUTIME_ID) - cpu);
    }
    free(text);
    return 0;
}
