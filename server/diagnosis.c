/* diagnosis.c: what the signals of one step say of a network, by a table of rules. A rule looks at
 * all layers, names the worst and those that share its trouble, gives the figures that it judged
 * by, and says what usually helps. Thresholds are rules of thumb, set where the literature and
 * practice put clear trouble, so that usual networks that train well are left in peace:
 *
 *   vanishing   Bengio, Simard, Frasconi 1994; Glorot, Bengio 2010 (figure 7: back-propagated
 *               gradients of sigmoid networks shrink by the layer, of well initialised ones not).
 *               No layer from the input up to this one gets a thousandth of the gradient that some
 *               layer behind it gets. "No layer up to this one": a branch that starts at zero, as
 *               the last batch norm of a residual block may, has no gradient and no trouble.
 *   exploding   Pascanu, Mikolov, Bengio 2013. A thousand times the gradient of the last layer; or
 *               a gradient a thousand times all weights, which no usual learning rate survives.
 *   dead        Lu, Shin, Su, Karniadakis 2019; CS231n's notes ("as much as 40% of your network can
 *               be dead"): 40% of units gave 0 throughout, besides those that do so by chance in a
 *               small batch. A healthy unit may be active for 2% of the inputs: it is silent for n
 *               of them with a chance of 0.98^n, half at 32, next to none at 300.
 *   saturated   Glorot, Bengio 2010, section 3: half of the outputs where the slope is below 6% of
 *               the steepest. Not for outputs of the network: a sure classifier saturates.
 *   rate        CS231n's notes, "ratio of weights:updates": about 1e-3 is right. Judged by the
 *               median of all layers, a factor of a hundred to either side. A small ratio where
 *               gradients vanish is a consequence and is not told again. */
#include "signals.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIGURES = 4, SAYS = 320, DEAD_NUMBERS = 16 };

struct diagnosed {
    const struct network *net;
    const struct layer_signals *layers;
    int n;
    bool vanishing; /* was found */
};

struct finding {
    int worst;      /* place of a layer */
    bool *affected; /* of each layer */
    struct {
        const char *name;
        double value;
    } figures[FIGURES];
    char says[SAYS];
};

struct rule {
    const char *problem;
    double threshold;
    bool (*find)(const struct rule *rule, const struct diagnosed *d, struct finding *f);
    const char *helps;
};

static const char *name_of(const struct diagnosed *d, int i)
{
    return node_name(d->layers[i].layer);
}

/* ---- gradients through the layers ------------------------------------------------------------ */

/* The place of the largest gradient norm behind layer i, -1: none is known. */
static int largest_behind(const struct diagnosed *d, int i)
{
    int at = -1;
    for (int j = i + 1; j < d->n; j++)
        if (!isnan(d->layers[j].gradient_norm) &&
            (at < 0 || d->layers[j].gradient_norm > d->layers[at].gradient_norm))
            at = j;
    return at;
}

static bool find_vanishing(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    double most = 0, least = INFINITY; /* most: of the layers up to this one */
    for (int i = 0; i < d->n; i++) {
        double g = d->layers[i].gradient_norm;
        int behind = largest_behind(d, i);
        if (isnan(g) || behind < 0)
            continue;
        most = g > most ? g : most;
        double reference = d->layers[behind].gradient_norm;
        if (!(most < rule->threshold * reference))
            continue;
        f->affected[i] = true;
        if (g >= least)
            continue;
        least = g;
        f->worst = i;
        snprintf(f->says, sizeof f->says,
                 "the gradient of layer '%.60s' has norm %.3g, %.2g of the %.3g of layer '%.60s' "
                 "behind it",
                 name_of(d, i), g, g / reference, reference, name_of(d, behind));
        f->figures[0].name = "gradient_norm", f->figures[0].value = g;
        f->figures[1].name = "largest_gradient_norm", f->figures[1].value = reference;
        f->figures[2].name = "ratio", f->figures[2].value = g / reference;
    }
    return least < INFINITY;
}

/* The last layer that has a gradient, -1: none has. */
static int last_with_gradient(const struct diagnosed *d)
{
    int i = d->n - 1;
    while (i >= 0 && !(d->layers[i].gradient_norm > 0))
        i--;
    return i;
}

/* The norm of all weights together: that of one layer may be small by design, as where a batch norm
 * begins at zero. */
