/* expression_scan.h: the tokens of an expression. */
#ifndef SERVER_EXPRESSION_SCAN_H
#define SERVER_EXPRESSION_SCAN_H

#include "backprop.h"

enum token_kind { TOKEN_END, TOKEN_NUMBER, TOKEN_NAME, TOKEN_STRING, TOKEN_SYMBOL };

struct token {
    enum token_kind kind;
    const char *at; /* in the text; a string's without its quotes */
    size_t length;
    double number; /* NUMBER */
    bool integral; /* written without point and exponent */
};

struct scanner {
    const char *text;
    struct token token; /* the one that is looked at */
    const char *next;   /* the text after it */
    struct error *e;
};

/* Starts with the first token. -1 and BAD_EXPRESSION, as below. */
int scanner_start(struct scanner *s, const char *text, struct error *e);
int scanner_advance(struct scanner *s);

bool scanner_sees(const struct scanner *s, const char *symbol); /* "(", "**" */
bool scanner_sees_call(const struct scanner *s, char after);    /* a name, then `after` */
/* Takes the symbol, or says what was found in its place. */
int scanner_expect(struct scanner *s, const char *symbol);

/* Writes BAD_EXPRESSION "column 7: expected <expected>, found <the token>"; -1. */
int scanner_unexpected(const struct scanner *s, const char *expected);
/* The column of a place in the text, in characters from 1. */
int scanner_column(const struct scanner *s, const char *at);

#endif
