/* origin.h: requests that browsers make for pages: whose name for the server they use, and whose
 * pages they are. */
#ifndef BACKPROPD_ORIGIN_H
#define BACKPROPD_ORIGIN_H

#include "request.h"

/* Before the route is looked for. 0: go on; CORS' headers are on the answer where they belong. Else
 * the status, with the response filled in: 421 unknown_host, 403 foreign_origin, 204 for a
 * preflight. */
int origin_check(struct request *q);

#endif
