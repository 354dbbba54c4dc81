/* port_file.c: the file that says where a daemon listens. */
#define _GNU_SOURCE
#include "port_file.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int port_file_write(const char *path, const char *address, char **temp_r, struct error *e)
{
    *temp_r = NULL;
    if (!path)
        return 0;
    if (asprintf(temp_r, "%s.%ld", path, (long)getpid()) < 0) {
        *temp_r = NULL;
        return error_set(e, ERROR_OUT_OF_MEMORY, "out of memory");
    }
    FILE *f = fopen(*temp_r, "we");
    bool written = f && fprintf(f, "%s\n", address) > 0;
    written = f && !fclose(f) && written;
    return written ? 0
                   : error_set(e, ERROR_STORAGE, "cannot write --port-file %s: %s", path,
                               strerror(errno));
}

int port_file_show(const char *path, char **temp, struct error *e)
{
    if (!path)
        return 0;
    if (rename(*temp, path))
        return error_set(e, ERROR_STORAGE, "cannot write --port-file %s: %s", path,
                         strerror(errno));
    free(*temp);
    *temp = NULL;
    return 0;
}

void port_file_drop(char **temp)
{
    if (*temp)
        unlink(*temp);
    free(*temp);
    *temp = NULL;
}
