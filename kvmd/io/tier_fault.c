/* SPDX-License-Identifier: MIT */
/*
 * tier_fault.c - a tier that does to pages what disks do
 *
 * `--swap-fault KIND:RATE[,KIND:RATE...][:SEED]` puts it in front of each tier,
 * for tests. Of all requests, the share RATE of each kind goes wrong:
 *
 *	flip		one bit is another, as it is written or read
 *	torn		the second half of a write never arrives
 *	short		half is moved, then it ends as a full disk or file does
 *	misdirected	another place is written, or read
 *	reordered	a write is told to be done, and lands behind later ones
 *	enospc		a write fails
 *	eio		a request fails
 *	stuck		a request does not end; it is carried out much later,
 *			in the same memory
 *	all		each of these
 *
 * Nothing is told of the first four but what a real disk would tell: a page's
 * checksum has to find them. What is held back (reordered, stuck) goes on
 * after some more requests, or when somebody waits without the loop.
 *
 * Memory as a tier is read and written through requests here, by the loop
 * itself: two that meet in one place, as misdirected ones do, are no race.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "lib/hash.h"

enum fault_kind {
	FAULT_FLIP,
	FAULT_TORN,
	FAULT_SHORT,
	FAULT_MISDIRECTED,
	FAULT_REORDERED,
	FAULT_ENOSPC,
	FAULT_EIO,
	FAULT_STUCK,
	FAULT_NR, /* none */
};

#define STUCK_FOR     64u /* requests, and up to as many more */
#define REORDERED_FOR 1u
#define CLOSE_ROUNDS  100
#define CLOSE_MS      10

static const struct {
	const char *name;
	bool reads; /* not of writes alone */
} kinds[FAULT_NR] = {
	[FAULT_FLIP] = { "flip", true },
	[FAULT_TORN] = { "torn", false },
	[FAULT_SHORT] = { "short", true },
	[FAULT_MISDIRECTED] = { "misdirected", true },
	[FAULT_REORDERED] = { "reordered", false },
	[FAULT_ENOSPC] = { "enospc", false },
	[FAULT_EIO] = { "eio", true },
	[FAULT_STUCK] = { "stuck", true },
};

/* A request on its way; @outer is NULL when its end was told before. */
struct fault_io {
	struct tier *t;
	struct tier_req *outer;
	struct tier_req inner;
	enum fault_kind kind;
	u32 patience; /* held: requests until it goes on */
	int err; /* to be told if the rest goes well */
	void *copy; /* of a write that was told to be done */
	struct work work;
	TAILQ_ENTRY(fault_io) link;
};

struct fault_tier {
	struct tier *inner;
	double rate[FAULT_NR];
	u64 seed;
	u64 *nr;
	u32 nr_out; /* inner requests, and ends that are still to be told */
	TAILQ_HEAD(, fault_io) held;
};

static enum fault_kind draw(struct fault_tier *f, bool write)
{
	double u = (double)(hash_random(&f->seed) >> 11) * 0x1p-53;
	unsigned int k;

	for (k = 0; k < FAULT_NR; k++) {
		if (u < f->rate[k])
			break;
		u -= f->rate[k];
	}
	return k < FAULT_NR && !write && !kinds[k].reads ? FAULT_NR : k;
}

static void flip(struct fault_tier *f, const struct tier_req *req)
{
	u64 bit = hash_random(&f->seed) % (req->bytes * 8ull);

	((unsigned char *)req->buf)[bit / 8] ^= (unsigned char)(1 << bit % 8);
}

/* ---- the end of one ---- */

static void io_end(struct fault_io *io, int err)
{
	struct fault_tier *f = io->t->priv;
	struct tier_req *outer = io->outer;

	f->nr_out--;
	if (io->kind == FAULT_FLIP && outer && !outer->write && !err)
		flip(f, outer);
	err = err ? err : io->err;
	free(io->copy);
	free(io);
	if (outer)
		tier_end(outer, err);
}

static void inner_done(struct tier_req *req)
{
	io_end(container_of(req, struct fault_io, inner), req->err);
}

static void nothing_to_run(struct work *w)
{
}

