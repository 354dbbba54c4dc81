/* expression_attr.c: the values of keyword arguments, and what the parser's files share: the count
 * of its depth and its memory. */
#include "expression_call.h"

#include <string.h>

enum { DEPTH_MAX = 200 };

int parser_enter(struct parser *p)
{
    if (++p->depth <= DEPTH_MAX)
        return 0;
    return error_set(p->scan.e, ERROR_BAD_EXPRESSION,
                     "column %d: expected at most %d levels of nesting",
                     scanner_column(&p->scan, p->scan.token.at), DEPTH_MAX);
}

static int no_memory(struct parser *p)
{
    return error_set(p->scan.e, ERROR_OUT_OF_MEMORY, "out of memory for an expression");
}

char *parser_text(struct parser *p)
{
    const struct token *t = &p->scan.token;
    char *text = arena_alloc(p->arena, t->length + 1);
    if (text)
        memcpy(text, t->at, t->length);
    else
        no_memory(p);
    return text;
}

int parser_reserve(struct parser *p, void **array, int count, int *cap, size_t size)
{
    if (count < *cap)
        return 0;
    int want = *cap ? 2 * *cap : 4;
    void *more = arena_array(p->arena, (size_t)want, size);
    if (!more)
        return no_memory(p);
    if (count)
        memcpy(more, *array, (size_t)count * size);
    *array = more;
    *cap = want;
    return 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A number with its sign. */
static int number_read(struct parser *p, struct attr *a)
{
    bool minus = scanner_sees(&p->scan, "-");
    if ((minus || scanner_sees(&p->scan, "+")) && scanner_advance(&p->scan))
        return -1;
    const struct token *t = &p->scan.token;
    if (t->kind != TOKEN_NUMBER)
        return scanner_unexpected(&p->scan, "a number");
    a->d = minus ? -t->number : t->number;
    a->kind = t->integral && t->number < 9e15 ? ATTR_IS_INT : ATTR_IS_REAL;
    a->i = a->kind == ATTR_IS_INT ? (int64_t)a->d : 0;
    return scanner_advance(&p->scan);
}

static int list_read(struct parser *p, struct attr *a)
{
    double *numbers = NULL;
    int cap = 0;
    a->kind = ATTR_IS_LIST;
    if (scanner_advance(&p->scan))
        return -1;
    while (!scanner_sees(&p->scan, "]")) {
        struct attr item;
        if (a->n_list && scanner_expect(&p->scan, ","))
            return -1;
        if (number_read(p, &item) ||
            parser_reserve(p, (void **)&numbers, a->n_list, &cap, sizeof *numbers))
            return -1;
        numbers[a->n_list++] = item.d;
    }
    a->list = numbers;
    return scanner_advance(&p->scan);
}

static const struct {
    const char *word;
    enum attr_kind kind;
    int64_t i;
} words[] = {
    {"true", ATTR_IS_BOOL, 1},  {"True", ATTR_IS_BOOL, 1}, {"false", ATTR_IS_BOOL, 0},
    {"False", ATTR_IS_BOOL, 0}, {"none", ATTR_IS_NULL, 0}, {"None", ATTR_IS_NULL, 0},
    {"null", ATTR_IS_NULL, 0},
};
enum { WORDS = sizeof words / sizeof words[0] };

static int word_read(struct parser *p, struct attr *a)
{
    const char *text = parser_text(p);
    if (!text)
        return -1;
    for (int i = 0; i < WORDS; i++)
        if (strcmp(words[i].word, text) == 0) {
            a->kind = words[i].kind;
            a->i = words[i].i;
            return scanner_advance(&p->scan);
        }
    return scanner_unexpected(&p->scan, "a number, true, false, none, a string or a list");
}

int attr_parse(struct parser *p, struct attr *a)
{
    if (p->scan.token.kind == TOKEN_NAME)
        return word_read(p, a);
    if (scanner_sees(&p->scan, "["))
        return list_read(p, a);
    if (p->scan.token.kind != TOKEN_STRING)
        return number_read(p, a);
    a->kind = ATTR_IS_STRING;
    a->s = parser_text(p);
    return a->s ? scanner_advance(&p->scan) : -1;
}
