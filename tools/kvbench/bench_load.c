/* SPDX-License-Identifier: MIT */
/*
 * bench_load.c - how long a user waits for the first token
 *
 * What is timed is a whole kvrun, as a user starts it: from before it is
 * forked to the first byte on its standard output, of a prompt of one token.
 *
 *	cold	a kvmd is started too, and its time counts; it holds nothing,
 *		so kvrun packs the file into the mapping of weights
 *	second	another kvrun while the first one stays
 *	attach	what of that is libkv's: kv_attach(), then kv_weights_open()
 *		of what is there
 *
 * The file is in the page cache, and its digest is known by name as it is
 * after the first time that anybody opened it: both are seen to before. Each
 * round has a kvmd of its own; the figure is the median of the rounds.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <kv.h>
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"
#include "runtime/model/packing.h"
#include "tools/kvrun/private_kvmd.h"

#define LOAD_DEVICE	"4G"
#define LOAD_ROUNDS	3
#define LOAD_TIMEOUT_MS 120000

extern char **environ;

struct load_result {
	double cold, second, attach; /* seconds */
	double best_cold, best_second;
};

/* A kvrun, which stays until @in is closed, and its output. */
struct runtime {
	pid_t pid;
	int in, out; /* our ends of its standard input and output */
};

static int kvrun_path(char *path)
{
	ssize_t n = readlink("/proc/self/exe", path, MODEL_PATH - 8);
	char *slash;

	path[max(n, (ssize_t)0)] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return -ENOENT;
	memcpy(slash + 1, "kvrun", sizeof("kvrun"));
	return access(path, X_OK) ? -errno : 0;
}

static int runtime_spawn(const struct bench_opts *o, const char *model,
			 const char *socket, struct runtime *rt, char *err)
{
	char path[MODEL_PATH], threads[16];
	char *argv[] = { (char *)"kvrun",
			 (char *)"generate",
			 (char *)"--hold",
			 (char *)"-n",
			 (char *)"1",
			 (char *)"--ignore-eos",
			 (char *)"--temp",
			 (char *)"0",
			 (char *)"--prompt",
			 (char *)"Hello",
			 (char *)"-t",
			 threads,
			 (char *)"--socket",
			 (char *)(uintptr_t)socket,
			 (char *)"-m",
			 (char *)(uintptr_t)model,
			 NULL };
	posix_spawn_file_actions_t fa;
	int in[2], out[2], rc = kvrun_path(path);

	if (rc)
		return err_set(err, rc, "there is no kvrun beside kvbench");
	snprintf(threads, sizeof(threads), "%u", bench_threads(o));
	if (pipe2(in, O_CLOEXEC))
		return err_set(err, -errno, "no pipe: %s", strerror(errno));
	if (pipe2(out, O_CLOEXEC)) {
		rc = err_set(err, -errno, "no pipe: %s", strerror(errno));
		goto out_close_in;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&fa, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, "/dev/null",
					 O_WRONLY, 0);
	rc = -posix_spawn(&rt->pid, path, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(out[1]);
	rt->in = in[1];
	rt->out = out[0];
	if (!rc) {
		close(in[0]);
		return 0;
	}
	err_set(err, rc, "%s: %s", path, strerror(-rc));
	close(out[0]);
out_close_in:
	close(in[0]);
	close(in[1]);
	return rc;
}

static void runtime_end(struct runtime *rt)
{
	kill(rt->pid, SIGTERM);
	waitpid(rt->pid, NULL, 0);
	close(rt->in);
	close(rt->out);
}

/* On success it stays attached until runtime_end(). */
static int runtime_start(const struct bench_opts *o, const char *model,
			 const char *socket, struct runtime *rt, char *err)
{
	struct pollfd p = { .events = POLLIN };
	char byte;
	int rc = runtime_spawn(o, model, socket, rt, err);

	if (rc)
		return rc;
	p.fd = rt->out;
	if (poll(&p, 1, LOAD_TIMEOUT_MS) == 1 && read(rt->out, &byte, 1) == 1)
		return 0;
	runtime_end(rt);
	return err_set(err, -ECHILD, "a kvrun ended without a token");
}

/* ---- what the second one attaches to ---- */

struct load_file {
	const char *path;
	struct kv_msg_weights key;
};

static void read_through(int fd)
{
	static char buf[1 << 20];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, buf, sizeof(buf), at)) > 0)
		at += n;
}

