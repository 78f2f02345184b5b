/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_CONNECT_H
#define LIBKV_CONNECT_H
/*
 * connect.h - reaching kvmd and saying hello, for attach.c and ctl.c
 */
#include <kv/msg.h>
#include "libkv/src/sys.h"

/**
 * connect_to - connect to kvmd's socket
 * @path: NULL: $KVMD_SOCKET, else the usual place
 * @timeout_ms: for this and every send
 * @sock: on success only
 * @err: KV_ERRLEN bytes, gets a sentence
 *
 * Return: 0; -ENOENT, -ECONNREFUSED, -EACCES, -EPROTO, -ETIMEDOUT,
 * -ENAMETOOLONG.
 */
int connect_to(const char *path, u32 timeout_ms, int *sock, char *err);

/**
 * connect_hello - the handshake
 * @sock: connected
 * @hello: what we are
 * @timeout_ms: for the answer
 * @welcome: the answer; zeroed where kvmd said less
 * @fds: descriptors that came with it, -1 where none; the caller's
 * @err: KV_ERRLEN bytes, gets a sentence
 *
 * Return: 0; kvmd's refusal; -EPROTO; -ETIMEDOUT; -ECONNRESET.
 */
int connect_hello(int sock, const struct kv_msg_hello *hello, u32 timeout_ms,
		  struct kv_msg_welcome *welcome, int fds[SYS_NR_FDS],
		  char *err);

#endif
