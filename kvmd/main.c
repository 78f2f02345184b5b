/* SPDX-License-Identifier: MIT */
/*
 * main.c - kvmd, the daemon that owns device memory
 *
 * Exit status: 0 ended as told, 1 failed, 2 wrong usage, 4 no permission,
 * 7 another kvmd serves the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/keep/keeper.h"
#include "kvmd/kvmd.h"
#include "lib/stdfds.h"

enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_PERMISSION = 4,
	EXIT_BUSY = 7,
};

static int exit_status(int rc)
{
	switch (rc) {
	case 0:
		return EXIT_OK;
	case -EACCES:
	case -EPERM:
		return EXIT_PERMISSION;
	case -EADDRINUSE:
		return EXIT_BUSY;
	default:
		return EXIT_FAILED;
	}
}

static int pid_file_write(const char *path)
{
	char text[16];
	int fd, n, rc = 0;

	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) {
		rc = -errno;
		fprintf(stderr, "kvmd: pid file %s: %s\n", path,
			strerror(errno));
		return rc;
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (write(fd, text, (size_t)n) != n) {
		fprintf(stderr, "kvmd: pid file %s: cannot be written\n", path);
		rc = -EIO;
	}
	close(fd);
	return rc;
}

static void pid_file_remove(const char *path)
{
	if (path)
		unlink(path);
}

/* This process keeps, another one serves. */
static int keep(const struct options *opt, int argc, char **argv)
{
	int status, rc = pid_file_write(opt->pid_file);

	if (rc)
		return exit_status(rc);
	status = keeper_run(opt, argc, argv);
	pid_file_remove(opt->pid_file);
	log_close();
	return status;
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int serve(const struct options *opt, struct kvmd *d)
{
	int rc = 0;

	if (opt->kept_fd < 0)
		rc = pid_file_write(opt->pid_file);
	if (rc)
		return rc;
	keep_ready(&d->keep);
	if (opt->ready_fd >= 0) {
		if (write(opt->ready_fd, "\n", 1) != 1) {
			log_warn("ready descriptor", "error=\"%s\"",
				 strerror(errno));
			/* the parent may have died before it was watched */
			if (opt->exit_with_parent)
				kvmd_drain(d);
		}
		close(opt->ready_fd);
	}
	rc = kvmd_run(d);
	if (opt->kept_fd < 0)
		pid_file_remove(opt->pid_file);
	return rc;
}

int main(int argc, char **argv)
{
	char err[KV_ERRLEN] = "";
	static struct options opt;
	struct kvmd *d = NULL;
	int rc;

	stdfds_fill();
	switch (options_parse(&opt, argc, argv)) {
	case OPTIONS_RUN:
		break;
	case OPTIONS_DONE:
		return EXIT_OK;
	case OPTIONS_WRONG:
		return EXIT_USAGE;
	}
	umask(0077);
	rc = log_open(opt.log_file, opt.log_level);
	if (rc) {
		fprintf(stderr, "kvmd: log file %s: %s\n", opt.log_file,
			strerror(-rc));
		return exit_status(rc);
	}
	if (opt.keeper && opt.kept_fd < 0 && !opt.check)
		return keep(&opt, argc, argv);
	block_signals();
	rc = kvmd_create(&opt, &d, err);
	if (rc) {
		fprintf(stderr, "kvmd: %s\n", err);
		log_close();
		return exit_status(rc);
	}
	if (opt.check)
		printf("kvmd: %s of %llu bytes on %s, io %s: possible\n",
		       opt.device, (unsigned long long)d->dev->bytes,
		       opt.socket, io_name(d->io));
	else
		rc = serve(&opt, d);
	kvmd_destroy(d);
	log_info("end", "status=%d", exit_status(rc));
	log_close();
	return exit_status(rc);
}
