/* remote.h: what tests of models on a daemon share: creating them, asking, hashing, batches of made
 * up numbers, and text that grows. All checks fail the running test. */
#ifndef TEST_REMOTE_H
#define TEST_REMOTE_H

#include "daemon.h"

/* Text that grows; {0} is empty. */
struct text {
    char *data;
    size_t size, capacity;
};
void text_add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_free(struct text *t);

/* Descriptions: a scalar w * x without bias under mse and plain SGD at lr 0.1; a small classifier
 * (input [4], 3 classes); a convolutional one with batch norm and dropout (input [1,6,6], 3
 * classes). */
extern const char remote_scalar[], remote_mlp[], remote_cnn[];

/* PUT; 201 is expected. */
struct answer *remote_create(struct client *c, const char *name, const char *description);
/* `method` on /v2/models/NAME followed by `rest` ("", "/train_step"). Any status is fine. */
struct answer *remote_call(struct client *c, const char *method, const char *name, const char *rest,
                           const char *json);
/* POST to /v2/models/NAME/VERB; 200 is expected. */
struct answer *remote_post(struct client *c, const char *name, const char *verb, const char *json);
/* GET of /v2/models/NAME and `rest`; 200 is expected. */
struct answer *remote_get(struct client *c, const char *name, const char *rest);
/* A number of the model's metadata. */
double remote_number(struct client *c, const char *name, const char *path);

struct remote_hash {
    char text[65];
};
/* state_sha256 of the model. */
struct remote_hash remote_hash(struct client *c, const char *name);
#define assert_same_state(a, b)  assert_string_equal((a).text, (b).text)
#define assert_other_state(a, b) assert_string_not_equal((a).text, (b).text)

/* A batch of `n` samples for remote_mlp (`pixels` 4) or remote_cnn (36): the same for the same
 * seed. `more` is put behind the targets ("\"parameters\":{...}"), NULL: nothing. Like answers, it
 * belongs to the client. */
const char *remote_batch(struct client *c, unsigned seed, int n, int pixels, const char *more);
/* The samples [begin, end) of that batch, without `more`. */
const char *remote_batch_part(struct client *c, unsigned seed, int begin, int end, int pixels);
/* The same without targets, for infer. */
const char *remote_inputs(struct client *c, unsigned seed, int n, int pixels, const char *more);
/* One train_step of the model on such a batch of 8; the answer. */
struct answer *remote_step(struct client *c, const char *name, unsigned seed, int pixels);

/* A batch of `n` rows of `width` digits, and of two classes, to be freed: for steps that take long.
 */
char *remote_rows(int n, int width);
/* The value of a sample of GET /metrics, known by all before its value; -1: it is not there. */
double remote_sample(struct client *c, const char *name);
/* Waits for it for two seconds: an answer may be read before it is counted. */
void remote_expect_sample(struct client *c, const char *name, double value);

/* The numbers of an array at a path, at most `max`; their count. */
int remote_numbers(struct answer *a, const char *path, double *numbers, int max);

#endif
