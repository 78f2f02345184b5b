/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_CLIENT_H
#define TOOLS_KVBENCH_CLIENT_H
/*
 * client.h - a client of a private kvmd, as a runtime is one
 *
 * Gemma's geometry: three layers that see everything, fifteen with a window
 * of 512, one KV head of 256.
 */
#include <kv.h>
#include "include/kv/types.h"
#include "tools/kvrun/private_kvmd.h"

struct bench_client {
	struct kv *kv;
	struct kv_space_args args; /* of a space */
	char err[KV_ERRLEN];
};

/**
 * bench_client_open - attach, and register the geometries
 * @c: filled in; bench_client_close() it in any case
 * @socket: of the daemon
 * @small: one area of 8 KiB pages instead of Gemma's two
 *
 * Return: 0 or -errno; the sentence is in @c->err.
 */
int bench_client_open(struct bench_client *c, const char *socket, bool small);
void bench_client_close(struct bench_client *c);
/* One step of one space: prepare, copies, complete, commit. */
int bench_client_step(struct bench_client *c, u32 space, u64 pos, u32 nr,
		      u64 *copied_tokens);

/* The first number behind @key in what kvmd answers to @what; 0: there is none
 */
u64 bench_ask_number(const char *socket, const char *what, const char *key);

#endif
