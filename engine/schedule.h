/* schedule.h: what a schedule is, inside the engine. The table is in schedule.c; the one row that
 * depends on what training gives is in schedule_plateau.c. */
#ifndef BACKPROP_SCHEDULE_H
#define BACKPROP_SCHEDULE_H

#include "rows.h"

struct schedule_def {
    struct row row;
    /* The rate of the step after `step` steps; `state` is that of rows with observe. */
    double (*lr)(const void *attrs, double base, uint64_t step, const struct schedule_state *state);
    /* After the step that began with `step` steps taken, with its loss; NULL: rates are a function
     * of the steps alone. */
    void (*observe)(const void *attrs, struct schedule_state *state, double loss, uint64_t step);
};

/* schedule_plateau.c; ends with a row without a name. */
extern const struct schedule_def schedules_plateau[];

#endif
