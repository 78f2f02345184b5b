/* SPDX-License-Identifier: MIT */
/*
 * fault_client.c - two clients that do everything, and bear any refusal
 *
 *	fault_client SOCKET
 *
 * Two attachments of one program take turns: steps over sequences, forks,
 * truncates, a published prefix that the other maps, weights that both open,
 * more memory than the device has so that pages leave for swap and come back,
 * memory that is taken back, control requests. Everything that a step reads is
 * compared. An attachment that is refused something says the sentence and ends;
 * the other goes on.
 *
 * Exit: 0 all was done; 10 something was refused, with a sentence; 11 without
 * one; 12 rows were wrong; 13 a descriptor, 14 a mapping is left.
 */
#include "selftests/faults/left.h"
#include "selftests/libkv/seq.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "include/kv/types.h"

#define NR_SEQS	     6u
#define WAIT_MS	     3000
#define CROWD_MAX    10u
#define CROWD_TOKENS 4096u /* a good MiB */

struct half {
	struct seqs c;
	struct seq s[NR_SEQS];
	struct kv_weights w;
	u32 crowd[CROWD_MAX], nr_crowd;
	bool has_weights;
	bool over; /* was refused something */
};

static struct half half[2];
static const char *path;
static bool refused, silent;
static u64 token = 1;

/* Is that an answer to go on with? If not, this half ends. */
static bool goes(struct half *h, int rc, const char *what)
{
	const char *text;

	if (h->over)
		return false;
	if (rc >= 0)
		return true;
	text = h->c.kv ? kv_error(h->c.kv) : kv_attach_error();
	printf("%s: %d: %s\n", what, rc, text);
	silent |= !*text;
	refused = true;
	h->over = true;
	/* nobody is to wait for what it had begun */
	if (h->has_weights)
		kv_weights_close(h->c.kv, &h->w);
	kv_detach(h->c.kv);
	h->c.kv = NULL;
	return false;
}

static bool attach(struct half *h, const char *name)
{
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .socket = path,
				    .name = name };
	struct kv *kv;

	if (!goes(h, kv_attach(&o, &kv), "attach"))
		return false;
	return goes(h, seqs_begin(&h->c, kv), "geometries");
}

static void append(struct half *h, u32 i, u32 n)
{
	struct seq *q = &h->s[i];
	int rc;

	if (h->over)
		return;
	if (!q->live && !goes(h, seq_create(&h->c, q), "create"))
		return;
	rc = seq_step(&h->c, &q, &n, 1, token, KV_STEP_WAIT, WAIT_MS);
	token += n;
	/* taken under the step, or lost by a tier: to be computed again */
	if (rc == -ESTALE || rc == -ENODATA)
		seq_destroy(&h->c, q);
	else
		goes(h, rc, "step");
}

static void forks(struct half *h)
{
	append(h, 0, 37);
	append(h, 0, 1);
	if (h->over || !h->s[0].live)
		return;
	if (!goes(h, seq_fork(&h->c, &h->s[0], h->s[0].len, &h->s[1]), "fork"))
		return;
	append(h, 0, 4);
	append(h, 1, 5);
	if (h->over || !h->s[1].live)
		return;
	goes(h, seq_truncate(&h->c, &h->s[1], h->s[1].len - 3), "truncate");
	append(h, 1, 8);
}

/* What one publishes the other maps, if it comes to be there. */
static void prefixes(struct half *h, struct half *o)
{
	static u32 ids[SEQ_LEN_MAX];
	struct seq *from = &h->s[2], *to = &o->s[2];
	u64 len = 0;
	u32 i;

	append(h, 2, 96);
	if (h->over || o->over || !from->live)
		return;
	for (i = 0; i < from->len; i++)
		ids[i] = (u32)from->token[i];
	if (!goes(h,
		  kv_prefix_publish(h->c.kv, from->space, ids, from->len,
				    KV_PUBLISH_RESUME, &len),
		  "publish"))
		return;
	for (i = 0; i < 20 && !to->len; i++) {
		if (!goes(o, seq_create(&o->c, to), "create") ||
		    !goes(o,
			  kv_prefix_map(o->c.kv, to->space, ids, from->len,
					&len),
			  "map"))
			return;
		to->len = (u32)len;
		memcpy(to->token, from->token, sizeof(to->token));
		if (!len) {
			seq_destroy(&o->c, to);
			usleep(1000);
		}
	}
	append(o, 2, 3);
	append(h, 2, 20);
}

