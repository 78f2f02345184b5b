/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_PARAMS_H
#define RUNTIME_SERVER_PARAMS_H
/*
 * params.h - what a body asks for
 *
 * A key that is not known says nothing, nor does one that is null. One that is
 * known and has a value that it cannot have is refused, with its name.
 */
#include <jansson.h>
#include <string.h>

#include "runtime/engine/sampler.h"
#include "runtime/server/api_error.h"
#include "runtime/server/stop.h"

#define DEFAULT_NEW 16 /* tokens of a completion that has no maximum */

struct gen_params {
	bool chat;
	bool stream, include_usage, continuous_usage;
	bool ignore_eos, include_stop, skip_special;
	bool add_special; /* to a text that is a prompt */
	bool has_max, has_seed, has_best_of, echo;
	bool echo_only; /* the one token that is made is not shown */
	const char *tools_key; /* of tools that may be called; NULL: none */
	u32 max_new; /* if has_max */
	const char *max_key; /* the one that it was given by */
	u32 n, best_of; /* best_of >= n */
	s32 nr_logprobs; /* -1: none wanted */
	struct sampling sampling;
	struct sampling_bias *bias; /* [sampling.nr_bias] */
	u32 *stop_ids; /* [nr_stop_ids] */
	u32 nr_stop_ids;
	struct stop_list stop;
	s32 priority; /* lower ones come first */
	u64 salt; /* 0: none */
	/* parts of the body, until params_leave_body() */
	const char *model; /* NULL: not given */
	const json_t *prompt; /* completions: string or array, not empty */
	const json_t *messages; /* chat: array, not empty */
};

/**
 * params_parse - read a body
 * @root: lives as long as @out, or until params_leave_body()
 * @vocab: ids are below it
 * @out: params_fini() it, also after a failure
 *
 * Return: 0, or -EINVAL with the refusal.
 */
int __must_check params_parse(const json_t *root, bool chat, u32 vocab,
			      struct gen_params *out, struct api_error *err);
/* The body may go: nobody looks at its model and prompts any more. */
void params_leave_body(struct gen_params *p);
void params_fini(struct gen_params *p);

/**
 * json_read_ids - read a list of token ids
 * @key: whose value @list is, for a refusal
 * @list: NULL: there is none, which is refused too
 * @vocab: ids are below it
 * @ids: @nr of them, the caller frees them
 *
 * Return: 0, or -EINVAL with the refusal.
 */
int __must_check json_read_ids(const char *key, const json_t *list, u32 vocab,
			       u32 **ids, size_t *nr, struct api_error *err);

/* json_name - a string to compare with others; NULL: none, or with a NUL in it
 */
static inline const char *json_name(const json_t *v)
{
	const char *s = json_string_value(v);

	return s && strlen(s) == json_string_length(v) ? s : NULL;
}

/* params_scores_prompt - are log-probabilities of the prompt wanted? */
static inline bool params_scores_prompt(const struct gen_params *p)
{
	return p->echo && p->nr_logprobs >= 0;
}

#endif
