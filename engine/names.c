/* names.c: the nearest known name, for "did you mean". Optimal string alignment distance:
 * insertions, deletions, substitutions and swaps of neighbours cost one each. */
#include "backprop.h"

#include <string.h>

enum { NAME_MAX_COMPARED = 48 };

/* What other libraries call what is called `known` here: as plain() writes it. */
static const struct {
    const char *other, *known;
} synonyms[] = {
    {"mae", "l1"},
    {"meanabsoluteerror", "l1"},
    {"meansquarederror", "mse"},
    {"l2", "mse"},
    {"binarycrossentropy", "bce"},
    {"binarycrossentropywithlogits", "bce_with_logits"},
    {"categoricalcrossentropy", "cross_entropy"},
    {"sparsecategoricalcrossentropy", "cross_entropy"},
    {"softmaxcrossentropy", "cross_entropy"},
    {"kldivergence", "kl_div"},
    {"dense", "linear"},
    {"fullyconnected", "linear"},
    {"fc", "linear"},
    {"conv", "conv2d"},
    {"conv2dtranspose", "conv_transpose2d"},
    {"deconv", "conv_transpose2d"},
    {"batchnorm", "batch_norm2d"},
    {"batchnormalization", "batch_norm2d"},
    {"layernormalization", "layer_norm"},
    {"maxpool", "max_pool2d"},
    {"maxpooling2d", "max_pool2d"},
    {"avgpool", "avg_pool2d"},
    {"averagepooling2d", "avg_pool2d"},
    {"globalaveragepooling2d", "adaptive_avg_pool2d"},
    {"swish", "silu"},
    {"cat", "concat"},
    {"attention", "multihead_attention"},
    {"positionalencoding", "sinusoidal_encoding"},
    {"learningrate", "lr"},
    {"tmax", "total_steps"},
    {"etamin", "min_lr"},
    {"wd", "weight_decay"},
    {"epsilon", "eps"},
    {"units", "out_features"},
    {"filters", "out_channels"},
    {"axis", "dim"},
    {"rate", "p"},
    {"predict", "infer"},
    {"train", "train_step"},
    {"fit", "train_step"},
};

/* In small letters, without '_' and what follows a name of torch's losses. */
static int plain(const char *name, char text_r[NAME_MAX_COMPARED + 1])
{
    int n = 0;
    for (; *name && n < NAME_MAX_COMPARED; name++)
        if (*name != '_')
            text_r[n++] = *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name;
    if (n > 4 && memcmp(text_r + n - 4, "loss", 4) == 0)
        n -= 4;
    text_r[n] = 0;
    return n;
}

static bool is_synonym(const char *given, const char *known)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof synonyms[0]; i++)
        if (strcmp(synonyms[i].other, given) == 0 && strcmp(synonyms[i].known, known) == 0)
            return true;
    return false;
}

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int edit_distance(const char *a, int n, const char *b, int m)
{
    int row[3][NAME_MAX_COMPARED + 1];
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];
        cur[0] = i;
        for (int j = 1; j <= m; j++) {
            int substitute = prev[j - 1] + (a[i - 1] != b[j - 1]);
            cur[j] = min_int(substitute, 1 + min_int(prev[j], cur[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                cur[j] = min_int(cur[j], prev2[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

void nearest_offer(struct nearest *n, const char *known)
{
    char given[NAME_MAX_COMPARED + 1], other[NAME_MAX_COMPARED + 1];
    if (strlen(n->given) > NAME_MAX_COMPARED || strlen(known) > NAME_MAX_COMPARED)
        return;
    const int a = plain(n->given, given), b = plain(known, other);
    const int distance = is_synonym(given, known) ? 0 : edit_distance(given, a, other, b);
    if (distance <= 1 + (a > b ? a : b) / 3 && (!n->best || distance < n->distance)) {
        n->best = known;
        n->distance = distance;
    }
}
