/* SPDX-License-Identifier: MIT */
/*
 * show.c - views of whole answers: status, health, memory, counters, events
 *
 * A view gets the JSON that kvmd sent and prints it for people; which member
 * means what is said in Documentation/abi/ctl.rst and nowhere else.
 */
#include "tools/kvctl/kvctl.h"

#include <inttypes.h>
#include <string.h>

const char *tint(const struct options *opt, const char *sgr)
{
	static char buf[4][16];
	static unsigned int i;

	if (!opt->color)
		return "";
	i = (i + 1) % ARRAY_SIZE(buf);
	snprintf(buf[i], sizeof(buf[i]), "\033[%sm", sgr);
	return buf[i];
}

static const char *severity_sgr(const char *s)
{
	return !strcmp(s, "OK") ? "32" : !strcmp(s, "WARN") ? "33" : "31";
}

void status_line(FILE *out, const struct options *opt, const json_t *a)
{
	char up[32], sock[128];
	const char *health = member_str(a, "health");

	fmt_duration(up, sizeof(up), member_u64(a, "uptime_ns"));
	fmt_clean(sock, sizeof(sock), member_str(a, "socket"));
	fprintf(out,
		"kvmd %s (pid %" PRIu64 ") up %s  state: %s  health: %s%s%s  "
		"socket %s  abi %s  io %s\n",
		member_str(a, "version"), member_u64(a, "pid"), up,
		member_str(a, "state"), tint(opt, severity_sgr(health)), health,
		tint(opt, "0"), sock, member_str(a, "abi"),
		member_str(a, "io"));
}

int show_status(const struct invocation *inv, json_t *a)
{
	const struct options *opt = inv->opt;
	char bytes[32];
	int rc;

	if (!opt->no_header)
		status_line(stdout, opt, a);
	rc = tab_print(opt, &device_table, member(a, "devices"));
	if (rc || opt->no_header)
		return rc;
	fmt_bytes(bytes, sizeof(bytes), member_u64(a, "weights.bytes"),
		  opt->units);
	printf("clients %" PRIu64 " | tenants %" PRIu64 " | spaces %" PRIu64
	       " | tickets %" PRIu64 " | weights %" PRIu64 ": %s, %" PRIu64
	       " open\n",
	       member_u64(a, "clients"), member_u64(a, "tenants"),
	       member_u64(a, "spaces"), member_u64(a, "tickets"),
	       member_u64(a, "weights.count"), bytes,
	       member_u64(a, "weights.open"));
	return EX_KV_OK;
}

/* Exit status 1 when the health is ERR, so that a script can ask. */
int show_health(const struct invocation *inv, json_t *a)
{
	const struct options *opt = inv->opt;
	const char *status = member_str(a, "status");
	char text[512];
	json_t *c;
	size_t i;

	if (!opt->no_header)
		printf("%s%s%s\n", tint(opt, severity_sgr(status)), status,
		       tint(opt, "0"));
	json_array_foreach(member(a, "checks"), i, c)
	{
		fmt_clean(text, sizeof(text), member_str(c, "message"));
		if (opt->no_header)
			printf("%s\t%s\t%s\n", member_str(c, "severity"),
			       member_str(c, "code"), text);
		else
			printf("  [%s] %s: %s\n", member_str(c, "severity"),
			       member_str(c, "code"), text);
	}
	return strcmp(status, "ERR") ? EX_KV_OK : EX_KV_FAILED;
}

struct meminfo_row {
	const char *name, *key;
};

static const struct meminfo_row meminfo_rows[] = {
	{ "Total", "total_bytes" },
	{ "Free", "free_bytes" },
	{ "Held", "held_bytes" },
	{ "Ready", "ready_bytes" },
	{ "HeldResident", "extent_resident_bytes" },
	{ "Frames", "frame_bytes" },
	{ "Shared", "shared_bytes" },
	{ "SavedByShare", "saved_bytes" },
	{ "Tokens", "token_bytes" },
	{ "Cached", "cached_bytes" },
	{ "CachedMapped", "cached_mapped_bytes" },
	{ "CachedHeld", "cached_held_bytes" },
	{ "Weights", "weights_bytes" },
	{ "WeightsOpen", "weights_open_bytes" },
	{ "WeightsResident", "weights_resident_bytes" },
	{ "SwapTotal", "swap_bytes" },
	{ "SwapUsed", "swap_used_bytes" },
	{ "PageTables", "table_bytes" },
	{ "State", "state_bytes" },
};

int show_meminfo(const struct invocation *inv, json_t *a)
{
	char v[32];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(meminfo_rows); i++) {
		const struct meminfo_row *r = &meminfo_rows[i];

		if (!json_is_integer(member(a, r->key)))
			continue;
		fmt_bytes(v, sizeof(v), member_u64(a, r->key), inv->opt->units);
		if (inv->opt->no_header)
			printf("%s\t%s\n", r->name, v);
		else
			printf("%s:%*s%12s\n", r->name,
			       (int)(16 - strlen(r->name)), "", v);
	}
	return EX_KV_OK;
}

