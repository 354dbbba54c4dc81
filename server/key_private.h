/* key_private.h: what the two halves of key_file share. */
#ifndef BACKPROPD_KEY_PRIVATE_H
#define BACKPROPD_KEY_PRIVATE_H

#include "key.h"

#include <limits.h>

#define KEY_FILE "keys.json"

struct key_path {
    char text[PATH_MAX];
};

/* "DIR/NAME". */
int key_file_path(struct key_path *p, const char *dir, const char *name, struct error *e);
/* STORAGE: "cannot DOING PATH: " and errno's words. Always -1. */
int key_file_failed(struct error *e, const char *doing, const char *path);

#endif
