/* SPDX-License-Identifier: MIT */
/*
 * params.c - the keys of a body, as rows of a table
 *
 * A row says where a number or a switch goes and between which bounds it lies.
 * What is no number or switch has a function.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "runtime/server/params.h"

#define N_MAX	     128
#define LOGPROBS_MAX 20
#define BIAS_MAX     1024
#define STOP_IDS_MAX 256
#define COUNT_MAX    0x7fffffff

enum kind { SWITCH, COUNT, REAL, FUNC };
enum where { BOTH, CHAT_ONLY, TEXT_ONLY };

struct row {
	const char *key;
	enum kind kind;
	enum where where;
	size_t at, has; /* 0: there is no such switch */
	double lowest, highest;
	int (*func)(struct gen_params *p, const char *key, const json_t *v,
		    u32 vocab, struct api_error *err);
};

#define WHOLE_REAL_MAX 9007199254740992.0 /* 2^53 */

/* Clients whose numbers are reals all write 3.0 for 3. */
static bool is_whole(const json_t *v, json_int_t *out)
{
	double d = json_number_value(v);

	*out = json_integer_value(v);
	if (!json_is_real(v))
		return json_is_integer(v);
	if (!(fabs(d) <= WHOLE_REAL_MAX) || d != floor(d))
		return false;
	*out = (json_int_t)d;
	return true;
}

/* A whole number within bounds. */
static int take_whole(const char *key, const json_t *v, json_int_t lowest,
		      json_int_t highest, json_int_t *out,
		      struct api_error *err)
{
	if (!is_whole(v, out))
		return api_refuse(err, 400, key, "%s has to be a whole number",
				  key);
	if (*out < lowest || *out > highest)
		return api_refuse(err, 400, key,
				  "%s has to be from %lld to %lld, not %lld",
				  key, (long long)lowest, (long long)highest,
				  (long long)*out);
	return 0;
}

static int take_n_logprobs(struct gen_params *p, const char *key,
			   const json_t *v, u32 vocab, struct api_error *err)
{
	json_int_t n;
	int rc;

	if (p->chat && json_is_boolean(v)) {
		if (json_is_true(v))
			p->nr_logprobs = max(p->nr_logprobs, 0);
		else
			p->nr_logprobs = -1;
		return 0;
	}
	if (p->chat)
		return api_refuse(err, 400, key, "%s has to be true or false",
				  key);
	rc = take_whole(key, v, 0, LOGPROBS_MAX, &n, err);
	if (!rc)
		p->nr_logprobs = (s32)n;
	return rc;
}

/* After logprobs, which says whether there are any. */
static int take_top_logprobs(struct gen_params *p, const char *key,
			     const json_t *v, u32 vocab, struct api_error *err)
{
	json_int_t n;
	int rc = take_whole(key, v, 0, LOGPROBS_MAX, &n, err);

	if (rc)
		return rc;
	if (n && p->nr_logprobs < 0)
		return api_refuse(err, 400, key, "%s needs logprobs", key);
	if (p->nr_logprobs >= 0)
		p->nr_logprobs = (s32)n;
	return 0;
}

static int add_stop(struct gen_params *p, const char *key, const json_t *v,
		    struct api_error *err)
{
	int rc = json_is_string(v) ? stop_add(&p->stop, json_string_value(v),
					      json_string_length(v))
				   : -EINVAL;

	if (rc == -EINVAL)
		return api_refuse(err, 400, key,
				  "%s has to be a string or a list of strings, "
				  "none of them empty",
				  key);
	if (rc)
		return api_refuse(err, 400, key,
				  "%s may have %u strings and %u bytes", key,
				  STOP_MAX, STOP_BYTES_MAX);
	return 0;
}

static int take_stop(struct gen_params *p, const char *key, const json_t *v,
		     u32 vocab, struct api_error *err)
{
	size_t i;
	json_t *one;
	int rc = 0;

	if (!json_is_array(v))
		return add_stop(p, key, v, err);
	json_array_foreach((json_t *)(uintptr_t)v, i, one)
	{
		if (!rc)
			rc = add_stop(p, key, one, err);
	}
	return rc;
}

