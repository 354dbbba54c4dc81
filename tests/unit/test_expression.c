/* test_expression.c: autograd expressions: their values and gradients, precedence as in Python, and
 * the sentence for each mistake. */
#include "../../server/expression.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The tensors that the texts of this file may name. */
static const struct tensor {
    const char *name;
    struct shape shape;
    bool classes;
    real data[12];
} tensors[] = {
    {"a", {0}, false, {5}},
    {"b", {0}, false, {3}},
    {"w", {1, {1}}, false, {2}},
    {"x", {1, {1}}, false, {3}},
    {"v", {1, {3}}, false, {1, -2, 3}},
    {"m", {2, {2, 3}}, false, {1, 2, 3, 4, 5, 6}},
    {"k", {2, {3, 2}}, false, {1, 0, 0, 1, 1, 1}},
    {"image", {4, {1, 1, 3, 3}}, false, {1, 2, 3, 4, 5, 6, 7, 8, 9}},
    {"conv.weight", {4, {1, 1, 2, 2}}, false, {1, 0, 0, 1}},
    {"bias", {1, {1}}, false, {10}},
    {"classes", {1, {2}}, true, {0}},
    {"sum", {1, {1}}, false, {7}},
};
enum { TENSORS = sizeof tensors / sizeof tensors[0] };

static const int64_t class_data[] = {2, 0};

struct fixture {
    struct graph *graph;
    struct expression_symbol symbols[TENSORS];
    const void *inputs[TENSORS];
};

static void fixture_begin(struct fixture *f)
{
    struct error e = {0};
    f->graph = graph_create(&e);
    for (int i = 0; i < TENSORS; i++) {
        const struct tensor *t = &tensors[i];
        enum dtype dtype = t->classes ? DTYPE_INT64 : DTYPE_REAL;
        f->symbols[i].name = t->name;
        f->symbols[i].node = graph_input(f->graph, t->name, dtype, &t->shape, &e);
        f->inputs[i] = t->classes ? (const void *)class_data : t->data;
        assert_non_null(f->symbols[i].node);
    }
}

static struct node *parse(struct fixture *f, const char *text)
{
    struct error e = {0};
    struct node *n = expression_parse(f->graph, text, f->symbols, TENSORS, &e);
    if (!n)
        fail_msg("%s: %s", text, e.text);
    return n;
}

/* Runs the graph; copies the values of `n`, and the gradient for the tensor `wrt` when n is a
 * scalar. */
static void run_text(const char *text, int count, real *value, int wrt, int wrt_count, real *grad)
{
    struct fixture f;
    struct error e = {0};
    fixture_begin(&f);
    struct node *n = parse(&f, text);
    struct node *leaf = wrt >= 0 ? f.symbols[wrt].node : NULL;
    int64_t elements;
    assert_true(shape_count(node_shape(n), 1, &elements));
    assert_int_equal(elements, count);
    struct plan_spec spec = {.training = true,
                             .outputs = &n,
                             .n_outputs = 1,
                             .wrt = &leaf,
                             .n_wrt = leaf != NULL,
                             .loss = leaf ? n : NULL,
                             .capacity = 1,
                             .threads = 1};
    struct plan *plan = plan_create(f.graph, &spec, &e);
    struct run *run = plan ? run_create(plan, &e) : NULL;
    struct pool *pool = pool_create(1, &e);
    struct run_args args = {.pool = pool, .n = 1, .inputs = f.inputs};
    if (!run || run_execute(run, &args, &e))
        fail_msg("%s: %s", text, e.text);
    memcpy(value, run_output(run, 0), (size_t)count * sizeof *value);
    if (leaf)
        memcpy(grad, run_wrt_grad(run, 0), (size_t)wrt_count * sizeof *grad);
    pool_destroy(&pool);
    run_destroy(&run);
    plan_destroy(&plan);
    graph_destroy(&f.graph);
}

