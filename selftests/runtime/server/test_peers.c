/* SPDX-License-Identifier: MIT */
/*
 * test_peers.c - who is shut down when, by a clock of our own
 *
 * san: address
 */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/server/peers.h"
#include "selftests/harness.h"

#define NR 4

FIXTURE(peers)
{
	struct peers ps;
	struct peer p[NR];
	int far[NR]; /* the clients' ends */
};

FIXTURE_SETUP(peers)
{
	int i, sv[2];

	memset(&self->ps, 0, sizeof(self->ps));
	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
		self->p[i].fd = sv[0];
		self->far[i] = sv[1];
	}
}

FIXTURE_TEARDOWN(peers)
{
	int i;

	for (i = 0; i < NR; i++) {
		close(self->p[i].fd);
		close(self->far[i]);
	}
}

static void add(struct peers *ps, struct peer *p, double now)
{
	peers_add(ps, p, p->fd, now);
}

static bool is_shut(int far)
{
	struct pollfd f = { .fd = far, .events = POLLRDHUP };

	return poll(&f, 1, 0) == 1 && (f.revents & POLLRDHUP);
}

/* As its loop does: not before it was told to look. */
static void go_to(struct peers *ps, double now)
{
	while (ps->look_s && ps->look_s < now)
		peers_expire(ps, ps->look_s);
	peers_expire(ps, now);
}

TEST_F(peers, one_that_sends_no_head_is_shut_after_30_seconds)
{
	add(&self->ps, &self->p[0], 100.0);
	add(&self->ps, &self->p[1], 110.0);
	go_to(&self->ps, 129.9);
	EXPECT_FALSE(is_shut(self->far[0]));
	go_to(&self->ps, 130.0);
	EXPECT_TRUE(is_shut(self->far[0]));
	EXPECT_FALSE(is_shut(self->far[1]));
	go_to(&self->ps, 140.0);
	EXPECT_TRUE(is_shut(self->far[1]));
	EXPECT_EQ(0.0, self->ps.look_s);
}

TEST_F(peers, a_body_has_a_second_more_for_each_4_kib)
{
	add(&self->ps, &self->p[0], 0.0);
	peers_body(&self->ps, &self->p[0], 20.0);
	peers_bytes(&self->p[0], 10 * 4096, 45.0);
	go_to(&self->ps, 59.9);
	EXPECT_FALSE(is_shut(self->far[0]));
	go_to(&self->ps, 60.0);
	EXPECT_TRUE(is_shut(self->far[0]));
}

TEST_F(peers, a_byte_now_and_then_prolongs_nothing)
{
	double now;

	add(&self->ps, &self->p[0], 0.0);
	peers_body(&self->ps, &self->p[0], 0.0);
	for (now = 1.0; now < 30.0; now += 1.0) {
		peers_bytes(&self->p[0], 1, now);
		go_to(&self->ps, now);
		EXPECT_FALSE(is_shut(self->far[0]));
	}
	go_to(&self->ps, 30.1);
	EXPECT_TRUE(is_shut(self->far[0]));
}

/* Nearly all of a large body, and then no more of it. */
TEST_F(peers, many_bytes_at_once_buy_no_time)
{
	add(&self->ps, &self->p[0], 0.0);
	peers_body(&self->ps, &self->p[0], 0.0);
	peers_bytes(&self->p[0], 8 << 20, 10.0);
	go_to(&self->ps, 39.9);
	EXPECT_FALSE(is_shut(self->far[0]));
	peers_bytes(&self->p[0], 1, 39.9);
	go_to(&self->ps, 40.1);
	EXPECT_TRUE(is_shut(self->far[0]));
}

TEST_F(peers, one_whose_request_is_there_is_never_shut)
{
	add(&self->ps, &self->p[0], 0.0);
	peers_body(&self->ps, &self->p[0], 1.0);
	peers_busy(&self->ps, &self->p[0]);
	peers_gone(&self->ps, &self->p[0], 2.0);
	go_to(&self->ps, 1e6);
	EXPECT_FALSE(is_shut(self->far[0]));
}

TEST_F(peers, between_two_requests_there_are_two_minutes)
{
	add(&self->ps, &self->p[0], 0.0);
	peers_busy(&self->ps, &self->p[0]);
	peers_idle(&self->ps, &self->p[0], 1000.0);
	go_to(&self->ps, 1119.9);
	EXPECT_FALSE(is_shut(self->far[0]));
	go_to(&self->ps, 1120.0);
	EXPECT_TRUE(is_shut(self->far[0]));
}

TEST_F(peers, one_that_hangs_up_with_half_a_request_has_a_second)
{
	add(&self->ps, &self->p[0], 0.0);
	peers_body(&self->ps, &self->p[0], 1.0);
	peers_gone(&self->ps, &self->p[0], 5.0);
	go_to(&self->ps, 5.9);
	EXPECT_FALSE(is_shut(self->far[0]));
	go_to(&self->ps, 6.0);
	EXPECT_TRUE(is_shut(self->far[0]));
}

TEST_F(peers, the_one_waited_for_longest_makes_room)
{
	int i;

	self->ps.room = 3;
	for (i = 0; i < 3; i++)
		add(&self->ps, &self->p[i], i);
	peers_busy(&self->ps, &self->p[0]);
	for (i = 0; i < 3; i++)
		EXPECT_FALSE(is_shut(self->far[i]));
	add(&self->ps, &self->p[3], 3.0);
	EXPECT_FALSE(is_shut(self->far[0]));
	EXPECT_TRUE(is_shut(self->far[1]));
	EXPECT_FALSE(is_shut(self->far[2]));
	EXPECT_FALSE(is_shut(self->far[3]));
}

TEST_F(peers, those_that_are_removed_are_forgotten)
{
	int i;

	for (i = 0; i < NR; i++)
		add(&self->ps, &self->p[i], i);
	peers_busy(&self->ps, &self->p[2]);
	for (i = 0; i < NR; i++)
		peers_remove(&self->ps, &self->p[(i + 1) % NR]);
	EXPECT_EQ(0u, self->ps.nr);
	EXPECT_FALSE(self->ps.first);
	EXPECT_FALSE(self->ps.last);
	go_to(&self->ps, 1000.0);
	EXPECT_EQ(0.0, self->ps.look_s);
}

TEST_HARNESS_MAIN
