/* expression.c: reading expressions by recursive descent, with the binding powers of the binary
 * operators in a table (Pratt). Each construct adds its node as soon as its operands are there, so
 * there is no syntax tree. Depth and length are limited: what a client sends cannot use up the
 * stack. */
#include "expression.h"
#include "expression_call.h"

#include <string.h>

enum { TEXT_MAX = 65536 };

static const struct binary {
    const char *symbol, *op;
    int left, right; /* how it binds to what stands left and right of it */
} binaries[] = {
    {"+", "add", 1, 2}, {"-", "sub", 1, 2},    {"*", "mul", 3, 4},
    {"/", "div", 3, 4}, {"@", "matmul", 3, 4}, {"**", "pow", 7, 6}, /* to the right */
};
enum { BINARIES = sizeof binaries / sizeof binaries[0], MINUS_BINDS = 5 };

/* An operand. A number becomes a node when an operator takes it, so that a minus before it can
 * still become a part of it. */
struct operand {
    struct node *node; /* NULL: a number */
    double number;
};

static int parse(struct parser *p, int binding, struct operand *r);

static const struct binary *binary_seen(const struct scanner *s)
{
    for (int i = 0; i < BINARIES; i++)
        if (scanner_sees(s, binaries[i].symbol))
            return &binaries[i];
    return NULL;
}

static struct node *operand_node(struct parser *p, struct operand *x)
{
    real value = (real)x->number;
    if (!x->node)
        x->node = graph_constant(p->graph, &(struct shape){0}, &value, p->scan.e);
    return x->node;
}

/* Adds an operator; its errors begin with the column of `at`. */
static int apply(struct parser *p, const char *op, const char *at, struct node *const *in, int n,
                 struct operand *r)
{
    for (int i = 0; i < n; i++)
        if (!in[i])
            return -1;
    r->node = graph_add(p->graph, op, NULL, in, n, NULL, 0, p->scan.e);
    return r->node ? 0 : error_prefix(p->scan.e, "column %d", scanner_column(&p->scan, at));
}

/* -x: binds tighter than * and looser than **, so that what follows takes its powers first. */
static int parse_sign(struct parser *p, struct operand *r)
{
    const char *at = p->scan.token.at;
    bool minus = scanner_sees(&p->scan, "-");
    if (scanner_advance(&p->scan) || parse(p, MINUS_BINDS, r))
        return -1;
    if (!minus)
        return 0;
    if (r->node)
        return apply(p, "neg", at, &r->node, 1, r);
    r->number = -r->number;
    return 0;
}

static int parse_parentheses(struct parser *p, struct operand *r)
{
    if (scanner_advance(&p->scan) || parse(p, 0, r))
        return -1;
    return scanner_expect(&p->scan, ")");
}

static int parse_name(struct parser *p, struct operand *r)
{
    if (scanner_sees_call(&p->scan, '('))
        r->node = call_parse(p);
    else
        r->node = symbol_parse(p);
    return r->node ? 0 : -1;
}

static int parse_prefix(struct parser *p, struct operand *r)
{
    const struct scanner *s = &p->scan;
    *r = (struct operand){.number = s->token.number};
    if (s->token.kind == TOKEN_NUMBER)
        return scanner_advance(&p->scan);
    if (s->token.kind == TOKEN_NAME)
        return parse_name(p, r);
    if (scanner_sees(s, "("))
        return parse_parentheses(p, r);
    if (scanner_sees(s, "-") || scanner_sees(s, "+"))
        return parse_sign(p, r);
    return scanner_unexpected(s, "a tensor, a number or an operator");
}

static int parse_binary(struct parser *p, const struct binary *b, struct operand *r)
{
    const char *at = p->scan.token.at;
    struct operand right;
    if (scanner_advance(&p->scan) || parse(p, b->right, &right))
        return -1;
    struct node *in[] = {operand_node(p, r), operand_node(p, &right)};
    return apply(p, b->op, at, in, 2, r);
}

/* What binds at least as tightly as `binding`. */
static int parse(struct parser *p, int binding, struct operand *r)
{
    const struct binary *b;
    if (parser_enter(p) || parse_prefix(p, r))
        return -1;
    while ((b = binary_seen(&p->scan)) && b->left >= binding)
        if (parse_binary(p, b, r))
            return -1;
    p->depth--;
    return 0;
}

struct node *parser_argument(struct parser *p)
{
    struct operand x;
    return parse(p, 0, &x) ? NULL : operand_node(p, &x);
}

static struct node *parse_text(struct parser *p, const char *text, struct error *e)
{
    if (strnlen(text, TEXT_MAX + 1) > TEXT_MAX) {
        error_set(e, ERROR_BAD_EXPRESSION, "expected an expression of at most %d bytes", TEXT_MAX);
        return NULL;
    }
    if (scanner_start(&p->scan, text, e))
        return NULL;
    struct node *n = parser_argument(p);
    if (n && p->scan.token.kind != TOKEN_END) {
        scanner_unexpected(&p->scan, "an operator or the end");
        return NULL;
    }
    return n;
}

struct node *expression_parse(struct graph *g, const char *text,
                              const struct expression_symbol *symbols, int n, struct error *e)
{
    struct parser p = {.graph = g, .symbols = symbols, .n_symbols = n};
    p.arena = arena_create(1024);
    if (!p.arena) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for an expression");
        return NULL;
    }
    struct node *result = parse_text(&p, text, e);
    arena_destroy(&p.arena);
    return result;
}
