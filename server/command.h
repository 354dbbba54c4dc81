/* command.h: what backpropd does instead of serving: `backpropd check DIR`. A row a command. */
#ifndef BACKPROPD_COMMAND_H
#define BACKPROPD_COMMAND_H

#include <stdio.h>

/* Runs the command that argv[1] names. The status to exit with: 0, 1 when it failed, 2 when its
 * arguments cannot be used; -1: argv[1] names no command. */
int command_run(int argc, char **argv, FILE *out, FILE *err);

/* "usage" lines of all commands; and their names in a row after `before`. */
void command_usage(FILE *out);
void command_list(FILE *out, const char *before);
/* Of the script for bash: what the words of each command may be, and their names in $commands. */
void command_print_completion(FILE *out);

#endif
