/* SPDX-License-Identifier: MIT */
/*
 * bench_weights.c - two runtimes of one model hold its weights once
 *
 * Two children attach to a private kvmd as kvrun does, read every page of
 * the weights, which a runtime alone does not, and stay. Then each page has
 * two mappers, and the kernel counts half of it to each: the proportional
 * set sizes (PSS) of the two mappings add up to the memory there is. kvmd
 * itself never maps weights. That sum is held against what the file's tensors
 * take once they are packed, in whole pages, and against what kvmd says in
 * `kvctl meminfo`.
 *
 * A child writes one struct child_word to a pipe when it is ready, and ends
 * when the other pipe does; end of file instead of a word is a child that
 * died.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <kv.h>
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define WEIGHTS_RUNTIMES 2
#define WEIGHTS_DEVICE	 "4G"
#define WEIGHTS_MAPPING	 "memfd:kvmd-weights"

struct child_word {
	int rc;
	char err[FIGURE_NOTE];
};

struct runtimes {
	pid_t pid[WEIGHTS_RUNTIMES];
	u32 nr;
	int ready[2], hold[2]; /* pipes: from the children, to them */
};

struct weights_result {
	u64 packed, pss, kvmd; /* bytes */
};

static void read_pages(const struct kv_weights *w)
{
	const volatile u8 *p = w->addr;
	size_t at, page = (size_t)sysconf(_SC_PAGESIZE);

	for (at = 0; at < w->bytes; at += page)
		(void)p[at];
}

static void runtime_child(const struct bench_opts *o, const char *path,
			  const char *socket, struct runtimes *rt)
{
	const struct session_opts so = { .model = path,
					 .socket = socket,
					 .threads = o->threads };
	static struct session s;
	struct child_word word = { 0 };
	char byte;

	close(rt->ready[0]);
	close(rt->hold[1]);
	word.rc = bench_session(&s, &so);
	if (word.rc)
		snprintf(word.err, sizeof(word.err), "%.150s", s.err);
	else
		read_pages(s.weights);
	if (write(rt->ready[1], &word, sizeof(word)) == sizeof(word))
		while (read(rt->hold[0], &byte, 1) < 0 && errno == EINTR)
			;
	session_close(&s);
	_exit(0);
}

static void end_runtimes(struct runtimes *rt)
{
	u32 i;

	close(rt->hold[1]);
	for (i = 0; i < rt->nr; i++)
		waitpid(rt->pid[i], NULL, 0);
	close(rt->ready[0]);
}

static int start_runtimes(const struct bench_opts *o, const char *path,
			  const char *socket, struct runtimes *rt, char *err)
{
	if (pipe(rt->ready))
		return err_set(err, -EMFILE, "no pipe");
	if (pipe(rt->hold)) {
		close(rt->ready[0]);
		close(rt->ready[1]);
		return err_set(err, -EMFILE, "no pipe");
	}
	fflush(stdout);
	for (rt->nr = 0; rt->nr < WEIGHTS_RUNTIMES; rt->nr++) {
		rt->pid[rt->nr] = fork();
		if (rt->pid[rt->nr] < 0)
			break;
		if (!rt->pid[rt->nr])
			runtime_child(o, path, socket, rt);
	}
	close(rt->ready[1]);
	close(rt->hold[0]);
	if (rt->nr == WEIGHTS_RUNTIMES)
		return 0;
	end_runtimes(rt);
	return err_set(err, -EAGAIN, "two runtimes cannot be started");
}

static int wait_runtimes(struct runtimes *rt, char *err)
{
	struct child_word word;
	u32 i;

	for (i = 0; i < rt->nr; i++) {
		if (read(rt->ready[0], &word, sizeof(word)) != sizeof(word))
			return err_set(err, -ECHILD, "a runtime died");
		if (word.rc)
			return err_set(err, word.rc, "%s", word.err);
	}
	return 0;
}

