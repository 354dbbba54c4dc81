/* budget.c: one atomic counter of bytes. Taking is optimistic: add, and take back when it was too
 * much, so that two who ask at once may both be refused but never both be let through. */
#include "budget.h"

static bool try_take(struct budget *b, size_t bytes)
{
    size_t before = __atomic_fetch_add(&b->used, bytes, __ATOMIC_RELAXED), after;
    if (!__builtin_add_overflow(before, bytes, &after) && after <= b->limit)
        return true;
    __atomic_fetch_sub(&b->used, bytes, __ATOMIC_RELAXED);
    return false;
}

int budget_take(struct budget *b, size_t bytes, const char *what, struct error *e)
{
    if (try_take(b, bytes))
        return 0;
    if (b->reclaim && bytes <= b->limit) {
        b->reclaim(b->reclaim_arg);
        if (try_take(b, bytes))
            return 0;
    }
    size_t used = budget_used(b), left = used < b->limit ? b->limit - used : 0;
    return error_set(
        e, ERROR_OUT_OF_MEMORY,
        "%s needs %.1f MB, but of the budget of %.1f MB (--max-memory) %.1f MB are left", what,
        (double)bytes / 1e6, (double)b->limit / 1e6, (double)left / 1e6);
}

void budget_give(struct budget *b, size_t bytes)
{
    __atomic_fetch_sub(&b->used, bytes, __ATOMIC_RELAXED);
}

size_t budget_used(const struct budget *b)
{
    return __atomic_load_n(&b->used, __ATOMIC_RELAXED);
}
