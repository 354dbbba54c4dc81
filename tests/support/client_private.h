/* client_private.h: what client.c, answer.c and raw.c share. */
#ifndef TEST_CLIENT_PRIVATE_H
#define TEST_CLIENT_PRIVATE_H

#include "client.h"

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct client {
    void *curl; /* CURL */
    char address[288];
    char ca_file[320]; /* "": plain HTTP */
    struct answer *answers;
};

/* A new answer of the client's, with an empty body. */
struct answer *client_answer(struct client *c);

/* Keeps a NUL after them. */
void bytes_append(char **bytes, size_t *size, const void *more, size_t n);

#endif
