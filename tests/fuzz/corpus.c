/* corpus.c: gives a fuzz target each file of its corpus once, without libFuzzer: the regression
 * test of `make test`. What was found once stays found. The last input that is named is the one at
 * fault. */
#include "fuzz.h"

#include <dirent.h>

static int by_hand(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static int run_file(const char *path)
{
    FILE *in = fopen(path, "rb");
    long size = in && !fseek(in, 0, SEEK_END) ? ftell(in) : -1;
    uint8_t *bytes = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (bytes)
        rewind(in);
    bool whole = bytes && fread(bytes, 1, (size_t)size, in) == (size_t)size;
    if (whole) {
        char *exact = fuzz_copy(bytes, (size_t)size, false);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, (size_t)size);
        free(exact);
    }
    free(bytes);
    if (in)
        fclose(in);
    return whole ? 0 : -1;
}

/* The program's own name says which corpus: build/tests/fuzz/json.test. */
int main(int argc, char **argv)
{
    struct dirent **files;
    char folder[256], path[600];
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    if (argc > 1)
        snprintf(folder, sizeof folder, "%s", argv[1]);
    else
        snprintf(folder, sizeof folder, "tests/fuzz/corpus/%.*s", (int)strcspn(name, "."), name);
    int n = scandir(folder, &files, by_hand, alphasort), failed = 0;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]->d_name);
        printf("# %s\n", path);
        fflush(stdout);
        failed += run_file(path) != 0;
        free(files[i]);
    }
    if (n >= 0)
        free(files);
    printf("1..1\n%s 1 - %d inputs of %s\n", n > 0 && !failed ? "ok" : "not ok", n, folder);
    return n > 0 && !failed ? 0 : 1;
}
