/* routes.c: every path of the daemon, a row each. Rows with fixed segments stand before rows whose
 * {name} would match the same path. To add one: its handler in an api_*.c, its line in api.h, its
 * row here, and its schemas in schema/openapi.yaml. */
#include "api.h"

#define MODEL   "/v2/models/{model}"
#define VERSION MODEL "/versions/{version}" /* a number or an alias */
#define ALIAS   MODEL "/aliases/{alias}"

/* What most rows that carry tensors have in common. */
enum {
    READS = ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY | ROUTE_FORM,
    PREDICTS = READS | ROUTE_IMAGE | ROUTE_PREDICTS | ROUTE_TENSORS,
    ASKS = READS | ROUTE_ASKS,
    STEPS = ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY | ROUTE_FORM | ROUTE_WRITES | ROUTE_ONCE,
    BARE = ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_WRITES,
};

/* ---- what may stand behind the ? ------------------------------------------------------------- */

static const struct query_param of_model[] = {
    {"state_sha256", "boolean", NULL, "hash the whole state"},
    {0},
};
static const struct query_param of_config[] = {
    {"plan", "boolean", NULL, "the steps that predictions and training run, and how"},
    {0},
};
static const struct query_param of_metrics[] = {
    {"names", "string", NULL, "series, with commas between them; all unless given"},
    {"since", "string", NULL,
     "revisions above this one; or what came after a cursor, such as 150.3"},
    {"until", "integer", NULL, "up to and with this revision"},
    {"max_points", "integer", NULL, "of each series; 1000 unless given"},
    {0},
};
static const struct query_param of_signals[] = {
    {"since", "integer", NULL, "revisions above this one"},
    {"until", "integer", NULL, "up to and with this revision"},
    {"max_points", "integer", NULL, "steps; 200 unless given"},
    {"histograms", "boolean", NULL, "with the counts of each bin"},
    {0},
};
static const struct query_param of_events[] = {
    {"since", "string", NULL, "the id of an event: those after it; or a revision: those above it"},
    {0},
};
static const struct query_param of_weights[] = {
    {"weights", "string", "live|ema", "those in training, or their moving averages"},
    {0},
};
static const struct query_param of_loading[] = {
    {"strict", "boolean", NULL, "every parameter must be there; true unless given"},
    {"reset_optimizer", "boolean", NULL, "forget momenta and steps"},
    {0},
};
static const struct query_param of_aliases[] = {
    {"limit", "integer", NULL, "moves of the ledger, the newest; 100 unless given"},
    {0},
};

/* ---- the table ------------------------------------------------------------------------------- */