static double all_weights(const struct diagnosed *d)
{
    double sum = 0;
    for (int i = 0; i < d->n; i++)
        if (!isnan(d->layers[i].weight_norm))
            sum += d->layers[i].weight_norm * d->layers[i].weight_norm;
    return sqrt(sum);
}

static bool find_exploding(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    int last = last_with_gradient(d);
    double most = 0, weights = all_weights(d);
    for (int i = 0; i < d->n; i++) {
        double g = d->layers[i].gradient_norm;
        bool deep = last >= 0 && g > rule->threshold * d->layers[last].gradient_norm;
        bool large = weights > 0 && g > rule->threshold * weights;
        if (!deep && !large)
            continue;
        f->affected[i] = true;
        if (g <= most)
            continue;
        most = g;
        f->worst = i;
        double reference = deep ? d->layers[last].gradient_norm : weights;
        snprintf(f->says, sizeof f->says,
                 "the gradient of layer '%.60s' has norm %.3g, %.2g times the %.3g of %s%.60s%s",
                 name_of(d, i), g, g / reference, reference, deep ? "layer '" : "all weights",
                 deep ? name_of(d, last) : "", deep ? "'" : "");
        f->figures[0].name = "gradient_norm", f->figures[0].value = g;
        f->figures[1].name = deep ? "last_gradient_norm" : "weight_norm";
        f->figures[1].value = reference;
        f->figures[2].name = "ratio", f->figures[2].value = g / reference;
    }
    return most > 0;
}

/* ---- units ----------------------------------------------------------------------------------- */

/* The share that must be dead, for units that have shown so many numbers. */
static double dead_limit(const struct rule *rule, int64_t numbers)
{
    return rule->threshold + (1 - rule->threshold) * pow(0.98, (double)numbers);
}

static bool find_dead(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    double most = 0;
    for (int i = 0; i < d->n; i++) {
        const struct layer_signals *l = &d->layers[i];
        double limit = dead_limit(rule, l->unit_numbers);
        if (!(l->dead_share >= limit) || l->unit_numbers < DEAD_NUMBERS)
            continue;
        f->affected[i] = true;
        if (l->dead_share <= most)
            continue;
        most = l->dead_share;
        f->worst = i;
        snprintf(f->says, sizeof f->says,
                 "%.3g%% of the units of layer '%.60s' (%s) were 0 for the whole batch, in each of "
                 "%lld numbers",
                 100 * most, name_of(d, i), node_op(l->layer), (long long)l->unit_numbers);
        f->figures[0].name = "dead_share", f->figures[0].value = most;
        f->figures[1].name = "numbers_per_unit";
        f->figures[1].value = (double)l->unit_numbers;
        f->figures[2].name = "limit", f->figures[2].value = limit;
    }
    return most > 0;
}

static bool is_output(const struct network *net, const struct node *n)
{
    for (int i = 0; i < net->n_outputs; i++)
        if (net->outputs[i] == n)
            return true;
    return false;
}

static bool find_saturated(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    double most = 0;
    for (int i = 0; i < d->n; i++) {
        const struct layer_signals *l = &d->layers[i];
        if (!(l->saturated_share >= rule->threshold) || is_output(d->net, l->layer))
            continue;
        f->affected[i] = true;
        if (l->saturated_share <= most)
            continue;
        most = l->saturated_share;
        f->worst = i;
        snprintf(f->says, sizeof f->says,
                 "%.3g%% of the outputs of layer '%.60s' (%s) lie where it is flat", 100 * most,
                 name_of(d, i), node_op(l->layer));
        f->figures[0].name = "saturated_share", f->figures[0].value = most;
        f->figures[1].name = "activation_mean", f->figures[1].value = l->activation_mean;
        f->figures[2].name = "activation_std", f->figures[2].value = l->activation_std;
    }
    return most > 0;
}

/* ---- the learning rate ----------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the layers' update ratios; NaN when none is known. `f` gets the extreme one. */
static double median_ratio(const struct diagnosed *d, bool largest, struct finding *f)
{
    double *ratios = calloc((size_t)d->n + 1, sizeof *ratios), extreme = NAN, median = NAN;
    int n = 0;
    for (int i = 0; ratios && i < d->n; i++) {
        double r = d->layers[i].update_ratio;
        if (isnan(r))
            continue;
        ratios[n++] = r;
        if (isnan(extreme) || (largest ? r > extreme : r < extreme)) {
            extreme = r;
            f->worst = i;
        }
    }
    if (n) {
        qsort(ratios, (size_t)n, sizeof *ratios, by_value);
        median = (ratios[(n - 1) / 2] + ratios[n / 2]) / 2;
    }
    free(ratios);
    return median;
}

