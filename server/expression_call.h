/* expression_call.h: what the files of the expression parser share. */
#ifndef SERVER_EXPRESSION_CALL_H
#define SERVER_EXPRESSION_CALL_H

#include "expression.h"
#include "expression_scan.h"

struct parser {
    struct scanner scan;
    struct graph *graph;
    const struct expression_symbol *symbols;
    int n_symbols;
    struct arena *arena; /* arguments, for the time of parsing */
    int depth;           /* of nesting, which is the depth of the C stack */
    struct op_info *ops; /* the engine's operators, when they were needed */
    int n_ops;
};

/* Counts one more level of nesting; the caller counts it down. BAD_EXPRESSION when too deep. */
int parser_enter(struct parser *p);

/* The token's text as a string in the arena. NULL: out of memory. */
char *parser_text(struct parser *p);
/* Makes room for one more item after `count` of `size` bytes; the array moves within the arena. */
int parser_reserve(struct parser *p, void **array, int count, int *cap, size_t size);

/* An expression up to a comma, a closing parenthesis or the end. NULL and the error. */
struct node *parser_argument(struct parser *p);

/* At a name before '(': an operator and its arguments. NULL and the error. */
struct node *call_parse(struct parser *p);
/* At another name: a tensor. NULL and the error. */
struct node *symbol_parse(struct parser *p);

/* The value of a keyword argument. BAD_EXPRESSION. */
int attr_parse(struct parser *p, struct attr *a);

#endif
