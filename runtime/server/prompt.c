/* SPDX-License-Identifier: MIT */
/*
 * prompt.c - from a body's prompt or messages to token ids
 *
 * A text that no tokenization could make fit the context, because even the
 * longest token would not be long enough, is refused before it is tokenized:
 * the server has one thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/chat_template.h"
#include "runtime/server/server_priv.h"

#define PARTS_MAX    1024
#define MESSAGES_MAX 4096
#define SCORES_MAX \
	2000000u /* log-probabilities of a prompt, over its choices */

static int too_long(const struct server *sv, const char *key, size_t nr,
		    struct api_error *err)
{
	int rc = api_refuse(err, 400, key,
			    "the prompt has %zu tokens, at most %u fit: the "
			    "model's context is %u, of which one is for an "
			    "answer",
			    nr, sv->m.context - 1, sv->m.context);

	err->code = "context_length_exceeded";
	return rc;
}

static int check_bytes(const struct server *sv, const char *key, size_t len,
		       struct api_error *err)
{
	size_t most = sv->longest_piece * sv->m.context;
	int rc;

	if (len <= most)
		return 0;
	rc = api_refuse(err, 400, key,
			"the prompt has %zu bytes, which are more than %u "
			"tokens, the model's context",
			len, sv->m.context);
	err->code = "context_length_exceeded";
	return rc;
}

int prompt_ids(struct server *sv, const char *key, const json_t *text,
	       unsigned int flags, u32 **ids, size_t *nr, struct api_error *err)
{
	size_t len = json_string_length(text);
	int rc = check_bytes(sv, key, len, err);

	if (!rc && vocab_tokenize(sv->m.vocab, json_string_value(text), len,
				  flags, ids, nr))
		rc = api_refuse(err, 500, NULL, "no memory for the prompt");
	return rc;
}

/* What a part says, whether the model did it or would not; NULL: nothing. */
static const json_t *text_of(const json_t *part)
{
	const json_t *text = json_object_get(part, "text");

	return text ? text : json_object_get(part, "refusal");
}

/*
 * The text of a message: a string, or parts of type text, one after another. An
 * answer without any comes back with null, beside what was refused if it was.
 */
static int put_content(const json_t *m, const char *role, size_t at,
		       struct strbuf *b, struct api_error *err)
{
	const json_t *content = json_object_get(m, "content");
	const json_t *refusal = json_object_get(m, "refusal");
	bool assistant = !strcmp(role, "assistant");
	size_t i;
	json_t *part;

	if (json_is_null(content) && json_is_string(refusal) && assistant)
		content = refusal;
	if (json_is_string(content)) {
		strbuf_add(b, json_string_value(content),
			   json_string_length(content));
		return 0;
	}
	if (json_is_null(content) && assistant)
		return 0;
	if (!json_is_array(content))
		return api_refuse(err, 400, "messages",
				  "messages[%zu].content has to be a string or "
				  "a list of parts",
				  at);
	json_array_foreach((json_t *)(uintptr_t)content, i, part)
	{
		const json_t *text = text_of(part);

		if (!json_is_string(text))
			return api_refuse(err, 400, "messages",
					  "messages[%zu].content[%zu] has no "
					  "text: this model reads nothing else",
					  at, i);
		strbuf_add(b, json_string_value(text),
			   json_string_length(text));
	}
	return 0;
}

/* What a message says of calls would be missing from the prompt. */
static int check_no_calls(const json_t *m, const char *role, size_t at,
			  struct api_error *err)
{
	if (json_array_size(json_object_get(m, "tool_calls")))
		return api_refuse(
			err, 400, "messages",
			"messages[%zu] has tool_calls: tool calls are "
			"not supported here",
			at);
	if (!strcmp(role, "tool") || !strcmp(role, "function"))
		return api_refuse(err, 400, "messages",
				  "messages[%zu] has the role '%s': tool calls "
				  "are not supported here",
				  at, role);
	return 0;
}

static int read_messages(const json_t *messages, struct chat_msg *msgs,
			 struct strbuf *text, struct api_error *err)
{
	size_t i;
	json_t *m;

