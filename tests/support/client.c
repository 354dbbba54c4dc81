/* client.c: sending requests and collecting their answers. What is in an answer is read in
 * answer.c, bytes that are no request are sent in raw.c. */
#include "client.h"
#include "client_private.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long an answer may take; TEST_PATIENCE times that, for daemons that tools slow down. */
static long request_seconds(void)
{
    const char *patience = getenv("TEST_PATIENCE");
    return 120 * (patience ? atol(patience) : 1);
}

struct client *client_create(const char *address)
{
    struct client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    snprintf(c->address, sizeof c->address, "%s", address);
    c->curl = curl_easy_init();
    assert_non_null(c->curl);
    return c;
}

struct client *client_create_tls(const char *address, const char *ca_file)
{
    struct client *c = client_create(address);
    snprintf(c->ca_file, sizeof c->ca_file, "%s", ca_file);
    return c;
}

void client_forget(struct client *c)
{
    while (c->answers) {
        struct answer *a = c->answers;
        c->answers = a->next;
        json_decref(a->json);
        free(a->headers);
        free(a->body);
        free(a);
    }
}

void client_destroy(struct client **c)
{
    if (!*c)
        return;
    client_forget(*c);
    curl_easy_cleanup((*c)->curl);
    free(*c);
    *c = NULL;
}

struct answer *client_answer(struct client *c)
{
    struct answer *a = calloc(1, sizeof *a);
    assert_non_null(a);
    a->next = c->answers;
    c->answers = a;
    bytes_append(&a->body, &a->size, "", 0);
    return a;
}

void bytes_append(char **bytes, size_t *size, const void *more, size_t n)
{
    char *grown = realloc(*bytes, *size + n + 1);
    assert_non_null(grown);
    memcpy(grown + *size, more, n);
    *size += n;
    grown[*size] = 0;
    *bytes = grown;
}

static size_t take_body(char *bytes, size_t one, size_t n, void *arg)
{
    struct answer *a = arg;
    bytes_append(&a->body, &a->size, bytes, one * n);
    return one * n;
}

/* One line of the headers at a time. A status line begins them anew: 100 Continue comes first. */
static size_t take_header(char *line, size_t one, size_t n, void *arg)
{
    struct answer *a = arg;
    size_t length = one * n;
    if (length >= 5 && !memcmp(line, "HTTP/", 5))
        a->headers_size = 0;
    while (length && (line[length - 1] == '\r' || line[length - 1] == '\n'))
        length--;
    bytes_append(&a->headers, &a->headers_size, line, length);
    bytes_append(&a->headers, &a->headers_size, "", 1);
    return one * n;
}

static struct curl_slist *call_headers(const struct call *call)
{
    char type[256];
    snprintf(type, sizeof type, "Content-Type: %s",
             call->content_type ? call->content_type : "application/json");
    struct curl_slist *list = call->body ? curl_slist_append(NULL, type) : NULL;
    for (const char *const *h = call->headers; h && *h; h++)
        list = curl_slist_append(list, *h);
    return list;
}

static void prepare(CURL *curl, const struct call *call, struct answer *a)
{
    /* Keeps the connections. */
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, request_seconds());
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    if (!strcmp(call->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (call->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->size);
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, a);
}

static CURLcode perform(struct client *c, const struct call *call, struct answer **a_r)
{
    char url[4096];
    if (snprintf(url, sizeof url, "http%s://%s%s", *c->ca_file ? "s" : "", c->address,
                 call->path) >= (int)sizeof url)
        fail_msg("a path of %zu characters", strlen(call->path));
    struct answer *a = client_answer(c);
    prepare(c->curl, call, a);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    if (*c->ca_file)
        curl_easy_setopt(c->curl, CURLOPT_CAINFO, c->ca_file);
    struct curl_slist *headers = call_headers(call);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(c->curl);
    curl_slist_free_all(headers);
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->curl, CURLINFO_NUM_CONNECTS, &a->connects);
    a->status = (int)status;
    *a_r = a;
    return code;
}

struct answer *client_send(struct client *c, const struct call *call)
{
    struct answer *a;
    CURLcode code = perform(c, call, &a);
    if (code != CURLE_OK)
        fail_msg("%s %s: %s", call->method, call->path, curl_easy_strerror(code));
    return a;
}

struct answer *client_try(struct client *c, const struct call *call)
{
    struct answer *a;
    return perform(c, call, &a) == CURLE_OK ? a : NULL;
}

struct answer *client_json(struct client *c, const char *method, const char *path, const char *json)
{
    struct call call = {
        .method = method, .path = path, .body = json, .size = json ? strlen(json) : 0};
    return client_send(c, &call);
}

struct answer *client_get(struct client *c, const char *path)
{
    return client_json(c, "GET", path, NULL);
}

struct answer *client_post(struct client *c, const char *path, const char *json)
{
    return client_json(c, "POST", path, json);
}
