/* SPDX-License-Identifier: MIT */
/*
 * test_forward.c - a step is its calls of the table, and no row too many
 *
 * A tape stands in for struct kern_exec_ops: it keeps each call with a copy of
 * its parameters and computes nothing, or passes the call on as well. Played
 * later on the real table, a tape has to give the bits of a step that ran
 * directly. Arithmetic or a move that went past the table would have run on
 * what was there before, and be missing when the tape is played.
 */
#include "selftests/runtime/engine/rig.h"

#define NR_SEQS	   4u
#define SEQ_TOKENS 80 /* five pages; three windows */
#define LOGIT_ROWS 3u
#define NR_CALLS   512u

struct call;
typedef void (*play_fn)(struct kern_exec *x, const struct kern_exec_ops *ops,
			const struct call *c);

struct call {
	play_fn play;
	void *p; /* copy of the parameters, or of the list */
	u32 nr; /* rows, or length of the list */
	const struct kern_attn_plan *plan;
	u32 more; /* length of a list that has rows too */
};

static struct {
	struct call calls[NR_CALLS];
	u32 nr;
	const struct kern_exec_ops *through; /* NULL: computes nothing */
} tape;

static void tape_keep(struct kern_exec *x, const struct call *c, size_t bytes)
{
	struct call *to = &tape.calls[tape.nr];

	ASSERT_LT(tape.nr, NR_CALLS);
	*to = *c;
	to->p = malloc(bytes);
	ASSERT_TRUE(to->p != NULL);
	memcpy(to->p, c->p, bytes);
	tape.nr++;
	if (tape.through)
		to->play(x, tape.through, to);
}

/* @bytes of @p are what the call is about. */
#define TAPE_FN(fn, bytes)                                                    \
	static void play_##fn(struct kern_exec *x,                            \
			      const struct kern_exec_ops *ops,                \
			      const struct call *c)                           \
	{                                                                     \
		ops->fn(x, c->p, c->nr);                                      \
	}                                                                     \
                                                                              \
	static void tape_##fn(struct kern_exec *x, const struct kern_##fn *p, \
			      u32 nr)                                         \
	{                                                                     \
		const struct call c = { play_##fn, (void *)(uintptr_t)p, nr,  \
					NULL, 0 };                            \
                                                                              \
		tape_keep(x, &c, bytes);                                      \
	}

TAPE_FN(dequant, sizeof(*p))
TAPE_FN(embed, sizeof(*p))
TAPE_FN(round, sizeof(*p))
TAPE_FN(add, sizeof(*p))
TAPE_FN(softcap, sizeof(*p))
TAPE_FN(gemm, nr * sizeof(*p))
TAPE_FN(rope_table, sizeof(*p))
TAPE_FN(rope, sizeof(*p))
TAPE_FN(logits, sizeof(*p))
TAPE_FN(copy, nr * sizeof(*p))

static void play_rmsnorm(struct kern_exec *x, const struct kern_exec_ops *ops,
			 const struct call *c)
{
	ops->rmsnorm(x, c->p, c->more, c->nr);
}

static void tape_rmsnorm(struct kern_exec *x, const struct kern_rmsnorm *p,
			 u32 nr, u32 t)
{
	const struct call c = { .play = play_rmsnorm,
				.p = (void *)(uintptr_t)p,
				.nr = t,
				.more = nr };

	tape_keep(x, &c, nr * sizeof(*p));
}

static void play_gemm_gated(struct kern_exec *x,
			    const struct kern_exec_ops *ops,
			    const struct call *c)
{
	ops->gemm_gated(x, c->p);
}

static void tape_gemm_gated(struct kern_exec *x,
			    const struct kern_gemm_gated *p)
{
	const struct call c = { play_gemm_gated, (void *)(uintptr_t)p, 0, NULL,
				0 };

	tape_keep(x, &c, sizeof(*p));
}

static void play_attn(struct kern_exec *x, const struct kern_exec_ops *ops,
		      const struct call *c)
{
	ops->attn(x, c->p, c->plan);
}

static void tape_attn(struct kern_exec *x, const struct kern_attn *p,
		      const struct kern_attn_plan *plan)
{
	const struct call c = { play_attn, (void *)(uintptr_t)p, 0, plan, 0 };

	tape_keep(x, &c, sizeof(*p));
}

static const struct kern_exec_ops tape_ops = {
	.dequant = tape_dequant,
	.embed = tape_embed,
	.rmsnorm = tape_rmsnorm,
	.round = tape_round,
	.add = tape_add,
	.softcap = tape_softcap,
	.gemm = tape_gemm,
	.gemm_gated = tape_gemm_gated,
	.rope_table = tape_rope_table,
	.rope = tape_rope,
	.attn = tape_attn,
	.logits = tape_logits,
	.copy = tape_copy,
};

