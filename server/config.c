/* config.c: the command line. Each flag is a row; parsing, ranges, the nearest name for a flag that
 * is not known, and --help come from the table. */
#include "config.h"

#include "backprop.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum flag_type { FLAG_TEXT, FLAG_INT, FLAG_SIZE, FLAG_LEVEL, FLAG_SWITCH };

struct flag {
    const char *name; /* without the dashes */
    enum flag_type type;
    size_t offset;
    const char *fallback; /* "cores": of the machine, at least `min`; NULL: none */
    int64_t min, max;
    const char *value; /* what --help calls it; NULL for switches */
    const char *doc;
};

#define AT(field) offsetof(struct config, field)
#define MANY      1000000
#define HUGE_SIZE ((int64_t)1 << 50)

static const struct flag flags[] = {
    {"listen", FLAG_TEXT, AT(listen), "127.0.0.1:8080", 0, 0, "HOST:PORT",
     "address to listen on; port 0 takes a free one"},
    {"data", FLAG_TEXT, AT(data), "backpropd-data", 0, 0, "DIR",
     "folder of models, versions and the log; made if it is not there"},
    {"port-file", FLAG_TEXT, AT(port_file), NULL, 0, 0, "FILE",
     "gets \"host:port\" once the server answers"},
    {"threads", FLAG_INT, AT(threads), "cores", 1, 1024, "N", "threads that compute"},
    {"workers", FLAG_INT, AT(workers), "cores", 2, 1024, "N",
     "requests that are worked on at the same time, 2 or more"},
    {"max-body", FLAG_SIZE, AT(max_body), "256M", 1, HUGE_SIZE, "BYTES",
     "largest body of a request"},
    {"max-image-pixels", FLAG_SIZE, AT(max_image_pixels), "64M", 1, HUGE_SIZE, "PIXELS",
     "largest image that is decoded, width times height"},
    {"max-memory", FLAG_SIZE, AT(max_memory), "80%", 1 << 20, HUGE_SIZE, "BYTES",
     "memory for models and requests; % is of what the machine or container has"},
    {"max-models", FLAG_INT, AT(max_models), "1000", 1, MANY, "N", "models that there may be"},
    {"max-queue", FLAG_INT, AT(max_queue), "256", 1, MANY, "N",
     "requests that may wait, to change one model or to read"},
    {"redo-bytes", FLAG_SIZE, AT(redo_bytes), "256M", 1 << 16, HUGE_SIZE, "BYTES",
     "a checkpoint is made when a model's redo log has grown to this"},
    {"redo-seconds", FLAG_INT, AT(redo_seconds), "10", 1, 86400, "SECONDS",
     "or when replaying it would take about this long"},
    {"max-streams", FLAG_INT, AT(max_streams), "64", 1, MANY, "N",
     "clients that may follow the events of models at the same time"},
    {"connections", FLAG_INT, AT(connections), "1024", 1, 65536, "N",
     "connections at the same time"},
    {"request-timeout", FLAG_INT, AT(request_timeout), "30", 1, 86400, "SECONDS",
     "an idle connection is closed after this"},
    {"log-level", FLAG_LEVEL, AT(log_level), "info", 0, 0, "LEVEL",
     "debug, info, warn, error or off"},
    {"allow-anonymous", FLAG_SWITCH, AT(allow_anonymous), NULL, 0, 0, NULL,
     "listen on other addresses than loopback although nobody needs a key"},
    {"version", FLAG_SWITCH, 0, NULL, 0, 0, NULL, "print the version"},
    {"help", FLAG_SWITCH, 0, NULL, 0, 0, NULL, "print this"},
};
enum { FLAGS = sizeof flags / sizeof *flags };

/* ---- values ---------------------------------------------------------------------------------- */

static int64_t percent_of_memory(const char *text, const char *end)
{
    long percent = strtol(text, NULL, 10);
    if (end[1] || percent < 1 || percent > 100)
        return -1;
    return config_machine_memory() / 100 * percent;
}

