/* error.h: the one error type, from the lowest layer of the engine to the wire.
 *
 * A function that can fail takes a `struct error *` last, returns 0 or a pointer when it worked and
 * -1 or NULL when it did not. The sentence is written where the fact is known: it names the field,
 * what was found and what was expected, and reaches the client unchanged. */
#ifndef BACKPROP_ERROR_H
#define BACKPROP_ERROR_H

/* One row an error: name, HTTP status, stable slug, what it means. The engine only ever uses the
 * names; the status and the slug are what the server answers with and what the docs print. */
#define ERROR_LIST(X)                                                                              \
    X(ERROR_NONE, 200, "ok", "no error")                                                           \
    X(ERROR_BAD_JSON, 400, "bad_json", "the body is not JSON")                                     \
    X(ERROR_BAD_TYPE, 400, "bad_type", "a field has the wrong JSON type")                          \
    X(ERROR_UNKNOWN_FIELD, 400, "unknown_field", "a field that is not known here")                 \
    X(ERROR_MISSING_FIELD, 400, "missing_field", "a field that is needed is not there")            \
    X(ERROR_DUPLICATE_FIELD, 400, "duplicate_field", "a field that is given twice")                \
    X(ERROR_BAD_NAME, 400, "bad_name", "a name with characters that names cannot have")            \
    X(ERROR_BAD_QUERY, 400, "bad_query", "a query parameter that cannot be read")                  \
    X(ERROR_BAD_HEADER, 400, "bad_header", "a request header that cannot be read")                 \
    X(ERROR_BAD_BINARY, 400, "bad_binary", "binary tensor framing that does not add up")           \
    X(ERROR_BAD_EXPRESSION, 400, "bad_expression", "an autograd expression that cannot be read")   \
    X(ERROR_BAD_FORM, 400, "bad_form", "a multipart form that cannot be read")                     \
    X(ERROR_BAD_ENCODING, 400, "bad_encoding", "a compressed body that cannot be unpacked")        \
    X(ERROR_TLS_REQUIRED, 400, "tls_required", "plain HTTP on a port that speaks TLS")             \
    X(ERROR_BAD_IMAGE, 400, "bad_image", "an image that cannot be decoded")                        \
    X(ERROR_BAD_SAFETENSORS, 400, "bad_safetensors", "a file that is no safetensors")              \
    X(ERROR_BATCH_TOO_LARGE, 400, "batch_too_large", "more samples than max_batch_size")           \
    X(ERROR_UNAUTHORIZED, 401, "unauthorized", "no valid key")                                     \
    X(ERROR_FORBIDDEN, 403, "forbidden", "the key does not allow this")                            \
    X(ERROR_QUOTA, 403, "quota_exceeded", "more than the key's quota allows")                      \
    X(ERROR_ORIGIN, 403, "foreign_origin", "a page of another site asks for a change")             \
    X(ERROR_UNKNOWN_PATH, 404, "unknown_path", "no such path")                                     \
    X(ERROR_UNKNOWN_MODEL, 404, "unknown_model", "no such model")                                  \
    X(ERROR_UNKNOWN_VERSION, 404, "unknown_version", "no such version")                            \
    X(ERROR_UNKNOWN_ALIAS, 404, "unknown_alias", "no such alias")                                  \
    X(ERROR_UNKNOWN_EVALUATION, 404, "unknown_evaluation", "no such evaluation")                   \
    X(ERROR_UNKNOWN_KEY, 404, "unknown_key", "no key of this name")                                \
    X(ERROR_METHOD, 405, "method_not_allowed", "the path does not answer this method")             \
    X(ERROR_SLOW, 408, "request_timeout", "the request came too slowly")                           \
    X(ERROR_MODEL_EXISTS, 409, "model_exists", "another model has this name")                      \
    X(ERROR_KEY_EXISTS, 409, "key_exists", "another key has this name")                            \
    X(ERROR_CONFLICT, 409, "conflict", "the state of the model does not allow this now")           \
    X(ERROR_LENGTH_REQUIRED, 411, "length_required", "a body without a length")                    \
    X(ERROR_PRECONDITION, 412, "precondition_failed", "the model has moved on")                    \
    X(ERROR_BODY_TOO_LARGE, 413, "body_too_large", "the body is over the limit")                   \
    X(ERROR_MEDIA_TYPE, 415, "unsupported_media_type", "a content type that is not understood")    \
    X(ERROR_UNKNOWN_HOST, 421, "unknown_host", "a Host that is not this server's name")            \
    X(ERROR_UNKNOWN_OPERATOR, 422, "unknown_operator", "no operator of this name")                 \
    X(ERROR_BAD_ATTRIBUTE, 422, "bad_attribute", "an attribute that is unknown or out of range")   \
    X(ERROR_BAD_GRAPH, 422, "bad_graph", "layers that do not fit together")                        \
    X(ERROR_CYCLE, 422, "cycle", "layers that feed themselves")                                    \
    X(ERROR_BAD_SHAPE, 422, "bad_shape", "a shape that does not fit")                              \
    X(ERROR_BAD_DTYPE, 422, "bad_datatype", "a datatype that does not fit")                        \
    X(ERROR_BAD_VALUE, 422, "bad_value", "a value that is out of range")                           \
    X(ERROR_KEY_REUSED, 422, "key_reused", "an idempotency key or seq of another request")         \
    X(ERROR_EMPTY_BATCH, 422, "empty_batch", "a batch without examples")                           \
    X(ERROR_NOT_FINITE, 422, "not_finite", "a NaN or an infinity, given or computed")              \
    X(ERROR_TOO_LARGE, 422, "too_large", "sizes that overflow when multiplied")                    \
    X(ERROR_QUEUE_FULL, 429, "queue_full", "too many requests are waiting")                        \
    X(ERROR_RATE, 429, "rate_limited", "more requests or failed tries than are allowed")           \
    X(ERROR_CLIENT_GONE, 499, "client_gone", "the client has closed its connection")               \
    X(ERROR_INTERNAL, 500, "internal", "a defect in backpropd")                                    \
    X(ERROR_ANSWER_LOST, 500, "answer_lost", "the change was made; only its answer is missing")    \
    X(ERROR_NOT_READY, 503, "not_ready", "starting or stopping")                                   \
    X(ERROR_OUT_OF_MEMORY, 507, "out_of_memory", "over the memory budget")                         \
    X(ERROR_STORAGE, 507, "storage", "the data folder cannot be written")

enum error_code {
#define ERROR_ENUM(name, status, slug, doc) name,
    ERROR_LIST(ERROR_ENUM)
#undef ERROR_ENUM
};

struct error {
    enum error_code code;
    char text[500]; /* one sentence, UTF-8, without a newline */
};

/* Writes code and sentence; is always -1, so that `return error_set(...)` says it all. `e` may be
 * NULL. A macro, so that the compiler knows the -1. */
#define error_set(...)                                                                             \
    ({                                                                                             \
        error_write(__VA_ARGS__);                                                                  \
        -1;                                                                                        \
    })
void error_write(struct error *e, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that is there; always returns -1. */
int error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

int error_status(enum error_code code);       /* HTTP status */
const char *error_slug(enum error_code code); /* stable code of the wire */

#endif
