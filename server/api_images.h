/* api_images.h: what handlers do with images that came encoded: reading them as an input, naming
 * the classes that were seen, and drawing an answer. */
#ifndef BACKPROPD_API_IMAGES_H
#define BACKPROPD_API_IMAGES_H

#include "api.h"
#include "image.h"

/* Reads a tensor of BYTES into the input `at` of the network: values 0 to 1, not normalised. Sets
 * q->fits. Memory is taken from the models' budget until the request ends. CONFLICT when the
 * description has no `preprocess` or not for this input; and those of tensor.h and preprocess.h. */
int api_images_read(struct request *q, const struct network *net, int at, const struct tensor *t,
                    const void **data_r, int64_t *n_r, struct error *e);
/* Place of the input that images without a name are for; -1: the description does not say. */
int api_images_input(struct request *q, const struct network *net);

/* The i-th image of the request as it was sent, in RGB; the caller frees it. */
int api_images_decode(struct request *q, int64_t i, struct image *im_r, struct error *e);

/* ---- classes --------------------------------------------------------------------------------- */

/* How many classes the answer names for each sample: parameters.top_k; or 5 when images were
 * sent (1 when the answer is drawn), or as many as there are; 0: none. BAD_TYPE, BAD_VALUE;
 * CONFLICT when top_k is asked of a model that is no classifier. To be called after api_read_batch.
 */
int api_top_k(struct request *q, const struct network *net, int *k_r, struct error *e);
/* "predictions":[[{"label","index","probability"},...],...]: the k best of `classes` for each of n
 * samples, the best first. `description` has the labels; null where it has none. */
int api_write_predictions(struct json_out *w, struct request *q, const json_t *description,
                          const real *probabilities, int64_t n, int64_t classes, int k);

/* Adds an output as strings "value:index" of its k best elements, of each sample if it is batched;
 * with ":label" where the model has as many labels as a sample has elements. Shape [n, k] or [k].
 * api_classify.c */
void api_reply_classified(struct tensor_reply *r, const json_t *description,
                          const struct tensor_out *t, bool batched, int64_t k, bool binary);
const char *api_label(const json_t *description, int64_t i); /* NULL: it has none */

/* ---- drawn answers --------------------------------------------------------------------------- */

/* Whether the first type of Accept is image/png. */
bool api_wants_png(const struct request *q);
/* Answers a PNG of the image, and frees it. */
int api_reply_png(struct request *q, struct image *im);
/* Checks that the request has exactly one image. BAD_HEADER. */
int api_check_drawable(const struct request *q, struct error *e);
/* Answers the one image of the request with boxes, in its own pixels, drawn on it. */
int api_reply_boxes(struct request *q, const struct image_box *boxes, int n);
/* The same with the k best classes as lines of text. */
int api_reply_classes(struct request *q, const json_t *description, const real *probabilities,
                      int64_t classes, int k);

#endif
