/* expression_scan.c: cutting the text of an expression into tokens, and saying where one stands.
 * White space, also newlines, only separates. Columns count characters of UTF-8. */
#include "expression_scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX_LENGTH = 60 };

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"

static const char *const symbols[] = {"**", "*", "+", "-", "/", "@", "(", ")", "[", "]", ",", "="};
enum { SYMBOLS = sizeof symbols / sizeof symbols[0] };

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

int scanner_column(const struct scanner *s, const char *at)
{
    int column = 1;
    for (const char *p = s->text; p < at; p++)
        column += !is_continuation(p[0]);
    return column;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_digits(const char *p)
{
    return p + strspn(p, DIGITS);
}

/* Digits with a point and an exponent, each of which may be missing. */
static const char *number_end(const char *p)
{
    p = skip_digits(p);
    if (*p == '.')
        p = skip_digits(p + 1);
    if (*p == 'e' || *p == 'E') {
        const char *exponent = p + 1 + (p[1] == '+' || p[1] == '-');
        if (is_digit(*exponent))
            p = skip_digits(exponent);
    }
    return p;
}

static int scan_number(struct scanner *s, struct token *t)
{
    char digits[NUMBER_MAX_LENGTH + 1];
    const char *end = number_end(t->at);
    t->kind = TOKEN_NUMBER;
    t->length = (size_t)(end - t->at);
    t->integral = end == skip_digits(t->at);
    if (t->length > NUMBER_MAX_LENGTH)
        return error_set(s->e, ERROR_BAD_EXPRESSION,
                         "column %d: expected a number of at most %d characters, found %zu",
                         scanner_column(s, t->at), NUMBER_MAX_LENGTH, t->length);
    memcpy(digits, t->at, t->length);
    digits[t->length] = 0;
    t->number = strtod(digits, NULL);
    if (isfinite((real)t->number))
        return 0;
    return error_set(s->e, ERROR_BAD_EXPRESSION, "column %d: the number %s is too large",
                     scanner_column(s, t->at), digits);
}

static int scan_string(struct scanner *s, struct token *t)
{
    char quote[] = {*t->at++, 0};
    t->kind = TOKEN_STRING;
    t->length = strcspn(t->at, quote);
    if (t->at[t->length])
        return 0;
    return error_set(s->e, ERROR_BAD_EXPRESSION, "column %d: the string has no closing %s",
                     scanner_column(s, t->at - 1), quote);
}

/* A whole character of UTF-8 stands in the sentence, never a part of one. */
static int scan_symbol(struct scanner *s, struct token *t)
{
    t->kind = TOKEN_SYMBOL;
    for (int i = 0; i < SYMBOLS; i++) {
        t->length = strlen(symbols[i]);
        if (strncmp(t->at, symbols[i], t->length) == 0)
            return 0;
    }
    int n = 1;
    while (is_continuation(t->at[n]))
        n++;
    return error_set(s->e, ERROR_BAD_EXPRESSION, "column %d: unexpected character '%.*s'",
                     scanner_column(s, t->at), n, t->at);
}

static int scan_token(struct scanner *s, struct token *t)
{
    if (!*t->at)
        return 0;
    if (is_digit(t->at[0]) || (t->at[0] == '.' && is_digit(t->at[1])))
        return scan_number(s, t);
    if (*t->at == '\'' || *t->at == '"')
        return scan_string(s, t);
    t->length = strspn(t->at, LETTERS);
    if (!t->length)
        return scan_symbol(s, t);
    t->length = strspn(t->at, LETTERS DIGITS "."); /* conv1.weight */
    t->kind = TOKEN_NAME;
    return 0;
}

int scanner_advance(struct scanner *s)
{
    const char *at = s->next + strspn(s->next, " \t\r\n");
    struct token t = {.kind = TOKEN_END, .at = at};
    if (scan_token(s, &t))
        return -1;
    s->token = t;
    s->next = t.at + t.length + (t.kind == TOKEN_STRING);
    return 0;
}

int scanner_start(struct scanner *s, const char *text, struct error *e)
{
    *s = (struct scanner){.text = text, .next = text, .e = e};
    return scanner_advance(s);
}

bool scanner_sees(const struct scanner *s, const char *symbol)
{
    return s->token.kind == TOKEN_SYMBOL && strlen(symbol) == s->token.length &&
           memcmp(s->token.at, symbol, s->token.length) == 0;
}

bool scanner_sees_call(const struct scanner *s, char after)
{
    return s->token.kind == TOKEN_NAME && s->next[strspn(s->next, " \t\r\n")] == after;
}

int scanner_expect(struct scanner *s, const char *symbol)
{
    char expected[8];
    if (scanner_sees(s, symbol))
        return scanner_advance(s);
    snprintf(expected, sizeof expected, "'%s'", symbol);
    return scanner_unexpected(s, expected);
}

int scanner_unexpected(const struct scanner *s, const char *expected)
{
    const struct token *t = &s->token;
    int column = scanner_column(s, t->at - (t->kind == TOKEN_STRING));
    if (t->kind == TOKEN_END)
        return error_set(s->e, ERROR_BAD_EXPRESSION, "column %d: expected %s, found the end",
                         column, expected);
    int length = t->length < 40 ? (int)t->length : 40;
    while (length > 0 && is_continuation(t->at[length]))
        length--;
    return error_set(s->e, ERROR_BAD_EXPRESSION, "column %d: expected %s, found '%.*s'", column,
                     expected, length, t->at);
}
