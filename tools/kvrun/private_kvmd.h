/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_PRIVATE_KVMD_H
#define TOOLS_KVRUN_PRIVATE_KVMD_H
/*
 * private_kvmd.h - a kvmd for the life of one command
 */
#include "kv/errbuf.h"

struct private_kvmd;

/**
 * private_kvmd_start - start kvmd and wait until it can be attached to
 * @size: of its device, or NULL for kvmd's default
 * @swap: host memory for pages that do not fit, or NULL for none
 * @out: on success only
 * @err: KV_ERRLEN bytes
 *
 * The program is the kvmd beside this one, else the one in PATH. It ends
 * with this process, however that ends.
 *
 * Return: 0 or -errno.
 */
int __attribute__((warn_unused_result))
private_kvmd_start(const char *size, const char *swap,
		   struct private_kvmd **out, char *err);
/**
 * private_kvmd_start_with - the same with options of one's own
 * @args: further options and their values, NULL at the end; 16 at most
 * @out: on success only
 * @err: KV_ERRLEN bytes
 */
int __attribute__((warn_unused_result))
private_kvmd_start_with(const char *const *args, struct private_kvmd **out,
			char *err);
const char *private_kvmd_socket(const struct private_kvmd *p);
/* End it and remove its socket; NULL is fine. */
void private_kvmd_stop(struct private_kvmd *p);

#endif
