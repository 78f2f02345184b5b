/* SPDX-License-Identifier: MIT */
/*
 * bench_handover.c - what it costs that a turn goes from one to another
 *
 *	handover  two processes, one thread each, compute in steps of some
 *		  milliseconds: from the one's kv_turn_end() to where the
 *		  other's kv_turn_begin() has returned
 *	alone	  kv_turn_begin() and kv_turn_end() of one that nobody waits
 *		  for, and the system calls among so many of them
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP_S	    0.005
#define STEPS	    400u
#define ALONE_PAIRS 1000000u

struct handover_shared {
	volatile double ended; /* when the last turn ended */
	volatile u32 nr, ready;
	double us[2 * STEPS];
};

static void __attribute__((noreturn))
take_turns(const char *socket, struct handover_shared *sh, u32 steps)
{
	struct bench_client c;
	double until;
	u32 i;

	if (bench_client_open(&c, socket, true))
		_exit(1);
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_SEQ_CST);
	while (sh->ready < 2)
		usleep(100);
	for (i = 0; i < steps; i++) {
		if (kv_turn_begin(c.kv, 10000) != 1)
			_exit(1);
		until = clock_s();
		if (sh->ended > 0)
			sh->us[sh->nr++] = (until - sh->ended) * 1e6;
		until += STEP_S;
		while (clock_s() < until)
			;
		sh->ended = clock_s();
		kv_turn_end(c.kv);
	}
	kv_turn_pass(c.kv);
	bench_client_close(&c);
	_exit(0);
}

static int handover(const struct bench_opts *o, struct figure_result *f)
{
	u32 steps = o->tiny ? 10 : STEPS, i;
	char err[KV_ERRLEN] = "";
	struct handover_shared *sh;
	struct private_kvmd *d;
	pid_t pid[2];
	int rc = private_kvmd_start("64M", NULL, &d, err), status;
	bool ok = true;

	if (rc) {
		snprintf(f->note, sizeof(f->note), "%.150s", err);
		return rc;
	}
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(NULL);
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i])
			take_turns(private_kvmd_socket(d), sh, steps);
	}
	for (i = 0; i < 2; i++)
		ok &= waitpid(pid[i], &status, 0) == pid[i] && !status;
	f->measured = bench_percentile(sh->us, sh->nr, 50);
	snprintf(f->note, sizeof(f->note),
		 "%u handovers after %.0f ms each; p90 %.0f us, p99 %.0f us",
		 sh->nr, STEP_S * 1e3, bench_percentile(sh->us, sh->nr, 90),
		 bench_percentile(sh->us, sh->nr, 99));
	munmap(sh, sizeof(*sh));
	private_kvmd_stop(d);
	return ok ? 0 : -1;
}

static int alone(const struct bench_opts *o, struct figure_result *f)
{
	u32 pairs = o->tiny ? 1000 : ALONE_PAIRS, i;
	struct kv_counters before, after;
	char err[KV_ERRLEN] = "";
	struct private_kvmd *d;
	struct bench_client c;
	double from;
	int rc = private_kvmd_start("64M", NULL, &d, err);

	if (rc) {
		snprintf(f->note, sizeof(f->note), "%.150s", err);
		return rc;
	}
	rc = bench_client_open(&c, private_kvmd_socket(d), true);
	if (!rc) {
		(void)kv_turn_begin(c.kv, 1000);
		kv_turn_end(c.kv);
		kv_counters_get(c.kv, &before);
		from = clock_s();
		for (i = 0; i < pairs; i++) {
			(void)kv_turn_begin(c.kv, 1000);
			kv_turn_end(c.kv);
		}
		f->measured = (clock_s() - from) * 1e9 / pairs;
		kv_counters_get(c.kv, &after);
		snprintf(f->note, sizeof(f->note),
			 "%llu requests and %llu system calls in %u steps",
			 (unsigned long long)(after.requests - before.requests),
			 (unsigned long long)(after.doorbells + after.sleeps +
					      after.packets - before.doorbells -
					      before.sleeps - before.packets),
			 pairs);
	}
	bench_client_close(&c);
	private_kvmd_stop(d);
	return rc;
}

FIGURE(gate_handover, .name = "gate.handover",
       .what = "from the end of one's turn to the begin of the other's, median",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 100, .run = handover);
FIGURE(gate_alone, .name = "gate.alone",
       .what = "begin and end of a turn that nobody else wants", .unit = "ns",
       .cmp = CMP_AT_MOST, .target = 500, .run = alone);
