/* test_vanished.c: clients that are gone without a word, as when a cable is pulled: no end and no
 * reset of their connections ever comes. The test and its daemon have a network of their own, whose
 * only link is taken down. Skipped where such a network cannot be had. */
#define _GNU_SOURCE
#include "../support/remote.h"

#include <dirent.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static bool link_set(bool up)
{
    struct ifreq r = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int failed = ioctl(fd, SIOCGIFFLAGS, &r);
    r.ifr_flags = (short)(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
    failed = failed || ioctl(fd, SIOCSIFFLAGS, &r);
    close(fd);
    return !failed;
}

static bool have_network(void)
{
    return (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) &&
           link_set(true);
}

static int sockets_of(const struct daemon *d)
{
    char folder[64], path[384], to[64];
    struct dirent *entry;
    int n = 0;
    snprintf(folder, sizeof folder, "/proc/%d/fd", (int)d->pid);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ssize_t size = readlink(path, to, sizeof to - 1);
        n += size > 7 && !strncmp(to, "socket:", 7);
    }
    closedir(dir);
    return n;
}

static void send_text(int fd, const char *text)
{
    assert_true(raw_send(fd, text, strlen(text)));
}

/* One waits for events, which come when it is gone already; one has sent part of a body, one part
 * of its headers. A step that runs when the link goes down makes the events. */
static void nobody_is_kept(struct daemon *d)
{
    static const char head[] = "Host: localhost\r\n";
    struct answer *a = raw_answer(d->client);
    struct text t = {0};
    int fds[4], n = 0;
    remote_create(d->client, "m",
                  "{\"inputs\":[{\"shape\":[-1,512]}],\"layers\":[{\"op\":\"linear\","
                  "\"out_features\":2048},{\"op\":\"linear\",\"out_features\":2048},"
                  "{\"op\":\"linear\",\"out_features\":2}],\"loss\":{\"op\":\"cross_entropy\"}}");
    for (int i = 0; i < 4; i++)
        fds[i] = raw_connect(d->client);
    text_add(&t, "GET /v2/models/m/events HTTP/1.1\r\n%s\r\n", head);
    send_text(fds[n], t.data);
    raw_receive(fds[n++], a, 200);
    assert_int_equal(a->status, 200);
    send_text(fds[n], "POST /v2/autograd HTTP/1.1\r\n");
    send_text(fds[n++], "Host: localhost\r\nContent-Length: 50\r\n\r\n{");
    send_text(fds[n++], "POST /v2/autograd HTTP/1.1\r\nHost: ");
#ifdef __SANITIZE_THREAD__
    char *batch = remote_rows(32, 512); /* a step takes seconds with it */
#else
    char *batch = remote_rows(512, 512);
#endif
    t.size = 0;
    text_add(&t, "POST /v2/models/m/train_step HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n", head,
             strlen(batch));
    send_text(fds[n], t.data);
    send_text(fds[n++], batch);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    assert_true(link_set(false));
    int listening = 1, left = 0,
        tries = 300; /* a stream that is still is looked at every 15 seconds */
    while ((left = sockets_of(d)) > listening && tries--)
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    assert_true(link_set(true));
    assert_int_equal(left, listening);
    for (int i = 0; i < n; i++)
        close(fds[i]);
    free(batch);
    text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(nobody_is_kept, "--request-timeout", "2"),
    };
    if (!have_network()) {
        printf("1..1\nok 1 - nobody_is_kept # SKIP no network of its own\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
