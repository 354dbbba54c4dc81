/* events.c: the thread behind the streams of events.
 *
 * Every TICK_MS it looks whether the store has been given rows since it last looked. For each
 * stream whose text has been sent it then queries the rows of WINDOW revisions above the cursor, so
 * that no series has more rows than points and none is left out. A window that ends below the
 * model's present revision is complete: its rows were appended before that revision was published.
 * The cursor then moves to its end. Otherwise it moves to the last row that was seen.
 *
 * Rows that came late (an evaluation's) have numbers, and a cursor holds the last one it has seen.
 * Those above it go out first, as far as their revision has been passed; in a window those above
 * the last number that was looked at are left out, since the next round finds them passed.
 *
 * A stream belongs to the thread while `busy`: the lock is given up for the query, and a client
 * that leaves meanwhile only marks it as closed. */
#include "events.h"

#include "models.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TICK_MS = 150,
    WINDOW = 512,          /* revisions in one query */
    KEEP_ALIVE_MS = 15000, /* a comment: a client that has vanished does not acknowledge it */
    RECONNECT_MS = 2000,   /* what clients are told to wait */
    MS = 1000,
    NS_MS = 1000000,
};

struct stream {
    struct body_stream body; /* first: it is what others have */
    struct events *events;
    struct model *model;
    struct stream *next, **link;
    struct events_cursor at; /* rows up to it are in the text, or there are none */
    uint64_t rows;           /* store_metrics_appended before the last query */
    bool more;               /* the last query was not the end */
    char *text;              /* to be sent */
    size_t size, sent;
    int64_t spoke_ms; /* monotonic: when text was last made */
    bool hungry;      /* all is sent, and the reader waits to be woken */
    bool busy;        /* the thread has it */
    bool closed;      /* by its client, while busy */
    bool last;        /* no text will follow this one */
};

struct events {
    struct store *store;
    int64_t max_streams;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all that follows, and the streams */
    pthread_cond_t wake;
    struct stream *streams;
    int64_t n;
    bool stop;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * MS + t.tv_nsec / NS_MS;
}

/* ---- cursors --------------------------------------------------------------------------------- */

size_t events_cursor_write(const struct events_cursor *c, char *text, size_t size)
{
    int n = snprintf(text, size, c->late ? "%llu.%lld" : "%llu", (unsigned long long)c->revision,
                     (long long)c->late);
    return (size_t)n;
}

