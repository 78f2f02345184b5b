/* SPDX-License-Identifier: MIT */
/*
 * feed.c - the engine's thread: jobs in, tokens out
 *
 *	loop	take what was submitted, and what is to be cancelled
 *		attend (kvmd may want something)
 *		one step; its callbacks fill a batch
 *		put the batch, then the jobs that are done; wake the clients
 *
 * The batch is put before the jobs, and the other side takes the jobs before
 * the batches: so a job that it sees has no token that it does not see.
 *
 * Memory that runs out in a callback costs the request its life, nothing else;
 * that a job is done needs no memory to be said.
 *
 * Who waits for device memory inside a step is stopped by the word that libkv
 * looks at while it waits (20 ms): a cancelled request does not hold its pages
 * until somebody else's come free.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "runtime/server/feed.h"

#define ATTEND_MS 200 /* how often the idle engine looks after kvmd */

struct job_seq {
	_Atomic bool cancel;
	double cum; /* before the last token */
};

struct feed {
	int to_engine, to_clients; /* eventfds */
	int stop; /* libkv reads it */
	_Atomic bool ending;
	struct pile submitted, batches, done;

	pthread_mutex_t lock; /* state */
	struct feed_state state;

	/* the clients' */
	bool withdrawn; /* one of those that are submitted is cancelled */

	/* the engine thread's */
	struct job **live; /* [nr_live] */
	u32 nr_live, max_live;
	struct feed_batch *batch; /* of the step at hand, or NULL */
	u64 nr_busy;
	double busy_s, host_s, last_s;
};

int feed_create(struct feed **out)
{
	struct feed *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	pthread_mutex_init(&f->lock, NULL);
	f->to_engine = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->to_clients = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->to_engine < 0 || f->to_clients < 0) {
		int rc = -errno;

		feed_destroy(f);
		return rc;
	}
	*out = f;
	return 0;
}

void feed_destroy(struct feed *f)
{
	struct pile_link *b, *j, *next;

	if (!f)
		return;
	feed_take(f, &b, &j);
	for (; b; b = next) {
		next = b->next;
		feed_batch_free(container_of(b, struct feed_batch, link));
	}
	if (f->to_engine >= 0)
		close(f->to_engine);
	if (f->to_clients >= 0)
		close(f->to_clients);
	pthread_mutex_destroy(&f->lock);
	free(f->live);
	free(f);
}

const volatile int *feed_stop_word(const struct feed *f)
{
	return &f->stop;
}

static void wake(int fd)
{
	const u64 one = 1;

	/* Full is awake. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static void unwake(int fd)
{
	u64 n;

	if (read(fd, &n, sizeof(n)) < 0)
		return;
}

/* ---- callbacks of a step ---- */

/* An event at the end of the batch, with room for its alternatives. */
static struct feed_event *batch_grow(struct feed *f, u32 nr_top)
{
	struct feed_batch *b = f->batch;
	void *p;
	u32 cap;

	if (!b) {
		b = f->batch = calloc(1, sizeof(*b));
		if (!b)
			return NULL;
	}
	if (b->nr == b->cap) {
		cap = max(2 * b->cap, 64u);
		p = realloc(b->ev, cap * sizeof(*b->ev));
		if (!p)
			return NULL;
		b->ev = p;
		b->cap = cap;
	}
	if (b->nr_top + nr_top > b->cap_top) {
		cap = max(2 * b->cap_top, b->nr_top + nr_top);
		p = realloc(b->top, cap * sizeof(*b->top));
		if (!p)
			return NULL;
		b->top = p;
		b->cap_top = cap;
	}
	return &b->ev[b->nr];
}

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct job *j = ctx;
	struct feed *f = j->feed;
	const struct seq *s = r->seqs[seq];
	u32 k = r->p.nr_logprobs;
	struct feed_event *ev = batch_grow(f, k);

	j->answers = true;
	if (!ev) {
		j->lost = true;
		return;
	}
	*ev = (struct feed_event){
		.job = j,
		.seq = seq,
		.id = id,
		.finish = s->finish,
		.lp = s->cum - j->seqs[seq].cum,
		.top = f->batch->nr_top,
	};
	j->seqs[seq].cum = s->cum;
	if (k)
		memcpy(f->batch->top + f->batch->nr_top,
		       s->lps + (size_t)(seq_nr_new(s) - 1) * k,
		       k * sizeof(*s->lps));
	f->batch->nr_top += k;
	f->batch->nr++;
}

/* A prompt that is computed again later says nothing new. */
static void on_prompt_score(struct request *r, u32 pos, double lp,
			    const struct token_logprob *top, void *ctx)
{
	struct job *j = ctx;
	u32 k = r->p.nr_logprobs;

	if (j->answers || !j->score)
		return;
	j->score[pos] = lp;
	if (k)
		memcpy(j->score_top + (size_t)pos * k, top, k * sizeof(*top));
}