/* In memory: the loop does it, when it would be told that it is done. */
static void memory_done(struct work *w)
{
	struct fault_io *io = container_of(w, struct fault_io, work);
	struct fault_tier *f = io->t->priv;
	struct tier_req *req = &io->inner;
	void *at = tier_at(f->inner, req->off);

	if (req->bytes && req->write)
		memcpy(at, req->buf, req->bytes);
	else if (req->bytes)
		memcpy(req->buf, at, req->bytes);
	io_end(io, 0);
}

/* Move io->inner, or tell the end if there is nothing to move. */
static void io_begin(struct fault_io *io)
{
	struct fault_tier *f = io->t->priv;

	f->nr_out++;
	if (io->inner.bytes && !tier_at(f->inner, io->inner.off)) {
		tier_submit(&io->inner);
		return;
	}
	io->work.run = nothing_to_run;
	io->work.done = memory_done;
	work_submit(io->t->env.pool, &io->work);
}

/* ---- held back ---- */

static void hold(struct fault_tier *f, struct fault_io *io, u32 least)
{
	io->patience = least + (u32)(hash_random(&f->seed) % least);
	TAILQ_INSERT_TAIL(&f->held, io, link);
}

/* One more request has come, or, at the end, all go on. */
static void let_go(struct fault_tier *f, bool all)
{
	struct fault_io *io, *next;

	for (io = TAILQ_FIRST(&f->held); io; io = next) {
		next = TAILQ_NEXT(io, link);
		if (--io->patience && !all)
			continue;
		TAILQ_REMOVE(&f->held, io, link);
		io_begin(io);
	}
}

/* The write is told to be done; a copy of it lands later. */
static int reorder(struct fault_tier *f, struct fault_io *io)
{
	struct fault_io *later = calloc(1, sizeof(*later));

	if (!later)
		return -ENOMEM;
	*later = *io;
	if (posix_memalign(&later->copy, TIER_ALIGN, io->inner.bytes)) {
		free(later);
		return -ENOMEM;
	}
	memcpy(later->copy, io->inner.buf, io->inner.bytes);
	later->inner.buf = later->copy;
	later->outer = NULL;
	io->inner.bytes = 0;
	hold(f, later, REORDERED_FOR);
	return 0;
}

/* ---- the table ---- */

static void spoil(struct fault_tier *f, struct fault_io *io)
{
	struct tier_req *req = &io->inner;
	u32 half = req->bytes / 2 - req->bytes / 2 % TIER_ALIGN;

	switch (io->kind) {
	case FAULT_FLIP:
		if (req->write)
			flip(f, req);
		break;
	case FAULT_SHORT:
		io->err = req->write ? -ENOSPC : -EIO;
		req->bytes = half;
		break;
	case FAULT_TORN:
		req->bytes = half;
		break;
	case FAULT_MISDIRECTED:
		req->off = hash_random(&f->seed) %
			   ((io->t->bytes - req->bytes) / TIER_ALIGN + 1) *
			   TIER_ALIGN;
		break;
	case FAULT_REORDERED:
		io->err = reorder(f, io);
		break;
	case FAULT_ENOSPC:
		io->err = -ENOSPC;
		req->bytes = 0;
		break;
	case FAULT_EIO:
		io->err = -EIO;
		req->bytes = 0;
		break;
	default:
		break;
	}
	if (io->kind != FAULT_NR && f->nr)
		++*f->nr;
}

static void fault_submit(struct tier *t, struct tier_req *req)
{
	struct fault_tier *f = t->priv;
	struct fault_io *io = calloc(1, sizeof(*io));

	let_go(f, false);
	if (!io) {
		tier_end(req, -ENOMEM);
		return;
	}
	io->t = t;
	io->outer = req;
	io->kind = draw(f, req->write);
	io->inner.tier = f->inner;
	io->inner.write = req->write;
	io->inner.bytes = req->bytes;
	io->inner.off = req->off;
	io->inner.buf = req->buf;
	io->inner.pool = req->pool;
	io->inner.done = inner_done;
	spoil(f, io);
	if (io->kind == FAULT_STUCK)
		hold(f, io, STUCK_FOR);
	else
		io_begin(io);
}

static void fault_kick(struct tier *t)
{
	tier_kick(((struct fault_tier *)t->priv)->inner);
}

