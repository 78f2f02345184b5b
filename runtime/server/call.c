/* SPDX-License-Identifier: MIT */
/*
 * call.c - one request for text, from its body to its last token
 *
 * A call has a part per prompt, a part a job of the engine's and a choice per
 * sample. A token goes through its choice: characters are completed, stop
 * strings looked for, what may be shown is shown (a chunk of a stream) or kept.
 *
 * A call ends when its jobs are all back, however it ends: what was found in
 * caches is known then, and nobody writes to its memory any more. If its
 * client goes before, the jobs are cancelled and it is freed when they are
 * back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "lib/clock.h"
#include "runtime/server/server_priv.h"

static void call_free(struct call *c)
{
	u32 i, k;

	for (i = 0; i < c->nr_parts; i++) {
		struct part *p = &c->parts[i];

		for (k = 0; p->choices && k < c->g.best_of; k++) {
			free(p->choices[k].text);
			lps_free(&p->choices[k].lps);
		}
		free(p->choices);
		free(p->echo);
		feed_job_free(p->job);
	}
	free(c->parts);
	params_fini(&c->g);
	strbuf_free(&c->head);
	strbuf_free(&c->out);
	free(c);
}

static void set_id(struct call *c)
{
	u64 r[2] = { ++c->sv->next_id, (u64)c };

	if (getrandom(r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
		r[1] ^= (u64)time(NULL);
	snprintf(c->id, sizeof(c->id), "%s-%016llx%016llx",
		 c->g.chat ? "chatcmpl" : "cmpl", (unsigned long long)r[0],
		 (unsigned long long)r[1]);
	if (!c->g.has_seed)
		c->g.sampling.seed = r[0] ^ r[1];
}

int call_check_model(const struct server *sv, const char *name,
		     struct api_error *err)
{
	int rc;

	if (!strcmp(name, sv->o->name))
		return 0;
	rc = api_refuse(err, 404, "model", "there is no model '%.200s' here",
			name);
	err->code = "model_not_found";
	return rc;
}

/*
 * Is there room for it, with all others that compute and wait? Asked before its
 * prompts are read, which takes time that others would wait.
 */
static int check_room(const struct call *c, struct api_error *err)
{
	struct server *sv = c->sv;
	u32 nr = prompt_nr(c) * c->g.best_of;
	u32 most = sv->o->max_seqs + sv->o->max_queue;

	if (sv->nr_seqs + nr <= most)
		return 0;
	if (nr > most)
		return api_refuse(err, 400, NULL,
				  "%u sequences are more than the %u that may "
				  "compute and wait here",
				  nr, most);
	sv->metrics.refused++;
	return api_refuse(err, 429, NULL,
			  "%u sequences compute or wait already, %u more are "
			  "too many",
			  sv->nr_seqs, nr);
}

int call_create(struct server *sv, const json_t *body, bool chat,
		struct call **out, struct api_error *err)
{
	struct call *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return api_refuse(err, 500, NULL, "no memory");
	c->sv = sv;
	c->created = (s64)time(NULL);
	c->arrived_s = c->spoke_s = clock_s();
	rc = params_parse(body, chat, vocab_size(sv->m.vocab), &c->g, err);
	if (!rc && c->g.model && *c->g.model)
		rc = call_check_model(sv, c->g.model, err);
	if (!rc && c->g.best_of > sv->m.max_fan)
		rc = api_refuse(err, 400, "n", "%u samples are more than %u",
				c->g.best_of, sv->m.max_fan);
	if (!rc)
		rc = check_room(c, err);
	if (!rc) {
		set_id(c);
		rc = prompt_parts(c, err);
	}
	if (rc) {
		call_free(c);
		return rc;
	}
	params_leave_body(&c->g);
	reply_head(c);
	*out = c;
	return 0;
}

static u32 nr_seqs_of(const struct call *c)
{
	return c->nr_parts * c->g.best_of;
}

void call_submit(struct call *c)
{
	struct server *sv = c->sv;
	u32 i;

	c->next = sv->calls;
	if (c->next)
		c->next->prev = c;
	sv->calls = c;
	sv->nr_seqs += nr_seqs_of(c);
	sv->nr_streams += c->g.stream;
	for (i = 0; i < c->nr_parts; i++)
		feed_submit(sv->feed, c->parts[i].job);
}

static void unlink_call(struct call *c)
{
	struct server *sv = c->sv;

	if (c->prev)
		c->prev->next = c->next;
	else
		sv->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
	*(c->roomless ? &sv->nr_left : &sv->nr_seqs) -= nr_seqs_of(c);
	sv->nr_streams -= c->g.stream;
}

