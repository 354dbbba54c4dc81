/* rows.c: finding rows of optimisers, schedules and initialisers, and reading their attributes. */
#include "rows.h"

#include <stdio.h>
#include <string.h>

/* Row i of all tables; past the last, one without a name. */
static const struct row *row_at(const struct rows *rows, int i)
{
    for (int at = 0;; at++) {
        const struct row *row =
            (const struct row *)((const char *)rows->first + rows->size * (size_t)at);
        if (row->info.name ? i-- == 0 : !rows->next)
            return row;
        if (!row->info.name) {
            rows = rows->next;
            at = -1;
        }
    }
}

/* "sgd, adam, adamw", cut where `size` ends. */
static void print_names(const struct rows *rows, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; row_at(rows, i)->info.name && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
                                 row_at(rows, i)->info.name);
}

const struct row *rows_find(const struct rows *rows, const char *name, struct error *e)
{
    for (int i = 0; row_at(rows, i)->info.name; i++)
        if (strcmp(row_at(rows, i)->info.name, name) == 0)
            return row_at(rows, i);
    char names[256];
    print_names(rows, names, sizeof names);
    error_set(e, ERROR_UNKNOWN_OPERATOR, "no %s '%.60s'; there are %s", rows->kind, name, names);
    return NULL;
}

bool rows_info_at(const struct rows *rows, int i, struct optimizer_info *info_r)
{
    if (i < 0)
        return false;
    for (int j = 0; j <= i; j++)
        if (!row_at(rows, j)->info.name)
            return false;
    *info_r = row_at(rows, i)->info;
    return true;
}

void *rows_parse(const struct rows *rows, const struct row *row, const struct attr *attrs, int n,
                 struct arena *a, struct error *e)
{
    char what[96];
    snprintf(what, sizeof what, "%s '%s'", rows->kind, row->info.name);
    void *values = arena_alloc(a, row->attrs_size + 1);
    if (!values) {
        error_set(e, ERROR_OUT_OF_MEMORY, "%s: out of memory", what);
        return NULL;
    }
    if (attrs_parse(row->info.attrs, what, attrs, n, a, values, e))
        return NULL;
    return row->check && row->check(values, what, e) ? NULL : values;
}

static struct choice *choice_create(const struct rows *rows, struct error *e)
{
    struct arena *a = arena_create(256);
    struct choice *c = a ? arena_alloc(a, sizeof *c) : NULL;
    if (c) {
        c->arena = a;
        return c;
    }
    if (a)
        arena_destroy(&a);
    error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the %s", rows->kind);
    return NULL;
}

struct choice *rows_choose(const struct rows *rows, const char *name, const struct attr *attrs,
                           int n, struct error *e)
{
    const struct row *row = rows_find(rows, name, e);
    struct choice *c = row ? choice_create(rows, e) : NULL;
    if (!c)
        return NULL;
    c->row = row;
    c->attrs = rows_parse(rows, row, attrs, n, c->arena, e);
    if (!c->attrs)
        choice_destroy(&c);
    return c;
}

void choice_destroy(struct choice **c)
{
    if (!*c)
        return;
    struct arena *a = (*c)->arena; /* the choice itself lies in it */
    arena_destroy(&a);
    *c = NULL;
}
