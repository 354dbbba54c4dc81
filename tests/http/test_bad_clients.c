/* test_bad_clients.c: clients that are slow, greedy, broken or hostile. Each gets a clear answer or
 * is cut off within its limit, and meanwhile the daemon answers others.
 *
 * Times in here are bounds of patience, never measurements: limits are set to seconds, and a test
 * waits much longer before it fails. tests/bench/bad_clients.py measures. */
#include "../support/remote.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 };

static const char line[] = "POST /v2/autograd HTTP/1.1\r\nHost: localhost\r\n";
static const char expression[] = "{\"expression\":\"1\"}"; /* 18 bytes */

static void healthy(struct daemon *d)
{
    answer_expect(client_get(d->client, "/v2/health/ready"), 200);
}

static bool send_text(int fd, const char *text)
{
    return raw_send(fd, text, strlen(text));
}

/* A gauge of /metrics. */
static double gauge(struct daemon *d, const char *name)
{
    struct answer *a = client_get(d->client, "/metrics");
    char start[80];
    answer_expect(a, 200);
    snprintf(start, sizeof start, "\n%s ", name);
    const char *at = strstr(a->body, start);
    if (!at)
        fail_msg("%s is not in /metrics", name);
    double value = strtod(at + strlen(start), NULL);
    client_forget(d->client);
    return value;
}

/* Sends a byte of `text` over and over, one every `every_ms`, until the server closes. */
static struct answer *drip(struct daemon *d, int fd, const char *text, int every_ms)
{
    struct answer *a = raw_answer(d->client);
    for (int i = 0; i < PATIENCE_MS / every_ms; i++) {
        send(fd, &text[(size_t)i % strlen(text)], 1, MSG_NOSIGNAL);
        if (raw_receive(fd, a, every_ms))
            return a;
    }
    fail_msg("the server has waited for %d s", PATIENCE_MS / 1000);
    return a;
}

static void expect_slow(struct answer *a)
{
    answer_expect(a, 408);
    assert_non_null(strstr(a->body, "\"request_timeout\""));
}

/* ---- slow ones ------------------------------------------------------------------------------- */

static void slow_headers(struct daemon *d)
{
    static const char *const begins[] = {"", "GET /v2 HTTP/1.1\r\n",
                                         "GET /v2 HTTP/1.1\r\nHost: localhost\r\nA: "};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        int fd = raw_connect(d->client);
        assert_true(send_text(fd, begins[i]));
        expect_slow(drip(d, fd, "abc", 100));
        close(fd);
        healthy(d);
    }
}

static void slow_body(struct daemon *d)
{
    int fd = raw_connect(d->client);
    send_text(fd, line);
    send_text(fd, "Content-Length: 100000\r\n\r\n{");
    expect_slow(drip(d, fd, " ", 50));
    close(fd);
    fd = raw_connect(d->client);
    send_text(fd, line);
    send_text(fd, "Transfer-Encoding: chunked\r\n\r\n");
    expect_slow(drip(d, fd, "1\r\n \r\n", 50));
    close(fd);
    healthy(d);
}

/* Fewer bytes than were announced, and then nothing. */
static void body_that_stops(struct daemon *d)
{
    int fd = raw_connect(d->client);
    struct answer *a = raw_answer(d->client);
    send_text(fd, line);
    send_text(fd, "Content-Length: 5000\r\n\r\n{\"expression\"");
    assert_true(raw_receive(fd, a, PATIENCE_MS));
    assert_true(a->status == 408 || a->size == 0); /* closed as idle by libmicrohttpd */
    close(fd);
    healthy(d);
}

/* Longer than the time limit, but always coming: that is a client with a slow line. */
static void slow_but_steady(struct daemon *d)
{
    char part[1000];
    int fd = raw_connect(d->client);
    memset(part, ' ', sizeof part);
    send_text(fd, line);
    send_text(fd, "Content-Length: 40018\r\n\r\n");
    for (int i = 0; i < 40; i++) {
        assert_true(raw_send(fd, part, sizeof part));
        sleep_ms(80);
    }
    send_text(fd, expression);
    struct answer *a = raw_answer(d->client);
    raw_receive(fd, a, 500);
    answer_expect(a, 200);
    close(fd);
}