void call_cancel(struct call *c)
{
	u32 i;

	for (i = 0; i < c->nr_parts; i++)
		if (c->parts[i].job)
			feed_cancel(c->sv->feed, c->parts[i].job);
}

static bool has_begun(const struct call *c)
{
	u32 i;

	for (i = 0; i < c->nr_parts; i++)
		if (!c->parts[i].job || atomic_load(&c->parts[i].job->begun))
			return true;
	return false;
}

/*
 * A job that is queued comes back when the step has ended if the engine has it,
 * and that may wait for memory. Its room is free for others at once, but for no
 * more than a queue of such: they are in memory all the same.
 */
void call_abandon(struct call *c)
{
	struct server *sv = c->sv;
	u32 nr = nr_seqs_of(c);

	call_cancel(c);
	if (c->roomless || has_begun(c) || sv->nr_left + nr > sv->o->max_queue)
		return;
	c->roomless = true;
	sv->nr_seqs -= nr;
	sv->nr_left += nr;
}

void call_leave(struct call *c)
{
	c->conn = NULL;
	if (c->nr_back == c->nr_parts)
		call_free(c);
	else
		call_abandon(c);
}

/* ---- tokens ---- */

static bool is_stop_id(const struct call *c, u32 id)
{
	u32 i;

	for (i = 0; i < c->g.nr_stop_ids; i++)
		if (c->g.stop_ids[i] == id)
			return true;
	return false;
}

/* The text that a token adds. Return: 0 or -ENOMEM. */
static int add_text(struct call *c, struct choice *ch, u32 id, bool last)
{
	const struct vocab *v = c->sv->m.vocab;
	bool ends = vocab_is_eog(v, id) && !c->g.ignore_eos;
	int rc = 0;

	if (!ends && !is_stop_id(c, id))
		rc = vocab_stream_push(v, &ch->vs, id,
				       c->g.skip_special ? VOCAB_SKIP_SPECIAL
							 : 0,
				       &ch->text, &ch->len);
	if (rc == -ERANGE)
		rc = 0; /* the network has more rows than there are tokens */
	if (!rc && last)
		rc = vocab_stream_end(&ch->vs, &ch->text, &ch->len);
	return rc;
}

/* How far the text may be shown now; a stop string ends it. */
static size_t look(struct call *c, struct choice *ch)
{
	const struct stop_list *l = &c->g.stop;
	size_t at, end;

	if (!l->nr || ch->nr_tokens < c->g.sampling.min_new) {
		ch->looked = ch->len;
		return ch->len;
	}
	if (stop_find(l, ch->text ? ch->text : "", ch->len, ch->looked, &at,
		      &end)) {
		ch->finish = "stop";
		return c->g.include_stop ? end : max(at, ch->shown);
	}
	ch->looked = ch->len;
	return ch->finish ? ch->len : stop_safe(l, ch->text, ch->len);
}

static void fail(struct call *c, int status, const char *why)
{
	if (!c->error.status)
		(void)api_refuse(&c->error, status, NULL, "%s", why);
	call_cancel(c);
}

static void note_times(struct call *c, struct part *p, double now)
{
	struct metrics *m = &c->sv->metrics;

	if (!p->first_s) {
		p->first_s = now;
		hist_observe(m, HIST_TTFT, now - c->arrived_s);
	} else if (p->last_s != now) {
		hist_observe(m, HIST_ITL, now - p->last_s);
	}
	p->last_s = now;
	if (!c->made_s || !c->g.stream)
		c->made_s = now;
}

/* Return: 0 or -ENOMEM. */
static int take_token(struct call *c, struct choice *ch,
		      const struct feed_batch *b, const struct feed_event *ev)
{
	ch->nr_tokens++;
	ch->cum += ev->lp;
	c->sv->metrics.generation_tokens++;
	if (c->g.nr_logprobs >= 0)
		reply_logprob(c, ch, ev, b->top + ev->top);
	if (is_stop_id(c, ev->id) || ev->finish == FINISH_STOP)
		ch->finish = "stop";
	else if (ev->finish == FINISH_LENGTH)
		ch->finish = "length";
	return add_text(c, ch, ev->id, ch->finish);
}

