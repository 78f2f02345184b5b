/* SPDX-License-Identifier: MIT */
/*
 * private_kvmd.c - start and end a kvmd of our own
 *
 * The daemon runs in a process group of its own, so that a ^C at the
 * terminal reaches this program only, and is told to end when its parent
 * does: a kill -9 of kvrun leaves nothing behind either. Readiness comes as
 * one byte on a pipe; end of file instead means that it did not start, and
 * what it said on standard error is the reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kv/types.h"
#include "tools/kvrun/private_kvmd.h"

#define START_TIMEOUT_MS 20000
#define STOP_TIMEOUT_MS	 5000
#define ARGS_MAX	 16

struct private_kvmd {
	pid_t pid;
	char *socket;
};

/* The kvmd beside this program, if it is there. */
static char *beside(void)
{
	char self[2048], *path = NULL;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return NULL;
	*slash = '\0';
	if (asprintf(&path, "%s/kvmd", self) < 0)
		return NULL;
	if (access(path, X_OK)) {
		free(path);
		return NULL;
	}
	return path;
}

static char *socket_path(void)
{
	const char *dir = getenv("TMPDIR");
	char *path;
	u64 rnd;

	if (!dir || *dir != '/' || strlen(dir) > 60)
		dir = "/tmp";
	if (getrandom(&rnd, sizeof(rnd), 0) != sizeof(rnd) ||
	    asprintf(&path, "%s/kvrun-%d-%016llx.sock", dir, (int)getpid(),
		     (unsigned long long)rnd) < 0)
		return NULL;
	return path;
}

/* In the child, after fork: only system calls. */
static void exec_kvmd(char *const *argv, const char *path, int ready, int out)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	fcntl(ready, F_SETFD, 0);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(out, 2);
	if (path)
		execv(path, argv);
	else
		execvp("kvmd", argv);
	dprintf(2, "%s",
		errno == ENOENT ? "no kvmd beside kvrun or in PATH"
				: strerror(errno));
	_exit(127);
}

static int wait_ready(int ready, int said, char *err)
{
	struct pollfd p = { .fd = ready, .events = POLLIN };
	char line[256], byte;
	ssize_t n;
	int rc;

	do
		rc = poll(&p, 1, START_TIMEOUT_MS);
	while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return err_set(err, -ETIMEDOUT,
			       "the private kvmd did not start in time");
	if (rc > 0 && read(ready, &byte, 1) == 1)
		return 0;
	n = read(said, line, sizeof(line) - 1);
	line[max(n, (ssize_t)0)] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return err_set(err, -ECHILD, "the private kvmd did not start: %s",
		       *line ? line : "it said nothing");
}

static int spawn(struct private_kvmd *p, const char *const *args, char *err)
{
	char *path = beside(), fd[16];
	char *argv[8 + ARGS_MAX + 1] = { (char *)"kvmd",
					 (char *)"--socket",
					 p->socket,
					 (char *)"--ready-fd",
					 fd,
					 (char *)"--exit-with-parent",
					 (char *)"--log-level",
					 (char *)"error" };
	int ready[2], said[2], rc = 0, n = 8;

	while (*args && n < 8 + ARGS_MAX)
		argv[n++] = (char *)(uintptr_t)*args++;
	if (pipe2(ready, O_CLOEXEC)) {
		rc = -errno;
		goto out_free;
	}
	if (pipe2(said, O_CLOEXEC | O_NONBLOCK)) {
		rc = -errno;
		goto out_ready;
	}
	snprintf(fd, sizeof(fd), "%d", ready[1]);
	p->pid = fork();
	if (p->pid == 0)
		exec_kvmd(argv, path, ready[1], said[1]);
	if (p->pid < 0)
		rc = -errno;
	close(ready[1]);
	close(said[1]);
	if (!rc)
		rc = wait_ready(ready[0], said[0], err);
	else
		err_set(err, rc, "fork: %s", strerror(-rc));
	close(said[0]);
	ready[1] = -1;
out_ready:
	close(ready[0]);
	if (ready[1] >= 0)
		close(ready[1]);
out_free:
	free(path);
	return rc;
}

int private_kvmd_start(const char *size, const char *swap,
		       struct private_kvmd **out, char *err)
{
	const char *args[5];
	int n = 0;

	if (size) {
		args[n++] = "--size";
		args[n++] = size;
	}
	if (swap) {
		args[n++] = "--swap-ram";
		args[n++] = swap;
	}
	args[n] = NULL;
	return private_kvmd_start_with(args, out, err);
}

int private_kvmd_start_with(const char *const *args, struct private_kvmd **out,
			    char *err)
{
	struct private_kvmd *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(err, -ENOMEM, "no memory");
	p->socket = socket_path();
	if (!p->socket) {
		free(p);
		return err_set(err, -ENOMEM, "no name for a private socket");
	}
	err_set(err, 0, "the private kvmd could not be started");
	rc = spawn(p, args, err);
	if (rc) {
		private_kvmd_stop(p);
		return rc;
	}
	*out = p;
	return 0;
}

const char *private_kvmd_socket(const struct private_kvmd *p)
{
	return p->socket;
}

/* kvmd has done it, if it could */
static void remove_socket(const char *path)
{
	char lock[256];

	(void)unlink(path);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	(void)unlink(lock);
}

void private_kvmd_stop(struct private_kvmd *p)
{
	const struct timespec tick = { .tv_nsec = 5000000 };
	int i;

	if (!p)
		return;
	/* After --user it is not ours to signal: it ends with this process. */
	if (p->pid > 0 && kill(p->pid, SIGTERM) == 0) {
		for (i = 0; i < STOP_TIMEOUT_MS / 5; i++) {
			if (waitpid(p->pid, NULL, WNOHANG) != 0)
				break;
			nanosleep(&tick, NULL);
		}
		if (i == STOP_TIMEOUT_MS / 5) {
			kill(p->pid, SIGKILL);
			waitpid(p->pid, NULL, 0);
		}
		remove_socket(p->socket);
	}
	free(p->socket);
	free(p);
}
