/* backprop.h: libbackprop, the backpropagation engine. The only header that its users include;
 * its parts are backprop_*.h.
 *
 * What its objects mean:
 *
 *   shape      the sizes of a tensor. dim[0] may be BATCH: a size that is known only when a plan
 *              runs. Row-major, images N,C,H,W, kernels O,I,H,W, as in PyTorch.
 *   graph      nodes, each an operator applied to earlier nodes. Leaves are inputs, parameters,
 *              buffers (BN statistics) and constants. A model with its loss and an autograd
 *              expression are both graphs. Read-only once it is built.
 *   param      a named view into the model's one block of parameters, or of buffers.
 *   plan       a graph compiled for one purpose and one capacity: order, layouts, and the place
 *              of each buffer in one arena. Read-only, shared by any number of runs.
 *   run        everything that one execution of a plan writes. One thread at a time.
 *   pool       worker threads that runs share.
 *   network    a graph with the names of its inputs, targets, outputs and loss, its optimiser,
 *              schedule and clipping: what a model description stands for.
 *   generation one immutable state of a network's numbers: parameters, buffers, optimiser state.
 *              A step reads generation n and writes generation n+1.
 *
 * What a user need not know: how nodes are stored, layouts inside plans, kernels.
 *
 * Numbers are `real`: float, or double when compiled with BACKPROP_DOUBLE. Both builds can live in
 * one process: the double one is compiled with a generated header that renames every global symbol
 * of the library (build/double_names.h), so a source file sees one or the other.
 *
 * Same bits: results depend on the inputs and on engine_fingerprint(), never on the number of
 * threads; and in plans without backward a sample's results do not depend on the other samples.
 *
 * Threads: objects may be read from several threads and written from one at a time; what differs
 * is said at the function. No function keeps a pointer that it was given unless it says so. */
#ifndef BACKPROP_H
#define BACKPROP_H

#include "backprop_augment.h"
#include "backprop_graph.h"
#include "backprop_optimizer.h"
#include "backprop_run.h"
#include "backprop_train.h"
#include "backprop_values.h"

#endif
