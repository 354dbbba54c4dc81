/* routes.c: every path of the daemon, a row each. Rows with fixed segments stand before rows whose
 * {name} would match the same path. To add one: its handler in an api_*.c, its line in api.h, its
 * row here, and its schemas in schema/openapi.yaml. */
#include "api.h"

#define MODEL "/v2/models/{model}"
#define VERSION MODEL "/versions/{version}"

/* What most rows that carry tensors have in common. */
enum {
    READS = ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY,
    STEPS = ROUTE_MODEL | ROUTE_BODY | ROUTE_BINARY | ROUTE_WRITES | ROUTE_ONCE,
    BARE = ROUTE_MODEL | ROUTE_BODY_OPTIONAL | ROUTE_WRITES,
};

const struct route routes[] = {
    {"GET", "/", api_index, ROUTE_QUICK, ROLE_READ, NULL, NULL, "this list"},
    {"GET", "/v2", api_server_metadata, ROUTE_QUICK, ROLE_READ, NULL, "ServerMetadata",
     "name, version and extensions of the server"},
    {"GET", "/v2/health/live", api_live, ROUTE_QUICK, ROLE_NONE, NULL, "Health",
     "whether the process answers"},
    {"GET", "/v2/health/ready", api_ready, ROUTE_QUICK, ROLE_NONE, NULL, "Health",
     "whether all models are there"},
    {"GET", "/v2/operators", api_operators, 0, ROLE_READ, NULL, "Operators",
     "operators, optimisers, schedules and initialisers with their attributes"},
    {"GET", "/openapi.json", api_openapi, 0, ROLE_READ, NULL, NULL, "this interface as OpenAPI 3"},
    {"POST", "/v2/autograd", api_autograd, ROUTE_BODY | ROUTE_BINARY, ROLE_READ, "Autograd",
     "AutogradAnswer", "value and gradients of an expression"},
    {"GET", "/v2/models", api_model_list, 0, ROLE_READ, NULL, "ModelList", "all models"},
    {"POST", "/v2/repository/index", api_repository_index, ROUTE_BODY_OPTIONAL, ROLE_READ, NULL,
     "RepositoryIndex", "all models and their states"},

    {"PUT", MODEL, api_model_put, ROUTE_MODEL | ROUTE_CREATES | ROUTE_BODY, ROLE_ADMIN,
     "Description", "Model", "create a model; the same description again changes nothing"},
    {"GET", MODEL, api_model_get, ROUTE_MODEL, ROLE_READ, NULL, "Model",
     "metadata, counters and sizes; ?state_sha256=1 hashes the state"},
    {"PATCH", MODEL, api_model_patch, ROUTE_MODEL | ROUTE_BODY | ROUTE_WRITES, ROLE_TRAIN,
     "Settings", "Model", "change learning rate, optimiser, schedule, clipping, frozen layers"},
    {"DELETE", MODEL, api_model_delete, ROUTE_MODEL | ROUTE_WRITES, ROLE_ADMIN, NULL, NULL,
     "delete the model, its versions and metrics"},
    {"POST", MODEL "/clone", api_model_clone, ROUTE_MODEL | ROUTE_BODY, ROLE_ADMIN, "Clone",
     "Model", "a new model from this one's state, whole or by layer globs"},
    {"GET", MODEL "/ready", api_model_ready, ROUTE_MODEL, ROLE_READ, NULL, "ModelReady",
     "whether the model answers"},
    {"GET", MODEL "/config", api_model_config, ROUTE_MODEL, ROLE_READ, NULL, "ModelConfig",
     "the description in force, layers and parameters with their shapes"},

    {"POST", MODEL "/infer", api_infer, READS | ROUTE_FIRST, ROLE_READ, "Infer", "InferAnswer",
     "predict with the live weights"},
    {"POST", VERSION "/infer", api_version_infer, READS, ROLE_READ, "Infer", "InferAnswer",
     "predict with a version"},
    {"POST", MODEL "/train_step", api_train_step, STEPS, ROLE_TRAIN, "Step", "StepAnswer",
     "one batch: forward, backward, optimiser step"},
    {"POST", MODEL "/forward_backward", api_forward_backward, STEPS, ROLE_TRAIN, "Step",
     "StepAnswer", "add the gradients of a batch to those that are pending"},
    {"POST", MODEL "/optim_step", api_optim_step, BARE | ROUTE_ONCE, ROLE_TRAIN, "OptimStep", "StepAnswer",
     "apply the pending gradients and clear them"},
    {"POST", MODEL "/zero_grad", api_zero_grad, BARE | ROUTE_ONCE, ROLE_TRAIN, NULL, "StepAnswer",
     "clear the pending gradients"},
    {"POST", MODEL "/gradients", api_gradients, READS, ROLE_READ, "Gradients", "GradientsAnswer",
     "the gradients that train_step would compute now; changes nothing"},
    {"POST", MODEL "/evaluate", api_evaluate, READS, ROLE_READ, "Step", "StepAnswer",
     "loss and metrics of a labelled batch; changes nothing"},
    {"GET", MODEL "/metrics", api_metrics, ROUTE_MODEL, ROLE_READ, NULL, "Metrics",
     "series by name: ?names= &since= &until= &max_points="},

    {"POST", MODEL "/versions", api_version_create, BARE, ROLE_TRAIN, "NewVersion", "Version",
     "save the whole state as a version"},
    {"GET", MODEL "/versions", api_version_list, ROUTE_MODEL, ROLE_READ, NULL, "VersionList",
     "all versions"},
    {"GET", VERSION, api_version_get, ROUTE_MODEL, ROLE_READ, NULL, "Version",
     "one version and its parts"},
    {"DELETE", VERSION, api_version_delete, ROUTE_MODEL | ROUTE_WRITES, ROLE_ADMIN, NULL, NULL,
     "delete a version; its number is not used again"},
    {"POST", VERSION "/restore", api_version_restore, BARE, ROLE_TRAIN, NULL, "Restored",
     "return to a version"},
    {0},
};
