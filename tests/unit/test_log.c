/* test_log.c: lines of the log: times, numbers and quoting; the buffer keeps order and loses
 * nothing.
 */
#define _GNU_SOURCE
#include "../../server/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* What is in the file, without what was there before `from`. */
static char *contents(int fd, off_t from)
{
    off_t size = lseek(fd, 0, SEEK_END) - from;
    char *text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(pread(fd, text, (size_t)size, from), size);
    return text;
}

static void test_times(void **state)
{
    (void)state;
    for (int64_t t = 0; t < 253402300800; t += 86399 * 7) { /* to the year 9999 */
        struct timespec now = {.tv_sec = t, .tv_nsec = t % 1000 * 1000000 + 999999};
        struct tm utc;
        char text[LOG_TIME_TEXT], expected[64];
        gmtime_r(&now.tv_sec, &utc);
        size_t n = strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%S", &utc);
        snprintf(expected + n, sizeof expected - n, ".%03dZ", (int)(t % 1000));
        log_time_text(&now, text);
        assert_string_equal(text, expected);
    }
}

static void test_fields(void **state)
{
    (void)state;
    int fd = memfd_create("log", 0);
    struct log log = {LOG_INFO, fd, LOG_LOGFMT, NULL};
    log_line(&log, LOG_DEBUG, "dropped");
    log_line(&log, LOG_INFO, "e", LOG_STR("a", "b c"), LOG_STR("none", NULL), LOG_INT("i", -7),
             LOG_REAL("r", 1234.5678), LOG_REAL("small", -0.0004), LOG_REAL("neg", -2.9996),
             LOG_REAL("huge", 1e30), LOG_STR("q", "\"\n"));
    char *text = contents(fd, 0);
    assert_string_equal(strstr(text, " level="),
                        " level=info event=e a=\"b c\" i=-7 r=1234.568 small=-0.000 neg=-3.000 "
                        "huge=1e+30 q=\"\\\"\\x0a\"\n");
    free(text);
    close(fd);
}

/* Each thread writes lines with its letter and a number. */
enum { THREADS = 4, LINES = 3000 };
struct writer {
    struct log *log;
    int letter;
};
static void *write_lines(void *arg)
{
    struct writer *w = arg;
    char name[2] = {(char)('a' + w->letter), 0};
    for (int i = 0; i < LINES; i++)
        log_line(w->log, i % 1000 == 999 ? LOG_WARN : LOG_INFO, name, LOG_INT("n", i));
    return NULL;
}

static void test_buffer(void **state)
{
    (void)state;
    int fd = memfd_create("log", 0), next[THREADS] = {0};
    struct log log = {LOG_INFO, fd, LOG_LOGFMT, log_buffer_create(fd)};
    pthread_t threads[THREADS];
    struct writer writers[THREADS];
    assert_non_null(log.buffer);
    for (int i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){&log, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &writers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_buffer_destroy(&log.buffer);
    assert_null(log.buffer);
    char *text = contents(fd, 0), *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char letter;
        int n;
        assert_int_equal(sscanf(strstr(line, "event="), "event=%c n=%d", &letter, &n), 2);
        assert_int_equal(n, next[letter - 'a']++);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(next[i], LINES);
    free(text);
    close(fd);
}

/* A warning is there at once, and everything before it. */
static void test_urgent(void **state)
{
    (void)state;
    int fd = memfd_create("log", 0);
    struct log log = {LOG_INFO, fd, LOG_JSON, log_buffer_create(fd)};
    char *long_text = calloc(1, 300001);
    memset(long_text, 'x', 300000);
    for (int i = 0; i < 50; i++) {
        off_t from = lseek(fd, 0, SEEK_END);
        log_line(&log, LOG_INFO, "first", LOG_STR("long", i % 10 ? NULL : long_text));
        log_line(&log, LOG_WARN, "second");
        char *text = contents(fd, from);
        char *second = strstr(text, "second");
        assert_non_null(second);
        free(text);
    }
    log_buffer_destroy(&log.buffer);
    char *text = contents(fd, 0);
    int firsts = 0;
    for (char *p = text; (p = strstr(p, "\"first\"")); p++)
        firsts++;
    assert_int_equal(firsts, 50);
    free(text);
    free(long_text);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_urgent),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
