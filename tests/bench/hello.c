/* hello.c: the smallest server that libmicrohttpd can be, in the thread setup of backpropd: one
 * thread, epoll. It answers every request, with or without a body, with one short JSON text; what
 * backpropd costs over it is backpropd's own.
 *
 *     hello PORT-FILE    listens on a free port of 127.0.0.1 until SIGTERM or SIGINT */
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **context)
{
    static const char text[] = "{\"live\":true}";
    (void)arg, (void)url, (void)method, (void)version, (void)data;
    if (!*context) {
        *context = c; /* any pointer: the headers have been seen */
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *r = MHD_create_response_from_buffer(
        sizeof text - 1, (void *)(unsigned long)text, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(r, "Content-Type", "application/json");
    enum MHD_Result queued = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return queued;
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sigset_t stop;
    int number;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, NULL,
        MHD_OPTION_SOCK_ADDR, &a, MHD_OPTION_CONNECTION_LIMIT, 20000u, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    FILE *f = argc == 2 && info ? fopen(argv[1], "w") : NULL;
    if (!f || fprintf(f, "127.0.0.1:%d\n", info->port) < 0 || fclose(f)) {
        fprintf(stderr, "hello: cannot start, or write its port to %s\n", argc == 2 ? argv[1] : "");
        return 1;
    }
    sigwait(&stop, &number);
    MHD_stop_daemon(d);
    return 0;
}
