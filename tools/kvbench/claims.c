/* SPDX-License-Identifier: MIT */
/*
 * claims.c - the figures: run, judged against their targets, printed
 *
 * share is measured over bound, where a bound exists. A figure that this
 * machine or this build cannot measure is printed as skipped, with why, and
 * counts neither way.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static struct figure *figures;

/* Sorted by name, so that the table does not follow link order. */
void figure_register(struct figure *f)
{
	struct figure **p = &figures;

	while (*p && strcmp((*p)->name, f->name) < 0)
		p = &(*p)->next;
	f->next = *p;
	*p = f;
}

const struct figure *figure_first(void)
{
	return figures;
}

static const char *const cmp_sign[] = { ">=", "<=", "=" };

static bool judge(const struct figure *f, double measured)
{
	if (f->cmp == CMP_AT_LEAST)
		return measured >= f->target;
	if (f->cmp == CMP_AT_MOST)
		return measured <= f->target;
	return fabs(measured - f->target) < 1e-9;
}

/* "util" selects util.*; a whole name selects itself. */
static bool selected(const struct figure *f, char *const *names, int nr)
{
	size_t n;
	int i;

	for (i = 0; i < nr; i++) {
		n = strlen(names[i]);
		if (!strncmp(f->name, names[i], n) &&
		    (!f->name[n] || f->name[n] == '.'))
			return true;
	}
	return !nr;
}

static bool name_is_known(const char *name)
{
	const struct figure *f;
	char *one[1] = { (char *)(uintptr_t)name };

	for (f = figures; f; f = f->next)
		if (selected(f, one, 1))
			return true;
	return false;
}

static json_t *run_figure(const struct bench_opts *o, const struct figure *f)
{
	struct figure_result r = { 0 };
	char command[128], target[48];
	json_t *row;
	int rc;

	fprintf(stderr, "kvbench: %s ...\n", f->name);
	rc = f->run(o, &r);
	snprintf(command, sizeof(command), "kvbench claims %s", f->name);
	snprintf(target, sizeof(target), "%s %g", cmp_sign[f->cmp], f->target);
	row = json_pack("{s:s, s:s, s:s, s:f, s:s, s:s, s:s}", "name", f->name,
			"what", f->what, "unit", f->unit, "target_value",
			f->target, "target", target, "command", command, "note",
			r.note);
	if (!row)
		return NULL;
	if (rc) {
		json_object_set_new(
			row, rc == -EOPNOTSUPP ? "skipped" : "error",
			json_string(r.note[0] ? r.note : strerror(-rc)));
		json_object_set_new(row, "measured", json_null());
		json_object_set_new(row, "ok",
				    rc == -EOPNOTSUPP ? json_null()
						      : json_false());
		return row;
	}
	json_object_set_new(row, "measured", json_real(r.measured));
	json_object_set_new(row, "ok", json_boolean(judge(f, r.measured)));
	if (r.bound > 0) {
		json_object_set_new(row, "bound", json_real(r.bound));
		json_object_set_new(row, "bound_what",
				    json_string(r.bound_what));
		json_object_set_new(row, "share",
				    json_real(r.measured / r.bound));
	}
	return row;
}

static const struct report_col claim_cols[] = {
	{ "name", "name", 0 },	 { "measured", "measured", 3 },
	{ "unit", "unit", 0 },	 { "target", "target", 0 },
	{ "bound", "bound", 2 }, { "share", "share", 2 },
	{ "ok", "ok", 0 },	 { "note", "note", 0 },
};

int claims_run(const struct bench_opts *o, char *const *names, int nr)
{
	const struct figure *f;
	json_t *rows = json_array(), *row, *all;
	unsigned int missed = 0, failed = 0;
	int i;

	for (i = 0; i < nr; i++) {
		if (!name_is_known(names[i])) {
			fprintf(stderr,
				"kvbench: there is no figure \"%s\"; kvbench "
				"list names them\n",
				names[i]);
			json_decref(rows);
			return 2;
		}
	}
	for (f = figures; f; f = f->next) {
		if (!selected(f, names, nr))
			continue;
		row = run_figure(o, f);
		failed += !row || json_object_get(row, "error");
		missed += json_is_false(json_object_get(row, "ok"));
		json_array_append_new(rows, row);
	}
	if (o->json) {
		all = json_pack("{s:s, s:s, s:o, s:b, s:O}", "schema",
				"kvbench/1", "bench", "claims", "machine",
				machine_json(), "tiny", o->tiny, "figures",
				rows);
		json_dumpf(all, stdout,
			   JSON_REAL_PRECISION(6) |
				   (o->pretty ? JSON_INDENT(2) : JSON_COMPACT));
		putchar('\n');
		json_decref(all);
	} else {
		report_table(stdout, claim_cols, ARRAY_SIZE(claim_cols), rows);
	}
	json_decref(rows);
	return failed || (missed && !o->tiny) ? 1 : 0;
}
