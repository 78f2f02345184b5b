/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CTL_AUDIT_H
#define KVMD_CTL_AUDIT_H
/*
 * audit.h - stand still and show everything
 */
#include <jansson.h>

struct ctl;

/* audit_freeze - answer with descriptors, then serve this connection alone */
int audit_freeze(struct ctl *q, json_t *out);
/* audit_thaw - outside of a freeze there is nothing to thaw */
int audit_thaw(struct ctl *q, json_t *out);

#endif
