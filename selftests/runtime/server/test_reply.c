/* SPDX-License-Identifier: MIT */
/*
 * test_reply.c - chunks and whole answers, read by a JSON reader
 *
 * san: address
 */
#include "runtime/server/server_priv.h"
#include "selftests/harness.h"
#include "selftests/runtime/model/gguf_sample.h"

static const struct server_opts opts = { .name = "a \"model\"\n" };
static struct server sv = { .o = &opts };

static void make(struct call *c, struct part *p, struct choice *ch, bool chat,
		 bool stream)
{
	memset(c, 0, sizeof(*c));
	memset(p, 0, sizeof(*p));
	memset(ch, 0, 2 * sizeof(*ch));
	c->sv = &sv;
	c->parts = p;
	c->nr_parts = 1;
	c->g.chat = chat;
	c->g.stream = stream;
	c->g.n = c->g.best_of = 2;
	c->g.nr_logprobs = -1;
	snprintf(c->id, sizeof(c->id), "id-1");
	p->call = c;
	p->nr_prompt = 5;
	p->nr_cached = 3;
	p->choices = ch;
	reply_head(c);
}

static void unmake(struct call *c)
{
	strbuf_free(&c->head);
	strbuf_free(&c->out);
}

/* The object of the next event of a stream; NULL: [DONE]. */
static json_t *next_event(char **at)
{
	char *end = strstr(*at, "\n\n"), *from = *at;
	json_error_t e;
	json_t *v;

	ASSERT_TRUE(end);
	ASSERT_EQ(0, strncmp(from, "data: ", 6));
	*at = end + 2;
	if (!strncmp(from + 6, "[DONE]\n", 7))
		return NULL;
	v = json_loadb(from + 6, (size_t)(end - from) - 6, JSON_ALLOW_NUL, &e);
	if (!EXPECT_TRUE(v))
		TH_LOG("%s: %.*s", e.text, (int)(end - from), from);
	return v;
}

static size_t random_chars(u64 *seed, char *out, u32 nr)
{
	static const char *const c[] = {
		"a",	  "\"",	  "\\",		 "\n",
		"\r",	  "\n\n", "\xc3\xa4",	 "\xf0\x9f\x98\x80",
		"data: ", "\x01", "\xe2\x80\xa8"
	};
	size_t len = 0, n;
	u32 i;

	for (i = 0; i < nr; i++) {
		const char *s = c[test_rand(seed) % ARRAY_SIZE(c)];

		n = strlen(s);
		memcpy(out + len, s, n);
		len += n;
	}
	return len;
}

/* The chunks' texts, put together again, are the text. */
static void stream_once(u64 *seed, bool chat)
{
	struct call c;
	struct part p;
	struct choice ch[2];
	char text[1024], *at;
	struct strbuf got = { 0 };
	size_t len = random_chars(seed, text, 60), to = 0;
	u32 chunks = 0;
	json_t *v;

	make(&c, &p, ch, chat, true);
	ch[1].text = text;
	ch[1].len = len;
	do {
		to = min(len, to + test_rand(seed) % 20);
		while (to < len && ((u8)text[to] & 0xc0) == 0x80)
			to++; /* whole characters, as ever */
		ch[1].finish = to == len ? "stop" : NULL;
		reply_chunk(&c, &p, &ch[1], to);
		chunks++;
	} while (to < len);
	reply_stream_end(&c);
	ASSERT_FALSE(c.out.failed);
	for (at = c.out.p; (v = next_event(&at)); chunks--) {
		const json_t *one =
			json_array_get(json_object_get(v, "choices"), 0);
		const json_t *t =
			chat ? json_object_get(json_object_get(one, "delta"),
					       "content")
			     : json_object_get(one, "text");

		EXPECT_EQ(1, json_integer_value(json_object_get(one, "index")));
		EXPECT_EQ(0,
			  strcmp(opts.name, json_string_value(json_object_get(
						    v, "model"))));
		strbuf_add(&got, json_string_value(t), json_string_length(t));
		EXPECT_EQ(chunks == 1, json_is_string(json_object_get(
					       one, "finish_reason")));
		json_decref(v);
	}
	EXPECT_EQ(0, chunks);
	EXPECT_EQ(0, strlen(at));
	EXPECT_EQ(len, got.len);
	EXPECT_TRUE(!len || !memcmp(text, got.p, len));
	strbuf_free(&got);
	unmake(&c);
}

TEST(reply, chunks_of_a_stream_are_the_text)
{
	u64 seed = test_seed();
	u32 i;

	for (i = 0; i < 1000; i++)
		stream_once(&seed, i % 2);
}

TEST(reply, a_stream_that_fails_says_so_and_ends)
{
	struct call c;
	struct part p;
	struct choice ch[2];
	char *at;
	json_t *v;

	make(&c, &p, ch, false, true);
	(void)api_refuse(&c.error, 500, NULL, "it\nfailed");
	reply_stream_error(&c);
	at = c.out.p;
	v = next_event(&at);
	EXPECT_TRUE(json_is_object(json_object_get(v, "error")));
	json_decref(v);
	EXPECT_FALSE(next_event(&at));
	unmake(&c);
}