static void assert_values(const char *text, int count, const double *expected)
{
    real value[16];
    run_text(text, count, value, -1, 0, NULL);
    for (int i = 0; i < count; i++)
        if (fabs((double)value[i] - expected[i]) > 1e-6 * (1 + fabs(expected[i])))
            fail_msg("%s: value %d is %.9g, expected %.9g", text, i, (double)value[i], expected[i]);
}

/* Scalars: a = 5, b = 3. The values are Python's. */
static const struct {
    const char *text;
    double value;
} scalars[] = {
    {"a", 5},
    {"2", 2},
    {".5 + 1. + 1e1 + 2E-1", 11.7},
    {"a + b * 2", 11},
    {"(a + b) * 2", 16},
    {"a - b - 1", 1},
    {"a - (b - 1)", 3},
    {"a / b / 2", 5.0 / 6},
    {"a / (b / 2)", 10.0 / 3},
    {"2 ** 3 ** 2", 512},
    {"(2 ** 3) ** 2", 64},
    {"-a ** 2", -25},
    {"(-a) ** 2", 25},
    {"-2 ** 2", -4},
    {"(-2) ** 2", 4},
    {"2 ** -1", 0.5},
    {"2 ** -1 * 4", 2},
    {"2 ** -b ** 2", 1.0 / 512},
    {"-a * b", -15},
    {"a * -b", -15},
    {"a - -b", 8},
    {"--a", 5},
    {"-(-3)", 3},
    {"+a - +b", 2},
    {"a * 2 ** b", 40},
    {" \t\n a\n+\nb ", 8},
    {"relu(-a) + relu(b)", 3},
    {"exp(log(a))", 5},
    {"pow(a, 2)", 25},
    {"pow(a, exponent=2)", 25},
    {"add(a, mul(b, 2),)", 11},
    {"sum(v)", 2},
    {"mean(m)", 3.5},
    {"sum(v * v)", 14},
    {"v @ v", 14},
    {"2 * v @ v", 28},
    {"sum(reshape(sum, shape=[1, 1]))", 7},
};
enum { SCALARS = sizeof scalars / sizeof scalars[0] };

static void test_scalars(void **state)
{
    (void)state;
    for (int i = 0; i < SCALARS; i++)
        assert_values(scalars[i].text, 1, &scalars[i].value);
}

static void test_tensors(void **state)
{
    (void)state;
    assert_values("m @ k", 4, (double[]){4, 5, 10, 11});
    assert_values("m + v", 6, (double[]){2, 0, 6, 5, 3, 9});
    assert_values("sum(m, dim=1)", 2, (double[]){6, 15});
    assert_values("sum(m, dim=[-1], keepdim=true)", 2, (double[]){6, 15});
    assert_values("sum(m, dim=[0,1], keepdim = True)", 1, (double[]){21});
    assert_values("softmax(v * 0, dim=0)", 3, (double[]){1.0 / 3, 1.0 / 3, 1.0 / 3});
    assert_values("transpose(m, dim0=0, dim1=1)", 6, (double[]){1, 4, 2, 5, 3, 6});
    assert_values("concat(v, w, v, dim=0)", 7, (double[]){1, -2, 3, 2, 1, -2, 3});
    assert_values("gelu(v * 0, approximate='tanh')", 3, (double[]){0, 0, 0});
    assert_values("leaky_relu(v, negative_slope=+0.5)", 3, (double[]){1, -1, 3});
}

/* Parameters are arguments; the bias may be left out. */
static void test_parameters(void **state)
{
    (void)state;
    assert_values("conv2d(image, conv.weight)", 4, (double[]){6, 8, 12, 14});
    assert_values("conv2d(image, conv.weight, bias)", 4, (double[]){16, 18, 22, 24});
    assert_values("conv2d(image, conv.weight, bias=false, stride=2)", 1, (double[]){6});
    assert_values("conv2d(image, conv.weight, stride=[2,2], padding=1)", 4,
                  (double[]){1, 3, 7, 14});
}

