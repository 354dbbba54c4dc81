/* unary.h: what elementwise operators of one input share: a macro that makes both loops of one, and
 * the functions of their rows. For ops_elementwise.c and ops_activation.c. */
#ifndef BACKPROP_UNARY_H
#define BACKPROP_UNARY_H

#include "kernels.h"
#include "op.h"
#include "real.h"

#define UNUSED __attribute__((unused))

/* Defines name_forward and name_backward. `keep` says what backward reads besides the gradient:
 * IN, OUT or NONE. `f` is an expression of x; `df` the gradient of x, an expression of g (that of
 * the output) and of x when keep is IN, of y when it is OUT. Both may read n, the node. Any layout:
 * the loops are over memory. */
#define UNARY_LOOPS(name, keep, f, df)                                                             \
    UNARY_FORWARD(                                                                                 \
        name, for (int64_t i = begin; i < end; i++) {                                              \
            const real x = in[i];                                                                  \
            out[i] = f;                                                                            \
        })                                                                                         \
    UNARY_BACKWARD_LOOP(name, keep, df)

/* The same with a kernel (kernels.h) for the value, or for both. */
#define UNARY_KERNEL_VALUE(name, keep, kernel, df)                                                 \
    UNARY_FORWARD(name, kernels()->kernel.value(end - begin, in + begin, out + begin);)            \
    UNARY_BACKWARD_LOOP(name, keep, df)
#define UNARY_KERNEL(name, keep, kernel)                                                           \
    UNARY_FORWARD(name, kernels()->kernel.value(end - begin, in + begin, out + begin);)            \
    UNARY_BACKWARD(                                                                                \
        name, keep,                                                                                \
        kernels()->kernel.gradient(end - begin, kept + begin, grad + begin, out + begin);)

/* What both are made of: `body` does [begin, end). */
#define UNARY_FORWARD(name, body)                                                                  \
    static void name##_forward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)     \
    {                                                                                              \
        const struct node *n UNUSED = ((struct node_run *)arg)->n;                                 \
        struct run *r = ((struct node_run *)arg)->r;                                               \
        const real *in = run_in(r, n, 0);                                                          \
        real *out = run_value(r, n);                                                               \
        body                                                                                       \
    }                                                                                              \
    static void name##_forward(const struct node *n, struct run *r)                                \
    {                                                                                              \
        run_for(r, run_count(r, n), GRAIN_ELEMENTS, name##_forward_range,                          \
                &(struct node_run){n, r});                                                         \
    }
#define UNARY_BACKWARD(name, keep, body)                                                           \
    static void name##_backward_range(void *arg, int64_t begin, int64_t end, int worker UNUSED)    \
    {                                                                                              \
        const struct node *n UNUSED = ((struct node_run *)arg)->n;                                 \
        struct run *r = ((struct node_run *)arg)->r;                                               \
        const real *grad = run_grad(r, n), *kept UNUSED = UNARY_KEPT_##keep(r, n);                 \
        real *out = run_grad_in(r, n, 0);                                                          \
        body                                                                                       \
    }                                                                                              \
    static void name##_backward(const struct node *n, struct run *r)                               \
    {                                                                                              \
        if (run_grad_in(r, n, 0))                                                                  \
            run_for(r, run_count(r, n), GRAIN_ELEMENTS, name##_backward_range,                     \
                    &(struct node_run){n, r});                                                     \
    }
#define UNARY_BACKWARD_LOOP(name, keep, df)                                                        \
    UNARY_BACKWARD(                                                                                \
        name, keep, for (int64_t i = begin; i < end; i++) {                                        \
            const real g = grad[i];                                                                \
            UNARY_READ_##keep out[i] = df;                                                         \
        })

#define UNARY_KEPT_IN(r, n)   run_in(r, n, 0)
#define UNARY_KEPT_OUT(r, n)  run_value(r, n)
#define UNARY_KEPT_NONE(r, n) NULL
#define UNARY_READ_IN         const real x = kept[i];
#define UNARY_READ_OUT        const real y = kept[i];
#define UNARY_READ_NONE
#define UNARY_FLAG_IN   OP_KEEPS_IN
#define UNARY_FLAG_OUT  OP_KEEPS_OUT
#define UNARY_FLAG_NONE 0

/* The row of an operator without attributes. `name` is bare; it is put in quotes here. */
#define UNARY_ROW(name, family, keep, samples, doc)                                                \
    {#name,                                                                                        \
     family,                                                                                       \
     1,                                                                                            \
     1,                                                                                            \
     NULL,                                                                                         \
     0,                                                                                            \
     NULL,                                                                                         \
     unary_shape,                                                                                  \
     NULL,                                                                                         \
     name##_forward,                                                                               \
     name##_backward,                                                                              \
     unary_flops,                                                                                  \
     OP_LAYOUT_SAME | UNARY_FLAG_##keep,                                                           \
     samples,                                                                                      \
     doc},

/* Any floating point shape; the output's is the same. */
int unary_shape(struct node *n, struct error *e);
/* One an element: functions such as exp count as one operation. */
double unary_flops(const struct node *n);

/* value = input and gradient = gradient, for what moves no number; nothing when the memory is the
 * same. In ops_shape.c. */
void identity_forward(const struct node *n, struct run *r);
void identity_backward(const struct node *n, struct run *r);

#endif