static void fault_wait(struct tier *t, int ms)
{
	struct fault_tier *f = t->priv;

	let_go(f, true);
	tier_wait(f->inner, f->inner->nr_out ? ms : 0);
	if (f->nr_out > f->inner->nr_out)
		work_pool_wait(t->env.pool, ms);
}

static int fault_discard(struct tier *t, u64 off, u64 bytes)
{
	struct fault_tier *f = t->priv;

	return f->inner->ops->discard
		       ? f->inner->ops->discard(f->inner, off, bytes)
		       : 0;
}

static void fault_forget(struct tier *t, u64 off)
{
	tier_forget(((struct fault_tier *)t->priv)->inner, off);
}

static bool is_out(const struct fault_tier *f)
{
	return f->nr_out || !TAILQ_EMPTY(&f->held);
}

/*
 * What was told to be done is nobody's late request, and is waited for here. If
 * there are late ones all of it has been, with them.
 */
static void fault_close(struct tier *t)
{
	struct fault_tier *f = t->priv;
	int i;

	for (i = 0; is_out(f) && !t->nr_late && i < CLOSE_ROUNDS; i++)
		fault_wait(t, CLOSE_MS);
	if (f->nr_out > f->inner->nr_out) /* a job's end finds both tiers */
		t->busy = true;
	f->inner->busy = t->busy;
	tier_close(f->inner);
	if (!f->nr_out && !t->busy)
		free(f);
}

/* KIND:RATE of @len bytes. Return: 0 or -EINVAL. */
static int parse_rule(struct fault_tier *f, const char *text, size_t len)
{
	size_t word = strcspn(text, ":");
	bool all = word == 3 && !strncmp(text, "all", 3), known = all;
	unsigned int k;
	double rate;
	char *end;

	if (word >= len)
		return -EINVAL;
	rate = strtod(text + word + 1, &end);
	if (end != text + len || !isfinite(rate) || rate < 0 || rate > 1)
		return -EINVAL;
	for (k = 0; k < FAULT_NR; k++) {
		if (!all && (strlen(kinds[k].name) != word ||
			     strncmp(kinds[k].name, text, word)))
			continue;
		f->rate[k] = rate;
		known = true;
	}
	return known ? 0 : -EINVAL;
}

static int parse_spec(struct fault_tier *f, const char *p)
{
	size_t len, rule;
	char *end;
	int rc;

	do {
		len = strcspn(p, ",");
		rule = strcspn(p, ":");
		rule += rule < len ? 1 + strcspn(p + rule + 1, ":,") : 0;
		rc = parse_rule(f, p, rule);
		if (!rc && rule < len) { /* the seed, behind the last one */
			errno = 0;
			f->seed = strtoull(p + rule + 1, &end, 10);
			if (errno || end == p + rule + 1 || *end)
				rc = -EINVAL;
		}
		p += len + (p[len] == ',');
	} while (!rc && *p);
	return rc;
}

static int fault_open(struct tier *t, const char *spec, char *err)
{
	struct fault_tier *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, -ENOMEM, "swap fault: no memory");
	f->seed = 1;
	TAILQ_INIT(&f->held);
	if (parse_spec(f, spec)) {
		free(f);
		return err_set(err, -EINVAL,
			       "swap fault %s: not KIND:RATE[,...][:SEED]",
			       spec);
	}
	t->priv = f;
	return 0;
}

static const struct tier_ops tier_fault_ops = {
	.name = "fault",
	.open = fault_open,
	.close = fault_close,
	.submit = fault_submit,
	.kick = fault_kick,
	.wait = fault_wait,
	.discard = fault_discard,
	.forget = fault_forget,
};

int tier_fault(const char *spec, struct tier **t, u64 *nr, char *err)
{
	struct fault_tier *f;
	struct tier *outer;
	int rc = tier_open(&tier_fault_ops, spec, (*t)->bytes, &(*t)->env,
			   &outer, err);

	if (rc)
		return rc;
	f = outer->priv;
	f->inner = *t;
	outer->room = (*t)->room;
	f->inner->env.deadline_ns = 0; /* the one in front has it */
	f->nr = nr;
	outer->outlives = f->inner->outlives;
	*t = outer;
	return 0;
}
