/* config.c: the command line. Each flag is a row; parsing, ranges, the nearest name for a flag that
 * is not known, environment variables, the file and --help come from the table. */
#include "config_private.h"

#include "backprop.h"
#include "command.h"
#include "key.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT(field) offsetof(struct config, field)
#define MANY      1000000
#define HUGE_SIZE ((int64_t)1 << 50)

const struct flag config_flags[] = {
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
     "requests that may wait in each queue; a model has three"},
    {"redo-bytes", FLAG_SIZE, AT(redo_bytes), "256M", 1 << 16, HUGE_SIZE, "BYTES",
     "a checkpoint is made when a model's redo log has grown to this"},
    {"redo-seconds", FLAG_INT, AT(redo_seconds), "10", 1, 86400, "SECONDS",
     "or when replaying it would take about this long"},
    {"max-streams", FLAG_INT, AT(max_streams), "64", 1, MANY, "N",
     "clients that may follow the events of models at the same time"},
    {"connections", FLAG_INT, AT(connections), "1024", 1, 65536, "N",
     "connections at the same time"},
    {"request-timeout", FLAG_INT, AT(request_timeout), "30", 1, 86400, "SECONDS",
     "an idle connection, or one with headers that are not complete, is closed after this"},
    {"shutdown-timeout", FLAG_INT, AT(shutdown_timeout), "30", 1, 86400, "SECONDS",
     "a stop that takes longer ends without waiting for running steps"},
    {"allowed-hosts", FLAG_TEXT, AT(allowed_hosts), NULL, 0, 0, "GLOBS",
     "names by which clients may call it, besides localhost, --listen's, and addresses"},
    {"cors-origin", FLAG_TEXT, AT(cors_origins), NULL, 0, 0, "GLOBS",
     "sites whose pages may call it: https://app.example,http://localhost:*"},
    {"min-rate", FLAG_SIZE, AT(min_rate), "1K", 0, HUGE_SIZE, "BYTES",
     "a second, in which bodies must come and answers be taken after that time; 0: any"},
    {"max-headers", FLAG_SIZE, AT(max_headers), "16K", 4096, 1 << 30, "BYTES",
     "about the longest request line with its headers"},
    {"tls-cert", FLAG_TEXT, AT(tls_cert), NULL, 0, 0, "FILE",
     "speak HTTPS, with this certificate and those of its issuers, in PEM"},
    {"tls-key", FLAG_TEXT, AT(tls_key), NULL, 0, 0, "FILE",
     "its private key; SIGHUP reads both again"},
    {"sandbox", FLAG_SWITCH, AT(sandbox), "true", 0, 0, NULL,
     "give up what is not needed once started; --no-sandbox does not"},
    {"log-level", FLAG_CHOICE, AT(log_level), "info", 0, 0, LOG_LEVELS, "what is logged"},
    {"log-format", FLAG_CHOICE, AT(log_format), "logfmt", 0, 0, LOG_FORMATS, "how it is logged"},
    {"allow-anonymous", FLAG_SWITCH, AT(allow_anonymous), NULL, 0, 0, NULL,
     "listen on other addresses than loopback although nobody needs a key"},
    {"config", FLAG_TEXT, AT(config_file), NULL, 0, 0, "FILE",
     "read flags from this file first, a line each: listen = 127.0.0.1:8080"},
    {"completion", FLAG_ACTION, 0, NULL, 0, 0, "bash",
     "print a script that completes flags and commands"},
    {"version", FLAG_ACTION, 0, NULL, 0, 0, NULL, "print the version"},
    {"help", FLAG_ACTION, 0, NULL, 0, 0, NULL, "print this"},
    {0},
};

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

static int bad_value(const char *where, const char *text, const char *expected, FILE *err)
{
    fprintf(err, "backpropd: %s is '%s', expected %s\n", where, text, expected);
    return -1;
}

static int set_number(struct config *c, const struct flag *f, const char *text, const char *where,
                      FILE *err)
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
    return bad_value(where, text, expected, err);
}

/* The place of `text` in "a|b|c", -1 when it is not there. */
static int choice_find(const char *choices, const char *text)
{
    size_t size = strlen(text), n;
    for (int i = 0;; i++, choices += n + 1) {
        n = strcspn(choices, "|");
        if (n == size && !memcmp(choices, text, n))
            return i;
        if (!choices[n])
            return -1;
    }
}

static int set_choice(struct config *c, const struct flag *f, const char *text, const char *where,
                      FILE *err)
{
    char expected[96];
    int i = choice_find(f->value, text);
    snprintf(expected, sizeof expected, "one of %s", f->value);
    if (i < 0)
        return bad_value(where, text, expected, err);
    memcpy((char *)c + f->offset, &i, sizeof i);
    return 0;
}

static int set_switch(struct config *c, const struct flag *f, const char *text, const char *where,
                      FILE *err)
{
    int i = choice_find("false|true|0|1", text);
    if (i < 0)
        return bad_value(where, text, "true or false", err);
    *((bool *)((char *)c + f->offset)) = i & 1;
    return 0;
}

static int set_text(struct config *c, const struct flag *f, const char *text, const char *where,
                    FILE *err)
{
    (void)where, (void)err;
    memcpy((char *)c + f->offset, &text, sizeof text);
    return 0;
}

