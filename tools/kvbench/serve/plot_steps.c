/* SPDX-License-Identifier: MIT */
/*
 * plot_steps.c - an engine's steps along time, prefill and decode in colours
 *
 * The log has an object a line and a step:
 *
 *	{"t": s, "dur_ms": .., "prefill": tokens, "decode": tokens,
 *	 "running": n, "waiting": n}
 *
 * t is when the step began, on any clock; members it does not know are passed
 * over. Few steps are drawn one by one. Of more than there are columns, those
 * that begin in a column are drawn together: tokens on average, weighted by
 * how long each took, and the longest of them.
 */
#include "tools/kvbench/serve/plot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/serve/lines.h"
#include "tools/kvbench/serve/svg.h"

#define WIDTH	1000.0
#define COLUMNS 900

struct step {
	double t, dur, prefill, decode, running, waiting;
};

struct steps {
	struct step *v;
	u32 nr, room;
};

static bool member(const json_t *v, const char *key, bool needed, double *out)
{
	const json_t *n = json_object_get(v, key);

	*out = json_number_value(n);
	return json_is_number(n) ? *out >= 0 : !needed && !n;
}

static int take_step(void *ctx, const json_t *v)
{
	struct steps *s = ctx;
	struct step *p, x;
	bool ok;
	u32 room;

	ok = member(v, "t", true, &x.t) && member(v, "dur_ms", true, &x.dur) &&
	     member(v, "prefill", true, &x.prefill) &&
	     member(v, "decode", true, &x.decode) &&
	     member(v, "running", false, &x.running) &&
	     member(v, "waiting", false, &x.waiting);
	if (!ok)
		return -EINVAL;
	x.dur /= 1000;
	if (s->nr == s->room) {
		room = 2 * s->room + 1024;
		p = realloc(s->v, room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		s->v = p;
		s->room = room;
	}
	s->v[s->nr++] = x;
	return 0;
}

static int cmp_step(const void *a, const void *b)
{
	double x = ((const struct step *)a)->t, y = ((const struct step *)b)->t;

	return x < y ? -1 : x > y;
}

static int load(struct steps *s, const char *path, char *err)
{
	int rc = lines_load(path, "step", true, take_step, s, err);

	if (!rc)
		qsort(s->v, s->nr, sizeof(*s->v), cmp_step);
	return rc;
}

/* Steps of a column as one: @to is behind the last of them. */
static struct step merge(const struct step *from, const struct step *to)
{
	struct step m = { .t = from->t };
	double weight = 0, w;

	for (; from < to; from++) {
		w = from->dur + 1e-9;
		weight += w;
		m.prefill += w * from->prefill;
		m.decode += w * from->decode;
		m.running += w * from->running;
		m.waiting += w * from->waiting;
		m.dur = max(m.dur, from->dur);
	}
	m.prefill /= weight;
	m.decode /= weight;
	m.running /= weight;
	m.waiting /= weight;
	return m;
}

static void thin_out(struct steps *s, double width)
{
	u32 i, k, n = 0;

	for (i = 0; i < s->nr; i = k) {
		for (k = i + 1; k < s->nr && s->v[k].t < s->v[i].t + width; k++)
			;
		s->v[n++] = merge(s->v + i, s->v + k);
	}
	s->nr = n;
}

static void draw_tokens(struct svg *s, const struct steps *st, double end,
			double width)
{
	const struct step *p;
	double until;
	u32 i;

	for (i = 0; i < st->nr; i++) {
		p = &st->v[i];
		until = p->t + p->dur;
		if (width > 0)
			until = i + 1 < st->nr ? p[1].t : end;
		if (p->decode > 0)
			svg_box(s, 0, p->t, 0, until, p->decode);
		if (p->prefill > 0)
			svg_box(s, 1, p->t, p->decode, until,
				p->decode + p->prefill);
	}
	svg_legend(s, 1, "prefill");
	svg_legend(s, 0, "decode");
}

enum step_value { VALUE_MS, VALUE_RUNNING, VALUE_WAITING };

static void draw_value(struct svg *s, const struct steps *st, u32 series,
		       enum step_value what)
{
	double *x = malloc(2 * st->nr * sizeof(*x)), *y = x + st->nr;
	u32 i;

	if (!x)
		return;
	for (i = 0; i < st->nr; i++) {
		x[i] = st->v[i].t;
		y[i] = what == VALUE_MS	       ? st->v[i].dur * 1000
		       : what == VALUE_RUNNING ? st->v[i].running
					       : st->v[i].waiting;
	}
	svg_line(s, series, x, y, st->nr);
	free(x);
}

static void draw(struct svg *s, const struct steps *st, double end,
		 double width)
{
	struct svg_axis x = { "s", 0, end, false };
	struct svg_axis tokens = { "tokens a step", 0, 1, false };
	struct svg_axis ms = { width > 0 ? "longest step, ms" : "step, ms", 0,
			       1, false };
	struct svg_axis nr = { "requests", 0, 1, false };
	const struct step *p;
	u32 i;

	for (i = 0; i < st->nr; i++) {
		p = &st->v[i];
		tokens.high = max(tokens.high, p->prefill + p->decode);
		ms.high = max(ms.high, p->dur * 1000);
		nr.high = max(nr.high, p->running);
		nr.high = max(nr.high, p->waiting);
	}
	svg_panel(s, 60, 240, &x, &tokens);
	draw_tokens(s, st, end, width);
	svg_panel(s, 370, 120, &x, &ms);
	draw_value(s, st, 2, VALUE_MS);
	svg_panel(s, 560, 120, &x, &nr);
	draw_value(s, st, 4, VALUE_RUNNING);
	draw_value(s, st, 3, VALUE_WAITING);
	svg_legend(s, 4, "running");
	svg_legend(s, 3, "waiting");
}

int plot_steps(const char *path, const char *log, char *err)
{
	struct steps st = { 0 };
	double end = 0, from, width = 0;
	struct svg s;
	u32 i;
	int rc = load(&st, log, err);

	if (rc || !st.v)
		goto out_free;
	from = st.v[0].t;
	for (i = 0; i < st.nr; i++) {
		st.v[i].t -= from;
		end = max(end, st.v[i].t + st.v[i].dur);
	}
	if (st.nr > COLUMNS) {
		width = end / COLUMNS;
		thin_out(&st, width);
	}
	rc = svg_open(&s, path, WIDTH, 730, "Steps");
	if (!rc) {
		draw(&s, &st, end, width);
		rc = svg_close(&s);
	}
	if (rc)
		snprintf(err, 256, "%.160s: %s", path, strerror(-rc));
out_free:
	free(st.v);
	return rc;
}
