/* coco_text.c: one pass over a body before it is read as JSON (coco_read.h). */
#include "coco_read.h"

#include "json_scan.h"

#include <string.h>

struct pass {
    const char *text; /* all of it */
    char *p, *end;
    size_t words; /* NaN and its like, so far */
    struct error *error;
};

/* One past the closing quote of the string that begins at p, or the end. */
static char *string_end(char *p, char *end)
{
    for (p++; p < end && *p != '"'; p++)
        p += *p == '\\' && p + 1 < end;
    return p < end ? p + 1 : end;
}

static char *skip_space(char *p, char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
        p++;
    return p;
}

/* One past the list at p if it has no characters but those of numbers and lists, else NULL. */
static char *numbers_end(char *p, char *end)
{
    static const bool those[256] = {
        ['['] = true,  [']'] = true,  ['0' ... '9'] = true, ['.'] = true, [','] = true,
        ['+'] = true,  ['-'] = true,  ['e'] = true,         ['E'] = true, [' '] = true,
        ['\n'] = true, ['\t'] = true, ['\r'] = true};
    int depth = 0;
    for (; p < end && those[(unsigned char)*p]; p++) {
        depth += (*p == '[') - (*p == ']');
        if (!depth)
            return p + 1;
    }
    return NULL;
}

/* `p` stands behind the key. Lines stay, for the places in errors. Nobody reads what is blanked, so
 * it is checked here: NULL with an error. */
static char *blank_numbers(struct pass *s, char *p)
{
    char *value = skip_space(p, s->end);
    if (value == s->end || *value != ':')
        return p;
    value = skip_space(value + 1, s->end);
    char *after = value < s->end && *value == '[' ? numbers_end(value, s->end) : NULL;
    if (!after)
        return value;
    if (json_check(s->text, value, after, s->error))
        return NULL;
    *value = '0';
    for (char *q = value + 1; q < after; q++)
        *q = *q == '\n' ? '\n' : ' ';
    return after;
}

/* The length of the word at p that is no JSON and stands for a number, else 0. */
static size_t word_length(const char *p, const char *end)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(end - p) >= n && memcmp(p, words[i], n) == 0)
            return n;
    }
    return 0;
}

static int scan(struct pass *s)
{
    static const char key[] = "\"segmentation\"";
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '"') {
            char *after = string_end(s->p, s->end);
            bool found = after - s->p == sizeof key - 1 && !memcmp(s->p, key, sizeof key - 1);
            s->p = found ? blank_numbers(s, after) : after;
            if (!s->p)
                return -1;
            continue;
        }
        size_t n = c == 'N' || c == 'I' || c == '-' ? word_length(s->p, s->end) : 0;
        s->words += n > 0;
        s->p += n ? n : 1;
    }
    return 0;
}

/* Copies, with quotes around the words. */
static char *copy_quoted(char *to, char *p, char *end)
{
    while (p < end) {
        bool string = *p == '"';
        size_t word = string ? 0 : word_length(p, end);
        size_t n = string ? (size_t)(string_end(p, end) - p) : word ? word : 1;
        if (word)
            *to++ = '"';
        to = (char *)memcpy(to, p, n) + n;
        if (word)
            *to++ = '"';
        p += n;
    }
    return to;
}

int coco_text_prepare(char **text, size_t *size, struct arena *a, struct error *e)
{
    struct pass s = {*text, *text, *text + *size, 0, e};
    if (scan(&s))
        return -1;
    if (!s.words)
        return 0;
    size_t room;
    char *copy = __builtin_add_overflow(*size, 2 * s.words, &room) ? NULL : arena_alloc(a, room);
    if (!copy)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for reading the body");
    *size = (size_t)(copy_quoted(copy, *text, *text + *size) - copy);
    *text = copy;
    return 0;
}