int64_t config_parse_size(const char *text)
{
    static const char suffixes[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    const char *end = text + digits;
    if (!digits || digits > 15)
        return -1;
    if (*end == '%')
        return percent_of_memory(text, end);
    int64_t value = strtoll(text, NULL, 10);
    const char *suffix = *end ? strchr(suffixes, *end & ~32) : NULL;
    if (*end && (!suffix || end[1]))
        return -1;
    for (int i = 0; suffix && i <= suffix - suffixes; i++)
        if (__builtin_mul_overflow(value, 1024, &value))
            return -1;
    return value;
}

static int64_t parse_int(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits && digits < 19 && !text[digits] ? strtoll(text, NULL, 10) : -1;
}

static int bad_value(const struct flag *f, const char *text, const char *expected, FILE *err)
{
    fprintf(err, "backpropd: --%s is '%s', expected %s\n", f->name, text, expected);
    return -1;
}

static int set_number(struct config *c, const struct flag *f, const char *text, FILE *err)
{
    char expected[96];
    int64_t v = f->type == FLAG_SIZE ? config_parse_size(text) : parse_int(text);
    if (v >= f->min && v <= f->max) {
        memcpy((char *)c + f->offset, &v, sizeof v);
        return 0;
    }
    snprintf(expected, sizeof expected, "a %s from %lld to %lld",
             f->type == FLAG_SIZE ? "size (such as 64M)" : "number", (long long)f->min,
             (long long)f->max);
    return bad_value(f, text, expected, err);
}

static int set_level(struct config *c, const struct flag *f, const char *text, FILE *err)
{
    int level = log_level_find(text);
    if (level < 0)
        return bad_value(f, text, "debug, info, warn, error or off", err);
    c->log_level = (enum log_level)level;
    return 0;
}

static int set_flag(struct config *c, const struct flag *f, const char *text, FILE *err)
{
    if (f->type == FLAG_TEXT)
        memcpy((char *)c + f->offset, &text, sizeof text);
    else if (f->type == FLAG_SWITCH)
        *((bool *)((char *)c + f->offset)) = true;
    else
        return f->type == FLAG_LEVEL ? set_level(c, f, text, err) : set_number(c, f, text, err);
    return 0;
}

static void set_defaults(struct config *c, FILE *err)
{
    int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
    *c = (struct config){0};
    for (int i = 0; i < FLAGS; i++) {
        const struct flag *f = &flags[i];
        int64_t v = cores < f->min ? f->min : cores > f->max ? f->max : cores;
        if (f->fallback && !strcmp(f->fallback, "cores"))
            memcpy((char *)c + f->offset, &v, sizeof v);
        else if (f->fallback)
            set_flag(c, f, f->fallback, err);
    }
}

/* ---- the address ----------------------------------------------------------------------------- */

/* "host:port", "[v6]:port", ":port". */
static int split_listen(struct config *c, FILE *err)
{
    const char *colon = strrchr(c->listen, ':'), *begin = c->listen;
    int64_t port = colon ? parse_int(colon + 1) : -1;
    size_t size = colon ? (size_t)(colon - begin) : 0;
    if (size >= 2 && *begin == '[' && begin[size - 1] == ']') {
        begin++;
        size -= 2;
    } else if (memchr(begin, ':', size)) {
        port = -1; /* an IPv6 address without brackets */
    }
    if (port < 0 || port > 65535 || size >= sizeof c->host)
        return bad_value(&flags[0], c->listen, "HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                         err);
    memcpy(c->host, begin, size);
    c->host[size] = 0;
    c->port = (int)port;
    return 0;
}

/* Only names and addresses that cannot be anything else. */
static bool is_loopback(const char *host)
{
    return !strcmp(host, "localhost") || !strcmp(host, "::1") ||
           (!strncmp(host, "127.", 4) && strspn(host, "0123456789.") == strlen(host));
}

static int check_listen(struct config *c, FILE *err)
{
    if (split_listen(c, err))
        return -1;
    if (is_loopback(c->host) || c->allow_anonymous)
        return 0;
    fprintf(err,
            "backpropd: --listen %s can be reached from other machines and nobody needs a key; "
            "listen on 127.0.0.1, or say --allow-anonymous if that is meant\n",
            c->listen);
    return -1;
}

/* ---- the line -------------------------------------------------------------------------------- */

static void print_help(FILE *out)
{
    fprintf(out, "backpropd: hosts neural networks and trains them over HTTP\n\n"
                 "usage: backpropd [flags]\n\n");
    for (int i = 0; i < FLAGS; i++) {
        const struct flag *f = &flags[i];
        char name[48];
        snprintf(name, sizeof name, "--%s%s%s", f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        fprintf(out, "  %-26s %s", name, f->doc);
        if (f->fallback)
            fprintf(out, " (%s)", f->fallback);
        fputc('\n', out);
    }
}

/* The flag that `arg` names, up to '='; NULL after saying so. */
static const struct flag *find_flag(const char *arg, FILE *err)
{
    char name[64];
    size_t size = strcspn(arg, "=");
    struct nearest near = {.given = name};
    snprintf(name, sizeof name, "%.*s", (int)(size < 60 ? size : 60), arg);
    for (int i = 0; !strncmp(name, "--", 2) && i < FLAGS; i++) {
        if (!strcmp(name + 2, flags[i].name))
            return &flags[i];
        near.given = name + 2;
        nearest_offer(&near, flags[i].name);
    }
    fprintf(err, "backpropd: unknown argument '%s'", name);
    if (near.best)
        fprintf(err, ", did you mean --%s?", near.best);
    fprintf(err, "\nbackpropd --help lists the flags\n");
    return NULL;
}

/* Takes argv[*i] and its value. 0, or -1 after saying what is wrong. */
static int take_flag(struct config *c, const struct flag *f, int argc, char **argv, int *i,
                     FILE *err)
{
    const char *equals = strchr(argv[*i], '=');
    if (f->type == FLAG_SWITCH && !equals)
        return set_flag(c, f, NULL, err);
    if (f->type == FLAG_SWITCH)
        return bad_value(f, equals + 1, "no value", err);
    if (equals)
        return set_flag(c, f, equals + 1, err);
    if (*i + 1 == argc) {
        fprintf(err, "backpropd: --%s needs a value: %s\n", f->name, f->value);
        return -1;
    }
    return set_flag(c, f, argv[++*i], err);
}

int config_parse(struct config *c, int argc, char **argv, FILE *out, FILE *err)
{
    set_defaults(c, err);
    for (int i = 1; i < argc; i++) {
        const struct flag *f = find_flag(argv[i], err);
        if (!f)
            return 2;
        if (!strcmp(f->name, "help")) {
            print_help(out);
            return 0;
        }
        if (!strcmp(f->name, "version")) {
            fprintf(out, "backpropd %s\n", BACKPROPD_VERSION);
            return 0;
        }
        if (take_flag(c, f, argc, argv, &i, err))
            return 2;
    }
    return check_listen(c, err) ? 2 : -1;
}
