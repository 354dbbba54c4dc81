/* main.c: backpropd. Starts the engine, the workers, the store, the models and the HTTP server,
 * waits for signals, and stops them in the opposite order. Before there are threads it opens what
 * lies outside of the data folder, and closes itself in (sandbox.h). */
#define _GNU_SOURCE
#include "access.h"
#include "api.h"
#include "command.h"
#include "events.h"
#include "gradcheck.h"
#include "http.h"
#include "keyring.h"
#include "port_file.h"
#include "process_signals.h"
#include "sandbox.h"
#include "stats.h"
#include "tls.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* glibc would raise both limits with the largest block that was ever freed, and keep the memory of
 * models that are gone. Blocks of a megabyte come from the system and go back to it, which costs a
 * page fault for each of their pages (fewer, larger ones: engine/large.c); of smaller ones two
 * megabytes a thread are kept for the next. */
static void memory_limits(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 2 << 20);
#endif
}

/* ---- starting -------------------------------------------------------------------------------- */

static void log_sandbox(const struct log *log, const struct sandbox_report *r)
{
    bool whole = r->no_new_privileges && r->landlock && r->seccomp && !r->threads_outside;
    log_line(log, whole ? LOG_INFO : LOG_WARN, "sandbox",
             LOG_INT("no_new_privileges", r->no_new_privileges), LOG_INT("landlock", r->landlock),
             LOG_STR("landlock_lacks", r->landlock_lacks), LOG_INT("seccomp", r->seccomp),
             LOG_STR("seccomp_lacks", r->seccomp_lacks),
             LOG_INT("threads_outside", r->threads_outside));
}

static int sandbox_start(const struct server *s, struct error *e)
{
    const struct config *c = s->config;
    const struct sandbox_path paths[] = {
        {c->data, SANDBOX_WRITE, false},      {c->port_file, SANDBOX_RENAME, true},
        {c->tls_cert, SANDBOX_READ, true},    {c->tls_key, SANDBOX_READ, true},
        {c->config_file, SANDBOX_READ, true}, /* SIGHUP reads it again */
    };
    struct sandbox_report r;
    if (!c->sandbox) {
        log_line(&s->log, LOG_WARN, "sandbox", LOG_STR("off", "--no-sandbox"));
        return 0;
    }
    if (sandbox_enter(paths, sizeof paths / sizeof *paths, &r, e))
        return -1;
    log_sandbox(&s->log, &r);
    return 0;
}

/* What has to be done from outside of the sandbox. */
static int server_prepare(struct server *s, struct http_listener *l, char **port_temp_r,
                          struct error *e)
{
    const struct config *c = s->config;
    if (c->tls_cert && !(s->tls = tls_create(c->tls_cert, c->tls_key, e)))
        return -1;
    return http_listen(l, c, e) || store_make_folder(c->data, e) ||
                   port_file_write(c->port_file, l->address, port_temp_r, e) || sandbox_start(s, e)
               ? -1
               : 0;
}

static int server_open(struct server *s, struct error *e)
{
    const struct config *c = s->config;
    /* It has a thread, so not before the sandbox; without it every line is a write. */
    s->log.buffer = log_buffer_create(STDERR_FILENO);
    s->pool = pool_create((int)c->threads, e);
    if (!s->pool)
        return -1;
    s->work = work_create((int)c->workers, (size_t)c->max_queue, e);
    if (!s->work)
        return -1;
    work_set_pool(s->work, s->pool);
    s->store = store_open(c->data, e);
    if (!s->store)
        return -1;
    s->keys = keyring_create(c->data, e);
    if (!s->keys)
        return -1;
    s->models = models_create(s, e);
    s->stats = stats_create(s->routes, e);
    if (!s->models || !s->stats)
        return -1;
    s->events = events_create(s->store, c->max_streams, e);
    return s->events ? 0 : -1;
}

/* It answers while models are loaded, if only that it is not ready. */
static int server_answer(struct server *s, struct http_listener *l, struct error *e)
{
    const struct config *c = s->config;
    s->loading = true;
    s->http = http_create(s, l, e);
    if (!s->http)
        return -1;
    log_line(&s->log, LOG_INFO, "listening", LOG_STR("address", l->address),
             LOG_STR("scheme", s->tls ? "https" : "http"),
             LOG_STR("certificate_until", s->tls ? tls_end(s->tls).text : NULL),
             LOG_STR("keys", keyring_required(s->keys) ? "needed" : "none"),
             LOG_INT("threads", c->threads), LOG_INT("workers", c->workers),
             LOG_STR("version", BACKPROPD_VERSION));
    return 0;
}

/* All but the models. */
static int server_start(struct server *s, char **port_temp_r, struct error *e)
{
    struct http_listener l = {.fd = -1};
    engine_start();
    gradcheck_start();
    json_in_start();
    int status =
        server_prepare(s, &l, port_temp_r, e) || server_open(s, e) || server_answer(s, &l, e);
    if (l.fd >= 0)
        close(l.fd);
    return status ? -1 : 0;
}

/* Every model that has changed is saved: -1 when that failed. */
static int server_stop(struct server *s, struct error *e)
{
    http_destroy(&s->http);
    events_destroy(&s->events);
    int status = models_destroy(&s->models, e);
    status |= store_close(&s->store, e);
    keyring_destroy(&s->keys);
    work_destroy(&s->work);
    pool_destroy(&s->pool);
    stats_destroy(&s->stats);
    tls_destroy(&s->tls);
    return status;
}

/* ---- the life of the process ----------------------------------------------------------------- */

struct life {
    struct server *server;
    int argc;
    char **argv;
    int signal;      /* to stop, that came while models were loaded; 0: none */
    char *port_temp; /* the port file until it is shown */
    struct error e;  /* of a task */
};

