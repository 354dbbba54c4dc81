/* api_metrics.c: the series of a model, for dashboards that poll: since a revision, sampled to as
 * many points as a chart has pixels. Columns, because that is what charts take. */
#include "api.h"
#include "events.h"

#include <string.h>

enum { MAX_NAMES = 64 };

struct point {
    uint64_t revision, step;
    double value;
    int64_t time_ms;
};

/* One series of the answer, in the order in which series first appear. */
struct series {
    char name[STORE_SERIES_NAME];
    struct point *points;
    size_t n, cap;
};

struct collected {
    struct arena *arena;
    struct series *series;
    int n, cap;
    struct events_cursor at; /* after what was collected */
    const struct store_metrics_query *query;
    bool failed; /* out of memory */
};

static void *grown(struct arena *a, void *old, size_t n, size_t cap, size_t size)
{
    void *more = arena_array(a, cap, size);
    if (more && n)
        memcpy(more, old, n * size);
    return more;
}

static struct series *series_of(struct collected *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->series[i].name, name) == 0)
            return &c->series[i];
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 8;
        c->series = grown(c->arena, c->series, (size_t)c->n, (size_t)c->cap, sizeof *c->series);
        if (!c->series)
            return NULL;
    }
    struct series *s = &c->series[c->n++];
    strncpy(s->name, name, sizeof s->name - 1);
    return s;
}

static int collect(void *arg, const struct store_metric *row)
{
    struct collected *c = arg;
    if (row->late > c->at.late)
        return 0; /* it came between the two queries: the next answer has it */
    struct series *s = series_of(c, row->series);
    if (s && s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->points = grown(c->arena, s->points, s->n, s->cap, sizeof *s->points);
    }
    if (!s || !s->points) {
        c->failed = true;
        return -1;
    }
    s->points[s->n++] = (struct point){row->revision, row->step, row->value, row->time_ms};
    c->at.revision = row->revision > c->at.revision ? row->revision : c->at.revision;
    return 0;
}

static int collect_named(void *arg, const struct store_metric *row)
{
    struct collected *c = arg;
    bool wanted = !c->query->n_names;
    for (int i = 0; i < c->query->n_names; i++)
        wanted |= !strcmp(c->query->names[i], row->series);
    return wanted ? collect(c, row) : 0;
}

static void write_series(struct json_out *w, const struct series *s)
{
    out_key(w, s->name);
    out_open_object(w);
#define COLUMN(key, put, field)                                                                    \
    out_key(w, key);                                                                               \
    out_open_array(w);                                                                             \
    for (size_t i = 0; i < s->n; i++)                                                              \
        put(w, s->points[i].field);                                                                \
    out_close(w)
    COLUMN("revision", out_uint, revision);
    COLUMN("step", out_uint, step);
    COLUMN("value", out_double, value);
    COLUMN("time_ms", out_int, time_ms);
#undef COLUMN
    out_close(w);
}

/* "loss,accuracy" in place; the number of names, -1 when there are too many. */
static int split_names(char *text, const char **names)
{
    int n = 0;
    char *save = NULL;
    for (char *s = strtok_r(text, ",", &save); s; s = strtok_r(NULL, ",", &save)) {
        if (n == MAX_NAMES)
            return -1;
        names[n++] = s;
    }
    return n;
}

/* "150" or "150.3", as events have it. */
static int read_since(struct request *q, struct events_cursor *since_r)
{
    const char *text = request_query(q, "since");
    *since_r = (struct events_cursor){0};
    if (q->status || !text)
        return q->status ? -1 : 0;
    if (!events_cursor_read(since_r, text)) {
        reply_errorf(q, ERROR_BAD_QUERY,
                     "since is '%.40s', expected a revision or a cursor, such as 150 or 150.3",
                     text);
        return -1;
    }
    if (since_r->revision && !strchr(text, '.'))
        since_r->late = EVENTS_LATE_NOW;
    return 0;
}

static int read_query(struct request *q, struct store_metrics_query *x, const char **names,
                      struct events_cursor *since_r)
{
    int64_t until, max_points;
    if (read_since(q, since_r) || query_int(q, "until", INT64_MAX, 0, INT64_MAX, &until) ||
        query_int(q, "max_points", 1000, 1, STORE_MAX_POINTS, &max_points))
        return -1;
    const char *text = request_query(q, "names");
    if (q->status)
        return -1;
    int n = text ? split_names((char *)text, names) : 0;
    if (n < 0) {
        reply_errorf(q, ERROR_BAD_QUERY, "names: at most %d series in one request", MAX_NAMES);
        return -1;
    }
    *x = (struct store_metrics_query){request_model(q)->id, names,           n,
                                      since_r->revision,    (uint64_t)until, (int)max_points};
    return 0;
}

/* The late rows of revisions that were passed; with EVENTS_LATE_NOW only their number. */
static int collect_late(struct request *q, const struct store_metrics_query *x, struct collected *c,
                        struct error *e)
{
    int64_t late = c->at.late, before;
    bool now = late == EVENTS_LATE_NOW;
    int failed;
    c->at.late = INT64_MAX; /* all of these are wanted */
    do {
        before = late;
        failed = store_metrics_late(request_models(q)->store, x->model_id, x->since, &late,
                                    now ? NULL : collect_named, c, e);
    } while (!failed && !c->failed && !now && late != before);
    c->at.late = late;
    return failed;
}

/* Of the published state: its rows, and those of revisions before it, were appended before. */
static uint64_t present_revision(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    const uint64_t revision = m->at.revision;
    pthread_mutex_unlock(&m->lock);
    return revision;
}

/* After a query that has seen all rows up to `revision` and `until`: whoever goes on from here
 * misses none, whether the series asked for had rows or not. */
static void cursor_move(struct events_cursor *at, uint64_t revision, uint64_t until)
{
    const uint64_t seen = revision < until ? revision : until;
    at->revision = at->revision > seen ? at->revision : seen;
}

static void write_cursor(struct json_out *w, const struct events_cursor *at)
{
    char text[64];
    events_cursor_write(at, text, sizeof text);
    out_put_uint(w, "last_revision", at->revision);
    out_put_string(w, "cursor", text);
}

int api_metrics(struct request *q)
{
    const char *names[MAX_NAMES];
    struct store_metrics_query x;
    struct collected c = {.arena = q->arena, .query = &x};
    struct error e = {0};
    if (read_query(q, &x, names, &c.at))
        return q->status;
    const uint64_t revision = present_revision(request_model(q)); /* before its rows are read */
    if (c.at.revision > revision) /* of a life of the model that is over */
        c.at.revision = x.since = revision;
    if (collect_late(q, &x, &c, &e) ||
        (store_metrics_query(request_models(q)->store, &x, collect, &c, &e) && !c.failed))
        return reply_error(q, &e);
    if (c.failed)
        return reply_errorf(q, ERROR_OUT_OF_MEMORY, "out of memory for so many points");
    cursor_move(&c.at, revision, x.until);
    struct json_out w = JSON_OUT_INIT;
    out_open_object(&w);
    out_put_string(&w, "model_name", request_model(q)->name);
    write_cursor(&w, &c.at);
    out_key(&w, "series");
    out_open_object(&w);
    for (int i = 0; i < c.n; i++)
        write_series(&w, &c.series[i]);
    out_close(&w);
    out_put_non_finite(&w);
    out_close(&w);
    return reply_json(q, 200, &w);
}
