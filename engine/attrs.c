/* attrs.c: attributes as a client gives them, checked against a table and stored in a struct. One
 * parser for operators, optimisers, schedules and initialisers; the tables are in their files. */
#include "backprop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One attribute being read: its row, where its value goes, and how its sentences begin. */
struct target {
    const struct attr_def *def;
    void *value;
    const char *what;
    struct arena *arena;
    bool trusted; /* a fallback, which may lie outside the range to stand for "not given" */
    struct error *e;
};

static int refuse(const struct target *t, const char *expected, const char *found)
{
    return error_set(t->e, ERROR_BAD_ATTRIBUTE, "%s: attribute '%s' must be %s, not %s", t->what,
                     t->def->name, expected, found);
}

static const char *const kind_names[] = {
    [ATTR_IS_NULL] = "null",      [ATTR_IS_INT] = "an integer",  [ATTR_IS_REAL] = "a fraction",
    [ATTR_IS_BOOL] = "a boolean", [ATTR_IS_STRING] = "a string", [ATTR_IS_LIST] = "a list",
};

static int check_range(const struct target *t, double x, bool integral)
{
    const struct attr_def *d = t->def;
    char found[40], expected[96];
    if (t->trusted)
        return 0;
    snprintf(found, sizeof found, "%.10g", x);
    if (integral && (x != floor(x) || fabs(x) > 9007199254740992.0))
        return refuse(t, "an integer", found);
    if (x >= d->min && x <= d->max)
        return 0;
    if (isinf(d->max))
        snprintf(expected, sizeof expected, "at least %.10g", d->min);
    else
        snprintf(expected, sizeof expected, "within [%.10g, %.10g]", d->min, d->max);
    return refuse(t, expected, found);
}

static bool is_word(const struct target *t, const struct attr *a)
{
    return a->kind == ATTR_IS_STRING && t->def->choices && strcmp(a->s, t->def->choices) == 0;
}

static int store_int(const struct target *t, const struct attr *a)
{
    if (is_word(t, a)) {
        *(int64_t *)t->value = -1;
        return 0;
    }
    if (a->kind != ATTR_IS_INT && a->kind != ATTR_IS_REAL)
        return refuse(t, "an integer", kind_names[a->kind]);
    if (check_range(t, a->d, true))
        return -1;
    *(int64_t *)t->value = (int64_t)a->d;
    return 0;
}

static int store_real(const struct target *t, const struct attr *a)
{
    if (a->kind != ATTR_IS_INT && a->kind != ATTR_IS_REAL)
        return refuse(t, "a number", kind_names[a->kind]);
    if (check_range(t, a->d, false))
        return -1;
    *(double *)t->value = a->d;
    return 0;
}

static int store_bool(const struct target *t, const struct attr *a)
{
    if (a->kind != ATTR_IS_BOOL)
        return refuse(t, "true or false", kind_names[a->kind]);
    *(bool *)t->value = a->i != 0;
    return 0;
}

static int store_choice(const struct target *t, const struct attr *a)
{
    char expected[160];
    snprintf(expected, sizeof expected, "one of %s", t->def->choices);
    if (a->kind != ATTR_IS_STRING)
        return refuse(t, expected, kind_names[a->kind]);
    size_t n = strlen(a->s);
    int place = 0;
    for (const char *c = t->def->choices; c; place++) {
        size_t len = strcspn(c, "|");
        if (len == n && memcmp(c, a->s, n) == 0) {
            *(int *)t->value = place;
            return 0;
        }
        c = c[len] ? c + len + 1 : NULL;
    }
    char found[64];
    snprintf(found, sizeof found, "'%.40s'", a->s);
    return refuse(t, expected, found);
}

/* A list, or a number as a list of one. */
static int as_list(const struct target *t, const struct attr *a, const double **v_r, int *n_r)
{
    if (a->kind == ATTR_IS_LIST) {
        *v_r = a->list;
        *n_r = a->n_list;
        return 0;
    }
    if (a->kind != ATTR_IS_INT && a->kind != ATTR_IS_REAL)
        return refuse(t, "a number or a list of numbers", kind_names[a->kind]);
    *v_r = &a->d;
    *n_r = 1;
    return 0;
}

static int store_pair(const struct target *t, const struct attr *a)
{
    const double *v;
    int n;
    if (is_word(t, a)) {
        ((int64_t *)t->value)[0] = ((int64_t *)t->value)[1] = -1;
        return 0;
    }
    if (as_list(t, a, &v, &n))
        return -1;
    if (n != 1 && n != 2)
        return refuse(t, "one or two integers", "a list of another length");
    for (int i = 0; i < 2; i++) {
        double x = v[n == 2 ? i : 0];
        if (check_range(t, x, true))
            return -1;
        ((int64_t *)t->value)[i] = (int64_t)x;
    }
    return 0;
}