	json_array_foreach((json_t *)(uintptr_t)messages, i, m)
	{
		const json_t *said = json_object_get(m, "role");
		const char *role = json_name(said);
		int rc;

		if (!role)
			return api_refuse(err, 400, "messages",
					  said ? "messages[%zu].role has to be "
						 "a string without a NUL"
					       : "messages[%zu] has no role",
					  i);
		rc = check_no_calls(m, role, i, err);
		if (!rc)
			rc = put_content(m, role, i, &text[i], err);
		if (rc)
			return rc;
		if (text[i].failed)
			return api_refuse(err, 500, NULL, "no memory");
		msgs[i] = (struct chat_msg){
			.role = strcmp(role, "developer") ? role : "system",
			.text = text[i].p ? text[i].p : "",
			.len = text[i].len,
		};
	}
	return 0;
}

static int render(struct server *sv, const struct chat_msg *msgs, size_t n,
		  u32 **ids, size_t *nr, struct api_error *err)
{
	char why[KV_ERRLEN] = "no memory";
	size_t i, bytes = 0;
	int rc;

	for (i = 0; i < n; i++)
		bytes += msgs[i].len;
	rc = check_bytes(sv, "messages", bytes, err);
	if (rc)
		return rc;
	rc = chat_template_tokenize(sv->m.tmpl, sv->m.vocab, msgs, n, true, ids,
				    nr, why);
	if (!rc)
		return 0;
	return api_refuse(err, rc == -EINVAL ? 400 : 500, "messages", "%s",
			  why);
}

int prompt_chat(struct server *sv, const json_t *messages, u32 **ids,
		size_t *nr, struct api_error *err)
{
	size_t n = json_array_size(messages), i;
	struct chat_msg *msgs;
	struct strbuf *text;
	int rc;

	if (!sv->m.tmpl)
		return api_refuse(err, 400, "messages",
				  "this model has no chat template; use "
				  "/v1/completions");
	if (n > MESSAGES_MAX)
		return api_refuse(err, 400, "messages",
				  "%zu messages are more than %d", n,
				  MESSAGES_MAX);
	msgs = calloc(n + 1, sizeof(*msgs));
	text = calloc(n + 1, sizeof(*text));
	if (!msgs || !text)
		rc = api_refuse(err, 500, NULL, "no memory");
	else
		rc = read_messages(messages, msgs, text, err);
	if (!rc)
		rc = render(sv, msgs, n, ids, nr, err);
	for (i = 0; text && i < n; i++)
		strbuf_free(&text[i]);
	free(text);
	free(msgs);
	return rc;
}

/* Where tokens end that may not come before min_tokens. */
static int set_ends(struct call *c, struct job *j)
{
	const struct server *sv = c->sv;
	u32 nr = sv->nr_eog + c->g.nr_stop_ids;

	if (!c->g.sampling.min_new || !nr)
		return 0;
	j->ends = malloc(nr * sizeof(*j->ends));
	if (!j->ends)
		return -ENOMEM;
	if (sv->nr_eog)
		memcpy(j->ends, sv->eog, sv->nr_eog * sizeof(*j->ends));
	if (c->g.nr_stop_ids)
		memcpy(j->ends + sv->nr_eog, c->g.stop_ids,
		       c->g.nr_stop_ids * sizeof(*j->ends));
	j->p.sampling.ends = j->ends;
	j->p.sampling.nr_ends = nr;
	return 0;
}

/* A part with its job, which owns @ids from here on. */
static int add_part(struct call *c, u32 *ids, size_t nr, struct api_error *err)
{
	struct server *sv = c->sv;
	struct part *p = &c->parts[c->nr_parts];
	const struct gen_params *g = &c->g;
	struct job *j;

	if (!nr || nr >= sv->m.context) {
		free(ids);
		return nr ? too_long(sv, g->chat ? "messages" : "prompt", nr,
				     err)
			  : api_refuse(err, 400, "prompt",
				       "the prompt is empty");
	}
	if (params_scores_prompt(g))
		c->nr_scores +=
			(u64)g->best_of * nr * (u64)(g->nr_logprobs + 1);
	if (c->nr_scores > SCORES_MAX) {
		free(ids);
		return api_refuse(err, 400, "logprobs",
				  "%u choices of %zu tokens with %d "
				  "alternatives are too many to echo, with "
				  "those of the prompts before it",
				  g->best_of, nr, g->nr_logprobs);
	}
	p->call = c;
	p->nr_prompt = (u32)nr;
	p->choices = calloc(g->best_of, sizeof(*p->choices));
	j = p->choices ? feed_job(g->best_of) : NULL;
	if (!j) {
		free(p->choices);
		free(ids);
		return api_refuse(err, 500, NULL, "no memory");
	}
	c->nr_parts++;
	p->job = j;
	j->owner = p;
	j->prompt = ids;
	j->p.kind = REQUEST_GENERATE;
	j->p.nr_prompt = (u32)nr;
	j->p.max_new = g->has_max ? g->max_new
		       : g->chat  ? sv->m.context
				  : DEFAULT_NEW;
	j->p.max_new = min(j->p.max_new, sv->m.context - (u32)nr);
	if (g->nr_logprobs >= 0 || g->best_of > g->n)
		j->p.nr_logprobs = (u32)max(g->nr_logprobs, 1);
	j->p.ignore_eog = g->ignore_eos;
	j->p.priority = g->priority;
	j->p.salt = g->salt;
	j->p.sampling = g->sampling;
	j->p.scores = params_scores_prompt(g) && nr > 1;
	j->p.score_from = 1;
	if (set_ends(c, j) || (j->p.scores && feed_job_scores(j)))
		return api_refuse(err, 500, NULL, "no memory");
	return 0;
}

