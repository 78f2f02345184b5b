/* SPDX-License-Identifier: MIT */
/*
 * steps.c - run a process instruction by instruction, and count some of them
 *
 *	steps PID <ADDRESSES
 *
 * Addresses are hexadecimal, as objdump prints them of a position-independent
 * program. Prints "stepping" when it has begun. At SIGTERM it lets the process
 * go, as soon as that is awake, prints "ADDRESS TIMES" for each, and ends.
 * x86-64.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITES 256

static struct {
	unsigned long at, times;
} site[SITES];
static unsigned int nr_sites;
static volatile sig_atomic_t ended;

static void end(int sig)
{
	(void)sig;
	ended = 1;
}

/* Where the program itself is mapped: the first line. */
static unsigned long base_of(int pid)
{
	unsigned long base = 0;
	char path[32];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%lx-", &base) != 1)
		base = 0;
	fclose(f);
	return base;
}

static void count(unsigned long at)
{
	unsigned int i;

	for (i = 0; i < nr_sites; i++)
		site[i].times += site[i].at == at;
}

static void run(int pid, unsigned long base)
{
#ifdef __x86_64__
	const long rip = offsetof(struct user, regs.rip);
#else
	const long rip = 0;
#endif
	int status, sig = 0;
	bool runs = false;

	/* It is let go where a step ended: its trap has been taken then. */
	while (!ended || runs) {
		if (!runs && ptrace(PTRACE_SINGLESTEP, pid, NULL, (long)sig))
			return;
		runs = true;
		if (waitpid(pid, &status, __WALL) < 0)
			continue; /* SIGTERM */
		runs = false;
		if (!WIFSTOPPED(status))
			return;
		sig = WSTOPSIG(status);
		if (sig != SIGTRAP)
			continue;
		sig = 0;
		count((unsigned long)ptrace(PTRACE_PEEKUSER, pid, rip, NULL) -
		      base);
	}
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = end };
	int pid = argc == 2 ? (int)strtol(argv[1], NULL, 10) : 0, status;
	unsigned long base = base_of(pid);
	unsigned int i;

	while (nr_sites < SITES && scanf("%lx", &site[nr_sites].at) == 1)
		nr_sites++;
	sigaction(SIGTERM, &sa, NULL);
	if (!base || ptrace(PTRACE_SEIZE, pid, NULL, NULL) ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) ||
	    waitpid(pid, &status, __WALL) < 0) {
		fprintf(stderr, "steps: %s\n", strerror(errno));
		return 4;
	}
	puts("stepping");
	fflush(stdout);
	run(pid, base);
	for (i = 0; i < nr_sites; i++)
		printf("%lx %lu\n", site[i].at, site[i].times);
	return 0;
}