int json_read_ids(const char *key, const json_t *list, u32 vocab, u32 **ids,
		  size_t *nr, struct api_error *err)
{
	size_t i, n = json_array_size(list);
	u32 *p;

	if (!json_is_array(list))
		return api_refuse(err, 400, key,
				  "%s has to be a list of token ids", key);
	p = malloc((n + 1) * sizeof(*p));
	if (!p)
		return api_refuse(err, 500, NULL, "no memory");
	for (i = 0; i < n; i++) {
		json_int_t id;

		if (!is_whole(json_array_get(list, i), &id) || id < 0 ||
		    id >= (json_int_t)vocab) {
			free(p);
			return api_refuse(err, 400, key,
					  "%s: ids are whole numbers from 0 to "
					  "%u",
					  key, vocab - 1);
		}
		p[i] = (u32)id;
	}
	*ids = p;
	*nr = n;
	return 0;
}

static int take_stop_ids(struct gen_params *p, const char *key, const json_t *v,
			 u32 vocab, struct api_error *err)
{
	size_t nr;
	u32 *ids;
	int rc;

	if (json_array_size(v) > STOP_IDS_MAX)
		return api_refuse(err, 400, key, "%s may have %d token ids",
				  key, STOP_IDS_MAX);
	rc = json_read_ids(key, v, vocab, &ids, &nr, err);
	if (rc)
		return rc;
	free(p->stop_ids);
	p->stop_ids = ids;
	p->nr_stop_ids = (u32)nr;
	return 0;
}

static int take_bias(struct gen_params *p, const char *key, const json_t *v,
		     u32 vocab, struct api_error *err)
{
	const char *id;
	json_t *bias;

	if (!json_is_object(v) || json_object_size(v) > BIAS_MAX)
		return api_refuse(err, 400, key,
				  "%s has to be an object of at most %d token "
				  "ids",
				  key, BIAS_MAX);
	free(p->bias);
	p->sampling.nr_bias = 0;
	p->bias = calloc(json_object_size(v) + 1, sizeof(*p->bias));
	if (!p->bias)
		return api_refuse(err, 500, NULL, "no memory");
	json_object_foreach((json_t *)(uintptr_t)v, id, bias)
	{
		char *end;
		unsigned long n = strtoul(id, &end, 10);
		double d = json_number_value(bias);

		if (*id < '0' || *id > '9' || *end || n >= vocab ||
		    !json_is_number(bias) || !(fabs(d) <= 100.0))
			return api_refuse(err, 400, key,
					  "%s: ids are from 0 to %u, biases "
					  "from -100 to 100",
					  key, vocab - 1);
		p->bias[p->sampling.nr_bias++] =
			(struct sampling_bias){ (u32)n, (float)d };
	}
	p->sampling.bias = p->bias;
	return 0;
}

static int take_stream_options(struct gen_params *p, const char *key,
			       const json_t *v, u32 vocab,
			       struct api_error *err)
{
	const json_t *each = json_object_get(v, "continuous_usage_stats");

	if (!json_is_object(v))
		return api_refuse(err, 400, key, "%s has to be an object", key);
	p->include_usage = json_is_true(json_object_get(v, "include_usage"));
	p->continuous_usage = json_is_true(each);
	return 0;
}

/* Whoever does not know the salt does not find the prefix. */
static int take_salt(struct gen_params *p, const char *key, const json_t *v,
		     u32 vocab, struct api_error *err)
{
	u8 digest[SHA256_DIGEST_LENGTH];

	if (!json_is_string(v) || !json_string_length(v))
		return api_refuse(err, 400, key,
				  "%s has to be a string, not empty", key);
	SHA256((const u8 *)json_string_value(v), json_string_length(v), digest);
	memcpy(&p->salt, digest, sizeof(p->salt));
	p->salt += !p->salt;
	return 0;
}

static int take_model(struct gen_params *p, const char *key, const json_t *v,
		      u32 vocab, struct api_error *err)
{
	p->model = json_name(v);
	if (!p->model)
		return api_refuse(err, 400, key,
				  "%s has to be a string without a NUL", key);
	return 0;
}

static int take_prompt(struct gen_params *p, const char *key, const json_t *v,
		       u32 vocab, struct api_error *err)
{
	if (!json_is_string(v) && !json_is_array(v))
		return api_refuse(err, 400, key,
				  "%s has to be a string or a list", key);
	if (json_is_array(v) && !json_array_size(v))
		return api_refuse(err, 400, key, "%s is empty", key);
	p->prompt = v;
	return 0;
}

