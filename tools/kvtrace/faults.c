/* SPDX-License-Identifier: MIT */
/*
 * faults.c - the view "faults": by cause, by client, and how long they took
 */
#include "tools/kvtrace/kvtrace.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BAR 40

/* What the last report saw. */
struct seen {
	struct fault_row *rows;
	size_t nr;
	u64 lost;
};

const char *fault_cause_name(u32 cause)
{
	static const char *const names[CAUSE_NR] = {
		[CAUSE_NONE] = "none",	     [CAUSE_PREFIX] = "prefix",
		[CAUSE_FRESH] = "fresh",     [CAUSE_COW] = "cow",
		[CAUSE_SWAP_IN] = "swap_in", [CAUSE_SHORT] = "short",
		[CAUSE_LOST] = "lost",	     [CAUSE_CANCELLED] = "cancelled",
		[CAUSE_ERROR] = "error",
	};

	return cause < CAUSE_NR ? names[cause] : "?";
}

u64 fault_percentile(const struct fault_sums *s, unsigned int percent)
{
	u64 want = (s->faults * percent + 99) / 100, seen = 0;
	unsigned int i;

	if (!s->faults)
		return 0;
	for (i = 0; i < FAULT_SLOTS - 1; i++) {
		seen += s->slot[i];
		if (seen >= want)
			break;
	}
	return 2ull << i;
}

static void subtract(struct fault_sums *from, const struct fault_sums *s)
{
	unsigned int i;

	from->faults -= s->faults;
	from->prefix -= s->prefix;
	from->fresh -= s->fresh;
	from->cow -= s->cow;
	from->swap_in -= s->swap_in;
	from->latency_ns -= s->latency_ns;
	for (i = 0; i < FAULT_SLOTS; i++)
		from->slot[i] -= s->slot[i];
}

/* Into @n, which is zero: rows with something new, and sums; @seen becomes what
 * there is now. */
static int take_news(struct tracer *t, struct seen *seen, struct fault_news *n)
{
	struct fault_row *now, *old;
	size_t nr, i;
	u64 lost;

	if (tracer_faults(t, &now, &nr))
		return -1;
	n->rows = calloc(nr + 1, sizeof(*n->rows));
	if (!n->rows) {
		free(now);
		return -1;
	}
	for (i = 0; i < nr; i++) {
		struct fault_row row = now[i];

		old = bsearch(&row.key, seen->rows, seen->nr,
			      sizeof(*seen->rows), fault_key_cmp);
		if (old)
			subtract(&row.sums, &old->sums);
		if (!row.sums.faults || row.key.cause >= CAUSE_NR)
			continue;
		n->rows[n->nr++] = row;
		fault_add(&n->cause[row.key.cause][!!row.key.waited],
			  &row.sums);
		fault_add(&n->all, &row.sums);
	}
	lost = tracer_lost(t);
	n->lost = lost - seen->lost;
	seen->lost = lost;
	free(seen->rows);
	seen->rows = now;
	seen->nr = nr;
	return 0;
}

static void print_sums(const struct fault_sums *s)
{
	char count[5][16], time[3][16];

	fmt_count(count[0], sizeof(count[0]), s->faults);
	fmt_count(count[1], sizeof(count[1]), s->fresh);
	fmt_count(count[2], sizeof(count[2]), s->cow);
	fmt_count(count[3], sizeof(count[3]), s->swap_in);
	fmt_count(count[4], sizeof(count[4]), s->prefix);
	fmt_duration(time[0], sizeof(time[0]), s->latency_ns / s->faults);
	fmt_duration(time[1], sizeof(time[1]), fault_percentile(s, 50));
	fmt_duration(time[2], sizeof(time[2]), fault_percentile(s, 99));
	printf(" %7s %7s %7s %7s %7s %7s %7s %7s", count[0], count[1], count[2],
	       count[3], count[4], time[0], time[1], time[2]);
}

static const char sums_head[] =
	"  FAULTS   FRESH     COW SWAP_IN  PREFIX     AVG    <P50    <P99";

