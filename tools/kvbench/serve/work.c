/* SPDX-License-Identifier: MIT */
/*
 * work.c - what is asked of a server, and when
 *
 * Lengths and names come from one sequence of random numbers, times from
 * another: the same requests come at another rate.
 */
#include "tools/kvbench/serve/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/hash.h"

const char *const work_kinds[] = {
	[WORK_RANDOM] = "random",
	[WORK_SHAREGPT] = "sharegpt",
	[WORK_SHARED_PREFIX] = "shared-prefix",
	[WORK_TRACE] = "trace",
	[WORK_FEWSHOT] = "fewshot",
	[WORK_TOT] = "tot",
	[WORK_CHAT] = "chat",
	NULL,
};

/*
 * Where nothing else is said. ShareGPT's means are those of the conversations
 * that the vLLM paper replays: 161 tokens in, 338 out.
 */
static const struct {
	const char *input, *output;
	u32 nr_prefixes, prefix_len;
} usual[] = {
	[WORK_RANDOM] = { "128", "64", 0, 0 },
	[WORK_SHAREGPT] = { "lognormal:161:1.1:4096", "lognormal:338:1:2048", 0,
			    0 },
	[WORK_SHARED_PREFIX] = { "lognormal:64:0.8:1024",
				 "lognormal:80:0.8:1024", 4, 800 },
	[WORK_TRACE] = { "128", "64", 0, 0 },
	[WORK_FEWSHOT] = { "uniform:16:48", "1", 4, 128 },
	[WORK_TOT] = { "uniform:100:300", "24", 0, 0 },
	[WORK_CHAT] = { "lognormal:40:0.8:512", "lognormal:80:0.8:512", 4,
			200 },
};

static bool grow(void **array, u32 *room, u32 want, size_t size)
{
	u32 nr = max(want, 2 * *room);
	void *a;

	if (want <= *room)
		return true;
	a = realloc(*array, nr * size);
	if (!a)
		return false;
	*array = a;
	*room = nr;
	return true;
}

u32 work_add(struct work *w, u32 session, u32 after, double due, u32 output)
{
	void *a = w->request;

	if (!grow(&a, &w->room, w->nr + 1, sizeof(*w->request))) {
		w->failed = true;
		return WORK_NONE;
	}
	w->request = a;
	w->request[w->nr] = (struct work_request){
		.first_segment = w->nr_segments,
		.output = output,
		.session = session,
		.after = after,
		.due = due,
	};
	w->nr_sessions = max(w->nr_sessions, session + 1);
	return w->nr++;
}

static void say(struct work *w, struct segment s)
{
	void *a = w->segment;
	struct work_request *r;

	if (w->failed || !w->nr || !s.len)
		return;
	if (!grow(&a, &w->segment_room, w->nr_segments + 1,
		  sizeof(*w->segment))) {
		w->failed = true;
		return;
	}
	w->segment = a;
	w->segment[w->nr_segments++] = s;
	r = &w->request[w->nr - 1];
	r->nr_segments++;
	r->input += s.len;
}

void work_say(struct work *w, enum segment_role role, u64 name, u32 len)
{
	say(w, (struct segment){ .name = name, .len = len, .role = role });
}

void work_quote(struct work *w, u32 other)
{
	u32 i, nr, first;

	if (w->failed || !w->request[other].nr_segments)
		return;
	first = w->request[other].first_segment;
	nr = w->request[other].nr_segments;
	for (i = 0; i < nr; i++)
		say(w, w->segment[first + i]);
	say(w,
	    (struct segment){ .name = hash_mix(w->segment[first + nr - 1].name),
			      .len = w->request[other].output,
			      .of = other,
			      .role = SEGMENT_ANSWER });
	w->request[other].is_quoted = true;
}

u64 work_name(struct bench_rng *r)
{
	return bench_rand(r);
}

void work_fini(struct work *w)
{
	free(w->request);
	free(w->segment);
	memset(w, 0, sizeof(*w));
}

/* Each on its own, or each behind one of some prefixes. */
static void make_single(const struct work_opts *o, struct work *w)
{
	struct bench_rng r = { .s = o->seed ^ 0x3c6ef372u };
	u64 prefix = work_name(&r);
	u32 i;

	for (i = 0; i < o->nr && !w->failed; i++) {
		work_add(w, i, WORK_NONE, 0, dist_draw(&o->output, &r));
		if (o->nr_prefixes)
			work_say(w, SEGMENT_SYSTEM,
				 prefix + bench_rand(&r) % o->nr_prefixes,
				 o->prefix_len);
		work_say(w, SEGMENT_USER, work_name(&r),
			 dist_draw(&o->input, &r));
	}
}

/* When the sessions come; those that come too late are left out. */
static int set_times(const struct work_opts *o, struct work *w)
{
	u32 nr = w->nr_sessions, i;
	double *t = calloc(nr + 1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	arrival_times(o->rate * nr / max(w->nr, 1u), o->burstiness,
		      o->seed ^ 0xbb67ae85u, t, nr);
	for (i = 0; i < w->nr; i++)
		if (w->request[i].after == WORK_NONE)
			w->request[i].due += t[w->request[i].session];
	free(t);
	return 0;
}

/* Requests without time keep their numbers: others may wait for them. */
static void cut_late(const struct work_opts *o, struct work *w)
{
	u32 i, nr = w->nr;

	if (!o->seconds)
		return;
	for (i = 0; i < w->nr; i++) {
		if (w->request[i].after == WORK_NONE &&
		    w->request[i].due > o->seconds) {
			nr = i;
			break;
		}
	}
	w->nr = nr;
}

/*
 * A batch in which who has ended keeps its slot until the last one has, as
 * engines before Orca had them: those behind each other are one.
 */
static void pad(struct work *w, u32 batch)
{
	u32 from, i, end, most;

	for (from = 0; from < w->nr; from = end) {
		end = min(from + batch, w->nr);
		for (i = from, most = 0; i < end; i++)
			most = max(most, w->request[i].output);
		for (i = from; i < end; i++)
			w->request[i].padding = most - w->request[i].output;
	}
}

static void defaults(struct work_opts *o)
{
	bool ok = true;

	if (!o->has_input)
		ok = dist_parse(usual[o->kind].input, &o->input);
	if (!o->has_output)
		ok = ok && dist_parse(usual[o->kind].output, &o->output);
	(void)ok; /* the strings stand above */
	if (!o->nr_prefixes)
		o->nr_prefixes = usual[o->kind].nr_prefixes;
	if (!o->prefix_len)
		o->prefix_len = usual[o->kind].prefix_len;
	if (o->nr_prefixes && !o->prefix_len)
		o->prefix_len = usual[WORK_SHARED_PREFIX].prefix_len;
}

int work_make(const struct work_opts *given, struct work *w, char *err)
{
	struct work_opts o = *given;
	int rc = 0;

	memset(w, 0, sizeof(*w));
	defaults(&o);
	if (o.kind == WORK_TRACE)
		rc = work_trace(&o, w, err);
	else if (o.kind == WORK_FEWSHOT)
		work_fewshot(&o, w);
	else if (o.kind == WORK_TOT)
		work_tot(&o, w);
	else if (o.kind == WORK_CHAT)
		work_chat(&o, w);
	else
		make_single(&o, w);
	if (!rc && w->failed)
		rc = -ENOMEM;
	if (!rc && !w->is_timed)
		rc = set_times(&o, w);
	if (!rc)
		cut_late(&o, w);
	if (!rc && o.pad)
		pad(w, o.pad);
	if (rc == -ENOMEM)
		snprintf(err, 256, "no memory for %u requests", o.nr);
	return rc;
}
