/* test_large.c: blocks of megabytes: all of their bytes can be used, large ones are aligned, what
 * calloc zeroed stays so, and a size that there cannot be is refused. Whether the system has large
 * pages does not matter to them. */
#define _GNU_SOURCE /* mremap */
#include "backprop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const size_t MB = 1 << 20;

static void test_alloc(void **state)
{
    (void)state;
    const size_t sizes[] = {0,          1,          64,     2 * MB - 1,  2 * MB,
                            2 * MB + 1, 3 * MB + 5, 4 * MB, 4 * MB + 70, 13 * MB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *block = large_alloc(sizes[i]);
        assert_non_null(block);
        if (sizes[i] >= 2 * MB)
            assert_int_equal((uintptr_t)block % (2 * MB), 0);
        memset(block, 7, sizes[i]);
        free(block);
    }
}

static void test_too_large(void **state)
{
    (void)state;
    assert_null(large_alloc(SIZE_MAX));
    assert_null(large_alloc(SIZE_MAX - MB));
}

static void test_advise(void **state)
{
    (void)state;
    const size_t sizes[] = {1, 4096, 2 * MB, 5 * MB + 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *block = calloc(1, sizes[i]);
        assert_non_null(block);
        large_advise(block, sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            if (block[k])
                fail_msg("byte %zu of %zu is %d", k, sizes[i], block[k]);
        memset(block, 1, sizes[i]);
        large_advise(block, sizes[i]);
        assert_true(block[0] == 1 && block[sizes[i] / 2] == 1 && block[sizes[i] - 1] == 1);
        free(block);
    }
}

/* As realloc moves a block that has a mapping of its own, behind a header of malloc's. */
static void test_can_move(void **state)
{
    (void)state;
    const size_t size = 8 * MB + 4096;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    large_advise(map + 16, size - 16 - 100);
    map[5 * MB] = 3;
    char *moved = mremap(map, size, 2 * size, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED)
        fail_msg("mremap: %s", strerror(errno));
    assert_int_equal(moved[5 * MB], 3);
    munmap(moved, 2 * size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_advise),
        cmocka_unit_test(test_can_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
