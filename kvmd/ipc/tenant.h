/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_TENANT_H
#define KVMD_IPC_TENANT_H
/*
 * tenant.h - tenants and the limits that the operator gave them
 *
 * A tenant with a limit of its own is held by kvmd itself, so that it keeps
 * the limit while it has no client. The others come with their first client,
 * get the default limit then, and go with the last.
 */
#include "include/kv/types.h"

struct kvmd;

/* tenant_setup - the limits of the command line; 0 or -errno */
int __must_check tenant_setup(struct kvmd *d, char *err);
/* tenant_get - mm_tenant_get() with the default limit for a new one */
int __must_check tenant_get(struct kvmd *d, const char *name, u32 *tenant);
/* tenant_find - index of a tenant that exists; -ENOENT */
int tenant_find(struct kvmd *d, const char *name, u32 *tenant);
/* tenant_pin - get it, and keep it until kvmd ends */
int __must_check tenant_pin(struct kvmd *d, const char *name, u32 *tenant);

#endif
