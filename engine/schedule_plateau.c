/* schedule_plateau.c: reduce_on_plateau, torch's ReduceLROnPlateau in mode min. Its metric is the
 * loss of training steps, or its mean over each `interval` of them, after the warm-up: a state of a
 * few numbers that goes from one generation to the next, so that replay and restore have it. The
 * metric is better when it is below the best one by the threshold; after more than `patience`
 * metrics that are not, the rate is multiplied by the factor. */
#include "schedule.h"

#include <math.h>

enum { THRESHOLD_REL, THRESHOLD_ABS };

struct plateau {
    int64_t warmup_steps, patience, cooldown, interval;
    double factor, threshold, min_lr, eps;
    int threshold_mode;
};
#define PLATEAU(field) offsetof(struct plateau, field)
static const struct attr_def plateau_attrs[] = {
    {"factor", ATTR_REAL, PLATEAU(factor), "0.1", 1e-12, 1 - 1e-12, NULL, "of each reduction"},
    {"patience", ATTR_INT, PLATEAU(patience), "10", 0, 0x1p48, NULL,
     "metrics that may be no better before the rate is reduced"},
    {"threshold", ATTR_REAL, PLATEAU(threshold), "0.0001", 0, 1e30, NULL, "what counts as better"},
    {"threshold_mode", ATTR_CHOICE, PLATEAU(threshold_mode), "rel", 0, 0, "rel|abs",
     "whether the threshold is a share of the best metric"},
    {"cooldown", ATTR_INT, PLATEAU(cooldown), "0", 0, 0x1p48, NULL,
     "metrics after a reduction that do not count"},
    {"min_lr", ATTR_REAL, PLATEAU(min_lr), "0", 0, INFINITY, NULL, "the least rate"},
    {"eps", ATTR_REAL, PLATEAU(eps), "1e-8", 0, INFINITY, NULL, "a smaller reduction is none"},
    {"interval", ATTR_INT, PLATEAU(interval), "1", 1, 0x1p48, NULL,
     "steps whose mean loss is one metric"},
    {"warmup_steps", ATTR_INT, PLATEAU(warmup_steps), "0", 0, INFINITY, NULL,
     "steps of linear growth from lr / warmup_steps to lr, before the schedule begins"},
    {0},
};

static double plateau_lr(const void *attrs, double base, uint64_t step,
                         const struct schedule_state *state)
{
    const struct plateau *p = attrs;
    double lr = base;
    if (step < (uint64_t)p->warmup_steps)
        return base * ((double)step + 1) / (double)p->warmup_steps;
    for (int64_t i = 0; state && i < state->reductions; i++) {
        const double less = fmax(lr * p->factor, p->min_lr);
        if (!(lr - less > p->eps))
            break;
        lr = less;
    }
    return lr;
}

static bool is_better(const struct plateau *p, double metric, const struct schedule_state *s)
{
    if (!s->metrics)
        return true;
    return metric < (p->threshold_mode == THRESHOLD_REL ? s->best * (1 - p->threshold)
                                                        : s->best - p->threshold);
}

static void metric_observe(const struct plateau *p, struct schedule_state *s, double metric)
{
    s->bad++;
    if (is_better(p, metric, s)) {
        s->best = metric;
        s->bad = 0;
    }
    s->metrics++;
    if (s->cooldown > 0) {
        s->cooldown--;
        s->bad = 0;
    }
    if (s->bad > p->patience) {
        s->reductions++;
        s->cooldown = p->cooldown;
        s->bad = 0;
    }
}

static void plateau_observe(const void *attrs, struct schedule_state *s, double loss, uint64_t step)
{
    const struct plateau *p = attrs;
    if (step < (uint64_t)p->warmup_steps)
        return;
    s->sum += loss;
    if (++s->summed < p->interval)
        return;
    const double metric = s->sum / (double)s->summed;
    s->sum = 0;
    s->summed = 0;
    metric_observe(p, s, metric);
}

const struct schedule_def schedules_plateau[] = {
    {{{"reduce_on_plateau",
       "lr times factor each time that the loss of training steps has not become better for more "
       "than patience metrics",
       plateau_attrs},
      sizeof(struct plateau),
      NULL},
     plateau_lr,
     plateau_observe},
    {.row.info.name = NULL},
};