static void test_losses(void **state)
{
    (void)state;
    assert_values("mse(v, v * 0)", 1, (double[]){14.0 / 3});
    assert_values("mse(v, v * 0, reduction=\"sum\")", 1, (double[]){14});
    assert_values("cross_entropy(m * 0, classes)", 1, (double[]){log(3.0)});
    assert_values("cross_entropy(m * 0, classes, weight=[1,1,1], label_smoothing=0.1)", 1,
                  (double[]){log(3.0)});
}

/* The example of the interface: exact. */
static void test_gradient(void **state)
{
    (void)state;
    real value, grad;
    run_text("(w*x-10)**2", 1, &value, 2, 1, &grad);
    assert_true(value == 16);
    assert_true(grad == -24);
    run_text("sum(-w**2 + 3*w)", 1, &value, 2, 1, &grad);
    assert_true(value == 2);
    assert_true(grad == -1);
}

/* A name alone adds nothing; a number with its sign is one constant. */
static void test_leaves(void **state)
{
    (void)state;
    struct fixture f;
    fixture_begin(&f);
    assert_ptr_equal(parse(&f, "a"), f.symbols[0].node);
    assert_int_equal(graph_node_count(f.graph), TENSORS);
    assert_string_equal(node_op(parse(&f, "-3")), "constant");
    assert_int_equal(graph_node_count(f.graph), TENSORS + 1);
    graph_destroy(&f.graph);
}

