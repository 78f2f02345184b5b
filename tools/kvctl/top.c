/* SPDX-License-Identifier: MIT */
/*
 * top.c - samples, rates between two of them, and what top shows
 *
 * A sample is five requests; kvmd answers each from its books without
 * stopping anybody, so the five are not one instant: a row may be in one
 * list and not yet in another.
 */
#include "tools/kvctl/top.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

const char *const panel_names[PANEL_NR] = { "clients", "spaces", "tenants" };

int sample_take(const struct options *opt, struct sample *s)
{
	int rc;

	memset(s, 0, sizeof(*s));
	rc = ask(opt, 0, "status", &s->status);
	if (!rc)
		rc = ask(opt, 0, "vmstat", &s->vmstat);
	if (!rc)
		rc = ask(opt, 0, "tenant list", &s->tenants);
	if (!rc)
		rc = ask(opt, 0, "client list", &s->clients);
	if (!rc)
		rc = ask(opt, 0, "space list", &s->spaces);
	s->time_s = clock_s();
	if (rc)
		sample_free(s);
	return rc;
}

void sample_free(struct sample *s)
{
	json_decref(s->status);
	json_decref(s->vmstat);
	json_decref(s->tenants);
	json_decref(s->clients);
	json_decref(s->spaces);
	memset(s, 0, sizeof(*s));
}

static double rate(const struct sample *now, const struct sample *prev,
		   const char *name)
{
	u64 a, b;
	double s;

	if (!prev || !prev->vmstat)
		return 0;
	s = now->time_s - prev->time_s;
	a = member_u64(member(prev->vmstat, "counters"), name);
	b = member_u64(member(now->vmstat, "counters"), name);
	return s > 0 && b >= a ? (double)(b - a) / s : 0;
}

static void put_rate(FILE *out, const char *label, double v)
{
	char buf[32];

	fmt_count(buf, sizeof(buf), (u64)(v + 0.5));
	fprintf(out, "%s %s  ", label, buf);
}

/* [|||||||===......] frames, held, the rest. */
static void put_bar(FILE *out, const json_t *d, int width)
{
	double total = (double)member_u64(d, "total_bytes");
	double used = (double)(member_u64(d, "frame_bytes") +
			       member_u64(d, "charged_bytes"));
	double held = (double)(member_u64(d, "held_bytes") +
			       member_u64(d, "charged_bytes"));
	int i;

	fputc('[', out);
	for (i = 0; i < width; i++) {
		double at = total * ((double)i + 0.5) / (double)width;

		fputc(at < used ? '|' : at < held ? '=' : '.', out);
	}
	fputc(']', out);
}

static void put_device(FILE *out, const struct options *opt, const json_t *d,
		       int width)
{
	char held[32], total[32], saved[32], name[32];
	u64 frame = member_u64(d, "frame_bytes");

	fmt_clean(name, sizeof(name), member_str(d, "name"));
	fmt_bytes(held, sizeof(held),
		  member_u64(d, "held_bytes") + member_u64(d, "charged_bytes"),
		  opt->units);
	fmt_bytes(total, sizeof(total), member_u64(d, "total_bytes"),
		  opt->units);
	fmt_bytes(saved, sizeof(saved), member_u64(d, "saved_bytes"),
		  opt->units);
	fprintf(out, "%-8s ", name);
	put_bar(out, d, max(width - 62, 10));
	fprintf(out, " %s/%s  saved %s  useful %.1f%%\n", held, total, saved,
		frame ? 100.0 * (double)member_u64(d, "token_bytes") /
				(double)frame
		      : 0.0);
}

void top_head(FILE *out, const struct options *opt, const struct sample *now,
	      const struct sample *prev, int width)
{
	const json_t *a = now->status;
	char up[32];
	json_t *d;
	size_t i;

	fmt_duration(up, sizeof(up), member_u64(a, "uptime_ns"));
	fprintf(out,
		"kvmd %s  up %s  %s  health %s  clients %" PRIu64
		"  spaces %" PRIu64 "  tickets %" PRIu64 "\n",
		member_str(a, "version"), up, member_str(a, "state"),
		member_str(a, "health"), member_u64(a, "clients"),
		member_u64(a, "spaces"), member_u64(a, "tickets"));
	json_array_foreach(member(a, "devices"), i, d)
		put_device(out, opt, d, width);
	put_rate(out, "/s: fresh", rate(now, prev, "faults_fresh"));
	put_rate(out, "cow", rate(now, prev, "faults_cow"));
	put_rate(out, "freed", rate(now, prev, "pages_free"));
	put_rate(out, "forks", rate(now, prev, "forks"));
	put_rate(out, "requests", rate(now, prev, "ring_requests"));
	put_rate(out, "short", rate(now, prev, "reserves_short"));
	fputc('\n', out);
}

static bool row_matches(const json_t *row, const char *filter)
{
	return !filter[0] || strcasestr(member_str(row, "name"), filter) ||
	       strcasestr(member_str(row, "tenant"), filter);
}