/* Who cancels it looks at begun; and may have done so just before. */
static void on_begun(struct request *r, void *ctx)
{
	struct job *j = ctx;

	(void)r;
	atomic_store(&j->begun, true);
	if (atomic_load(&j->cancel))
		__atomic_store_n(&j->feed->stop, 1, __ATOMIC_SEQ_CST);
}

static void on_done(struct request *r, void *ctx)
{
	struct job *j = ctx;

	j->done = true;
	if (r->error && !j->error) {
		j->error = r->error;
		j->message = r->message ? strdup(r->message) : NULL;
	}
}

static const struct request_events events = {
	.begun = on_begun,
	.token = on_token,
	.prompt_score = on_prompt_score,
	.done = on_done,
};

/* ---- the loop ---- */

static void give_job_back(struct feed *f, struct job *j, int rc,
			  const char *message)
{
	if (rc && !j->error) {
		j->error = rc;
		j->message = strdup(message);
	}
	pile_put(&f->done, &j->link);
	wake(f->to_clients);
}

static int make_room(struct feed *f)
{
	u32 cap = max(64u, 2 * f->max_live);
	void *p;

	if (f->nr_live < f->max_live)
		return 0;
	p = realloc(f->live, cap * sizeof(*f->live));
	if (!p)
		return -ENOMEM;
	f->live = p;
	f->max_live = cap;
	return 0;
}

static void submit_one(struct feed *f, struct engine *e, struct job *j)
{
	char err[KV_ERRLEN] = "no memory for another request";
	int rc;

	if (atomic_load(&j->cancel_all)) {
		give_job_back(f, j, 0, NULL);
		return;
	}
	rc = make_room(f);
	if (!rc)
		rc = engine_submit(e, &j->p, &j->req, err);
	if (rc)
		give_job_back(f, j, rc, err);
	else
		f->live[f->nr_live++] = j;
}

static void take_submitted(struct feed *f, struct engine *e)
{
	struct pile_link *l, *next;

	for (l = pile_take(&f->submitted); l; l = next) {
		next = l->next;
		submit_one(f, e, container_of(l, struct job, link));
	}
}

static void cancel_one(struct engine *e, struct job *j)
{
	u32 i;

	if (atomic_load(&j->cancel_all) || j->lost) {
		engine_cancel(e, j->req);
		return;
	}
	for (i = 0; i < j->p.n && !j->done; i++)
		if (atomic_exchange(&j->seqs[i].cancel, false))
			engine_cancel_seq(e, j->req, i);
}

static void cancel_some(struct feed *f, struct engine *e)
{
	u32 i;

	/* before the flags are looked at: a later one sets it again */
	__atomic_store_n(&f->stop, 0, __ATOMIC_SEQ_CST);
	for (i = 0; i < f->nr_live; i++) {
		struct job *j = f->live[i];

		if (j->done || (!j->lost && !atomic_load(&j->cancel)))
			continue;
		atomic_store(&j->cancel, false);
		if (j->lost && !j->error) {
			j->error = -ENOMEM;
			j->message = strdup("no memory for a token");
		}
		cancel_one(e, j);
	}
}

/* Who has begun, who is done. */
static void sweep(struct feed *f, struct engine *e, double step_s)
{
	u32 i, to = 0;

	for (i = 0; i < f->nr_live; i++) {
		struct job *j = f->live[i];

		if (!j->started_s && atomic_load(&j->begun))
			j->started_s = step_s;
		if (!j->done) {
			f->live[to++] = j;
			continue;
		}
		j->nr_cached = j->req->nr_cached;
		engine_forget(e, j->req);
		j->req = NULL;
		give_job_back(f, j, 0, NULL);
	}
	f->nr_live = to;
}

static void put_batch(struct feed *f, double now)
{
	if (!f->batch)
		return;
	f->batch->made_s = now;
	pile_put(&f->batches, &f->batch->link);
	f->batch = NULL;
	wake(f->to_clients);
}

static void note_state(struct feed *f, const struct engine *e)
{
	u32 running = engine_running(e);

	pthread_mutex_lock(&f->lock);
	f->state.stats = *engine_stats(e);
	f->state.nr_running = running;
	f->state.nr_waiting = f->nr_live - running;
	f->state.nr_busy = f->nr_busy;
	f->state.busy_s = f->busy_s;
	f->state.host_s = f->host_s;
	pthread_mutex_unlock(&f->lock);
}

/* From the end of the last step to the end of this one. */
static void note_time(struct feed *f, const struct engine_stats *before,
		      const struct engine_stats *after, double now)
{
	double took = now - f->last_s;

	if (after->nr_steps != before->nr_steps && f->last_s) {
		f->nr_busy++;
		f->busy_s += took;
		f->host_s += took - (after->compute_s - before->compute_s);
	}
	f->last_s = now;
}

static void sleep_until_woken(struct feed *f)
{
	struct pollfd p = { .fd = f->to_engine, .events = POLLIN };

	f->last_s = 0.0;
	if (poll(&p, 1, ATTEND_MS) > 0)
		unwake(f->to_engine);
}

