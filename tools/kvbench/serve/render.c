/* SPDX-License-Identifier: MIT */
/*
 * render.c - a request as the bytes that are sent
 *
 * The n-th token of a segment is a hash of the segment's name and of n, so
 * that no prompt has to be kept: a token id, or a word. A word is a common
 * English one, which with the blank before it is one token of nearly every
 * vocabulary; where it is not, words_per_token has been measured.
 */
#include "tools/kvbench/serve/render.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/hash.h"

static const char *const words[] = {
	"the",	   "of",    "and",   "to",     "in",	"is",	 "that",
	"for",	   "was",   "on",    "are",    "with",	"as",	 "be",
	"at",	   "one",   "have",  "this",   "from",	"or",	 "had",
	"by",	   "word",  "but",   "what",   "some",	"we",	 "can",
	"out",	   "other", "were",  "all",    "there", "when",	 "up",
	"use",	   "your",  "how",   "said",   "an",	"each",	 "she",
	"which",   "do",    "their", "time",   "if",	"will",	 "way",
	"about",   "many",  "then",  "them",   "write", "would", "like",
	"so",	   "these", "her",   "long",   "make",	"thing", "see",
	"him",	   "two",   "has",   "look",   "more",	"day",	 "could",
	"go",	   "come",  "did",   "number", "sound", "no",	 "most",
	"people",  "my",    "over",  "know",   "water", "than",	 "call",
	"first",   "who",   "may",   "down",   "side",	"been",	 "now",
	"find",	   "any",   "new",   "work",   "part",	"take",	 "get",
	"place",   "made",  "live",  "where",  "after", "back",	 "little",
	"only",	   "round", "man",   "year",   "came",	"show",	 "every",
	"good",	   "me",    "give",  "our",    "under", "name",	 "very",
	"through", "just",  "form",  "great",  "think", "say",	 "help",
	"low",	   "line",
};

#define NR_WORDS ((u32)ARRAY_SIZE(words))

static u64 token(u64 name, u32 n)
{
	return hash_mix(hash_mix(name) + n);
}

void render_words(u64 name, u32 nr, struct strbuf *out)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		strbuf_add(out, " ", 1);
		strbuf_puts(out, words[token(name, i) % NR_WORDS]);
	}
}

static void put_ids(const struct render *r, const struct segment *s,
		    const struct quote *q, struct strbuf *out)
{
	u32 i, nr = s->len;
	const u32 *ids = NULL;

	if (s->role == SEGMENT_ANSWER && q && q[s->of].nr_ids) {
		ids = q[s->of].ids;
		nr = q[s->of].nr_ids;
	}
	for (i = 0; i < nr; i++) {
		strbuf_put_uint(out,
				ids ? ids[i]
				    : r->first_id + (u32)(token(s->name, i) %
							  r->nr_ids));
		strbuf_add(out, ",", 1);
	}
}

/* @less: tokens that come to the prompt without being asked for */
static void put_text(const struct render *r, const struct segment *s,
		     const struct quote *q, double less, struct strbuf *out)
{
	double nr = (s->len - less) * r->words_per_token;

	if (s->role == SEGMENT_ANSWER && q && q[s->of].text) {
		strbuf_put_escaped(out, q[s->of].text, q[s->of].len);
		return;
	}
	render_words(s->name, (u32)max(1.0, floor(nr + 0.5)), out);
}

static void put_prompt(const struct render *r, const struct work *w,
		       const struct work_request *q, const struct quote *quotes,
		       struct strbuf *out)
{
	const struct segment *s = w->segment + q->first_segment;
	u32 i;

	strbuf_puts(out, r->as_ids ? "\"prompt\":[" : "\"prompt\":\"");
	for (i = 0; i < q->nr_segments; i++) {
		if (r->as_ids)
			put_ids(r, &s[i], quotes, out);
		else
			put_text(r, &s[i], quotes,
				 i + 1 == q->nr_segments ? r->extra_tokens : 0,
				 out);
	}
	if (r->as_ids && out->len && out->p[out->len - 1] == ',')
		out->len--;
	strbuf_puts(out, r->as_ids ? "]" : "\"");
}

/* Segments of one role that follow each other are one message. */
static void put_messages(const struct render *r, const struct work *w,
			 const struct work_request *q,
			 const struct quote *quotes, struct strbuf *out)
{
	static const char *const roles[] = { "system", "user", "assistant" };
	const struct segment *s = w->segment + q->first_segment;
	u32 i;

	strbuf_puts(out, "\"messages\":[");
	for (i = 0; i < q->nr_segments; i++) {
		if (!i || s[i].role != s[i - 1].role)
			strbuf_printf(out, "%s{\"role\":\"%s\",\"content\":\"",
				      i ? "\"}," : "", roles[s[i].role]);
		put_text(r, &s[i], quotes,
			 i + 1 == q->nr_segments ? r->extra_tokens : 0, out);
	}
	strbuf_puts(out, i ? "\"}]" : "]");
}

static void put_body(const struct render *r, const struct work *w, u32 i,
		     const struct quote *quotes, struct strbuf *out)
{
	const struct work_request *q = &w->request[i];

	strbuf_puts(out, "{");
	if (r->model) {
		strbuf_puts(out, "\"model\":\"");
		strbuf_put_escaped(out, r->model, strlen(r->model));
		strbuf_puts(out, "\",");
	}
	if (r->is_chat)
		put_messages(r, w, q, quotes, out);
	else
		put_prompt(r, w, q, quotes, out);
	strbuf_printf(out, ",\"max_tokens\":%u", q->output);
	if (r->is_chat)
		strbuf_printf(out, ",\"max_completion_tokens\":%u", q->output);
	strbuf_printf(out,
		      ",\"temperature\":%g,\"stream\":true,"
		      "\"stream_options\":{\"include_usage\":true}",
		      r->temperature);
	if (r->ignore_eos)
		strbuf_puts(out, ",\"ignore_eos\":true");
	if (r->want_ids && q->is_quoted)
		strbuf_puts(out, ",\"return_token_ids\":true");
	strbuf_puts(out, "}");
}

int render_post(const struct render *r, const char *path,
		const struct strbuf *body, struct strbuf *out)
{
	out->len = 0;
	strbuf_printf(out,
		      "POST %s HTTP/1.1\r\nHost: %s\r\n"
		      "Content-Type: application/json\r\nAccept: "
		      "text/event-stream, application/json\r\n%s"
		      "Content-Length: %zu\r\n\r\n",
		      path, r->host, r->headers, body->len);
	strbuf_add(out, body->p, body->len);
	return out->failed || body->failed ? -ENOMEM : 0;
}

int render_request(const struct render *r, const struct work *w, u32 i,
		   const struct quote *quotes, struct strbuf *out)
{
	struct strbuf body = { 0 };
	int rc;

	put_body(r, w, i, quotes, &body);
	rc = render_post(r, r->path, &body, out);
	strbuf_free(&body);
	return rc;
}
