/* SPDX-License-Identifier: MIT */
/*
 * peer.c - who is at the other end, as the kernel says
 */
#include "kvmd/ipc/peer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvmd/ipc/feature.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

int peer_get(int sock, struct peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	out->pid = cred.pid;
	out->uid = cred.uid;
	out->gid = cred.gid;
	out->pidfd = -1;
	len = sizeof(fd);
	if (feature_may_try_new() &&
	    !getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len)) {
		out->pidfd = fd;
		return 0;
	}
	/* pid 0: of a pid namespace that this one does not see */
	if (cred.pid <= 0)
		return -ESRCH;
	fd = pidfd_open(cred.pid, 0);
	if (fd < 0 && errno != ESRCH)
		return -errno;
	out->pidfd = fd;
	return 0;
}

void peer_put(struct peer *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

bool peer_is_gone(const struct peer *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd < 0 || poll(&pfd, 1, 0) > 0;
}

int peer_kill(const struct peer *p)
{
	if (p->pidfd < 0)
		return -ESRCH;
	return pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0) ? -errno : 0;
}

bool peer_is_admin(const struct peer *p)
{
	return p->uid == 0 || p->uid == geteuid();
}

/* The path of the v2 hierarchy, else of systemd's, else the first one. */
static int cgroup_read(pid_t pid, char *path, size_t size)
{
	char file[64], line[512], *at;
	int best = 0, rank;
	FILE *f;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
	f = fopen(file, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		at = strchr(line, ':');
		at = at ? strchr(at + 1, ':') : NULL;
		if (!at)
			continue;
		rank = !strncmp(line, "0::", 3)		? 3
		       : strstr(line, ":name=systemd:") ? 2
							: 1;
		if (rank > best) {
			best = rank;
			snprintf(path, size, "%s", at + 1);
		}
	}
	fclose(f);
	return best ? 0 : -ENOENT;
}

static int cgroup_tenant(const struct peer *p, char *name)
{
	const size_t room = KV_NAME_LEN - 4; /* "cg:" and the zero */
	char path[512] = "";
	u32 hash = 2166136261u;
	size_t len, i;
	int rc;

	rc = cgroup_read(p->pid, path, sizeof(path));
	if (rc)
		return rc;
	/* the number must not have become somebody else's meanwhile */
	if (peer_is_gone(p))
		return -ESRCH;
	len = strlen(path);
	for (i = 0; i < len; i++) {
		hash = (hash ^ (u8)path[i]) * 16777619u;
		if (path[i] < '!' || path[i] > '~' || path[i] == '"' ||
		    path[i] == '\\')
			path[i] = '?';
	}
	if (len <= room)
		snprintf(name, KV_NAME_LEN, "cg:%.28s", path);
	else
		snprintf(name, KV_NAME_LEN, "cg:%08x..%.18s", hash,
			 path + len - 18);
	return 0;
}

int peer_tenant(const struct peer *p, enum tenant_key key, char *name)
{
	switch (key) {
	case TENANT_KEY_UID:
		snprintf(name, KV_NAME_LEN, "uid:%u", p->uid);
		return 0;
	case TENANT_KEY_PID:
		snprintf(name, KV_NAME_LEN, "pid:%d", (int)p->pid);
		return 0;
	case TENANT_KEY_CGROUP:
		return cgroup_tenant(p, name);
	}
	return -EINVAL;
}