/* A connection that is kept and not used is closed without an answer to a question that was not
 * asked. */
static void idle(struct daemon *d)
{
    int fd = raw_connect(d->client);
    struct answer *a = raw_answer(d->client);
    send_text(fd, "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_true(raw_receive(fd, a, PATIENCE_MS));
    answer_expect(a, 200);
    assert_null(strstr(a->body, "408"));
    close(fd);
    fd = raw_connect(d->client);
    a = raw_answer(d->client);
    assert_true(raw_receive(fd, a, PATIENCE_MS));
    assert_null(strstr(a->body, "HTTP/1.1 200"));
    close(fd);
}

/* Waits until the daemon has no connection but this client's. */
static void expect_alone(struct daemon *d)
{
    int tries = PATIENCE_MS / 50;
    while (gauge(d, "backpropd_connections") > 1 && tries--)
        sleep_ms(50);
    assert_true(tries > 0);
}

/* Asks for more than the buffers of sockets hold, and takes `step` bytes every `every_ms` until the
 * server has cut the connection. */
static void read_slowly(struct daemon *d, size_t step, int every_ms)
{
    static const char body[] = "{\"inputs\":[[1]]}";
    char request[300], *part = malloc(step);
    int small = 4096, tries = PATIENCE_MS / every_ms;
    assert_non_null(part);
    remote_create(d->client, "m",
                  "{\"inputs\":[{\"shape\":[-1,1]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":2000000}]}");
    snprintf(request, sizeof request,
             "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof body - 1, body);
    int fd = raw_connect(d->client);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    send_text(fd, request);
    assert_true(recv(fd, part, 1, 0) == 1);
    while (gauge(d, "backpropd_connections") > 1 && tries--) {
        recv(fd, part, step, MSG_DONTWAIT);
        sleep_ms(every_ms);
    }
    assert_true(tries > 0);
    free(part);
    close(fd);
}

static void slow_reader(struct daemon *d)
{
    read_slowly(d, 1, 100);
}

/* Bytes go out all the time, but fewer than --min-rate. */
static void reader_below_rate(struct daemon *d)
{
    read_slowly(d, 20000, 50);
}

/* Nobody is left of a hundred that vanish in the middle of a body, or end their half. */
static void half_open(struct daemon *d)
{
    for (int i = 0; i < 100; i++) {
        int fd = raw_connect(d->client);
        struct linger at_once = {1, 0};
        send_text(fd, line);
        send_text(fd, "Content-Length: 5000\r\n\r\n{");
        if (i % 2)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* close is a reset */
        else
            shutdown(fd, SHUT_WR);
        close(fd);
    }
    expect_alone(d);
}

/* ---- greedy ones ----------------------------------------------------------------------------- */

/* What a refused body of 100 MB may leave behind after some seconds. The address sanitizer holds
 * back 256 MB of what was freed, and shadows it. */
#ifdef __SANITIZE_ADDRESS__
static const double MEMORY_KEPT = 512 << 20;
#else
static const double MEMORY_KEPT = 64 << 20;
#endif

static void brackets(struct daemon *d)
{
    size_t size = 100 << 20;
    char *body = malloc(size);
    assert_non_null(body);
    memset(body, '[', size);
    healthy(d);
    double before = gauge(d, "process_resident_memory_bytes");
    struct call call = {.method = "POST", .path = "/v2/autograd", .body = body, .size = size};
    answer_refused(client_send(d->client, &call), 400, "bad_json", NULL);
    memcpy(body, "{\"expression\":", 14);
    answer_refused(client_send(d->client, &call), 400, "bad_json", NULL);
    free(body);
    client_forget(d->client);
    for (int i = 0; gauge(d, "process_resident_memory_bytes") >= before + MEMORY_KEPT; i++) {
        if (i == 100)
            fail_msg("the memory of a refused body is kept");
        sleep_ms(100);
    }
}

