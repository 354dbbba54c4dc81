/* coco_read.h: sets of boxes from JSON in COCO's form. */
#ifndef BACKPROPD_COCO_READ_H
#define BACKPROPD_COCO_READ_H

#include "coco.h"

#include <jansson.h>

/* Makes a body readable that programs write but JSON does not allow, and cheap to read. NaN,
 * Infinity and -Infinity become strings, so that the sentence about them can name their entry; this
 * makes a copy in `a`. Lists of numbers under the key "segmentation", which box metrics do not use
 * and which are most of COCO's own files, are blanked in place, if they are JSON. BAD_JSON,
 * OUT_OF_MEMORY. */
int coco_text_prepare(char **text, size_t *size, struct arena *a, struct error *e);

/* `ground_truth` is {"images":[{"id"}], "categories":[{"id"}], "annotations":[{"id","image_id",
 * "category_id","bbox","area","iscrowd"}]}, `detections` [{"image_id","category_id","bbox",
 * "score"}]. Other fields are not looked at. The set lies in `a` and needs the JSON no more.
 * BAD_VALUE with the name of the entry: fields that are missing or have another type, ids that are
 * not known or are there twice, sizes below zero, numbers that are not finite or beyond 1e9. */
int coco_read(const json_t *ground_truth, const json_t *detections, struct arena *a,
              struct coco_set *set_r, struct error *e);

#endif
