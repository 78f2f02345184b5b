/* SPDX-License-Identifier: MIT */
/*
 * reply.c - answers to a call in OpenAI's forms
 *
 * Chunks of a stream are put together from a head that is written once and
 * what is new: a token costs one escape of its text.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/model/unicode.h"
#include "runtime/server/server_priv.h"

static void put_str(struct strbuf *b, const char *s)
{
	strbuf_put_json(b, s, strlen(s));
}

void reply_head(struct call *c)
{
	const char *object = c->g.chat ? c->g.stream ? "chat.completion.chunk"
						     : "chat.completion"
				       : "text_completion";
	struct strbuf *b = &c->head;

	strbuf_printf(b,
		      "%s{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,"
		      "\"model\":",
		      c->g.stream ? "data: " : "", c->id, object,
		      (long long)c->created);
	put_str(b, c->sv->o->name);
	strbuf_puts(b, ",\"system_fingerprint\":\"kvrun-" KV_VERSION
		       "\",\"choices\":[");
}

static void put_usage(struct strbuf *b, const struct call *c, bool cached)
{
	u64 prompt = 0, made = 0, found = 0;
	u32 i, k;

	for (i = 0; i < c->nr_parts; i++) {
		prompt += c->parts[i].nr_prompt;
		found += c->parts[i].nr_cached;
		for (k = 0; k < c->g.best_of; k++)
			made += c->parts[i].choices[k].nr_tokens;
	}
	strbuf_printf(b,
		      "\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":"
		      "%llu,\"total_tokens\":%llu",
		      (unsigned long long)prompt, (unsigned long long)made,
		      (unsigned long long)(prompt + made));
	if (cached)
		strbuf_printf(b,
			      ",\"prompt_tokens_details\":{\"cached_tokens\":"
			      "%llu}",
			      (unsigned long long)found);
	strbuf_puts(b, "}");
}

/* ---- log-probabilities ---- */

void lps_free(struct lps *l)
{
	strbuf_free(&l->tokens);
	strbuf_free(&l->lps);
	strbuf_free(&l->tops);
	strbuf_free(&l->offsets);
}

static void lps_clear(struct lps *l)
{
	l->tokens.len = l->lps.len = l->tops.len = l->offsets.len = 0;
	l->nr = 0;
}

static void put_piece(struct strbuf *b, const struct vocab *v, u32 id)
{
	size_t len;
	const char *s = vocab_piece(v, id, &len);

	strbuf_put_json(b, s, len);
}

/* As the list of the likeliest has it, to the last digit. */
static double shown(double lp)
{
	return (double)(float)lp;
}

/* {"token":,"logprob":,"bytes":[]} without its end */
static void put_entry(struct strbuf *b, const struct vocab *v, u32 id,
		      double lp)
{
	size_t len, i;
	const char *s = vocab_piece(v, id, &len);

	strbuf_puts(b, "{\"token\":");
	strbuf_put_json(b, s, len);
	strbuf_puts(b, ",\"logprob\":");
	strbuf_put_real(b, lp);
	strbuf_puts(b, ",\"bytes\":[");
	for (i = 0; i < len; i++)
		strbuf_printf(b, "%s%u", i ? "," : "", (u8)s[i]);
	strbuf_puts(b, "]");
}

static void chat_logprob(struct call *c, struct lps *l,
			 const struct feed_event *ev,
			 const struct token_logprob *top)
{
	const struct vocab *v = c->sv->m.vocab;
	s32 i;

	strbuf_puts(&l->tokens, l->nr++ ? "," : "");
	put_entry(&l->tokens, v, ev->id, shown(ev->lp));
	strbuf_puts(&l->tokens, ",\"top_logprobs\":[");
	for (i = 0; i < c->g.nr_logprobs; i++) {
		strbuf_puts(&l->tokens, i ? "," : "");
		put_entry(&l->tokens, v, top[i].id, (double)top[i].logprob);
		strbuf_puts(&l->tokens, "}");
	}
	strbuf_puts(&l->tokens, "]}");
}

