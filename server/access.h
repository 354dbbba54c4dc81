/* access.h: who may do what. The rules are in access.c. */
#ifndef BACKPROPD_ACCESS_H
#define BACKPROPD_ACCESS_H

#include "request.h"

/* Sets request.caller. -1: UNAUTHORIZED, FORBIDDEN, RATE, with the headers that belong to the
 * answer. In the HTTP thread, when the route and its parameters are known. */
int access_authorize(struct request *q, struct error *e);

/* Whether the caller may see the model of this name; FORBIDDEN. For names that a body gives. */
int access_check_model(const struct request *q, const char *model, struct error *e);

/* Whether the caller has this role, which `what` of a request needs above that of its route;
 * FORBIDDEN. */
int access_check_role(struct request *q, enum role role, const char *what, struct error *e);

#endif
