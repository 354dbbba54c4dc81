/* test_onnx_both.c: ONNX's own vectors for operators, losses and optimisers, against the engine,
 * in float and in double.
 *
 * All 1,765 cases of ../shared/data/onnx-backend-tests (or $ONNX_TESTS, the .tar.xz) are read. One
 * applies when each of its operators has a row in tests/support/onnx_rows_*.c, the row's function
 * finds its options to be ours, and its dtypes are ones that we compute in; that is decided by code
 * alone, and nothing is excluded by its name. All that apply must pass. Each of ONNX's operators is
 * a test here: how many of its cases apply is printed, and has a lower bound in its row.
 * ONNX_VERBOSE=1 prints why others do not apply. */
#include "../support/onnx_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char DATA[] = "../shared/data/onnx-backend-tests/onnx-v1.22.0-node.tar.xz";

enum { MAX_ROWS = 256, APPLY_AT_LEAST = 660 };

struct suite {
    struct arena *arena;
    int n_cases;
    struct onnx_case *cases; /* NULL: the data are not there, or cannot be unpacked */
    bool there;
};

struct operator
{ /* the initial state of a test */
    const struct suite *suite;
    const struct onnx_row *row;
};

/* ---- running all ----------------------------------------------------------------------------- */

/* "test_abs" of "node/test_abs/model.onnx"; NULL for other files. */
static const char *case_name(struct arena *a, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || strcmp(slash, "/model.onnx") || strncmp(path, "node/", 5))
        return NULL;
    return arena_printf(a, "%.*s", (int)(slash - path - 5), path + 5);
}

static void run_case(struct suite *s, const struct onnx_archive *archive, const char *name,
                     struct pool *pool)
{
    struct onnx_case *k = &s->cases[s->n_cases++];
    onnx_case_run(s->arena, archive, name, pool, k);
    if (k->verdict == ONNX_FAILS || (k->verdict == ONNX_NOT_OURS && getenv("ONNX_VERBOSE")))
        print_message("# %s: %s: %s\n", k->verdict == ONNX_FAILS ? "FAILS" : "not ours", name,
                      k->why);
}

static void run_all(struct suite *s)
{
    struct error e = {0};
    const char *path = getenv("ONNX_TESTS");
    s->arena = arena_create(1 << 20);
    assert_non_null(s->arena);
    path = path ? path : DATA;
    s->there = access(path, F_OK) == 0;
    const struct onnx_archive *archive = onnx_archive_read(s->arena, path);
    struct pool *pool = archive ? pool_create(2, &e) : NULL;
    if (!archive)
        return;
    assert_non_null(pool);
    s->cases = arena_array(s->arena, (size_t)archive->n_files, sizeof *s->cases);
    for (int i = 0; i < archive->n_files && s->cases; i++) {
        const char *name = case_name(s->arena, archive->files[i].path);
        if (name)
            run_case(s, archive, name, pool);
    }
    pool_destroy(&pool);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void need_cases(const struct suite *s)
{
    if (!s->there)
        skip();
    if (!s->cases)
        fail_msg("the vectors cannot be unpacked: no xz, or no .tar.xz");
}

static bool has(const struct onnx_case *k, const char *op)
{
    for (int i = 0; k->model && i < k->model->n_nodes; i++)
        if (!strcmp(k->model->nodes[i].op, op))
            return true;
    return false;
}

static void test_operator(void **state)
{
    const struct operator* o = * state;
    const struct onnx_row *row = o->row;
    int apply = 0, pass = 0, all = 0;
    need_cases(o->suite);
    for (int i = 0; i < o->suite->n_cases; i++) {
        const struct onnx_case *k = &o->suite->cases[i];
        if (!has(k, row->name))
            continue;
        all++;
        apply += k->verdict != ONNX_NOT_OURS;
        pass += k->verdict == ONNX_APPLIES;
    }
    print_message("# %s (%s): %d of %d cases apply, %d pass\n", row->name, row->ours, apply, all,
                  pass);
    assert_int_equal(pass, apply);
    if (apply < row->at_least)
        fail_msg("%s: %d cases apply, expected at least %d", row->name, apply, row->at_least);
}

static void test_whole(void **state)
{
    const struct suite *s = ((const struct operator*)*state)->suite;
    int counts[3] = {0};
    need_cases(s);
    for (int i = 0; i < s->n_cases; i++)
        counts[s->cases[i].verdict]++;
    print_message("# %d cases: %d apply and pass, %d fail, %d are not ours\n", s->n_cases,
                  counts[ONNX_APPLIES], counts[ONNX_FAILS], counts[ONNX_NOT_OURS]);
    assert_int_equal(counts[ONNX_FAILS], 0);
    assert_true(counts[ONNX_APPLIES] >= APPLY_AT_LEAST);
}

/* Bytes that are no model are refused, not believed: every beginning of a model that is cut off. */
static void test_broken(void **state)
{
    static const unsigned char model[] = {0x3a, 0x0d, 0x0a, 0x0b, 0x0a, 0x01, 'x', 0x12,
                                          0x01, 'y',  0x22, 0x03, 'A',  'b',  's'};
    struct arena *a = arena_create(4096);
    (void)state;
    assert_non_null(onnx_model_read(a, model, sizeof model));
    for (size_t n = 1; n < sizeof model; n++)
        assert_null(onnx_model_read(a, model, n));
    assert_null(
        onnx_tensor_read(a, "\x08\x02\x10\x01\x25\x00\x00\x80\x3f", 9)); /* 1 of 2 numbers */
    arena_destroy(&a);
}

int main(void)
{
    static struct suite suite;
    static struct operator operators[MAX_ROWS];
    static struct CMUnitTest tests[MAX_ROWS];
    int n = 0;
    engine_start();
    run_all(&suite);
    const struct onnx_row *row;
    /* Without the vectors one skip says so, not one for each operator. */
    for (int i = 0; suite.there && (row = onnx_row_at(i)) && n < MAX_ROWS - 2; i++, n++) {
        operators[n] = (struct operator){&suite, row};
        tests[n] = (struct CMUnitTest){row->name, test_operator, NULL, NULL, &operators[n]};
    }
    operators[n] = (struct operator){&suite, NULL};
    tests[n] = (struct CMUnitTest){"all of ONNX's vectors that apply", test_whole, NULL, NULL,
                                   &operators[n]};
    tests[n + 1] = (struct CMUnitTest)cmocka_unit_test(test_broken);
    const int failed = _cmocka_run_group_tests("onnx", tests, (size_t)n + 2, NULL, NULL);
    arena_destroy(&suite.arena);
    return failed;
}