/* The likeliest ones, and the one that was taken if it is not among them. */
static void put_tops(struct call *c, struct strbuf *b, u32 id, double lp,
		     const struct token_logprob *top)
{
	const struct vocab *v = c->sv->m.vocab;
	bool taken = false;
	s32 i;

	strbuf_puts(b, "{");
	for (i = 0; i < c->g.nr_logprobs; i++) {
		strbuf_puts(b, i ? "," : "");
		put_piece(b, v, top[i].id);
		strbuf_puts(b, ":");
		strbuf_put_real(b, (double)top[i].logprob);
		taken |= top[i].id == id;
	}
	if (!taken) {
		strbuf_puts(b, i ? "," : "");
		put_piece(b, v, id);
		strbuf_puts(b, ":");
		strbuf_put_real(b, lp);
	}
	strbuf_puts(b, "}");
}

/* A token of a completion; @top NULL: nothing is said of it. */
static void text_logprob(struct call *c, struct lps *l, u32 id, double lp,
			 const struct token_logprob *top, size_t offset)
{
	const char *comma = l->nr++ ? "," : "";

	strbuf_puts(&l->tokens, comma);
	put_piece(&l->tokens, c->sv->m.vocab, id);
	strbuf_puts(&l->lps, comma);
	strbuf_puts(&l->tops, comma);
	if (top) {
		strbuf_put_real(&l->lps, lp);
		put_tops(c, &l->tops, id, lp, top);
	} else {
		strbuf_puts(&l->lps, "null");
		strbuf_puts(&l->tops, "null");
	}
	strbuf_puts(&l->offsets, comma);
	strbuf_put_uint(&l->offsets, offset);
}

/*
 * Count the characters of a text that are whole before @to, as
 * strbuf_put_json() writes them: what is no UTF-8 is one a byte.
 */
static void count_to(struct char_count *n, const char *text, size_t len,
		     size_t to)
{
	u32 cp;

	while (n->at < to) {
		size_t one = utf8_decode(text + n->at, len - n->at, &cp);

		if (n->at + one > to)
			break; /* the one that is split */
		n->at += one;
		n->nr++;
	}
}

/*
 * Bytes of the echo that a token of the prompt stands for. In a client's text
 * the name of a special token is text too, what is added around it is not; a
 * client's list is echoed without control tokens.
 */
static size_t echoed(const struct vocab *v, const struct part *p, u32 i)
{
	u32 id = p->job->prompt[i];
	bool added = p->has_special &&
		     ((!i && vocab_adds_bos(v)) ||
		      (i + 1 == p->nr_prompt && vocab_adds_eos(v)));
	bool hidden = p->from_text ? added
				   : vocab_class(v, id) == VOCAB_CONTROL;
	size_t len;

	(void)vocab_piece(v, id, &len);
	return hidden ? 0 : len;
}

/* A tokenizer may put a space before the text, which is not in the echo. */
static size_t not_echoed(const struct vocab *v, const struct part *p)
{
	size_t all = 0;
	u32 i;

	for (i = 0; i < p->nr_prompt; i++)
		all += echoed(v, p, i);
	return all - min(all, p->echo_len);
}

/* The first one follows nothing. */
void reply_prompt_logprobs(struct call *c, struct part *p, struct choice *ch)
{
	const struct vocab *v = c->sv->m.vocab;
	const struct job *j = p->job;
	size_t before = not_echoed(v, p), at = 0;
	struct char_count n = { 0 };
	u32 i, k = j->p.nr_logprobs;

	for (i = 0; i < p->nr_prompt; i++) {
		text_logprob(c, &ch->lps, j->prompt[i],
			     i ? shown(j->score[i]) : 0.0,
			     i ? j->score_top + (size_t)i * k : NULL, n.nr);
		at += echoed(v, p, i);
		if (at > before)
			count_to(&n, p->echo, p->echo_len,
				 min(at - before, p->echo_len));
	}
	count_to(&n, p->echo, p->echo_len, p->echo_len);
	ch->counted.nr = n.nr;
}

