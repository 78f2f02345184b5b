/* SPDX-License-Identifier: MIT */
/*
 * server.c - what server there is, and how prompts are put to it
 *
 * Token ids are exact, so they are tried first; a server that does not take
 * them gets text. How many words make a token, and how many tokens the server
 * adds to any prompt (a start token, a chat template), comes from two
 * prompts of different length, by the server's own count: usage, else
 * /tokenize in vLLM's form or in llama.cpp's.
 *
 * Where a prompt quotes an earlier answer, ids are only used if the server
 * says which ids it answered with: else the quote would not be what it holds.
 */
#include "tools/kvbench/serve/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/serve/answer.h"

#define CALL_S	   120 /* a server may still be loading its model */
#define PROBE_IDS  12
#define WORDS_FEW  40
#define WORDS_MANY 200
#define PROBE_NAME 0x5eed

static int ask(const struct server *s, const char *path,
	       const struct strbuf *body, int *status, json_t **out, char *err)
{
	return target_call(&s->target, &s->render, path, body, CALL_S, status,
			   out, err);
}

static int find_model(const struct serve_opts *o, struct server *s, char *err)
{
	const json_t *id;
	json_t *v = NULL;
	int status = 0, rc;

	if (o->model) {
		s->model = strdup(o->model);
		return s->model ? 0 : -ENOMEM;
	}
	rc = ask(s, "/v1/models", NULL, &status, &v, err);
	if (rc)
		return rc;
	id = json_object_get(json_array_get(json_object_get(v, "data"), 0),
			     "id");
	if (json_is_string(id))
		s->model = strdup(json_string_value(id));
	else
		rc = -ENOENT;
	json_decref(v);
	if (rc)
		snprintf(err, 256,
			 "/v1/models names none (status %d): --model NAME",
			 status);
	return rc || s->model ? rc : -ENOMEM;
}

static void begin_body(const struct server *s, struct strbuf *b)
{
	strbuf_puts(b, "{\"model\":\"");
	strbuf_put_escaped(b, s->model, strlen(s->model));
	strbuf_puts(b, "\",");
}

static json_int_t prompt_tokens(const json_t *v)
{
	return json_integer_value(
		json_object_get(json_object_get(v, "usage"), "prompt_tokens"));
}

/* Does it take token ids, and say which ones it answers with? */
static int try_ids(const struct serve_opts *o, struct server *s, bool *takes,
		   bool *says, char *err)
{
	struct strbuf b = { 0 };
	json_t *v = NULL, *c;
	int status = 0, rc, i;
	json_int_t n;

	begin_body(s, &b);
	strbuf_puts(&b, "\"prompt\":[");
	for (i = 0; i < PROBE_IDS; i++)
		strbuf_printf(&b, "%s%u", i ? "," : "",
			      s->render.first_id +
				      (u32)i * 7 % s->render.nr_ids);
	strbuf_puts(&b, "],\"max_tokens\":1,\"temperature\":0,"
			"\"return_token_ids\":true}");
	rc = ask(s, "/v1/completions", &b, &status, &v, err);
	strbuf_free(&b);
	n = prompt_tokens(v);
	c = json_array_get(json_object_get(v, "choices"), 0);
	*takes = !rc && status == 200 && n >= PROBE_IDS && n <= PROBE_IDS + 4;
	*says = *takes && json_is_array(json_object_get(c, "token_ids"));
	json_decref(v);
	return rc;
}

static void put_words(const struct server *s, u32 nr, bool tokenize,
		      struct strbuf *b)
{
	begin_body(s, b);
	if (tokenize) {
		strbuf_puts(b, "\"add_special_tokens\":false,\"prompt\":\"");
		render_words(PROBE_NAME, nr, b);
		strbuf_puts(b, "\",\"content\":\"");
		render_words(PROBE_NAME, nr, b);
		strbuf_puts(b, "\"}");
		return;
	}
	strbuf_puts(b,
		    s->render.is_chat
			    ? "\"messages\":[{\"role\":\"user\",\"content\":\""
			    : "\"prompt\":\"");
	render_words(PROBE_NAME, nr, b);
	strbuf_puts(b, s->render.is_chat ? "\"}]" : "\"");
	strbuf_puts(b, ",\"max_tokens\":1,\"temperature\":0}");
}

