/* http_raw.c: for clients that libmicrohttpd has no request of: too slow, or not speaking TLS. */
#include "http_raw.h"

#include <stdio.h>
#include <sys/socket.h>

void http_answer_raw(int fd, enum error_code code, const char *sentence)
{
    char body[400], text[600];
    int size = snprintf(body, sizeof body, "{\"error\":\"%s\",\"code\":\"%s\"}", sentence,
                        error_slug(code));
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\nConnection: close\r\n\r\n%s",
                     error_status(code), error_slug(code), size, body);
    send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}