/*
 * Where the first character lies that a token is a part of. Bytes that wait for
 * the rest of theirs are one of their own if this token does not go on with it.
 */
static size_t offset_of(const struct vocab *v, struct choice *ch, u32 id)
{
	struct vocab_stream vs = ch->vs;
	size_t len;
	const char *s = vocab_piece(v, id, &len);

	if (ch->len)
		count_to(&ch->counted, ch->text, ch->len, ch->len);
	if (!vs.nr_hold || !len)
		return ch->counted.nr;
	vs.hold[vs.nr_hold++] = (u8)*s;
	return ch->counted.nr +
	       (utf8_check((const char *)vs.hold, vs.nr_hold) < 0);
}

void reply_logprob(struct call *c, struct choice *ch,
		   const struct feed_event *ev, const struct token_logprob *top)
{
	if (c->g.chat)
		chat_logprob(c, &ch->lps, ev, top);
	else
		text_logprob(c, &ch->lps, ev->id, shown(ev->lp), top,
			     offset_of(c->sv->m.vocab, ch, ev->id));
}

static void put_lps(struct call *c, struct strbuf *b, struct choice *ch)
{
	struct lps *l = &ch->lps;

	if (c->g.nr_logprobs < 0) {
		strbuf_puts(b, ",\"logprobs\":null");
		return;
	}
	if (c->g.chat) {
		strbuf_puts(b, ",\"logprobs\":{\"content\":[");
		strbuf_add(b, l->tokens.p ? l->tokens.p : "", l->tokens.len);
	} else {
		strbuf_puts(b, ",\"logprobs\":{\"tokens\":[");
		strbuf_add(b, l->tokens.p ? l->tokens.p : "", l->tokens.len);
		strbuf_puts(b, "],\"token_logprobs\":[");
		strbuf_add(b, l->lps.p ? l->lps.p : "", l->lps.len);
		strbuf_puts(b, "],\"top_logprobs\":[");
		strbuf_add(b, l->tops.p ? l->tops.p : "", l->tops.len);
		strbuf_puts(b, "],\"text_offset\":[");
		strbuf_add(b, l->offsets.p ? l->offsets.p : "", l->offsets.len);
	}
	strbuf_puts(b, "]}");
	if (l->tokens.failed || l->lps.failed || l->tops.failed ||
	    l->offsets.failed)
		b->failed = true;
	lps_clear(l);
}

static void put_finish(struct strbuf *b, const struct choice *ch)
{
	if (ch->finish)
		strbuf_printf(b, ",\"finish_reason\":\"%s\"}", ch->finish);
	else
		strbuf_puts(b, ",\"finish_reason\":null}");
}

static u32 index_of(const struct call *c, const struct part *p,
		    const struct choice *ch)
{
	return (u32)(p - c->parts) * c->g.n + (u32)(ch - p->choices);
}

/* ---- streams ---- */

