/* backprop_optimizer.h: optimisers, schedules of the learning rate, clipping. Part of backprop.h,
 * which says what these objects mean. */
#ifndef BACKPROP_PUBLIC_OPTIMIZER_H
#define BACKPROP_PUBLIC_OPTIMIZER_H

#include "backprop_values.h"

/* ---- optimisers, schedules, clipping --------------------------------------------------------- */

struct optimizer_info {
    const char *name, *doc;
    const struct attr_def *attrs;
};
bool optimizer_info_at(int i, struct optimizer_info *info_r);
bool schedule_info_at(int i, struct optimizer_info *info_r);
bool init_info_at(int i, struct optimizer_info *info_r);

struct optimizer; /* a row of the table and its attributes */
struct optimizer *optimizer_create(const char *name, const struct attr *attrs, int n,
                                   struct error *e);
void optimizer_destroy(struct optimizer **o);
const char *optimizer_name(const struct optimizer *o);
double optimizer_lr(const struct optimizer *o);
int optimizer_set_lr(struct optimizer *o, double lr, struct error *e);
int optimizer_slots(const struct optimizer *o); /* blocks of state, each of the parameters' size */

struct schedule;
struct schedule *schedule_create(const char *name, const struct attr *attrs, int n,
                                 struct error *e);
void schedule_destroy(struct schedule **s);
/* What reduce_on_plateau has seen. All zeros at the beginning; no padding: it is kept as bytes. */
struct schedule_state {
    double best, sum;                  /* metric; losses of the metric under way */
    int64_t summed, metrics;           /* losses in sum; metrics seen */
    int64_t bad, cooldown, reductions; /* metrics that were no better; to skip; done */
};
/* The learning rate of the step after `step` steps were taken. `s` NULL: base; `state` NULL: that
 * at the beginning. */
double schedule_lr(const struct schedule *s, double base, uint64_t step,
                   const struct schedule_state *state);
bool schedule_has_state(const struct schedule *s); /* `s` may be NULL */
/* Takes notice of the loss of a step; nothing for schedules without a state. */
void schedule_observe(const struct schedule *s, struct schedule_state *state, double loss,
                      uint64_t step);
/* Whether the state of one means the same for the other: the same row and attributes. */
bool schedule_same_state(const struct schedule *a, const struct schedule *b);

#endif