static int store_ints(const struct target *t, const struct attr *a)
{
    struct int_list *list = t->value;
    const double *v;
    int n;
    if (as_list(t, a, &v, &n))
        return -1;
    if (n > SHAPE_MAX_RANK)
        return refuse(t, "at most 8 integers", "a longer list");
    for (int i = 0; i < n; i++) {
        if (check_range(t, v[i], true))
            return -1;
        list->v[i] = (int64_t)v[i];
    }
    list->n = n;
    return 0;
}

static int store_reals(const struct target *t, const struct attr *a)
{
    struct real_list *list = t->value;
    const double *v;
    int n;
    if (as_list(t, a, &v, &n))
        return -1;
    double *copy = arena_array(t->arena, (size_t)n + 1, sizeof *copy);
    if (!copy)
        return error_set(t->e, ERROR_OUT_OF_MEMORY, "%s: out of memory", t->what);
    for (int i = 0; i < n; i++) {
        if (check_range(t, v[i], false))
            return -1;
        copy[i] = v[i];
    }
    *list = (struct real_list){n, copy};
    return 0;
}

static int check_fact(const struct target *t, const struct attr *a)
{
    if (a->kind != ATTR_IS_INT && a->kind != ATTR_IS_REAL)
        return refuse(t, "an integer", kind_names[a->kind]);
    return check_range(t, a->d, true);
}

static int (*const store[])(const struct target *, const struct attr *) = {
    [ATTR_INT] = store_int,       [ATTR_REAL] = store_real, [ATTR_BOOL] = store_bool,
    [ATTR_CHOICE] = store_choice, [ATTR_PAIR] = store_pair, [ATTR_INTS] = store_ints,
    [ATTR_REALS] = store_reals,   [ATTR_FACT] = check_fact,
};

/* The fallback's text as an attribute. Lists fall back to "" (empty) or one number. */
static struct attr fallback_attr(const struct attr_def *d)
{
    struct attr a = {.name = d->name, .s = d->fallback};
    if (d->type == ATTR_BOOL) {
        a.kind = ATTR_IS_BOOL;
        a.i = strcmp(d->fallback, "true") == 0;
    } else if (d->type == ATTR_CHOICE) {
        a.kind = ATTR_IS_STRING;
    } else if (d->fallback[0]) {
        a.kind = ATTR_IS_REAL;
        a.d = strtod(d->fallback, NULL);
    } else {
        a.kind = ATTR_IS_LIST;
    }
    return a;
}

static const struct attr *given_find(const struct attr *given, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(given[i].name, name) == 0)
            return &given[i];
    return NULL;
}

static int refuse_name(const struct attr_def *defs, const char *what, const char *name,
                       const struct nearest *near, struct error *e)
{
    char known[300] = "";
    size_t used = 0;
    if (near->best)
        return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: no attribute '%.60s'; did you mean '%s'?",
                         what, name, near->best);
    for (const struct attr_def *d = defs; d && d->name && used < sizeof known; d++)
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", d->name);
    return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: no attribute '%.60s'; %s%s", what, name,
                     used ? "there are: " : "it has none", known);
}

static int check_known(const struct attr_def *defs, const char *what, const struct attr *given,
                       int n, struct error *e)
{
    for (int i = 0; i < n; i++) {
        struct nearest near = {.given = given[i].name};
        const struct attr_def *d = defs;
        for (; d && d->name && strcmp(d->name, given[i].name) != 0; d++)
            nearest_offer(&near, d->name);
        if (d && d->name)
            continue;
        return refuse_name(defs, what, given[i].name, &near, e);
    }
    return 0;
}

int attrs_parse(const struct attr_def *defs, const char *what, const struct attr *given,
                int n_given, struct arena *a, void *values, struct error *e)
{
    if (check_known(defs, what, given, n_given, e))
        return -1;
    for (const struct attr_def *d = defs; d && d->name; d++) {
        const struct attr *found = given_find(given, n_given, d->name);
        struct attr fallback;
        if (!found && !d->fallback)
            return error_set(e, ERROR_BAD_ATTRIBUTE, "%s: attribute '%s' is missing (%s)", what,
                             d->name, d->doc);
        if (!found || (found->kind == ATTR_IS_NULL && d->fallback)) {
            fallback = fallback_attr(d);
            if (found && d->type == ATTR_REAL && d->choices)
                fallback.d = strtod(d->choices, NULL);
            found = &fallback;
        }
        /* Facts are not kept. */
        void *at = d->type == ATTR_FACT ? NULL : (char *)values + d->offset;
        struct target t = {d, at, what, a, found == &fallback, e};
        if (store[d->type](&t, found))
            return -1;
    }
    return 0;
}
