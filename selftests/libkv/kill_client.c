/* SPDX-License-Identifier: MIT */
/*
 * kill_client.c - a client that passes every named transition, and dies at one
 *
 * libkv's own sources with their points switched on. The scenario goes through
 * all that a client does; every step is verified. Run as
 *
 *	kill_client SOCKET [COUNTS]
 *
 * with KV_KILL_AT=name:n it ends by SIGKILL at the n-th passing of that point,
 * with KV_KILL_AT=any:n at the n-th passing of any. COUNTS is a file that gets
 * one line per point, "name passings".
 */
#define KV_TEST_POINTS
#include "libkv/src/attach.c"
#include "libkv/src/connect.c"
#include "libkv/src/copy.c"
#include "libkv/src/ctl.c"
#include "libkv/src/event.c"
#include "libkv/src/mirror.c"
#include "libkv/src/msg.c"
#include "libkv/src/prefix.c"
#include "libkv/src/reserve.c"
#include "libkv/src/ring.c"
#include "libkv/src/space.c"
#include "libkv/src/step.c"
#include "libkv/src/sys.c"
#include "libkv/src/turn.c"
#include "libkv/src/weights.c"

#include "selftests/libkv/seq.h"
#include <signal.h>
#include <stdio.h>

#define POINT_MAX 200u

static const char *const names[POINT_MAX] = {
#define NAME(nr, id, name, what) [nr] = name,
	KV_TRACE_LIBKV(NAME)
#undef NAME
};
static u64 passed[POINT_MAX], passed_any, kill_nr;
static u32 kill_point; /* POINT_MAX: any */

void libkv_point(enum libkv_point point)
{
	passed[point]++;
	passed_any++;
	if (!kill_nr)
		return;
	if (kill_point == POINT_MAX
		    ? passed_any == kill_nr
		    : (u32)point == kill_point && passed[point] == kill_nr)
		raise(SIGKILL);
}

/* KV_KILL_AT; false: it makes no sense. */
static bool read_kill_at(void)
{
	const char *text = getenv("KV_KILL_AT");
	size_t len;
	u32 i;

	if (!text)
		return true;
	len = strcspn(text, ":");
	kill_nr = text[len] ? strtoull(text + len + 1, NULL, 10) : 1;
	if (len == 3 && !strncmp(text, "any", 3)) {
		kill_point = POINT_MAX;
		return true;
	}
	for (i = 0; i < POINT_MAX; i++) {
		if (names[i] && strlen(names[i]) == len &&
		    !strncmp(names[i], text, len)) {
			kill_point = i;
			return true;
		}
	}
	return false;
}

static void write_counts(const char *path)
{
	FILE *f = fopen(path, "we");
	u32 i;

	if (!f)
		exit(1);
	for (i = 0; i < POINT_MAX; i++) {
		if (names[i])
			fprintf(f, "%s %llu\n", names[i],
				(unsigned long long)passed[i]);
	}
	fprintf(f, "any %llu\n", (unsigned long long)passed_any);
	fclose(f);
}

static struct seqs c;
static struct seq s[6];

static void must(int rc, const char *what)
{
	if (rc >= 0 && !c.faults)
		return;
	fprintf(stderr, "%s: %d: %s\n", what, rc, c.kv ? kv_error(c.kv) : "");
	exit(1);
}

static void append(struct seq *q, u32 n)
{
	static u64 token = 77;

	must(seq_step(&c, &q, &n, 1, token, 0, 0), "step");
	token += n;
}

static int fill(void *dst, size_t bytes, void *ctx)
{
	memset(dst, 0x42, bytes);
	return 0;
}

static void use_weights(void)
{
	struct kv_msg_weights key = { .packing = 1,
				      .bytes = 1u << 20,
				      .name = "victim" };
	struct kv_weights w;

	/* its own each time, so that there is something to fill */
	key.digest[0] = (u8)getpid();
	key.digest[1] = (u8)(getpid() >> 8);
	key.digest[2] = (u8)(getpid() >> 16);
	must(kv_weights_open(c.kv, &key, fill, NULL, &w), "weights");
	if (*(const u8 *)w.addr != 0x42)
		must(-EIO, "weights");
	kv_weights_close(c.kv, &w);
}

/* Forks, their first writes, truncates; two steps at a time. */
static void use_forks(void)
{
	struct kv_resv_item it[2];
	struct kv_step *a, *b;
	u32 i;

	must(seq_create(&c, &s[0]), "create");
	append(&s[0], 37);
	append(&s[0], 1);
	for (i = 1; i < 4; i++) {
		must(seq_fork(&c, &s[0], s[0].len, &s[i]), "fork");
		append(&s[i], 5 * i);
	}
	must(seq_truncate(&c, &s[1], s[1].len - 3), "truncate");
	append(&s[1], 8);
	it[0] = (struct kv_resv_item){ s[0].space, 20, s[0].len };
	it[1] = (struct kv_resv_item){ s[0].space, 20, s[0].len + 20 };
	must(kv_step_prepare(c.kv, &it[0], 1, 0, 0, &a), "prepare");
	kv_step_run_copies(c.kv, a);
	must(kv_step_prefetch(c.kv, &it[1], 1), "prefetch");
	seq_write(&c, &s[0], s[0].len, 20, 5000);
	must(kv_step_prepare(c.kv, &it[1], 1, 0, 0, &b), "prepare");
	kv_step_complete(c.kv, a);
	must(kv_step_commit(c.kv, a), "commit");
	kv_step_abandon(c.kv, b);
	s[0].len += 20;
	append(&s[0], 3);
}

