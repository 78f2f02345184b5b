/* SPDX-License-Identifier: MIT */
/* timeout: 300 */
/* alone: yes */
/* quick: no */
/*
 * test_mix.c - eight clients do everything at random while limits move
 *
 * Each is a process, writes bytes that identify the token into every row, and
 * reads on every step all that the step may read. The parent raises and lowers
 * the tenant's limit and watches what is held: a grant above the limit would
 * show as held bytes that grew while they were above it.
 *
 * 10^5 operations together. With KV_LONG 10^7, of which each step reads an
 * eighth of its tokens, by turns, and the last look is at all of them.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/mix.h"

#define NR_CLIENTS 8
#define DEVICE	   "96M"

struct report {
	uint64_t ops, steps, forks, shorts, tickets, rows, faults;
	int rc;
};

static void client(const struct test_kvmd *d, uint64_t seed, uint64_t ops,
		   struct report *r)
{
	static struct mix m;
	uint64_t i;
	bool ok = true;

	if (seqs_attach(&m.c, d->socket, "mix"))
		_exit(2);
	mix_begin(&m, seed, 150 + (uint32_t)(seed % 8) * 140);
	m.c.every = getenv("KV_LONG") ? 8 : 1;
	for (i = 0; i < ops && ok; i++)
		ok = mix_op(&m);
	m.c.every = 1;
	ok = ok && mix_verify(&m);
	*r = (struct report){ .ops = m.nr_ops,
			      .steps = m.nr_steps,
			      .forks = m.nr_forks,
			      .shorts = m.nr_short,
			      .tickets = m.nr_tickets,
			      .rows = m.c.checked,
			      .faults = m.c.faults,
			      .rc = m.rc };
	kv_detach(m.c.kv);
	_exit(ok ? 0 : 1);
}

static uint64_t held_bytes(const struct test_kvmd *d)
{
	uint64_t held = 0;
	char req[64], *json;

	snprintf(req, sizeof(req), "tenant show uid:%u",
		 (unsigned int)geteuid());
	json = test_kvmd_ctl(d, req);

	if (!json || test_json_u64(json, "held_bytes", &held))
		EXPECT_TRUE(json == NULL);
	free(json);
	return held;
}

/*
 * Move the limit, and look twice below the same one: what was held above it
 * may stay, but must not grow.
 */
static void move_limit(const struct test_kvmd *d, uint64_t *rand,
		       uint64_t *over)
{
	uint64_t r = test_rand(rand), limit, held, later;
	char req[96], *json;

	limit = (2 + r % 12) * KV_EXTENT_SIZE;
	snprintf(req, sizeof(req), "tenant limit uid:%u max=%llu",
		 (unsigned int)geteuid(), (unsigned long long)limit);
	json = test_kvmd_ctl(d, req);
	free(json);
	held = held_bytes(d);
	usleep(2000);
	later = held_bytes(d);
	if (later > limit && later > held)
		(*over)++;
}

TEST_TIMEOUT(mix, of_eight_clients_reads_exactly_what_it_wrote, 3000)
{
	uint64_t seed = test_seed(), rand = seed, over = 0, ops = 100000;
	struct report *r, sum = { 0 };
	struct test_kvmd d;
	pid_t pid[NR_CLIENTS];
	int i, status, left = NR_CLIENTS;
	double t0;

	if (getenv("KV_LONG"))
		ops = 10000000;
	r = mmap(NULL, sizeof(*r) * NR_CLIENTS, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", DEVICE,
				     "--revoke-ask", "3600000", NULL));
	t0 = th_now();
	for (i = 0; i < NR_CLIENTS; i++) {
		pid[i] = fork();
		if (!pid[i])
			client(&d, seed + (uint64_t)i, ops / NR_CLIENTS, &r[i]);
	}
	while (left) {
		while (waitpid(-1, &status, WNOHANG) > 0) {
			EXPECT_EQ(0, status);
			left--;
		}
		move_limit(&d, &rand, &over);
	}
	for (i = 0; i < NR_CLIENTS; i++) {
		sum.ops += r[i].ops;
		sum.steps += r[i].steps;
		sum.forks += r[i].forks;
		sum.shorts += r[i].shorts;
		sum.tickets += r[i].tickets;
		sum.rows += r[i].rows;
		sum.faults += r[i].faults;
		EXPECT_EQ(0, r[i].rc);
	}
	TH_LOG("figure: %llu operations by %d clients in %.1f s: %llu steps, %llu "
	       "forks, %llu times short, %llu with a ticket, %llu rows read",
	       (unsigned long long)sum.ops, NR_CLIENTS, th_now() - t0,
	       (unsigned long long)sum.steps, (unsigned long long)sum.forks,
	       (unsigned long long)sum.shorts, (unsigned long long)sum.tickets,
	       (unsigned long long)sum.rows);
	EXPECT_EQ(0, sum.faults);
	EXPECT_EQ(0, over);
	EXPECT_GT(sum.shorts, 10);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
