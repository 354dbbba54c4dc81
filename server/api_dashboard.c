/* api_dashboard.c: the page at / and its files, which lie in the binary. The page may load nothing
 * but these, talk to nobody but this daemon, and be shown in no other page's frame. Files are kept
 * by browsers, who ask each time whether they are still the same. */
#include "api.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* One row a file: its symbol, its name under /dashboard/, its type, where it is at build time
 * (CHART_JS is the Makefile's). */
#define PAGE   "server/dashboard/"
#define HTML   "text/html; charset=utf-8"
#define SCRIPT "text/javascript; charset=utf-8"
#define STYLE  "text/css; charset=utf-8"
#define ASSETS(X)                                                                                  \
    X(index, "index.html", HTML, PAGE "index.html")                                                \
    X(style, "style.css", STYLE, PAGE "style.css")                                                 \
    X(app, "app.js", SCRIPT, PAGE "app.js")                                                        \
    X(api, "api.js", SCRIPT, PAGE "api.js")                                                        \
    X(dom, "dom.js", SCRIPT, PAGE "dom.js")                                                        \
    X(aliases, "aliases.js", SCRIPT, PAGE "aliases.js")                                            \
    X(curves, "curves.js", SCRIPT, PAGE "curves.js")                                               \
    X(plot, "plot.js", SCRIPT, PAGE "plot.js")                                                     \
    X(predict, "predict.js", SCRIPT, PAGE "predict.js")                                            \
    X(pad, "pad.js", SCRIPT, PAGE "pad.js")                                                        \
    X(versions, "versions.js", SCRIPT, PAGE "versions.js")                                         \
    X(signals, "signals.js", SCRIPT, PAGE "signals.js")                                            \
    X(heat, "heat.js", SCRIPT, PAGE "heat.js")                                                     \
    X(histogram, "histogram.js", SCRIPT, PAGE "histogram.js")                                      \
    X(layers, "layers.js", SCRIPT, PAGE "layers.js")                                               \
    X(chart, "chart.js", SCRIPT, CHART_JS)

#define ASSET_EMBED(symbol, name, type, file)                                                      \
    __asm__(".pushsection .rodata\n"                                                               \
            "dashboard_" #symbol ":\n"                                                             \
            ".incbin \"" file "\"\n"                                                               \
            "dashboard_" #symbol "_end:\n"                                                         \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char dashboard_##symbol[] __attribute__((visibility("hidden")));                  \
    extern const char dashboard_##symbol##_end[] __attribute__((visibility("hidden")));
ASSETS(ASSET_EMBED)

static const struct asset {
    const char *name, *type, *begin, *end;
} assets[] = {
#define ASSET_ROW(symbol, name, type, file)                                                        \
    {name, type, dashboard_##symbol, dashboard_##symbol##_end},
    ASSETS(ASSET_ROW)};

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/* Whether the client has it already: If-None-Match is a list of tags, or "*". */
static bool has_already(const struct request *q, const char *tag)
{
    const char *known = request_header(q, "If-None-Match");
    return known && (!strcmp(known, "*") || strstr(known, tag));
}

static int reply_asset(struct request *q, const struct asset *a)
{
    char tag[32];
    size_t size = (size_t)(a->end - a->begin);
    snprintf(tag, sizeof tag, "\"%016llx\"", (unsigned long long)XXH3_64bits(a->begin, size));
    reply_header(q, "ETag", tag);
    reply_header(q, "Cache-Control", "no-cache");
    reply_header(q, "Content-Security-Policy", policy);
    reply_header(q, "X-Frame-Options", "DENY");
    reply_header(q, "Cross-Origin-Opener-Policy", "same-origin");
    reply_header(q, "Referrer-Policy", "no-referrer");
    bool same = has_already(q, tag);
    return reply_bytes(q, same ? 304 : 200, a->type, a->begin, same ? 0 : size, BODY_ARENA);
}

static int reply_file(struct request *q, const char *name)
{
    for (size_t i = 0; i < sizeof assets / sizeof *assets; i++)
        if (!strcmp(assets[i].name, name))
            return reply_asset(q, &assets[i]);
    return reply_errorf(q, ERROR_UNKNOWN_PATH, "the dashboard has no file '%.60s'", name);
}

int api_dashboard(struct request *q)
{
    return reply_file(q, request_param(q, "file"));
}

int api_home(struct request *q)
{
    const char *accept = request_header(q, "Accept");
    reply_header(q, "Vary", "Accept");
    return accept && strstr(accept, "text/html") ? reply_file(q, "index.html") : api_index(q);
}
