/* SPDX-License-Identifier: MIT */
/*
 * session.c - open the file, drop privileges, attach, share the weights
 *
 * The order matters. The file is opened, checked and digested as whoever
 * started the program, and a private kvmd is started; then --user drops
 * privileges; then everything else: threads, attach, weights. The weights
 * are a mapping that kvmd holds once for all runtimes of the model; whoever
 * comes first packs the file into it. Only --kv contig, which has no kvmd,
 * uses a mapping of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kv.h"
#include "kernels/cpu/pool.h"
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "runtime/model/packing.h"
#include "runtime/model/vocab.h"
#include "tools/kvrun/cmd.h"
#include "tools/kvrun/drop.h"
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define CONTIG_SPACES	  64u
#define CONTIG_TOKENS_MAX 32768u
#define HOLD_POLL_MS	  200

static volatile sig_atomic_t caught;

/* One that comes while another waits to be seen ends the program at once. */
static void on_signal(int sig)
{
	if (caught) {
		signal(sig, SIG_DFL);
		raise(sig); /* delivered when the handler returns */
	}
	caught = sig;
}

void session_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
}

int session_signal(void)
{
	return caught;
}

void session_clear_signal(void)
{
	caught = 0;
}

void session_usage(FILE *out)
{
	fputs("  -m, --model FILE     the model, a GGUF file\n"
	      "  -t, --threads N      threads that compute (all CPUs)\n"
	      "      --pin            give each of them a CPU of its own\n"
	      "      --socket PATH    kvmd to attach to (KVMD_SOCKET,\n"
	      "                       " KV_SOCKET_PATH ")\n"
	      "      --private        start a kvmd for this command alone\n"
	      "      --size BYTES     device size of a private kvmd\n"
	      "      --swap BYTES     host memory for its pages that do not fit\n"
	      "      --user NAME      drop privileges to this user and group "
	      "kvmem\n"
	      "      --kv paged|contig  pages of kvmd, or the contiguous "
	      "reference\n"
	      "      --context N      refuse longer sequences (the model's)\n"
	      "      --chunk N        tokens of a step (512)\n"
	      "      --max-num-seqs N sequences of a step (256)\n"
	      "      --tbt-slo-ms N   keep steps so short that a token follows the\n"
	      "                       last one in N ms (no target)\n"
	      "      --preempt swap|recompute|none  what becomes of the pages of\n"
	      "                       a request that gives way (swap, if there is\n"
	      "                       any); none: nobody does\n"
	      "      --admit overcommit|peak|strict  memory that a request is\n"
	      "                       counted for before it begins (overcommit)\n"
	      "      --batching iteration|request, --prefill chunked|whole|apart\n"
	      "                       other schedules, to compare with\n"
	      "      --order lpm|dfs|fcfs  who is admitted first: who finds most\n"
	      "                       of its prompt computed (lpm), a subtree of\n"
	      "                       prompts at a time, or by arrival\n"
	      "      --no-prefix-cache  neither use what others have computed\n"
	      "                       of a prompt nor let them use this\n"
	      "      --isa NAME       kernels (the fastest of this CPU but int8):\n"
	      "                       ref, avx2, avx512, avx512bf16, amx;\n"
	      "                       attention in bf16: refbf16attn, avx2bf16attn,\n"
	      "                       avx512bf16attn, amxbf16attn; products in\n"
	      "                       int16: refint16, avx2int16, avx512int16; in\n"
	      "                       int8: refint8, avx2int8, avx512vnni, amxint8\n"
	      "      --stats          counters and speed on standard error\n",
	      out);
}

int parse_count(const char *text, u32 *out)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || v > 0x7fffffff)
		return -EINVAL;
	*out = (u32)v;
	return 0;
}

int parse_real(const char *text, float *out)
{
	char *end;

	*out = strtof(text, &end);
	return end == text || *end ? -EINVAL : 0;
}

static int set_count(const char *name, const char *arg, u32 *out, char *err)
{
	if (parse_count(arg, out) || !*out)
		return err_set(err, -EINVAL, "%s '%s' is no count", name, arg);
	return 0;
}

