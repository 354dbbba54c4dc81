/* main.c: backpropd. Starts the engine, the workers, the store, the models and the HTTP server,
 * waits for SIGINT or SIGTERM, and stops them in the opposite order. Before there are threads it
 * opens what lies outside of the data folder, and closes itself in (sandbox.h). */
#define _GNU_SOURCE
#include "api.h"
#include "command.h"
#include "events.h"
#include "http.h"
#include "sandbox.h"
#include "stats.h"
#include "tls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* To the main thread, where it waits until it is asked for. */
static void signal_pass_on(int number)
{
    int saved = errno;
    syscall(SYS_tgkill, getpid(), getpid(), number);
    errno = saved;
}

/* Before there are threads of ours, which inherit the mask: signals are waited for, not handled.
 * But a library's threads may be older (OpenBLAS starts its own before main), and one of those
 * would end the process where it stands: what they get is passed on. */
static void signals_block(sigset_t *stop)
{
    struct sigaction pass_on = {.sa_handler = signal_pass_on, .sa_flags = SA_RESTART};
    sigemptyset(stop);
    sigaddset(stop, SIGINT);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGHUP);
    pthread_sigmask(SIG_BLOCK, stop, NULL);
    sigaction(SIGINT, &pass_on, NULL);
    sigaction(SIGTERM, &pass_on, NULL);
    sigaction(SIGHUP, &pass_on, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file at its limit is a full disk: EFBIG */
}

/* ---- the port file --------------------------------------------------------------------------- */

/* "host:port" under a name of its own, which is then changed: a reader sees all of it or nothing.
 * The name is kept in the first step because the sandbox lets the second rename, not write. */
static int port_file_write(const char *path, const char *address, char **temp_r, struct error *e)
{
    *temp_r = NULL;
    if (!path)
        return 0;
    if (asprintf(temp_r, "%s.%ld", path, (long)getpid()) < 0) {
        *temp_r = NULL;
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    }
    FILE *f = fopen(*temp_r, "we");
    bool written = f && fprintf(f, "%s\n", address) > 0;
    written = f && !fclose(f) && written;
    return written ? 0
                   : error_set(e, ERROR_STORAGE, "cannot write --port-file %s: %s", path,
                               strerror(errno));
}

static int port_file_show(const char *path, char **temp, struct error *e)
{
    if (!path)
        return 0;
    if (rename(*temp, path))
        return error_set(e, ERROR_STORAGE, "cannot write --port-file %s: %s", path,
                         strerror(errno));
    free(*temp);
    *temp = NULL;
    return 0;
}

static void port_file_drop(char **temp)
{
    if (*temp)
        unlink(*temp);
    free(*temp);
    *temp = NULL;
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
        {c->data, SANDBOX_WRITE, false},
        {c->port_file, SANDBOX_RENAME, true},
        {c->tls_cert, SANDBOX_READ, true},
        {c->tls_key, SANDBOX_READ, true},
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
    s->pool = pool_create((int)c->threads, e);
    if (!s->pool)
        return -1;
    s->work = work_create((int)c->workers, (size_t)c->max_queue, e);
    if (!s->work)
        return -1;
    s->store = store_open(c->data, e);
    if (!s->store)
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
             LOG_INT("threads", c->threads), LOG_INT("workers", c->workers),
             LOG_STR("version", BACKPROPD_VERSION));
    if (models_load(s->models, e))
        return -1;
    __atomic_store_n(&s->loading, false, __ATOMIC_RELEASE);
    return 0;
}

static int server_start(struct server *s, struct error *e)
{
    struct http_listener l = {.fd = -1};
    char *port_temp = NULL;
    engine_start();
    int status = server_prepare(s, &l, &port_temp, e) || server_open(s, e) ||
                 server_answer(s, &l, e) || port_file_show(s->config->port_file, &port_temp, e);
    port_file_drop(&port_temp);
    if (l.fd >= 0)
        close(l.fd);
    return status ? -1 : 0;
}

/* ---- running and stopping -------------------------------------------------------------------- */

/* SIGHUP: what may change while it runs is read again; what cannot be used is left as it was. */
static void server_reload(struct server *s)
{
    struct error e;
    if (!s->tls)
        return;
    if (tls_reload(s->tls, &e))
        log_line(&s->log, LOG_ERROR, "certificate not changed", LOG_STR("error", e.text));
    else
        log_line(&s->log, LOG_INFO, "certificate", LOG_STR("until", tls_end(s->tls).text));
}

/* Until it is told to stop; the signal that did. */
static int server_run(struct server *s, const sigset_t *signals)
{
    int number = 0;
    while (sigwait(signals, &number) || number == SIGHUP)
        if (number == SIGHUP)
            server_reload(s);
    return number;
}

/* Every model that has changed is saved: -1 when that failed. */
static int server_stop(struct server *s, struct error *e)
{
    http_destroy(&s->http);
    events_destroy(&s->events);
    int status = models_destroy(&s->models, e);
    status |= store_close(&s->store, e);
    work_destroy(&s->work);
    pool_destroy(&s->pool);
    stats_destroy(&s->stats);
    tls_destroy(&s->tls);
    return status;
}

int main(int argc, char **argv)
{
    struct config config;
    struct error e = {0};
    sigset_t stop;
    int status = command_run(argc, argv, stdout, stderr);
    if (status < 0)
        status = config_parse(&config, argc, argv, stdout, stderr);
    if (status >= 0)
        return status;
    signals_block(&stop);
    int64_t begun = metrics_now_ms();
    struct server s = {.config = &config,
                       .log = {config.log_level, STDERR_FILENO, config.log_format},
                       .routes = routes,
                       .find_model = api_find_model,
                       .release_model = api_release_model,
                       .observe = stats_observe,
                       .started = time(NULL)};
    if (server_start(&s, &e)) {
        fprintf(stderr, "backpropd: %s\n", e.text);
        server_stop(&s, NULL);
        config_free(&config);
        return 1;
    }
    log_line(&s.log, LOG_INFO, "ready",
             LOG_REAL("seconds", (double)(metrics_now_ms() - begun) / 1000));
    int signal_number = server_run(&s, &stop);
    log_line(&s.log, LOG_INFO, "stopping", LOG_INT("signal", signal_number));
    status = server_stop(&s, &e);
    if (status)
        log_line(&s.log, LOG_ERROR, "not saved", LOG_STR("error", e.text));
    log_line(&s.log, LOG_INFO, "stopped");
    config_free(&config);
    return status ? 1 : 0;
}