void reply_chunk(struct call *c, struct part *p, struct choice *ch, size_t to)
{
	struct strbuf *b = &c->out;
	const char *text = ch->text ? ch->text + ch->shown : "";

	strbuf_add(b, c->head.p, c->head.len);
	strbuf_puts(b, "{\"index\":");
	strbuf_put_uint(b, index_of(c, p, ch));
	if (c->g.chat) {
		strbuf_puts(b, ",\"delta\":{");
		if (!ch->opened)
			strbuf_puts(b, "\"role\":\"assistant\",");
		strbuf_puts(b, "\"content\":");
		strbuf_put_json(b, text, to - ch->shown);
		strbuf_puts(b, "}");
	} else {
		struct strbuf both = { 0 };

		strbuf_puts(b, ",\"text\":");
		if (!ch->opened && p->echo) {
			strbuf_add(&both, p->echo, p->echo_len);
			strbuf_add(&both, text, to - ch->shown);
			strbuf_put_json(b, both.p ? both.p : "", both.len);
			b->failed |= both.failed;
			strbuf_free(&both);
		} else {
			strbuf_put_json(b, text, to - ch->shown);
		}
	}
	ch->opened = true;
	ch->shown = to;
	put_lps(c, b, ch);
	put_finish(b, ch);
	strbuf_puts(b, "]");
	if (c->g.continuous_usage) {
		strbuf_puts(b, ",");
		put_usage(b, c, false);
	}
	strbuf_puts(b, "}\n\n");
}

void reply_stream_end(struct call *c)
{
	struct strbuf *b = &c->out;

	if (c->g.include_usage) {
		strbuf_add(b, c->head.p, c->head.len);
		strbuf_puts(b, "],");
		put_usage(b, c, true);
		strbuf_puts(b, "}\n\n");
	}
	strbuf_puts(b, "data: [DONE]\n\n");
}

void reply_stream_error(struct call *c)
{
	strbuf_puts(&c->out, "data: ");
	api_error_put(&c->out, &c->error);
	strbuf_puts(&c->out, "\n\ndata: [DONE]\n\n");
}

/* ---- whole answers ---- */

static double mean_lp(const struct choice *ch)
{
	return ch->cum / max(ch->nr_tokens, 1u);
}

static int by_mean(const void *pa, const void *pb)
{
	const struct choice *a = *(struct choice *const *)pa;
	const struct choice *b = *(struct choice *const *)pb;

	if (mean_lp(a) != mean_lp(b))
		return mean_lp(a) > mean_lp(b) ? -1 : 1;
	return a < b ? -1 : a > b;
}

static void put_choice(struct call *c, struct part *p, struct choice *ch,
		       u32 index)
{
	struct strbuf *b = &c->out, both = { 0 };

	strbuf_printf(b, "%s{\"index\":%u,%s", index ? "," : "", index,
		      c->g.chat ? "\"message\":{\"role\":\"assistant\","
				  "\"content\":"
				: "\"text\":");
	if (p->echo)
		strbuf_add(&both, p->echo, p->echo_len);
	strbuf_add(&both, ch->text ? ch->text : "", ch->len);
	strbuf_put_json(b, both.p ? both.p : "", both.len);
	b->failed |= both.failed;
	strbuf_free(&both);
	if (c->g.chat)
		strbuf_puts(b, "}");
	put_lps(c, b, ch);
	put_finish(b, ch);
}

/* The n choices of a prompt that are shown: the likeliest, if they are fewer.
 */
static void put_part(struct call *c, struct part *p)
{
	u32 first = (u32)(p - c->parts) * c->g.n, i;
	struct choice **best = calloc(c->g.best_of, sizeof(*best));

	if (!best) {
		c->out.failed = true;
		return;
	}
	for (i = 0; i < c->g.best_of; i++)
		best[i] = &p->choices[i];
	if (c->g.best_of > c->g.n)
		qsort(best, c->g.best_of, sizeof(struct choice *), by_mean);
	for (i = 0; i < c->g.n; i++)
		put_choice(c, p, best[i], first + i);
	free(best);
}

void reply_whole(struct call *c)
{
	u32 i;

	strbuf_add(&c->out, c->head.p, c->head.len);
	for (i = 0; i < c->nr_parts; i++)
		put_part(c, &c->parts[i]);
	strbuf_puts(&c->out, "],");
	put_usage(&c->out, c, true);
	strbuf_puts(&c->out, "}");
	if (c->out.failed || c->head.failed)
		(void)api_refuse(&c->error, 500, NULL,
				 "no memory for the answer");
}