/* ---- mistakes -------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    enum error_code code;
    const char *part;
} bad[] = {
    {"", ERROR_BAD_EXPRESSION,
     "column 1: expected a tensor, a number or an operator, found the end"},
    {"  ", ERROR_BAD_EXPRESSION, "column 3: expected a tensor, a number or an operator, found the"},
    {"(a + b", ERROR_BAD_EXPRESSION, "column 7: expected ')', found the end"},
    {"(a b)", ERROR_BAD_EXPRESSION, "column 4: expected ')', found 'b'"},
    {"(a + )", ERROR_BAD_EXPRESSION,
     "column 6: expected a tensor, a number or an operator, found ')'"},
    {"a +", ERROR_BAD_EXPRESSION, "column 4: expected a tensor"},
    {"a b", ERROR_BAD_EXPRESSION, "column 3: expected an operator or the end, found 'b'"},
    {"a)", ERROR_BAD_EXPRESSION, "column 2: expected an operator or the end, found ')'"},
    {"2a", ERROR_BAD_EXPRESSION, "column 2: expected an operator or the end, found 'a'"},
    {"0x10", ERROR_BAD_EXPRESSION, "column 2: expected an operator or the end, found 'x10'"},
    {"1..2", ERROR_BAD_EXPRESSION, "column 3: expected an operator or the end, found '.2'"},
    {"a * / b", ERROR_BAD_EXPRESSION, "column 5: expected a tensor"},
    {"a *** b", ERROR_BAD_EXPRESSION, "column 5: expected a tensor"},
    {"a = b", ERROR_BAD_EXPRESSION, "column 3: expected an operator or the end, found '='"},
    {"a $ b", ERROR_BAD_EXPRESSION, "column 3: unexpected character '$'"},
    {"a + \xc3\xa9", ERROR_BAD_EXPRESSION, "column 5: unexpected character '\xc3\xa9'"},
    {"'\xc3\xa9\xc3\xa9' + $", ERROR_BAD_EXPRESSION, "column 1: expected a tensor"},
    {"relu(a, dim='\xc3\xa9\xc3\xa9') $", ERROR_BAD_EXPRESSION,
     "column 19: unexpected character '$'"},
    {"a + .", ERROR_BAD_EXPRESSION, "column 5: unexpected character '.'"},
    {"1e999", ERROR_BAD_EXPRESSION, "column 1: the number 1e999 is too large"},
    {"a + 1e39", ERROR_BAD_EXPRESSION, "column 5: the number 1e39 is too large"},
    {"1111111111111111111111111111111111111111111111111111111111111", ERROR_BAD_EXPRESSION,
     "column 1: expected a number of at most 60 characters, found 61"},
    {"'abc", ERROR_BAD_EXPRESSION, "column 1: the string has no closing '"},
    {"'abc' + a", ERROR_BAD_EXPRESSION, "column 1: expected a tensor"},

    {"a + bb", ERROR_BAD_EXPRESSION, "column 5: no tensor is called 'bb'; did you mean 'b'?"},
    {"a * clases", ERROR_BAD_EXPRESSION, "no tensor is called 'clases'; did you mean 'classes'?"},
    {"unheard_of", ERROR_BAD_EXPRESSION, "column 1: no tensor is called 'unheard_of'"},
    {"a + relu", ERROR_BAD_EXPRESSION,
     "column 5: 'relu' is an operator: expected its arguments, as in relu(x)"},
    {"a + relo(b)", ERROR_UNKNOWN_OPERATOR,
     "column 5: no operator is called 'relo'; did you mean 'relu'?"},
    {"w(a)", ERROR_UNKNOWN_OPERATOR, "column 1: no operator is called 'w'"},
    {"constant(a)", ERROR_UNKNOWN_OPERATOR, "column 1: no operator is called 'constant'"},

    {"relu(a", ERROR_BAD_EXPRESSION, "column 7: expected ',' or ')', found the end"},
    {"relu(a b)", ERROR_BAD_EXPRESSION, "column 8: expected ',' or ')', found 'b'"},
    {"relu(,)", ERROR_BAD_EXPRESSION, "column 6: expected a tensor"},
    {"relu()", ERROR_BAD_GRAPH, "column 1: relu: expects 1 input, found 0"},
    {"a + relu(a, b)", ERROR_BAD_GRAPH, "column 5: relu: expects 1 input, found 2"},
    {"softmax(dim=0, v)", ERROR_BAD_EXPRESSION, "column 16: expected a keyword argument"},
    {"softmax(v, dim=0, dim=0)", ERROR_BAD_EXPRESSION, "column 19: 'dim' is given twice"},
    {"softmax(v, dim=)", ERROR_BAD_EXPRESSION, "column 16: expected a number, found ')'"},
    {"softmax(v, dim=a)", ERROR_BAD_EXPRESSION,
     "column 16: expected a number, true, false, none, a string or a list, found 'a'"},
    {"softmax(v, dim=-'1')", ERROR_BAD_EXPRESSION, "column 17: expected a number, found '1'"},
    {"sum(v, dim=[0,])", ERROR_BAD_EXPRESSION, "column 15: expected a number, found ']'"},
    {"sum(v, dim=[0 1])", ERROR_BAD_EXPRESSION, "column 15: expected ',', found '1'"},
    {"sum(v, dim=[0", ERROR_BAD_EXPRESSION, "column 14: expected ',', found the end"},
    {"sum(v, dm=0)", ERROR_BAD_ATTRIBUTE, "column 1: sum: no attribute 'dm'; did you mean 'dim'?"},
    {"a + sum(v, dim=3)", ERROR_BAD_ATTRIBUTE, "column 5: sum: "},
    {"softmax(v, dim=1.5)", ERROR_BAD_ATTRIBUTE,
     "column 1: softmax: attribute 'dim' must be an integer, not 1.5"},
    {"a + m @ m", ERROR_BAD_SHAPE, "column 7: matmul: "},
    {"a + (m + k)", ERROR_BAD_SHAPE, "column 8: add: "},
    {"classes * 2", ERROR_BAD_DTYPE, "column 9: mul: "},
    {"-classes", ERROR_BAD_DTYPE, "column 1: neg: "},

    {"conv2d(image, out_channels=1, kernel_size=2)", ERROR_BAD_EXPRESSION,
     "column 1: conv2d needs its weight as an argument"},
    {"conv2d(image, conv.weight, bias=true)", ERROR_BAD_EXPRESSION,
     "column 1: conv2d needs its bias as an argument"},
    {"a + linear(m, out_features=3)", ERROR_BAD_EXPRESSION,
     "column 5: linear needs its weight as an argument"},
    {"batch_norm2d(image)", ERROR_BAD_EXPRESSION, "column 1: batch_norm2d needs its weight as an"},
    {"conv2d(image, v)", ERROR_BAD_SHAPE, "column 1: conv2d: "},
};
enum { BAD = sizeof bad / sizeof bad[0] };

static void assert_refused(const char *text, enum error_code code, const char *part)
{
    struct fixture f;
    struct error e = {0};
    fixture_begin(&f);
    struct node *n = expression_parse(f.graph, text, f.symbols, TENSORS, &e);
    if (n || e.code != code || !strstr(e.text, part))
        fail_msg("%.200s\n  said (%s): %s\n  expected (%s): %s", text,
                 n ? "nothing" : error_slug(e.code), e.text, error_slug(code), part);
    graph_destroy(&f.graph);
}

static void test_mistakes(void **state)
{
    (void)state;
    for (int i = 0; i < BAD; i++)
        assert_refused(bad[i].text, bad[i].code, bad[i].part);
}

/* `count` times `open`, then `middle`, then as often `close`. */
static char *nest(int count, const char *open, const char *middle, const char *close)
{
    char *text = malloc((size_t)count * (strlen(open) + strlen(close)) + strlen(middle) + 1);
    assert_non_null(text);
    char *p = text;
    for (int i = 0; i < count; i++)
        p = stpcpy(p, open);
    p = stpcpy(p, middle);
    for (int i = 0; i < count; i++)
        p = stpcpy(p, close);
    return text;
}

