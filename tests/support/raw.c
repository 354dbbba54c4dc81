/* raw.c: bytes on a socket, for what no HTTP client would send. */
#include "client_private.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* "127.0.0.1:80", "[::1]:80" */
static int socket_connect(const char *address)
{
    char host[288];
    const char *colon = strrchr(address, ':');
    assert_non_null(colon);
    bool bracket = *address == '[';
    size_t n = (size_t)(colon - address) - 2 * bracket;
    assert_true(n < sizeof host);
    memcpy(host, address + bracket, n);
    host[n] = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
    assert_int_equal(getaddrinfo(host, colon + 1, &hints, &found), 0);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, found->ai_addr, found->ai_addrlen))
        fail_msg("cannot connect to %s: %s", address, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

int raw_connect(struct client *c)
{
    return socket_connect(c->address);
}

bool raw_send(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool raw_receive(int fd, struct answer *a, int quiet_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char part[65536];
    bool closed = false;
    while (!closed && poll(&p, 1, quiet_ms) > 0) {
        ssize_t n = recv(fd, part, sizeof part, 0);
        closed = n <= 0;
        if (!closed)
            bytes_append(&a->body, &a->size, part, (size_t)n);
    }
    if (a->size >= 12 && !memcmp(a->body, "HTTP/1.", 7))
        a->status = (int)strtol(a->body + 9, NULL, 10);
    return closed;
}

struct answer *raw_answer(struct client *c)
{
    return client_answer(c);
}

struct answer *client_raw(struct client *c, const void *bytes, size_t size, bool half_close,
                          int quiet_ms)
{
    struct answer *a = client_answer(c);
    int fd = raw_connect(c);
    a->connects = 1;
    raw_send(fd, bytes, size); /* the server may answer and close before it has read everything */
    if (half_close)
        shutdown(fd, SHUT_WR);
    raw_receive(fd, a, quiet_ms);
    close(fd);
    return a;
}
