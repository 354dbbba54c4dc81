/* http_peer.c: the list of connections, the thread that looks for slow ones, and eviction.
 *
 * A connection is ended by shutdown(2): libmicrohttpd then reads its end and cleans up in its own
 * thread. It tells us before it closes the socket, and takes our lock for that, so under the lock
 * no descriptor is another's. */
#include "http_peer.h"

#include "http_raw.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    SPARE = 8,      /* connections below the limit at which idle ones make room */
    COUNTS_MAX = 32 /* times a second that a connection's bytes are read when it enters a phase */
};

struct peer {
    struct peers *owner;
    struct peer *next, **link; /* in the order of `since` */
    int fd;
    enum peer_phase phase;
    double since;        /* it is in this phase, seconds */
    uint64_t in, out;    /* bytes until then, as the kernel counts them */
    int counts;          /* how often they were read in this second */
    bool known;          /* they were read in this phase */
    bool slow;           /* cut for it */
    struct tls_peer tls; /* its certificate; when owner->tls */
};

struct peers {
    const struct config *config;
    struct tls *tls;
    void (*each_second)(void *);
    void *arg; /* its */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards all below, and each peer */
    pthread_cond_t wake;
    bool ending;
    int n;
    struct peer *first, **last;
};

double http_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the list, under the lock ---------------------------------------------------------------- */

static void list_add(struct peers *ps, struct peer *p)
{
    p->next = NULL;
    p->link = ps->last;
    *ps->last = p;
    ps->last = &p->next;
    ps->n++;
}

static void list_remove(struct peers *ps, struct peer *p)
{
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    else
        ps->last = p->link;
    ps->n--;
}

/* ---- cutting connections, under the lock ----------------------------------------------------- */

/* What the kernel has counted; false where it does not. */
static bool bytes_moved(int fd, uint64_t *in_r, uint64_t *out_r)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) ||
        size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
        return false;
    *in_r = info.tcpi_bytes_received;
    *out_r = info.tcpi_bytes_acked;
    return true;
}

/* The answer to a request that is not all there. libmicrohttpd writes nothing on a connection in
 * these phases, and over TLS nobody else can write. */
static void answer_slow(const struct peer *p)
{
    if (!p->owner->tls && (p->phase == PEER_HEADERS || p->phase == PEER_BODY))
        http_answer_raw(p->fd, ERROR_SLOW,
                        "the request came too slowly: headers must be complete within "
                        "--request-timeout, and bodies come at --min-rate");
}

/* Whether it has taken too long for what it does. */
static bool is_slow(struct peer *p, double now)
{
    const struct config *c = p->owner->config;
    double late = now - p->since - (double)c->request_timeout;
    uint64_t in = 0, out = 0;
    if (p->phase == PEER_BUSY || p->phase == PEER_STREAM || late < 0)
        return false;
    if (p->phase == PEER_HEADERS)
        return true;
    if (!p->known || !bytes_moved(p->fd, &in, &out))
        return false;
    uint64_t moved = p->phase == PEER_BODY ? in - p->in : out - p->out;
    return (double)moved < late * (double)c->min_rate;
}

/* Of a connection that enters phases so often that their bytes are not read each time, they count
 * from here: less than a second late, which no limit is shorter than. */
static void count_late(struct peer *p)
{
    p->counts = 0;
    if (!p->known && p->phase != PEER_BUSY && p->phase != PEER_STREAM)
        p->known = bytes_moved(p->fd, &p->in, &p->out);
}

static void cut_slow(struct peers *ps)
{
    static const struct linger at_once = {1, 0};
    double now = http_now();
    for (struct peer *p = ps->first; p; p = p->next) {
        uint64_t in, out;
        count_late(p);
        if (p->slow || !is_slow(p, now))
            continue;
        p->slow = true;
        /* A kept connection on which nothing has come since is just closed. */
        if (p->phase != PEER_HEADERS || !bytes_moved(p->fd, &in, &out) || in > p->in)
            answer_slow(p);
        if (p->phase == PEER_ANSWER) /* what it does not take is not kept for it by the kernel */
            setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        shutdown(p->fd, SHUT_RDWR);
    }
}

/* The connection that has been idle for longest makes room for a new one. */
static void make_room(struct peers *ps)
{
    int64_t limit = ps->config->connections;
    if (ps->n < limit - (limit > 2 * SPARE ? SPARE : 0))
        return;
    for (struct peer *p = ps->first; p; p = p->next)
        if (p->phase == PEER_HEADERS && !p->slow) {
            p->slow = true;
            shutdown(p->fd, SHUT_RDWR);
            return;
        }
}

