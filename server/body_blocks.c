/* body_blocks.c: a few blocks, found by trying all. What the kernel may take and has not taken when
 * it is used again comes back without a fault. */
#define _GNU_SOURCE /* MADV_FREE */
#include "body_blocks.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The place of the smallest block of at least `size` bytes, an empty one being of 0; -1: none. */
static int find_smallest(const struct body_blocks *b, size_t size)
{
    int found = -1;
    for (int i = 0; i < BLOCKS_MOST; i++)
        if (b->kept[i].size >= size && (found < 0 || b->kept[i].size < b->kept[found].size))
            found = i;
    return found;
}

struct body_block body_blocks_take(struct body_blocks *b, size_t size)
{
    struct body_block block = {NULL, 0};
    const int i = find_smallest(b, size ? size : 1);
    if (i >= 0) {
        block = b->kept[i];
        b->kept[i] = (struct body_block){NULL, 0};
    }
    return block;
}

/* Whole pages only: malloc's own bytes lie before the block, and perhaps behind. */
static void let_go(const struct body_block *block)
{
#ifdef MADV_FREE
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)block->data + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)block->data + block->size) & ~(page - 1);
    if (first < end)
        madvise((void *)first, end - first, MADV_FREE);
#else
    (void)block;
#endif
}

static size_t kept_bytes(const struct body_blocks *b)
{
    size_t bytes = 0;
    for (int i = 0; i < BLOCKS_MOST; i++)
        bytes += b->kept[i].size;
    return bytes;
}

void body_blocks_keep(struct body_blocks *b, struct body_block block, double now)
{
    const int i = find_smallest(b, 0);
    if (block.size < BLOCK_MIN || block.size <= b->kept[i].size) {
        free(block.data);
        return;
    }
    free(b->kept[i].data);
    b->kept[i] = block;
    b->since[i] = now;
    if (kept_bytes(b) > BLOCKS_RESIDENT)
        let_go(&block);
}

void body_blocks_trim(struct body_blocks *b, double now)
{
    for (int i = 0; i < BLOCKS_MOST && kept_bytes(b) > BLOCKS_RESIDENT; i++)
        if (b->kept[i].data && now - b->since[i] > BLOCK_SECONDS) {
            free(b->kept[i].data);
            b->kept[i] = (struct body_block){NULL, 0};
        }
}

void body_blocks_free(struct body_blocks *b)
{
    for (int i = 0; i < BLOCKS_MOST; i++)
        free(b->kept[i].data);
    *b = (struct body_blocks){0};
}
