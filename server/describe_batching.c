/* describe_batching.c: how predictions that wait are put together, by Triton's names. They are no
 * part of the network: model_patch.c reads them from the description again. */
#include "describe_parts.h"

enum { BATCH_MOST = 1 << 20, DELAY_MOST = 60000000, QUEUE_MOST = 1000000 };

static const struct field dynamic_fields[] = {
    {"max_queue_delay_microseconds", IS_INT, "a whole number", false},
    {"default_queue_policy", IS_OBJECT, "an object", false},
    {0},
};

static const struct field policy_fields[] = {
    {"max_queue_size", IS_INT, "a whole number", false},
    {0},
};

static int check_range(struct describe *d, const json_t *value, const char *field, int64_t most)
{
    json_int_t n = json_integer_value(value);
    if (n >= 0 && n <= most)
        return 0;
    return error_set(d->e, ERROR_BAD_VALUE, "%s: expected 0 to %lld, found %lld", field,
                     (long long)most, (long long)n);
}

#define POLICY "dynamic_batching.default_queue_policy"

int describe_batching(struct describe *d)
{
    const json_t *max = describe_get(d->given, "max_batch_size");
    const json_t *dynamic = describe_get(d->given, "dynamic_batching");
    const json_t *delay = describe_get(dynamic, "max_queue_delay_microseconds");
    const json_t *policy = describe_get(dynamic, "default_queue_policy");
    if (max && (check_range(d, max, "max_batch_size", BATCH_MOST) ||
                describe_put(d->expanded, "max_batch_size", json_deep_copy(max), d->e)))
        return -1;
    if (!dynamic)
        return 0;
    if (describe_check_fields(dynamic, "dynamic_batching", dynamic_fields, false, d->e) ||
        check_range(d, delay, "dynamic_batching.max_queue_delay_microseconds", DELAY_MOST) ||
        (policy && describe_check_fields(policy, POLICY, policy_fields, false, d->e)) ||
        check_range(d, describe_get(policy, "max_queue_size"), POLICY ".max_queue_size",
                    QUEUE_MOST))
        return -1;
    return describe_put(d->expanded, "dynamic_batching", json_deep_copy(dynamic), d->e);
}
