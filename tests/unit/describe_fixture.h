/* describe_fixture.h: descriptions as C can hold them, for the tests of what they stand for and of
 * their mistakes. */
#ifndef DESCRIBE_FIXTURE_H
#define DESCRIBE_FIXTURE_H

#include "../../server/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* JSON with ' for ", so that it can stand in C. */
static inline json_t *json_of(const char *text)
{
    json_error_t where;
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    json_t *json = json_loads(copy, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!json)
        fail_msg("%s: %s", text, where.text);
    free(copy);
    return json;
}

static inline struct network *network_of(const char *text)
{
    struct error e = {0};
    json_t *json = json_of(text);
    struct network *net = describe_network(json, &e);
    json_decref(json);
    if (!net)
        fail_msg("%s: %s", text, e.text);
    return net;
}

#define IMAGE "'inputs':[{'shape':[-1,1,8,8]}],"
#define CONV  "{'name':'conv1','op':'conv2d','out_channels':4,'kernel_size':3,'padding':1}"
#define ROW   "'inputs':[{'shape':[-1,4]}],"
#define FC    "{'name':'fc','op':'linear','out_features':3}"

#endif
