/* SPDX-License-Identifier: MIT */
/*
 * plot.c - latency against rate, hit rate over time; kvbench plot
 */
#include "tools/kvbench/serve/plot.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "tools/kvbench/serve/svg.h"

#define WIDTH  800.0
#define SWEEPS SVG_SERIES
#define BINS   40
#define POINTS 64u /* a sweep has no more */

static double figure(const json_t *v, const char *key)
{
	return json_number_value(json_object_get(v, key));
}

static void widen(struct svg_axis *a, double v)
{
	if (!(v > 0))
		return;
	a->low = min(a->low, v);
	a->high = max(a->high, v);
}

/* ---- latency against rate ---- */

static const struct {
	const char *key, *label;
} sweep_panels[] = {
	{ "p99_itl_ms", "p99 between tokens, ms" },
	{ "median_norm_ms", "median a token, ms" },
	{ "p50_ttft_ms", "p50 first token, ms" },
	{ "p99_ttft_ms", "p99 first token, ms" },
};

struct xy {
	double x, y;
	bool ok;
};

static int cmp_xy(const void *a, const void *b)
{
	const struct xy *p = a, *q = b;

	return p->x < q->x ? -1 : p->x > q->x;
}

/* The points of a figure, by rate. */
static u32 sweep_points(const json_t *sweep, const char *key, struct xy *p)
{
	const json_t *all = json_object_get(sweep, "points"), *one;
	size_t i, nr = min(json_array_size(all), (size_t)POINTS);
	u32 n = 0;

	for (i = 0; i < nr; i++) {
		one = json_array_get(all, i);
		p[n].x = figure(one, "rate");
		p[n].y = figure(json_object_get(one, "figures"), key);
		p[n].ok = json_is_true(json_object_get(one, "ok"));
		n += p[n].x > 0 && p[n].y > 0;
	}
	qsort(p, n, sizeof(*p), cmp_xy);
	return n;
}

/* A line through the means of each rate, a dot for each run. */
static void draw_sweep(struct svg *s, u32 series, const struct xy *p, u32 nr)
{
	double x[POINTS], y[POINTS];
	u32 i, k, n = 0;

	for (i = 0; i < nr; i = k) {
		double sum = 0;

		for (k = i; k < nr && p[k].x == p[i].x; k++)
			sum += p[k].y;
		x[n] = p[i].x;
		y[n++] = sum / (k - i);
	}
	svg_line(s, series, x, y, n);
	for (i = 0; i < nr; i++)
		svg_dot(s, series, p[i].x, p[i].y, p[i].ok);
}

/* The bound on a figure, in words; NULL if there is none. */
static const char *find_slo(const json_t *sweep, const char *key, double *limit)
{
	const json_t *slo = json_object_get(sweep, "slo");
	size_t i, n = strlen(key);
	const char *term;

	for (i = 0; i < json_array_size(slo); i++) {
		term = json_string_value(json_array_get(slo, i));
		if (term && !strncmp(term, key, n) && term[n] == '<') {
			*limit = strtod(term + n + 2, NULL);
			return term;
		}
	}
	return NULL;
}

static void draw_slo(struct svg *s, const json_t *sweep, const char *key)
{
	double limit;
	const char *term = find_slo(sweep, key, &limit);

	if (term)
		svg_level(s, limit, term);
}

int plot_sweep(const char *path, const json_t *const *sweeps,
	       const char *const *names, u32 nr, char *err)
{
	struct xy p[POINTS];
	struct svg s;
	u32 k, i, n, all = 0;
	double limit;
	int rc;

	/* Answers of one token have no time between tokens. */
	for (i = 0; i < nr; i++)
		all += sweep_points(sweeps[i], "p99_ttft_ms", p);
	if (!all) {
		snprintf(err, 256, "no point of a sweep is in it");
		return -EINVAL;
	}
	rc = svg_open(&s, path, WIDTH, 60 + 250 * ARRAY_SIZE(sweep_panels),
		      "Latency against rate");
	for (k = 0; !rc && k < ARRAY_SIZE(sweep_panels); k++) {
		struct svg_axis x = { "requests/s", INFINITY, 0, true };
		struct svg_axis y = { sweep_panels[k].label, INFINITY, 0,
				      true };

		for (i = 0; i < nr; i++) {
			n = sweep_points(sweeps[i], sweep_panels[k].key, p);
			while (n--) {
				widen(&x, p[n].x);
				widen(&y, p[n].y);
			}
			if (find_slo(sweeps[i], sweep_panels[k].key, &limit))
				widen(&y, limit);
		}
		x.low *= 0.95;
		x.high *= 1.05;
		y.low *= 0.8;
		y.high *= 1.25;
		svg_panel(&s, 60 + 250 * k, 190, &x, &y);
		for (i = 0; i < nr; i++) {
			n = sweep_points(sweeps[i], sweep_panels[k].key, p);
			draw_sweep(&s, i, p, n);
			draw_slo(&s, sweeps[i], sweep_panels[k].key);
			if (!k)
				svg_legend(&s, i, names[i]);
		}
	}
	if (!rc)
		rc = svg_close(&s);
	if (rc)
		snprintf(err, 256, "%s", strerror(-rc));
	return rc;
}

/* ---- hit rate over time ---- */

struct hits {
	double input[BINS], cached[BINS], end;
};

