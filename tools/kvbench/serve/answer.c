/* SPDX-License-Identifier: MIT */
/*
 * answer.c - one streamed completion: tokens, usage, how it ended
 *
 * An answer is good if its status is 200, its events are JSON, text came and
 * the stream said that it is over: by a finish_reason or by [DONE]. Usage
 * comes in an event of its own or with the last one. Tokens of the prompt
 * that the server found in its cache are in usage.prompt_tokens_details, or
 * in llama-server's timings.cache_n.
 */
#include "tools/kvbench/serve/answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_BODY_MAX 4096

static int take_body(void *arg, const char *p, size_t len);
static int take_event(void *arg, const struct sse_event *e);

void answer_init(struct answer *a, bool is_chat,
		 void (*choice)(void *arg, bool brings), void *arg)
{
	memset(a, 0, sizeof(*a));
	a->is_chat = is_chat;
	a->choice = choice;
	a->arg = arg;
	http_init(&a->http, take_body, a);
	sse_init(&a->sse, take_event, a);
}

void answer_fini(struct answer *a)
{
	sse_fini(&a->sse);
	strbuf_free(&a->text);
	free(a->ids);
	a->ids = NULL;
}

void answer_reset(struct answer *a, bool keep)
{
	http_init(&a->http, take_body, a);
	sse_reset(&a->sse);
	a->keep = keep;
	a->nr_events = 0;
	a->prompt_tokens = a->output_tokens = a->cached_tokens = 0;
	a->has_usage = a->has_cached = a->is_finished = false;
	a->text.len = 0;
	a->text.failed = false;
	a->nr_ids = 0;
	a->failure.kind[0] = '\0';
}

static u32 count(const json_t *v, const char *key, bool *has)
{
	const json_t *n = json_object_get(v, key);
	json_int_t i = json_integer_value(n);

	if (!json_is_integer(n) || i < 0 || i > 0xffffffff)
		return 0;
	*has = true;
	return (u32)i;
}

static void take_usage(struct answer *a, const json_t *v)
{
	const json_t *u = json_object_get(v, "usage");
	const json_t *d = json_object_get(u, "prompt_tokens_details");
	bool has = false;

	if (json_is_object(u)) {
		a->prompt_tokens = count(u, "prompt_tokens", &a->has_usage);
		a->output_tokens = count(u, "completion_tokens", &has);
	}
	if (json_is_object(d))
		a->cached_tokens = count(d, "cached_tokens", &a->has_cached);
	else if (!a->has_cached)
		a->cached_tokens = count(json_object_get(v, "timings"),
					 "cache_n", &a->has_cached);
}

static void keep_ids(struct answer *a, const json_t *ids)
{
	u32 nr = (u32)json_array_size(ids), i, room;
	u32 *p;

	if (a->nr_ids + nr > a->ids_room) {
		room = max(a->nr_ids + nr, 2 * a->ids_room + 64);
		p = realloc(a->ids, room * sizeof(*p));
		if (!p)
			return;
		a->ids = p;
		a->ids_room = room;
	}
	for (i = 0; i < nr; i++)
		a->ids[a->nr_ids++] =
			(u32)json_integer_value(json_array_get(ids, i));
}

/*
 * Does a choice bring a token? Not the first one of a chat, which says whose
 * turn it is, nor one without text that ends. @text: NULL if it is the call of
 * a tool.
 */
static bool brings_token(const struct answer *a, const json_t *c, bool ends,
			 const json_t **text)
{
	static const char *const texts[] = { "content", "reasoning_content",
					     "reasoning" };
	const json_t *d = json_object_get(c, "delta"), *t;
	bool is_empty = false;
	u32 i;

	*text = NULL;
	if (!a->is_chat) {
		*text = json_object_get(c, "text");
		return json_is_string(*text) &&
		       (json_string_length(*text) || !ends);
	}
	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		t = json_object_get(d, texts[i]);
		is_empty |= json_is_string(t);
		if (json_string_length(t)) {
			*text = t;
			return true;
		}
	}
	if (json_array_size(json_object_get(d, "tool_calls")))
		return true;
	return is_empty && !ends && !json_object_get(d, "role");
}