static int load_task(void *arg)
{
    struct life *l = arg;
    struct server *s = l->server;
    if (models_load(s->models, &l->e))
        return -1;
    __atomic_store_n(&s->loading, false, __ATOMIC_RELEASE);
    return port_file_show(s->config->port_file, &l->port_temp, &l->e);
}

static int stop_task(void *arg)
{
    struct life *l = arg;
    return server_stop(l->server, &l->e);
}

/* The level that the command line, the environment and the file say now. */
static void reload_log_level(struct life *l)
{
    struct config c;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool read = out && config_parse(&c, l->argc, l->argv, out, out) < 0;
    if (out)
        fclose(out);
    if (read)
        __atomic_store_n(&l->server->log.level, c.log_level, __ATOMIC_RELAXED);
    else
        log_line(&l->server->log, LOG_ERROR, "not_reloaded", LOG_STR("what", "log-level"),
                 LOG_STR("error", text));
    if (read)
        config_free(&c);
    free(text);
}

static void reload_keys(struct server *s)
{
    struct error e;
    int n = 0;
    if (keyring_reload(s->keys, &n, &e)) {
        log_line(&s->log, LOG_ERROR, "not_reloaded", LOG_STR("what", "keys"),
                 LOG_STR("error", e.text));
        return;
    }
    http_streams_wake(s->http); /* those of keys that were revoked end */
    log_line(&s->log, LOG_INFO, "reloaded", LOG_STR("what", "keys"), LOG_INT("keys", n));
}

static void reload_certificate(struct server *s)
{
    struct error e;
    if (!s->tls)
        return;
    if (tls_reload(s->tls, &e))
        log_line(&s->log, LOG_ERROR, "not_reloaded", LOG_STR("what", "certificate"),
                 LOG_STR("error", e.text));
    else
        log_line(&s->log, LOG_INFO, "reloaded", LOG_STR("what", "certificate"),
                 LOG_STR("until", tls_end(s->tls).text));
}

/* SIGHUP. What else may change while the daemon runs is read again here. */
static void reload(struct life *l)
{
    reload_log_level(l);
    reload_keys(l->server);
    reload_certificate(l->server);
}

/* Until a signal to stop; 0: the task was over before. */
static int wait_for_stop(struct life *l, const struct process_task *t)
{
    int number;
    while ((number = process_signals_wait(t, -1)) == SIGHUP)
        reload(l);
    return number;
}

/* What was answered is in the log or in the store: nothing is lost when the process ends here. */
__attribute__((noreturn)) static void end_now(const struct server *s, const char *why, int status)
{
    log_line(&s->log, LOG_WARN, "ended", LOG_STR("why", why)); /* a warning does not wait */
    _exit(status);
}

/* -1 when the models cannot be loaded. A stop meanwhile needs no goodbye. */
static int load(struct life *l)
{
    struct process_task t = {.run = load_task, .arg = l};
    if (process_task_start(&t))
        return error_set(&l->e, ERROR_NOT_READY, "cannot start a thread");
    l->signal = wait_for_stop(l, &t);
    if (l->signal && __atomic_load_n(&l->server->loading, __ATOMIC_ACQUIRE)) {
        port_file_drop(&l->port_temp);
        end_now(l->server, "stopped while models were being loaded", 0);
    }
    return process_task_end(&t);
}

/* Running steps end, what has changed is saved: within --shutdown-timeout, or until a second
 * signal. */
static int stop(struct life *l)
{
    struct process_task t = {.run = stop_task, .arg = l};
    double until = process_signals_clock() + (double)l->server->config->shutdown_timeout;
    int number = SIGHUP;
    if (process_task_start(&t))
        return server_stop(l->server, &l->e);
    while (number == SIGHUP) /* nothing to reload for */
        number = process_signals_wait(&t, until - process_signals_clock());
    if (number > 0 && !process_task_over(&t))
        end_now(l->server, "a second signal to stop", 128 + number);
    if (number < 0)
        end_now(l->server, "running steps took longer than --shutdown-timeout", 1);
    return process_task_end(&t);
}

/* The exit status. */
static int live(struct life *l)
{
    struct server *s = l->server;
    int64_t begun = metrics_now_ms();
    int failed = server_start(s, &l->port_temp, &l->e) || load(l);
    port_file_drop(&l->port_temp);
    if (failed) {
        fprintf(stderr, "backpropd: %s\n", l->e.text);
        server_stop(s, NULL);
        return 1;
    }
    log_line(&s->log, LOG_INFO, "ready",
             LOG_REAL("seconds", (double)(metrics_now_ms() - begun) / 1000));
    int number = l->signal ? l->signal : wait_for_stop(l, NULL);
    log_line(&s->log, LOG_INFO, "stopping", LOG_INT("signal", number));
    int status = stop(l);
    if (status)
        log_line(&s->log, LOG_ERROR, "not saved", LOG_STR("error", l->e.text));
    log_line(&s->log, LOG_INFO, "stopped");
    return status ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct config config;
    int status = command_run(argc, argv, stdout, stderr);
    if (status < 0)
        status = config_parse(&config, argc, argv, stdout, stderr);
    if (status >= 0)
        return status;
    process_signals_block();
    memory_limits();
    struct server s = {.config = &config,
                       .log = {config.log_level, STDERR_FILENO, config.log_format, NULL},
                       .routes = routes,
                       .find_model = api_find_model,
                       .release_model = api_release_model,
                       .authorize = access_authorize,
                       .small = api_infer_small,
                       .observe = stats_observe,
                       .started = time(NULL)};
    struct life l = {.server = &s, .argc = argc, .argv = argv};
    status = live(&l);
    log_buffer_destroy(&s.log.buffer);
    config_free(&config);
    return status;
}
