/* names.c: the nearest known name, for "did you mean". Optimal string alignment distance:
 * insertions, deletions, substitutions and swaps of neighbours cost one each. */
#include "backprop.h"

#include <string.h>

enum { NAME_MAX_COMPARED = 48 };

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
    size_t given = strlen(n->given), other = strlen(known);
    if (given > NAME_MAX_COMPARED || other > NAME_MAX_COMPARED)
        return;
    int distance = edit_distance(n->given, (int)given, known, (int)other);
    int limit = 1 + (int)(given > other ? given : other) / 3;
    if (distance <= limit && (!n->best || distance < n->distance)) {
        n->best = known;
        n->distance = distance;
    }
}