int config_set(struct config *c, const struct flag *f, const char *text, const char *where,
               FILE *err)
{
    static int (*const set[])(struct config *, const struct flag *, const char *, const char *,
                              FILE *) = {
        [FLAG_TEXT] = set_text,     [FLAG_INT] = set_number,    [FLAG_SIZE] = set_number,
        [FLAG_CHOICE] = set_choice, [FLAG_SWITCH] = set_switch,
    };
    return set[f->type](c, f, text, where, err);
}

static void set_defaults(struct config *c, FILE *err)
{
    int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
    *c = (struct config){0};
    for (const struct flag *f = config_flags; f->name; f++) {
        int64_t v = cores < f->min ? f->min : cores > f->max ? f->max : cores;
        if (f->fallback && !strcmp(f->fallback, "cores"))
            memcpy((char *)c + f->offset, &v, sizeof v);
        else if (f->fallback)
            config_set(c, f, f->fallback, f->name, err);
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
        return bad_value("--listen", c->listen, "HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
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

static int check_tls(const struct config *c, FILE *err)
{
    if (!c->tls_cert == !c->tls_key)
        return 0;
    fprintf(err, "backpropd: --tls-%s is given without --tls-%s: TLS needs both\n",
            c->tls_cert ? "cert" : "key", c->tls_cert ? "key" : "cert");
    return -1;
}

static int check_listen(struct config *c, FILE *err)
{
    if (split_listen(c, err))
        return -1;
    if (is_loopback(c->host) || c->allow_anonymous || key_file_exists(c->data))
        return 0;
    fprintf(
        err,
        "backpropd: --listen %s can be reached from other machines and nobody needs a key; "
        "make one (backpropd keys add --role admin --name NAME %s), listen on 127.0.0.1, or say "
        "--allow-anonymous if that is meant\n",
        c->listen, c->data);
    return -1;
}

/* ---- the line -------------------------------------------------------------------------------- */

const struct flag *config_find(const char *name, const char **near_r)
{
    struct nearest near = {.given = name};
    for (const struct flag *f = config_flags; f->name; f++) {
        if (!strcmp(name, f->name))
            return f;
        nearest_offer(&near, f->name);
    }
    *near_r = near.best;
    return NULL;
}

/* "--no-sandbox": the switch that is set to false. */
static const struct flag *find_negated(const char *name)
{
    const char *near;
    const struct flag *f = strncmp(name, "--no-", 5) ? NULL : config_find(name + 5, &near);
    return f && f->type == FLAG_SWITCH ? f : NULL;
}

/* The flag that `arg` names, up to '='; NULL after saying so. */
static const struct flag *find_flag(const char *arg, FILE *err)
{
    char name[64];
    const char *near = NULL;
    int size = (int)strcspn(arg, "=");
    snprintf(name, sizeof name, "%.*s", size < 60 ? size : 60, arg);
    bool dashes = !strncmp(name, "--", 2);
    const struct flag *f = find_negated(name);
    if (!f && dashes)
        f = config_find(name + 2, &near);
    if (f)
        return f;
    fprintf(err, "backpropd: unknown argument '%s'", name);
    if (near)
        fprintf(err, ", did you mean --%s?", near);
    else if (!dashes)
        command_list(err, ", expected a flag or a command: ");
    fprintf(err, "\nbackpropd --help lists the flags\n");
    return NULL;
}

/* The exit status. */
static int act(const struct flag *f, const char *value, FILE *out, FILE *err)
{
    if (f->value) {
        if (!config_print_completion(value, out))
            return 0;
        bad_value("--completion", value, f->value, err);
        return 2;
    }
    if (!strcmp(f->name, "help"))
        config_print_help(out);
    else
        fprintf(out, "backpropd %s\n", BACKPROPD_VERSION);
    return 0;
}

/* Reads argv into c. -1: go on, else the exit status. */
static int take_line(struct config *c, int argc, char **argv, FILE *out, FILE *err)
{
    for (int i = 1; i < argc; i++) {
        char where[64];
        const struct flag *f = find_flag(argv[i], err);
        if (!f)
            return 2;
        const char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
        snprintf(where, sizeof where, "--%s", f->name);
        if (value && !f->value) {
            bad_value(where, value, "no value", err);
            return 2;
        }
        if (!value && f->value && !(value = argv[++i])) {
            fprintf(err, "backpropd: --%s needs a value: %s\n", f->name, f->value);
            return 2;
        }
        if (f->type == FLAG_ACTION)
            return act(f, value, out, err);
        if (config_set(c, f, value ? value : find_negated(argv[i]) ? "false" : "true", where, err))
            return 2;
    }
    return -1;
}

int config_parse(struct config *c, int argc, char **argv, FILE *out, FILE *err)
{
    /* The line is read twice: at first for the file that it names, and last because it goes before
     * the environment, which goes before the file. */
    set_defaults(c, err);
    int status = take_line(c, argc, argv, out, err);
    if (status >= 0)
        return status;
    const char *file = c->config_file ? c->config_file : getenv("BACKPROPD_CONFIG");
    set_defaults(c, err);
    if (config_read_file(c, file, err) || config_read_environment(c, err) ||
        take_line(c, argc, argv, out, err) >= 0 || check_listen(c, err) || check_tls(c, err)) {
        config_free(c);
        return 2;
    }
    return -1;
}

void config_free(struct config *c)
{
    free(c->file_text);
    c->file_text = NULL;
}
