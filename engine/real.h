/* real.h: the C library's functions for `real`. RM(exp)(x) is expf in the float build and exp in
 * the double one. */
#ifndef BACKPROP_REAL_H
#define BACKPROP_REAL_H

#include <math.h>

#ifdef BACKPROP_DOUBLE
#define RM(name) name
#else
#define RM(name) name##f
#endif

#endif
