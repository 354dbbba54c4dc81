/* test_throttle.c: sources that fail wait longer and longer, others do not, and the table holds. */
#include "../../server/throttle.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct throttle *create(void)
{
    struct throttle *t = calloc(1, sizeof *t);
    pthread_mutex_init(&t->mutex, NULL);
    return t;
}

static void waits_grow(void **state)
{
    (void)state;
    struct throttle *t = create();
    int64_t now = 1000, last = 0;
    for (int i = 1; i < THROTTLE_FREE; i++)
        throttle_failed(t, 7, now);
    assert_int_equal(throttle_wait(t, 7, now), 0);
    for (int i = 0; i < 12; i++) {
        throttle_failed(t, 7, now);
        int64_t wait = throttle_wait(t, 7, now);
        assert_true(wait > last || wait == THROTTLE_MAX_SECONDS * 1000);
        last = wait;
    }
    assert_int_equal(last, THROTTLE_MAX_SECONDS * 1000);
    assert_int_equal(throttle_wait(t, 7, now + last), 0);
    assert_int_equal(throttle_wait(t, 8, now), 0);
    throttle_passed(t, 7);
    assert_int_equal(throttle_wait(t, 7, now), 0);
    throttle_failed(t, 7, now);
    assert_int_equal(throttle_wait(t, 7, now), 0); /* it begins anew */
    free(t);
}

/* Any number of sources: the table has its size, and the one that waits the longest stays. */
static void memory_is_bounded(void **state)
{
    (void)state;
    struct throttle *t = create();
    for (int i = 0; i < 20; i++)
        throttle_failed(t, 1, 1000);
    for (uint64_t source = 2; source < 100000; source++)
        throttle_failed(t, source, 1000);
    assert_int_equal(throttle_wait(t, 1, 1000), THROTTLE_MAX_SECONDS * 1000);
    free(t);
}

static struct sockaddr_in6 v6(int high, int low)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    a.sin6_addr.s6_addr[7] = (uint8_t)high;
    a.sin6_addr.s6_addr[15] = (uint8_t)low;
    a.sin6_port = (in_port_t)(high * 7 + low);
    return a;
}

static uint64_t source6(const struct sockaddr_in6 *a, const char *id)
{
    return throttle_source((const struct sockaddr *)(const void *)a, id);
}

/* Ports do not count, of IPv6 the network does, and IPv4 in IPv6 is IPv4. */
static void sources(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = 1}, b = a;
    a.sin_addr.s_addr = htonl(0x0a000001);
    b.sin_addr.s_addr = htonl(0x0a000001);
    b.sin_port = 2;
    uint64_t one = throttle_source((const struct sockaddr *)(const void *)&a, "");
    assert_true(one == throttle_source((const struct sockaddr *)(const void *)&b, ""));
    assert_true(one != throttle_source((const struct sockaddr *)(const void *)&b, "00000001"));
    b.sin_addr.s_addr = htonl(0x0a000002);
    assert_true(one != throttle_source((const struct sockaddr *)(const void *)&b, ""));
    struct sockaddr_in6 c = v6(1, 1), d = v6(1, 2), e = v6(2, 1), mapped = v6(0, 1);
    assert_true(source6(&c, "") == source6(&d, "") && source6(&c, "") != source6(&e, ""));
    memcpy(mapped.sin6_addr.s6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\1", 16);
    assert_true(source6(&mapped, "") == one);
    assert_true(throttle_source(NULL, "") != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waits_grow),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