static bool sum_hits(const json_t *run, struct hits *h)
{
	const json_t *all = json_object_get(run, "requests"), *q;
	size_t i, nr = json_array_size(all);
	bool any = false;
	u32 b;

	memset(h, 0, sizeof(*h));
	for (i = 0; i < nr; i++)
		h->end = max(h->end, figure(json_array_get(all, i), "end"));
	for (i = 0; i < nr && h->end > 0; i++) {
		q = json_array_get(all, i);
		if (!json_is_true(json_object_get(q, "ok")))
			continue;
		b = (u32)(figure(q, "end") / h->end * BINS);
		b = min(b, BINS - 1u);
		h->input[b] += figure(q, "input");
		h->cached[b] += figure(q, "cached");
		any = true;
	}
	return any;
}

int plot_hits(const char *path, const json_t *run, char *err)
{
	const struct svg_axis y = { "cached / prompt tokens", 0, 1, false };
	double sum_in = 0, sum_hit = 0, x[BINS], total[BINS], at[BINS];
	struct svg_axis xa = { "s", 0, 0, false };
	struct hits h;
	struct svg s;
	u32 b, n = 0;
	int rc;

	if (!json_is_number(json_object_get(run, "cache_hit_rate"))) {
		snprintf(err, 256, "the server did not say what it had cached");
		return -EINVAL;
	}
	if (!sum_hits(run, &h)) {
		snprintf(err, 256, "no finished request is in it");
		return -EINVAL;
	}
	rc = svg_open(&s, path, WIDTH, 330, "Hit rate over time");
	if (rc) {
		snprintf(err, 256, "%s", strerror(-rc));
		return rc;
	}
	xa.high = h.end;
	svg_panel(&s, 60, 210, &xa, &y);
	for (b = 0; b < BINS; b++) {
		if (!h.input[b])
			continue;
		sum_in += h.input[b];
		sum_hit += h.cached[b];
		x[n] = (b + 0.5) / BINS * h.end;
		at[n] = h.cached[b] / h.input[b];
		total[n++] = sum_hit / sum_in;
	}
	svg_line(&s, 0, x, at, n);
	svg_line(&s, 1, x, total, n);
	svg_legend(&s, 0, "then");
	svg_legend(&s, 1, "from the start");
	rc = svg_close(&s);
	if (rc)
		snprintf(err, 256, "%s", strerror(-rc));
	return rc;
}

/* ---- files ---- */

static int complain(const char *path, const char *err, int rc)
{
	if (rc)
		fprintf(stderr, "kvbench: %s: %s\n", path, err);
	return rc;
}

int plot_dir(const char *dir, const json_t *run, const json_t *sweep,
	     const char *steps)
{
	const char *name = "kvbench";
	char path[1024], err[256] = "";
	int rc = 0;

	if (mkdir(dir, 0777) && errno != EEXIST)
		return complain(dir, strerror(errno), -errno);
	if (run) {
		snprintf(path, sizeof(path), "%s/hits.svg", dir);
		rc = complain(path, err, plot_hits(path, run, err));
	}
	if (!rc && sweep) {
		snprintf(path, sizeof(path), "%s/sweep.svg", dir);
		rc = complain(path, err,
			      plot_sweep(path, &sweep, &name, 1, err));
	}
	if (steps) { /* also of a server that does not say its hits */
		int rc2;

		snprintf(path, sizeof(path), "%s/steps.svg", dir);
		rc2 = complain(steps, err, plot_steps(path, steps, err));
		rc = rc ? rc : rc2;
	}
	return rc;
}

static int plot_json(const char *what, char **files, u32 nr, const char *out,
		     char *err)
{
	json_t *v[SWEEPS] = { NULL };
	const char *names[SWEEPS], *slash;
	json_error_t e;
	int rc = 0;
	u32 i;

	for (i = 0; i < nr && !rc; i++) {
		v[i] = json_load_file(files[i], 0, &e);
		slash = strrchr(files[i], '/');
		names[i] = slash ? slash + 1 : files[i];
		if (!v[i]) {
			snprintf(err, 256, "%.120s: %.100s", files[i], e.text);
			rc = -EINVAL;
		}
	}
	if (!rc)
		rc = !strcmp(what, "hits")
			     ? plot_hits(out, v[0], err)
			     : plot_sweep(out, (const json_t *const *)v, names,
					  nr, err);
	for (i = 0; i < nr; i++)
		json_decref(v[i]);
	return rc;
}

static int usage(void)
{
	fprintf(stderr, "usage: kvbench plot sweep RESULT.json... -o FILE.svg\n"
			"       kvbench plot hits RESULT.json -o FILE.svg\n"
			"       kvbench plot steps STEPS.jsonl -o FILE.svg\n");
	return 2;
}

int plot_main(int argc, char **argv)
{
	const char *out = NULL, *what;
	char err[256] = "";
	u32 nr, most;
	int c, rc;

	while ((c = getopt(argc, argv, "o:")) != -1) {
		if (c != 'o')
			return usage();
		out = optarg;
	}
	if (!out || optind + 2 > argc)
		return usage();
	what = argv[optind];
	nr = (u32)(argc - optind - 1);
	most = !strcmp(what, "sweep")				 ? SWEEPS
	       : !strcmp(what, "hits") || !strcmp(what, "steps") ? 1
								 : 0;
	if (nr > most)
		return usage();
	if (!strcmp(what, "steps"))
		rc = plot_steps(out, argv[optind + 1], err);
	else
		rc = plot_json(what, argv + optind + 1, nr, out, err);
	if (rc)
		fprintf(stderr, "kvbench: plot: %s\n", err);
	return rc ? 1 : 0;
}
