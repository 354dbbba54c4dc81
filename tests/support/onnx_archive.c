/* onnx_archive.c: a tar is blocks of 512 bytes: a header (name, size in octal digits, type '0' for
 * a file), then the file's bytes, filled up to whole blocks; a block of zeros ends it. A name of
 * more than 100 bytes comes before its header, as the bytes of a file of type 'L' (GNU's tar). */
#include "onnx_archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, NAME_SIZE = 100, SIZE_AT = 124, TYPE_AT = 156, MOST = 1 << 28 };

/* All that xz says, or NULL. */
static unsigned char *unpack(struct arena *a, const char *path, size_t *size_r)
{
    size_t room = 1 << 24, size = 0, got;
    const char *command = arena_printf(a, "xz -dc '%s' 2>/dev/null", path);
    FILE *pipe = command ? popen(command, "r") : NULL;
    unsigned char *all = malloc(room);
    while (pipe && all && (got = fread(all + size, 1, room - size, pipe)) > 0) {
        size += got;
        if (size == room && room < MOST) {
            unsigned char *more = realloc(all, room *= 2);
            if (!more)
                free(all);
            all = more;
        }
    }
    const bool good = pipe && pclose(pipe) == 0 && all;
    unsigned char *kept = good ? arena_alloc(a, size + 1) : NULL;
    if (kept)
        memcpy(kept, all, size);
    free(all);
    *size_r = size;
    return kept;
}

static int compare(const void *x, const void *y)
{
    return strcmp(((const struct onnx_file *)x)->path, ((const struct onnx_file *)y)->path);
}

/* The files, into `files` unless it is NULL; how many. -1: not a tar. */
static int walk(struct arena *a, const unsigned char *at, size_t size, struct onnx_file *files)
{
    int n = 0;
    const char *long_name = NULL;
    while (size >= BLOCK && at[0]) {
        char digits[13] = "";
        memcpy(digits, at + SIZE_AT, 12);
        const size_t length = strtoul(digits, NULL, 8), blocks = (length + BLOCK - 1) / BLOCK;
        const char *bytes = (const char *)at + BLOCK, type = (char)at[TYPE_AT];
        if (blocks > size / BLOCK - 1)
            return -1;
        const char *name =
            long_name ? long_name : arena_printf(a, "%.*s", NAME_SIZE, (const char *)at);
        if (type == '0' && files)
            files[n] = (struct onnx_file){name ? name : "", bytes, length};
        n += type == '0';
        long_name = type == 'L' ? arena_printf(a, "%.*s", (int)length, bytes) : NULL;
        at += (blocks + 1) * BLOCK;
        size -= (blocks + 1) * BLOCK;
    }
    return n;
}

struct onnx_archive *onnx_archive_read(struct arena *a, const char *path)
{
    size_t size;
    const unsigned char *all = unpack(a, path, &size);
    const int n = all ? walk(a, all, size, NULL) : -1;
    struct onnx_archive *archive = arena_alloc(a, sizeof *archive);
    if (n <= 0 || !archive)
        return NULL;
    archive->n_files = n;
    archive->files = arena_array(a, (size_t)n, sizeof *archive->files);
    if (!archive->files)
        return NULL;
    walk(a, all, size, archive->files);
    qsort(archive->files, (size_t)n, sizeof *archive->files, compare);
    return archive;
}

const struct onnx_file *onnx_archive_find(const struct onnx_archive *archive, const char *path)
{
    const struct onnx_file key = {path, NULL, 0};
    return bsearch(&key, archive->files, (size_t)archive->n_files, sizeof *archive->files, compare);
}
