/* SPDX-License-Identifier: MIT */
/*
 * keeper.c - the process that starts kvmd again
 *
 * It does as little as possible, so that nothing can go wrong here: it holds
 * descriptors by name (proto.h), knows nothing of what they are, allocates
 * nothing but the table of them, and waits. Clients never meet it.
 *
 *	kvmd ends by itself		so does the keeper, with its status
 *	kvmd is killed			the next one gets all that was kept
 *	SIGHUP				kvmd is killed: a new version, if one
 *					lies where it was started from, goes on
 *	SIGTERM, SIGINT			passed on
 *	kvmd crashes again and again	the last tries begin with nothing; then
 *					the keeper gives up
 *	the keeper is killed		kvmd goes on and is not kept any more;
 *					with --exit-with-parent it ends
 *
 * A restart is a kill: there is no other way to hand over, so that the one
 * that has to work when it matters is the one that is used every day.
 */
#include "kvmd/keep/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvmd/keep/channel.h"
#include "kvmd/kvmd.h"

#define FAST_NS	    2000000000ull /* a life that is shorter was too short */
#define FAST_MAX    4u /* of them in a row, then nothing is handed over */
#define GIVE_UP	    8u
#define EXIT_FAILED 1

struct kept {
	struct keep_msg name;
	int fd;
};

struct keeper {
	const struct options *opt;
	const char *exe;
	char **argv; /* kvmd's, with room for two more */
	int argc;
	struct kept *kept;
	u32 nr_kept, room;
	int signals, parent, channel, ready;
	pid_t kvmd;
	u32 lives, nr_fast;
	u64 born_ns;
	bool ending; /* told to */
};

/* ---- what is kept ---- */

static bool same_name(const struct keep_msg *a, const struct keep_msg *b)
{
	return a->kind == b->kind && a->index == b->index && a->gen == b->gen;
}

static void drop(struct keeper *k, const struct keep_msg *name)
{
	u32 i;

	/* from the end: what goes soon came late */
	for (i = k->nr_kept; i-- > 0;) {
		if (!same_name(&k->kept[i].name, name))
			continue;
		close(k->kept[i].fd);
		k->kept[i] = k->kept[--k->nr_kept];
		return;
	}
}

static void drop_all(struct keeper *k)
{
	while (k->nr_kept)
		close(k->kept[--k->nr_kept].fd);
}