static void tape_clear(void)
{
	while (tape.nr)
		free(tape.calls[--tape.nr].p);
}

static void tape_play(struct kern_exec *x)
{
	u32 i;

	for (i = 0; i < tape.nr; i++)
		tape.calls[i].play(x, x->ops, &tape.calls[i]);
	tape_clear();
}

/* Rows that were multiplied by a matrix, all calls together. */
static u32 tape_rows_by(const struct kern_mat *w)
{
	u32 i, k, rows = 0;

	for (i = 0; i < tape.nr; i++) {
		const struct kern_gemm_gated *g = tape.calls[i].p;
		const struct kern_gemm *p = tape.calls[i].p;

		if (tape.calls[i].play == play_gemm_gated &&
		    (g->gate.data == w->data || g->up.data == w->data))
			rows += g->m;
		if (tape.calls[i].play != play_gemm)
			continue;
		for (k = 0; k < tape.calls[i].nr; k++)
			rows += p[k].w.data == w->data ? p[k].m : 0;
	}
	return rows;
}

/* ---- batches ---- */

struct part {
	u32 seq, pos0, nr;
};

struct step {
	struct part parts[NR_SEQS];
	u32 nr_parts;
	u32 out[16]; /* rows that want logits */
	u32 nr_out;
};

/*
 * Prompts in chunks beside decodes: no row wants logits; the last ones of some
 * and one in the middle of a prompt; all; those of a chunk in two places.
 */
static const struct step steps[] = {
	{ .parts = { { 0, 0, 40 }, { 1, 0, 9 } }, .nr_parts = 2 },
	{ .parts = { { 0, 40, 1 }, { 1, 9, 20 }, { 2, 0, 30 }, { 3, 0, 5 } },
	  .nr_parts = 4,
	  .out = { 0, 40, 50, 53, 55 },
	  .nr_out = 5 },
	{ .parts = { { 0, 41, 1 }, { 1, 29, 1 }, { 2, 30, 1 }, { 3, 5, 1 } },
	  .nr_parts = 4,
	  .out = { 0, 1, 2, 3 },
	  .nr_out = 4 },
	{ .parts = { { 3, 6, 60 }, { 2, 31, 1 } },
	  .nr_parts = 2,
	  .out = { 17, 59, 60 },
	  .nr_out = 3 },
};

/* A pass with sequences and pages of its own. */
struct net {
	struct kv_backend *b;
	struct forward *f;
	u32 space[NR_SEQS];
	u32 ids[NR_SEQS * SEQ_TOKENS]; /* of the step */
};

FIXTURE(forward)
{
	struct rig r;
	struct kern_exec x; /* the rig's, with the tape for a table */
	u32 ids[NR_SEQS][SEQ_TOKENS];
};

FIXTURE_VARIANT(forward)
{
	bool gemma;
};

FIXTURE_SETUP(forward)
{
	struct tiny_cfg c = variant->gemma ? tiny_gemma(KV_DTYPE_Q8_0)
					   : tiny_qwen(KV_DTYPE_Q4_K);
	u32 i;

	c.softcap_logits = variant->gemma ? 2 : 0;
	rig_load(&self->r, &c, 2);
	self->x = self->r.x;
	self->x.ops = &tape_ops;
	for (i = 0; i < NR_SEQS; i++)
		rig_ids(&self->r, self->ids[i], SEQ_TOKENS, 70 + i);
}

FIXTURE_TEARDOWN(forward)
{
	tape_clear();
	rig_close(&self->r);
}

FIXTURE_VARIANT_ADD(forward, gemma3){ .gemma = true };
FIXTURE_VARIANT_ADD(forward, qwen2){ .gemma = false };

static void net_open(struct forward_self *self, struct kern_exec *x,
		     struct net *n)
{
	const struct forward_caps caps = { NR_SEQS * SEQ_TOKENS, NR_SEQS, 16,
					   LOGIT_ROWS };
	struct rig *r = &self->r;
	u32 i;

	ASSERT_EQ(0,
		  kv_contig_create(r->m, NR_SEQS, SEQ_TOKENS, &n->b, r->err));
	for (i = 0; i < NR_SEQS; i++)
		ASSERT_EQ(0, n->b->ops->space_create(n->b, &n->space[i]));
	ASSERT_EQ(0, forward_create(r->m, x, n->b->kv, &caps, &n->f, r->err));
}

static void net_close(struct net *n)
{
	forward_free(n->f);
	n->b->ops->destroy(n->b);
}

