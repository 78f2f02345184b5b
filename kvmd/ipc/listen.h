/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_LISTEN_H
#define KVMD_IPC_LISTEN_H
/*
 * listen.h - the socket that clients connect to
 *
 * PATH.lock is held (flock) for as long as kvmd serves PATH. Whoever gets
 * the lock owns the path: a socket that lies there then is a dead kvmd's and
 * is replaced, unless something still answers on it.
 *
 * Mode 0660 and group kvmem if kvmd runs as root and the group exists, and its
 * user namespace has a number for it, else 0600.
 */
#include <kv/abi.h>
#include "include/kv/types.h"
#include "kvmd/io/io.h"

#define LISTEN_PATH_MAX 108

struct listener {
	struct io_watch watch; /* fd -1: closed */
	int lock_fd;
	char path[LISTEN_PATH_MAX];
	char lock_path[LISTEN_PATH_MAX + 8];
	bool made_dir;
};

/**
 * listen_open - take the path and listen on it
 * @l: zeroed; watch.fd is set on success, not yet added to a loop
 * @path: of the socket; its directory is made if only that is missing
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: 0; -EADDRINUSE another kvmd serves it; -EACCES, -EPERM not allowed;
 * -EEXIST something else lies there; -ENAMETOOLONG; others.
 */
int __must_check listen_open(struct listener *l, const char *path, char *err);
/* listen_adopt - go on with a predecessor's socket and lock; both are the
 * listener's from now on. 0 or -errno */
int __must_check listen_adopt(struct listener *l, const char *path, int fd,
			      int lock_fd, bool made_dir);
/* listen_close - stop, and remove the socket and the lock */
void listen_close(struct listener *l);

#endif