static int take_messages(struct gen_params *p, const char *key, const json_t *v,
			 u32 vocab, struct api_error *err)
{
	if (!json_is_array(v) || !json_array_size(v))
		return api_refuse(err, 400, key,
				  "%s has to be a list, not empty", key);
	p->messages = v;
	return 0;
}

/* Whose model cannot be told of its tools would wait for calls in vain. */
static int take_tools(struct gen_params *p, const char *key, const json_t *v,
		      u32 vocab, struct api_error *err)
{
	if (!json_is_array(v))
		return api_refuse(err, 400, key, "%s has to be a list", key);
	if (json_array_size(v))
		p->tools_key = key;
	return 0;
}

static int take_tool_choice(struct gen_params *p, const char *key,
			    const json_t *v, u32 vocab, struct api_error *err)
{
	const char *choice = json_name(v);

	if (choice && !strcmp(choice, "none"))
		p->tools_key = NULL;
	return 0;
}

static int take_format(struct gen_params *p, const char *key, const json_t *v,
		       u32 vocab, struct api_error *err)
{
	const char *type = json_name(json_object_get(v, "type"));

	if (!type)
		return api_refuse(err, 400, key,
				  "%s has to be an object with a type", key);
	if (strcmp(type, "text"))
		return api_refuse(err, 400, key,
				  "%s: an answer cannot be held to '%.40s' "
				  "here, 'text' is the only type",
				  key, type);
	return 0;
}

/* What is passed over would give an answer of another form than was asked. */
static int take_form(struct gen_params *p, const char *key, const json_t *v,
		     u32 vocab, struct api_error *err)
{
	if (json_is_false(v) || (json_is_string(v) && !json_string_length(v)) ||
	    (json_is_array(v) && !json_array_size(v)))
		return 0;
	return api_refuse(err, 400, key, "%s is not supported here", key);
}

/* Likewise of what is done here anyway. */
static int take_done(struct gen_params *p, const char *key, const json_t *v,
		     u32 vocab, struct api_error *err)
{
	if (json_is_true(v))
		return 0;
	return api_refuse(err, 400, key, "%s is always true here", key);
}

#define AT(m) offsetof(struct gen_params, m)
#define OF(m) offsetof(struct gen_params, sampling.m)
#define FLAG(k, m)                                    \
	{                                             \
		.key = k, .kind = SWITCH, .at = AT(m) \
	}
#define BY(k, w, f)                                           \
	{                                                     \
		.key = k, .kind = FUNC, .where = w, .func = f \
	}

