/* fuzz_describe.c: model descriptions and templates. What must hold: a description can be expanded
 * if and only if it gives a network; the expanded one expands to itself and gives a network with
 * the same number of parameters. */
#include "fuzz.h"

#include "../../server/describe.h"

static void check_expanded(const json_t *expanded, const struct network *net)
{
    struct error e = {0};
    json_t *again = describe_expand(expanded, &e);
    FUZZ_CHECK(again, "the expanded description is refused: %s", e.text);
    if (!json_equal(expanded, again)) {
        fprintf(stderr, "%s\nexpands to\n%s\n", json_dumps(expanded, 0), json_dumps(again, 0));
        abort();
    }
    struct network *same = describe_network(expanded, &e);
    FUZZ_CHECK(same, "the expanded description gives no network: %s", e.text);
    FUZZ_CHECK(graph_params_size(same->graph) == graph_params_size(net->graph),
               "the expanded description has other parameters");
    network_destroy(&same);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error e = {0}, other = {0};
    json_t *given = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    if (!given)
        return 0;
    if (!json_is_object(given)) {
        json_decref(given);
        return 0;
    }
    struct network *net = describe_network(given, &e);
    json_t *expanded = describe_expand(given, &other);
    FUZZ_CHECK(!net == !expanded, "network: %s; expanded: %s", e.text, other.text);
    if (net) {
        check_expanded(expanded, net);
    } else {
        fuzz_check_error(&e);
        FUZZ_CHECK(!strcmp(e.text, other.text), "'%s' and '%s'", e.text, other.text);
    }
    if (net)
        network_destroy(&net);
    json_decref(expanded);
    json_decref(given);
    return 0;
}