static int set_word(const char *name, const char *arg,
		    const char *const words[3], u32 *out, char *err)
{
	u32 i;

	for (i = 0; i < 3 && words[i]; i++) {
		if (strcmp(arg, words[i]))
			continue;
		*out = i;
		return 0;
	}
	return err_set(err, -EINVAL, "%s '%s' is none of %s, %s%s%s", name, arg,
		       words[0], words[1], words[2] ? ", " : "",
		       words[2] ? words[2] : "");
}

/* How the engine schedules: words in the order of their enumerations. */
static int schedule_option(struct session_opts *o, int c, const char *arg,
			   char *err)
{
	static const char *const preempt[3] = { "swap", "recompute", "none" };
	static const char *const order[3] = { "lpm", "dfs", "fcfs" };
	static const char *const batching[3] = { "iteration", "request" };
	static const char *const prefill[3] = { "chunked", "whole", "apart" };
	static const char *const admit[3] = { "overcommit", "peak", "strict" };
	u32 v = 0;
	int rc;

	switch (c) {
	case SESSION_OPT_PREEMPT:
		rc = set_word("--preempt", arg, preempt, &v, err);
		o->preempt = v;
		return rc;
	case SESSION_OPT_BATCHING:
		rc = set_word("--batching", arg, batching, &v, err);
		o->batching = v;
		return rc;
	case SESSION_OPT_PREFILL:
		rc = set_word("--prefill", arg, prefill, &v, err);
		o->prefill = v;
		return rc;
	case SESSION_OPT_ADMIT:
		rc = set_word("--admit", arg, admit, &v, err);
		o->admit = v;
		return rc;
	case SESSION_OPT_ORDER:
		rc = set_word("--order", arg, order, &v, err);
		o->order = v;
		return rc;
	case SESSION_OPT_TBT:
		return set_count("--tbt-slo-ms", arg, &o->tbt_slo_ms, err);
	}
	return err_set(err, -EINVAL, "option %d is not known", c);
}

int session_option(struct session_opts *o, int c, const char *arg, char *err)
{
	switch (c) {
	case 'm':
		o->model = arg;
		return 0;
	case 't':
		return set_count("--threads", arg, &o->threads, err);
	case SESSION_OPT_SOCKET:
		o->socket = arg;
		return 0;
	case SESSION_OPT_PRIVATE:
		o->private = true;
		return 0;
	case SESSION_OPT_PIN:
		o->pin = true;
		return 0;
	case SESSION_OPT_USER:
		o->user = arg;
		return 0;
	case SESSION_OPT_ISA:
		o->isa = arg;
		return 0;
	case SESSION_OPT_SIZE:
		o->size = arg;
		return 0;
	case SESSION_OPT_SWAP:
		o->swap = arg;
		return 0;
	case SESSION_OPT_NO_PREFIX_CACHE:
		o->no_prefix_cache = true;
		return 0;
	case SESSION_OPT_STATS:
		o->stats = true;
		return 0;
	case SESSION_OPT_CHUNK:
		return set_count("--chunk", arg, &o->step_tokens, err);
	case SESSION_OPT_CONTEXT:
		return set_count("--context", arg, &o->context, err);
	case SESSION_OPT_MAX_SEQS:
		return set_count("--max-num-seqs", arg, &o->max_seqs, err);
	case SESSION_OPT_KV:
		o->contig = !strcmp(arg, "contig");
		if (o->contig || !strcmp(arg, "paged"))
			return 0;
		return err_set(err, -EINVAL,
			       "--kv '%s' is neither paged nor contig", arg);
	}
	return schedule_option(o, c, arg, err);
}

int session_exit_status(int rc)
{
	switch (rc) {
	case 0:
		return EXIT_OK;
	case -EACCES:
	case -EPERM:
		return EXIT_NO_PERMISSION;
	case -ECONNREFUSED:
	case -ESHUTDOWN:
		return EXIT_NO_DAEMON;
	}
	return EXIT_FAILED;
}