static void *watch(void *arg)
{
    struct peers *ps = arg;
    struct timespec until;
    pthread_mutex_lock(&ps->mutex);
    while (!ps->ending) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec++;
        pthread_cond_timedwait(&ps->wake, &ps->mutex, &until);
        cut_slow(ps);
        pthread_mutex_unlock(&ps->mutex);
        ps->each_second(ps->arg);
        pthread_mutex_lock(&ps->mutex);
    }
    pthread_mutex_unlock(&ps->mutex);
    return NULL;
}

/* ---- what http.c calls ----------------------------------------------------------------------- */

/* A client that vanishes without a word takes nothing any more, but an answer without an end is
 * always between two lines: the kernel, which alone sees that they are not acknowledged, would try
 * for a quarter of an hour. */
static void expect_acknowledgements(const struct peers *ps, int fd)
{
    unsigned ms = (unsigned)(ps->config->request_timeout * 1000);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

static void peer_begin(struct peers *ps, struct MHD_Connection *c, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct peer *p = info ? calloc(1, sizeof *p) : NULL;
    *context = p;
    if (!p)
        return;
    *p = (struct peer){.owner = ps, .fd = info->connect_fd, .since = http_now(), .known = true};
    expect_acknowledgements(ps, p->fd);
    if (ps->tls)
        tls_peer_begin(&p->tls, ps->tls, c, p->fd);
    pthread_mutex_lock(&ps->mutex);
    make_room(ps);
    list_add(ps, p);
    pthread_mutex_unlock(&ps->mutex);
}

static void peer_end(struct peers *ps, void **context)
{
    struct peer *p = *context;
    *context = NULL;
    if (!p)
        return;
    pthread_mutex_lock(&ps->mutex);
    list_remove(ps, p);
    pthread_mutex_unlock(&ps->mutex);
    tls_peer_end(&p->tls);
    free(p);
}

void peers_notify(void *peers, struct MHD_Connection *c, void **context,
                  enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        peer_begin(peers, c, context);
    else
        peer_end(peers, context);
}

struct peer *peer_of(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

void peer_enter(struct peer *p, enum peer_phase phase)
{
    if (!p)
        return;
    struct peers *ps = p->owner;
    double now = http_now();
    pthread_mutex_lock(&ps->mutex);
    if (phase != PEER_BUSY && phase != PEER_STREAM)
        p->known = p->counts++ < COUNTS_MAX && bytes_moved(p->fd, &p->in, &p->out);
    p->phase = phase;
    p->since = now;
    list_remove(ps, p);
    list_add(ps, p);
    pthread_mutex_unlock(&ps->mutex);
}

bool peer_was_slow(const struct peer *p)
{
    if (!p)
        return false;
    pthread_mutex_lock(&p->owner->mutex);
    bool slow = p->slow;
    pthread_mutex_unlock(&p->owner->mutex);
    return slow;
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct peers *peers_create(const struct config *c, struct tls *tls, void (*each_second)(void *),
                           void *arg, struct error *e)
{
    struct peers *ps = calloc(1, sizeof *ps);
    if (!ps) {
        error_set(e, ERROR_OUT_OF_MEMORY, "out of memory for the connections");
        return NULL;
    }
    *ps = (struct peers){
        .config = c, .tls = tls, .each_second = each_second, .arg = arg, .last = &ps->first};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ps->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&ps->mutex, NULL);
    int failed = pthread_create(&ps->thread, NULL, watch, ps);
    if (!failed)
        return ps;
    error_set(e, ERROR_NOT_READY, "cannot start the thread that watches connections: %s",
              strerror(failed));
    pthread_cond_destroy(&ps->wake);
    pthread_mutex_destroy(&ps->mutex);
    free(ps);
    return NULL;
}

void peers_destroy(struct peers **peers)
{
    struct peers *ps = *peers;
    *peers = NULL;
    if (!ps)
        return;
    pthread_mutex_lock(&ps->mutex);
    ps->ending = true;
    pthread_cond_broadcast(&ps->wake);
    pthread_mutex_unlock(&ps->mutex);
    pthread_join(ps->thread, NULL);
    pthread_cond_destroy(&ps->wake);
    pthread_mutex_destroy(&ps->mutex);
    free(ps);
}
