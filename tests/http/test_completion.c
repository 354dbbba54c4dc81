/* test_completion.c: bash completes what --help lists: the script of --completion bash, called as
 * bash calls it. */
#include "../support/daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void write_script(struct daemon *d)
{
    struct outcome o;
    char path[320];
    daemon_command(d, &o, WORDS("--completion", "bash"));
    assert_int_equal(o.status, 0);
    snprintf(path, sizeof path, "%s/completion", d->folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(o.out, f);
    fclose(f);
}

struct offered {
    char text[4096]; /* " --listen --data " */
};

/* What is offered for the last word of `line`, which is in bash's words. */
static struct offered complete(struct daemon *d, const char *line)
{
    char command[1024];
    struct offered o = {.text = ""};
    snprintf(
        command, sizeof command,
        "cd %s && bash -c '. ./completion; COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1));"
        " COMPREPLY=(); _backpropd; echo \" ${COMPREPLY[*]} \"'",
        d->folder, line);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(o.text, 1, sizeof o.text - 1, f);
    assert_int_equal(pclose(f), 0);
    o.text[n - 1] = 0; /* the line's end */
    return o;
}

static bool offers(const struct offered *o, const char *word)
{
    char spaced[96];
    snprintf(spaced, sizeof spaced, " %s ", word);
    return strstr(o->text, spaced);
}

static int count_words(const char *text)
{
    int n = 0;
    for (size_t size; text += strspn(text, " "), (size = strcspn(text, " ")) > 0; text += size)
        n++;
    return n;
}

/* "a|b" as bash offers it. */
static void expect_choices(struct daemon *d, const char *flag, const char *value)
{
    char line[96], expected[96];
    snprintf(line, sizeof line, "backpropd %s \"\"", flag);
    snprintf(expected, sizeof expected, " %s ", value);
    for (char *c = expected; *c; c++)
        *c = *c == '|' ? ' ' : *c;
    assert_string_equal(complete(d, line).text, expected);
}

/* Every flag that --help lists and no other; and the choices of those that have them. */
static void flags_of_help(struct daemon *d)
{
    struct outcome o;
    write_script(d);
    struct offered all = complete(d, "backpropd --threads 2 --");
    daemon_command(d, &o, WORDS("--help"));
    int flags = 0, negated = 0, choices = 0;
    for (const char *at = o.out; (at = strstr(at, "\n  --")); flags++) {
        char name[64], value[64], no[80];
        at += 3;
        assert_true(sscanf(at, "%63[^ \n] %63s", name, value) >= 1);
        if (!offers(&all, name))
            fail_msg("%s is not completed:%s", name, all.text);
        snprintf(no, sizeof no, "--no-%s", name + 2);
        negated += offers(&all, no);
        if (!strchr(value, '|'))
            continue;
        expect_choices(d, name, value);
        choices++;
    }
    assert_true(flags > 20 && choices >= 2);
    assert_int_equal(count_words(all.text), flags + negated);
}

/* Commands come first on the line only. */
static void commands_of_help(struct daemon *d)
{
    struct outcome o;
    write_script(d);
    struct offered first = complete(d, "backpropd \"\""),
                   later = complete(d, "backpropd --version \"\"");
    daemon_command(d, &o, WORDS("--help"));
    int commands = 0;
    for (const char *at = o.out; (at = strstr(at, "\n       backpropd ")); commands++) {
        char name[32];
        at += strlen("\n       backpropd ");
        assert_int_equal(sscanf(at, "%31s", name), 1);
        if (!offers(&first, name) || offers(&later, name))
            fail_msg("%s is not completed as the first word:%s", name, first.text);
    }
    assert_true(commands >= 3);
    assert_int_equal(count_words(first.text), count_words(later.text) + commands);
}

static void words_and_values(struct daemon *d)
{
    static const struct {
        const char *line, *offered;
    } rows[] = {
        {"backpropd --log-f", " --log-format "},
        {"backpropd --no-s", " --no-sandbox "},
        {"backpropd --log-format j", " json "},
        {"backpropd --log-format = j", " json "}, /* --log-format=j */
        {"backpropd --log-format =", " logfmt json "},
        {"backpropd --threads \"\"", "  "},
        {"backpropd --data da", " data "},
        {"backpropd --config completi", " completion "},
        {"backpropd chec", " check "},
        {"backpropd check da", " data "},
        {"backpropd backup data da", " data "},
        {"backpropd keys \"\"", " add list revoke "},
        {"backpropd keys add --ro", " --role "},
        {"backpropd keys add --role \"\"", " read train admin "},
        {"backpropd keys add --name \"\"", "  "},
        {"backpropd keys add da", " data "},
        {"backpropd keys list --", "  "},
        {"backpropd keys revoke --", " --name "},
    };
    write_script(d);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct offered o = complete(d, rows[i].line);
        if (strcmp(o.text, rows[i].offered))
            fail_msg("%s: '%s', expected '%s'", rows[i].line, o.text, rows[i].offered);
    }
}

/* What is offered for a key is what `keys add` takes. */
static void key_flags(struct daemon *d)
{
    struct outcome o;
    write_script(d);
    struct offered all = complete(d, "backpropd keys add --");
    daemon_command(d, &o, WORDS("keys"));
    assert_int_equal(o.status, 2);
    for (const char *at = o.err; (at = strstr(at, "--")); at += 2) {
        char name[64];
        assert_int_equal(sscanf(at, "%63[a-z-]", name), 1);
        if (!offers(&all, name))
            fail_msg("%s is not completed:%s", name, all.text);
    }
    char roles[3][16];
    assert_int_equal(sscanf(complete(d, "backpropd keys add --role \"\"").text, "%15s %15s %15s",
                            roles[0], roles[1], roles[2]),
                     3);
    for (int i = 0; i < 3; i++) {
        daemon_command(d, &o,
                       WORDS("keys", "add", "--role", roles[i], "--name", roles[i], d->data));
        assert_int_equal(o.status, 0);
    }
}

static void other_shells(struct daemon *d)
{
    struct outcome o;
    daemon_command(d, &o, WORDS("--completion", "fish"));
    assert_int_equal(o.status, 2);
    assert_non_null(strstr(o.err, "--completion is 'fish', expected bash"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(flags_of_help), DAEMON_TEST(commands_of_help), DAEMON_TEST(words_and_values),
        DAEMON_TEST(key_flags),     DAEMON_TEST(other_shells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
