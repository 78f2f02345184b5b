/* SPDX-License-Identifier: MIT */
/*
 * bench_gate.c - runtimes that share processors, with and without turns
 *
 * Two processes, each with a model and as many threads as there are CPUs, keep
 * eight sequences going. Windows of some seconds, in turn:
 *
 *	FIRST, SECOND	one of them alone: taking turns by hand
 *	GATE		both, by kvmd's step gate
 *	WEIGHTS		the same, the second one's tenant has three times the
 *			weight
 *	FREE		both, each as it likes
 *
 * The share of WEIGHTS is that of the time that each had the turn, as kvmd
 * counts it. What another window was worth: the time that its tokens would have
 * taken by hand, the first's and then the second's, over the time that it
 * lasted. So it does not matter who got how much. Medians over the rounds.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <kv.h>
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define GATE_SEQS   8u
#define GATE_PROMPT 48u
#define GATE_NEW    96u
#define GATE_STEP   64u /* tokens of a step */
#define GATE_ROUNDS 3u
#define GATE_WIN_S  9.0
#define GATE_WEIGHT 3u
#define SETTLE_S    0.3

enum mode { FIRST, SECOND, GATE, WEIGHTS, FREE, NR_MODES };

/* Between the processes. */
struct gate_shared {
	volatile int mode; /* NR_MODES: nothing is to be done; -1: end */
	volatile u64 tokens[2];
	volatile int ready; /* runtimes that have begun */
};

struct runtime {
	struct gate_shared *sh;
	u32 who;
	struct session s;
	struct kv_backend_ops gated, plain;
	struct bench_rng rng;
	struct request *req[GATE_SEQS];
};

struct gate_result {
	double worth[NR_MODES]; /* GATE, FREE; WEIGHTS: second's over first's */
	double tps[NR_MODES][2]; /* of the last round */
	u64 turns, revoked;
};

/* ---- a runtime ---- */

static void on_token(struct request *r, u32 index, u32 id, void *ctx)
{
	struct runtime *t = ctx;

	t->sh->tokens[t->who]++;
}

/* Lengths differ, so that prompts come one by one. */
static int keep_going(struct runtime *t)
{
	static const struct request_events events = { .token = on_token };
	u32 ids[GATE_PROMPT], i, k;
	int rc = 0;

	for (i = 0; !rc && i < GATE_SEQS; i++) {
		struct request_params p = { .kind = REQUEST_GENERATE,
					    .prompt = ids,
					    .nr_prompt = GATE_PROMPT,
					    .n = 1,
					    .ignore_eog = true,
					    .sampling = SAMPLING_GREEDY,
					    .events = &events,
					    .ctx = t };

		if (t->req[i] && t->req[i]->state != REQUEST_DONE)
			continue;
		if (t->req[i])
			engine_forget(t->s.engine, t->req[i]);
		t->req[i] = NULL;
		p.max_new =
			GATE_NEW / 2 + (u32)(bench_rand(&t->rng) % GATE_NEW);
		for (k = 0; k < GATE_PROMPT; k++)
			ids[k] = (u32)(bench_rand(&t->rng) %
				       t->s.model->hp.vocab);
		rc = engine_submit(t->s.engine, &p, &t->req[i], t->s.err);
	}
	return rc;
}

static int run_runtime(struct runtime *t)
{
	struct timespec nap = { .tv_nsec = 1000000 };
	int rc = 0, mode;

	while (rc >= 0 && (mode = t->sh->mode) >= 0) {
		if (mode == NR_MODES ||
		    (mode <= SECOND && mode != (int)t->who)) {
			t->sh->ready |= 1 << t->who;
			nanosleep(&nap, NULL);
			continue;
		}
		t->s.backend->ops = mode == FREE ? &t->plain : &t->gated;
		rc = keep_going(t);
		if (!rc)
			rc = session_step(&t->s);
	}
	return min(rc, 0);
}

static void __attribute__((noreturn))
runtime(const char *socket, const char *path, u32 threads, u64 seed, u32 who,
	struct gate_shared *sh)
{
	static struct runtime t;
	struct session_opts o = { .model = path,
				  .socket = socket,
				  .no_prefix_cache = true,
				  .step_tokens = GATE_STEP,
				  .threads = threads };
	int rc;

