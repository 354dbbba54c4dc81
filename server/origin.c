/* origin.c: what protects a daemon that trusts its network from the pages in its users' browsers.
 *
 * Host. A page of evil.example may let its own name point to 127.0.0.1 (DNS rebinding): to the
 * browser the daemon is then the page's own server. But it sends Host: evil.example, so only names
 * are answered that are meant: localhost, the host of --listen, those of --allowed-hosts, and
 * addresses in numbers, which no page can make its name. A request without a Host is no browser's.
 *
 * Origin. A page may send some requests to any server without asking (CORS' simple requests) and
 * would not be shown the answer, but a POST has done its work by then. So what changes something is
 * refused when its Origin is neither the daemon itself nor listed by --cors-origin.
 *
 * CORS. Pages of the listed origins may call: their preflights are answered, and the answers say
 * so.
 */
#define _GNU_SOURCE /* FNM_CASEFOLD */
#include "origin.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 256 };

/* Whether one of the globs, with commas and spaces between, matches; without regard to case. */
static bool list_has(const char *globs, const char *text)
{
    char glob[HOST_MAX];
    for (const char *at = globs ? globs : ""; *(at += strspn(at, ", "));) {
        size_t n = strcspn(at, ", ");
        if (n < sizeof glob) {
            memcpy(glob, at, n);
            glob[n] = 0;
            if (!fnmatch(glob, text, FNM_CASEFOLD))
                return true;
        }
        at += n;
    }
    return false;
}

/* ---- Host ------------------------------------------------------------------------------------ */

/* Of "name:port", "1.2.3.4:port" or "[v6]:port" what is before the port, without brackets and the
 * dot at the end. False: it has another form. */
static bool host_name(const char *host, char name_r[HOST_MAX], bool *brackets_r)
{
    *brackets_r = *host == '[';
    size_t n = *brackets_r ? strcspn(++host, "]") : strcspn(host, ":");
    const char *rest = host + n + (*brackets_r && host[n] ? 1 : 0);
    if (!n || n >= HOST_MAX || (*brackets_r && host[n] != ']') || (*rest && *rest != ':') ||
        (*rest && strspn(rest + 1, "0123456789") != strlen(rest + 1)))
        return false;
    memcpy(name_r, host, n);
    name_r[n - (n > 1 && host[n - 1] == '.')] = 0;
    return true;
}

static bool host_meant(const struct config *c, const char *host)
{
    unsigned char address[16];
    char name[HOST_MAX] = "";
    bool brackets;
    if (!host_name(host, name, &brackets))
        return false;
    if (brackets)
        return inet_pton(AF_INET6, name, address) == 1;
    return inet_pton(AF_INET, name, address) == 1 || !strcasecmp(name, "localhost") ||
           !strcasecmp(name, c->host) || list_has(c->allowed_hosts, name);
}

static int check_host(struct request *q)
{
    const char *host = request_header(q, "Host");
    if (!host || host_meant(q->server->config, host))
        return 0;
    return reply_errorf(q, ERROR_UNKNOWN_HOST,
                        "Host is '%.100s', which is no name of this server (--allowed-hosts)",
                        host);
}

/* ---- Origin ---------------------------------------------------------------------------------- */

/* Whether the page came from here: its scheme does not count, a proxy may have changed it. */
static bool origin_own(const struct request *q, const char *origin)
{
    const char *host = request_header(q, "Host"), *at = strstr(origin, "://");
    return host && at && !strcasecmp(at + 3, host);
}

static void allow_origin(struct request *q, const char *origin)
{
    reply_header(q, "Access-Control-Allow-Origin", origin);
    reply_header(q, "Vary", "Origin");
    reply_header(q, "Access-Control-Expose-Headers",
                 "Inference-Header-Content-Length, X-Request-Id, Retry-After, ETag, Allow");
}

static int reply_preflight(struct request *q)
{
    reply_header(q, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
    reply_header(q, "Access-Control-Allow-Headers",
                 "Authorization, Content-Type, Content-Encoding, Idempotency-Key, "
                 "Inference-Header-Content-Length, Last-Event-ID, X-Request-Id");
    reply_header(q, "Access-Control-Max-Age", "600");
    return reply_text(q, 204, NULL, "");
}

static int check_origin(struct request *q, const char *origin)
{
    bool listed = list_has(q->server->config->cors_origins, origin);
    bool reads = !strcmp(q->method, "GET") || !strcmp(q->method, "HEAD");
    if (listed)
        allow_origin(q, origin);
    if (listed && !strcmp(q->method, "OPTIONS") &&
        request_header(q, "Access-Control-Request-Method"))
        return reply_preflight(q);
    if (listed || reads || origin_own(q, origin))
        return 0;
    return reply_errorf(q, ERROR_ORIGIN,
                        "a page of '%.100s' may not change anything here (--cors-origin)", origin);
}

int origin_check(struct request *q)
{
    const char *origin = request_header(q, "Origin");
    int status = check_host(q);
    return status || !origin ? status : check_origin(q, origin);
}