bool events_cursor_read(struct events_cursor *c, const char *text)
{
    static const char digit[] = "0123456789";
    size_t n = strspn(text, digit), m = text[n] == '.' ? strspn(text + n + 1, digit) : 0;
    bool dot = text[n] == '.';
    if (!n || n > 18 || m > 18 || (dot && !m) || text[n + dot + m])
        return false;
    *c =
        (struct events_cursor){strtoull(text, NULL, 10), dot ? strtoll(text + n + 1, NULL, 10) : 0};
    return true;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Rows become events: those of one revision come together. */
struct writer {
    struct json_out text;    /* of whole events */
    struct json_out event;   /* the one that is open */
    struct events_cursor at; /* after it */
    uint64_t revision;       /* of its rows; of the last one when none is open */
    bool open;
    bool last; /* the model is gone: nothing follows */
};

static void event_end(struct writer *w)
{
    if (!w->open)
        return;
    out_close(&w->event);
    out_put_non_finite(&w->event);
    out_close(&w->event);
    char head[80] = "id: ", *end = head + 4;
    end += events_cursor_write(&w->at, end, sizeof head - 4);
    out_append_bytes(&w->text, head, (size_t)(end - head));
    out_append_bytes(&w->text, "\ndata: ", 7);
    out_append_bytes(&w->text, w->event.data, w->event.size);
    out_append_bytes(&w->text, "\n\n", 2);
    w->text.failed |= w->event.failed;
    out_free(&w->event);
    w->open = false;
}

static void event_begin(struct writer *w, const struct store_metric *row)
{
    out_open_object(&w->event);
    out_put_uint(&w->event, "revision", row->revision);
    out_put_uint(&w->event, "step", row->step);
    out_put_int(&w->event, "time_ms", row->time_ms);
    out_key(&w->event, "values");
    out_open_object(&w->event);
    w->revision = row->revision;
    w->open = true;
}

static int write_row(void *arg, const struct store_metric *row)
{
    struct writer *w = arg;
    if (w->open && row->revision != w->revision)
        event_end(w);
    if (!w->open)
        event_begin(w, row);
    out_put_double(&w->event, row->series, row->value);
    return 0;
}

static int write_late(void *arg, const struct store_metric *row)
{
    struct writer *w = arg;
    write_row(w, row);
    w->at.late = row->late;
    return 0;
}

static int write_window(void *arg, const struct store_metric *row)
{
    struct writer *w = arg;
    if (row->late > w->at.late)
        return 0;
    write_row(w, row);
    w->at.revision = row->revision;
    return 0;
}

/* ---- feeding a stream ------------------------------------------------------------------------ */

static uint64_t model_revision(struct model *m, enum model_presence *presence_r)
{
    pthread_mutex_lock(&m->lock);
    uint64_t revision = m->at.revision;
    *presence_r = m->presence;
    pthread_mutex_unlock(&m->lock);
    return revision;
}

/* The last words of a stream; a model that is unloaded may come back. */
static const char *const goodbye[] = {
    [MODEL_THERE] = "",
    [MODEL_DELETED] = "event: deleted\ndata: {}\n\n",
    [MODEL_UNLOADED] = "event: unloaded\ndata: {}\n\n",
};

/* Late rows, then the rows of one window, without the lock. What fails leaves the cursor and is
 * read again at the next tick. */
static int read_rows(struct stream *s, struct writer *w, uint64_t revision, struct error *e)
{
    struct store *store = s->events->store;
    int64_t late = s->at.late;
    w->at = s->at;
    w->revision = s->at.revision;
    bool now = late == EVENTS_LATE_NOW;
    if (store_metrics_late(store, s->model->id, s->at.revision, &late, now ? NULL : write_late, w,
                           e))
        return -1;
    event_end(w);
    s->more = !now && late > s->at.late;
    w->at.late = late;
    uint64_t until = s->at.revision + WINDOW;
    struct store_metrics_query x = {s->model->id, NULL, 0, s->at.revision, until, WINDOW};
    if (store_metrics_query(store, &x, write_window, w, e))
        return -1;
    event_end(w);
    if (until < revision)
        w->at.revision = until;
    s->more |= until < revision;
    return 0;
}

static void read_window(struct stream *s, struct writer *w)
{
    struct error e;
    uint64_t rows = store_metrics_appended(s->events->store);
    enum model_presence presence;
    uint64_t revision = model_revision(s->model, &presence);
    int failed = read_rows(s, w, revision, &e);
    w->last = presence != MODEL_THERE;
    out_append_bytes(&w->text, goodbye[presence], strlen(goodbye[presence]));
    if (failed || w->text.failed) {
        s->rows = UINT64_MAX;
        s->more = false;
        w->text.failed = true;
        return;
    }
    s->rows = rows;
    s->at = w->at;
}

static bool due(const struct stream *s, uint64_t rows, int64_t now)
{
    enum model_presence presence;
    if (!s->hungry)
        return false;
    model_revision(s->model, &presence);
    return presence != MODEL_THERE || s->more || s->rows != rows ||
           now - s->spoke_ms >= KEEP_ALIVE_MS;
}

/* Text for a hungry stream; the text of a failed attempt is not used. */
static void take_text(struct stream *s, struct writer *w, int64_t now)
{
    static const char still_here[] = ": still here\n\n";
    if (!w->text.failed && !w->text.size && now - s->spoke_ms >= KEEP_ALIVE_MS)
        out_append_bytes(&w->text, still_here, sizeof still_here - 1);
    if (w->text.failed || !w->text.size)
        return;
    free(s->text);
    s->text = w->text.data;
    s->size = w->text.size;
    s->sent = 0;
    s->spoke_ms = now;
    s->last = w->last;
    s->hungry = false;
    w->text = JSON_OUT_INIT;
    s->body.wake(s->body.wake_arg);
}

static void stream_free(struct stream *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    s->events->n--;
    model_release(&s->model);
    free(s->text);
    free(s);
}

/* With the lock, which it gives up meanwhile. */
static void feed(struct events *v, struct stream *s)
{
    struct writer w = {0};
    s->busy = true;
    pthread_mutex_unlock(&v->lock);
    read_window(s, &w);
    pthread_mutex_lock(&v->lock);
    s->busy = false;
    if (!s->closed)
        take_text(s, &w, now_ms());
    out_free(&w.text);
    out_free(&w.event);
}

/* A client that has closed its connection: the stream ends, and makes room for another. */
static bool end_left(struct stream *s)
{
    if (!s->hungry || !s->body.gone(s->body.wake_arg))
        return false;
    s->last = true;
    s->hungry = false;
    s->body.wake(s->body.wake_arg);
    return true;
}

/* Whether another round should follow at once. */
static bool feed_all(struct events *v)
{
    bool again = false;
    struct stream *next;
    uint64_t rows = store_metrics_appended(v->store);
    for (struct stream *s = v->streams; s; s = next) {
        if (!end_left(s) && due(s, rows, now_ms()))
            feed(v, s);
        again |= s->hungry && s->more;
        next = s->next; /* after the lock was given up: it may have changed */
        if (s->closed)
            stream_free(s);
    }
    return again;
}

static void tick_wait(struct events *v)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)TICK_MS * NS_MS;
    until.tv_sec += ns / ((int64_t)MS * NS_MS);
    until.tv_nsec = ns % ((int64_t)MS * NS_MS);
    if (v->streams)
        pthread_cond_timedwait(&v->wake, &v->lock, &until);
    else
        pthread_cond_wait(&v->wake, &v->lock);
}

