/* SPDX-License-Identifier: MIT */
/*
 * test_serve_nomem.c - each allocation fails once: it is said, nothing is lost
 */
#include "selftests/harness.h"
#include "selftests/nomem.h"
#include "tools/kvbench/serve/answer.h"
#include "tools/kvbench/serve/render.h"

#define NR 14

static void opts(struct work_opts *o, enum work_kind kind, const char *trace)
{
	*o = (struct work_opts){ .kind = kind,
				 .nr = NR,
				 .seed = 3,
				 .rate = 5,
				 .burstiness = 1,
				 .turns = 3,
				 .branch = 2,
				 .depth = 3,
				 .think = 1,
				 .trace = trace,
				 .block_len = 512 };
}

/* Make the work and render its last request; the first error. */
static int make_and_render(const struct work_opts *o)
{
	struct render r = { .as_ids = o->kind != WORK_CHAT,
			    .is_chat = o->kind == WORK_CHAT,
			    .words_per_token = 1,
			    .nr_ids = 9,
			    .host = "h",
			    .path = "/",
			    .headers = "" };
	struct strbuf t = { 0 };
	struct work w;
	char err[256];
	int rc = work_make(o, &w, err);

	if (!rc && w.nr != NR)
		rc = 1;
	if (!rc)
		rc = render_request(&r, &w, NR - 1, NULL, &t);
	if (!rc && (t.len < 100 || t.p[t.len - 1] != '}'))
		rc = 1;
	strbuf_free(&t);
	work_fini(&w);
	return rc;
}

TEST(work, is_whole_or_an_error_whichever_allocation_fails)
{
	struct work_opts o;
	char path[300];
	FILE *f;
	u32 kind, i;
	long n;
	int rc;

	snprintf(path, sizeof(path), "%s/t", test_tmpdir());
	f = fopen(path, "w");
	ASSERT_TRUE(f);
	for (i = 0; i < NR; i++)
		fprintf(f,
			"{\"timestamp\": %u, \"input_length\": 600, "
			"\"output_length\": 6, \"hash_ids\": [0, %u]}\n",
			i, i);
	fclose(f);
	for (kind = 0; work_kinds[kind]; kind++) {
		opts(&o, kind, path);
		for (n = 1; n < 1000; n++) {
			arm(n);
			rc = make_and_render(&o);
			disarm();
			EXPECT_EQ(nr_live, 0);
			if (!fired)
				break;
			EXPECT_LE(rc, 0); /* 1: not whole, and not said */
		}
		EXPECT_EQ(rc, 0);
		EXPECT_GT(n, 3);
	}
}

static const char stream[] =
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
	"data: {\"choices\":[{\"text\":\" one\",\"token_ids\":[1,2]}]}\n\n"
	"data: {\"choices\":[{\"text\":\" two\",\"finish_reason\":\"stop\"}]}\n\n"
	"data: [DONE]\n\n";

TEST(answer, is_good_or_failed_whichever_allocation_fails)
{
	struct answer a;
	long n;

	for (n = 1; n < 1000; n++) {
		arm(n);
		answer_init(&a, false, NULL, NULL);
		answer_reset(&a, true);
		if (!answer_take(&a, stream, sizeof(stream) - 1))
			answer_eof(&a);
		answer_fini(&a);
		disarm();
		EXPECT_EQ(nr_live, 0);
		if (!fired)
			break;
		/* What is kept may be missing; it is measured all the same. */
		EXPECT_TRUE(a.failure.kind[0] || a.nr_events == 2);
	}
	EXPECT_STREQ(a.failure.kind, "");
	EXPECT_GT(n, 10);
}

TEST_HARNESS_MAIN
