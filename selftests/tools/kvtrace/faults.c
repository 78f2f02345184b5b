/* SPDX-License-Identifier: MIT */
/*
 * faults.c - a client that does what its arguments say, then ends
 *
 *	faults PAGE_BYTES WORD...
 *
 *	new			a space; they are numbered from 0 in order
 *	fork:SPACE:LEN		another one
 *	step:SPACE:POS:NR	a step of NR tokens, which waits for memory
 *	try:SPACE:POS:NR	one that does not, and has to be refused
 *	pause:MSEC		nothing
 *	publish:SPACE:NR	let others find its first NR tokens
 *	filled			wait until they can be found
 *	map:SPACE:NR		begin it with what is found of NR tokens
 *
 * A page has 16 tokens.
 */
#include <errno.h>
#include <kv.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPACES 64
#define TOKENS 1024

struct script {
	struct kv *kv;
	struct kv_space_args args;
	uint32_t space[SPACES];
	unsigned int nr_spaces;
};

static int step(struct script *s, unsigned long *arg, unsigned int flags)
{
	struct kv_resv_item item = { .nr_tokens = (uint32_t)arg[2],
				     .pos = arg[1] };
	struct kv_step *st;
	int rc;

	if (arg[0] >= s->nr_spaces)
		return -1;
	item.space = s->space[arg[0]];
	rc = kv_step_prepare(s->kv, &item, 1, flags, 20000, &st);
	if (!flags)
		return rc ? 0 : -1;
	if (rc)
		return rc;
	kv_step_run_copies(s->kv, st);
	kv_step_complete(s->kv, st);
	return kv_step_commit(s->kv, st);
}

/* Token n of every sequence has the id n. */
static int prefix(struct script *s, unsigned long *arg, bool publish)
{
	uint32_t ids[TOKENS];
	uint64_t len;
	uint32_t i, nr = (uint32_t)arg[1];

	if (arg[0] >= s->nr_spaces || nr > TOKENS)
		return -1;
	for (i = 0; i < nr; i++)
		ids[i] = i;
	if (publish)
		return kv_prefix_publish(s->kv, s->space[arg[0]], ids, nr, 0,
					 &len);
	return kv_prefix_map(s->kv, s->space[arg[0]], ids, nr, &len);
}

/* What was published is found when its copies have ended. */
static int await_filled(void)
{
	char *json;
	int i, rc = -ETIMEDOUT;

	for (i = 0; i < 20000 && rc == -ETIMEDOUT; i++) {
		usleep(1000);
		rc = kv_ctl(NULL, KV_HELLO_ADMIN, "cache list", &json);
		if (!rc && !strstr(json, "\"pages_copying\":0"))
			rc = -ETIMEDOUT;
		free(json);
	}
	return rc;
}

static int word(struct script *s, const char *w)
{
	unsigned long arg[3] = { 0 };
	const char *at = strchr(w, ':');
	unsigned int i;

	for (i = 0; at && i < 3; i++) {
		arg[i] = strtoul(at + 1, NULL, 10);
		at = strchr(at + 1, ':');
	}
	if (!strncmp(w, "step:", 5))
		return step(s, arg, KV_STEP_WAIT);
	if (!strncmp(w, "try:", 4))
		return step(s, arg, 0);
	if (!strncmp(w, "pause:", 6))
		return usleep((useconds_t)arg[0] * 1000);
	if (!strcmp(w, "filled"))
		return await_filled();
	if (!strncmp(w, "publish:", 8) || !strncmp(w, "map:", 4))
		return prefix(s, arg, *w == 'p');
	if (s->nr_spaces == SPACES)
		return -1;
	if (!strcmp(w, "new"))
		return kv_space_create(s->kv, &s->args,
				       &s->space[s->nr_spaces++]);
	if (!strncmp(w, "fork:", 5) && arg[0] < s->nr_spaces)
		return kv_space_fork(s->kv, s->space[arg[0]], arg[1],
				     &s->space[s->nr_spaces++]);
	return -1;
}

static int run(struct script *s, int argc, char **argv)
{
	uint32_t bytes = (uint32_t)strtoul(argv[1], NULL, 10);
	struct kv_geometry g = { .page_tokens = 16,
				 .nr_layers = bytes / 8192,
				 .nr_kv_heads = 1,
				 .head_dim = 128,
				 .elem = KV_ELEM_BF16,
				 .token_stride = 512,
				 .head_stride = 256,
				 .v_offset = 256,
				 .layer_stride = 8192,
				 .page_bytes = bytes };
	int i, rc = kv_geometry_add(s->kv, &g, &s->args.area[0].geom);

	s->args.nr_areas = 1;
	s->args.area[0].nr_heads = 1;
	for (i = 2; !rc && i < argc; i++) {
		rc = word(s, argv[i]);
		if (rc)
			fprintf(stderr, "faults: %s: %d\n", argv[i], rc);
	}
	return rc;
}

int main(int argc, char **argv)
{
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .name = "faults",
				    .timeout_ms = 60000 };
	struct script s = { 0 };
	int rc;

	if (argc < 3)
		return 2;
	rc = kv_attach(&o, &s.kv);
	if (rc) {
		fprintf(stderr, "faults: %s\n", kv_attach_error());
		return 1;
	}
	rc = run(&s, argc, argv);
	kv_detach(s.kv);
	return rc ? 1 : 0;
}
