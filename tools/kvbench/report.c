/* SPDX-License-Identifier: MIT */
/*
 * report.c - measured rows: a table for people, one JSON object for programs
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include "kernels/include/kern.h"

#define REPORT_COLS_MAX 24
#define REPORT_CELL	192

int report_init(struct report *r)
{
	memset(r, 0, sizeof(*r));
	r->rows = json_array();
	r->extra = json_object();
	return r->rows && r->extra ? 0 : -ENOMEM;
}

void report_fini(struct report *r)
{
	json_decref(r->rows);
	json_decref(r->extra);
	json_decref(r->before);
	memset(r, 0, sizeof(*r));
}

void report_row(struct report *r, json_t *row)
{
	if (!row || json_array_append_new(r->rows, row))
		snprintf(r->note, sizeof(r->note), "a row is missing: memory");
}

static void put_number(char *buf, size_t len, double v, int decimals)
{
	snprintf(buf, len, "%.*f", decimals, v);
}

static bool cell(char *buf, size_t len, const struct report_col *c,
		 const json_t *row)
{
	const json_t *v = json_object_get(row, c->key);

	if (json_is_string(v)) {
		snprintf(buf, len, "%s", json_string_value(v));
		return false;
	}
	if (json_is_boolean(v))
		snprintf(buf, len, "%s", json_is_true(v) ? "yes" : "NO");
	else if (json_is_number(v))
		put_number(buf, len, json_number_value(v),
			   json_is_integer(v) ? 0 : c->decimals);
	else
		snprintf(buf, len, "-");
	return true;
}

void report_table(FILE *out, const struct report_col *cols,
		  unsigned int nr_cols, const json_t *rows)
{
	int width[REPORT_COLS_MAX] = { 0 };
	bool right[REPORT_COLS_MAX] = { 0 };
	char buf[REPORT_CELL];
	unsigned int c;
	json_t *row;
	size_t i;

	nr_cols = min(nr_cols, (unsigned int)REPORT_COLS_MAX);
	for (c = 0; c < nr_cols; c++) {
		width[c] = (int)strlen(cols[c].head);
		json_array_foreach((json_t *)(uintptr_t)rows, i, row)
		{
			right[c] |= cell(buf, sizeof(buf), &cols[c], row);
			width[c] = max(width[c], (int)strlen(buf));
		}
	}
	for (c = 0; c < nr_cols; c++)
		fprintf(out, "%*s%s",
			c + 1 == nr_cols && !right[c] ? 0
			: right[c]		      ? width[c]
						      : -width[c],
			cols[c].head, c + 1 == nr_cols ? "\n" : "  ");
	json_array_foreach((json_t *)(uintptr_t)rows, i, row)
	{
		for (c = 0; c < nr_cols; c++) {
			cell(buf, sizeof(buf), &cols[c], row);
			fprintf(out, "%*s%s",
				c + 1 == nr_cols && !right[c] ? 0
				: right[c]		      ? width[c]
							      : -width[c],
				buf, c + 1 == nr_cols ? "\n" : "  ");
		}
	}
}

static void cpu_model(char *buf, size_t len)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256], *p;

	snprintf(buf, len, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10))
			continue;
		p = strchr(line, ':');
		if (!p)
			break;
		p += 1 + strspn(p + 1, " ");
		p[strcspn(p, "\n")] = '\0';
		snprintf(buf, len, "%s", p);
		break;
	}
	if (f)
		fclose(f);
}

json_t *machine_json(void)
{
	const struct kern_ops *k = kern_select(NULL);
	struct bench_opts none = { 0 };
	struct utsname u = { 0 };
	char cpu[128], date[32];
	time_t t = time(NULL);
	struct tm tm;

	cpu_model(cpu, sizeof(cpu));
	uname(&u);
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "date", date, "cpu",
			 cpu, "cpus", (int)bench_threads(&none), "kernel",
			 u.release, "isa", k ? k->name : "none", "version",
			 KV_VERSION);
}

static const struct report_col before_cols[] = {
	{ "before", "before", 1 },
	{ "over_before", "x", 2 },
};

static void print_table(const struct report *r)
{
	struct report_col cols[REPORT_COLS_MAX];
	unsigned int nr = min(r->nr_cols, (unsigned int)REPORT_COLS_MAX - 2);

	memcpy(cols, r->cols, nr * sizeof(*cols));
	if (r->before) {
		memcpy(cols + nr, before_cols, sizeof(before_cols));
		nr += ARRAY_SIZE(before_cols);
	}
	report_table(stdout, cols, nr, r->rows);
	if (r->note[0])
		printf("%s\n", r->note);
}

int report_print(const struct bench_opts *o, const char *name,
		 const struct report *r)
{
	json_t *v;
	int rc;

	if (!o->json) {
		print_table(r);
		return 0;
	}
	v = json_pack("{s:s, s:s, s:o, s:i, s:b, s:O}", "schema", "kvbench/1",
		      "bench", name, "machine", machine_json(), "threads",
		      (int)bench_threads(o), "tiny", o->tiny, "results",
		      r->rows);
	if (!v)
		return -ENOMEM;
	json_object_update(v, r->extra);
	if (r->note[0])
		json_object_set_new(v, "note", json_string(r->note));
	rc = json_dumpf(v, stdout,
			JSON_REAL_PRECISION(9) |
				(o->pretty ? JSON_INDENT(2) : JSON_COMPACT));
	putchar('\n');
	json_decref(v);
	return rc ? -EIO : 0;
}
