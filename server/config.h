/* config.h: what the command line, the environment and a file say. The table of flags in config.c
 * is the one place that names them. A flag --max-body may also be given as the environment variable
 * BACKPROPD_MAX_BODY, or as a line "max-body = 64M" of the file that --config names; the command
 * line goes first, then the environment, then the file. */
#ifndef BACKPROPD_CONFIG_H
#define BACKPROPD_CONFIG_H

#include "log.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define BACKPROPD_VERSION "0.1.0"

struct config {
    const char *listen;       /* as given: "127.0.0.1:8080", "[::1]:0" */
    char host[256];           /* of it, without brackets */
    int port;                 /* of it; 0: any free one */
    const char *data;         /* folder of the store; NULL: none was given */
    const char *port_file;    /* gets "host:port"; NULL: none */
    int64_t threads;          /* of the engine's pool */
    int64_t workers;          /* request workers, at least 2 */
    int64_t max_body;         /* bytes of one request */
    int64_t max_memory;       /* bytes of the whole process */
    int64_t max_image_pixels; /* of an encoded image, width times height */
    int64_t max_models;
    int64_t redo_bytes;             /* of a model's log; then a checkpoint is made */
    int64_t redo_seconds;           /* of steps in it */
    int64_t max_queue;              /* requests that wait: for one model, and for reading */
    int64_t max_streams;            /* of events, at the same time */
    int64_t connections;            /* at the same time */
    int64_t request_timeout;        /* seconds that an idle connection is kept, headers may take */
    int64_t shutdown_timeout;       /* seconds that a stop may take */
    int64_t min_rate;               /* bytes a second, of bodies and answers; 0: any */
    int64_t max_headers;            /* bytes of a request's line and headers */
    const char *allowed_hosts;      /* globs, commas between: names of the server; NULL: no more */
    const char *cors_origins;       /* the same: sites whose pages may call it; NULL: none */
    const char *tls_cert, *tls_key; /* files; NULL: plain HTTP */
    bool sandbox;
    enum log_level log_level;
    enum log_format log_format;
    const char *config_file; /* NULL: none */
    char *file_text;         /* of it: its values are pointed to */
    bool allow_anonymous;    /* other addresses than loopback, without keys */
};

/* Fills `c` from the defaults, the file, the environment and argv, whose strings it keeps. --help
 * and the like print to `out`, errors to `err`. Returns -1 to go on, until config_free, else the
 * status to exit with: 0, or 2 when something cannot be used. */
int config_parse(struct config *c, int argc, char **argv, FILE *out, FILE *err);
void config_free(struct config *c);

/* "256M" -> bytes; suffixes K, M, G, T are powers of 1024. -1 when it is no size. */
int64_t config_parse_size(const char *text);

/* Bytes of memory that this process may use: the machine's, or the cgroup's limit if lower. */
int64_t config_machine_memory(void);

#endif
