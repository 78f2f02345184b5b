/* SPDX-License-Identifier: MIT */
/*
 * probes.c - the view "probes": how often each one is hit
 *
 * All but kvmd:point, which is hit several times in every request.
 */
#include "tools/kvtrace/kvtrace.h"

#include <stdlib.h>

static const char *const names[] = { "fault",	"cow",	  "reclaim", "swap_out",
				     "swap_in", "revoke", NULL };

static int probes_report(struct tracer *t, struct report *r)
{
	u64 *seen = r->state ? r->state : calloc(FAULT_PROBES, sizeof(*seen));
	json_t *hits = json_object(), *all;
	int rc = EX_KV_OK;
	u32 i;

	r->state = seen;
	if (!seen || !hits)
		return EX_KV_FAILED;
	if (!r->opt->json)
		printf("%-10s %12s %12s\n", "PROBE", "HITS", "HITS/S");
	for (i = 0; names[i]; i++) {
		u64 now = tracer_hits(t, i), new = now - seen[i];

		seen[i] = now;
		json_object_set_new(hits, names[i],
				    json_integer((json_int_t) new));
		if (!r->opt->json)
			printf("%-10s %12llu %12.0f\n", names[i],
			       (unsigned long long)new,
			       r->seconds > 0 ? (double)new / r->seconds : 0);
	}
	all = json_pack("{s:s, s:s, s:i, s:f, s:o}", "schema", "kvtrace/1",
			"view", "probes", "pid", (int)r->opt->pid, "seconds",
			r->seconds, "hits", hits);
	if (!all || (r->opt->json && json_dumpf(all, stdout, JSON_COMPACT)))
		rc = EX_KV_FAILED;
	json_decref(all);
	putchar('\n');
	return rc;
}

static void probes_fini(struct report *r)
{
	free(r->state);
}

const struct view probes_view = {
	.name = "probes",
	.help = "how often each probe is hit",
	.probes = names,
	.report = probes_report,
	.fini = probes_fini,
};