static u32 net_run(struct forward_self *self, struct net *n,
		   const struct step *s)
{
	struct forward_seq seqs[NR_SEQS];
	struct forward_batch b = {
		.nr_seqs = s->nr_parts,
		.nr_out = s->nr_out,
		.ids = n->ids,
		.seqs = seqs,
		.out_rows = s->out,
	};
	u32 i, a;

	for (i = 0; i < s->nr_parts; i++) {
		const struct part *p = &s->parts[i];

		seqs[i].nr_rows = p->nr;
		seqs[i].pos0 = p->pos0;
		for (a = 0; a < self->r.m->nr_areas; a++)
			seqs[i].table[a] = n->b->ops->space_table(
				n->b, n->space[p->seq], a);
		memcpy(n->ids + b.nr_tokens, self->ids[p->seq] + p->pos0,
		       p->nr * sizeof(u32));
		b.nr_tokens += p->nr;
	}
	ASSERT_EQ(0, forward_run(n->f, &b));
	return b.nr_tokens;
}

TEST_F(forward, a_step_played_from_its_calls_gives_the_same_bits)
{
	struct net direct, taped;
	size_t vocab = self->r.m->hp.vocab;
	u32 i, first, nr;

	net_open(self, &self->r.x, &direct);
	net_open(self, &self->x, &taped);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		net_run(self, &direct, &steps[i]);
		net_run(self, &taped, &steps[i]);
		EXPECT_GT(tape.nr, 0);
		tape_play(&self->r.x);
		for (first = 0; first < steps[i].nr_out; first += nr) {
			float *want, *got;

			nr = min(steps[i].nr_out - first, LOGIT_ROWS);
			want = forward_logits(direct.f, first, nr, NULL, NULL);
			got = forward_logits(taped.f, first, nr, NULL, NULL);
			memset(got, 0xff, nr * vocab * sizeof(*got));
			tape_play(&self->r.x);
			if (memcmp(want, got, nr * vocab * sizeof(*got)))
				th_fail(__FILE__, __LINE__,
					"step %u, rows from %u: others", i,
					first);
		}
	}
	net_close(&taped);
	net_close(&direct);
}

static void expect_rows(const char *what, u32 layer, const struct kern_mat *w,
			u32 rows)
{
	u32 got = tape_rows_by(w);

	if (got != rows)
		th_fail(__FILE__, __LINE__, "%s of layer %u: %u rows, not %u",
			what, layer, got, rows);
}

static void expect_rows_of_layers(const struct model *m, u32 t, u32 nr_out)
{
	u32 i;

	for (i = 0; i < m->hp.nr_layers; i++) {
		const struct model_layer *ly = &m->layers[i];
		u32 rows = i + 1 < m->hp.nr_layers ? t : nr_out;

		expect_rows("q", i, &ly->q, t);
		expect_rows("k", i, &ly->k, t);
		expect_rows("v", i, &ly->v, t);
		expect_rows("o", i, &ly->o, rows);
		expect_rows("gate", i, &ly->gate, rows);
		expect_rows("up", i, &ly->up, rows);
		expect_rows("down", i, &ly->down, rows);
	}
}

TEST_F(forward, the_last_layer_and_the_head_have_the_rows_that_want_logits)
{
	const struct model *m = self->r.m;
	struct net n;
	u32 i, t, first;

	net_open(self, &self->x, &n);
	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		t = net_run(self, &n, &steps[i]);
		expect_rows_of_layers(m, t, steps[i].nr_out);
		EXPECT_EQ(0, tape_rows_by(&m->head));
		for (first = 0; first < steps[i].nr_out; first += LOGIT_ROWS)
			forward_logits(n.f, first,
				       min(steps[i].nr_out - first, LOGIT_ROWS),
				       NULL, NULL);
		EXPECT_EQ(steps[i].nr_out, tape_rows_by(&m->head));
		tape_clear();
	}
	net_close(&n);
}

static u32 nr_new(struct request *const *q, u32 nr)
{
	u32 i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += seq_nr_new(q[i]->seqs[0]);
	return sum;
}

TEST_F(forward, an_engine_asks_for_logits_of_what_it_samples_only)
{
	struct engine_opts o = { .step_tokens = 24, .logit_rows = LOGIT_ROWS };
	struct rig *r = &self->r;
	struct request *q[3];
	u32 i, before, after, steps_without = 0;
	int more;

	ASSERT_EQ(0, kv_contig_create(r->m, 8, 256, &r->b, r->err));
	ASSERT_EQ(0, engine_create(r->m, &self->x, r->b, &o, &r->e, r->err));
	tape.through = r->x.ops;
	for (i = 0; i < 3; i++) {
		struct request_params p =
			rig_params(self->ids[i], 30 + 20 * i, 9);

		q[i] = rig_submit(r, &p);
	}
	do {
		before = nr_new(q, 3);
		more = engine_step(r->e, r->err);
		after = nr_new(q, 3);
		EXPECT_EQ(after - before, tape_rows_by(&r->m->head));
		steps_without += after == before;
		tape_clear();
	} while (more == 1);
	EXPECT_EQ(0, more);
	EXPECT_EQ(27, after);
	EXPECT_GE(steps_without, 1);
}

TEST_HARNESS_MAIN