/* clang-format off */
static const struct row rows[] = {
	BY("model", BOTH, take_model),
	BY("prompt", TEXT_ONLY, take_prompt),
	BY("messages", CHAT_ONLY, take_messages),
	FLAG("stream", stream),
	BY("stream_options", BOTH, take_stream_options),
	FLAG("ignore_eos", ignore_eos),
	FLAG("include_stop_str_in_output", include_stop),
	FLAG("skip_special_tokens", skip_special),
	{ "echo", SWITCH, TEXT_ONLY, .at = AT(echo) },
	/* of two names for one thing the later row counts */
	{ "n_predict", COUNT, BOTH, AT(max_new), AT(has_max), 0, COUNT_MAX, NULL },
	{ "max_tokens", COUNT, BOTH, AT(max_new), AT(has_max), 0, COUNT_MAX, NULL },
	{ "max_completion_tokens", COUNT, BOTH, AT(max_new), AT(has_max), 0,
	  COUNT_MAX, NULL },
	{ "min_tokens", COUNT, BOTH, OF(min_new), 0, 0, COUNT_MAX, NULL },
	{ "n", COUNT, BOTH, AT(n), 0, 1, N_MAX, NULL },
	{ "best_of", COUNT, TEXT_ONLY, AT(best_of), AT(has_best_of), 1, N_MAX, NULL },
	{ "temperature", REAL, BOTH, OF(temperature), 0, 0, 100, NULL },
	{ "top_p", REAL, BOTH, OF(top_p), 0, 1e-9, 1, NULL },
	{ "min_p", REAL, BOTH, OF(min_p), 0, 0, 0.999999, NULL },
	{ "presence_penalty", REAL, BOTH, OF(presence), 0, -2, 2, NULL },
	{ "frequency_penalty", REAL, BOTH, OF(frequency), 0, -2, 2, NULL },
	{ "repetition_penalty", REAL, BOTH, OF(repetition), 0, 1e-3, 1e3, NULL },
	BY("logit_bias", BOTH, take_bias),
	BY("stop", BOTH, take_stop),
	BY("stop_token_ids", BOTH, take_stop_ids),
	BY("logprobs", BOTH, take_n_logprobs),
	BY("top_logprobs", CHAT_ONLY, take_top_logprobs),
	BY("cache_salt", BOTH, take_salt),
	BY("tools", CHAT_ONLY, take_tools),
	BY("functions", CHAT_ONLY, take_tools), /* what tools were once */
	BY("tool_choice", CHAT_ONLY, take_tool_choice), /* after them */
	BY("function_call", CHAT_ONLY, take_tool_choice),
	BY("response_format", BOTH, take_format),
	BY("suffix", TEXT_ONLY, take_form),
	BY("use_beam_search", BOTH, take_form),
	BY("structured_outputs", BOTH, take_form),
	BY("guided_json", BOTH, take_form),
	BY("guided_regex", BOTH, take_form),
	BY("guided_choice", BOTH, take_form),
	BY("guided_grammar", BOTH, take_form),
	BY("bad_words", BOTH, take_form),
	BY("allowed_token_ids", BOTH, take_form),
	BY("truncate_prompt_tokens", BOTH, take_form),
	BY("prompt_logprobs", BOTH, take_form),
	BY("return_tokens_as_token_ids", BOTH, take_form),
	BY("logits_processors", BOTH, take_form),
	BY("chat_template", CHAT_ONLY, take_form),
	BY("continue_final_message", CHAT_ONLY, take_form),
	BY("documents", CHAT_ONLY, take_form),
	BY("audio", CHAT_ONLY, take_form),
	BY("add_generation_prompt", CHAT_ONLY, take_done),
	{ "add_special_tokens", SWITCH, TEXT_ONLY, .at = AT(add_special) },
	BY("json_schema", BOTH, take_form),
	BY("grammar", BOTH, take_form),
};
/* clang-format on */

static int take_count(const struct row *r, u32 *at, const json_t *v,
		      struct api_error *err)
{
	json_int_t n;
	int rc = take_whole(r->key, v, (json_int_t)r->lowest,
			    (json_int_t)r->highest, &n, err);

	if (!rc)
		*at = (u32)n;
	return rc;
}

static int take_real(const struct row *r, float *at, const json_t *v,
		     struct api_error *err)
{
	double d = json_number_value(v);

	if (!json_is_number(v))
		return api_refuse(err, 400, r->key, "%s has to be a number",
				  r->key);
	if (!(d >= r->lowest && d <= r->highest))
		return api_refuse(err, 400, r->key,
				  "%s has to be from %g to %g, not %g", r->key,
				  r->lowest, r->highest, d);
	*at = (float)d;
	return 0;
}

static int take_row(const struct row *r, const json_t *v, u32 vocab,
		    struct gen_params *p, struct api_error *err)
{
	void *at = (char *)p + r->at;
	int rc = 0;

	switch (r->kind) {
	case FUNC:
		return r->func(p, r->key, v, vocab, err);
	case SWITCH:
		if (!json_is_boolean(v))
			return api_refuse(err, 400, r->key,
					  "%s has to be true or false", r->key);
		*(bool *)at = json_is_true(v);
		return 0;
	case COUNT:
		rc = take_count(r, at, v, err);
		if (r->at == AT(max_new))
			p->max_key = r->key;
		break;
	case REAL:
		rc = take_real(r, at, v, err);
		break;
	}
	if (!rc && r->has)
		*(bool *)(void *)((char *)p + r->has) = true;
	return rc;
}

/* top_k: -1 and 0 are off. seed and priority: any whole number. */
static int take_odd(const json_t *root, struct gen_params *p,
		    struct api_error *err)
{
	const json_t *k = json_object_get(root, "top_k");
	const json_t *seed = json_object_get(root, "seed");
	const json_t *prio = json_object_get(root, "priority");
	json_int_t n;

