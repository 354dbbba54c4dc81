/* large.c: a block of megabytes that is new costs a page fault for each of its pages, and each page
 * an entry of the processor's table of translations. In a virtual machine a fault of 4 KB takes
 * longer than what is then computed with its numbers. So large blocks ask for pages of 2 MB
 * (madvise, MADV_HUGEPAGE): one fault instead of 512. Where the system has none, nothing changes.
 */
#define _DEFAULT_SOURCE /* madvise */
#include "backprop.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 2 << 20 };

/* 0: there is no such number. */
static uintptr_t next_page(uintptr_t at)
{
    uintptr_t up;
    return __builtin_add_overflow(at, PAGE - 1, &up) ? 0 : up & ~(uintptr_t)(PAGE - 1);
}

/* The last page is a large one, too, when the block fills more than half of it. */
void *large_alloc(size_t bytes)
{
    if (bytes < PAGE)
        return malloc(bytes ? bytes : 1);
    const size_t whole = next_page(bytes);
    void *p = whole ? aligned_alloc(PAGE, whole) : NULL;
    if (p)
        large_advise(p, whole - bytes < PAGE / 2 ? whole : bytes);
    return p;
}

/* All pages of the block, also those that it has in part: the kernel cannot move a mapping that was
 * advised in part, so that realloc would copy it. Large pages still are only those that the mapping
 * has as a whole: no more memory is taken than without. */
void large_advise(void *block, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t small = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)block;
    const uintptr_t first = at & ~(small - 1), end = (at + bytes + small - 1) & ~(small - 1);
    if (bytes >= PAGE && first < end)
        madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)block, (void)bytes;
#endif
}
