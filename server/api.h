/* api.h: what the handlers share: reading batches and bodies, and writing the parts that many
 * answers have. Handlers are in api_*.c; routes.c says which path leads to which. */
#ifndef BACKPROPD_API_H
#define BACKPROPD_API_H

#include "describe_fields.h"
#include "keyring.h"
#include "metrics.h"
#include "models.h"
#include "tensor_reply.h"

/* Of routes with a {model}: what find_model has found. */
static inline struct model *request_model(const struct request *q)
{
    return q->model;
}
static inline struct models *request_models(const struct request *q)
{
    return q->server->models;
}

/* The name of the key that the request carries; "" when none is needed. */
static inline const char *request_who(const struct request *q)
{
    return q->caller ? q->caller->key.name : "";
}

/* Hooks for struct server. */
int api_find_model(struct request *q, struct error *e);
void api_release_model(struct request *q);
bool api_infer_small(const struct request *q); /* infer_small.c */

/* models_each, of those that the request's key may see. */
void api_models_each(struct request *q, models_fn *f, void *arg);

/* What metadata and configuration call the platform of a model. */
#define API_PLATFORM "backpropd_graph"

/* A parameter of verbs whose answers have no tensors, too: clients may set it in every request that
 * has some. */
#define API_BINARY_OUTPUT                                                                          \
    {                                                                                              \
        "binary_data_output", IS_BOOL, "true or false", false                                      \
    }

/* Checks the fields of the body, if there is one, and those of its "parameters"; `parameters` NULL:
 * the body has none, or fields that are checked elsewhere. */
int api_check_body(const struct request *q, const struct field *fields,
                   const struct field *parameters, struct error *e);
/* An entry of the body's "parameters"; NULL when it is not there. */
const json_t *api_parameter(const struct request *q, const char *name);
/* The state of a version (0: the live one) for a question, whose runs end when the client of `q`
 * has gone. UNKNOWN_VERSION. */
int api_snapshot(struct request *q, int64_t version, struct snapshot *s_r, struct error *e);
/* What clients see of a node: INT64 for indices. */
enum dtype api_wire_dtype(const struct node *n);
/* Puts the moving averages in the place of the snapshot's weights. CONFLICT when there are none;
 * OUT_OF_MEMORY. */
int api_take_averages(struct snapshot *s, struct error *e);
/* The parameter "weights": "ema" puts the moving averages in the place of the snapshot's weights.
 * BAD_VALUE, CONFLICT (the model keeps none). */
int api_choose_weights(const struct request *q, struct snapshot *s, struct error *e);

/* Reads inputs, and targets if asked for, into the request's arena as the network wants them.
 * BAD_SHAPE, UNKNOWN_FIELD, MISSING_FIELD and those of tensor.h. */
int api_read_batch(struct request *q, const struct network *net, bool targets, struct batch *b_r,
                   struct error *e);
/* Its two halves, for what comes between: images that came encoded are 0 to 1 after the first
 * (request.fits is set then), and normalised as `preprocess` says by the second. Inputs are read
 * before targets. */
int api_read_batch_raw(struct request *q, const struct network *net, bool targets,
                       struct batch *b_r, struct error *e);
void api_batch_normalise(struct request *q, const struct network *net, const struct batch *b);

/* A batch with targets as the training forward of this draw sees it: augmented between the two
 * halves, if the description says so. api_batches.c */
int api_read_training_batch(struct request *q, const struct network *net, uint64_t draw,
                            struct batch *b_r, struct error *e);
/* Augments a raw batch: points it to other tensors in the request's arena. Targets may be NULL.
 * BAD_VALUE when colour rows find values outside of 0..1. */
int api_batch_augment(struct request *q, const struct network *net, uint64_t draw, struct batch *b,
                      struct error *e);

/* What the protocol's metadata of a model has: "name", "versions", "platform", "inputs", "outputs";
 * and "targets". Into an object that is open. Errors of store_version_list. api_models.c */