void call_event(const struct feed_batch *b, const struct feed_event *ev)
{
	struct part *p = ev->job->owner;
	struct call *c = p->call;
	struct choice *ch = &p->choices[ev->seq];
	bool scored = params_scores_prompt(&c->g) && !ch->nr_tokens;
	size_t to, from = c->out.len;

	if (ch->finish || c->error.status)
		return;
	note_times(c, p, b->made_s);
	if (scored)
		reply_prompt_logprobs(c, p, ch);
	if (c->g.echo_only) {
		ch->finish = "length";
	} else if (take_token(c, ch, b, ev)) {
		fail(c, 500, "no memory for the text");
		return;
	}
	to = look(c, ch);
	if (ch->finish && ev->finish == FINISH_NONE)
		feed_cancel_seq(c->sv->feed, ev->job, ev->seq);
	if (c->g.stream && c->conn) {
		reply_chunk(c, p, ch, to);
		c->grace += scored ? c->out.len - from : 0;
		c->spoke_s = b->made_s;
	} else {
		ch->len = ch->finish ? to : ch->len;
	}
	if (c->out.failed)
		fail(c, 500, "no memory for the answer");
	if (c->g.stream)
		call_has_news(c);
}

void call_ping(struct call *c, double now)
{
	if (!c->g.stream || !c->conn || c->dead || c->ended ||
	    now - c->spoke_s < c->sv->o->ping_s)
		return;
	strbuf_puts(&c->out, ": ping\n\n");
	c->spoke_s = now;
	call_has_news(c);
}

/* ---- jobs that are back ---- */

/* Before end_choices(): a sample that nobody ended makes it an abort. */
static enum finished how_finished(const struct call *c, const struct part *p)
{
	u32 i;

	for (i = 0; i < c->g.best_of; i++)
		if (!p->choices[i].finish)
			return FINISHED_ABORT;
	if (c->error.status)
		return FINISHED_ABORT;
	return strcmp(p->choices[0].finish, "stop") ? FINISHED_LENGTH
						    : FINISHED_STOP;
}

static void note_part(struct call *c, struct part *p, const struct job *j)
{
	struct metrics *m = &c->sv->metrics;
	u32 i, tokens = 0;
	enum finished how = how_finished(c, p);

	for (i = 0; i < c->g.best_of; i++)
		tokens += p->choices[i].nr_tokens;
	m->prompt_tokens += p->nr_prompt;
	m->queried += p->nr_prompt;
	m->cached += p->nr_cached;
	m->finished[how]++;
	hist_observe(m, HIST_PROMPT_TOKENS, p->nr_prompt);
	hist_observe(m, HIST_GENERATION_TOKENS, tokens);
	if (j->started_s)
		hist_observe(m, HIST_QUEUE,
			     max(j->started_s - c->arrived_s, 0.0));
	if (!p->first_s || how == FINISHED_ABORT)
		return;
	hist_observe(m, HIST_E2E, p->last_s - c->arrived_s);
	hist_observe(m, HIST_PREFILL, p->first_s - j->started_s);
	hist_observe(m, HIST_DECODE, p->last_s - p->first_s);
	hist_observe(m, HIST_INFERENCE, p->last_s - j->started_s);
	if (p->choices[0].nr_tokens > 1)
		hist_observe(m, HIST_TPOT,
			     (p->last_s - p->first_s) /
				     (p->choices[0].nr_tokens - 1));
}

static int status_of(int rc)
{
	switch (rc) {
	case -EINVAL:
		return 400;
	case -ESHUTDOWN:
	case -ETIMEDOUT:
	case -EAGAIN:
		return 503;
	}
	return 500;
}

/* Samples that nobody has ended: the server has cancelled them. */
static void end_choices(struct call *c, struct part *p)
{
	u32 i;

	for (i = 0; i < c->g.best_of; i++) {
		struct choice *ch = &p->choices[i];

		if (ch->finish)
			continue;
		ch->finish = "abort";
		if (c->g.stream && c->conn && !c->error.status)
			reply_chunk(c, p, ch, ch->len);
	}
}

static void end_call(struct call *c)
{
	if (c->g.stream && c->error.status)
		reply_stream_error(c);
	else if (c->g.stream)
		reply_stream_end(c);
	else if (!c->error.status)
		reply_whole(c);
	c->ended = true;
}

void call_job_back(struct job *j)
{
	struct part *p = j->owner;
	struct call *c = p->call;

	p->nr_cached = j->nr_cached;
	p->started_s = j->started_s;
	if (j->error)
		fail(c, status_of(j->error),
		     j->message ? j->message : strerror(-j->error));
	note_part(c, p, j);
	end_choices(c, p);
	p->job = NULL;
	feed_job_free(j);
	if (++c->nr_back < c->nr_parts)
		return;
	unlink_call(c);
	if (!c->conn) {
		call_free(c);
		return;
	}
	end_call(c);
	call_has_news(c);
}
