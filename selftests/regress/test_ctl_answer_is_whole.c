/* SPDX-License-Identifier: MIT */
/*
 * test_ctl_answer_is_whole.c - an answer left out what there was no memory for
 *
 * Each allocation of each request fails: the answer has all its members, or is
 * refused with a sentence.
 */
#include "selftests/harness.h"
#include "selftests/faults/sites.h"
#include "selftests/lib_kvmd.h"
#include <kv.h>

static const char *const requests[] = {
	"status",	"health",      "meminfo",     "vmstat",
	"device list",	"config show", "client list", "tenant list",
	"weights list", "pressure",
};

static struct sites sites;
static uint64_t seen[SHIM_SITES];

static void preload(void)
{
	sites_preload(&sites);
}

/* Members of an answer; -1: refused, and why. */
static int members(const struct test_kvmd *d, const char *request, bool *said)
{
	char *json = NULL, *at;
	int n = 0, rc = kv_ctl(d->socket, KV_HELLO_ADMIN, request, &json);

	*said = rc && json && *json;
	for (at = json; !rc && at && (at = strstr(at, "\":")); at++)
		n++;
	free(json);
	return rc ? -1 : n;
}

TEST(ctl, answers_are_whole_or_refused)
{
	uint32_t i, r, tried = 0, refused = 0;
	uint64_t k;
	struct test_kvmd d;
	bool said;
	int want, got;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	SKIP("the allocator is the sanitizer's");
#endif
	ASSERT_EQ(0, sites_open(&sites, test_tmpdir()));
	test_kvmd_before = preload;
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M", NULL));
	for (r = 0; r < sizeof(requests) / sizeof(requests[0]); r++) {
		sites_mode(&sites, SHIM_OFF);
		members(&d, requests[r], &said);
		usleep(20000); /* the connection is gone */
		sites_take(&sites, seen);
		sites_mode(&sites, SHIM_COUNT);
		want = members(&d, requests[r], &said);
		EXPECT_GT(want, 2);
		sites_take(&sites, seen);
		sites_mode(&sites, SHIM_OFF);
		for (i = 0; i < sites.nr; i++) {
			if (strcmp(sites_fn(&sites, i), "malloc") &&
			    strcmp(sites_fn(&sites, i), "calloc"))
				continue;
			for (k = 1; k <= sites.list[i].count && k <= 4; k++) {
				sites_arm(&sites, i, k, 1);
				got = members(&d, requests[r], &said);
				tried += sites_fired(&sites) > 0;
				refused += got < 0;
				EXPECT_TRUE(got == want || said ||
					    !sites_fired(&sites));
			}
		}
	}
	sites_mode(&sites, SHIM_OFF);
	TH_LOG("%u allocations failed, %u answers refused", tried, refused);
	EXPECT_GT(refused, 100);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
	sites_close(&sites);
}

TEST_HARNESS_MAIN
