/* describe.h: from a model description, as clients send it and the store keeps it, to a network.
 *
 * A description is a JSON object:
 *
 *   inputs     list of {name, datatype, shape}. `name` falls back to "input" ("input0", "input1"
 *              when there are several), `datatype` to "FP32"; a shape is per batch ([-1,1,28,28])
 *              or per sample ([1,28,28]).
 *   preprocess how encoded images become an input: {input, preset, fit, color, ...}, or the name of
 *              a preset. describe_preprocess.c
 *   layers     list of {op, name, inputs, init, and the operator's attributes}. A layer takes the
 *              layer before it unless it names its inputs (layers, also later ones, and inputs).
 *              `init` gives parameters other initialisers: {"bias":{"op":"constant","value":1}}.
 *   outputs    list of layer names or {name, layer}; falls back to the last layer as "output".
 *   targets    list of {name, datatype, shape}; what is left out follows from the losses.
 *   loss       {op, attributes} or the operator's name; or
 *   losses     list of {op, weight, input, target, name, attributes}: their weighted sum is
 *              minimised. A list as `weight` is the operator's own attribute (class weights). A
 *              list as `input` is for losses that take several (yolo_detection); the name of an
 * input of the network as `target` compares with that (an autoencoder). template   {name,
 * arguments}: stands for the description that it writes (describe_template.h); the fields beside it
 * replace its own. optimizer  {op, attributes}; falls back to {"op":"sgd","lr":0.01}. `groups`
 * gives parameters their own attributes: [{"params":["*.bias"],"weight_decay":0}]. describe_globs.c
 *   ema        {decay}: a moving average of the parameters is kept.
 *   schedule   {op, attributes}
 *   augment    list of {op, attributes} or operators' names, or an object with Ultralytics' names;
 *              what training batches go through. With mixup or cutmix the target of cross_entropy
 *              is probabilities [N, C].
 *   signals    {every}: training records what each layer's gradients and activations are like at
 *              steps that `every` divides.
 *   clip_grad_norm, clip_grad_value, seed, labels, frozen (globs of names of parameters)
 *
 * A field that is null is one that is left out. Errors name the place ("layers[3].kernel_size"):
 * BAD_TYPE, UNKNOWN_FIELD, MISSING_FIELD, BAD_NAME when the description cannot be read, and
 * BAD_GRAPH, CYCLE, BAD_SHAPE, BAD_DTYPE, BAD_VALUE, BAD_ATTRIBUTE, UNKNOWN_OPERATOR, TOO_LARGE
 * when what it says is impossible.
 *
 * Any thread may call; the description is only read. Nothing is allocated in proportion to the
 * number of parameters. */
#ifndef SERVER_DESCRIBE_H
#define SERVER_DESCRIBE_H

#include "backprop.h"

#include <jansson.h>

/* The network that a description stands for; the caller destroys it. inputs and targets are the
 * graph's input leaves, inputs first, in this order. Without a loss, optimizer and schedule are
 * checked but left NULL. NULL and the errors above. */
struct network *describe_network(const json_t *description, struct error *e);

/* The same description with its defaults written out: names, datatypes, shapes with the batch,
 * targets, optimiser and its lr, seed. It describes the same network, and expanding it again gives
 * it again. A new reference; NULL and the errors above. */
json_t *describe_expand(const json_t *description, struct error *e);

/* Place of the one input that is an image [N, C, H, W]; -1: there is none, or several. */
int network_image_input(const struct network *net);
/* Place of the target that is the boxes of a detector; -1: there is none. */
int network_boxes_target(const struct network *net);

#endif