static int open_file(struct session *s)
{
	const char *path = s->o->model;
	int rc;

	/* O_NONBLOCK: a FIFO without a writer must not hang us */
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (s->fd < 0)
		return err_set(s->err, -errno, "%s: %s", path, strerror(errno));
	rc = gguf_open_fd(s->fd, path, &s->gguf, s->err);
	if (!rc)
		rc = vocab_load(s->gguf, &s->vocab, s->err);
	if (!rc && !s->o->contig)
		rc = digest_file(s->fd, path, s->digest, s->err);
	/* the header that was read is the digest's */
	if (!rc && !s->o->contig)
		rc = gguf_unchanged(s->gguf, s->err);
	return rc;
}

static int fill_weights(void *dst, size_t bytes, void *ctx)
{
	struct session *s = ctx;

	if (bytes != packing_bytes(s->packing))
		return err_set(s->err, -EINVAL,
			       "%s: %zu bytes of weights, "
			       "not %llu",
			       s->o->model, bytes,
			       (unsigned long long)packing_bytes(s->packing));
	return packing_fill(s->packing, s->fd, dst, s->digest, s->exec.pool,
			    s->err);
}

static void model_name(const struct session *s, char *out, size_t len)
{
	const char *slash = strrchr(s->o->model, '/');

	snprintf(out, len, "%s", slash ? slash + 1 : s->o->model);
}

static int open_weights(struct session *s)
{
	struct kv_msg_weights key = {
		.packing = PACKING_VERSION,
	};
	int rc = packing_plan(s->gguf, &s->packing, s->err);

	if (rc)
		return rc;
	key.bytes = packing_bytes(s->packing);
	memcpy(key.digest, s->digest, sizeof(key.digest));
	model_name(s, key.name, sizeof(key.name));
	s->weights = calloc(1, sizeof(*s->weights));
	if (!s->weights)
		return err_set(s->err, -ENOMEM, "no memory");
	s->err[0] = '\0';
	rc = kv_weights_open(s->kv, &key, fill_weights, s, s->weights);
	if (!rc)
		return 0;
	free(s->weights);
	s->weights = NULL;
	if (!s->err[0]) /* else the file's sentence */
		err_set(s->err, rc, "%s: %s", s->o->model, kv_error(s->kv));
	return rc;
}

static int attach(struct session *s, struct kv_namespace *ns)
{
	char name[KV_NAME_LEN];
	struct kv_attach_opts o = {
		.sz = sizeof(o),
		.socket = s->own ? private_kvmd_socket(s->own) : s->o->socket,
		.name = name,
		.ns = ns,
		.stop = s->o->stop ? s->o->stop : &caught,
	};
	int rc;

	model_name(s, name, sizeof(name));
	rc = kv_attach(&o, &s->kv);
	if (rc == -ENOENT) /* no socket: nobody to ask, as good as refused */
		rc = -ECONNREFUSED;
	if (rc)
		err_set(s->err, rc, "%s", kv_attach_error());
	return rc;
}

static int open_paged(struct session *s)
{
	struct kv_namespace ns = { 0 };
	int rc;

	memcpy(ns.model_digest, s->digest, sizeof(ns.model_digest));
	/* what another definition has computed has other bits */
	ns.salt = KERN_NUMERICS_EDITION << 8 | s->exec.kern->numerics;
	rc = attach(s, &ns);
	if (!rc)
		rc = open_weights(s);
	if (!rc)
		rc = model_load(s->gguf, s->packing, s->weights->addr,
				&s->model, s->err);
	if (!rc)
		rc = kv_paged_create(s->kv, s->model, &ns, &s->backend, s->err);
	return rc;
}

static int open_contig(struct session *s)
{
	u32 context = s->o->context ? s->o->context : CONTIG_TOKENS_MAX;
	int rc = model_load(s->gguf, NULL, NULL, &s->model, s->err);

	if (rc)
		return rc;
	return kv_contig_create(s->model, CONTIG_SPACES,
				min(context, s->model->hp.context), &s->backend,
				s->err);
}

static int open_threads(struct session *s)
{
	int rc = kern_exec_init(&s->exec, s->o->isa, s->o->threads);

	if (rc == -EINVAL)
		return err_set(s->err, rc, "this CPU has no kernels '%s'",
			       s->o->isa ? s->o->isa : getenv("KV_ISA"));
	if (rc)
		return err_set(s->err, rc, "the threads: %s", strerror(-rc));
	s->has_exec = true;
	if (s->o->pin)
		rc = pool_pin(s->exec.pool);
	if (rc)
		return err_set(s->err, rc, "--pin, %u threads: %s",
			       pool_nr_threads(s->exec.pool),
			       rc == -ERANGE ? "there are fewer CPUs"
					     : strerror(-rc));
	return 0;
}

