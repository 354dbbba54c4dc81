/* json_memory.c: jansson's memory, and a reserve for when there is none.
 *
 * jansson's lexer does not look whether its buffer for the token could grow: it goes on without the
 * byte, and where it takes that byte back it ends the process by an assertion. So nothing is
 * refused while a text is read: what malloc has not got comes from a reserve. The reading is void
 * from then on, and json_in.c ends the text. jansson has at most READ_AHEAD bytes of it by then;
 * the reserve is enough for a value in each of them (an empty array takes about 110 bytes) beside
 * two doublings of a token of 16 KB. It takes bytes back at the end of numbers and words, and at
 * control characters in strings: json_scan.c refuses those that are longer, and these, beforehand.
 *
 * Nobody may have the reserve for longer than a reading takes: what is in it is dropped at its end.
 * The hooks have no argument, hence variables of each thread its own. */
#include "json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { READ_AHEAD = 1024, RESERVE = READ_AHEAD * 128 + (96 << 10), ALIGN = 16 };

static _Thread_local bool refused, refused_before, reading, has_reserve;

static pthread_mutex_t reserve_lock = PTHREAD_MUTEX_INITIALIZER; /* of the thread that has it */
static _Alignas(ALIGN) char reserve[RESERVE];
static size_t reserve_used;

static void *reserve_take(size_t bytes)
{
    if (!has_reserve) {
        pthread_mutex_lock(&reserve_lock);
        has_reserve = true;
        reserve_used = 0;
    }
    if (bytes > RESERVE - reserve_used)
        return NULL;
    void *memory = reserve + reserve_used;
    size_t end = reserve_used + (bytes + ALIGN - 1) / ALIGN * ALIGN;
    reserve_used = end < RESERVE ? end : RESERVE;
    return memory;
}

static void *hook_malloc(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory)
        return memory;
    refused = true;
    return reading ? reserve_take(bytes) : NULL;
}

static void hook_free(void *memory)
{
    uintptr_t at = (uintptr_t)memory, begin = (uintptr_t)reserve;
    if (at < begin || at >= begin + RESERVE)
        free(memory);
}

void json_memory_start(void)
{
    json_set_alloc_funcs(hook_malloc, hook_free);
}

bool json_memory_refused(void)
{
    return refused;
}

void json_memory_forget(void)
{
    refused = false;
}

void json_memory_begin(void)
{
    reading = true;
    refused_before = refused;
    refused = false;
}

void json_memory_end(void)
{
    reading = false;
    refused |= refused_before;
    if (has_reserve) {
        has_reserve = false;
        pthread_mutex_unlock(&reserve_lock);
    }
}