/* The PSS of the weights in a process is added to @bytes. */
static int add_pss(pid_t pid, u64 *bytes, char *err)
{
	char path[64], line[512];
	unsigned long long a, b;
	bool is_weights = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return err_set(err, -EOPNOTSUPP, "%s: %s", path,
			       strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx ", &a, &b) == 2)
			is_weights = strstr(line, WEIGHTS_MAPPING);
		else if (is_weights && sscanf(line, "Pss: %llu kB", &a) == 1)
			*bytes += a << 10;
	}
	fclose(f);
	return 0;
}

static int ask_kvmd(const char *socket, u64 *bytes, char *err)
{
	char *json = NULL;
	int rc = kv_ctl(socket, 0, "meminfo", &json);
	json_t *v;

	if (rc) {
		err_set(err, rc, "meminfo: %s", json ? json : strerror(-rc));
	} else {
		v = json_loads(json, 0, NULL);
		if (!json_is_integer(json_object_get(v, "weights_bytes")))
			rc = err_set(err, -EPROTO, "meminfo has no weights");
		*bytes = (u64)json_integer_value(
			json_object_get(v, "weights_bytes"));
		json_decref(v);
	}
	free(json);
	return rc;
}

static int weights_measure(const struct bench_opts *o, const char *path,
			   struct weights_result *r, char *err)
{
	struct runtimes rt = { .nr = 0 };
	struct private_kvmd *d;
	u32 i;
	int rc = model_packed_bytes(path, &r->packed, err);

	if (rc)
		return rc;
	r->packed = ALIGN_UP(r->packed, (u64)sysconf(_SC_PAGESIZE));
	r->pss = r->kvmd = 0;
	rc = private_kvmd_start(WEIGHTS_DEVICE, NULL, &d, err);
	if (rc)
		return rc;
	rc = start_runtimes(o, path, private_kvmd_socket(d), &rt, err);
	if (rc)
		goto out_stop;
	rc = wait_runtimes(&rt, err);
	for (i = 0; !rc && i < rt.nr; i++)
		rc = add_pss(rt.pid[i], &r->pss, err);
	if (!rc)
		rc = ask_kvmd(private_kvmd_socket(d), &r->kvmd, err);
	if (!rc && !r->pss)
		rc = err_set(err, -EOPNOTSUPP, "the kernel tells no PSS");
	end_runtimes(&rt);
out_stop:
	private_kvmd_stop(d);
	return rc;
}

static int weights_once(const struct bench_opts *o, struct weights_result *r,
			char *note)
{
	static struct weights_result memo;
	static bool have;
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(MODEL_GEMMA, o->model, path, note);

	if (rc)
		return rc;
	if (!have) {
		rc = weights_measure(o, path, &memo, err);
		if (rc) {
			snprintf(note, FIGURE_NOTE, "%.150s", err);
			return rc;
		}
		have = true;
	}
	*r = memo;
	snprintf(note, FIGURE_NOTE,
		 "%llu kB of PSS in two runtimes, %llu kB by kvmd, %llu kB "
		 "of packed tensors",
		 (unsigned long long)r->pss >> 10,
		 (unsigned long long)r->kvmd >> 10,
		 (unsigned long long)r->packed >> 10);
	return 0;
}

static int run_once(const struct bench_opts *o, struct figure_result *f)
{
	struct weights_result r;
	int rc = weights_once(o, &r, f->note);

	if (!rc)
		f->measured = (double)r.pss / (double)r.packed;
	return rc;
}

static int run_told(const struct bench_opts *o, struct figure_result *f)
{
	struct weights_result r;
	int rc = weights_once(o, &r, f->note);

	if (!rc)
		f->measured = (double)r.kvmd / (double)r.pss;
	return rc;
}

FIGURE(weights_once, .name = "weights.once",
       .what = "PSS of the weights in two runtimes of a model, over its tensors",
       .unit = "x", .cmp = CMP_EQUAL, .target = 1, .run = run_once);
FIGURE(weights_told, .name = "weights.told",
       .what = "bytes of weights by kvmd, over their PSS in two runtimes",
       .unit = "x", .cmp = CMP_EQUAL, .target = 1, .run = run_told);
