/* SPDX-License-Identifier: MIT */
/*
 * test_prompt.c - prompts and messages over a tiny vocabulary
 *
 * san: address
 */
#include "runtime/model/chat_template.h"
#include "runtime/server/server_priv.h"
#include "selftests/harness.h"
#include "selftests/runtime/model/gguf_sample.h"

#define CONTEXT 64

static const struct server_opts opts = { .name = "m" };
static struct server sv = { .o = &opts };
static struct chat_template tmpl;
static struct vocab *vocab;

FIXTURE(prompt)
{
	json_t *body;
	struct call c;
	struct api_error e;
};

FIXTURE_SETUP(prompt)
{
	char why[KV_ERRLEN];
	struct gguf *g;
	size_t len;
	u8 *buf = sample_gpt2("<|im_start|> <|im_end|>", &len);

	ASSERT_EQ(0, gguf_open_mem(buf, len, "sample", &g, why));
	free(buf);
	ASSERT_EQ(0, vocab_load(g, &vocab, why));
	ASSERT_EQ(0, chat_template_detect(g, vocab, &tmpl, why));
	gguf_close(g);
	sv.m.vocab = vocab;
	sv.m.tmpl = &tmpl;
	sv.m.context = CONTEXT;
	sv.longest_piece = 12;
}

static void forget(struct call *c)
{
	u32 i;

	for (i = 0; i < c->nr_parts; i++) {
		free(c->parts[i].choices);
		free(c->parts[i].echo);
		feed_job_free(c->parts[i].job);
	}
	free(c->parts);
	params_fini(&c->g);
	memset(c, 0, sizeof(*c));
}

FIXTURE_TEARDOWN(prompt)
{
	forget(&self->c);
	json_decref(self->body);
	chat_template_fini(&tmpl);
	vocab_free(vocab);
}

/* What a body becomes. Return: 0 or -EINVAL, with self->e. */
static int read_body(struct call *c, json_t **body, const char *text, bool chat,
		     struct api_error *e)
{
	int rc;

	forget(c);
	json_decref(*body);
	*body = json_loads(text, JSON_ALLOW_NUL, NULL);
	ASSERT_TRUE(*body);
	memset(e, 0, sizeof(*e));
	c->sv = &sv;
	rc = params_parse(*body, chat, vocab_size(vocab), &c->g, e);
	return rc ? rc : prompt_parts(c, e);
}

static void expect_refused(const struct api_error *e, int rc, const char *param,
			   const char *sentence)
{
	EXPECT_NE(0, rc);
	EXPECT_EQ(400, e->status);
	EXPECT_STREQ(param, e->param);
	EXPECT_STREQ(sentence, e->message);
}

#define REFUSED(text, param, sentence)                                 \
	expect_refused(&self->e,                                       \
		       read_body(&self->c, &self->body, text,          \
				 !strncmp(text, "{\"m", 3), &self->e), \
		       param, sentence)

TEST_F(prompt, an_echo_goes_on_behind_a_nul)
{
	struct call *c = &self->c;

	ASSERT_EQ(0, read_body(c, &self->body,
			       "{\"prompt\":\"a\\u0000b\",\"echo\":true}",
			       false, &self->e));
	EXPECT_EQ(3, c->parts[0].nr_prompt);
	ASSERT_EQ(3, c->parts[0].echo_len);
	EXPECT_EQ(0, memcmp("a\0b", c->parts[0].echo, 3));
}

TEST_F(prompt, a_role_with_a_nul_in_it_is_refused)
{
	REFUSED("{\"messages\":[{\"role\":\"user\\u0000x\",\"content\":\"a\"}]}",
		"messages",
		"messages[0].role has to be a string without a NUL");
}

#define MSGS(second) \
	"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}," second "]}"

TEST_F(prompt, messages_are_counted_from_0_in_every_refusal)
{
	REFUSED(MSGS("{\"role\":\"witch\",\"content\":\"a\"}"), "messages",
		"messages[1] has the role 'witch', not system, user or "
		"assistant");
	REFUSED(MSGS("{\"content\":\"a\"}"), "messages",
		"messages[1] has no role");
	REFUSED(MSGS("3"), "messages", "messages[1] has no role");
	REFUSED(MSGS("{\"role\":\"user\",\"content\":7}"), "messages",
		"messages[1].content has to be a string or a list of parts");
	REFUSED(MSGS("{\"role\":\"user\",\"content\":[{\"text\":\"a\"},{}]}"),
		"messages",
		"messages[1].content[1] has no text: this model reads nothing "
		"else");
}

