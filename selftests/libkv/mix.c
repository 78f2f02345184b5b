/* SPDX-License-Identifier: MIT */
/*
 * mix.c - a client that does everything at random and checks everything
 *
 * The choices depend on the seed and on which steps found memory. Where there
 * is enough (the bystanders of the kill tests), they depend on the seed only,
 * and so does the digest of what was written.
 */
#include "selftests/libkv/mix.h"
#include "selftests/harness.h"
#include "include/kv/types.h"

void mix_begin(struct mix *m, u64 seed, u32 len_max)
{
	u32 i;

	m->rand = seed;
	m->len_max = min(len_max, SEQ_LEN_MAX);
	m->token = 1 + (seed & 0xffff) * 1000003;
	m->digest = m->nr_ops = m->nr_steps = m->nr_forks = 0;
	m->nr_short = m->nr_tickets = 0;
	m->rc = 0;
	for (i = 0; i < MIX_SEQS; i++)
		m->seq[i].live = false;
}

/* No answer but these is one a correct client may get. */
static bool wrong(struct mix *m, int rc, const char *what)
{
	if (!rc || rc == -EAGAIN || rc == -EDEADLK || rc == -ETIMEDOUT ||
	    rc == -E2BIG)
		return false;
	printf("%s: %d: %s\n", what, rc, kv_error(m->c.kv));
	m->rc = rc;
	return true;
}

/* Memory is short: give up a sequence, the longest for choice. */
static void give_way(struct mix *m)
{
	struct seq *most = NULL;
	u32 i;

	m->nr_short++;
	for (i = 0; i < MIX_SEQS; i++) {
		if (m->seq[i].live && (!most || m->seq[i].len > most->len))
			most = &m->seq[i];
	}
	if (most)
		seq_destroy(&m->c, most);
	if (test_rand(&m->rand) % 4 == 0)
		kv_shrink(m->c.kv);
}

/* A step that is asked for ahead, or given up, or both. */
static int detour(struct mix *m, struct seq *const *s, const u32 *add, u32 nr,
		  u64 r)
{
	struct kv_resv_item items[SEQ_BATCH] = { 0 };
	struct kv_step *st;
	int rc = 0;

	seq_items(s, add, nr, items);
	if (r & 1)
		rc = kv_step_prefetch(m->c.kv, items, nr);
	if (rc == -EBUSY)
		rc = 0;
	if (!rc && (r & 6) == 6) {
		rc = kv_step_prepare(m->c.kv, items, nr, 0, 0, &st);
		if (!rc)
			kv_step_abandon(m->c.kv, st);
	}
	return rc;
}

static bool do_step(struct mix *m, u64 r)
{
	struct seq *s[SEQ_BATCH];
	u32 add[SEQ_BATCH], nr = 0, want = 1 + (u32)(r % 4), i, sum = 0;
	u32 at = (u32)(r >> 8) % MIX_SEQS;
	unsigned int flags = 0;
	int rc;

	for (i = 0; i < MIX_SEQS && nr < want; i++) {
		struct seq *q = &m->seq[(at + i) % MIX_SEQS];
		u32 n = 1 + (u32)(test_rand(&m->rand) % 20);

		if (!q->live || q->len + n > m->len_max)
			continue;
		s[nr] = q;
		add[nr++] = n;
		sum += n;
	}
	if (!nr)
		return true;
	rc = detour(m, s, add, nr, r >> 16);
	if (wrong(m, rc, "prefetch"))
		return false;
	if (rc) {
		give_way(m);
		return true;
	}
	if ((r >> 24 & 7) == 0)
		flags = KV_STEP_WAIT;
	m->nr_tickets += flags != 0;
	rc = seq_step(&m->c, s, add, nr, m->token, flags, (int)(r >> 28 & 7));
	if (wrong(m, rc, "step"))
		return false;
	if (rc) {
		give_way(m);
		return true;
	}
	for (i = 0; i < sum; i++)
		m->digest = m->digest * 6364136223846793005ull + m->token + i;
	m->token += sum;
	m->nr_steps++;
	return true;
}

static bool do_fork(struct mix *m, struct seq *p, u64 r)
{
	struct seq *ch = &m->seq[(r >> 16) % MIX_SEQS];
	u32 back = (u32)(r >> 24) % 4;
	int rc;

	if (ch == p)
		return true;
	seq_destroy(&m->c, ch);
	rc = seq_fork(&m->c, p, p->len - min(back, p->len), ch);
	if (rc == -ENODATA)
		return true;
	m->nr_forks++;
	return !wrong(m, rc, "fork");
}

static bool do_truncate(struct mix *m, struct seq *q, u64 r)
{
	u32 back = (u32)(r >> 16) % 24;
	int rc = seq_truncate(&m->c, q, q->len - min(back, q->len));

	return rc == -ENODATA || !wrong(m, rc, "truncate");
}

/* A quiet hour: everything goes, the memory too. */
static bool do_leave(struct mix *m)
{
	u32 i;
	int rc;

	for (i = 0; i < MIX_SEQS; i++)
		seq_destroy(&m->c, &m->seq[i]);
	rc = kv_shrink(m->c.kv);
	return rc >= 0 || !wrong(m, rc, "shrink");
}

bool mix_op(struct mix *m)
{
	u64 r = test_rand(&m->rand), before = m->c.faults;
	struct seq *q = &m->seq[(r >> 40) % MIX_SEQS];
	bool ok = true;

	m->nr_ops++;
	if ((r >> 50) % 400 == 0)
		ok = do_leave(m);
	else if (!q->live)
		ok = !wrong(m, seq_create(&m->c, q), "create");
	else if (q->len + 20 > m->len_max || r % 32 == 0)
		seq_destroy(&m->c, q);
	else if (r % 32 < 4)
		ok = do_fork(m, q, r);
	else if (r % 32 < 6)
		ok = do_truncate(m, q, r);
	else
		ok = do_step(m, r >> 5);
	return ok && m->c.faults == before;
}

bool mix_verify(struct mix *m)
{
	struct seq *s;
	u32 i, add = 1;

	for (i = 0; i < MIX_SEQS; i++) {
		s = &m->seq[i];
		if (!s->live || s->len + 1 > SEQ_LEN_MAX)
			continue;
		if (wrong(m, seq_step(&m->c, &s, &add, 1, m->token++, 0, 0),
			  "last step"))
			return false;
	}
	return !m->c.faults;
}
