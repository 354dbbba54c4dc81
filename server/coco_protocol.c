/* coco_protocol.c: the table of protocols (coco.h), and what they do when nothing else is said. */
#include "coco_private.h"

#include <string.h>

const struct coco_protocol coco_protocols[] = {
    /* name, match, average, epsilon, areas, cell_max, image_max, recalls, best_f1, inclusive */
    {"coco", coco_match, coco_average, 0x1p-52, COCO_AREAS, 100, 0, true, false, false},
    {"ultralytics", ultralytics_match, ultralytics_average, 0, 1, 0, 300, false, true, false},
    {"ultralytics-legacy", ultralytics_match, ultralytics_legacy_average, 0, 1, 0, 300, false, true,
     false},
    {"voc", voc_match, voc_average, 0, 1, 0, 0, false, false, true},
    {"voc2007", voc_match, voc2007_average, 0, 1, 0, 0, false, false, true},
    {0},
};

const struct coco_protocol *coco_protocol_find(const char *name, struct error *e)
{
    char known[200] = "";
    for (const struct coco_protocol *p = coco_protocols; p->name; p++) {
        if (strcmp(p->name, name) == 0)
            return p;
        strncat(known, p == coco_protocols ? "" : ", ", sizeof known - strlen(known) - 1);
        strncat(known, p->name, sizeof known - strlen(known) - 1);
    }
    error_write(e, ERROR_BAD_VALUE, "protocol: expected one of %s, found '%.60s'", known, name);
    return NULL;
}

const char *coco_protocol_name(const struct coco_protocol *p)
{
    return p->name;
}

void coco_options_init(struct coco_options *o, const struct coco_protocol *p)
{
    *o = (struct coco_options){
        .protocol = p, .n_thresholds = COCO_THRESHOLDS, .inclusive_pixels = p->inclusive_pixels};
    double step = (0.95 - 0.5) / (COCO_THRESHOLDS - 1);
    for (int i = 0; i < COCO_THRESHOLDS; i++)
        o->thresholds[i] = 0.5 + i * step;
}
