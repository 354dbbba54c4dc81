/* http_listen.c: the listening socket is opened here and not by libmicrohttpd, so that a failure
 * has a sentence: which address, and why. */
#include "http_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

/* -1 with errno. */
static int listen_on(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    int yes = 1;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    /* Connections have it from here: a client that has vanished is noticed some day. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, BACKLOG))
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int socket_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {0};
    socklen_t size = sizeof a;
    if (getsockname(fd, &a.any, &size))
        return 0;
    return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

int http_listen(struct http_listener *l_r, const struct config *c, struct error *e)
{
    *l_r = (struct http_listener){.fd = -1};
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", c->port);
    int failed = getaddrinfo(*c->host ? c->host : NULL, port, &hints, &list), fd = -1;
    if (failed)
        return error_set(e, ERROR_NOT_READY, "cannot listen on %s: %s", c->listen,
                         gai_strerror(failed));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = listen_on(a);
    int why = errno;
    freeaddrinfo(list);
    if (fd < 0)
        return error_set(e, ERROR_NOT_READY, "cannot listen on %s: %s", c->listen, strerror(why));
    const char *host = *c->host ? c->host : "0.0.0.0";
    l_r->fd = fd;
    l_r->port = socket_port(fd);
    snprintf(l_r->address, sizeof l_r->address, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host,
             l_r->port);
    return 0;
}
