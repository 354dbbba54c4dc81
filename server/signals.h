/* signals.h: the names of a layer's signals, on the wire and in the store, and how they are
 * written. What they are: struct layer_signals of backprop.h. */
#ifndef BACKPROPD_SIGNALS_H
#define BACKPROPD_SIGNALS_H

#include "backprop.h"
#include "json_out.h"

/* In the order of the columns of the store's table. */
enum { SIGNALS = 7 };
struct signal_def {
    const char *name;
    size_t offset; /* of a double in struct layer_signals */
};
extern const struct signal_def signal_defs[SIGNALS];

static inline double *signal_number(struct layer_signals *l, int i)
{
    return (double *)(void *)((char *)l + signal_defs[i].offset);
}
static inline double signal_value(const struct layer_signals *l, int i)
{
    return *(const double *)(const void *)((const char *)l + signal_defs[i].offset);
}

/* The fields of one layer, into an object that is open; what does not apply is left out. */
void signals_put(struct json_out *w, const struct layer_signals *l);

/* ---- diagnosis.c ----------------------------------------------------------------------------- */

/* "diagnosis": a list of what the signals of one step say is wrong, by the rules of diagnosis.c;
 * empty when nothing is. Layers in the order of the network. */
void diagnosis_put(struct json_out *w, const struct network *net,
                   const struct layer_signals *layers, int n);

#endif
