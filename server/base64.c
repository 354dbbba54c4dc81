/* base64.c: four characters of six bits are three bytes. */
#include "base64.h"

enum { NOT_BASE64 = -1, SPACE = -2, PAD = -3 };

static int char_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    if (c == '/' || c == '_')
        return 63;
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
        return SPACE;
    return c == '=' ? PAD : NOT_BASE64;
}

/* What follows the first '=': more of them, up to two in all, and white space. */
static bool padding_ends(const char *text, size_t size, size_t at, unsigned characters,
                         size_t *bad_r)
{
    unsigned pads = 0;
    for (; at < size; at++) {
        int v = char_value(text[at]);
        pads += v == PAD;
        *bad_r = at;
        if ((v != PAD && v != SPACE) || pads > 2)
            return false;
    }
    *bad_r = size;
    return (characters + pads) % 4 == 0;
}

bool base64_decode(const char *text, size_t size, unsigned char *out, size_t *size_r, size_t *bad_r)
{
    unsigned bits = 0, characters = 0;
    size_t n = 0, at = 0;
    for (; at < size; at++) {
        int v = char_value(text[at]);
        if (v == SPACE)
            continue;
        if (v == PAD)
            break;
        *bad_r = at;
        if (v == NOT_BASE64)
            return false;
        bits = bits << 6 | (unsigned)v;
        characters++;
        if (characters % 4 == 0) {
            out[n++] = (unsigned char)(bits >> 16);
            out[n++] = (unsigned char)(bits >> 8);
            out[n++] = (unsigned char)bits;
        }
        characters %= 4;
    }
    if (at < size && !padding_ends(text, size, at, characters, bad_r))
        return false;
    *bad_r = size;
    if (characters == 1)
        return false;
    if (characters >= 2)
        out[n++] = (unsigned char)(characters == 2 ? bits >> 4 : bits >> 10);
    if (characters == 3)
        out[n++] = (unsigned char)(bits >> 2);
    *size_r = n;
    return true;
}