static void endless_chunks(struct daemon *d)
{
    char chunk[6 + 4096 + 2];
    struct answer *a = raw_answer(d->client);
    int fd = raw_connect(d->client), sent = 0;
    memset(chunk, ' ', sizeof chunk);
    memcpy(chunk, "1000\r\n", 6);
    memcpy(chunk + sizeof chunk - 2, "\r\n", 2);
    send_text(fd, line);
    send_text(fd, "Transfer-Encoding: chunked\r\n\r\n");
    while (sent < 20000 && raw_send(fd, chunk, sizeof chunk))
        sent++;
    raw_receive(fd, a, 5000);
    close(fd);
    assert_true(sent < 20000);
    assert_int_equal(a->status, 413);
    assert_non_null(strstr(a->body, "--max-body"));
    healthy(d);
}

/* A body that does end, after more than is thrown away: the client, which sends all of it before it
 * reads, gets the answer, too. And one that ends sooner, whose connection is kept. */
static void chunks_over_limit(struct daemon *d)
{
    const size_t sizes[] = {70000, 1000000, 1200000, 8 << 20};
    char *body = calloc(1, sizes[3]);
    assert_non_null(body);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct call call = {
            .method = "POST",
            .path = "/v2/autograd",
            .body = body,
            .size = sizes[i],
            .headers = (const char *const[]){"Transfer-Encoding: chunked", "Expect:", NULL}};
        struct answer *a = client_send(d->client, &call);
        answer_refused(a, 413, "body_too_large", "--max-body");
        assert_non_null(answer_header(a, "X-Request-Id"));
    }
    free(body);
    healthy(d);
}

static void header_floods(struct daemon *d)
{
    struct text t = {0};
    text_add(&t, "GET /v2 HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 20000; i++)
        text_add(&t, "A%d: b\r\n", i);
    struct answer *a = client_raw(d->client, t.data, t.size, false, 5000);
    assert_int_equal(a->status, 431);
    text_free(&t);
    t = (struct text){0};
    text_add(&t, "GET /v2 HTTP/1.1\r\nHost: localhost\r\nA: ");
    for (int i = 0; i < 20000; i++)
        text_add(&t, "bbbbbbbbbb");
    a = client_raw(d->client, t.data, t.size, false, 5000);
    assert_int_equal(a->status, 431);
    text_free(&t);
    t = (struct text){0};
    text_add(&t, "GET /");
    for (int i = 0; i < 20000; i++)
        text_add(&t, "bbbbbbbbbb");
    a = client_raw(d->client, t.data, t.size, false, 5000);
    assert_int_equal(a->status, 414);
    text_free(&t);
    healthy(d);
}

/* --max-headers: what is refused at 8K is taken at the default. */
static void header_limit(struct daemon *d)
{
    struct text t = {0};
    text_add(&t, "GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nA: ");
    for (int i = 0; i < 1000; i++)
        text_add(&t, "bbbbbbbbbb");
    text_add(&t, "\r\n\r\n");
    assert_int_equal(client_raw(d->client, t.data, t.size, false, 5000)->status, 431);
    daemon_stop(d);
    daemon_start(d, NULL);
    assert_int_equal(client_raw(d->client, t.data, t.size, false, 5000)->status, 200);
    text_free(&t);
}

static int count(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text++)
        n++;
    return n;
}

static void pipelining(struct daemon *d)
{
    struct text t = {0};
    for (int i = 0; i < 2000; i++)
        text_add(&t, "%sContent-Length: 18\r\n%s\r\n%s", line,
                 i == 1999 ? "Connection: close\r\n" : "", expression);
    struct answer *a = client_raw(d->client, t.data, t.size, false, PATIENCE_MS);
    assert_int_equal(count(a->body, "HTTP/1.1 200 OK"), 2000);
    text_free(&t);
}

/* Many more connections than there may be: those that were idle for longest make room, and who
 * comes in the middle of it is answered. */
