/* form.h: bodies that hold images: one JPEG or PNG file, or a multipart/form-data of several. */
#ifndef BACKPROPD_FORM_H
#define BACKPROPD_FORM_H

#include "request.h"

/* Reads the body if it is of images and the route takes them: sets request.images, and
 * request.json.root to the form's field "json" (or "request"), or to an empty object, with an empty
 * list of "inputs" if there is none. 1: done, 0: the body is something else. -1: BAD_FORM,
 * UNKNOWN_FIELD, BAD_JSON, BAD_TYPE. */
int form_read(struct request *q, struct error *e);

#endif
