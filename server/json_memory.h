/* json_memory.h: what jansson is given in place of malloc and free. Any thread. */
#ifndef BACKPROPD_JSON_MEMORY_H
#define BACKPROPD_JSON_MEMORY_H

#include <stdbool.h>

/* Once, before jansson is used. */
void json_memory_start(void);
/* Whether this thread had no memory since json_memory_forget. */
bool json_memory_refused(void);
void json_memory_forget(void);

/* Around a reading of one text. When json_memory_refused, which between them is of this reading
 * only, it is to be ended as soon as may be, and what came of it freed before the end. */
void json_memory_begin(void);
void json_memory_end(void);

#endif
