/* http_raw.h: an answer where libmicrohttpd cannot give one. */
#ifndef BACKPROPD_HTTP_RAW_H
#define BACKPROPD_HTTP_RAW_H

#include "backprop.h"

/* Writes a whole answer to the socket, as much of it as there is room for, without waiting.
 * `sentence` needs no escapes in JSON. The caller ends the connection. */
void http_answer_raw(int fd, enum error_code code, const char *sentence);
/* The same with `size` bytes of JSON that say it, and more headers: whole lines, or "". */
void http_answer_raw_json(int fd, enum error_code code, const char *headers, const char *json,
                          int size);

#endif