static void print_causes(const struct fault_news *n)
{
	unsigned int c, w;

	printf("%-17s%s\n", "CAUSE", sums_head);
	for (c = 0; c < CAUSE_NR; c++) {
		for (w = 0; w < 2; w++) {
			if (!n->cause[c][w].faults)
				continue;
			printf("%-10s%-7s", fault_cause_name(c),
			       w ? "waited" : "");
			print_sums(&n->cause[c][w]);
			putchar('\n');
		}
	}
}

static void print_clients(struct tracer *t, const struct fault_news *n)
{
	size_t i, k;

	printf("\n%-17s%s     PID CLIENT\n", "TENANT", sums_head);
	/* Rows are sorted by process, then client. */
	for (i = 0; i < n->nr; i = k) {
		const struct fault_key *key = &n->rows[i].key;
		char tenant[18], client[FAULT_NAME_LEN];
		struct client_names names;
		struct fault_sums sums = { 0 };

		for (k = i; k < n->nr && n->rows[k].key.pid == key->pid &&
			    n->rows[k].key.client == key->client;
		     k++)
			fault_add(&sums, &n->rows[k].sums);
		tracer_names(t, key, &names);
		fmt_clean(tenant, sizeof(tenant), names.tenant);
		fmt_clean(client, sizeof(client), names.client);
		printf("%-17s", tenant);
		print_sums(&sums);
		printf(" %7u %u %s\n", key->pid, key->client, client);
	}
}

static void print_histogram(const struct fault_sums *s)
{
	unsigned int first = 0, last = FAULT_SLOTS - 1, i;
	char from[16], to[16];
	u64 most = 1;

	while (first < last && !s->slot[first])
		first++;
	while (last > first && !s->slot[last])
		last--;
	for (i = first; i <= last; i++)
		most = max(most, (u64)s->slot[i]);
	for (i = first; i <= last; i++) {
		fmt_duration(from, sizeof(from), i ? 1ull << i : 0);
		fmt_duration(to, sizeof(to), 2ull << i);
		printf("  %7s .. %-7s %9llu |%-*.*s|\n", from, to,
		       (unsigned long long)s->slot[i], BAR,
		       (int)(s->slot[i] * BAR / most),
		       "****************************************");
	}
}

static void print_text(struct tracer *t, const struct report *r,
		       const struct fault_news *n)
{
	time_t now = time(NULL);
	struct tm tm;
	char clock[16];
	unsigned int c, w;

	localtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	printf("%s  %llu faults in %.1f s", clock,
	       (unsigned long long)n->all.faults, r->seconds);
	if (n->lost)
		printf("; %llu more were LOST, too many clients",
		       (unsigned long long)n->lost);
	putchar('\n');
	if (!n->all.faults)
		return;
	print_causes(n);
	print_clients(t, n);
	for (c = 0; c < CAUSE_NR && !r->opt->brief; c++) {
		for (w = 0; w < 2; w++) {
			if (!n->cause[c][w].faults)
				continue;
			printf("\n%s%s:\n", fault_cause_name(c),
			       w ? ", waited" : "");
			print_histogram(&n->cause[c][w]);
		}
	}
	putchar('\n');
}

static int faults_report(struct tracer *t, struct report *r)
{
	struct fault_news *n = calloc(1, sizeof(*n));
	int rc = EX_KV_OK;

	if (!r->state)
		r->state = calloc(1, sizeof(struct seen));
	if (!n || !r->state || take_news(t, r->state, n)) {
		fprintf(stderr, "kvtrace: the counts cannot be read\n");
		rc = EX_KV_FAILED;
	} else if (r->opt->json) {
		rc = faults_print_json(t, r, n);
	} else {
		print_text(t, r, n);
	}
	if (n)
		free(n->rows);
	free(n);
	return rc;
}

static void faults_fini(struct report *r)
{
	struct seen *seen = r->state;

	if (seen)
		free(seen->rows);
	free(seen);
}

static const char *const faults_probes[] = { "fault", NULL };

const struct view faults_view = {
	.name = "faults",
	.help = "reservations by cause and client, with latency histograms",
	.probes = faults_probes,
	.faults = true,
	.report = faults_report,
	.fini = faults_fini,
};
