/* expression.h: text such as "(w*x-10)**2" to nodes of a graph, for POST /v2/autograd.
 *
 * The language is Python's arithmetic on tensors:
 *
 *   numbers, names of tensors, parentheses
 *   a + b   a - b   a * b   a / b   a ** b   a @ b (matmul)   -a   +a
 *   relu(x)   softmax(x, dim=1)   sum(x, dim=[0,1], keepdim=true)   conv2d(x, w, b, stride=2)
 *
 * ** binds tightest and to the right, and tighter than a minus before it: -a**2 is -(a**2). A
 * call names any operator of the engine; its positional arguments are tensors, its keyword
 * arguments (numbers, true, false, none, 'text', [lists of numbers]) are the attributes. Parameters
 * of an operator are arguments after its inputs; one that is left out and can be switched off is,
 * as in torch.nn.functional: conv2d(x, w) has no bias. */
#ifndef SERVER_EXPRESSION_H
#define SERVER_EXPRESSION_H

#include "backprop.h"

/* A tensor that the text may name: a leaf of the graph. */
struct expression_symbol {
    const char *name;
    struct node *node;
};

/* Adds the text's nodes to `g`, which has no parameters, and gives the last one, which is a leaf
 * when the text only names a tensor or a number. Sentences begin with the place: "column 7: ...".
 * NULL and BAD_EXPRESSION, UNKNOWN_OPERATOR, or what graph_add says (BAD_SHAPE, ...). `g` may then
 * hold nodes that nothing uses. Several threads may call for different graphs. */
struct node *expression_parse(struct graph *g, const char *text,
                              const struct expression_symbol *symbols, int n, struct error *e);

#endif
