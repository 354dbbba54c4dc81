/* bench_words.c: the flags of `backpropd bench`. */
#include "bench_words.h"

#include "bench.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum word_type { WORD_TEXT, WORD_WHOLE, WORD_SECONDS, WORD_FLAG };

#define WORD(field) offsetof(struct bench_words, field)
static const struct word {
    const char *flag;
    enum word_type type;
    size_t offset;
    double max;
} words[] = {
    {"--nets", WORD_TEXT, WORD(nets), 0},
    {"--mode", WORD_TEXT, WORD(mode), 0},
    {"--batch", WORD_WHOLE, WORD(batch), 65536},
    {"--threads", WORD_WHOLE, WORD(threads), 1024},
    {"--seconds", WORD_SECONDS, WORD(seconds), 3600},
    {"--profile", WORD_FLAG, WORD(profile), 0},
    {"--json", WORD_FLAG, WORD(json), 0},
    {"--describe", WORD_TEXT, WORD(describe), 0},
};
enum { WORDS = sizeof words / sizeof *words };

void bench_print_completion(FILE *out)
{
    fputs("    _backpropd_words '", out);
    for (int i = 0; i < WORDS; i++)
        fprintf(out, "%s%s", i ? " " : "", words[i].flag);
    fputs("'\n", out);
}

const char bench_forms[] = "bench [--nets NAME,NAME] [--mode train|infer] [--batch N] "
                           "[--threads N] [--seconds S] [--profile] [--json]; bench --describe "
                           "NAME";

static int usage(struct error *e)
{
    return error_set(e, ERROR_BAD_VALUE, "expected: %s", bench_forms);
}

static int read_number(const struct word *word, const char *text, void *at, struct error *e)
{
    char *end;
    const double value = strtod(text, &end);
    const bool whole = word->type == WORD_WHOLE;
    if (end == text || *end || !(value > 0) || value > word->max ||
        (whole && value != (double)(int64_t)value))
        return error_set(e, ERROR_BAD_VALUE,
                         "%s is '%.40s', expected a %snumber above 0, at most %g", word->flag, text,
                         whole ? "whole " : "", word->max);
    if (whole)
        *(int64_t *)at = (int64_t)value;
    else
        *(double *)at = value;
    return 0;
}

/* The flag at argv[*i], whose value is the next word. */
static int read_word(struct bench_words *w, char **argv, int *i, struct error *e)
{
    for (int k = 0; k < WORDS; k++) {
        const struct word *word = &words[k];
        void *at = (char *)w + word->offset;
        if (strcmp(argv[*i], word->flag))
            continue;
        if (word->type == WORD_FLAG) {
            *(bool *)at = true;
            return 0;
        }
        if (!argv[*i + 1])
            return usage(e);
        const char *text = argv[++*i];
        if (word->type != WORD_TEXT)
            return read_number(word, text, at, e);
        *(const char **)at = text;
        return 0;
    }
    return usage(e);
}

bool bench_words_have(const char *list, const char *name)
{
    if (!list)
        return true;
    for (size_t n; *list; list += n + (list[n] == ',')) {
        n = strcspn(list, ",");
        if (strlen(name) == n && strncmp(list, name, n) == 0)
            return true;
    }
    return false;
}

/* Each name of the list is a net's. */
static int check_nets(const char *list, struct error *e)
{
    for (size_t n; list && *list; list += n + (list[n] == ',')) {
        bool found = false;
        n = strcspn(list, ",");
        for (const struct bench_net *net = bench_nets; net->name; net++)
            found = found || (strlen(net->name) == n && strncmp(net->name, list, n) == 0);
        if (!found)
            return error_set(e, ERROR_BAD_VALUE,
                             "no net is called '%.*s', expected mlp, lenet, cifar, resnet18, "
                             "resnet18_224, char_gpt or yolo_n",
                             (int)(n < 40 ? n : 40), list);
    }
    return 0;
}

int bench_words_read(struct bench_words *w, char **argv, struct error *e)
{
    *w = (struct bench_words){.seconds = 2};
    for (int i = 0; argv[i]; i++)
        if (read_word(w, argv, &i, e))
            return -1;
    if (w->mode && strcmp(w->mode, "train") != 0 && strcmp(w->mode, "infer") != 0)
        return error_set(e, ERROR_BAD_VALUE, "--mode is '%.40s', expected train or infer", w->mode);
    return check_nets(w->nets, e) || check_nets(w->describe, e) ? -1 : 0;
}