/* Leaves the file's pages and its digest in the caches. */
static int file_open(struct load_file *f, char *err)
{
	struct packing *p;
	struct gguf *g;
	int fd = open(f->path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", f->path, strerror(errno));
	read_through(fd);
	rc = digest_file(fd, f->path, f->key.digest, err);
	close(fd);
	if (!rc)
		rc = gguf_open(f->path, &g, err);
	if (rc)
		return rc;
	rc = packing_plan(g, &p, err);
	if (!rc) {
		f->key.packing = PACKING_VERSION;
		f->key.bytes = packing_bytes(p);
		packing_free(p);
	}
	gguf_close(g);
	return rc;
}

static int time_attach(const struct load_file *f, const char *socket,
		       double *seconds, char *err)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao),
				     .socket = socket,
				     .name = "kvbench" };
	double start = clock_s();
	struct kv_weights w = { 0 };
	struct kv *kv;
	int rc = kv_attach(&ao, &kv);

	if (rc)
		return err_set(err, rc, "%s", kv_attach_error());
	rc = kv_weights_open(kv, &f->key, NULL, NULL, &w);
	*seconds = clock_s() - start;
	if (rc)
		err_set(err, rc, "%s", kv_error(kv));
	kv_weights_close(kv, &w);
	kv_detach(kv);
	return rc;
}

/* ---- figures ---- */

static int load_round(const struct bench_opts *o, const struct load_file *f,
		      double *cold, double *second, double *attach, char *err)
{
	struct runtime one, two;
	struct private_kvmd *d;
	double start = clock_s();
	int rc = private_kvmd_start(LOAD_DEVICE, NULL, &d, err);

	if (rc)
		return rc;
	rc = runtime_start(o, f->path, private_kvmd_socket(d), &one, err);
	if (rc)
		goto out_stop;
	*cold = clock_s() - start;
	start = clock_s();
	rc = runtime_start(o, f->path, private_kvmd_socket(d), &two, err);
	if (rc)
		goto out_end_one;
	*second = clock_s() - start;
	runtime_end(&two);
	rc = time_attach(f, private_kvmd_socket(d), attach, err);
out_end_one:
	runtime_end(&one);
out_stop:
	private_kvmd_stop(d);
	return rc;
}

static int load_measure(const struct bench_opts *o, const char *path,
			struct load_result *r, char *err)
{
	double cold[LOAD_ROUNDS], second[LOAD_ROUNDS], attach[LOAD_ROUNDS];
	struct load_file f = { .path = path };
	u32 i, rounds = o->tiny ? 1 : LOAD_ROUNDS;
	int rc = file_open(&f, err);

	for (i = 0; !rc && i < rounds; i++)
		rc = load_round(o, &f, &cold[i], &second[i], &attach[i], err);
	if (rc)
		return rc;
	r->cold = bench_median(cold, rounds);
	r->second = bench_median(second, rounds);
	r->attach = bench_median(attach, rounds);
	r->best_cold = cold[0]; /* sorted now */
	r->best_second = second[0];
	return 0;
}

static int load(const struct bench_opts *o, struct load_result *r, char *note)
{
	static struct load_result memo;
	static bool have;
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(o->tiny ? MODEL_GEMMA : MODEL_QWEN, o->model, path,
			    note);

	if (rc)
		return rc;
	if (!have) {
		rc = load_measure(o, path, &memo, err);
		if (rc) {
			snprintf(note, FIGURE_NOTE, "%.150s", err);
			return rc;
		}
		have = true;
	}
	*r = memo;
	return 0;
}

static int run_cold(const struct bench_opts *o, struct figure_result *f)
{
	struct load_result r;
	int rc = load(o, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.cold;
	snprintf(f->note, sizeof(f->note),
		 "kvmd started too, file and digest cached; at best %.2f",
		 r.best_cold);
	return 0;
}

static int run_second(const struct bench_opts *o, struct figure_result *f)
{
	struct load_result r;
	int rc = load(o, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.second * 1e3;
	snprintf(f->note, sizeof(f->note), "at best %.0f", r.best_second * 1e3);
	return 0;
}

static int run_attach(const struct bench_opts *o, struct figure_result *f)
{
	struct load_result r;
	int rc = load(o, &r, f->note);

	if (!rc)
		f->measured = r.attach * 1e3;
	return rc;
}

FIGURE(load_cold, .name = "load.cold",
       .what = "kvmd and kvrun from their start to the first token, Qwen 1.5B",
       .unit = "s", .cmp = CMP_AT_MOST, .target = 3, .run = run_cold);
FIGURE(load_second, .name = "load.second",
       .what = "a second kvrun from its start to its first token", .unit = "ms",
       .cmp = CMP_AT_MOST, .target = 300, .run = run_second);
FIGURE(load_attach, .name = "load.attach",
       .what = "attach and open of weights that another runtime has",
       .unit = "ms", .cmp = CMP_AT_MOST, .target = 100, .run = run_attach);