/* The counters; when watching, also how fast each one moves. */
int show_vmstat(const struct invocation *inv, json_t *a)
{
	const json_t *now = member(a, "counters");
	const json_t *then = inv->last ? member(inv->last, "counters") : NULL;
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)now, name, v)
	{
		u64 n = (u64)json_integer_value(v);
		double rate = then && inv->last_s > 0
				      ? (double)(n - member_u64(then, name)) /
						inv->last_s
				      : 0;

		if (inv->opt->no_header)
			printf("%s\t%" PRIu64, name, n);
		else
			printf("%-20s %14" PRIu64, name, n);
		if (then)
			printf(inv->opt->no_header ? "\t%.1f" : " %12.1f/s",
			       rate);
		putchar('\n');
	}
	return EX_KV_OK;
}

static void print_event(const struct options *opt, const json_t *e)
{
	char text[512], tenant[64];
	u64 t = member_u64(e, "time_ns");

	fmt_clean(text, sizeof(text), member_str(e, "message"));
	fmt_clean(tenant, sizeof(tenant), member_str(e, "tenant"));
	printf(opt->no_header ? "%" PRIu64 "\t%" PRIu64 ".%06" PRIu64
				"\t%s\t%s\t%s\n"
			      : "%5" PRIu64 "  %" PRIu64 ".%06" PRIu64
				"  %-14s %-14s %s\n",
	       member_u64(e, "seq"), t / 1000000000, t / 1000 % 1000000,
	       member_str(e, "event"), tenant[0] ? tenant : "-", text);
}

int show_events(const struct invocation *inv, json_t *a)
{
	json_t *e;
	size_t i;

	if (member_u64(a, "lost"))
		fprintf(stderr, "kvctl: %" PRIu64 " older events are gone\n",
			member_u64(a, "lost"));
	json_array_foreach(member(a, "events"), i, e) print_event(inv->opt, e);
	return fflush(stdout) ? EX_KV_FAILED : EX_KV_OK;
}

/* "key: value" lines of one object; nested ones as key.member. */
static void print_members(const struct options *opt, const json_t *o,
			  const char *prefix)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, name, v)
	{
		struct col c = { .key = name, .kind = COL_INT };
		size_t len = strlen(name);
		char cell[256], path[128];

		if (json_is_array(v))
			continue;
		snprintf(path, sizeof(path), "%s%s", prefix, name);
		if (json_is_object(v)) {
			snprintf(path, sizeof(path), "%s%s.", prefix, name);
			print_members(opt, v, path);
			continue;
		}
		if (len > 6 && !strcmp(name + len - 6, "_bytes"))
			c.kind = strstr(name, "max_b") ||
						 !strcmp(name, "high_bytes")
					 ? COL_LIMIT
					 : COL_BYTES;
		else if (len > 3 && !strcmp(name + len - 3, "_ns"))
			c.kind = COL_NS;
		tab_cell(cell, sizeof(cell), opt, &c, o);
		if (opt->no_header)
			printf("%s\t%s\n", path, cell);
		else
			printf("%-24s %s\n", path, cell);
	}
}

int show_config(const struct invocation *inv, json_t *a)
{
	print_members(inv->opt, member(a, "config"), "");
	return EX_KV_OK;
}

/* The answer's one object, whatever the request named it. */
int show_object(const struct invocation *inv, json_t *a)
{
	const char *name;
	json_t *v;

	json_object_foreach(a, name, v)
	{
		if (json_is_object(v)) {
			print_members(inv->opt, v, "");
			return EX_KV_OK;
		}
	}
	print_members(inv->opt, a, "");
	return EX_KV_OK;
}

int show_check(const struct invocation *inv, json_t *a)
{
	const struct options *opt = inv->opt;
	const json_t *faults = member(a, "faults");
	char text[512], held[32];
	json_t *f;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)faults, i, f)
	{
		fmt_clean(text, sizeof(text), json_string_value(f));
		printf("%s\n", text);
	}
	if (json_is_true(member(a, "ok")) && !json_array_size(faults)) {
		fmt_bytes(held, sizeof(held),
			  member_u64(a, "extent_resident_bytes"), opt->units);
		if (!opt->quiet)
			printf("the books are clean: %" PRIu64
			       " extents, %s in memory\n",
			       member_u64(a, "extents"), held);
		return EX_KV_OK;
	}
	fprintf(stderr, "kvctl: the books do not balance: %zu faults\n",
		json_array_size(faults));
	return EX_KV_BROKEN;
}

int show_cache_drop(const struct invocation *inv, json_t *a)
{
	char v[32];

	fmt_bytes(v, sizeof(v), member_u64(a, "dropped_bytes"),
		  inv->opt->units);
	if (!inv->opt->quiet)
		printf("%s dropped\n", v);
	return EX_KV_OK;
}

int show_revoke(const struct invocation *inv, json_t *a)
{
	if (!inv->opt->quiet)
		printf("client %" PRIu64 " (pid %" PRIu64 ") gives %" PRIu64
		       " bytes back\n",
		       member_u64(a, "client"), member_u64(a, "pid"),
		       member_u64(a, "asked_bytes"));
	return EX_KV_OK;
}

int show_kill(const struct invocation *inv, json_t *a)
{
	if (!inv->opt->quiet)
		printf("client %" PRIu64 " (pid %" PRIu64 ") was killed\n",
		       member_u64(a, "client"), member_u64(a, "pid"));
	return EX_KV_OK;
}
