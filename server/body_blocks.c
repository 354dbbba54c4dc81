/* body_blocks.c: a few blocks, found by trying all; none is freed under the lock. */
#include "body_blocks.h"

#include <stdlib.h>

static const struct body_block none = {NULL, 0};

void body_blocks_init(struct body_blocks *b)
{
    *b = (struct body_blocks){.kept = {{NULL, 0}}};
    pthread_mutex_init(&b->mutex, NULL);
}

/* The place of the smallest block of at least `size` bytes, an empty one being of 0; -1: none. */
static int find_smallest(const struct body_blocks *b, size_t size)
{
    int found = -1;
    for (int i = 0; i < BLOCKS_MOST; i++)
        if (b->kept[i].size >= size && (found < 0 || b->kept[i].size < b->kept[found].size))
            found = i;
    return found;
}

/* What was at place i, which is `block` from now on. */
static struct body_block replace(struct body_blocks *b, int i, struct body_block block, double now)
{
    const struct body_block before = b->kept[i];
    b->kept[i] = block;
    b->since[i] = now;
    return before;
}

struct body_block body_blocks_take(struct body_blocks *b, size_t size)
{
    pthread_mutex_lock(&b->mutex);
    const int i = find_smallest(b, size ? size : 1);
    const struct body_block block = i < 0 ? none : replace(b, i, none, 0);
    pthread_mutex_unlock(&b->mutex);
    return block;
}

void body_blocks_keep(struct body_blocks *b, struct body_block block, double now)
{
    pthread_mutex_lock(&b->mutex);
    const int i = find_smallest(b, 0);
    if (block.size >= BLOCK_MIN && block.size > b->kept[i].size)
        block = replace(b, i, block, now);
    pthread_mutex_unlock(&b->mutex);
    free(block.data);
}

/* One that is too much and has not been used for a while; none: there is none. */
static struct body_block take_old(struct body_blocks *b, double now)
{
    struct body_block old = none;
    size_t bytes = 0;
    pthread_mutex_lock(&b->mutex);
    for (int i = 0; i < BLOCKS_MOST; i++)
        bytes += b->kept[i].size;
    for (int i = 0; i < BLOCKS_MOST && bytes > BLOCKS_RESIDENT && !old.data; i++)
        if (b->kept[i].data && now - b->since[i] > BLOCK_SECONDS)
            old = replace(b, i, none, 0);
    pthread_mutex_unlock(&b->mutex);
    return old;
}

void body_blocks_trim(struct body_blocks *b, double now)
{
    for (struct body_block old; (old = take_old(b, now)).data;)
        free(old.data);
}

void body_blocks_free(struct body_blocks *b)
{
    for (int i = 0; i < BLOCKS_MOST; i++)
        free(b->kept[i].data);
    pthread_mutex_destroy(&b->mutex);
}
