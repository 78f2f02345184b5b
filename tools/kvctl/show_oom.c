/* SPDX-License-Identifier: MIT */
/*
 * show_oom.c - reports of memory that was not to be had, for people
 */
#include "tools/kvctl/kvctl.h"

#include <inttypes.h>
#include <string.h>

static const struct col tenant_cols[] = {
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "HELD", "held_bytes", NULL, COL_BYTES, 0 },
	{ "WEIGHTS", "charged_bytes", NULL, COL_BYTES, 0 },
	{ "CACHED", "cached_held_bytes", NULL, COL_BYTES, 0 },
	{ "SWAPPED", "swap_bytes", NULL, COL_BYTES, 0 },
	{ "MIN", "min_bytes", NULL, COL_BYTES, 0 },
	{ "LOW", "low_bytes", NULL, COL_BYTES, 0 },
	{ "HIGH", "high_bytes", NULL, COL_LIMIT, 0 },
	{ "MAX", "max_bytes", NULL, COL_LIMIT, 0 },
	{ "WEIGHT", "weight", NULL, COL_INT, 0 },
};

static const struct col client_cols[] = {
	{ "CLIENT", "client", NULL, COL_INT, 0 },
	{ "NAME", "name", NULL, COL_STR, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "HELD", "held_bytes", NULL, COL_BYTES, 0 },
	{ "SPACES", "spaces", NULL, COL_INT, 0 },
};

static const struct col space_cols[] = {
	{ "CLIENT", "client", NULL, COL_INT, 0 },
	{ "SPACE", "space", NULL, COL_INT, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "RSS", "rss_bytes", NULL, COL_BYTES, 0 },
	{ "PRIORITY", "priority", NULL, COL_INT, 0 },
};

static const struct {
	const char *key;
	struct table table;
} tables[] = {
	{ "tenants",
	  { .cols = tenant_cols,
	    .nr_cols = ARRAY_SIZE(tenant_cols),
	    .indent = "  " } },
	{ "clients",
	  { .cols = client_cols,
	    .nr_cols = ARRAY_SIZE(client_cols),
	    .indent = "  " } },
	{ "spaces",
	  { .cols = space_cols,
	    .nr_cols = ARRAY_SIZE(space_cols),
	    .indent = "  " } },
};

static const char *why_text(const char *why)
{
	static const char *const texts[][2] = {
		{ "tenant_max", "over the max of its tenant" },
		{ "device", "the device is full" },
		{ "admin", "an administrator wanted it back" },
		{ "tenant_limit", "its tenant holds more than its max" },
		{ "weights", "another one's weights wait for it" },
		{ "reservation", "another one waits for it" },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(texts); i++)
		if (!strcmp(why, texts[i][0]))
			return texts[i][1];
	return why;
}

static void print_head(const struct options *opt, const json_t *r)
{
	char name[64], tenant[64], lacked[32], waited[32];
	const char *cause = member_str(r, "cause");
	u64 t = member_u64(r, "time_ns");

	fmt_clean(name, sizeof(name), member_str(r, "name"));
	fmt_clean(tenant, sizeof(tenant), member_str(r, "tenant"));
	fmt_bytes(lacked, sizeof(lacked), member_u64(r, "lacked_bytes"),
		  opt->units);
	fmt_duration(waited, sizeof(waited), member_u64(r, "waited_ns"));
	printf("%" PRIu64 "  at %" PRIu64 ".%06" PRIu64 "  client %" PRIu64
	       " (%s) of tenant %s ",
	       member_u64(r, "seq"), t / 1000000000, t / 1000 % 1000000,
	       member_u64(r, "client"), name, tenant);
	if (!strcmp(cause, "kill"))
		printf("was killed after %s for %s: ", waited, lacked);
	else if (!strcmp(cause, "gave_up"))
		printf("gave up after %s, step %" PRIu64 " lacked %s: ", waited,
		       member_u64(r, "step"), lacked);
	else
		printf("can never have step %" PRIu64 ", which lacked %s: ",
		       member_u64(r, "step"), lacked);
	printf("%s", why_text(member_str(r, "why")));
	if (json_is_integer(member(r, "for_client")))
		printf(" (client %" PRIu64 ")", member_u64(r, "for_client"));
	putchar('\n');
}

static void print_device(const struct options *opt, const json_t *r)
{
	char total[32], held[32], ready[32], weights[32];

	fmt_bytes(total, sizeof(total), member_u64(r, "total_bytes"),
		  opt->units);
	fmt_bytes(held, sizeof(held), member_u64(r, "held_bytes"), opt->units);
	fmt_bytes(ready, sizeof(ready), member_u64(r, "ready_bytes"),
		  opt->units);
	fmt_bytes(weights, sizeof(weights), member_u64(r, "charged_bytes"),
		  opt->units);
	printf("  of %s: %s held, %s ready, %s weights\n", total, held, ready,
	       weights);
}

int show_oom(const struct invocation *inv, json_t *a)
{
	struct options plain = *inv->opt;
	json_t *r;
	size_t i;
	unsigned int k;
	int rc;

	plain.columns = plain.sort = NULL;
	json_array_foreach(member(a, "reports"), i, r)
	{
		print_head(&plain, r);
		print_device(&plain, r);
		for (k = 0; k < ARRAY_SIZE(tables); k++) {
			if (!json_array_size(member(r, tables[k].key)))
				continue;
			rc = tab_print(&plain, &tables[k].table,
				       member(r, tables[k].key));
			if (rc)
				return rc;
		}
	}
	return EX_KV_OK;
}
