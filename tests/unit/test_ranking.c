/* test_ranking.c: the best of a row, few or many, are those that sorting gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../server/ranking.h"

#include <math.h>
#include <stdlib.h>

enum { N = 200 };

static void few_and_many(void **state)
{
    real row[N];
    struct ranked all[N], best[N];
    (void)state;
    srand(3);
    for (int i = 0; i < N; i++)
        row[i] = i % 17 == 5 ? NAN : (real)(rand() % 40) - 20;
    row[7] = INFINITY;
    ranking_best(row, N, N, all);
    assert_int_equal(all[0].index, 7);
    for (int i = 1; i < N; i++)
        assert_true(all[i - 1].value > all[i].value ||
                    (all[i].value != all[i].value && all[i - 1].value == all[i - 1].value) ||
                    all[i - 1].index < all[i].index);
    for (int k = 0; k < N; k++) {
        assert_true(ranking_room(N, k) <= N && ranking_room(N, k) >= k);
        ranking_best(row, N, k, best);
        for (int i = 0; i < k; i++)
            assert_int_equal(best[i].index, all[i].index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_and_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
