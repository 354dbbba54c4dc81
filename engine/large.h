/* large.h: memory for blocks of megabytes, on large pages where the system has them. */
#ifndef BACKPROP_LARGE_H
#define BACKPROP_LARGE_H

#include <stddef.h>

/* `bytes` bytes, not zeroed, aligned to 64; free() gives them back. NULL: out of memory. Any
 * thread. */
void *large_alloc(size_t bytes);

/* For a block that came from calloc or realloc: those of its pages that nobody has touched yet will
 * be large ones. Any thread that owns the block. */
void large_advise(void *block, size_t bytes);

#endif