static int put(struct keeper *k, const struct keep_msg *name, int fd)
{
	struct kept *more;
	u32 room;

	if (k->nr_kept == k->room) {
		room = k->room ? k->room * 2 : 1024;
		more = realloc(k->kept, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		k->kept = more;
		k->room = room;
	}
	k->kept[k->nr_kept++] = (struct kept){ .name = *name, .fd = fd };
	return 0;
}

/* Whoever started us hears it once. */
static void ready(struct keeper *k)
{
	if (k->ready < 0)
		return;
	if (write(k->ready, "\n", 1) != 1)
		log_warn("ready descriptor", "error=\"%s\"", strerror(errno));
	close(k->ready);
	k->ready = -1;
}

/*
 * Take what kvmd has sent. What cannot be kept makes the rest worthless: a
 * successor would miss it.
 */
static void channel_drain(struct keeper *k)
{
	struct keep_msg m;
	int fd, rc;

	while (k->channel >= 0) {
		rc = channel_recv(k->channel, &m, &fd, false);
		if (rc == -EAGAIN)
			return;
		if (rc == 1 && m.op == KEEP_DROP) {
			drop(k, &m);
			continue;
		}
		if (rc == 1 && m.op == KEEP_READY) {
			ready(k);
			continue;
		}
		if (rc == 1)
			rc = fd >= 0 && m.op == KEEP_PUT ? put(k, &m, fd)
							 : -EMFILE;
		if (!rc && fd >= 0)
			continue;
		if (fd >= 0)
			close(fd);
		if (rc) {
			log_warn("nothing can be kept", "error=\"%s\"",
				 strerror(-rc));
			drop_all(k);
		}
		close(k->channel);
		k->channel = -1;
	}
}

/* ---- a life ---- */

static void child(struct keeper *k, int sock)
{
	char text[32];
	sigset_t none;

	if (k->ready >= 0)
		close(k->ready);
	setpgid(0, 0); /* what the terminal sends comes by way of the keeper */
	fcntl(sock, F_SETFD, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	snprintf(text, sizeof(text), "%d:%u", sock, k->lives);
	k->argv[k->argc] = (char *)(uintptr_t) "--kept";
	k->argv[k->argc + 1] = text;
	k->argv[k->argc + 2] = NULL;
	if (k->lives) { /* what one life was told is not the next one's */
		unsetenv("KV_KILL_AT");
		if (k->lives == 1 && getenv("KV_KILL_NEXT_AT"))
			setenv("KV_KILL_AT", getenv("KV_KILL_NEXT_AT"), 1);
	}
	execv(k->exe, k->argv);
	_exit(127);
}

static int spawn(struct keeper *k)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	k->born_ns = clock_ns();
	k->kvmd = fork();
	if (k->kvmd < 0) {
		close(pair[0]);
		close(pair[1]);
		return -errno;
	}
	if (!k->kvmd)
		child(k, pair[1]);
	close(pair[1]);
	k->channel = pair[0];
	return 0;
}

/* All that there is; should kvmd die meanwhile, its end is seen soon. */
static void hand_over(struct keeper *k)
{
	struct keep_msg m;
	u32 i;

	for (i = 0; i < k->nr_kept; i++) {
		m = k->kept[i].name;
		m.op = KEEP_HAVE;
		if (channel_send(k->channel, &m, k->kept[i].fd))
			return;
	}
	m = (struct keep_msg){ .op = KEEP_END };
	channel_send(k->channel, &m, -1);
}

static void pass_on(struct keeper *k, int sig)
{
	if (sig == SIGHUP && !k->ending) {
		log_info("kvmd is replaced", "pid=%d", (int)k->kvmd);
		kill(k->kvmd, SIGKILL);
		return;
	}
	k->ending = true;
	kill(k->kvmd, sig);
}

static void signals_take(struct keeper *k)
{
	struct signalfd_siginfo si;

	while (read(k->signals, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGCHLD)
			pass_on(k, (int)si.ssi_signo);
}

/* Serve kvmd until it has ended; its wait status. */
static int live(struct keeper *k)
{
	int status;

	for (;;) {
		struct pollfd p[3] = {
			{ .fd = k->signals, .events = POLLIN },
			{ .fd = k->channel, .events = POLLIN },
			{ .fd = k->parent, .events = POLLIN },
		};

		if (waitpid(k->kvmd, &status, WNOHANG) == k->kvmd)
			break;
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -1;
		if (p[0].revents)
			signals_take(k);
		if (p[1].revents)
			channel_drain(k);
		if (p[2].revents) {
			close(k->parent);
			k->parent = -1;
			pass_on(k, SIGTERM);
		}
	}
	channel_drain(k); /* what it had sent, to the last */
	if (k->channel >= 0)
		close(k->channel);
	k->channel = -1;
	return status;
}

/* It was killed, or failed as a successor: is there to be another one? */
static bool again(struct keeper *k, int status)
{
	bool failed = WIFEXITED(status) && WEXITSTATUS(status);

	if (k->ending || status < 0 || (WIFEXITED(status) && !failed) ||
	    (failed && !k->lives))
		return false;
	if (clock_ns() - k->born_ns >= FAST_NS)
		k->nr_fast = 0;
	else /* SIGKILL is somebody else's doing */
		k->nr_fast += failed || WTERMSIG(status) != SIGKILL;
	if (k->nr_fast > GIVE_UP) {
		log_err("kvmd does not stay alive", "lives=%u", k->lives + 1);
		return false;
	}
	if (k->nr_fast > FAST_MAX && k->nr_kept) {
		log_err("kvmd does not stay alive with what was kept",
			"kept=%u text=\"it begins with nothing\"", k->nr_kept);
		drop_all(k);
	}
	log_warn("kvmd has ended", "pid=%d %s=%d kept=%u", (int)k->kvmd,
		 failed ? "status" : "signal",
		 failed ? WEXITSTATUS(status) : WTERMSIG(status), k->nr_kept);
	return true;
}

/* ---- setup ---- */

static int setup(struct keeper *k, int argc, char **argv)
{
	static char exe[4096];
	struct rlimit lim;
	sigset_t set;
	ssize_t n;

	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	k->exe = n > 0 ? exe : argv[0];
	k->argv = calloc((size_t)argc + 3, sizeof(*k->argv));
	if (!k->argv)
		return -ENOMEM;
	memcpy(k->argv, argv, (size_t)argc * sizeof(*argv));
	k->argc = argc;
	if (!getrlimit(RLIMIT_NOFILE, &lim) && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signals < 0)
		return -errno;
	if (!k->opt->exit_with_parent)
		return 0;
	k->parent = pidfd_open(getppid(), 0);
	return k->parent < 0 ? -errno : 0;
}

int keeper_run(const struct options *opt, int argc, char **argv)
{
	struct keeper k = {
		.opt = opt,
		.signals = -1,
		.parent = -1,
		.channel = -1,
		.ready = opt->ready_fd,
	};
	int rc = setup(&k, argc, argv), status;

	if (rc) {
		fprintf(stderr, "kvmd: the keeper cannot be set up: %s\n",
			strerror(-rc));
		return EXIT_FAILED;
	}
	for (;; k.lives++) {
		rc = spawn(&k);
		if (rc) {
			log_err("kvmd cannot be started", "error=\"%s\"",
				strerror(-rc));
			status = -1;
			break;
		}
		hand_over(&k);
		status = live(&k);
		if (!again(&k, status))
			break;
	}
	drop_all(&k);
	free(k.kept);
	free(k.argv);
	return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status)
						: EXIT_FAILED;
}
