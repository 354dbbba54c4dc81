/* http_raw.c: for clients that libmicrohttpd cannot answer: too slow, not speaking TLS, or with a
 * body that has no end. */
#include "http_raw.h"

#include <stdio.h>
#include <sys/socket.h>

void http_answer_raw_json(int fd, enum error_code code, const char *headers, const char *json,
                          int size)
{
    char text[2000];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%s"
                     "Content-Length: %d\r\nConnection: close\r\n\r\n%.*s",
                     error_status(code), error_slug(code), headers, size, size, json);
    if (n < (int)sizeof text)
        send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void http_answer_raw(int fd, enum error_code code, const char *sentence)
{
    char body[400];
    int size = snprintf(body, sizeof body, "{\"error\":\"%s\",\"code\":\"%s\"}", sentence,
                        error_slug(code));
    http_answer_raw_json(fd, code, "", body, size);
}
