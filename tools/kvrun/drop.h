/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_DROP_H
#define TOOLS_KVRUN_DROP_H
#include "kv/errbuf.h"

/**
 * drop_privileges - become another user, for good
 * @user: name of the user
 * @err: KV_ERRLEN bytes
 *
 * The process is then that user, in that user's group, and of further groups
 * only in kvmem, which may attach to kvmd.
 *
 * Return: 0, -EPERM, -ENOENT for no such user or group.
 */
int __attribute__((warn_unused_result))
drop_privileges(const char *user, char *err);

#endif