/* Append @row and, below it, the spaces forked from it. */
static void tree_add(json_t *out, const json_t *spaces, const json_t *row,
		     int depth)
{
	json_t *copy = json_copy((json_t *)(uintptr_t)row), *r;
	char name[96];
	size_t i;

	if (!copy)
		return;
	snprintf(name, sizeof(name), "%*s%s%s", max(depth - 1, 0) * 2, "",
		 depth ? "`-" : "", member_str(row, "name"));
	json_object_set_new(copy, "name", json_string(name));
	json_array_append_new(out, copy);
	/* a parent's slot may have been reused by its own descendant */
	if (depth > 16)
		return;
	json_array_foreach((json_t *)(uintptr_t)spaces, i, r)
	{
		if (json_is_integer(member(r, "parent")) && r != row &&
		    member_u64(r, "parent") == member_u64(row, "space") &&
		    member_u64(r, "client") == member_u64(row, "client"))
			tree_add(out, spaces, r, depth + 1);
	}
}

/* No living parent: a root. */
static bool is_root(const json_t *spaces, const json_t *row)
{
	json_t *r;
	size_t i;

	if (!json_is_integer(member(row, "parent")))
		return true;
	json_array_foreach((json_t *)(uintptr_t)spaces, i, r)
	{
		if (r != row &&
		    member_u64(r, "space") == member_u64(row, "parent") &&
		    member_u64(r, "client") == member_u64(row, "client"))
			return false;
	}
	return true;
}

json_t *top_rows(const struct sample *s, const struct top_view *v)
{
	const json_t *all =
		v->panel == PANEL_CLIENTS  ? member(s->clients, "clients")
		: v->panel == PANEL_SPACES ? member(s->spaces, "spaces")
					   : member(s->tenants, "tenants");
	json_t *out = json_array(), *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)all, i, row)
	{
		if (!row_matches(row, v->filter))
			continue;
		if (v->panel != PANEL_SPACES || !v->tree)
			json_array_append(out, row);
		else if (is_root(all, row))
			tree_add(out, all, row, 0);
	}
	return out;
}

const struct table *top_table(const struct top_view *v)
{
	return v->panel == PANEL_CLIENTS  ? &client_table
	       : v->panel == PANEL_SPACES ? &space_table
					  : &tenant_table;
}

static int print_batch(const struct options *opt, const struct sample *now,
		       const struct sample *prev)
{
	struct options plain = *opt;
	struct top_view v = { .tree = true };
	json_t *rows;
	int rc = 0;

	plain.columns = plain.sort = NULL;
	top_head(stdout, opt, now, prev, 80);
	for (v.panel = 0; v.panel < PANEL_NR && !rc; v.panel++) {
		rows = top_rows(now, &v);
		putchar('\n');
		rc = tab_print(&plain, top_table(&v), rows);
		json_decref(rows);
	}
	putchar('\n');
	return rc;
}

static int print_json_sample(const struct options *opt,
			     const struct sample *now,
			     const struct sample *prev)
{
	json_t *rates = json_object(), *v, *all;
	const char *name;
	int rc;

	json_object_foreach(member(now->vmstat, "counters"), name, v)
	{
		json_object_set_new(
			rates, name,
			json_integer(
				(json_int_t)(rate(now, prev, name) + 0.5)));
	}
	all = json_pack("{s:s, s:s, s:O, s:O, s:O, s:O, s:o}", "schema",
			"kvctl/1", "object", "top", "status", now->status,
			"tenants", member(now->tenants, "tenants"), "clients",
			member(now->clients, "clients"), "spaces",
			member(now->spaces, "spaces"), "rates", rates);
	if (!all)
		return EX_KV_FAILED;
	rc = print_json(opt, all);
	json_decref(all);
	return rc;
}

int run_top(const struct invocation *inv)
{
	const struct options *opt = inv->opt;
	double every = opt->watch_s ? opt->watch_s : 1;
	struct sample prev = { 0 }, now;
	unsigned long i;
	int rc = EX_KV_OK;

	if (!opt->batch && !opt->json) {
		if (isatty(STDOUT_FILENO) && isatty(STDIN_FILENO))
			return top_screen(opt, every);
		fprintf(stderr, "kvctl: top needs a terminal; use -b\n");
		return EX_KV_USAGE;
	}
	for (i = 0; !rc && (!opt->count || i < opt->count); i++) {
		if (i)
			clock_sleep_s(every);
		rc = sample_take(opt, &now);
		if (rc)
			break;
		rc = opt->json ? print_json_sample(opt, &now, i ? &prev : NULL)
			       : print_batch(opt, &now, i ? &prev : NULL);
		if (fflush(stdout))
			rc = EX_KV_FAILED;
		sample_free(&prev);
		prev = now;
	}
	sample_free(&prev);
	return rc;
}
