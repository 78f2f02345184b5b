/* SPDX-License-Identifier: MIT */
/*
 * test_params.c - bodies, right and wrong and random
 *
 * san: address
 */
#include "runtime/server/params.h"
#include "selftests/harness.h"

#define VOCAB 300

static json_t *root;

static int parse(const char *body, bool chat, struct gen_params *p,
		 struct api_error *e)
{
	json_decref(root);
	root = json_loads(body, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	memset(e, 0, sizeof(*e));
	return params_parse(root, chat, VOCAB, p, e);
}

static void expect_sentence(const char *body, const char *param,
			    const char *sentence)
{
	struct gen_params p;
	struct api_error e;

	if (EXPECT_NE(0, parse(body, false, &p, &e))) {
		EXPECT_STREQ(param, e.param);
		EXPECT_STREQ(sentence, e.message);
	}
	params_fini(&p);
}

static void expect_refused(const char *body, bool chat, const char *param)
{
	struct gen_params p;
	struct api_error e;

	if (!EXPECT_NE(0, parse(body, chat, &p, &e)) ||
	    !EXPECT_EQ(400, e.status) || !EXPECT_TRUE(e.param) ||
	    !EXPECT_EQ(0, strcmp(param, e.param)))
		TH_LOG("%s: %s", body, e.message);
	params_fini(&p);
}

TEST(params, what_is_not_said_has_its_default)
{
	struct gen_params p;
	struct api_error e;

	ASSERT_EQ(0, parse("{\"prompt\":\"a\"}", false, &p, &e));
	EXPECT_EQ(1, p.n);
	EXPECT_EQ(1, p.best_of);
	EXPECT_FALSE(p.has_max);
	EXPECT_FALSE(p.has_seed);
	EXPECT_FALSE(p.stream);
	EXPECT_TRUE(p.skip_special);
	EXPECT_EQ(-1, p.nr_logprobs);
	EXPECT_EQ(1, (int)p.sampling.temperature);
	EXPECT_FALSE(sampler_check(&p.sampling));
	EXPECT_EQ(0, p.salt);
	params_fini(&p);
}

TEST(params, null_and_unknown_keys_say_nothing)
{
	struct gen_params p;
	struct api_error e;

	ASSERT_EQ(0, parse("{\"prompt\":\"a\",\"n\":null,\"stop\":null,"
			   "\"x\":[1],\"seed\":null,\"logit_bias\":null,"
			   "\"top_k\":null,\"messages\":3}",
			   false, &p, &e));
	EXPECT_EQ(1, p.n);
	EXPECT_EQ(0, p.stop.nr);
	params_fini(&p);
}

TEST(params, every_value_arrives)
{
	struct gen_params p;
	struct api_error e;

	ASSERT_EQ(0,
		  parse("{\"messages\":[1],\"max_completion_tokens\":9,"
			"\"max_tokens\":4,\"min_tokens\":3,\"n\":2,\"seed\":-1,"
			"\"temperature\":0,\"top_p\":0.5,\"top_k\":-1,"
			"\"min_p\":0.25,\"presence_penalty\":1,"
			"\"frequency_penalty\":-1,\"repetition_penalty\":2,"
			"\"logit_bias\":{\"7\":-100,\"299\":1.5},"
			"\"stop\":[\"a\",\"bc\"],\"stop_token_ids\":[1,2],"
			"\"ignore_eos\":true,\"logprobs\":true,"
			"\"top_logprobs\":4,\"stream\":true,"
			"\"stream_options\":{\"include_usage\":true},"
			"\"skip_special_tokens\":false,\"priority\":-3,"
			"\"cache_salt\":\"s\",\"model\":\"m\"}",
			true, &p, &e));
	EXPECT_EQ(9, p.max_new);
	EXPECT_EQ(3, p.sampling.min_new);
	EXPECT_EQ(2, p.n);
	EXPECT_EQ(2, p.best_of);
	EXPECT_TRUE(p.has_seed);
	EXPECT_EQ(~0ull, p.sampling.seed);
	EXPECT_EQ(0, p.sampling.top_k);
	EXPECT_EQ(0, p.sampling.temperature != 0.0f);
	EXPECT_EQ(25, (int)(p.sampling.min_p * 100));
	EXPECT_EQ(2, p.sampling.nr_bias);
	EXPECT_EQ(2, p.stop.nr);
	EXPECT_EQ(2, p.nr_stop_ids);
	EXPECT_TRUE(p.ignore_eos && p.stream && p.include_usage &&
		    !p.skip_special && p.has_max);
	EXPECT_EQ(4, p.nr_logprobs);
	EXPECT_EQ(-3, p.priority);
	EXPECT_NE(0, p.salt);
	params_fini(&p);
}

TEST(params, what_cannot_be_is_refused_by_its_name)
{
	expect_refused("{}", false, "prompt");
	expect_refused("{\"prompt\":3}", false, "prompt");
	expect_refused("{\"prompt\":[]}", false, "prompt");
	expect_refused("{}", true, "messages");
	expect_refused("{\"messages\":[]}", true, "messages");
	expect_refused("{\"prompt\":\"a\",\"n\":1.5}", false, "n");
	expect_refused("{\"prompt\":\"a\",\"n\":1e3}", false, "n");
	expect_refused("{\"prompt\":\"a\",\"max_tokens\":-1}", false,
		       "max_tokens");
	expect_refused("{\"prompt\":\"a\",\"top_k\":-2}", false, "top_k");
	expect_refused("{\"prompt\":\"a\",\"best_of\":1,\"n\":2}", false,
		       "best_of");
	expect_refused("{\"prompt\":\"a\",\"best_of\":2,\"stream\":true}",
		       false, "best_of");
	expect_refused("{\"prompt\":\"a\",\"logit_bias\":{\"300\":1}}", false,
		       "logit_bias");
	expect_refused("{\"prompt\":\"a\",\"logit_bias\":{\"1\":101}}", false,
		       "logit_bias");
	expect_refused("{\"prompt\":\"a\",\"stop_token_ids\":[300]}", false,
		       "stop_token_ids");
	expect_refused("{\"messages\":[1],\"top_logprobs\":1}", true,
		       "top_logprobs");
	expect_refused("{\"prompt\":\"a\",\"min_tokens\":5,\"max_tokens\":4}",
		       false, "min_tokens");
	expect_refused("{\"prompt\":\"a\",\"cache_salt\":\"\"}", false,
		       "cache_salt");
	expect_refused("{\"prompt\":\"a\",\"stop\":[\"a\",\"\"]}", false,
		       "stop");
}

TEST(params, every_switch_has_to_be_true_or_false)
{
	static const char *const switches[] = { "stream", "ignore_eos", "echo",
						"include_stop_str_in_output",
						"skip_special_tokens" };
	char body[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(switches); i++) {
		snprintf(body, sizeof(body), "{\"prompt\":\"a\",\"%s\":\"x\"}",
			 switches[i]);
		expect_refused(body, false, switches[i]);
	}
}

TEST(params, more_min_tokens_than_the_default_maximum_are_refused)
{
	struct gen_params p;
	struct api_error e;

	expect_refused("{\"prompt\":\"a\",\"min_tokens\":17}", false,
		       "min_tokens");
	EXPECT_EQ(0,
		  parse("{\"prompt\":\"a\",\"min_tokens\":16}", false, &p, &e));
	params_fini(&p);
	EXPECT_EQ(0,
		  parse("{\"messages\":[1],\"min_tokens\":17}", true, &p, &e));
	params_fini(&p);
}

TEST(params, tools_are_refused_unless_none_may_be_called)
{
	static const char *const fine[] = {
		"{\"messages\":[1],\"tools\":[]}",
		"{\"messages\":[1],\"tools\":null}",
		"{\"messages\":[1],\"tools\":[{}],\"tool_choice\":\"none\"}",
		"{\"messages\":[1],\"tool_choice\":\"auto\"}",
		"{\"messages\":[1],\"functions\":[{}],"
		"\"function_call\":\"none\"}",
	};
	struct gen_params p;
	struct api_error e;
	size_t i;

	expect_refused("{\"messages\":[1],\"tools\":[{}]}", true, "tools");
	expect_refused("{\"messages\":[1],\"tools\":[{}],"
		       "\"tool_choice\":\"auto\"}",
		       true, "tools");
	expect_refused("{\"messages\":[1],\"tools\":{}}", true, "tools");
	expect_refused("{\"messages\":[1],\"functions\":[{}]}", true,
		       "functions");
	for (i = 0; i < ARRAY_SIZE(fine); i++) {
		EXPECT_EQ(0, parse(fine[i], true, &p, &e));
		params_fini(&p);
	}
}

TEST(params, a_form_that_an_answer_cannot_be_held_to_is_refused)
{
	static const char *const fine[] = {
		"{\"prompt\":\"a\",\"response_format\":{\"type\":\"text\"}}",
		"{\"prompt\":\"a\",\"response_format\":null}",
		"{\"prompt\":\"a\",\"suffix\":\"\",\"grammar\":\"\"}",
		"{\"prompt\":\"a\",\"guided_json\":false}",
	};
	struct gen_params p;
	struct api_error e;
	size_t i;

	expect_refused("{\"prompt\":\"a\",\"response_format\":"
		       "{\"type\":\"json_object\"}}",
		       false, "response_format");
	expect_refused("{\"prompt\":\"a\",\"response_format\":\"text\"}", false,
		       "response_format");
	expect_refused("{\"prompt\":\"a\",\"suffix\":\"b\"}", false, "suffix");
	expect_refused("{\"prompt\":\"a\",\"use_beam_search\":true}", false,
		       "use_beam_search");
	expect_refused("{\"messages\":[1],\"structured_outputs\":{}}", true,
		       "structured_outputs");
	expect_refused(
		"{\"prompt\":\"a\",\"json_schema\":{\"type\":\"object\"}}",
		false, "json_schema");
	for (i = 0; i < ARRAY_SIZE(fine); i++) {
		EXPECT_EQ(0, parse(fine[i], false, &p, &e));
		params_fini(&p);
	}
}

TEST(params, a_model_with_a_nul_in_its_name_is_refused)
{
	expect_refused("{\"prompt\":\"a\",\"model\":\"m\\u0000x\"}", false,
		       "model");
	expect_refused("{\"prompt\":\"a\",\"model\":\"\\u0000\"}", false,
		       "model");
}

/* They were passed over, and the answer was another one than was asked for. */
TEST(params, keys_whose_loss_would_change_the_answer_are_refused)
{
	static const char *const fine =
		"{\"messages\":[1],\"bad_words\":[],\"chat_template\":null,"
		"\"continue_final_message\":false,"
		"\"add_generation_prompt\":true,\"add_special_tokens\":false}";
	struct gen_params p;
	struct api_error e;

	expect_refused("{\"prompt\":\"a\",\"bad_words\":[\"b\"]}", false,
		       "bad_words");
	expect_refused("{\"prompt\":\"a\",\"allowed_token_ids\":[7]}", false,
		       "allowed_token_ids");
	expect_refused("{\"prompt\":\"a\",\"truncate_prompt_tokens\":9}", false,
		       "truncate_prompt_tokens");
	expect_refused("{\"prompt\":\"a\",\"prompt_logprobs\":0}", false,
		       "prompt_logprobs");
	expect_refused("{\"messages\":[1],\"chat_template\":\"x\"}", true,
		       "chat_template");
	expect_refused("{\"messages\":[1],\"continue_final_message\":true}",
		       true, "continue_final_message");
	expect_refused("{\"messages\":[1],\"add_generation_prompt\":false}",
		       true, "add_generation_prompt");
	EXPECT_EQ(0, parse(fine, true, &p, &e));
	params_fini(&p);
}

TEST(params, a_whole_number_may_be_written_as_a_real)
{
	struct gen_params p;
	struct api_error e;

	ASSERT_EQ(0, parse("{\"prompt\":\"a\",\"max_tokens\":3.0,\"n\":2e0,"
			   "\"top_k\":-1.0,\"seed\":-7.0,\"logprobs\":1.0}",
			   false, &p, &e));
	EXPECT_EQ(3, p.max_new);
	EXPECT_EQ(2, p.n);
	EXPECT_TRUE(p.sampling.seed == (u64)-7);
	EXPECT_EQ(1, p.nr_logprobs);
	params_fini(&p);
	expect_refused("{\"prompt\":\"a\",\"seed\":1e300}", false, "seed");
	expect_refused("{\"prompt\":\"a\",\"n\":1.5}", false, "n");
}

TEST(params, no_token_at_all_is_for_an_echo)
{
	struct gen_params p;
	struct api_error e;

	ASSERT_EQ(0, parse("{\"prompt\":\"a\",\"max_tokens\":0,"
			   "\"echo\":true}",
			   false, &p, &e));
	EXPECT_TRUE(p.echo_only);
	EXPECT_EQ(1, p.max_new);
	params_fini(&p);
	expect_refused("{\"prompt\":\"a\",\"max_tokens\":0}", false,
		       "max_tokens");
	expect_refused("{\"prompt\":\"a\",\"max_tokens\":0,\"echo\":true,"
		       "\"min_tokens\":1}",
		       false, "min_tokens");
	expect_refused("{\"messages\":[1],\"max_tokens\":0,\"echo\":true}",
		       true, "max_tokens");
}

#define SENTENCE(rest, param, sentence) \
	expect_sentence("{\"prompt\":\"a\"," rest "}", param, sentence)

TEST(params, a_refusal_names_the_key_that_was_sent)
{
	SENTENCE(
		"\"max_completion_tokens\":0", "max_completion_tokens",
		"max_completion_tokens has to be from 1 to 2147483647, not 0; 0 "
		"is for completions with echo");
	SENTENCE("\"n_predict\":0", "n_predict",
		 "n_predict has to be from 1 to 2147483647, not 0; 0 is for "
		 "completions with echo");
	SENTENCE("\"max_completion_tokens\":4,\"min_tokens\":5", "min_tokens",
		 "min_tokens 5 is more than max_completion_tokens 4");
}

TEST(params, a_refusal_has_the_bounds_of_a_whole_number)
{
	SENTENCE("\"max_tokens\":-1", "max_tokens",
		 "max_tokens has to be from 0 to 2147483647, not -1");
	SENTENCE("\"top_k\":2147483648", "top_k",
		 "top_k has to be from -1 to 2147483647, not 2147483648");
	SENTENCE("\"top_k\":1.5", "top_k", "top_k has to be a whole number");
	SENTENCE("\"priority\":2147483648", "priority",
		 "priority has to be from -2147483647 to 2147483647, not "
		 "2147483648");
	SENTENCE("\"logprobs\":21", "logprobs",
		 "logprobs has to be from 0 to 20, not 21");
	SENTENCE("\"n\":9223372036854775807", "n",
		 "n has to be from 1 to 128, not 9223372036854775807");
}

static const char *const keys[] = {
	"prompt",
	"messages",
	"model",
	"stream",
	"stream_options",
	"ignore_eos",
	"echo",
	"max_tokens",
	"max_completion_tokens",
	"min_tokens",
	"n",
	"best_of",
	"temperature",
	"top_p",
	"min_p",
	"top_k",
	"seed",
	"presence_penalty",
	"logit_bias",
	"stop",
	"stop_token_ids",
	"logprobs",
	"top_logprobs",
	"cache_salt",
	"priority",
	"frequency_penalty",
	"repetition_penalty",
	"skip_special_tokens",
	"tools",
	"tool_choice",
	"functions",
	"function_call",
	"response_format",
	"suffix",
	"grammar",
};

static const char *const values[] = {
	"null",	       "true",	    "false",  "0",
	"1",	       "-1",	    "2",      "1e9",
	"1e308",       "-1e308",    "0.5",    "99999999999999999999e5",
	"\"\"",	       "\"a\"",	    "[]",     "[\"a\"]",
	"[1]",	       "[[1,2]]",   "[300]",  "{}",
	"{\"1\":2}",   "{\"x\":1}", "[null]", "9223372036854775807",
	"\"\\u0000\"",
};

/* Whatever is in it: refused with a sentence, or what a sampler takes. */
TEST(params, random_bodies_are_refused_or_right)
{
	u64 seed = test_seed();
	char body[1024];
	u32 round, i, n, taken = 0;

	for (round = 0; round < 20000; round++) {
		struct gen_params p;
		struct api_error e;
		bool chat = round % 2;

		n = (u32)snprintf(body, sizeof(body), "{%s",
				  chat ? "\"messages\":[1]"
				       : "\"prompt\":\"a\"");
		for (i = 0; i < test_rand(&seed) % 4; i++)
			n += (u32)snprintf(
				body + n, sizeof(body) - n, ",\"%s\":%s",
				keys[test_rand(&seed) % ARRAY_SIZE(keys)],
				values[test_rand(&seed) % ARRAY_SIZE(values)]);
		snprintf(body + n, sizeof(body) - n, "}");
		if (parse(body, chat, &p, &e)) {
			EXPECT_TRUE(e.message[0]);
			EXPECT_TRUE(e.status == 400);
		} else {
			taken++;
			if (!EXPECT_FALSE(sampler_check(&p.sampling)) ||
			    !EXPECT_LE(p.n, p.best_of))
				TH_LOG("%s", body);
		}
		params_fini(&p);
	}
	EXPECT_GT(taken, 1000);
	json_decref(root);
}

TEST_HARNESS_MAIN
