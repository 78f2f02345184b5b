/* SPDX-License-Identifier: MIT */
/*
 * test_audit.c - the audit passes good books and finds planted faults
 */
#include "selftests/kvmd/ipc/raw.h"

FIXTURE(audit)
{
	struct test_kvmd d;
	struct raw r;
	uint32_t space;
	kv_pte_t *pte; /* of page 0, writable: a same-uid trick */
};

FIXTURE_SETUP(audit)
{
	const struct kv_space_desc *desc;
	char path[64];
	char *table;
	uint32_t leaf;
	int fd;

	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--drain", "20", NULL));
	raw_attach(&self->r, self->d.socket);
	self->space = (uint32_t)raw_space(&self->r, raw_geom(&self->r), 0);
	EXPECT_EQ(0, raw_reserve(&self->r, self->space, 0, 200).res);
	raw_commit(&self->r, self->space, 200);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->r.table_fd);
	fchmod(self->r.table_fd, 0600);
	fd = open(path, O_RDWR);
	ASSERT_GE(fd, 0);
	table = raw_map(fd, KV_TABLE_SIZE_MAX, PROT_READ | PROT_WRITE);
	desc = kv_table_space(self->r.table, self->space);
	leaf = desc->area[0].leaf[0];
	self->pte = (kv_pte_t *)(void *)(table + KV_TABLE_LEAVES_OFF +
					 leaf * sizeof(struct kv_leaf));
	close(fd);
}

FIXTURE_TEARDOWN(audit)
{
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static int audit(struct audit_self *self)
{
	char bin[600];
	int status;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/audit/audit",
		 test_build_dir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl(bin, bin, "-v", self->d.socket, NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(audit, good_books_pass)
{
	EXPECT_EQ(0, audit(self));
}

TEST_F(audit, a_lost_entry_is_a_leaked_frame)
{
	kv_pte_t old = self->pte[3];

	self->pte[3] = 0;
	EXPECT_EQ(1, audit(self));
	self->pte[3] = old;
	EXPECT_EQ(0, audit(self));
}

TEST_F(audit, two_entries_for_one_frame_are_found)
{
	kv_pte_t old = self->pte[3];

	self->pte[3] = self->pte[4];
	EXPECT_EQ(1, audit(self));
	self->pte[3] = old;
}

TEST_F(audit, a_frame_of_somebody_else_is_found)
{
	kv_pte_t old = self->pte[3];

	self->pte[3] = (old & ~KV_PTE_FRAME) | (7 * KV_EXTENT_SIZE / 8192);
	EXPECT_EQ(1, audit(self));
	self->pte[3] = (old & ~KV_PTE_FRAME) | 0xfffffff0u;
	EXPECT_EQ(1, audit(self));
	self->pte[3] = old;
}

/* A slab's frames are handed out in order, and what a dead client left in the
 * descriptors of those not yet reached belongs to nobody. */
TEST_F(audit, what_a_dead_client_left_in_reused_chunks_is_no_leak)
{
	static struct raw big, small;
	uint32_t space;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		raw_attach(&big, self->d.socket);
		space = (uint32_t)raw_space(&big, raw_geom(&big), 0);
		_exit(raw_reserve(&big, space, 0, 114000).res ? 1 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, test_kvmd_settle(&self->d, KV_EXTENT_SIZE, 3000));
	raw_attach(&small, self->d.socket);
	space = (uint32_t)raw_space(&small, raw_geom(&small), 0);
	EXPECT_EQ(0, raw_reserve(&small, space, 0, 20).res);
	EXPECT_EQ(0, audit(self));
}

TEST_F(audit, what_is_no_kvmd_is_said)
{
	snprintf(self->d.socket + strlen(self->d.socket) - 1, 2, "x");
	EXPECT_EQ(2, audit(self));
	self->d.socket[strlen(self->d.socket) - 1] = 'k';
}

TEST_HARNESS_MAIN
