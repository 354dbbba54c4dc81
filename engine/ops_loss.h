/* ops_loss.h: what the files of the losses share. The table of their rows is in ops_loss.c;
 * ops_loss_classes.c has cross_entropy, ops_loss_binary.c bce_with_logits, ops_loss_detection.c
 * yolo_detection; ops_loss_pairs.c and ops_loss_rows.c have tables of their own. */
#ifndef BACKPROP_OPS_LOSS_H
#define BACKPROP_OPS_LOSS_H

#include "op.h"

/* For the body of a loop that several losses share, each with its own terms. */
#define LOSS_INLINE static inline __attribute__((always_inline))

/* The attribute `reduction`, for tables whose struct `type` has it as an int. */
enum { REDUCE_MEAN, REDUCE_SUM };
#define LOSS_REDUCTION(type)                                                                       \
    {                                                                                              \
        "reduction", ATTR_CHOICE, offsetof(type, reduction), "mean", 0, 0, "mean|sum",             \
            "whether the loss is the mean or the sum of its terms"                                 \
    }

/* A sum over terms in a fixed number of chunks, each in order and in double, then the chunks in
 * order: the same bits on any number of threads. */
enum { LOSS_CHUNKS = 64 };
struct loss_part {
    double terms, weights;
};
struct loss_sum {
    const struct node *n;
    struct run *r;
    int64_t grain; /* terms of a chunk */
    struct loss_part part[LOSS_CHUNKS];
};

/* Calls f(sum, begin, end, worker) for chunks of `count` terms, which sets part[begin / grain], and
 * gives the total. `least` is the number of terms that is worth a chunk. */
struct loss_part loss_sum_run(struct loss_sum *sum, int64_t count, int64_t least, pool_fn *f);

/* For losses that compare number by number. Checks that both shapes are equal; the result is a
 * scalar. */
int loss_same_shape(struct node *n, struct error *e);
/* Sums all terms and writes the loss. */
void loss_pointwise_forward(const struct node *n, struct run *r, int reduction, pool_fn *f);
/* Calls f(struct node_run, begin, end, worker) for all terms. */
void loss_pointwise_backward(const struct node *n, struct run *r, pool_fn *f);
/* What the slope of one term is multiplied by: the upstream gradient and the mean's divisor. */
double loss_pointwise_scale(const struct node *n, const struct run *r, int reduction);
/* Numbers of the prediction, of one sample. */
double loss_term_count(const struct node *n);

struct bce {
    int reduction;
    struct real_list pos_weight, weight; /* one number, or one for each of the last dimension */
};
extern const struct attr_def bce_attrs[];
int bce_shape(struct node *n, struct error *e);
void bce_forward(const struct node *n, struct run *r);
void bce_backward(const struct node *n, struct run *r);
double bce_flops(const struct node *n);

struct cross_entropy {
    int reduction;
    double label_smoothing;
    struct real_list weight; /* [classes] or empty */
    int64_t ignore_index;
    bool mixed_indices;
};
extern const struct attr_def cross_entropy_attrs[];
int cross_entropy_shape(struct node *n, struct error *e);
void cross_entropy_memory(struct node *n);
void cross_entropy_forward(const struct node *n, struct run *r);
void cross_entropy_backward(const struct node *n, struct run *r);
double cross_entropy_flops(const struct node *n);
/* ops_loss_detection.c */
struct yolo {
    struct int_list strides;
    int64_t reg_max, topk;
    double alpha, beta, box, cls, dfl;
    int reduction;
};
extern const struct attr_def yolo_attrs[];
int yolo_shape(struct node *n, struct error *e);
void yolo_memory(struct node *n);
void yolo_forward(const struct node *n, struct run *r);
void yolo_backward(const struct node *n, struct run *r);
double yolo_flops(const struct node *n);

/* The shape of class indices for logits of this shape; false when those have no class dimension. */
bool cross_entropy_classes_shape(const struct shape *logits, struct shape *classes_r);

#endif
