/* SPDX-License-Identifier: MIT */
/*
 * seq.c - sequences with a memory of their own
 */
#include "selftests/libkv/seq.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "include/kv/types.h"

static const struct kv_geometry geoms[2] = {
	{ .page_tokens = 16,
	  .nr_layers = 2,
	  .nr_kv_heads = 2,
	  .head_dim = 16,
	  .elem = KV_ELEM_BF16,
	  .token_stride = 64,
	  .head_stride = 32,
	  .v_offset = 1024,
	  .layer_stride = 2048,
	  .page_bytes = 4096 },
	{ .page_tokens = 16,
	  .nr_layers = 3,
	  .nr_kv_heads = 1,
	  .head_dim = 64,
	  .elem = KV_ELEM_BF16,
	  .token_stride = 128,
	  .head_stride = 128,
	  .v_offset = 2048,
	  .layer_stride = 4096,
	  .page_bytes = 12288 },
};

int seqs_begin(struct seqs *c, struct kv *kv)
{
	u32 a;
	int rc;

	memset(c, 0, sizeof(*c));
	c->kv = kv;
	c->args.nr_areas = 2;
	for (a = 0; a < 2; a++) {
		c->geom[a] = geoms[a];
		rc = kv_geometry_add(kv, &c->geom[a], &c->gid[a]);
		if (rc) {
			printf("geometry %u: %s\n", a, kv_error(kv));
			return rc;
		}
		c->args.area[a].geom = c->gid[a];
		c->args.area[a].nr_heads = c->geom[a].nr_kv_heads;
		c->args.area[a].window = a ? SEQ_WINDOW : 0;
	}
	return 0;
}

int seqs_attach(struct seqs *c, const char *socket, const char *name)
{
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .socket = socket,
				    .name = name };
	struct kv *kv;
	int rc = kv_attach(&o, &kv);

	if (rc) {
		printf("%s\n", kv_attach_error());
		return rc;
	}
	rc = seqs_begin(c, kv);
	if (rc)
		kv_detach(kv);
	return rc;
}

int seq_create(struct seqs *c, struct seq *s)
{
	int rc = kv_space_create(c->kv, &c->args, &s->space);

	if (rc)
		return rc;
	s->len = 0;
	s->live = true;
	return 0;
}

int seq_fork(struct seqs *c, struct seq *parent, u32 len, struct seq *child)
{
	int rc = kv_space_fork(c->kv, parent->space, len, &child->space);

	if (rc)
		return rc;
	memcpy(child->token, parent->token, len * sizeof(u64));
	child->len = len;
	child->live = true;
	return 0;
}

int seq_truncate(struct seqs *c, struct seq *s, u32 len)
{
	int rc = kv_space_truncate(c->kv, s->space, len);

	if (!rc)
		s->len = len;
	return rc;
}

void seq_destroy(struct seqs *c, struct seq *s)
{
	if (s->live)
		kv_space_destroy(c->kv, s->space);
	s->live = false;
}

uint64_t *seq_row(const struct seqs *c, u32 space, u32 area, u32 pos, u32 layer,
		  u32 kind)
{
	const struct kv_geometry *g = &c->geom[area];
	const u32 *table = c->table[area] ? c->table[area]
					  : kv_space_table(c->kv, space, area);
	char *page = (char *)kv_base(c->kv) +
		     (u64)table[pos / g->page_tokens] * g->unit_bytes;

	return (void *)(page + (size_t)layer * g->layer_stride +
			(size_t)(pos % g->page_tokens) * g->token_stride +
			(size_t)kind * g->v_offset);
}

/* The word that fills a row. */
static u64 row_word(u64 token, u32 pos, u32 area, u32 layer, u32 kind)
{
	u64 z = token * 0x9e3779b97f4a7c15ull + pos;

	z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9ull;
	return z + (area << 16 | layer << 8 | kind << 4);
}

void seq_write(struct seqs *c, struct seq *s, u32 pos, u32 n, u64 token)
{
	u32 a, l, k, i, t, words;

	for (t = pos; t < pos + n; t++) {
		s->token[t] = token + (t - pos);
		for (a = 0; a < 2; a++) {
			words = c->geom[a].token_stride / 8;
			for (l = 0; l < c->geom[a].nr_layers; l++) {
				for (k = 0; k < 2; k++) {
					u64 w = row_word(s->token[t], t, a, l,
							 k);
					u64 *row = seq_row(c, s->space, a, t, l,
							   k);

					for (i = 0; i < words; i++)
						row[i] = w + i;
				}
			}
		}
	}
}

static void fault(struct seqs *c, const struct seq *s, u32 area, u32 pos,
		  u32 layer, u32 kind, u64 want, u64 has)
{
	if (c->faults++ < 4)
		printf("space %u area %u token %u of %u layer %u %c: "
		       "%016llx, not %016llx (at %p)\n",
		       s->space, area, pos, s->len, layer, kind ? 'V' : 'K',
		       (unsigned long long)has, (unsigned long long)want,
		       (void *)seq_row(c, s->space, area, pos, layer, kind));
}

static void verify_token(struct seqs *c, const struct seq *s, u32 a, u32 t)
{
	u32 l, k, i, words = c->geom[a].token_stride / 8;

	for (l = 0; l < c->geom[a].nr_layers; l++) {
		for (k = 0; k < 2; k++) {
			u64 w = row_word(s->token[t], t, a, l, k);
			const u64 *row = seq_row(c, s->space, a, t, l, k);

			c->checked++;
			for (i = 0; i < words; i++) {
				if (row[i] == w + i)
					continue;
				fault(c, s, a, t, l, k, w + i, row[i]);
				break;
			}
		}
	}
}

bool seq_verify(struct seqs *c, const struct seq *s, u32 pos)
{
	u64 before = c->faults;
	u32 t, from = pos + 1 > SEQ_WINDOW ? pos + 1 - SEQ_WINDOW : 0;
	u32 every = max(c->every, 1u), first = c->turn++ % every;

	for (t = first; t < pos; t += every)
		verify_token(c, s, 0, t);
	for (t = from + first; t < pos; t += every)
		verify_token(c, s, 1, t);
	return c->faults == before;
}

void seq_items(struct seq *const *s, const u32 *add, u32 nr,
	       struct kv_resv_item *items)
{
	u32 i;

	for (i = 0; i < nr; i++)
		items[i] = (struct kv_resv_item){ .space = s[i]->space,
						  .nr_tokens = add[i],
						  .pos = s[i]->len };
}

int seq_step(struct seqs *c, struct seq *const *s, const u32 *add, u32 nr,
	     u64 token, unsigned int flags, int timeout_ms)
{
	struct kv_resv_item items[SEQ_BATCH] = { 0 };
	struct kv_step *st;
	u32 i, at = 0;
	int rc;

	seq_items(s, add, nr, items);
	rc = kv_step_prepare(c->kv, items, nr, flags, timeout_ms, &st);
	if (rc)
		return rc;
	kv_step_run_copies(c->kv, st);
	for (i = 0; i < nr; i++)
		seq_verify(c, s[i], s[i]->len);
	for (i = 0; i < nr; i++) {
		seq_write(c, s[i], s[i]->len, add[i], token + at);
		at += add[i];
	}
	for (i = 0; i < nr; i++)
		seq_verify(c, s[i], s[i]->len + add[i]);
	kv_step_complete(c->kv, st);
	rc = kv_step_commit(c->kv, st);
	for (i = 0; !rc && i < nr; i++)
		s[i]->len += add[i];
	return rc;
}
