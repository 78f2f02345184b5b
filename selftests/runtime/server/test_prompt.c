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

static void expect_refused(struct call *c, json_t **body, const char *text,
			   const char *param, const char *sentence)
{
	bool chat = !strncmp(text, "{\"messages\"", 11);
	struct api_error e;

	if (!EXPECT_NE(0, read_body(c, body, text, chat, &e)))
		return;
	EXPECT_EQ(400, e.status);
	EXPECT_STREQ(param, e.param);
	EXPECT_STREQ(sentence, e.message);
}

#define REFUSED(text, param, sentence) \
	expect_refused(&self->c, &self->body, text, param, sentence)

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
		"message 0 has a role that is no string without a NUL");
}

TEST_HARNESS_MAIN