/* Everybody's end, and that of all who come until feed_end(). */
static void fail_all(struct feed *f, const struct feed_engine *fe, int rc,
		     const char *err)
{
	struct engine *e = fe->e;
	struct pile_link *l, *next;
	u32 i;

	for (i = 0; i < f->nr_live; i++) {
		struct job *j = f->live[i];

		if (!j->error) {
			j->error = rc;
			j->message = strdup(err);
		}
		engine_cancel(e, j->req);
	}
	put_batch(f, clock_s());
	sweep(f, e, clock_s());
	note_state(f, e);
	fe->failed(fe->ctx);
	while (!atomic_load(&f->ending)) {
		for (l = pile_take(&f->submitted); l; l = next) {
			next = l->next;
			give_job_back(f, container_of(l, struct job, link), rc,
				      err);
		}
		sleep_until_woken(f);
	}
}

static int one_step(struct feed *f, const struct feed_engine *fe, char *err)
{
	const struct engine_stats before = *engine_stats(fe->e);
	double start = clock_s(), now;
	int rc = engine_step(fe->e, err);

	now = clock_s();
	put_batch(f, now);
	sweep(f, fe->e, start);
	note_time(f, &before, engine_stats(fe->e), clock_s());
	return rc == -EINTR ? 0 : rc;
}

int feed_run(struct feed *f, const struct feed_engine *fe, char *err)
{
	int rc = 0;

	while (rc >= 0) {
		take_submitted(f, fe->e);
		cancel_some(f, fe->e);
		rc = fe->attend(fe->ctx, err);
		if (rc < 0)
			break;
		if (f->nr_live) {
			rc = one_step(f, fe, err);
			note_state(f, fe->e);
			continue;
		}
		if (atomic_load(&f->ending))
			return 0;
		sleep_until_woken(f);
	}
	fail_all(f, fe, rc, err);
	return rc;
}

/* ---- the clients' side ---- */

struct job *feed_job(u32 n)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->p.n = n;
	j->seqs = calloc(n, sizeof(*j->seqs));
	if (j->seqs)
		return j;
	free(j);
	return NULL;
}

int feed_job_scores(struct job *j)
{
	size_t n = j->p.nr_prompt;

	j->score = calloc(n, sizeof(*j->score));
	j->score_top = calloc(n * j->p.nr_logprobs + 1, sizeof(*j->score_top));
	return j->score && j->score_top ? 0 : -ENOMEM;
}

void feed_job_free(struct job *j)
{
	if (!j)
		return;
	free(j->score);
	free(j->score_top);
	free(j->prompt);
	free(j->ends);
	free(j->message);
	free(j->seqs);
	free(j);
}

void feed_submit(struct feed *f, struct job *j)
{
	j->feed = f;
	j->p.prompt = j->prompt;
	j->p.events = &events;
	j->p.ctx = j;
	j->submitted_s = clock_s();
	pile_put(&f->submitted, &j->link);
	wake(f->to_engine);
}

/*
 * A wait for memory goes on if @j has no part in it: the ticket would be a new
 * one, at the end of the line. So @j comes back when that wait has ended, if
 * the engine has it; else without the engine: withdraw().
 */
static void look_at(struct feed *f, struct job *j)
{
	atomic_store(&j->cancel, true);
	if (atomic_load(&j->begun))
		__atomic_store_n(&f->stop, 1, __ATOMIC_SEQ_CST);
	wake(f->to_engine);
}

void feed_cancel_seq(struct feed *f, struct job *j, u32 seq)
{
	atomic_store(&j->seqs[seq].cancel, true);
	look_at(f, j);
}

void feed_cancel(struct feed *f, struct job *j)
{
	if (atomic_exchange(&j->cancel_all, true))
		return; /* who drains asks in every round */
	look_at(f, j);
	f->withdrawn = true;
	wake(f->to_clients);
}

/*
 * The jobs that the engine has not taken yet, of which those that are cancelled
 * are done. The engine may find nothing meanwhile, or only the first of them.
 */
static void withdraw(struct feed *f)
{
	struct pile_link *l, *next;

	f->withdrawn = false;
	for (l = pile_take(&f->submitted); l; l = next) {
		struct job *j = container_of(l, struct job, link);

		next = l->next;
		pile_put(atomic_load(&j->cancel_all) ? &f->done : &f->submitted,
			 l);
	}
	wake(f->to_engine);
}

int feed_fd(const struct feed *f)
{
	return f->to_clients;
}

void feed_take(struct feed *f, struct pile_link **batches,
	       struct pile_link **jobs)
{
	if (f->to_clients >= 0)
		unwake(f->to_clients);
	if (f->withdrawn)
		withdraw(f);
	*jobs = pile_take(&f->done);
	*batches = pile_take(&f->batches);
}

void feed_batch_free(struct feed_batch *b)
{
	free(b->ev);
	free(b->top);
	free(b);
}

void feed_state(struct feed *f, struct feed_state *out)
{
	pthread_mutex_lock(&f->lock);
	*out = f->state;
	pthread_mutex_unlock(&f->lock);
}

void feed_end(struct feed *f)
{
	atomic_store(&f->ending, true);
	wake(f->to_engine);
}