TEST(reply, a_whole_answer_has_the_likeliest_samples_and_usage)
{
	struct call c;
	struct part p;
	struct choice ch[2];
	char one[] = "one", two[] = "two";
	const json_t *choices, *u;
	json_t *v;

	make(&c, &p, ch, false, false);
	c.g.n = 1;
	ch[0] = (struct choice){ .text = one,
				 .len = 3,
				 .nr_tokens = 1,
				 .cum = -2,
				 .finish = "stop" };
	ch[1] = (struct choice){ .text = two,
				 .len = 3,
				 .nr_tokens = 4,
				 .cum = -4,
				 .finish = "length" };
	reply_whole(&c);
	ASSERT_EQ(0, c.error.status);
	v = json_loadb(c.out.p, c.out.len, 0, NULL);
	choices = json_object_get(v, "choices");
	EXPECT_EQ(1, json_array_size(choices));
	EXPECT_EQ(0,
		  strcmp("two", json_string_value(json_object_get(
					json_array_get(choices, 0), "text"))));
	u = json_object_get(v, "usage");
	EXPECT_EQ(5, json_integer_value(json_object_get(u, "prompt_tokens")));
	EXPECT_EQ(5,
		  json_integer_value(json_object_get(u, "completion_tokens")));
	EXPECT_EQ(10, json_integer_value(json_object_get(u, "total_tokens")));
	EXPECT_EQ(3, json_integer_value(json_object_get(
			     json_object_get(u, "prompt_tokens_details"),
			     "cached_tokens")));
	json_decref(v);
	unmake(&c);
}

static struct vocab *load(u8 *buf, size_t len)
{
	char err[KV_ERRLEN];
	struct vocab *v = NULL;
	struct gguf *g;

	ASSERT_EQ(0, gguf_open_mem(buf, len, "sample", &g, err));
	free(buf);
	ASSERT_EQ(0, vocab_load(g, &v, err));
	gguf_close(g);
	sv.m.vocab = v;
	return v;
}

/* The offsets of a prompt that is echoed, and of an answer behind it. */
static void expect_offsets(const char *want, const char *echo, bool from_text,
			   const u32 *prompt, u32 nr_prompt, const u32 *made,
			   u32 nr_made)
{
	static const struct token_logprob top[1];
	struct feed_event ev = { 0 };
	struct choice ch[2];
	struct part p;
	struct call c;
	u32 i;

	make(&c, &p, ch, false, false);
	c.g.nr_logprobs = 0;
	if (nr_prompt) {
		p.job = feed_job(1);
		ASSERT_TRUE(p.job);
		p.job->prompt = malloc(nr_prompt * sizeof(*prompt));
		ASSERT_TRUE(p.job->prompt);
		memcpy(p.job->prompt, prompt, nr_prompt * sizeof(*prompt));
		p.job->p.nr_prompt = p.nr_prompt = nr_prompt;
		p.job->p.nr_logprobs = 1;
		ASSERT_EQ(0, feed_job_scores(p.job));
		p.echo = strdup(echo);
		p.echo_len = strlen(echo);
		p.from_text = from_text;
		reply_prompt_logprobs(&c, &p, ch);
	}
	for (i = 0; i < nr_made; i++) {
		ev.id = made[i];
		reply_logprob(&c, ch, &ev, top);
		ASSERT_EQ(0, vocab_stream_push(sv.m.vocab, &ch[0].vs, ev.id,
					       VOCAB_SKIP_SPECIAL, &ch[0].text,
					       &ch[0].len));
	}
	EXPECT_STREQ(want, ch[0].lps.offsets.p);
	lps_free(&ch[0].lps);
	free(ch[0].text);
	free(p.echo);
	feed_job_free(p.job);
	unmake(&c);
}

#define IDS(...)            \
	(const u32[])       \
	{                   \
		__VA_ARGS__ \
	}
#define START 261 /* <|im_start|> */

TEST(reply, offsets_count_characters_whatever_tokens_split)
{
	size_t len;
	u8 *buf = sample_gpt2(NULL, &len);
	struct vocab *v = load(buf, len);

	/* a grin in four tokens; a euro whose end never comes; "hello" */
	expect_offsets("0,0,0,0,1,1,2,7,8", NULL, false, NULL, 0,
		       IDS(0xf0, 0x9f, 0x98, 0x80, 0xe2, 0x82, 259, 'a', 0xc3),
		       9);
	expect_offsets("0,1,2,7", NULL, false, NULL, 0,
		       IDS(0xc3, 0xc3, 259, 'a'), 4);
	/* the same behind an echo, which ends within a character */
	expect_offsets("0,0,1,2,3", "\xc3\xa4x\xc3", false,
		       IDS(0xc3, 0xa4, 'x', 0xc3), 4, IDS('y'), 1);
	vocab_free(v);
}

TEST(reply, offsets_fit_an_echo_with_names_of_special_tokens)
{
	size_t len;
	u8 *buf = sample_gpt2(NULL, &len);
	struct vocab *v = load(buf, len);

	/* in a client's text they are text, of a client's list left out */
	expect_offsets("0,0,1,13,14", "\xc3\xa4<|im_start|>b", true,
		       IDS(0xc3, 0xa4, START, 'b'), 4, IDS('c'), 1);
	expect_offsets("0,0,1,1,2",
		       "\xc3\xa4"
		       "b",
		       false, IDS(0xc3, 0xa4, START, 'b'), 4, IDS('c'), 1);
	vocab_free(v);
	/* BOS and a space before the text are the tokenizer's own */
	buf = sample_llama(&len);
	v = load(buf, len);
	ASSERT_TRUE(vocab_adds_bos(v));
	expect_offsets("0,0,5,10", "hellohello", true,
		       IDS(vocab_bos(v), 12, 10), 3, IDS(10), 1);
	vocab_free(v);
}

TEST_HARNESS_MAIN
