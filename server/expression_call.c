/* expression_call.c: names in expressions: tensors, and calls of operators with their arguments.
 * Which operators there are, and what they take, comes from the engine's table. */
#include "expression_call.h"

#include <string.h>

struct call {
    const struct op_info *op;
    const char *at; /* its name in the text */
    struct node **in;
    int n_in, cap_in;
    struct attr *attrs;
    int n_attrs, cap_attrs;
};

/* ---- names ----------------------------------------------------------------------------------- */

static const struct expression_symbol *symbol_find(const struct parser *p, const char *name)
{
    for (int i = 0; i < p->n_symbols; i++)
        if (strcmp(p->symbols[i].name, name) == 0)
            return &p->symbols[i];
    return NULL;
}

/* The engine's table, walked once for a text. */
static int ops_load(struct parser *p)
{
    int n = 0, cap = 0;
    struct op_info info;
    while (op_info_at(n, &info)) {
        if (parser_reserve(p, (void **)&p->ops, n, &cap, sizeof *p->ops))
            return -1;
        p->ops[n++] = info;
    }
    p->n_ops = n;
    return 0;
}

/* NULL when there is none. */
static const struct op_info *op_info_find(const struct parser *p, const char *name)
{
    for (int i = 0; i < p->n_ops; i++)
        if (strcmp(p->ops[i].name, name) == 0)
            return &p->ops[i];
    return NULL;
}

static void offer_ops(const struct parser *p, struct nearest *near)
{
    for (int i = 0; i < p->n_ops; i++)
        nearest_offer(near, p->ops[i].name);
}

static void name_error(const struct parser *p, enum error_code code, const char *kind,
                       const struct nearest *near)
{
    error_set(p->scan.e, code, "column %d: no %s is called '%.60s'%s%s%s",
              scanner_column(&p->scan, p->scan.token.at), kind, near->given,
              near->best ? "; did you mean '" : "", near->best ? near->best : "",
              near->best ? "'?" : "");
}

static void symbol_error(const struct parser *p, const char *name)
{
    struct nearest near = {.given = name};
    if (op_info_find(p, name)) {
        error_set(p->scan.e, ERROR_BAD_EXPRESSION,
                  "column %d: '%s' is an operator: expected its arguments, as in %s(x)",
                  scanner_column(&p->scan, p->scan.token.at), name, name);
        return;
    }
    for (int i = 0; i < p->n_symbols; i++)
        nearest_offer(&near, p->symbols[i].name);
    offer_ops(p, &near);
    name_error(p, ERROR_BAD_EXPRESSION, "tensor", &near);
}

struct node *symbol_parse(struct parser *p)
{
    const char *name = parser_text(p);
    const struct expression_symbol *s = name ? symbol_find(p, name) : NULL;
    if (name && !s && (p->n_ops || !ops_load(p)))
        symbol_error(p, name);
    return s && !scanner_advance(&p->scan) ? s->node : NULL;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static const struct attr *attr_find(const struct call *c, const char *name)
{
    for (int i = 0; i < c->n_attrs; i++)
        if (strcmp(c->attrs[i].name, name) == 0)
            return &c->attrs[i];
    return NULL;
}

/* name=value */
static int keyword_read(struct parser *p, struct call *c)
{
    int column = scanner_column(&p->scan, p->scan.token.at);
    struct attr a = {.name = parser_text(p)};
    if (!a.name)
        return -1;
    if (attr_find(c, a.name))
        return error_set(p->scan.e, ERROR_BAD_EXPRESSION, "column %d: '%.60s' is given twice",
                         column, a.name);
    if (scanner_advance(&p->scan) || scanner_expect(&p->scan, "=") || attr_parse(p, &a) ||
        parser_reserve(p, (void **)&c->attrs, c->n_attrs, &c->cap_attrs, sizeof *c->attrs))
        return -1;
    c->attrs[c->n_attrs++] = a;
    return 0;
}

static int argument_read(struct parser *p, struct call *c)
{
    if (scanner_sees_call(&p->scan, '='))
        return keyword_read(p, c);
    if (c->n_attrs)
        return scanner_unexpected(&p->scan, "a keyword argument after another");
    struct node *n = parser_argument(p);
    if (!n || parser_reserve(p, (void **)&c->in, c->n_in, &c->cap_in, sizeof(struct node *)))
        return -1;
    c->in[c->n_in++] = n;
    return 0;
}

static int arguments_read(struct parser *p, struct call *c)
{
    if (scanner_expect(&p->scan, "("))
        return -1;
    while (!scanner_sees(&p->scan, ")")) {
        if (argument_read(p, c))
            return -1;
        if (scanner_sees(&p->scan, ")"))
            break;
        if (!scanner_sees(&p->scan, ","))
            return scanner_unexpected(&p->scan, "',' or ')'");
        if (scanner_advance(&p->scan))
            return -1;
    }
    return scanner_advance(&p->scan);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static bool has_attr(const struct op_info *op, const char *name)
{
    for (const struct attr_def *d = op->attrs; d && d->name; d++)
        if (strcmp(d->name, name) == 0 && d->type == ATTR_BOOL)
            return true;
    return false;
}

/* Parameters that are not brought and have a switch of their own name are switched off. */
static int switch_off(struct parser *p, struct call *c)
{
    for (int k = 0; c->op->params && c->op->params[k].name; k++) {
        const char *name = c->op->params[k].name;
        if (k < c->n_in - c->op->max_inputs || !has_attr(c->op, name) || attr_find(c, name))
            continue;
        if (parser_reserve(p, (void **)&c->attrs, c->n_attrs, &c->cap_attrs, sizeof *c->attrs))
            return -1;
        c->attrs[c->n_attrs++] = (struct attr){.name = name, .kind = ATTR_IS_BOOL};
    }
    return 0;
}

/* An expression has no parameters of its own. */
static struct node *call_add(struct parser *p, struct call *c)
{
    int column = scanner_column(&p->scan, c->at), before = graph_param_count(p->graph);
    struct node *n =
        graph_add(p->graph, c->op->name, NULL, c->in, c->n_in, c->attrs, c->n_attrs, p->scan.e);
    if (!n)
        error_prefix(p->scan.e, "column %d", column);
    if (!n || graph_param_count(p->graph) == before)
        return n;
    error_set(p->scan.e, ERROR_BAD_EXPRESSION, "column %d: %s needs its %s as an argument", column,
              c->op->name, graph_param(p->graph, before)->name);
    return NULL;
}

struct node *call_parse(struct parser *p)
{
    struct call c = {.at = p->scan.token.at};
    struct nearest near = {.given = parser_text(p)};
    if (!near.given || (!p->n_ops && ops_load(p)))
        return NULL;
    c.op = op_info_find(p, near.given);
    if (!c.op) {
        offer_ops(p, &near);
        name_error(p, ERROR_UNKNOWN_OPERATOR, "operator", &near);
        return NULL;
    }
    if (scanner_advance(&p->scan) || arguments_read(p, &c) || switch_off(p, &c))
        return NULL;
    return call_add(p, &c);
}