	if (k && !json_is_null(k)) {
		if (take_whole("top_k", k, -1, COUNT_MAX, &n, err))
			return -EINVAL;
		p->sampling.top_k = (u32)max(n, 0);
	}
	if (seed && !json_is_null(seed)) {
		if (!is_whole(seed, &n))
			return api_refuse(err, 400, "seed",
					  "seed has to be a whole number");
		p->sampling.seed = (u64)n;
		p->has_seed = true;
	}
	if (prio && !json_is_null(prio)) {
		if (take_whole("priority", prio, -(json_int_t)COUNT_MAX,
			       COUNT_MAX, &n, err))
			return -EINVAL;
		p->priority = (s32)n;
	}
	return 0;
}

/* No token at all is for who wants his prompt back, and its scores. */
static int check_max(struct gen_params *p, struct api_error *err)
{
	if (!p->has_max || p->max_new)
		return 0;
	if (!p->echo)
		return api_refuse(err, 400, p->max_key,
				  "%s has to be from 1 to %d, not 0; 0 is for "
				  "completions with echo",
				  p->max_key, COUNT_MAX);
	p->echo_only = true;
	p->max_new = 1; /* to be computed at all */
	return 0;
}

/* What each of two keys allows and both together do not. */
static int check_pairs(struct gen_params *p, struct api_error *err)
{
	if (p->chat ? !p->messages : !p->prompt)
		return api_refuse(err, 400, p->chat ? "messages" : "prompt",
				  "%s is missing",
				  p->chat ? "messages" : "prompt");
	if (p->tools_key)
		return api_refuse(err, 400, p->tools_key,
				  "%s: tool calls are not supported here; "
				  "tool_choice (function_call) 'none' does "
				  "without them",
				  p->tools_key);
	if (!p->has_best_of)
		p->best_of = p->n;
	if (p->best_of < p->n)
		return api_refuse(err, 400, "best_of",
				  "best_of %u is less than n %u", p->best_of,
				  p->n);
	if (p->best_of > p->n && p->stream)
		return api_refuse(err, 400, "best_of",
				  "the best of %u is known at the end and "
				  "cannot be streamed",
				  p->best_of);
	if (p->has_max && p->sampling.min_new > p->max_new)
		return api_refuse(err, 400, "min_tokens",
				  "min_tokens %u is more than %s %u",
				  p->sampling.min_new, p->max_key, p->max_new);
	if (!p->has_max && !p->chat && p->sampling.min_new > DEFAULT_NEW)
		return api_refuse(
			err, 400, "min_tokens",
			"min_tokens %u is more than max_tokens, which "
			"is %d unless it is given",
			p->sampling.min_new, DEFAULT_NEW);
	return check_max(p, err);
}

int params_parse(const json_t *root, bool chat, u32 vocab,
		 struct gen_params *out, struct api_error *err)
{
	size_t i;
	int rc;

	*out = (struct gen_params){
		.chat = chat,
		.skip_special = true,
		.add_special = true,
		.n = 1,
		.nr_logprobs = -1,
		.sampling = SAMPLING_GREEDY,
	};
	out->sampling.temperature = 1.0f;
	if (!json_is_object(root))
		return api_refuse(err, 400, NULL,
				  "the body has to be a JSON object");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		const json_t *v = json_object_get(root, rows[i].key);

		if (!v || json_is_null(v) ||
		    rows[i].where == (chat ? TEXT_ONLY : CHAT_ONLY))
			continue;
		rc = take_row(&rows[i], v, vocab, out, err);
		if (rc)
			return rc;
	}
	rc = take_odd(root, out, err);
	return rc ? rc : check_pairs(out, err);
}

void params_leave_body(struct gen_params *p)
{
	p->model = NULL;
	p->prompt = NULL;
	p->messages = NULL;
}

void params_fini(struct gen_params *p)
{
	stop_fini(&p->stop);
	free(p->bias);
	free(p->stop_ids);
	p->bias = NULL;
	p->stop_ids = NULL;
	p->sampling.bias = NULL;
	p->sampling.nr_bias = 0;
	p->nr_stop_ids = 0;
}
