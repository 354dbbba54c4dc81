/* body_blocks.h: the blocks of large request bodies, kept for the next ones.
 *
 * New memory costs a page fault for each page, and a fault of a large page is 0.2 ms of zeroing,
 * some milliseconds where a virtual machine has to ask its host for it. Bodies arrive in the HTTP
 * thread: while it waits for memory, every client waits. So a few blocks are kept. Those beyond
 * BLOCKS_RESIDENT bytes go when they have not been used for some seconds, in another thread: giving
 * 100 MB back takes a millisecond or two. All functions may be called by any thread. */
#ifndef BACKPROPD_BODY_BLOCKS_H
#define BACKPROPD_BODY_BLOCKS_H

#include <pthread.h>
#include <stddef.h>

enum {
    BLOCKS_MOST = 4,
    BLOCK_MIN = 256 << 10, /* of smaller ones malloc is as fast */
    BODY_SMALL = 1 << 20,  /* a body with more moves to a block for all of it */
    BLOCKS_RESIDENT = 32 << 20,
    BLOCK_SECONDS = 2,
};

struct body_block {
    char *data; /* malloc's; NULL: none */
    size_t size;
};

struct body_blocks {
    pthread_mutex_t mutex; /* guards the rest */
    struct body_block kept[BLOCKS_MOST];
    double since[BLOCKS_MOST]; /* seconds, monotonic */
};

void body_blocks_init(struct body_blocks *b);
/* The smallest that is kept of at least `size` bytes, which may hold anything; it is the caller's.
 * {NULL, 0}: there is none. */
struct body_block body_blocks_take(struct body_blocks *b, size_t size);
/* Takes over a block, or frees it: the smallest goes when there are too many. */
void body_blocks_keep(struct body_blocks *b, struct body_block block, double now);
/* Frees what is not needed any more. Each second or so. */
void body_blocks_trim(struct body_blocks *b, double now);
void body_blocks_free(struct body_blocks *b);

#endif
