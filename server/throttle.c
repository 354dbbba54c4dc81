/* throttle.c: a small cache of sources and their failures; throttle.h says what it is for. */
#include "throttle.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <xxhash.h>

/* The bytes of the address that count; how many. */
static size_t address_bytes(const struct sockaddr *client, uint8_t out[8])
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (client && client->sa_family == AF_INET) {
        memcpy(&v4, client, sizeof v4);
        memcpy(out, &v4.sin_addr, 4);
        return 4;
    }
    if (!client || client->sa_family != AF_INET6)
        return 0;
    memcpy(&v6, client, sizeof v6);
    bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr);
    memcpy(out, v6.sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
    return mapped ? 4 : 8;
}

uint64_t throttle_source(const struct sockaddr *client, const char *id)
{
    uint8_t address[8] = {0};
    size_t n = address_bytes(client, address);
    uint64_t h = XXH3_64bits_withSeed(id, strlen(id), XXH3_64bits(address, n));
    return h ? h : 1;
}

/* The source's slot; NULL: it has none. With the mutex. */
static struct throttle_slot *slot_find(struct throttle *t, uint64_t source)
{
    struct throttle_slot *first =
        &t->slots[source % (THROTTLE_SLOTS / THROTTLE_WAYS) * THROTTLE_WAYS];
    for (int i = 0; i < THROTTLE_WAYS; i++)
        if (first[i].source == source)
            return &first[i];
    return NULL;
}

/* The same, or one that is made for it in place of the one that has been quiet the longest. */
static struct throttle_slot *slot_take(struct throttle *t, uint64_t source)
{
    struct throttle_slot *s = slot_find(t, source);
    struct throttle_slot *first =
        &t->slots[source % (THROTTLE_SLOTS / THROTTLE_WAYS) * THROTTLE_WAYS];
    if (s)
        return s;
    s = first;
    for (int i = 1; i < THROTTLE_WAYS; i++)
        if (first[i].until < s->until)
            s = &first[i];
    *s = (struct throttle_slot){.source = source};
    return s;
}

int64_t throttle_wait(struct throttle *t, uint64_t source, int64_t now_ms)
{
    pthread_mutex_lock(&t->mutex);
    const struct throttle_slot *s = slot_find(t, source);
    int64_t wait = s && s->until > now_ms ? s->until - now_ms : 0;
    pthread_mutex_unlock(&t->mutex);
    return wait;
}

void throttle_failed(struct throttle *t, uint64_t source, int64_t now_ms)
{
    pthread_mutex_lock(&t->mutex);
    struct throttle_slot *s = slot_take(t, source);
    int over = ++s->failures - THROTTLE_FREE;
    int64_t seconds = over < 0 ? 0 : over < 6 ? (int64_t)1 << over : THROTTLE_MAX_SECONDS;
    s->until = now_ms + (seconds < THROTTLE_MAX_SECONDS ? seconds : THROTTLE_MAX_SECONDS) * 1000;
    pthread_mutex_unlock(&t->mutex);
}

void throttle_passed(struct throttle *t, uint64_t source)
{
    pthread_mutex_lock(&t->mutex);
    struct throttle_slot *s = slot_find(t, source);
    if (s)
        *s = (struct throttle_slot){0};
    pthread_mutex_unlock(&t->mutex);
}