static void many_connections(struct daemon *d)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int n = files.rlim_cur > 10100 ? 10000 : (int)files.rlim_cur - 100,
        *fds = calloc(10000, sizeof *fds);
    assert_non_null(fds);
    for (int i = 0; i < n; i++) {
        fds[i] = raw_connect(d->client);
        send_text(fds[i], i % 2 ? "GET /v2 HTTP/1.1\r\nHost: localhost\r\n" : "");
        if (i % 1000 == 999)
            healthy(d);
    }
    struct client *fresh = client_create(d->address);
    answer_expect(client_get(fresh, "/v2/health/ready"), 200);
    client_destroy(&fresh);
    assert_true(gauge(d, "backpropd_connections") <= 64);
    for (int i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
    healthy(d);
}

/* ---- broken and hostile ones ----------------------------------------------------------------- */

/* What can be read in two ways is refused, and nothing that follows is taken for a request. */
static void smuggling(struct daemon *d)
{
    static const char *const rows[] = {
        "Content-Length: 18\r\nContent-Length: 18\r\n",
        "Content-Length: 18\r\nContent-Length: 5\r\n",
        "Content-Length: 18, 18\r\n",
        "Content-Length: +18\r\n",
        "Content-Length: -18\r\n",
        "Content-Length: 0x12\r\n",
        "Content-Length: 18 18\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 18\r\n",
        "Content-Length\t: 18\r\n",
        "Content-Length: 18\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 18\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Host: y\r\nContent-Length: 18\r\n",
        "A: b\rContent-Length: 18\r\n",
        "Content-Length:\r\n 18\r\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {0};
        text_add(&t, "%s%s\r\n%s", line, rows[i], expression);
        text_add(&t, "GET /v2/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n");
        struct answer *a = client_raw(d->client, t.data, t.size, false, 5000);
        bool refused = a->status == 400 || a->status == 411 || a->status == 413;
        if (!refused || strstr(a->body, "smuggled"))
            fail_msg("%s is answered: %s", rows[i], a->body);
        text_free(&t);
    }
    healthy(d);
}

static void broken_chunks(struct daemon *d)
{
    static const char *const rows[] = {
        "-5\r\n{}\r\n0\r\n\r\n", "zz\r\n",           "10000000000000012\r\n{}",
        "2\r\n{}XX0\r\n\r\n",    "2{}\r\n0\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {0};
        text_add(&t, "%sTransfer-Encoding: chunked\r\n\r\n%s", line, rows[i]);
        struct answer *a = client_raw(d->client, t.data, t.size, true, 5000);
        if (a->status != 0 && (a->status < 400 || a->status > 431))
            fail_msg("%s is answered: %s", rows[i], a->body);
        text_free(&t);
    }
    healthy(d);
}

/* More bytes than were announced are the next request, and no good one. */
static void length_too_short(struct daemon *d)
{
    struct text t = {0};
    text_add(&t, "%sContent-Length: 3\r\n\r\n%s\r\n\r\n", line, expression);
    struct answer *a = client_raw(d->client, t.data, t.size, false, 2000);
    answer_expect(a, 400);
    assert_int_equal(count(a->body, "HTTP/1.1 200"), 0);
    text_free(&t);
    healthy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(slow_headers, "--request-timeout", "1"),
        DAEMON_TEST(slow_body, "--request-timeout", "1"),
        DAEMON_TEST(body_that_stops, "--request-timeout", "1"),
        DAEMON_TEST(slow_but_steady, "--request-timeout", "1"),
        DAEMON_TEST(idle, "--request-timeout", "1"),
        DAEMON_TEST(slow_reader, "--request-timeout", "2"),
        DAEMON_TEST(reader_below_rate, "--request-timeout", "2", "--min-rate", "2M"),
        DAEMON_TEST(half_open),
        DAEMON_TEST(brackets),
        DAEMON_TEST(endless_chunks, "--max-body", "1M"),
        DAEMON_TEST(chunks_over_limit, "--max-body", "64K"),
        DAEMON_TEST(header_floods),
        DAEMON_TEST(header_limit, "--max-headers", "8K"),
        DAEMON_TEST(pipelining),
        DAEMON_TEST(many_connections, "--connections", "64"),
        DAEMON_TEST(smuggling),
        DAEMON_TEST(broken_chunks),
        DAEMON_TEST(length_too_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