static int fill(void *dst, size_t bytes, void *ctx)
{
	memset(dst, 0x42, bytes);
	return 0;
}

static void weights(struct half *h)
{
	struct kv_msg_weights key = { .packing = 1,
				      .bytes = 1u << 18,
				      .name = "fault" };
	const pid_t pid = getpid();

	if (h->over)
		return;
	memcpy(key.digest, &pid, sizeof(pid));
	if (!goes(h, kv_weights_open(h->c.kv, &key, fill, NULL, &h->w),
		  "weights"))
		return;
	h->has_weights = true;
	h->c.faults += *(const u8 *)h->w.addr != 0x42;
}

/* More than there is: idle pages of both have to go. */
static void crowd(struct half *h)
{
	struct kv_resv_item it = { .nr_tokens = CROWD_TOKENS };
	struct kv_step *st;
	int rc;
	u32 i;

	for (i = 0; i < CROWD_MAX; i++) {
		if (h->over ||
		    !goes(h, kv_space_create(h->c.kv, &h->c.args, &h->crowd[i]),
			  "create"))
			return;
		h->nr_crowd++;
		it.space = h->crowd[i];
		rc = kv_step_prepare(h->c.kv, &it, 1, KV_STEP_WAIT, WAIT_MS,
				     &st);
		if (!goes(h, rc, "crowd"))
			return;
		kv_step_complete(h->c.kv, st);
		rc = kv_step_commit(h->c.kv, st);
		if (rc != -ESTALE)
			goes(h, rc, "commit");
	}
}

static void disperse(struct half *h)
{
	while (!h->over && h->nr_crowd)
		kv_space_destroy(h->c.kv, h->crowd[--h->nr_crowd]);
}

/* Every answer is JSON, or a code with or without a sentence. */
static void ask(const char *request)
{
	char *json = NULL;
	int rc = kv_ctl(path, KV_HELLO_ADMIN, request, &json);

	if (rc) {
		printf("%s: %d: %s\n", request, rc, json ? json : "");
		refused = true;
	} else if (!json || *json != '{') {
		printf("%s: no answer\n", request);
		silent = true;
	}
	free(json);
}

static void asks(void)
{
	static const char *const requests[] = {
		"status",      "health",      "meminfo",     "vmstat",
		"device list", "events list", "config show", "client list",
		"space list",  "tenant list", "cache list",  "weights list",
		"pressure",    "oom",
	};
	size_t i;

	for (i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		ask(requests[i]);
}

/* Of what it has, some is taken, if there is more than it may keep. */
static void take_back(const struct half *h)
{
	char text[64], *json = NULL;
	int rc;

	if (h->over)
		return;
	snprintf(text, sizeof(text), "client revoke %u 8M",
		 kv_info(h->c.kv)->client);
	rc = kv_ctl(path, KV_HELLO_ADMIN, text, &json);
	refused |= rc && rc != -EPERM;
	silent |= rc && (!json || !*json);
	free(json);
}

static void finish(struct half *h)
{
	struct kv_event ev;
	u32 i;

	for (i = 0; i < NR_SEQS; i++)
		append(h, i, 1); /* reads all of it */
	if (h->over)
		return;
	while (kv_event_wait(h->c.kv, &ev, 0) == 1)
		;
	if (!goes(h, kv_shrink(h->c.kv), "shrink"))
		return;
	if (h->has_weights)
		kv_weights_close(h->c.kv, &h->w);
	kv_detach(h->c.kv);
}

static void scenario(struct half *a, struct half *b)
{
	attach(a, "fault-a");
	attach(b, "fault-b");
	forks(a);
	append(b, 3, 200);
	prefixes(a, b);
	weights(a);
	weights(b);
	crowd(a);
	append(b, 3, 5);
	asks();
	take_back(a);
	disperse(a);
	crowd(b);
	append(a, 0, 3);
	disperse(b);
	append(a, 4, 64);
	append(b, 4, 64);
	finish(a);
	finish(b);
	ask("cache drop");
}

int main(int argc, char **argv)
{
	struct half *a = &half[0], *b = &half[1];
	int rc;

	if (argc != 2)
		return 2;
	path = argv[1];
	setvbuf(stdout, NULL, _IONBF, 0);
	signal(SIGALRM, SIG_DFL);
	alarm(60);
	left_begin();
	scenario(a, b);
	rc = left_more();
	if (rc)
		return rc;
	if (a->c.faults || b->c.faults)
		return 12;
	return silent ? 11 : refused ? 10 : 0;
}