static void *run(void *arg)
{
    struct events *v = arg;
    pthread_mutex_lock(&v->lock);
    while (!v->stop)
        if (!feed_all(v) && !v->stop)
            tick_wait(v);
    pthread_mutex_unlock(&v->lock);
    return NULL;
}

/* ---- the stream's side, in the HTTP thread --------------------------------------------------- */

static ssize_t stream_read(struct body_stream *b, char *out, size_t size)
{
    struct stream *s = (struct stream *)b;
    pthread_mutex_lock(&s->events->lock);
    size_t n = s->size - s->sent < size ? s->size - s->sent : size;
    if (n)
        memcpy(out, s->text + s->sent, n);
    s->sent += n;
    bool end = !n && s->last;
    if (!n && !end) {
        s->hungry = true;
        if (s->more)
            pthread_cond_signal(&s->events->wake);
    }
    pthread_mutex_unlock(&s->events->lock);
    return end ? -1 : (ssize_t)n;
}

static void stream_close(struct body_stream *b)
{
    struct stream *s = (struct stream *)b;
    struct events *v = s->events;
    pthread_mutex_lock(&v->lock);
    if (s->busy)
        s->closed = true;
    else
        stream_free(s);
    pthread_mutex_unlock(&v->lock);
}

static void stream_link(struct events *v, struct stream *s)
{
    s->next = v->streams;
    s->link = &v->streams;
    if (s->next)
        s->next->link = &s->next;
    v->streams = s;
    v->n++;
    pthread_cond_signal(&v->wake);
}

/* A cursor from before a loss of power may be ahead of the model: what follows is new to it. */
static struct stream *stream_create(struct events *v, struct model *m, struct events_cursor at)
{
    enum model_presence presence;
    char hello[48];
    uint64_t revision = model_revision(m, &presence);
    struct stream *s = calloc(1, sizeof *s);
    int n = snprintf(hello, sizeof hello, "retry: %d\n\n", RECONNECT_MS);
    char *text = strndup(hello, (size_t)n);
    if (!s || !text) {
        free(s);
        free(text);
        return NULL;
    }
    *s = (struct stream){.body = {.read = stream_read, .close = stream_close},
                         .events = v,
                         .model = model_hold(m),
                         .at = {at.revision < revision ? at.revision : revision, at.late},
                         .more = true,
                         .text = text,
                         .size = (size_t)n,
                         .spoke_ms = now_ms()};
    return s;
}

struct body_stream *events_open(struct events *v, struct model *m, struct events_cursor since,
                                struct error *e)
{
    pthread_mutex_lock(&v->lock);
    bool full = v->n >= v->max_streams;
    struct stream *s = full ? NULL : stream_create(v, m, since);
    if (s)
        stream_link(v, s);
    pthread_mutex_unlock(&v->lock);
    if (full)
        error_set(e, ERROR_QUEUE_FULL, "there are %lld streams of events already (--max-streams)",
                  (long long)v->max_streams);
    else if (!s)
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for a stream of events");
    return s ? &s->body : NULL;
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct events *events_create(struct store *store, int64_t max_streams, struct error *e)
{
    struct events *v = calloc(1, sizeof *v);
    if (!v) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
        return NULL;
    }
    v->store = store;
    v->max_streams = max_streams;
    pthread_mutex_init(&v->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&v->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!pthread_create(&v->thread, NULL, run, v))
        return v;
    pthread_cond_destroy(&v->wake);
    pthread_mutex_destroy(&v->lock);
    free(v);
    error_set(e, ERROR_NOT_READY, "cannot start the thread of the event streams");
    return NULL;
}

void events_destroy(struct events **events)
{
    struct events *v = *events;
    if (!v)
        return;
    *events = NULL;
    pthread_mutex_lock(&v->lock);
    v->stop = true;
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->lock);
    pthread_join(v->thread, NULL);
    pthread_cond_destroy(&v->wake);
    pthread_mutex_destroy(&v->lock);
    free(v);
}
