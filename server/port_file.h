/* port_file.h: the file of --port-file, which says where a daemon listens once it is ready. It is
 * written under a name of its own before the sandbox closes, which lets it be renamed but not
 * written; renamed, it is there whole. */
#ifndef BACKPROPD_PORT_FILE_H
#define BACKPROPD_PORT_FILE_H

#include "error.h"

/* "host:port" in a new file beside `path` (NULL: nothing), whose name is temp_r, to be given to
 * port_file_show or port_file_drop. STORAGE, OUT_OF_MEMORY. */
int port_file_write(const char *path, const char *address, char **temp_r, struct error *e);
/* Gives it its name; frees `temp`. STORAGE. */
int port_file_show(const char *path, char **temp, struct error *e);
/* Removes it, when it is still there. */
void port_file_drop(char **temp);

#endif
