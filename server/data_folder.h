/* data_folder.h: looking after a data folder without a daemon: `backpropd check`, `backup`.
 *
 * What is in it: backpropd.db (SQLite; store.h) with the last checkpoint of each model, and
 * redo/ID/ (redo.h) with what was done to a model since then. So a copy is consistent when it holds
 * every record that its checkpoints lack. The daemon lets go of records only after a checkpoint
 * that holds them is committed; a copy that takes the logs first, and then the database as it is at
 * one moment, has them all: a segment that goes meanwhile is in the checkpoint that the database
 * then has, and records that the checkpoint holds too are skipped. Of the last segment the end may
 * be cut short; what is lost there was answered after the backup began.
 *
 * And keys.json (key.h), if clients need keys: it goes along, so that a copy is as closed as what
 * it is a copy of. */
#ifndef BACKPROPD_DATA_FOLDER_H
#define BACKPROPD_DATA_FOLDER_H

#include "error.h"

#include <stdio.h>

/* Reads everything: the database's own structure, the hash of each stored state, the records of
 * each log. Prints a line a model. -1 at the first damage, or when a daemon uses the folder.
 * Nothing is written. */
int data_folder_check(char **dir, FILE *out, struct error *e);

/* Copies words[0] to words[1], which must not exist, and checks the copy. A daemon may go on
 * working in the folder. */
int data_folder_backup(char **words, FILE *out, struct error *e);

#endif
