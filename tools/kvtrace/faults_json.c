/* SPDX-License-Identifier: MIT */
/*
 * faults_json.c - the view "faults" for machines: one object a report
 */
#include "tools/kvtrace/kvtrace.h"

static json_t *histogram(const struct fault_sums *s)
{
	json_t *slots = json_array();
	unsigned int i;

	for (i = 0; i < FAULT_SLOTS; i++)
		if (s->slot[i])
			json_array_append_new(
				slots,
				json_pack("{s:I, s:I, s:I}", "from_ns",
					  (json_int_t)(i ? 1ull << i : 0),
					  "below_ns", (json_int_t)(2ull << i),
					  "faults", (json_int_t)s->slot[i]));
	return slots;
}

static json_t *sums(const struct fault_sums *s)
{
	json_t *pages = json_pack(
		"{s:I, s:I, s:I, s:I}", "fresh", (json_int_t)s->fresh, "cow",
		(json_int_t)s->cow, "swap_in", (json_int_t)s->swap_in, "prefix",
		(json_int_t)s->prefix);

	return json_pack("{s:I, s:o, s:I, s:I, s:I, s:o}", "faults",
			 (json_int_t)s->faults, "pages", pages,
			 "latency_sum_ns", (json_int_t)s->latency_ns,
			 "p50_below_ns", (json_int_t)fault_percentile(s, 50),
			 "p99_below_ns", (json_int_t)fault_percentile(s, 99),
			 "latency", histogram(s));
}

static json_t *causes(const struct fault_news *n)
{
	json_t *all = json_array(), *row;
	unsigned int c, w;

	for (c = 0; c < CAUSE_NR; c++) {
		for (w = 0; w < 2; w++) {
			if (!n->cause[c][w].faults)
				continue;
			row = sums(&n->cause[c][w]);
			json_object_set_new(row, "cause",
					    json_string(fault_cause_name(c)));
			json_object_set_new(row, "waited", json_boolean(w));
			json_array_append_new(all, row);
		}
	}
	return all;
}

static json_t *clients(struct tracer *t, const struct fault_news *n)
{
	json_t *all = json_array(), *row;
	struct client_names names;
	char clean[FAULT_NAME_LEN];
	size_t i;

	for (i = 0; i < n->nr; i++) {
		const struct fault_key *k = &n->rows[i].key;

		tracer_names(t, k, &names);
		row = sums(&n->rows[i].sums);
		json_object_set_new(row, "pid", json_integer(k->pid));
		json_object_set_new(row, "client", json_integer(k->client));
		fmt_clean(clean, sizeof(clean), names.client);
		json_object_set_new(row, "name", json_string(clean));
		fmt_clean(clean, sizeof(clean), names.tenant);
		json_object_set_new(row, "tenant", json_string(clean));
		json_object_set_new(row, "cause",
				    json_string(fault_cause_name(k->cause)));
		json_object_set_new(row, "waited", json_boolean(k->waited));
		json_array_append_new(all, row);
	}
	return all;
}

int faults_print_json(struct tracer *t, const struct report *r,
		      const struct fault_news *n)
{
	json_t *all = json_pack("{s:s, s:s, s:i, s:f, s:I, s:o, s:o, s:o}",
				"schema", "kvtrace/1", "view", "faults", "pid",
				(int)r->opt->pid, "seconds", r->seconds, "lost",
				(json_int_t)n->lost, "all", sums(&n->all),
				"causes", causes(n), "clients", clients(t, n));
	int rc = all ? json_dumpf(all, stdout, JSON_COMPACT) : -1;

	json_decref(all);
	putchar('\n');
	return rc ? EX_KV_FAILED : EX_KV_OK;
}