static void rate_finding(const struct diagnosed *d, double median, const char *which,
                         struct finding *f)
{
    double extreme = d->layers[f->worst].update_ratio;
    snprintf(f->says, sizeof f->says,
             "a step changes the weights by %.2g of their norm (median of the layers; about 1e-3 "
             "is usual); %s in layer '%.60s': %.2g",
             median, which, name_of(d, f->worst), extreme);
    f->figures[0].name = "median_update_ratio", f->figures[0].value = median;
    f->figures[1].name = "update_ratio", f->figures[1].value = extreme;
}

static bool find_rate_high(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    double median = median_ratio(d, true, f);
    if (!(median > rule->threshold))
        return false;
    for (int i = 0; i < d->n; i++)
        f->affected[i] = d->layers[i].update_ratio > rule->threshold;
    rate_finding(d, median, "most", f);
    return true;
}

static bool find_rate_low(const struct rule *rule, const struct diagnosed *d, struct finding *f)
{
    double median = median_ratio(d, false, f);
    if (!(median < rule->threshold) || d->vanishing)
        return false;
    for (int i = 0; i < d->n; i++)
        f->affected[i] = d->layers[i].update_ratio < rule->threshold;
    rate_finding(d, median, "least", f);
    return true;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct rule rules[] = {
    {"vanishing_gradients", 1e-3, find_vanishing,
     "residual connections and batch or layer norm; relu or gelu in place of sigmoid and tanh; "
     "kaiming or xavier initial values; fewer layers"},
    {"exploding_gradients", 1e3, find_exploding,
     "clip_grad_norm; a smaller learning rate with warm-up; smaller initial values; batch or layer "
     "norm; inputs and targets scaled to about 1; a loss that is a mean, not a sum"},
    {"dead_relus", 0.4, find_dead,
     "a smaller learning rate; leaky_relu or gelu; kaiming initial values; batch norm before the "
     "activation; inputs centred on 0"},
    {"saturated_units", 0.5, find_saturated,
     "xavier initial values; batch or layer norm before the activation; a smaller learning rate; "
     "inputs scaled to about 1; relu or gelu"},
    {"learning_rate_too_high", 0.1, find_rate_high,
     "a learning rate ten times smaller; warm-up; clip_grad_norm"},
    {"learning_rate_too_low", 1e-5, find_rate_low,
     "a learning rate ten to a hundred times larger; adamw in place of sgd; a look at the schedule "
     "and at clip_grad_norm"},
};

static void finding_put(struct json_out *w, const struct rule *rule, const struct diagnosed *d,
                        const struct finding *f)
{
    out_open_object(w);
    out_put_string(w, "problem", rule->problem);
    out_put_string(w, "layer", name_of(d, f->worst));
    out_key(w, "layers");
    out_open_array(w);
    for (int i = 0; i < d->n; i++)
        if (f->affected[i])
            out_string(w, name_of(d, i));
    out_close(w);
    out_put_string(w, "says", f->says);
    out_key(w, "figures");
    out_open_object(w);
    for (int i = 0; i < FIGURES && f->figures[i].name; i++)
        out_put_double(w, f->figures[i].name, f->figures[i].value);
    out_put_double(w, "threshold", rule->threshold);
    out_close(w);
    out_put_string(w, "helps", rule->helps);
    out_close(w);
}

void diagnosis_put(struct json_out *w, const struct network *net,
                   const struct layer_signals *layers, int n)
{
    struct diagnosed d = {.net = net, .layers = layers, .n = n};
    bool *affected = malloc((size_t)n + 1);
    out_key(w, "diagnosis");
    out_open_array(w);
    for (size_t i = 0; i < sizeof rules / sizeof *rules && affected; i++) {
        struct finding f = {.affected = affected};
        memset(affected, 0, (size_t)n);
        if (!rules[i].find(&rules[i], &d, &f))
            continue;
        d.vanishing |= rules[i].find == find_vanishing;
        finding_put(w, &rules[i], &d, &f);
    }
    w->failed |= !affected;
    free(affected);
    out_close(w);
}