static int add_text(struct call *c, const json_t *text, struct api_error *err)
{
	struct part *p = &c->parts[c->nr_parts];
	size_t nr = 0, len = json_string_length(text);
	u32 *ids = NULL;
	int rc = prompt_ids(c->sv, "prompt", text,
			    (c->g.add_special ? VOCAB_ADD_SPECIAL : 0) |
				    VOCAB_PARSE_SPECIAL,
			    &ids, &nr, err);

	if (!rc)
		rc = add_part(c, ids, nr, err);
	if (rc || !c->g.echo)
		return rc;
	p->echo = malloc(len + 1);
	if (!p->echo)
		return api_refuse(err, 500, NULL, "no memory");
	memcpy(p->echo, json_string_value(text), len);
	p->echo_len = len;
	p->from_text = true;
	p->has_special = c->g.add_special;
	return 0;
}

static int add_list(struct call *c, const json_t *list, struct api_error *err)
{
	struct part *p = &c->parts[c->nr_parts];
	size_t nr = json_array_size(list);
	u32 *ids;
	int rc;

	if (nr > c->sv->m.context)
		return too_long(c->sv, "prompt", nr, err);
	rc = json_read_ids("prompt", list, vocab_size(c->sv->m.vocab), &ids,
			   &nr, err);
	if (!rc)
		rc = add_part(c, ids, nr, err);
	if (!rc && c->g.echo &&
	    vocab_detokenize(c->sv->m.vocab, p->job->prompt, p->nr_prompt,
			     VOCAB_SKIP_SPECIAL, &p->echo, &p->echo_len))
		rc = api_refuse(err, 500, NULL, "no memory");
	return rc;
}

/* A list of prompts; one of ids is a prompt. */
static bool has_many(const struct call *c)
{
	const json_t *v = c->g.prompt;

	return !c->g.chat && json_is_array(v) &&
	       !json_is_number(json_array_get(v, 0));
}

u32 prompt_nr(const struct call *c)
{
	return has_many(c) ? (u32)json_array_size(c->g.prompt) : 1;
}

/* A prompt of any of its four forms. */
static int add_prompts(struct call *c, u32 nr, struct api_error *err)
{
	const json_t *v = c->g.prompt;
	bool many = has_many(c);
	int rc = 0;
	u32 i;

	for (i = 0; i < nr && !rc; i++) {
		const json_t *one = many ? json_array_get(v, i) : v;

		if (json_is_string(one))
			rc = add_text(c, one, err);
		else if (json_is_array(one))
			rc = add_list(c, one, err);
		else
			rc = api_refuse(err, 400, "prompt",
					"a prompt has to be a string or a "
					"list of token ids");
	}
	return rc;
}

int prompt_parts(struct call *c, struct api_error *err)
{
	u32 n = prompt_nr(c), *ids = NULL;
	size_t nr = 0;
	int rc;

	if (n > PARTS_MAX)
		return api_refuse(err, 400, "prompt",
				  "%u prompts are more than %d", n, PARTS_MAX);
	c->parts = calloc(n, sizeof(*c->parts));
	if (!c->parts)
		return api_refuse(err, 500, NULL, "no memory");
	if (!c->g.chat)
		return add_prompts(c, n, err);
	rc = prompt_chat(c->sv, c->g.messages, &ids, &nr, err);
	return rc ? rc : add_part(c, ids, nr, err);
}
