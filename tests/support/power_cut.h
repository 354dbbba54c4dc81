/* power_cut.h: what a disk may hold after a loss of power, made from the record of all changes of
 * files that faults_preload.c has written.
 *
 * Of each file everything up to its last fsync is there. What was done to it after that is there or
 * not, each write and each change of its size for itself, a write also by halves: any of its
 * sectors of 512 bytes may have reached the disk and others not. A name is there for certain, or
 * gone for certain, when its folder was synced since; else either. That is more than any file
 * system does to its users, and what POSIX allows. */
#ifndef TEST_POWER_CUT_H
#define TEST_POWER_CUT_H

#include <stdint.h>

/* Makes the state after the first `cut` bytes of the trace under `to`, for files under `from`;
 * folders that the trace names are made. The same `seed`, the same choices. */
void power_cut(const char *trace, uint64_t cut, const char *from, const char *to, unsigned seed);

#endif