/* As the answer was that it is sent back from. */
TEST_F(prompt, an_answer_without_text_is_one)
{
	EXPECT_EQ(0,
		  read_body(&self->c, &self->body,
			    MSGS("{\"role\":\"assistant\",\"content\":null}"),
			    true, &self->e));
}

TEST_F(prompt, ids_may_be_whole_reals)
{
	ASSERT_EQ(0,
		  read_body(&self->c, &self->body,
			    "{\"prompt\":[97.0,98],\"stop_token_ids\":[7.0]}",
			    false, &self->e));
	EXPECT_EQ(1, self->c.nr_parts);
	EXPECT_EQ(2, self->c.parts[0].nr_prompt);
	EXPECT_EQ(7, self->c.g.stop_ids[0]);
	REFUSED("{\"prompt\":[97.5]}", "prompt",
		"prompt: ids are whole numbers from 0 to 263");
}

TEST_F(prompt, what_the_model_would_not_say_is_its_text)
{
	u32 nr;

	EXPECT_EQ(0, read_body(&self->c, &self->body,
			       MSGS("{\"role\":\"assistant\",\"content\":["
				    "{\"type\":\"refusal\",\"refusal\":"
				    "\"no\"}]}"),
			       true, &self->e));
	nr = self->c.parts[0].nr_prompt;
	EXPECT_EQ(0, read_body(&self->c, &self->body,
			       MSGS("{\"role\":\"assistant\",\"content\":null,"
				    "\"refusal\":\"no\"}"),
			       true, &self->e));
	EXPECT_EQ(nr, self->c.parts[0].nr_prompt);
	EXPECT_EQ(0, read_body(&self->c, &self->body,
			       MSGS("{\"role\":\"assistant\",\"content\":null,"
				    "\"refusal\":null}"),
			       true, &self->e));
	EXPECT_EQ(nr - 2, self->c.parts[0].nr_prompt);
	REFUSED(MSGS("{\"role\":\"user\",\"content\":null,\"refusal\":\"a\"}"),
		"messages",
		"messages[1].content has to be a string or a list of parts");
}

TEST_F(prompt, messages_of_tool_calls_are_told_that_there_are_none)
{
	REFUSED(MSGS("{\"role\":\"assistant\",\"content\":null,"
		     "\"tool_calls\":[{\"id\":\"1\"}]}"),
		"messages",
		"messages[1] has tool_calls: tool calls are not supported "
		"here");
	REFUSED(MSGS("{\"role\":\"tool\",\"content\":\"7\"}"), "messages",
		"messages[1] has the role 'tool': tool calls are not "
		"supported here");
	EXPECT_EQ(0, read_body(&self->c, &self->body,
			       MSGS("{\"role\":\"assistant\",\"content\":\"b\","
				    "\"tool_calls\":[]}"),
			       true, &self->e));
}

static const char *repeated(const char *before, const char *one, u32 n,
			    const char *after)
{
	static char out[4096];
	size_t len = (size_t)snprintf(out, sizeof(out), "%s", before);

	while (n--)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s",
					one);
	snprintf(out + len, sizeof(out) - len, "%s", after);
	return out;
}

TEST_F(prompt, one_as_long_as_the_context_is_told_what_fits)
{
	const char *body;
	char want[KV_ERRLEN];

	snprintf(want, sizeof(want),
		 "the prompt has %u tokens, at most %u fit: the model's "
		 "context is %u, of which one is for an answer",
		 CONTEXT, CONTEXT - 1, CONTEXT);
	body = repeated("{\"prompt\":\"", "x", CONTEXT, "\"}");
	REFUSED(body, "prompt", want);
	EXPECT_STREQ("context_length_exceeded", self->e.code);
	body = repeated("{\"prompt\":[1", ",2", CONTEXT - 1, "]}");
	REFUSED(body, "prompt", want);
	body = repeated("{\"prompt\":\"", "x", CONTEXT - 1, "\"}");
	EXPECT_EQ(0, read_body(&self->c, &self->body, body, false, &self->e));
}

TEST_F(prompt, messages_that_are_too_long_are_named)
{
	const char *body;

	body = repeated("{\"messages\":[{\"role\":\"user\",\"content\":\"", "x",
			CONTEXT, "\"}]}");
	EXPECT_NE(0, read_body(&self->c, &self->body, body, true, &self->e));
	EXPECT_STREQ("messages", self->e.param);
	EXPECT_STREQ("context_length_exceeded", self->e.code);
	body = repeated("{\"messages\":[{\"role\":\"user\",\"content\":\"", "x",
			CONTEXT * 12 + 1, "\"}]}");
	EXPECT_NE(0, read_body(&self->c, &self->body, body, true, &self->e));
	EXPECT_STREQ("messages", self->e.param);
}

TEST_HARNESS_MAIN
