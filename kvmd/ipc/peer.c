/* SPDX-License-Identifier: MIT */
/*
 * peer.c - who is at the other end, as the kernel says
 */
#include "kvmd/ipc/peer.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/ipc/feature.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* What the kernel shows for a user that has no number here. */
static uid_t overflow_uid(void)
{
	FILE *f = fopen("/proc/sys/kernel/overflowuid", "re");
	unsigned int uid = 65534;

	if (f) {
		if (fscanf(f, "%u", &uid) != 1)
			uid = 65534;
		fclose(f);
	}
	return uid;
}

/* Has every user a number in this process's user namespace? */
static bool all_users_mapped(void)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned int inside, outside, nr;
	u64 mapped = 0;

	if (!f)
		return false;
	while (fscanf(f, "%u %u %u", &inside, &outside, &nr) == 3)
		mapped += nr;
	fclose(f);
	return mapped >= UINT32_MAX;
}

static bool is_unknown(uid_t uid)
{
	return uid == overflow_uid() && !all_users_mapped();
}

static bool is_want(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM;
}

int peer_get(int sock, struct peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int fd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	*out = (struct peer){
		.pid = cred.pid,
		.uid = cred.uid,
		.gid = cred.gid,
		.pidfd = -1,
		.uid_unknown = is_unknown(cred.uid),
	};
	len = sizeof(fd);
	if (feature_may_try_new() &&
	    !getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len)) {
		out->pidfd = fd;
		return 0;
	}
	fd = cred.pid > 0 ? pidfd_open(cred.pid, 0) : -1;
	if (fd < 0 && cred.pid > 0 && is_want(errno))
		return -errno;
	/* not of this namespace, or a seccomp filter forbids pidfds */
	out->hidden = fd < 0 && (cred.pid <= 0 || errno != ESRCH);
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

	if (p->pidfd < 0)
		return !p->hidden;
	return poll(&pfd, 1, 0) > 0;
}

int peer_kill(const struct peer *p)
{
	if (p->pidfd < 0)
		return p->hidden ? -EINVAL : -ESRCH;
	return pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0) ? -errno : 0;
}

/* The number may be another's by now: then it is a worse guess, no more. */
bool peer_cpus(const struct peer *p, cpu_set_t *out)
{
	return p->pid > 0 && !sched_getaffinity(p->pid, sizeof(*out), out);
}

bool peer_is_admin(const struct peer *p)
{
	return !p->uid_unknown && (p->uid == 0 || p->uid == geteuid());
}

bool peer_same_user(const struct peer *a, const struct peer *b)
{
	return !a->uid_unknown && !b->uid_unknown && a->uid == b->uid;
}

/*
 * The number of the pidfd's process in the namespace of this /proc; 0: it does
 * not show it, -1: it has ended.
 */
static int proc_pid(const struct peer *p)
{
	char file[64], line[128];
	int pid = 0;
	FILE *f;

	if (p->pidfd < 0)
		return p->hidden ? 0 : -1;
	snprintf(file, sizeof(file), "/proc/self/fdinfo/%d", p->pidfd);
	f = fopen(file, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Pid: %d", &pid) == 1)
			break;
	}
	fclose(f);
	return pid;
}

/*
 * How much a line of /proc/PID/cgroup says: v2 most, then systemd's, then the
 * others. Where a process is at the root of a hierarchy, nobody put it
 * anywhere there.
 */
static int line_rank(const char *line, const char *path)
{
	int rank = !strncmp(line, "0::", 3)	    ? 3
		   : strstr(line, ":name=systemd:") ? 2
						    : 1;

	return strcmp(path, "/") ? rank + 3 : rank;
}

/*
 * The path that says most, to be freed. One of another hierarchy than v2's and
 * systemd's, which have the same tree, has the hierarchy's name in front. A
 * line is read whole: a path may be long, and its owner chooses what is in it.
 */
static int cgroup_parse(FILE *f, char **out)
{
	char *line = NULL, *name, *path;
	int best = 0, rank;
	size_t size = 0;

	*out = NULL;
	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		name = strchr(line, ':');
		path = name ? strchr(name + 1, ':') : NULL;
		rank = path ? line_rank(line, path + 1) : 0;
		if (rank <= best)
			continue;
		best = rank;
		free(*out);
		*out = strdup(rank % 3 == 1 ? name + 1 : path + 1);
	}
	free(line);
	if (!best)
		return -ENOENT;
	return *out ? 0 : -ENOMEM;
}

static int cgroup_read(int pid, char **out)
{
	char file[64];
	FILE *f;
	int rc;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
	f = fopen(file, "re");
	if (!f)
		return -errno;
	rc = cgroup_parse(f, out);
	fclose(f);
	return rc;
}

/* The name of a path: all of it, or its end behind a hash of the whole. */
static void cgroup_name(char *path, char *name)
{
	const size_t room = KV_NAME_LEN - 4; /* "cg:" and the zero */
	size_t len = strlen(path), i;
	u32 hash = 2166136261u;

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
}

static int cgroup_tenant(const struct peer *p, char *name, char *err)
{
	int pid = proc_pid(p), rc;
	char *path = NULL;

	rc = pid > 0 ? cgroup_read(pid, &path) : -ESRCH;
	if (!rc)
		cgroup_name(path, name);
	free(path);
	/* the number must not have become somebody else's meanwhile */
	if (peer_is_gone(p))
		return err_set(err, -ESRCH, "process %d: it has ended",
			       (int)p->pid);
	if (rc)
		return err_set(err, rc,
			       "process %d: its cgroup cannot be read: kvmd's "
			       "/proc does not show it (%s). Mount one that "
			       "does, without hidepid, or use --tenant-key uid",
			       (int)p->pid,
			       pid > 0 ? strerror(-rc)
				       : "another pid namespace");
	return 0;
}

static int uid_tenant(const struct peer *p, char *name, char *err)
{
	if (p->uid_unknown)
		return err_set(err, -EOVERFLOW,
			       "process %d: its user is not mapped into kvmd's "
			       "user namespace (it shows as uid %u, as all "
			       "such do). Map it there, or use --tenant-key "
			       "cgroup",
			       (int)p->pid, p->uid);
	snprintf(name, KV_NAME_LEN, "uid:%u", p->uid);
	return 0;
}

static int pid_tenant(const struct peer *p, char *name, char *err)
{
	if (p->pid <= 0)
		return err_set(err, -ESRCH,
			       "process of uid %u: kvmd's pid namespace does "
			       "not show it. Run kvmd in that of the host, or "
			       "use --tenant-key uid",
			       p->uid);
	snprintf(name, KV_NAME_LEN, "pid:%d", (int)p->pid);
	return 0;
}

int peer_tenant(const struct peer *p, enum tenant_key key, char *name,
		char *err)
{
	switch (key) {
	case TENANT_KEY_UID:
		return uid_tenant(p, name, err);
	case TENANT_KEY_PID:
		return pid_tenant(p, name, err);
	case TENANT_KEY_CGROUP:
		return cgroup_tenant(p, name, err);
	}
	return -EINVAL;
}