/* Computing, by turns with the bystanders: the turn is kept, and passed. */
static void use_turns(void)
{
	u32 i;

	for (i = 0; i < 4; i++) {
		must(kv_turn_begin(c.kv, 1000), "turn");
		kv_turn_end(c.kv);
	}
	kv_turn_pass(c.kv);
	for (i = 0; i < 4; i++) {
		must(kv_turn_begin(c.kv, 1000), "turn");
		usleep(200);
		kv_turn_end(c.kv);
	}
}

/* What is published is mapped, and has the same rows. */
static void use_prefixes(void)
{
	u32 ids[SEQ_LEN_MAX], i;
	u64 len = 0;

	must(seq_create(&c, &s[4]), "create");
	append(&s[4], 100);
	for (i = 0; i < s[4].len; i++)
		ids[i] = (u32)s[4].token[i];
	must(kv_prefix_publish(c.kv, s[4].space, ids, s[4].len,
			       KV_PUBLISH_RESUME, &len),
	     "publish");
	if (len != s[4].len) { /* there is no room where little is to be had */
		seq_destroy(&c, &s[4]);
		return;
	}
	/* it is copied meanwhile */
	for (i = 0, len = 0; !len; i++) {
		must(i < 2000 ? 0 : -ETIME, "map");
		must(seq_create(&c, &s[5]), "create");
		must(kv_prefix_map(c.kv, s[5].space, ids, s[4].len, &len),
		     "map");
		s[5].len = (u32)len;
		memcpy(s[5].token, s[4].token, sizeof(s[5].token));
		if (len != s[4].len) {
			seq_destroy(&c, &s[5]);
			usleep(1000);
			len = 0;
		}
	}
	append(&s[4], 20); /* in the cache's pages now */
	append(&s[5], 3);
	must(seq_verify(&c, &s[4], s[4].len) ? 0 : -EIO, "verify");
	must(seq_verify(&c, &s[5], s[5].len) ? 0 : -EIO, "verify");
	seq_destroy(&c, &s[4]);
	seq_destroy(&c, &s[5]);
}

/* More than the tenant may hold: a ticket that times out, one that does not. */
static void use_tickets(void)
{
	struct kv_resv_item it = { .nr_tokens = 16000 }, both[2];
	struct kv_step *st;
	u32 more;
	int rc = 0;

	/* one space alone is about as large as the limit */
	must(kv_space_create(c.kv, &c.args, &more), "create");
	it.space = more;
	must(kv_step_prepare(c.kv, &it, 1, 0, 0, &st), "prepare");
	kv_step_complete(c.kv, st);
	must(kv_step_commit(c.kv, st), "commit");
	it.nr_tokens = 1000;

	must(seq_create(&c, &s[4]), "create");
	must(seq_create(&c, &s[5]), "create");
	it.space = s[4].space;
	while (it.pos < 250000) {
		rc = kv_step_prepare(c.kv, &it, 1, 0, 0, &st);
		if (rc)
			break;
		kv_step_complete(c.kv, st);
		must(kv_step_commit(c.kv, st), "commit");
		it.pos += it.nr_tokens;
	}
	if (rc != -EAGAIN && rc != -E2BIG)
		must(rc ? rc : -EINVAL, "a limit for the victim");
	/* a step that takes its time, for who wants the memory back */
	both[0] = (struct kv_resv_item){ more, 1, 15999 };
	both[1] = (struct kv_resv_item){ it.space, 1, it.pos - 1 };
	rc = kv_step_prepare(c.kv, both, 2, 0, 0, &st);
	/* where the first was swapped, and both are more than the limit */
	if (rc == -EAGAIN || rc == -E2BIG)
		rc = kv_step_prepare(c.kv, &both[1], 1, 0, 0, &st);
	must(rc, "prepare");
	usleep(10000);
	kv_step_complete(c.kv, st);
	must(kv_step_commit(c.kv, st), "commit");
	it = (struct kv_resv_item){ s[5].space, 2000, 0 };
	while ((rc = kv_step_prepare(c.kv, &it, 1, KV_STEP_WAIT, 2, &st)) ==
	       0) {
		kv_step_complete(c.kv, st);
		must(kv_step_commit(c.kv, st), "commit");
		it.pos += it.nr_tokens;
	}
	/* where there is swap, all that it may ever hold */
	if (rc != -ETIMEDOUT && rc != -E2BIG)
		must(rc, "a ticket");
	kv_space_destroy(c.kv, more);
	seq_destroy(&c, &s[4]);
	seq_destroy(&c, &s[5]);
	must(kv_shrink(c.kv), "shrink");
	usleep(1000); /* the word that extents are gone comes with the next */
	must(msg_drain(c.kv), "drain");
}

int main(int argc, char **argv)
{
	struct kv_event ev;
	u32 i;

	if (argc < 2 || !read_kill_at())
		return 2;
	if (seqs_attach(&c, argv[1], "victim"))
		return 1;
	use_forks();
	use_prefixes();
	use_turns();
	use_weights();
	use_tickets();
	must(kv_event_wait(c.kv, &ev, 0), "event");
	for (i = 0; i < 4; i++) {
		append(&s[i], 30); /* and what was swapped is back */
		must(seq_verify(&c, &s[i], s[i].len) ? 0 : -EIO, "verify");
	}
	kv_detach(c.kv);
	if (argc > 2)
		write_counts(argv[2]);
	return 0;
}