static void take_choice(struct answer *a, const json_t *c)
{
	bool ends = json_is_string(json_object_get(c, "finish_reason"));
	const json_t *t;
	bool brings = brings_token(a, c, ends, &t);

	a->is_finished |= ends;
	a->nr_events += brings;
	if (a->choice)
		a->choice(a->arg, brings);
	if (!brings || !a->keep)
		return;
	if (t)
		strbuf_add(&a->text, json_string_value(t),
			   json_string_length(t));
	keep_ids(a, json_object_get(c, "token_ids"));
}

/* Some servers have it in each event, null. */
static bool has_error(const json_t *v)
{
	const json_t *e = json_object_get(v, "error");

	return e && !json_is_null(e);
}

const char *answer_error(const json_t *v)
{
	const json_t *e = json_object_get(v, "error"), *m;

	if (json_is_string(e))
		return json_string_value(e);
	m = json_object_get(has_error(v) ? e : v, "message");
	if (!m)
		m = json_object_get(v, "detail");
	return json_is_string(m) ? json_string_value(m) : NULL;
}

static int take_event(void *arg, const struct sse_event *e)
{
	struct answer *a = arg;
	const char *msg;
	json_error_t err;
	json_t *v, *c;

	if (!strcmp(e->data, "[DONE]")) {
		a->is_finished = true;
		return 0;
	}
	v = json_loadb(e->data, e->len, JSON_ALLOW_NUL, &err);
	if (!json_is_object(v)) {
		failure_set(&a->failure, "bad_json", "%s: %.100s",
			    v ? "no object" : err.text, e->data);
		json_decref(v);
		return -EBADMSG;
	}
	if (e->error || has_error(v)) {
		msg = answer_error(v);
		failure_set(&a->failure, "error_event", "%s",
			    msg ? msg : e->data);
		json_decref(v);
		return -EBADMSG;
	}
	take_usage(a, v);
	c = json_array_get(json_object_get(v, "choices"), 0);
	if (c)
		take_choice(a, c);
	json_decref(v);
	return 0;
}

static int take_body(void *arg, const char *p, size_t len)
{
	struct answer *a = arg;
	int rc;

	if (a->http.status != 200 || !a->http.event_stream) {
		if (a->text.len < ERROR_BODY_MAX)
			strbuf_add(&a->text, p,
				   min(len, ERROR_BODY_MAX - a->text.len));
		return 0;
	}
	rc = sse_parse(&a->sse, p, len);
	if (rc == -E2BIG)
		failure_set(&a->failure, "bad_stream", "an event over %u bytes",
			    SSE_EVENT_MAX);
	else if (rc == -ENOMEM)
		failure_set(&a->failure, "client_memory", "of an event");
	return rc;
}

/* The body of an answer that is no stream. */
static void judge_body(struct answer *a)
{
	const char *body = a->text.len ? a->text.p : "an empty body";
	json_t *v = a->text.len ? json_loads(body, 0, NULL) : NULL;
	const char *msg = answer_error(v);
	char kind[FAILURE_KIND];

	if (a->http.status == 200)
		snprintf(kind, sizeof(kind), "no_stream");
	else
		snprintf(kind, sizeof(kind), "http_%d", a->http.status);
	failure_set(&a->failure, kind, "%s", msg ? msg : body);
	json_decref(v);
}

static void judge(struct answer *a)
{
	if (a->http.status != 200 || !a->http.event_stream)
		judge_body(a);
	else if (!a->is_finished)
		failure_set(&a->failure, "broken_stream",
			    "it ended after %u events, without a reason",
			    a->nr_events);
	else if (!a->nr_events && !a->output_tokens)
		failure_set(&a->failure, "empty", "no token came");
	if (!a->has_usage || !a->output_tokens)
		a->output_tokens = a->nr_events;
}

int answer_take(struct answer *a, const char *p, size_t len)
{
	size_t used;
	int rc = http_parse(&a->http, p, len, &used);

	if (!rc)
		return 0;
	if (rc == -EPROTO)
		failure_set(&a->failure, "bad_http", "%s", a->http.why);
	else if (rc > 0)
		judge(a);
	/* Bytes that nobody asked for: it cannot be used again. */
	if (rc < 0 || used < len)
		a->http.keep_alive = false;
	return 1;
}

void answer_eof(struct answer *a)
{
	if (http_eof(&a->http) == 1)
		judge(a);
	else if (a->http.status == 200)
		failure_set(&a->failure, "broken_stream", "%s after %u events",
			    a->http.why, a->nr_events);
	else
		failure_set(&a->failure, "broken", "%s", a->http.why);
	a->http.keep_alive = false;
}