static int open_engine(struct session *s)
{
	struct engine_opts eo = {
		.step_tokens = s->o->step_tokens,
		.max_seqs = s->o->max_seqs,
		.context = s->o->context
				   ? min(s->o->context, s->model->hp.context)
				   : 0,
		.vocab = s->vocab,
		.preempt = s->o->preempt,
		.batching = s->o->batching,
		.prefill = s->o->prefill,
		.admit = s->o->admit,
		.tbt_slo_ms = s->o->tbt_slo_ms,
		.order = s->o->order,
		.steps = s->o->steps,
		.prefix_cache = !s->o->no_prefix_cache,
	};

	if (s->o->contig)
		eo.max_seqs = min(CONTIG_SPACES,
				  eo.max_seqs ? eo.max_seqs : CONTIG_SPACES);
	if (vocab_size(s->vocab) > s->model->hp.vocab)
		return err_set(s->err, -EINVAL,
			       "%s: the tokenizer has %u tokens, the network "
			       "%u",
			       s->o->model, vocab_size(s->vocab),
			       s->model->hp.vocab);
	return engine_create(s->model, &s->exec, s->backend, &eo, &s->engine,
			     s->err);
}

int session_open(struct session *s, const struct session_opts *o)
{
	struct model_hparams hp;
	int rc;

	memset(s, 0, sizeof(*s));
	s->o = o;
	rc = open_file(s);
	/* Refuse a network that is not known before anything is started. */
	if (!rc)
		rc = hparams_read(s->gguf, &hp, s->err);
	if (!rc && o->private && !o->contig)
		rc = private_kvmd_start(o->size, o->swap, &s->own, s->err);
	if (!rc && o->user)
		rc = drop_privileges(o->user, s->err);
	if (!rc)
		rc = open_threads(s);
	if (!rc)
		rc = o->contig ? open_contig(s) : open_paged(s);
	if (!rc)
		rc = open_engine(s);
	return session_exit_status(rc);
}

void session_close(struct session *s)
{
	engine_destroy(s->engine);
	if (s->has_exec)
		kern_exec_fini(&s->exec);
	if (s->backend)
		s->backend->ops->destroy(s->backend);
	model_free(s->model);
	if (s->weights)
		kv_weights_close(s->kv, s->weights);
	free(s->weights);
	packing_free(s->packing);
	kv_detach(s->kv);
	private_kvmd_stop(s->own);
	vocab_free(s->vocab);
	if (s->gguf)
		gguf_close(s->gguf);
	if (s->fd >= 0)
		close(s->fd);
}

/* Is kvmd still there, and does it want to be? */
int session_attend(struct session *s)
{
	struct kv_event ev;
	int rc;

	if (!s->kv)
		return 0;
	while ((rc = kv_event_wait(s->kv, &ev, 0)) > 0) {
		if (ev.type == KV_EVENT_SHRINK)
			engine_give_back(s->engine, ev.arg);
		if (ev.type == KV_EVENT_DRAIN)
			return err_set(s->err, -ESHUTDOWN,
				       "kvmd is shutting down");
	}
	if (rc != -ESHUTDOWN)
		return 0;
	(void)kv_shrink(s->kv); /* leaves why, if kvmd has said it */
	return err_set(s->err, rc, "%s", kv_error(s->kv));
}

int session_step(struct session *s)
{
	int rc = session_attend(s);

	if (rc)
		return rc;
	if (caught)
		return err_set(s->err, -EINTR, "interrupted");
	return engine_step(s->engine, s->err);
}

int session_hold(struct session *s)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char buf[512];
	int rc;

	fflush(stdout);
	fprintf(stderr, "kvrun: holding\n");
	while (!caught) {
		rc = session_attend(s);
		if (rc)
			return rc;
		rc = poll(&p, 1, HOLD_POLL_MS);
		if (rc > 0 && read(STDIN_FILENO, buf, sizeof(buf)) <= 0)
			break;
	}
	return 0;
}