int api_write_metadata(struct json_out *w, const struct model *m, const struct network *net,
                       struct error *e);
/* "model_name", and "id" if the request has one. Into an object that is open. */
void api_write_name(struct json_out *w, const struct request *q, const char *model_name);
/* "step", "revision". */
void api_write_counters(struct json_out *w, const struct counters *at);
void api_put_json(struct json_out *w, const char *key, const json_t *value);
void api_put_shape(struct json_out *w, const char *key, const struct shape *s);

/* The {version} of the path, which is a number or an alias. Read or reply, like param_int.
 * api_aliases.c */
int api_param_version(struct request *q, int64_t *version_r);
/* The version that it stands for, in the request's arena. Read or reply. api_versions.c */
int api_version_find(struct request *q, struct store_version *v_r);
/* The same of the body's "version"; 0: it has none. BAD_VALUE, UNKNOWN_ALIAS. */
int api_body_version(struct request *q, int64_t *version_r, struct error *e);

/* Handlers, by file. */
int api_home(struct request *q); /* api_dashboard.c */
int api_dashboard(struct request *q);
int api_index(struct request *q); /* api_server.c */
int api_server_metadata(struct request *q);
int api_live(struct request *q);
int api_ready(struct request *q);
int api_operators(struct request *q);
int api_templates(struct request *q);
int api_openapi(struct request *q);
int api_model_list(struct request *q);       /* api_models.c */
int api_repository_index(struct request *q); /* api_repository.c */
int api_repository_load(struct request *q);
int api_repository_unload(struct request *q);
int api_model_put(struct request *q);
int api_model_get(struct request *q);
int api_model_patch(struct request *q);
int api_model_delete(struct request *q);
int api_model_clone(struct request *q);
int api_model_ready(struct request *q);
int api_model_config(struct request *q); /* api_config.c */
int api_version_config(struct request *q);
int api_infer(struct request *q); /* api_infer.c */
int api_stats(struct request *q); /* api_stats.c */
int api_model_stats(struct request *q);
int api_version_stats(struct request *q);
int api_evaluate(struct request *q);   /* api_evaluate.c */
int api_train_step(struct request *q); /* api_train.c */
int api_forward_backward(struct request *q);
int api_optim_step(struct request *q);
int api_zero_grad(struct request *q);
int api_augment(struct request *q);          /* api_augment.c */
int api_gradients(struct request *q);        /* api_gradients.c */
int api_gradcheck(struct request *q);        /* api_gradcheck.c */
int api_profile(struct request *q);          /* api_profile.c */
int api_autograd(struct request *q);         /* api_autograd.c */
int api_evaluation_start(struct request *q); /* api_evaluations.c */
int api_evaluation_add(struct request *q);
int api_evaluation_finish(struct request *q);
int api_evaluation_delete(struct request *q);
int api_detection_evaluate(struct request *q); /* api_detection.c */
int api_metrics(struct request *q);            /* api_metrics.c */
int api_signals(struct request *q);            /* api_signals.c */
int api_alias_list(struct request *q);         /* api_aliases.c */
int api_alias_get(struct request *q);
int api_alias_put(struct request *q);
int api_alias_rollback(struct request *q);
int api_alias_delete(struct request *q);
int api_weights_get(struct request *q); /* api_weights.c */
int api_version_weights_get(struct request *q);
int api_weights_put(struct request *q);
int api_prometheus(struct request *q);     /* api_prometheus.c */
int api_events(struct request *q);         /* api_events.c */
int api_version_create(struct request *q); /* api_versions.c */
int api_version_list(struct request *q);
int api_version_get(struct request *q);
int api_version_ready(struct request *q);
int api_version_delete(struct request *q);
int api_version_restore(struct request *q);
int api_key_list(struct request *q); /* api_keys.c */
int api_key_create(struct request *q);
int api_key_delete(struct request *q);

#endif