/* What nests is limited, whatever it nests with; what only follows is not. */
static void test_depth(void **state)
{
    static const char *const deep[][3] = {
        {"(", "a", ")"},  {"-", "a", ""},      {"+", "a", ""},
        {"a**", "a", ""}, {"relu(", "a", ")"}, {"(", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        char *text = nest(10000, deep[i][0], deep[i][1], deep[i][2]);
        assert_refused(text, ERROR_BAD_EXPRESSION, "expected at most 200 levels of nesting");
        free(text);
    }
    struct fixture f;
    fixture_begin(&f);
    char *text = nest(199, "(", "a", ")");
    assert_non_null(parse(&f, text));
    free(text);
    text = nest(20000, "a+", "a", "");
    assert_non_null(parse(&f, text));
    free(text);
    graph_destroy(&f.graph);
}

static void test_length(void **state)
{
    (void)state;
    char *text = nest(65535, " ", "a", "");
    struct fixture f;
    fixture_begin(&f);
    assert_non_null(parse(&f, text));
    graph_destroy(&f.graph);
    free(text);
    text = nest(65536, " ", "a", "");
    assert_refused(text, ERROR_BAD_EXPRESSION, "expected an expression of at most 65536 bytes");
    free(text);
}

/* Any bytes: an answer or a sentence, never a crash. */
static void test_random_text(void **state)
{
    static const char *const pieces[] = {"a", "m",    "v",    "(",    ")",       "[",      "]",
                                         ",", "=",    "*",    "**",   "-",       "+",      "@",
                                         "/", "relu", "sum",  "1",    "2.",      "'",      "\"",
                                         " ", "dim=", "\xc3", "\xff", "conv2d(", "classes"};
    (void)state;
    srand(1);
    for (int i = 0; i < 3000; i++) {
        char text[256] = "";
        for (int k = rand() % 16; k >= 0; k--)
            strcat(text, pieces[(size_t)rand() % (sizeof pieces / sizeof pieces[0])]);
        struct fixture f;
        struct error e = {0};
        fixture_begin(&f);
        struct node *n = expression_parse(f.graph, text, f.symbols, TENSORS, &e);
        assert_int_equal(!n, e.code != ERROR_NONE);
        assert_true(n || strncmp(e.text, "column ", 7) == 0);
        graph_destroy(&f.graph);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),    cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_parameters), cmocka_unit_test(test_losses),
        cmocka_unit_test(test_gradient),   cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_mistakes),   cmocka_unit_test(test_depth),
        cmocka_unit_test(test_length),     cmocka_unit_test(test_random_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
