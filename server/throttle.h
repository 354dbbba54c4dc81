/* throttle.h: slowing those who try one key after the other.
 *
 * A try has a source: the client's address (of IPv6 its first 64 bits), and the key whose id it
 * named, if there is such a key. After THROTTLE_FREE failures a source has to wait, twice as long
 * after each further one, up to THROTTLE_MAX_SECONDS, whatever it brings; a success makes it new.
 * The id is part of the source so that clients behind one proxy cannot shut each other out: who
 * does not know the id of a key cannot stand in its way, and who does not know it has no key to
 * guess. Memory is bounded: a table of fixed size, where the source that was quiet the longest
 * makes room. */
#ifndef BACKPROPD_THROTTLE_H
#define BACKPROPD_THROTTLE_H

#include <pthread.h>
#include <stdint.h>

enum {
    THROTTLE_SLOTS = 4096, /* sources that are remembered */
    THROTTLE_WAYS = 4,     /* slots that one source may be in */
    THROTTLE_FREE = 5,
    THROTTLE_MAX_SECONDS = 60,
};

struct throttle {
    pthread_mutex_t mutex;
    struct throttle_slot {
        uint64_t source; /* its hash; 0: free */
        int64_t until;   /* it waits; milliseconds of the caller's clock */
        int failures;
    } slots[THROTTLE_SLOTS];
};

struct sockaddr;

/* Of a client and the id of a key ("": it named none that there is). `client` NULL: not known. */
uint64_t throttle_source(const struct sockaddr *client, const char *id);

/* Milliseconds that this source still has to wait; 0: none. Any thread may call these. */
int64_t throttle_wait(struct throttle *t, uint64_t source, int64_t now_ms);
void throttle_failed(struct throttle *t, uint64_t source, int64_t now_ms);
void throttle_passed(struct throttle *t, uint64_t source);

#endif
