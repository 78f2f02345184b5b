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
 *
 * Namespaces (Documentation/internals/containers.rst): a number is never used
 * for what it may not mean.
 *
 *	pid 0		kvmd's pid namespace does not show the process. With a
 *			pidfd its death is seen all the same; without one
 *			("hidden") the end of its connection is all there is.
 *			Either way it may be beyond reach of a signal
 *	uid unknown	kvmd's user namespace has no number for its user: the
 *			kernel shows the same one for all of these, so it is
 *			nobody's: no tenant, no administrator
 *	/proc/PID	PID is what this /proc calls the pidfd's process, which
 *			need not be the number that kvmd's namespace has for it
 */
#include <sched.h>
#include <sys/types.h>
#include <kv/abi.h>
#include "include/kv/types.h"
#include "kvmd/options.h"

struct peer {
	pid_t pid; /* 0: not of this pid namespace; for people to read */
	uid_t uid;
	gid_t gid;
	int pidfd; /* -1: it has ended already, or is hidden */
	bool hidden; /* there is no way to see whether it lives */
	bool uid_unknown; /* uid is what stands for everyone unmapped */
};

/* peer_get - credentials and pidfd of a connection; 0 or -errno */
int __must_check peer_get(int sock, struct peer *out);
void peer_put(struct peer *p);
/* peer_is_gone - its process is known to have ended */
bool peer_is_gone(const struct peer *p);
/**
 * peer_kill - SIGKILL to exactly that process
 *
 * Return: 0; -ESRCH it has ended; -EINVAL kvmd's pid namespace does not reach
 * it; -EPERM its user namespace does not let kvmd.
 */
int peer_kill(const struct peer *p);
/* peer_cpus - where its first thread may run; false: that is not known */
bool peer_cpus(const struct peer *p, cpu_set_t *out);
/* peer_is_admin - uid 0, or the uid kvmd runs as */
bool peer_is_admin(const struct peer *p);
/* peer_same_user - of the same uid, as far as kvmd can know */
bool peer_same_user(const struct peer *a, const struct peer *b);

/**
 * peer_tenant - the tenant that a peer belongs to
 * @p: peer
 * @key: by what
 * @name: KV_NAME_LEN bytes: "uid:1000", "pid:4711", "cg:/system.slice/x"
 * @err: KV_ERRLEN bytes: what is the matter, and what to set
 *
 * Who cannot be told from others has no tenant: -EOVERFLOW its user is not
 * mapped, -ESRCH its pid namespace or /proc hides it.
 *
 * Context: TENANT_KEY_CGROUP reads /proc: not on the loop. A cgroup path that
 * is too long keeps its end behind a hash of the whole.
 * Return: 0 or -errno.
 */
int peer_tenant(const struct peer *p, enum tenant_key key, char *name,
		char *err);

#endif
