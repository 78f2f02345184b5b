/* SPDX-License-Identifier: MIT */
/*
 * against.c - each row beside the same row of an earlier record
 *
 * A record is what the same subject printed with --json: of the kernel that
 * was, before somebody changed it. A row is the same if the columns that name
 * it are; one that the record lacks has no ratio. Sizes and threads have to
 * be the same, or the ratios would be of something else; the machine, the
 * kernels' ISA and the version may differ, and the note says what they were.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <string.h>

static int refuse(struct report *r, json_t *record, const char *why)
{
	snprintf(r->note, sizeof(r->note), "%s", why);
	json_decref(record);
	return -EINVAL;
}

static const char *text(const json_t *v, const char *key)
{
	const char *s = json_string_value(json_object_get(v, key));

	return s ? s : "?";
}

int against_load(const struct bench_opts *o, const struct subject *s,
		 struct report *r)
{
	json_error_t e;
	json_t *v;

	if (!s->nr_keys)
		return refuse(r, NULL, "its rows are held against nothing");
	v = json_load_file(o->against, 0, &e);
	if (!v) {
		snprintf(r->note, sizeof(r->note), "%.100s:%d: %.100s",
			 o->against, e.line, e.text);
		return -EINVAL;
	}
	if (strcmp(text(v, "bench"), s->name) ||
	    !json_is_array(json_object_get(v, "results")))
		return refuse(r, v, "the record is of something else");
	if (json_is_true(json_object_get(v, "tiny")) != o->tiny)
		return refuse(r, v, "one of the two is --tiny");
	if (json_integer_value(json_object_get(v, "threads")) !=
	    (json_int_t)bench_threads(o))
		return refuse(r, v, "the record has another number of threads");
	r->before = v;
	return 0;
}

static bool same_row(const struct report *r, unsigned int nr_keys,
		     const json_t *a, const json_t *b)
{
	unsigned int c;

	for (c = 0; c < nr_keys; c++)
		if (!json_equal(json_object_get(a, r->cols[c].key),
				json_object_get(b, r->cols[c].key)))
			return false;
	return true;
}

void against_apply(const struct subject *s, struct report *r)
{
	const json_t *rows = json_object_get(r->before, "results");
	const json_t *was = json_object_get(r->before, "machine");
	json_t *row, *old;
	double now, before;
	size_t i, j;

	json_array_foreach(r->rows, i, row)
	{
		json_array_foreach((json_t *)(uintptr_t)rows, j, old)
		{
			if (!same_row(r, s->nr_keys, row, old))
				continue;
			now = json_number_value(json_object_get(row, s->time));
			before = json_number_value(
				json_object_get(old, s->time));
			json_object_set_new(row, "before", json_real(before));
			if (before > 0)
				json_object_set_new(row, "over_before",
						    json_real(now / before));
			break;
		}
	}
	snprintf(r->note, sizeof(r->note),
		 "before: %.32s, version %.32s, %.16s on %.80s",
		 text(was, "date"), text(was, "version"), text(was, "isa"),
		 text(was, "cpu"));
}
