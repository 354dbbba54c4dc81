/* onnx_case.h: one of ONNX's backend tests: a model, and data sets of inputs and what they give. */
#ifndef ONNX_CASE_H
#define ONNX_CASE_H

#include "onnx_archive.h"
#include "onnx_build.h"

struct onnx_case {
    const char *name; /* "test_abs" */
    const struct onnx_model *model;
    enum onnx_verdict verdict; /* APPLIES: and it passed */
    char why[300];             /* of the other verdicts */
};

/* Reads node/NAME from the archive, decides whether it applies, runs it, compares with tolerances
 * of 1e-3 relative and 1e-7 absolute, which are ONNX's own. Indices must be equal. */
void onnx_case_run(struct arena *a, const struct onnx_archive *archive, const char *name,
                   struct pool *pool, struct onnx_case *k);

/* A result and what was expected of it, for those that run a case. */
void onnx_case_compare(struct onnx_case *k, const char *name, const struct shape *shape,
                       const real *found, const struct onnx_tensor *expected);
void onnx_case_end(struct onnx_case *k, enum onnx_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4))); /* the first counts */

/* A model of one optimiser (onnx_optimizer.c). */
bool onnx_optimizer_is(const struct onnx_model *m);
void onnx_optimizer_run(struct onnx_case *k, struct pool *pool,
                        const struct onnx_tensor *const *inputs,
                        const struct onnx_tensor *const *expected);

#endif
