/* main.c: backpropd. Starts the engine, the workers, the store, the models and the HTTP server,
 * waits for SIGINT or SIGTERM, and stops them in the opposite order. */
#define _GNU_SOURCE
#include "api.h"
#include "command.h"
#include "events.h"
#include "http.h"
#include "stats.h"

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
    pthread_sigmask(SIG_BLOCK, stop, NULL);
    sigaction(SIGINT, &pass_on, NULL);
    sigaction(SIGTERM, &pass_on, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* "host:port" under a name of its own, then renamed: a reader sees all of it or nothing. */
static int port_file_write(const char *path, const char *address, struct error *e)
{
    char *temp = NULL;
    if (!path)
        return 0;
    if (asprintf(&temp, "%s.%ld", path, (long)getpid()) < 0)
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    FILE *f = fopen(temp, "we");
    bool written = f && fprintf(f, "%s\n", address) > 0;
    written = f && !fclose(f) && written && !rename(temp, path);
    int why = errno;
    if (f && !written)
        unlink(temp);
    free(temp);
    return written ? 0
                   : error_set(e, ERROR_STORAGE, "cannot write --port-file %s: %s", path,
                               strerror(why));
}

static int server_start(struct server *s, struct error *e)
{
    const struct config *c = s->config;
    engine_start();
    json_in_start();
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
    if (!s->events)
        return -1;
    /* It answers while models are loaded, if only that it is not ready. */
    s->loading = true;
    s->http = http_create(s, e);
    if (!s->http)
        return -1;
    log_line(&s->log, LOG_INFO, "listening", LOG_STR("address", http_address(s->http)),
             LOG_INT("threads", c->threads), LOG_INT("workers", c->workers),
             LOG_STR("version", BACKPROPD_VERSION));
    if (models_load(s->models, e))
        return -1;
    __atomic_store_n(&s->loading, false, __ATOMIC_RELEASE);
    return port_file_write(c->port_file, http_address(s->http), e);
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
    return status;
}

int main(int argc, char **argv)
{
    struct config config;
    struct error e = {0};
    sigset_t stop;
    int signal_number = 0, status = command_run(argc, argv, stdout, stderr);
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
    sigwait(&stop, &signal_number);
    log_line(&s.log, LOG_INFO, "stopping", LOG_INT("signal", signal_number));
    status = server_stop(&s, &e);
    if (status)
        log_line(&s.log, LOG_ERROR, "not saved", LOG_STR("error", e.text));
    log_line(&s.log, LOG_INFO, "stopped");
    config_free(&config);
    return status ? 1 : 0;
}
