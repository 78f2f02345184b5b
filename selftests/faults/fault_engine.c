/* SPDX-License-Identifier: MIT */
/*
 * fault_engine.c - a model is opened and answers, and bears any refusal
 *
 *	fault_engine SOCKET MODEL
 *
 * As kvrun does it: the file, its digest, weights in kvmd, the paged backend,
 * an engine with more sequences than memory, so that some leave for swap and
 * come back. Each request that ends well prints "request N: HASH" of its tokens
 * and their probabilities; one that does not, its sentence.
 *
 * Exit: as fault_client.
 */
#include <fcntl.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <unistd.h>
#include "kv.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/kv_backend.h"
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "runtime/model/packing.h"
#include "selftests/faults/left.h"
#include "kv/errbuf.h"
#include "selftests/harness.h"
#include <kv/msg.h>

#define NR_REQUESTS 16u
#define NR_PROMPT   400u
#define NR_NEW	    8u

struct all {
	int fd;
	struct gguf *g;
	struct packing *packing;
	struct kv *kv;
	struct kv_weights w;
	bool has_weights;
	struct model *m;
	struct kern_exec x;
	bool has_exec;
	struct kv_backend *b;
	struct engine *e;
	struct request *q[NR_REQUESTS];
	u8 digest[DIGEST_BYTES];
	char err[KV_ERRLEN];
};

static int fill(void *dst, size_t bytes, void *ctx)
{
	struct all *a = ctx;

	return packing_fill(a->packing, a->fd, dst, a->digest, a->x.pool,
			    a->err);
}

static int open_model(struct all *a, const char *path)
{
	struct kv_msg_weights key = { .packing = PACKING_VERSION,
				      .name = "fault" };
	int rc;

	a->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (a->fd < 0)
		return err_set(a->err, -errno, "%s: %s", path, strerror(errno));
	rc = gguf_open_fd(a->fd, path, &a->g, a->err);
	if (!rc)
		rc = digest_file(a->fd, path, a->digest, a->err);
	if (!rc)
		rc = kern_exec_init(&a->x, NULL, 2);
	if (rc)
		return *a->err ? rc : err_set(a->err, rc, "threads");
	a->has_exec = true;
	rc = packing_plan(a->g, &a->packing, a->err);
	if (rc)
		return rc;
	key.bytes = packing_bytes(a->packing);
	memcpy(key.digest, a->digest, sizeof(key.digest));
	key.digest[0] ^= (u8)getpid(); /* there is something to fill */
	key.digest[1] ^= (u8)(getpid() >> 8);
	rc = kv_weights_open(a->kv, &key, fill, a, &a->w);
	if (rc)
		return *a->err ? rc
			       : err_set(a->err, rc, "%s", kv_error(a->kv));
	a->has_weights = true;
	return model_load(a->g, a->packing, a->w.addr, &a->m, a->err);
}

static int open_engine(struct all *a)
{
	struct engine_opts o = { .step_tokens = 512,
				 .max_seqs = 64,
				 .wait_ms = 3000,
				 .prefix_cache = true };
	struct kv_namespace ns = { .salt = 1 };
	int rc = kv_paged_create(a->kv, a->m, &ns, &a->b, a->err);

	return rc ? rc : engine_create(a->m, &a->x, a->b, &o, &a->e, a->err);
}

static int submit(struct all *a, u32 i)
{
	u32 ids[NR_PROMPT], k;
	struct request_params p = {
		.prompt = ids,
		.nr_prompt = NR_PROMPT,
		.max_new = NR_NEW,
		.n = 1,
		.nr_logprobs = 3,
		.sampling = SAMPLING_GREEDY,
	};

	for (k = 0; k < NR_PROMPT; k++)
		ids[k] = (k * 31 + i * 7 + (k & i)) % a->m->hp.vocab;
	return engine_submit(a->e, &p, &a->q[i], a->err);
}

static u64 hash(const struct seq *s)
{
	u32 nr = seq_nr_new(s), k = s->req->p.nr_logprobs;
	const u8 *ids = (const u8 *)(s->ids + s->req->p.nr_prompt);
	const u8 *lps = (const u8 *)s->lps;
	u64 h = 14695981039346656037ull;
	size_t i;

	for (i = 0; i < nr * sizeof(u32); i++)
		h = (h ^ ids[i]) * 1099511628211ull;
	for (i = 0; i < (size_t)nr * k * sizeof(*s->lps); i++)
		h = (h ^ lps[i]) * 1099511628211ull;
	return h;
}

/* Each request's tokens, or why there are none; the number of these. */
static int report(const struct all *a, bool *silent)
{
	int failed = 0;
	u32 i;

	for (i = 0; i < NR_REQUESTS; i++) {
		const struct request *q = a->q[i];

		if (!q || q->error) {
			printf("request %u failed: %s\n", i,
			       q && q->message ? q->message : "");
			*silent |= q && (!q->message || !*q->message);
			failed++;
		} else {
			printf("request %u: %016llx\n", i,
			       (unsigned long long)hash(q->seqs[0]));
		}
	}
	return failed;
}

static int generate(struct all *a, bool *silent)
{
	int rc = 0, failed = 0;
	u32 i;

	for (i = 0; i < NR_REQUESTS && !rc; i++)
		rc = submit(a, i);
	if (!rc)
		do
			rc = engine_step(a->e, a->err);
		while (rc == 1);
	if (!rc)
		failed = report(a, silent);
	return rc ? rc : failed;
}

static void close_all(struct all *a)
{
	engine_destroy(a->e);
	if (a->b)
		a->b->ops->destroy(a->b);
	model_free(a->m);
	packing_free(a->packing);
	if (a->has_weights)
		kv_weights_close(a->kv, &a->w);
	if (a->has_exec)
		kern_exec_fini(&a->x);
	gguf_close(a->g);
	kv_detach(a->kv);
	if (a->fd >= 0)
		close(a->fd);
}

int main(int argc, char **argv)
{
	static struct all a;
	struct kv_attach_opts o = { .sz = sizeof(o), .name = "fault" };
	bool silent = false;
	int rc, left;

	if (argc != 3)
		return 2;
	setvbuf(stdout, NULL, _IONBF, 0);
	alarm(30);
	/* stacks of threads that have ended, and their heaps, are kept */
	mallopt(M_ARENA_MAX, 1);
	/* what is loaded with the first error */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
	if (!kern_exec_init(&a.x, NULL, 2))
		kern_exec_fini(&a.x);
	left_begin();
	a.fd = -1;
	o.socket = argv[1];
	rc = kv_attach(&o, &a.kv);
	if (rc)
		err_set(a.err, rc, "%s", kv_attach_error());
	if (!rc)
		rc = open_model(&a, argv[2]);
	if (!rc)
		rc = open_engine(&a);
	if (!rc)
		rc = generate(&a, &silent);
	if (rc < 0)
		printf("%d: %s\n", rc, a.err);
	silent |= rc < 0 && !*a.err;
	close_all(&a);
	left = left_more();
	if (left)
		return left;
	return silent ? 11 : rc ? 10 : 0;
}
