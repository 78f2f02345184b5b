/* SPDX-License-Identifier: MIT */
/*
 * serve.c - kvbench serve: load a server over HTTP and measure what it does
 *
 *	options -> server: model, form of prompts
 *		-> warm-up -> work -> run -> figures	once
 *		-> sweep: the same for each rate
 */
#include "tools/kvbench/serve/serve.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "tools/kvbench/serve/plot.h"
#include "tools/kvbench/serve/sweep.h"

/* A point of a sweep holds although this share of requests failed. */
#define FAILED_SHARE	 0.01
#define WARMUP_AT_A_TIME 8

struct session {
	const struct serve_opts *o;
	struct server server;
	struct run_result result; /* of the last run */
	u32 nr_failed;
	char err[256];
};

static void raise_limit(void)
{
	struct rlimit l;

	if (!getrlimit(RLIMIT_NOFILE, &l)) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

static int run_once(struct session *x, const struct work_opts *wo,
		    u32 at_a_time)
{
	struct run_opts ro = {
		.target = &x->server.target,
		.render = &x->server.render,
		.max_concurrency = at_a_time,
		.timeout = x->o->timeout,
		.seconds = wo->seconds,
	};
	struct work w;
	int rc = work_make(wo, &w, x->err);

	if (!rc) {
		rc = run_work(&ro, &w, &x->result);
		if (rc)
			snprintf(x->err, sizeof(x->err), "%s", strerror(-rc));
	}
	work_fini(&w);
	return rc;
}

static int warm_up(struct session *x)
{
	struct work_opts wo = x->o->work;
	struct run_result *r = &x->result;
	int rc;

	if (!x->o->warmup)
		return 0;
	wo.nr = x->o->warmup;
	wo.seed = ~wo.seed;
	wo.rate = INFINITY;
	wo.seconds = 0;
	wo.think = 0;
	if (wo.kind == WORK_TRACE)
		wo.kind = WORK_RANDOM;
	rc = run_once(x, &wo, WARMUP_AT_A_TIME);
	if (!rc && r->failures.nr)
		fprintf(stderr, "kvbench: warm-up: %u of %u failed: %s\n",
			r->failures.nr, wo.nr, r->failures.first[0].what);
	if (!rc && r->is_interrupted) {
		snprintf(x->err, sizeof(x->err), "interrupted");
		rc = -EINTR;
	}
	run_result_fini(r);
	return rc;
}

static int save_json(const char *path, const json_t *v)
{
	if (!json_dump_file(v, path, JSON_REAL_PRECISION(9) | JSON_INDENT(1)))
		return 0;
	fprintf(stderr, "kvbench: cannot write %s\n", path);
	return -EIO;
}

static void print_json(const struct serve_opts *o, const json_t *v)
{
	json_dumpf(v, stdout,
		   JSON_REAL_PRECISION(9) |
			   (o->pretty ? JSON_INDENT(2) : JSON_COMPACT));
	putchar('\n');
}

/* Print, save, plot. @v gets what only files have. */
static int hand_over(struct session *x, json_t *v, struct run_result *r)
{
	const struct serve_opts *o = x->o;
	int rc = 0;

	if (o->json)
		print_json(o, v);
	else
		figures_print(stdout, o, v, &r->failures);
	if (o->save || o->plot_dir)
		json_object_set_new(v, "requests", figures_requests(r));
	if (o->save)
		rc = save_json(o->save, v);
	if (o->plot_dir && !rc)
		rc = plot_dir(o->plot_dir, v, NULL, o->step_log);
	return rc;
}

static int serve_once(struct session *x)
{
	struct run_result *r = &x->result;
	json_t *v;
	int rc = run_once(x, &x->o->work, x->o->max_concurrency);

	if (!rc) {
		v = figures_json(x->o, &x->server, &x->o->work, r);
		x->nr_failed = r->nr - r->nr_ok;
		if (!r->is_interrupted && !r->failures.nr && r->nr_ok)
			x->nr_failed = 0; /* the rest came after --seconds */
		rc = v ? hand_over(x, v, r) : -ENOMEM;
		json_decref(v);
	}
	run_result_fini(r);
	return rc;
}

/* ---- sweep ---- */

static void judge_point(struct session *x, struct sweep_point *p,
			const struct run_result *r)
{
	p->ok = slo_holds(&x->o->slo, p->figures, p->why);
	if (r->failures.nr > FAILED_SHARE * r->nr || !r->nr_ok) {
		p->ok = false;
		snprintf(p->why, sizeof(p->why), "%u of %u failed: %.80s",
			 r->failures.nr, r->nr, r->failures.first[0].what);
	} else if (p->ok && !json_is_true(json_object_get(p->figures,
							  "client_kept_up"))) {
		p->ok = false;
		snprintf(p->why, sizeof(p->why), "the client was too slow");
	}
}

static int measure_point(void *arg, struct sweep_point *p)
{
	struct session *x = arg;
	struct work_opts wo = x->o->work;
	struct run_result *r = &x->result;
	const char *key;
	int rc;

	wo.rate = p->rate;
	wo.seed = p->seed;
	wo.seconds = 0;
	wo.nr = (u32)ceil(p->rate * x->o->point_seconds);
	wo.nr = max(wo.nr, x->o->has_nr ? x->o->work.nr : 10);
	rc = run_once(x, &wo, x->o->max_concurrency);
	if (!rc && r->is_interrupted) {
		snprintf(x->err, sizeof(x->err), "interrupted");
		rc = -EINTR;
	}
	if (!rc) {
		p->figures = figures_json(x->o, &x->server, &wo, r);
		rc = p->figures ? 0 : -ENOMEM;
	}
	if (!rc) {
		key = slo_unknown(&x->o->slo, p->figures);
		if (key) {
			snprintf(x->err, sizeof(x->err),
				 "--slo: there is no figure \"%s\"", key);
			rc = -EINVAL;
		}
	}
	if (!rc) {
		judge_point(x, p, r);
		fprintf(stderr, "kvbench: %8.4g/s %-5s %s\n", p->rate,
			p->ok ? "holds" : "fails", p->why);
	}
	run_result_fini(r);
	return rc;
}

static void print_sweep(const struct serve_opts *o, const struct sweep *s)
{
	const struct sweep_point *p;
	u32 i, k;

	printf("%10s %5s %5s", "rate/s", "round", "holds");
	for (k = 0; k < o->slo.nr; k++)
		printf("  %16s", o->slo.term[k].key);
	printf("  %10s\n", "tokens/s");
	for (i = 0; i < s->nr; i++) {
		p = &s->point[i];
		printf("%10.4g %5u %5s", p->rate, p->round,
		       p->ok ? "yes" : "NO");
		for (k = 0; k < o->slo.nr; k++)
			printf("  %16.2f",
			       json_number_value(json_object_get(
				       p->figures, o->slo.term[k].key)));
		printf("  %10.1f\n", json_number_value(json_object_get(
					     p->figures, "output_throughput")));
	}
	printf("\n%s%s\n", s->is_interrupted ? "" : "capacity: ", s->verdict);
}

static json_t *slo_json(const struct slo *slo)
{
	json_t *v = json_array();
	char buf[96];
	u32 i;

	for (i = 0; i < slo->nr; i++) {
		snprintf(buf, sizeof(buf), "%s%s%g", slo->term[i].key,
			 slo->term[i].at_least ? ">=" : "<=",
			 slo->term[i].limit);
		json_array_append_new(v, json_string(buf));
	}
	return v;
}

static int serve_sweep(struct session *x)
{
	const struct serve_opts *o = x->o;
	const struct sweep_opts so = {
		.low = o->rate_low,
		.high = o->rate_high,
		.precision = o->precision,
		.max_points = o->max_points,
		.repeat = o->repeat,
		.seed = o->work.seed,
	};
	struct sweep *s = calloc(1, sizeof(*s));
	json_t *v;
	int rc;

	if (!s)
		return -ENOMEM;
	rc = sweep_run(&so, measure_point, x, s);
	if (!rc) {
		v = sweep_json(s);
		json_object_set_new(v, "schema", json_string("kvbench/1"));
		json_object_set_new(v, "bench", json_string("serve-sweep"));
		json_object_set_new(v, "slo", slo_json(&o->slo));
		if (o->json)
			print_json(o, v);
		else
			print_sweep(o, s);
		if (o->save)
			rc = save_json(o->save, v);
		if (o->plot_dir && !rc)
			rc = plot_dir(o->plot_dir, NULL, v, o->step_log);
		json_decref(v);
		x->nr_failed = s->capacity <= 0;
	}
	sweep_fini(s);
	free(s);
	return rc;
}

int serve_main(int argc, char **argv)
{
	struct serve_opts *o = malloc(sizeof(*o));
	struct session *x = calloc(1, sizeof(*x));
	int rc = o && x ? serve_options(o, argc, argv) : 2;

	if (rc) {
		rc--;
		goto out_free;
	}
	x->o = o;
	raise_limit();
	rc = server_find(o, &x->server, x->err);
	if (!rc)
		rc = warm_up(x);
	if (!rc)
		rc = o->is_sweep ? serve_sweep(x) : serve_once(x);
	if (rc)
		fprintf(stderr, "kvbench: serve: %s\n",
			x->err[0] ? x->err : strerror(-rc));
	server_fini(&x->server);
	rc = rc || x->nr_failed ? 1 : 0;
out_free:
	free(x);
	free(o);
	return rc;
}
