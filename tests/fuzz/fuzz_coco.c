/* fuzz_coco.c: POST /v2/detection/evaluate. What must hold: the answer is JSON; each of the numbers
 * is from 0 to 1 or null. */
#include "fuzz.h"

#include "../../server/api.h"

static void check_numbers(const json_t *numbers)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)numbers, key, value)
    {
        double d = json_number_value(value);
        FUZZ_CHECK(json_is_null(value) || (json_is_number(value) && d >= 0 && d <= 1 + 1e-9),
                   "%s is %.17g", key, d);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request *q = request_create(NULL, "POST", "/v2/detection/evaluate", "");
    q->body_size = size;
    q->body = q->body_block = fuzz_copy(data, size, true);
    int status = api_detection_evaluate(q);
    fuzz_check_answer(q);
    FUZZ_CHECK(status == q->status && (status == 200 || status == 400 || status == 422), "%d",
               status);
    if (status == 200) {
        json_t *answer = json_loadb(q->response.body, q->response.size, 0, NULL);
        check_numbers(json_object_get(answer, "stats"));
        check_numbers(json_object_get(answer, "per_class_ap"));
        json_decref(answer);
    }
    request_destroy(&q);
    return 0;
}
