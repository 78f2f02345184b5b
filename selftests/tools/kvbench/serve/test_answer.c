/* SPDX-License-Identifier: MIT */
/*
 * test_answer.c - HTTP, chunks, events: cut anywhere, they come out the same
 *
 * san: address
 */
#include "selftests/harness.h"
#include "tools/kvbench/serve/answer.h"

#define EVENT(text)                             \
	"data: {\"choices\":[{\"text\":\"" text \
	"\",\"finish_reason\":null}]}\n\n"

static const char events[] = ": waiting\n\n" EVENT(" one") "\r\n" EVENT(
	" \\u00e4\\n\\\"") "event: x\r\r"
			   "data:{\"choices\":\ndata:[{\"text\":\" c\",\"finish_reason\":\"stop\","
			   "\"token_ids\":[7,8]}]}\r\n\r\n"
			   "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":90,"
			   "\"completion_tokens\":3,\"prompt_tokens_details\":"
			   "{\"cached_tokens\":64}}}\n\ndata: [DONE]\n\n";

/* The events in chunks of about @size bytes, below a head. */
static size_t chunked(char *out, size_t room, const char *body, size_t size,
		      bool whole)
{
	size_t n, at, left = strlen(body);

	n = (size_t)snprintf(out, room,
			     "HTTP/1.1 100 Continue\r\n\r\n"
			     "HTTP/1.1 200 OK\r\nContent-type: "
			     "text/event-stream; charset=utf-8\r\nX-A: b:c\r\n"
			     "transfer-encoding:  chunked \r\n\r\n");
	for (at = 0; left; at += size, left -= size) {
		size = min(size, left);
		n += (size_t)snprintf(out + n, room - n, "%zX%s\r\n%.*s\r\n",
				      size, at % 3 ? "" : " ;name=value",
				      (int)size, body + at);
	}
	if (whole)
		n += (size_t)snprintf(out + n, room - n,
				      "000\r\nTrailer: x\r\n\r\n");
	return n;
}

static void expect_whole(const struct answer *a)
{
	EXPECT_STREQ(a->failure.kind, "");
	EXPECT_EQ(a->nr_events, 3);
	EXPECT_EQ(a->prompt_tokens, 90);
	EXPECT_EQ(a->output_tokens, 3);
	EXPECT_EQ(a->cached_tokens, 64);
	EXPECT_TRUE(a->has_cached && a->is_finished);
	EXPECT_TRUE(a->http.keep_alive);
	EXPECT_STREQ(a->text.p, " one \u00e4\n\" c");
	ASSERT_EQ(a->nr_ids, 2);
	EXPECT_EQ(a->ids[1], 8);
	EXPECT_EQ(a->sse.nr_comments, 1);
}

/* In pieces; the answer has to be over with the last byte, not before. */
static void feed(struct answer *a, const char *p, size_t len, u64 *rng,
		 size_t piece)
{
	size_t at, n;

	answer_reset(a, true);
	for (at = 0; at < len; at += n) {
		n = rng ? 1 + test_rand(rng) % piece : piece;
		n = min(n, len - at);
		ASSERT_EQ(answer_take(a, p + at, n), at + n == len);
	}
}

TEST(answer, is_the_same_wherever_it_is_cut_in_two)
{
	char buf[4096];
	struct answer a;
	size_t cut, len = chunked(buf, sizeof(buf), events, 37, true);

	answer_init(&a, false, NULL, NULL);
	for (cut = 1; cut < len; cut++) {
		answer_reset(&a, true);
		ASSERT_EQ(answer_take(&a, buf, cut), 0);
		ASSERT_EQ(answer_take(&a, buf + cut, len - cut), 1);
		expect_whole(&a);
	}
	answer_fini(&a);
}

TEST(answer, is_the_same_in_pieces_and_chunks_of_any_size)
{
	u64 rng = test_seed();
	char buf[16384];
	struct answer a;
	size_t size, len;
	u32 i;

	answer_init(&a, false, NULL, NULL);
	for (size = 1; size < 80; size++) {
		len = chunked(buf, sizeof(buf), events, size, true);
		feed(&a, buf, len, NULL, 1);
		expect_whole(&a);
		for (i = 0; i < 20; i++) {
			feed(&a, buf, len, &rng, 1 + test_rand(&rng) % 200);
			expect_whole(&a);
		}
	}
	answer_fini(&a);
}

