/* SPDX-License-Identifier: MIT */
/*
 * three_ways.c - one question, asked in three ways; the likeliest answer
 *
 * A program of program.h: a text is computed once, three branches of it ask in
 * their own words and are answered side by side, by samples. Then the branch
 * that they come from is asked which of the answers the model holds for the
 * likeliest, by the mean log-probability of their tokens. What the branches
 * share is found in the pages of kvmd, here and by every other runtime of the
 * same file.
 *
 *	three_ways MODEL [SOCKET]
 */
#include <fcntl.h>
#include <kv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/engine/program.h"
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "runtime/model/vocab.h"

#define WAYS 3

static const char text[] =
	"Q: Which river runs through Vienna?\nA: the Danube\n"
	"Q: Which river runs through Cologne?\nA: the Rhine\n"
	"Q: What is the river called that London is built on?\nA: the Thames\n"
	"Q: Rome lies on which river?\nA: the Tiber\n";
static const char *const way[WAYS] = {
	"Q: Which river runs through Paris?\nA:",
	"Q: What is the river called that Paris is built on?\nA:",
	"Q: Paris lies on which river?\nA:",
};

/* All that a program runs on; each of it outlives what comes after. */
struct machine {
	struct gguf *gguf;
	struct vocab *vocab;
	struct model *model;
	struct kern_exec exec;
	struct kv *kv;
	struct kv_backend *backend;
	struct engine *engine;
};

static char err[KV_ERRLEN];

static void check(int rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "three_ways: %s\n", *err ? err : strerror(-rc));
	exit(1);
}

/* As kvrun does, but for the weights: these are a mapping of the file. */
static void start(struct machine *m, const char *path, const char *socket)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao),
				     .socket = socket,
				     .name = "three_ways" };
	struct engine_opts eo = { .prefix_cache = true };
	struct kv_namespace ns = { 0 };
	int rc, fd;

	check(gguf_open(path, &m->gguf, err));
	check(vocab_load(m->gguf, &m->vocab, err));
	check(model_load(m->gguf, NULL, NULL, &m->model, err));
	check(kern_exec_init(&m->exec, NULL, 0));

	/* whose pages may be used instead of computing them */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	check(digest_file(fd, path, ns.model_digest, err));
	close(fd);
	ns.salt = KERN_NUMERICS_EDITION << 8 | m->exec.kern->numerics;

	ao.ns = &ns;
	rc = kv_attach(&ao, &m->kv);
	if (rc)
		err_set(err, rc, "%s", kv_attach_error());
	check(rc);
	check(kv_paged_create(m->kv, m->model, &ns, &m->backend, err));
	eo.vocab = m->vocab;
	check(engine_create(m->model, &m->exec, m->backend, &eo, &m->engine,
			    err));
}

static void stop(struct machine *m)
{
	engine_destroy(m->engine);
	m->backend->ops->destroy(m->backend);
	kern_exec_fini(&m->exec);
	model_free(m->model);
	kv_detach(m->kv);
	vocab_free(m->vocab);
	gguf_close(m->gguf);
}

/* The ids of a text; free() them. */
static u32 *ids_of(const struct machine *m, const char *s, unsigned int flags,
		   u32 *nr)
{
	size_t n;
	u32 *ids;

	check(vocab_tokenize(m->vocab, s, strlen(s), flags, &ids, &n));
	*nr = (u32)n;
	return ids;
}

static void append(const struct machine *m, struct branch *b, const char *s)
{
	u32 nr, *ids = ids_of(m, s, 0, &nr);

	check(program_append(b, ids, nr, err));
	free(ids);
}

/* A branch's tokens from one on, as a line. */
static void say(const struct machine *m, const char *label,
		const struct program_choice *c)
{
	char *s;
	size_t len, i;

	check(vocab_detokenize(m->vocab, c->ids, c->nr, VOCAB_SKIP_SPECIAL, &s,
			       &len));
	printf("%s", label);
	for (i = 0; i < len; i++)
		putchar(s[i] == '\n' ? '/' : s[i]);
	putchar('\n');
	free(s);
}

static void ask(const struct machine *m, struct program *p)
{
	struct program_choice answer[WAYS];
	struct branch *root, *b[WAYS];
	u32 i, nr, asked[WAYS], *ids = ids_of(m, text, VOCAB_ADD_SPECIAL, &nr);
	struct program_gen gen = { .max_new = 3, .sampling = SAMPLING_GREEDY };
	char label[32];

	gen.sampling.temperature = 1.0f;
	check(program_begin(p, ids, nr, &root, err));
	free(ids);
	for (i = 0; i < WAYS; i++) {
		check(program_fork(root, &b[i], err));
		append(m, b[i], way[i]);
		program_ids(b[i], &asked[i]);
		gen.sampling.seed = i;
		check(program_gen(b[i], &gen, err)); /* begins */
	}
	check(program_join(p, err)); /* all of them are there */

	for (i = 0; i < WAYS; i++) {
		check(program_error(b[i]));
		answer[i].ids = program_ids(b[i], &nr) + asked[i];
		answer[i].nr = nr - asked[i];
		snprintf(label, sizeof(label), "answer %u:", i);
		say(m, label, &answer[i]);
	}
	append(m, root, way[0]);
	check(program_select(root, answer, WAYS, err));
	check(program_join(p, err));
	check(program_error(root));
	i = program_selected(root);
	snprintf(label, sizeof(label), "likeliest, %u at %.3f:", i,
		 program_score(root));
	say(m, label, &answer[i]);
}

int main(int argc, char **argv)
{
	struct machine m = { 0 };
	const struct engine_stats *st;
	struct program *p;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: three_ways MODEL [SOCKET]\n");
		return 2;
	}
	start(&m, argv[1], argc > 2 ? argv[2] : NULL);
	check(program_create(m.engine, &p, err));
	ask(&m, p);
	st = engine_stats(m.engine);
	printf("prompt tokens: %llu computed, %llu found\n",
	       (unsigned long long)st->nr_prefill,
	       (unsigned long long)st->nr_mapped);
	program_destroy(p);
	stop(&m);
	return 0;
}