/* Tokens of @nr words; 0: it does not say. */
static double count_words(const struct server *s, u32 nr, bool tokenize,
			  char *err)
{
	struct strbuf b = { 0 };
	const char *msg;
	json_t *v = NULL;
	json_int_t n = 0;
	int status = 0;

	put_words(s, nr, tokenize, &b);
	if (!ask(s,
		 tokenize ? "/tokenize"
			  : s->render.path + strlen(s->target.base),
		 &b, &status, &v, err) &&
	    status == 200) {
		n = tokenize ? json_integer_value(json_object_get(v, "count"))
			     : prompt_tokens(v);
		if (!n && tokenize)
			n = (json_int_t)json_array_size(
				json_object_get(v, "tokens"));
	} else if (status) {
		msg = answer_error(v);
		snprintf(err, 256, "status %d to a prompt of %u words: %.160s",
			 status, nr, msg ? msg : "it does not say why");
	}
	strbuf_free(&b);
	json_decref(v);
	return (double)n;
}

static int measure_words(struct server *s, char *err)
{
	double few, many;
	bool tokenize = false;

	err[0] = '\0';
	few = count_words(s, WORDS_FEW, false, err);
	if (err[0])
		return -EPROTO;
	if (few <= 0) {
		tokenize = true;
		few = count_words(s, WORDS_FEW, true, err);
	}
	many = count_words(s, WORDS_MANY, tokenize, err);
	if (few <= 0 || many <= few) {
		snprintf(s->how, sizeof(s->how),
			 "text, a word taken for a token: the server does not "
			 "count them");
		return 0;
	}
	s->render.words_per_token = (WORDS_MANY - WORDS_FEW) / (many - few);
	s->render.extra_tokens = few - WORDS_FEW / s->render.words_per_token;
	snprintf(s->how, sizeof(s->how),
		 "text, %.3f words a token, %.1f tokens added, by %s",
		 s->render.words_per_token, s->render.extra_tokens,
		 tokenize ? "/tokenize" : "usage");
	return 0;
}

static int choose_form(const struct serve_opts *o, struct server *s, char *err)
{
	bool quotes = o->work.kind == WORK_TOT || o->work.kind == WORK_CHAT;
	bool takes = o->form == PROMPT_IDS, says = takes;
	int rc;

	if (o->form == PROMPT_AUTO && !o->is_chat) {
		rc = try_ids(o, s, &takes, &says, err);
		if (rc)
			return rc;
	}
	if (takes && (!quotes || says)) {
		s->render.as_ids = true;
		s->render.want_ids = quotes;
		snprintf(s->how, sizeof(s->how), "token ids %u to %u",
			 s->render.first_id,
			 s->render.first_id + s->render.nr_ids - 1);
		return 0;
	}
	return measure_words(s, err);
}

int server_find(const struct serve_opts *o, struct server *s, char *err)
{
	int rc;

	memset(s, 0, sizeof(*s));
	rc = target_parse(o->url, &s->target, err);
	if (rc)
		return rc;
	snprintf(s->path, sizeof(s->path), "%s/v1/%scompletions",
		 s->target.base, o->is_chat ? "chat/" : "");
	s->render = (struct render){
		.is_chat = o->is_chat,
		.ignore_eos = o->ignore_eos,
		.temperature = o->temperature,
		.first_id = o->first_id,
		.nr_ids = o->nr_ids,
		.words_per_token = 1,
		.host = s->target.host,
		.path = s->path,
		.headers = o->headers,
	};
	rc = find_model(o, s, err);
	s->render.model = s->model;
	if (!rc)
		rc = choose_form(o, s, err);
	return rc;
}

void server_fini(struct server *s)
{
	free(s->model);
	s->model = NULL;
}