TEST(answer, that_ends_early_is_broken_wherever)
{
	char buf[4096];
	struct answer a;
	size_t cut, len = chunked(buf, sizeof(buf), events, 50, true);

	answer_init(&a, false, NULL, NULL);
	for (cut = 0; cut < len; cut++) {
		answer_reset(&a, true);
		ASSERT_EQ(answer_take(&a, buf, cut), 0);
		answer_eof(&a);
		EXPECT_FALSE(a.http.keep_alive);
		EXPECT_TRUE(!strcmp(a.failure.kind, "broken") ||
			    !strcmp(a.failure.kind, "broken_stream"));
	}
	answer_fini(&a);
}

TEST(answer, of_random_bytes_does_no_harm)
{
	u64 rng = test_seed();
	char buf[4096];
	struct answer a;
	size_t len, k;
	u32 i;

	answer_init(&a, false, NULL, NULL);
	for (i = 0; i < 3000; i++) {
		len = chunked(buf, sizeof(buf), events, 60, true);
		for (k = 1 + test_rand(&rng) % 6; k; k--)
			buf[test_rand(&rng) % len] = (char)test_rand(&rng);
		answer_reset(&a, true);
		if (!answer_take(&a, buf, len))
			answer_eof(&a);
		/* Good, or it says what is wrong. */
		EXPECT_TRUE(a.failure.kind[0] || a.nr_events ||
			    a.output_tokens);
	}
	answer_fini(&a);
}

/* What becomes of an answer whose bytes are @s, then the end. */
static const char *kind_of(struct answer *a, const char *s)
{
	answer_reset(a, false);
	if (!answer_take(a, s, strlen(s)))
		answer_eof(a);
	return a->failure.kind;
}

#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

TEST(answer, says_what_is_wrong)
{
	struct answer a;

	answer_init(&a, false, NULL, NULL);
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 429 Too many\r\n"
				 "Content-Type: application/json\r\n"
				 "Content-Length: 32\r\n\r\n"
				 "{\"error\":{\"message\":\"queue full\"}}"),
		     "http_429");
	EXPECT_EQ(a.failure.what[0], '{'); /* cut: it is not JSON any more */
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 503 No\r\n\r\n"
				 "{\"error\":{\"message\":\"loading\"}}"),
		     "http_503");
	EXPECT_STREQ(a.failure.what, "loading");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.0 400 No\r\n\r\n{\"detail\":\"x\"}"),
		     "http_400");
	EXPECT_STREQ(a.failure.what, "x");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n"),
		     "http_500");
	EXPECT_STREQ(kind_of(&a, ""), "broken");
	EXPECT_STREQ(kind_of(&a, "SSH-2.0\r\n"), "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
		     "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: gzip\r\n\r\n"),
		     "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
				 "Content-Length: 4\r\n\r\n"),
		     "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: chunked\r\n\r\nx\r\n"),
		     "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: chunked\r\n\r\n"
				 "ffffffffffffff\r\n"),
		     "bad_http");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 200 OK\r\n\r\n{}"), "no_stream");
	EXPECT_STREQ(kind_of(&a, STREAM "data: {]\n\n"), "bad_json");
	EXPECT_STREQ(kind_of(&a, STREAM "data: [1]\n\n"), "bad_json");
	EXPECT_STREQ(kind_of(&a, STREAM "event: error\ndata: {}\n\n"),
		     "error_event");
	EXPECT_STREQ(kind_of(&a, STREAM "error: {\"message\":\"slots\"}\n\n"),
		     "error_event");
	EXPECT_STREQ(a.failure.what, "slots");
	EXPECT_STREQ(kind_of(&a, STREAM EVENT("a")), "broken_stream");
	EXPECT_STREQ(kind_of(&a, STREAM "data: [DONE]\n\n"), "empty");
	EXPECT_STREQ(kind_of(&a, STREAM EVENT("a") "data: [DONE]\n\n"), "");
	EXPECT_EQ(a.output_tokens, 1); /* no usage: events are counted */
	answer_fini(&a);
}

