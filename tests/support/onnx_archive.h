/* onnx_archive.h: the files of a .tar.xz, in memory. */
#ifndef ONNX_ARCHIVE_H
#define ONNX_ARCHIVE_H

#include "../../engine/backprop.h"

struct onnx_file {
    const char *path; /* "node/test_abs/model.onnx" */
    const void *bytes;
    size_t size;
};
struct onnx_archive {
    int n_files;
    struct onnx_file *files; /* by path */
};

/* Unpacked by the program xz into `a`. NULL: no such file, no xz, or no tar in it. */
struct onnx_archive *onnx_archive_read(struct arena *a, const char *path);
/* NULL when there is none. */
const struct onnx_file *onnx_archive_find(const struct onnx_archive *archive, const char *path);

#endif