	t.sh = sh;
	t.who = who;
	t.rng.s = seed + who;
	rc = bench_session(&t.s, &o);
	if (!rc) {
		t.gated = t.plain = *t.s.backend->ops;
		t.plain.turn_begin = NULL;
		t.plain.turn_end = NULL;
		rc = run_runtime(&t);
	}
	if (rc)
		fprintf(stderr, "kvbench: gate: %s\n", t.s.err);
	session_close(&t.s);
	_exit(rc ? 1 : 0);
}

/* ---- windows ---- */

static void nap(double s)
{
	struct timespec ts = { .tv_sec = (time_t)s,
			       .tv_nsec = (long)((s - (time_t)s) * 1e9) };

	nanosleep(&ts, NULL);
}

/* Time that a process has had the turn. */
static double held_s(const char *socket, pid_t pid)
{
	json_t *v = NULL, *c;
	char *json = NULL;
	double s = 0;
	size_t i;

	if (!kv_ctl(socket, KV_HELLO_ADMIN, "client list", &json) && json)
		v = json_loads(json, 0, NULL);
	json_array_foreach(json_object_get(v, "clients"), i, c)
	{
		if (json_integer_value(json_object_get(c, "pid")) == pid)
			s = (double)json_integer_value(
				    json_object_get(c, "turn_held_ns")) *
			    1e-9;
	}
	json_decref(v);
	free(json);
	return s;
}

static void set_weight(const char *socket, pid_t pid, u32 weight)
{
	char what[80], *json = NULL;

	snprintf(what, sizeof(what), "tenant limit pid:%d weight=%u", (int)pid,
		 weight);
	(void)kv_ctl(socket, KV_HELLO_ADMIN, what, &json);
	free(json);
}

/* Tokens a second of both. */
static void window(struct gate_shared *sh, enum mode mode, double length,
		   double tps[2])
{
	u64 before[2];
	double from;
	u32 i;

	sh->mode = mode;
	nap(min(SETTLE_S, length));
	for (i = 0; i < 2; i++)
		before[i] = sh->tokens[i];
	from = clock_s();
	nap(length);
	from = clock_s() - from;
	for (i = 0; i < 2; i++)
		tps[i] = (double)(sh->tokens[i] - before[i]) / from;
	sh->mode = NR_MODES;
	nap(SETTLE_S); /* their last steps */
}

/* What one of them did in a window, in time of its own by hand. */
static double by_hand(double tps[NR_MODES][2], enum mode mode, u32 who)
{
	double alone = tps[who == 0 ? FIRST : SECOND][who];

	return alone > 0 ? tps[mode][who] / alone : 0;
}

/* Time by hand over time taken. */
static double worth(double tps[NR_MODES][2], enum mode mode)
{
	return by_hand(tps, mode, 0) + by_hand(tps, mode, 1);
}

