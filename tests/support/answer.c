/* answer.c: reading answers: headers, JSON by path, and the checks that most tests make. */
#include "client_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *answer_header(const struct answer *a, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = a->headers; line && line < a->headers + a->headers_size;
         line += strlen(line) + 1)
        if (!strncasecmp(line, name, n) && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    return NULL;
}

static void print_answer(const struct answer *a)
{
    enum { SHOWN = 2000 };
    print_error("%s\n%.*s%s\n", a->headers ? a->headers : "(no headers)", SHOWN, a->body,
                a->size > SHOWN ? "..." : "");
}

json_t *answer_json(struct answer *a)
{
    json_error_t e;
    if (!a->json)
        a->json = json_loadb(a->body, a->size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (!a->json) {
        print_answer(a);
        fail_msg("the answer is no JSON: %s", e.text);
    }
    return a->json;
}

json_t *answer_find(struct answer *a, const char *path)
{
    json_t *at = answer_json(a);
    while (at && *path) {
        size_t n = strcspn(path, ".");
        char key[128];
        assert_true(n < sizeof key);
        memcpy(key, path, n);
        key[n] = 0;
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
        path += n + (path[n] == '.');
    }
    return at;
}

static json_t *find_of_type(struct answer *a, const char *path, bool wanted_number)
{
    json_t *value = answer_find(a, path);
    if (wanted_number ? json_is_number(value) : json_is_string(value))
        return value;
    print_answer(a);
    fail_msg("no %s at '%s'", wanted_number ? "number" : "string", path);
    return NULL;
}

double answer_number(struct answer *a, const char *path)
{
    return json_number_value(find_of_type(a, path, true));
}

const char *answer_string(struct answer *a, const char *path)
{
    return json_string_value(find_of_type(a, path, false));
}

void answer_expect_at(struct answer *a, int status, const char *file, int line)
{
    if (a->status == status)
        return;
    print_answer(a);
    print_error("status %d, expected %d\n", a->status, status);
    _fail(file, line);
}

void answer_refused_at(struct answer *a, int status, const char *slug, const char *part,
                       const char *file, int line)
{
    answer_expect_at(a, status, file, line);
    const char *code = answer_string(a, "code"), *sentence = answer_string(a, "error");
    if (!strcmp(code, slug) && *sentence && (!part || strstr(sentence, part)))
        return;
    print_answer(a);
    print_error("expected code '%s' and a sentence with '%s'\n", slug, part ? part : "");
    _fail(file, line);
}