const struct route routes[] = {
    {"GET", "/", api_home, ROUTE_QUICK, ROLE_NONE, NULL, NULL,
     "the dashboard, for browsers; for others the list of paths", NULL},
    {"GET", "/dashboard/{file}", api_dashboard, ROUTE_QUICK, ROLE_NONE, NULL, NULL,
     "its script, its style, and the library that draws its charts", NULL},
    {"GET", "/v2/routes", api_index, ROUTE_QUICK, ROLE_NONE, NULL, NULL, "the list of paths", NULL},
    {"GET", "/v2", api_server_metadata, ROUTE_QUICK, ROLE_READ, NULL, "ServerMetadata",
     "name, version and extensions of the server", NULL},
    {"GET", "/v2/health/live", api_live, ROUTE_QUICK, ROLE_NONE, NULL, "Health",
     "whether the process answers", NULL},
    {"GET", "/v2/health/ready", api_ready, ROUTE_QUICK, ROLE_NONE, NULL, "Health",
     "whether all models are there", NULL},
    {"GET", "/v2/operators", api_operators, 0, ROLE_READ, NULL, "Operators",
     "operators, losses, optimisers, schedules and initialisers with their attributes", NULL},
    {"GET", "/v2/templates", api_templates, 0, ROLE_READ, NULL, "Templates",
     "descriptions that are written from a few arguments", NULL},
    {"GET", "/openapi.json", api_openapi, 0, ROLE_READ, NULL, NULL, "this interface as OpenAPI 3",
     NULL},
    {"GET", "/metrics", api_prometheus, 0, ROLE_READ, NULL, NULL,
     "counters, histograms and gauges in Prometheus' text format", NULL},
    {"POST", "/v2/autograd", api_autograd, ROUTE_BODY | ROUTE_BINARY | ROUTE_TENSORS, ROLE_READ,
     "Autograd", "AutogradAnswer", "value and gradients of an expression", NULL},
    {"POST", "/v2/detection/evaluate", api_detection_evaluate, ROUTE_BODY | ROUTE_UNREAD, ROLE_READ,
     "DetectionEvaluate", "DetectionEvaluateAnswer",
     "boxes in COCO's form in, average precision and recall out; needs no model", NULL},
    {"GET", "/v2/models", api_model_list, 0, ROLE_READ, NULL, "ModelList", "all models", NULL},
    {"GET", "/v2/models/stats", api_stats, 0, ROLE_READ, NULL, "Stats",
     "what predictions took since the start, by model", NULL},
    {"POST", "/v2/repository/index", api_repository_index, ROUTE_BODY_OPTIONAL, ROLE_READ, NULL,
     "RepositoryIndex", "all models and their states", NULL},
    {"POST", "/v2/repository/models/{model}/unload", api_repository_unload, BARE | ROUTE_REPEATS,
     ROLE_ADMIN, "RepositoryUnload", "ModelState",
     "free the memory of a model; it stays in the store, with all that it was", NULL},
    {"POST", "/v2/repository/models/{model}/load", api_repository_load,
     ROUTE_MODEL | ROUTE_CREATES | ROUTE_BODY_OPTIONAL | ROUTE_REPEATS, ROLE_ADMIN,
     "RepositoryLoad", "ModelState", "bring a model back that was unloaded", NULL},

    {"GET", "/v2/keys", api_key_list, 0, ROLE_ADMIN, NULL, "KeyList",
     "the keys of clients, without what is secret of them", NULL},
    {"POST", "/v2/keys", api_key_create, ROUTE_BODY | ROUTE_REPEATS, ROLE_ADMIN, "NewKey",
     "KeyMade", "make a key, which is shown in the answer and never again", NULL},
    {"DELETE", "/v2/keys/{key}", api_key_delete, ROUTE_REPEATS, ROLE_ADMIN, NULL, NULL,
     "revoke the key of this name", NULL},

    {"PUT", MODEL, api_model_put, ROUTE_MODEL | ROUTE_CREATES | ROUTE_BODY | ROUTE_LIFE, ROLE_ADMIN,
     "Description", "Model", "create a model; the same description again changes nothing", NULL},
    {"GET", MODEL, api_model_get, ROUTE_MODEL, ROLE_READ, NULL, "Model",
     "metadata, counters and sizes; ?state_sha256=1 hashes the state", of_model},
    {"PATCH", MODEL, api_model_patch, ROUTE_MODEL | ROUTE_BODY | ROUTE_WRITES | ROUTE_ONCE,
     ROLE_TRAIN, "Settings", "Model",
     "change learning rate, optimiser, schedule, clipping, frozen layers", NULL},
    {"DELETE", MODEL, api_model_delete, ROUTE_MODEL | ROUTE_WRITES | ROUTE_LIFE, ROLE_ADMIN, NULL,
     NULL, "delete the model, its versions and metrics", NULL},
    {"POST", MODEL "/clone", api_model_clone, ROUTE_MODEL | ROUTE_BODY | ROUTE_LIFE, ROLE_ADMIN,
     "Clone", "Model",
     "a new model from this one's state or that of a version, whole or by layer globs", NULL},
    {"GET", MODEL "/ready", api_model_ready, ROUTE_MODEL, ROLE_READ, NULL, "ModelReady",
     "whether the model answers", NULL},
    {"GET", MODEL "/stats", api_model_stats, ROUTE_MODEL, ROLE_READ, NULL, "Stats",
     "what predictions with the model took since the start", NULL},
    {"GET", VERSION "/stats", api_version_stats, ROUTE_MODEL, ROLE_READ, NULL, "Stats",
     "what those with a version took", NULL},
    {"GET", MODEL "/config", api_model_config, ROUTE_MODEL, ROLE_READ, NULL, "ModelConfig",
     "the description in force, layers and parameters with their shapes; plan=1: what runs, and "
     "how",
     of_config},

    {"POST", MODEL "/infer", api_infer, PREDICTS, ROLE_READ, "Infer", "InferAnswer",
     "predict with the live weights", NULL},
    {"POST", VERSION "/infer", api_infer, PREDICTS, ROLE_READ, "Infer", "InferAnswer",
     "predict with a version", NULL},
    {"POST", MODEL "/train_step", api_train_step, STEPS, ROLE_TRAIN, "Step", "StepAnswer",
     "one batch: forward, backward, optimiser step", NULL},
    {"POST", MODEL "/forward_backward", api_forward_backward, STEPS, ROLE_TRAIN, "Step",
     "StepAnswer", "add the gradients of a batch to those that are pending", NULL},
    {"POST", MODEL "/optim_step", api_optim_step, BARE | ROUTE_ONCE, ROLE_TRAIN, "OptimStep",
     "StepAnswer", "apply the pending gradients and clear them", NULL},
    {"POST", MODEL "/zero_grad", api_zero_grad, BARE | ROUTE_ONCE, ROLE_TRAIN, NULL, "StepAnswer",
     "clear the pending gradients", NULL},
    {"POST", MODEL "/gradients", api_gradients, ASKS | ROUTE_TENSORS, ROLE_READ, "Gradients",
     "GradientsAnswer", "the gradients that train_step would compute now; changes nothing", NULL},
    {"POST", MODEL "/gradcheck", api_gradcheck, ASKS, ROLE_READ, "Gradcheck", "GradcheckAnswer",
     "the gradients against central differences of the loss, in double precision", NULL},
    {"POST", MODEL "/profile", api_profile, ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_ASKS,
     ROLE_READ, "Profile", "ProfileAnswer",
     "where the time of steps on random data goes, layer by layer; changes nothing", NULL},
    {"POST", MODEL "/augment", api_augment, ASKS | ROUTE_TENSORS, ROLE_READ, "Augment",
     "AugmentAnswer",
     "a batch as the next training step would see it: tensors, or a sheet of pictures", NULL},
    {"POST", MODEL "/evaluate", api_evaluate, ASKS, ROLE_READ, "Evaluate", "EvaluateAnswer",
     "loss and metrics of a labelled batch; changes nothing, unless they are recorded", NULL},
    {"POST", VERSION "/evaluate", api_evaluate, ASKS, ROLE_READ, "Evaluate", "EvaluateAnswer",
     "the same of a version", NULL},
    {"POST", MODEL "/evaluations", api_evaluation_start,
     ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_REPEATS, ROLE_READ, "NewEvaluation", "Evaluation",
     "begin an evaluation of a detector over several requests, by the present state", NULL},
    {"POST", MODEL "/evaluations/{evaluation}/finish", api_evaluation_finish,
     ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_ASKS | ROUTE_REPEATS, ROLE_READ, NULL,
     "EvaluationResult",
     "the numbers of all batches; they become metrics of the model, but not with a key that only "
     "reads",
     NULL},
    {"POST", MODEL "/evaluations/{evaluation}", api_evaluation_add, ASKS | ROUTE_REPEATS, ROLE_READ,
     "Evaluate", "Evaluation", "add a batch of images and their boxes", NULL},
    {"DELETE", MODEL "/evaluations/{evaluation}", api_evaluation_delete,
     ROUTE_MODEL | ROUTE_REPEATS, ROLE_READ, NULL, NULL, "give an evaluation up", NULL},
    {"GET", MODEL "/metrics", api_metrics, ROUTE_MODEL, ROLE_READ, NULL, "Metrics",
     "series by name: ?names= &since= &until= &max_points=", of_metrics},
    {"GET", MODEL "/signals", api_signals, ROUTE_MODEL, ROLE_READ, NULL, "Signals",
     "what training steps said of each layer, and a diagnosis: ?since= &until= &max_points= "
     "&histograms=1",
     of_signals},
    {"GET", MODEL "/events", api_events, ROUTE_MODEL | ROUTE_QUICK, ROLE_READ, NULL, NULL,
     "the same rows as server-sent events as they come: ?since=, or Last-Event-ID", of_events},

    {"GET", MODEL "/weights", api_weights_get, ROUTE_MODEL, ROLE_READ, NULL, NULL,
     "parameters and buffers as a safetensors file, named as in PyTorch: ?weights=ema", of_weights},
    {"PUT", MODEL "/weights", api_weights_put, ROUTE_MODEL | ROUTE_RAW | ROUTE_WRITES | ROUTE_ONCE,
     ROLE_TRAIN, NULL, "WeightsAnswer", "load a safetensors file: ?strict=false &reset_optimizer=1",
     of_loading},
    {"GET", VERSION "/weights", api_version_weights_get, ROUTE_MODEL, ROLE_READ, NULL, NULL,
     "those of a version: ?weights=ema", of_weights},

    {"POST", MODEL "/versions", api_version_create, BARE | ROUTE_ONCE, ROLE_TRAIN, "NewVersion",
     "Version", "save the whole state as a version", NULL},
    {"GET", MODEL "/versions", api_version_list, ROUTE_MODEL, ROLE_READ, NULL, "VersionList",
     "all versions", NULL},
    {"GET", VERSION, api_version_get, ROUTE_MODEL, ROLE_READ, NULL, "Version",
     "one version and its parts; and the metadata of the model", NULL},
    {"GET", VERSION "/ready", api_version_ready, ROUTE_MODEL, ROLE_READ, NULL, "ModelReady",
     "whether the model answers with a version", NULL},
    {"GET", VERSION "/config", api_version_config, ROUTE_MODEL, ROLE_READ, NULL, "ModelConfig",
     "the model's, with the description that the version was saved with", of_config},
    {"DELETE", VERSION, api_version_delete, ROUTE_MODEL | ROUTE_WRITES | ROUTE_ONCE, ROLE_ADMIN,
     NULL, NULL, "delete a version; its number is not used again", NULL},
    {"POST", VERSION "/restore", api_version_restore, BARE | ROUTE_ONCE, ROLE_TRAIN, NULL,
     "Restored", "return to a version", NULL},

    {"GET", MODEL "/aliases", api_alias_list, ROUTE_MODEL, ROLE_READ, NULL, "AliasList",
     "names for versions, and the ledger of their moves: ?limit=", of_aliases},
    {"GET", ALIAS, api_alias_get, ROUTE_MODEL, ROLE_READ, NULL, "Alias",
     "where an alias points, and how it got there", of_aliases},
    {"PUT", ALIAS, api_alias_put, ROUTE_MODEL | ROUTE_BODY | ROUTE_ONCE, ROLE_TRAIN, "MoveAlias",
     "AliasMoved", "point an alias to a version", NULL},
    {"DELETE", ALIAS, api_alias_delete, ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_ONCE, ROLE_TRAIN,
     NULL, "AliasMoved", "delete an alias; the version stays", NULL},
    {"POST", ALIAS "/rollback", api_alias_rollback, ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_ONCE,
     ROLE_TRAIN, NULL, "AliasMoved", "take back the last move of an alias", NULL},
    {0},
};