static bool is_alive(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

static int rounds(const struct bench_opts *o, struct gate_shared *sh,
		  const char *socket, const pid_t pid[2], struct gate_result *r)
{
	double gate[GATE_ROUNDS], free_[GATE_ROUNDS], share[GATE_ROUNDS];
	double length = o->tiny ? 0.3 : GATE_WIN_S, until = clock_s() + 120;
	double held[2];
	u32 nr = o->tiny ? 1 : GATE_ROUNDS, i;
	enum mode m;

	while (sh->ready != 3) {
		nap(0.05);
		if (!is_alive(pid[0]) || !is_alive(pid[1]) || clock_s() > until)
			return -ECHILD;
	}
	for (i = 0; i < nr; i++) {
		for (m = FIRST; m < NR_MODES; m++) {
			set_weight(socket, pid[1],
				   m == WEIGHTS ? 100 * GATE_WEIGHT : 100);
			held[0] = held_s(socket, pid[0]);
			held[1] = held_s(socket, pid[1]);
			window(sh, m, length, r->tps[m]);
			held[0] = held_s(socket, pid[0]) - held[0];
			held[1] = held_s(socket, pid[1]) - held[1];
			if (m == WEIGHTS)
				share[i] = held[0] > 0 ? held[1] / held[0] : 0;
			if (!is_alive(pid[0]) || !is_alive(pid[1]))
				return -ECHILD;
		}
		gate[i] = worth(r->tps, GATE);
		free_[i] = worth(r->tps, FREE);
	}
	r->worth[GATE] = bench_median(gate, nr);
	r->worth[FREE] = bench_median(free_, nr);
	r->worth[WEIGHTS] = bench_median(share, nr);
	r->turns = bench_ask_number(socket, "vmstat", "\"turns\":");
	r->revoked = bench_ask_number(socket, "vmstat", "\"turn_revokes\":");
	return 0;
}

static int measure(const struct bench_opts *o, const char *const path[2],
		   struct gate_result *r, char *err)
{
	static const char *const options[] = { "--size", "3G", "--tenant-key",
					       "pid", NULL };
	pid_t pid[2] = { -1, -1 };
	struct private_kvmd *d;
	struct gate_shared *sh;
	int rc = private_kvmd_start_with(options, &d, err);
	u32 i;

	if (rc)
		return rc;
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sh->mode = NR_MODES;
	fflush(NULL);
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (!pid[i])
			runtime(private_kvmd_socket(d), path[i], o->threads,
				o->seed, i, sh);
	}
	rc = pid[0] < 0 || pid[1] < 0
		     ? -ECHILD
		     : rounds(o, sh, private_kvmd_socket(d), pid, r);
	if (rc)
		err_set(err, rc, "a runtime has ended");
	sh->mode = -1;
	for (i = 0; i < 2; i++)
		if (pid[i] > 0) {
			if (rc)
				kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
	munmap(sh, sizeof(*sh));
	private_kvmd_stop(d);
	return rc;
}

/* ---- figures ---- */

/* @pair: MODEL_GEMMA, two of it; MODEL_QWEN, one of each */
static int gate(const struct bench_opts *o, enum model_id pair,
		struct gate_result *r, char *note)
{
	static struct gate_result memo[MODEL_NR];
	static bool have[MODEL_NR];
	char first[MODEL_PATH], second[MODEL_PATH], err[KV_ERRLEN] = "";
	const char *const paths[2] = { first, second };
	int rc = model_path(MODEL_GEMMA, o->model, first, note);

	if (!rc)
		rc = model_path(pair, o->model, second, note);
	if (rc)
		return rc;
	if (!have[pair])
		rc = measure(o, paths, &memo[pair], err);
	if (rc) {
		snprintf(note, FIGURE_NOTE, "%.150s", err);
		return rc;
	}
	have[pair] = true;
	*r = memo[pair];
	return 0;
}

static int run_mode(const struct bench_opts *o, enum model_id pair,
		    enum mode mode, struct figure_result *f)
{
	struct gate_result r;
	int rc = gate(o, pair, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.worth[mode];
	snprintf(f->note, sizeof(f->note),
		 "t/s %.0f+%.0f, alone %.0f and %.0f, without the gate "
		 "%.0f+%.0f (%.2fx); %llu turns, %llu revoked",
		 r.tps[mode][0], r.tps[mode][1], r.tps[FIRST][0],
		 r.tps[SECOND][1], r.tps[FREE][0], r.tps[FREE][1],
		 r.worth[FREE], (unsigned long long)r.turns,
		 (unsigned long long)r.revoked);
	return 0;
}

static int run_two(const struct bench_opts *o, struct figure_result *f)
{
	return run_mode(o, MODEL_GEMMA, GATE, f);
}

static int run_mixed(const struct bench_opts *o, struct figure_result *f)
{
	return run_mode(o, MODEL_QWEN, GATE, f);
}

static int run_weights(const struct bench_opts *o, struct figure_result *f)
{
	int rc = run_mode(o, MODEL_GEMMA, WEIGHTS, f);

	f->measured /= GATE_WEIGHT;
	return rc;
}

static int run_weights_mixed(const struct bench_opts *o,
			     struct figure_result *f)
{
	int rc = run_mode(o, MODEL_QWEN, WEIGHTS, f);

	f->measured /= GATE_WEIGHT;
	return rc;
}

FIGURE(gate_two, .name = "gate.two",
       .what = "two busy runtimes of one model by the gate, over by hand",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = run_two);
FIGURE(gate_mixed, .name = "gate.mixed",
       .what = "the same with two models, one five times the other",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = run_mixed);
FIGURE(gate_weights, .name = "gate.weights",
       .what = "shares of compute time at weights 1:3, of what they should be",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = run_weights);
FIGURE(gate_weights_mixed, .name = "gate.weights_mixed",
       .what = "the same with two models", .unit = "x", .cmp = CMP_AT_LEAST,
       .target = 0.9, .run = run_weights_mixed);
