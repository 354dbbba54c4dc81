/* command_keys.h: `backpropd keys ...`. */
#ifndef BACKPROPD_COMMAND_KEYS_H
#define BACKPROPD_COMMAND_KEYS_H

#include "error.h"

#include <stdio.h>

/* The words after "keys", which end with NULL. */
int command_keys(char **argv, FILE *out, struct error *e);

/* Of the script that makes bash complete: what these words may be. */
void command_keys_print_completion(FILE *out);
extern const char command_keys_forms[]; /* all that it takes, for errors and --help */

#endif
