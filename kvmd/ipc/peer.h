/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_PEER_H
#define KVMD_IPC_PEER_H
/*
 * peer.h - who is at the other end, as the kernel says
 *
 * Nothing here comes from a packet. The pidfd is the kernel's own
 * (SO_PEERPIDFD) where it has that; before 6.5 it is opened by number, which
 * leaves a moment in which the number could have been used again: what is
 * lost then is the right to kill, as the credentials stay those of connect().
 */
#include <sys/types.h>
#include <kv/abi.h>
#include "include/kv/types.h"
#include "kvmd/options.h"

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd; /* -1: the process has ended already */
};

/* peer_get - credentials and pidfd of a connection; 0 or -errno */
int __must_check peer_get(int sock, struct peer *out);
void peer_put(struct peer *p);
/* peer_is_gone - its process has ended */
bool peer_is_gone(const struct peer *p);
/* peer_kill - SIGKILL; 0 or -errno (-ESRCH: it has ended) */
int peer_kill(const struct peer *p);
/* peer_is_admin - uid 0, or the uid kvmd runs as */
bool peer_is_admin(const struct peer *p);

/**
 * peer_tenant - the tenant that a peer belongs to
 * @p: peer
 * @key: by what
 * @name: KV_NAME_LEN bytes: "uid:1000", "pid:4711", "cg:/system.slice/x"
 *
 * Context: TENANT_KEY_CGROUP reads /proc: not on the loop. A cgroup path that
 * is too long keeps its end behind a hash of the whole.
 * Return: 0 or -errno.
 */
int peer_tenant(const struct peer *p, enum tenant_key key, char *name);

#endif