TEST(answer, of_a_chat_counts_text_and_not_the_role)
{
	struct answer a;

	answer_init(&a, true, NULL, NULL);
	EXPECT_STREQ(
		kind_of(&a, STREAM
			"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\","
			"\"content\":\"\"}}]}\n\n"
			"data: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n"
			"data: {\"choices\":[{\"delta\":{\"content\":null,"
			"\"reasoning_content\":\"hm\"}}]}\n\n"
			"data: {\"choices\":[{\"delta\":{},"
			"\"finish_reason\":\"stop\"}],"
			"\"timings\":{\"cache_n\":17}}\n\n"),
		"");
	EXPECT_EQ(a.nr_events, 2);
	EXPECT_EQ(a.cached_tokens, 17);
	answer_fini(&a);
}

struct seen {
	u32 nr, nr_tokens;
};

static void on_choice(void *arg, bool brings)
{
	struct seen *s = arg;

	s->nr++;
	s->nr_tokens += brings;
}

TEST(answer, without_text_is_good_and_tells_when_it_ended)
{
	struct seen s = { 0 };
	struct answer a;

	answer_init(&a, false, on_choice, &s);
	EXPECT_STREQ(kind_of(&a, STREAM
			     "data: {\"choices\":[{\"text\":\"\","
			     "\"finish_reason\":\"stop\"}],\"usage\":"
			     "{\"prompt_tokens\":9,\"completion_tokens\":1}}"
			     "\n\ndata: [DONE]\n\n"),
		     "");
	EXPECT_EQ(a.nr_events, 0);
	EXPECT_EQ(a.output_tokens, 1);
	EXPECT_EQ(s.nr, 1);
	EXPECT_EQ(s.nr_tokens, 0);
	answer_fini(&a);
}

#define DELTA(members) "data: {\"choices\":[{\"delta\":{" members "}}]}\n\n"

TEST(answer, of_a_chat_counts_what_it_thinks_and_calls)
{
	struct answer a;

	answer_init(&a, true, NULL, NULL);
	EXPECT_STREQ(
		kind_of(&a,
			STREAM DELTA("\"role\":\"assistant\",\"content\":null") DELTA(
				"\"reasoning\":\"hm\"") DELTA("\"reasoning_content\":\"hm\"")
				DELTA("\"tool_calls\":[{\"index\":0}]") DELTA(
					"\"role\":\"assistant\",\"content\":\"a\"") "data: [DONE]\n\n"),
		"");
	EXPECT_EQ(a.nr_events, 4);
	answer_fini(&a);
}

TEST(answer, with_an_error_that_is_null_is_good)
{
	struct answer a;

	answer_init(&a, false, NULL, NULL);
	EXPECT_STREQ(kind_of(&a, STREAM "data: {\"choices\":[{\"text\":\"a\"}],"
					"\"error\":null}\n\ndata: [DONE]\n\n"),
		     "");
	EXPECT_STREQ(kind_of(&a, "HTTP/1.1 500 No\r\n\r\n"
				 "{\"error\":null,\"message\":\"x\"}"),
		     "http_500");
	EXPECT_STREQ(a.failure.what, "x");
	answer_fini(&a);
}

TEST(answer, with_a_zero_byte_is_whole)
{
	static const char s[] = STREAM EVENT("a\\u0000b") "data: [DONE]\n\n";
	struct answer a;

	answer_init(&a, false, NULL, NULL);
	answer_reset(&a, true);
	EXPECT_EQ(answer_take(&a, s, sizeof(s) - 1), 0);
	answer_eof(&a);
	EXPECT_STREQ(a.failure.kind, "");
	ASSERT_EQ(a.text.len, 3);
	EXPECT_FALSE(memcmp(a.text.p, "a\0b", 3));
	answer_fini(&a);
}

TEST(answer, lines_and_events_without_end_are_refused)
{
	static char big[SSE_EVENT_MAX + 4096];
	struct answer a;
	size_t n;

	answer_init(&a, false, NULL, NULL);
	memset(big, 'a', sizeof(big) - 1);
	EXPECT_STREQ(kind_of(&a, big), "bad_http");
	n = (size_t)snprintf(big, sizeof(big), "%s", STREAM "data: ");
	big[n] = 'a';
	EXPECT_STREQ(kind_of(&a, big), "bad_stream");
	answer_fini(&a);
}

TEST_HARNESS_MAIN
