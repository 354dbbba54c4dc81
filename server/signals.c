/* signals.c: one table says what a layer's signals are called; answers, the store's columns and the
 * dashboard follow from it. */
#include "signals.h"

#include <math.h>

#define SIGNAL(name)                                                                               \
    {                                                                                              \
#name, offsetof(struct layer_signals, name)                                                \
    }

const struct signal_def signal_defs[SIGNALS] = {
    SIGNAL(gradient_norm),  SIGNAL(weight_norm), SIGNAL(update_ratio),    SIGNAL(activation_mean),
    SIGNAL(activation_std), SIGNAL(dead_share),  SIGNAL(saturated_share),
};

void signals_put(struct json_out *w, const struct layer_signals *l)
{
    for (int i = 0; i < SIGNALS; i++)
        if (!isnan(signal_value(l, i)))
            out_put_double(w, signal_defs[i].name, signal_value(l, i));
}
