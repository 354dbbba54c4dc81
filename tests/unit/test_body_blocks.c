/* test_body_blocks.c: the smallest block that is large enough comes back, there are never more than
 * a few and the largest stay, and what a block holds when it is taken again can be written. */
#include "../../server/body_blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t MB = 1 << 20;

static struct body_block block_of(size_t size)
{
    struct body_block b = {malloc(size), size};
    assert_non_null(b.data);
    memset(b.data, 1, size);
    return b;
}

/* What is kept, by asking for it; puts it back. */
static void assert_kept(struct body_blocks *b, const size_t *sizes, size_t count)
{
    struct body_block taken[BLOCKS_MOST + 1];
    size_t n = 0;
    while (n <= BLOCKS_MOST && (taken[n] = body_blocks_take(b, 0)).data)
        n++;
    assert_int_equal(n, count);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(taken[i].size, sizes[i]);
        memset(taken[i].data, 2, taken[i].size);
        body_blocks_keep(b, taken[i], 0);
    }
}

static void test_smallest(void **state)
{
    (void)state;
    struct body_blocks b;
    body_blocks_init(&b);
    assert_null(body_blocks_take(&b, 0).data);
    assert_null(body_blocks_take(&b, MB).data);
    body_blocks_keep(&b, block_of(3 * MB), 0);
    body_blocks_keep(&b, block_of(MB), 0);
    body_blocks_keep(&b, block_of(2 * MB), 0);
    assert_kept(&b, (size_t[]){MB, 2 * MB, 3 * MB}, 3);
    struct body_block two = body_blocks_take(&b, MB + 1);
    assert_int_equal(two.size, 2 * MB);
    assert_int_equal(body_blocks_take(&b, 4 * MB).size, 0);
    assert_kept(&b, (size_t[]){MB, 3 * MB}, 2);
    body_blocks_keep(&b, two, 0);
    body_blocks_free(&b);
}

static void test_few(void **state)
{
    (void)state;
    struct body_blocks b;
    body_blocks_init(&b);
    body_blocks_keep(&b, block_of(BLOCK_MIN - 1), 0);
    body_blocks_keep(&b, (struct body_block){NULL, 0}, 0);
    assert_kept(&b, NULL, 0);
    for (size_t i = 1; i <= BLOCKS_MOST + 2; i++)
        body_blocks_keep(&b, block_of(i * MB), 0);
    assert_kept(&b, (size_t[]){3 * MB, 4 * MB, 5 * MB, 6 * MB}, BLOCKS_MOST);
    body_blocks_keep(&b, block_of(2 * MB), 0);
    assert_kept(&b, (size_t[]){3 * MB, 4 * MB, 5 * MB, 6 * MB}, BLOCKS_MOST);
    body_blocks_free(&b);
}

/* What is more than stays goes when it has not been used for a while, and only then. */
static void test_trim(void **state)
{
    (void)state;
    struct body_blocks b;
    body_blocks_init(&b);
    body_blocks_keep(&b, block_of(BLOCKS_RESIDENT + 1), 10);
    body_blocks_keep(&b, block_of(MB), 10);
    body_blocks_keep(&b, block_of(2 * MB), 11.5);
    body_blocks_trim(&b, 10 + BLOCK_SECONDS);
    assert_kept(&b, (size_t[]){MB, 2 * MB, BLOCKS_RESIDENT + 1}, 3);
    body_blocks_trim(&b, 100); /* assert_kept has put them back at 0 */
    assert_null(body_blocks_take(&b, BLOCKS_RESIDENT + 1).data);
    body_blocks_free(&b);

    body_blocks_init(&b);
    body_blocks_keep(&b, block_of(MB), 10);
    body_blocks_keep(&b, block_of(BLOCKS_RESIDENT), 10);
    body_blocks_trim(&b, 100);
    assert_kept(&b, (size_t[]){BLOCKS_RESIDENT}, 1);
    body_blocks_trim(&b, 200);
    assert_kept(&b, (size_t[]){BLOCKS_RESIDENT}, 1);
    body_blocks_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smallest),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_trim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
