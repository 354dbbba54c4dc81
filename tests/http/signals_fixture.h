/* signals_fixture.h: reading what a step says of each layer, for the tests of signals and of their
 * diagnosis. */
#ifndef SIGNALS_FIXTURE_H
#define SIGNALS_FIXTURE_H

#include "../support/remote.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WITH(names) "\"parameters\":{" names "}"

/* The field of the entry of a list whose "name" is `name`. */
static inline json_t *named(struct answer *a, const char *list, const char *name, const char *field)
{
    size_t i;
    json_t *item;
    json_array_foreach(answer_find(a, list), i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0)
            return json_object_get(item, field);
    }
    fail_msg("%s has no '%s': %.400s", list, name, a->body);
    return NULL;
}

static inline double named_number(struct answer *a, const char *list, const char *name,
                                  const char *field)
{
    json_t *x = named(a, list, name, field);
    if (!json_is_number(x))
        fail_msg("%s of '%s' is no number", field, name);
    return json_number_value(x);
}

static inline double at(json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

static inline void close_to(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fmax(fabs(a), fabs(b))))
        fail_msg("%.9g, expected %.9g", a, b);
}

/* A net whose numbers are known: hidden = 2 everywhere or below 0, by its bias. */
#define KNOWN(activation, bias)                                                                    \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[-1,4]}],\"layers\":[{\"name\":\"hidden\","            \
    "\"op\":\"linear\",\"out_features\":8,\"init\":{\"weight\":\"zeros\",\"bias\":{\"op\":"        \
    "\"constant\",\"value\":" bias "}}},{\"name\":\"act\",\"op\":\"" activation "\"},"             \
    "{\"name\":\"out\",\"op\":\"linear\",\"out_features\":3}],\"loss\":\"cross_entropy\","         \
    "\"optimizer\":{\"op\":\"sgd\",\"lr\":0.01},\"seed\":1}"

static inline struct answer *ask(struct client *c, const char *name, int n)
{
    return remote_post(c, name, "gradients", remote_batch(c, 1, n, 4, WITH("\"signals\":true")));
}

#endif
