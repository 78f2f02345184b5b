/* SPDX-License-Identifier: MIT */
/*
 * test_record.c - two builds' structs, and descriptions that make no sense
 *
 * san: address
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "include/kv/errbuf.h"
#include "lib/record.h"
#include "selftests/harness.h"

#define NR    600u /* elements of the block's array */
#define BYTES (1u << 20)
#define AT    (BYTES - 65536u) /* of the description */

struct old_part {
	u16 small;
	u8 gone;
	u32 wide;
};

struct old_thing {
	u64 stays;
	u16 kept[4];
	struct old_part part[3];
	char name[8];
};

struct old_block {
	struct record_head head;
	u64 first;
	struct old_thing thing[NR];
};

/* Moved about, with more and less in it. */
struct new_part {
	u64 small;
	u32 fresh;
	u16 wide;
};

struct new_thing {
	char name[8];
	struct new_part part[5];
	u64 added;
	u16 kept[2];
	u64 stays;
};

struct new_block {
	struct record_head head;
	struct new_thing thing[NR + 100];
	u64 first, second;
};

enum { PART, THING, BLOCK, NR_DEFS };

/* clang-format off */
static const struct record_field old_part[] = {
	RECORD_PLAIN(old_part, small), RECORD_PLAIN(old_part, gone),
	RECORD_PLAIN(old_part, wide),
}, old_thing[] = {
	RECORD_PLAIN(old_thing, stays), RECORD_ARRAY(old_thing, kept),
	RECORD_STRUCTS(old_thing, part, PART), RECORD_PLAIN(old_thing, name),
}, old_block[] = {
	RECORD_PLAIN(old_block, first),
	RECORD_STRUCTS(old_block, thing, THING),
}, new_part[] = {
	RECORD_PLAIN(new_part, small), RECORD_PLAIN(new_part, fresh),
	RECORD_PLAIN(new_part, wide),
}, new_thing[] = {
	RECORD_PLAIN(new_thing, name), RECORD_STRUCTS(new_thing, part, PART),
	RECORD_PLAIN(new_thing, added), RECORD_ARRAY(new_thing, kept),
	RECORD_PLAIN(new_thing, stays),
}, new_block[] = {
	RECORD_STRUCTS(new_block, thing, THING),
	RECORD_PLAIN(new_block, first), RECORD_PLAIN(new_block, second),
};

#define DEF(s, t) { .name = t, .bytes = sizeof(struct s), .fields = s, \
		    .nr = ARRAY_SIZE(s) }
static const struct record_def old_defs[] = {
	DEF(old_part, "part"), DEF(old_thing, "thing"), DEF(old_block, "block"),
}, new_defs[] = {
	DEF(new_part, "part"), DEF(new_thing, "thing"), DEF(new_block, "block"),
};
/* clang-format on */

static void *block_of(const struct record_def *defs, int *fd)
{
	void *p;

	*fd = memfd_create("test", 0);
	ASSERT_GE(*fd, 0);
	ASSERT_EQ(0, ftruncate(*fd, BYTES));
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	record_describe(p, AT, defs, NR_DEFS);
	return p;
}

FIXTURE(record)
{
	struct old_block *old;
	struct new_block *new;
	int old_fd, new_fd;
	char err[KV_ERRLEN];
};

FIXTURE_SETUP(record)
{
	self->old = block_of(old_defs, &self->old_fd);
	self->new = block_of(new_defs, &self->new_fd);
}

FIXTURE_TEARDOWN(record)
{
	munmap(self->old, BYTES);
	munmap(self->new, BYTES);
	close(self->old_fd);
	close(self->new_fd);
}

static int to_new(struct record_self *self)
{
	return record_convert(&self->new->head, &self->old->head, BYTES,
			      self->old_fd, self->err);
}

static int to_old(struct record_self *self)
{
	return record_convert(&self->old->head, &self->new->head, BYTES,
			      self->new_fd, self->err);
}

TEST_F(record, fields_are_found_by_their_names)
{
	struct old_thing *o = &self->old->thing[NR - 1];
	const struct new_thing *n = &self->new->thing[NR - 1];

	EXPECT_LE(record_bytes(old_defs, NR_DEFS), BYTES - AT);
	self->old->first = 77;
	self->new->second = 99;
	self->new->thing[NR - 1].added = 98;
	*o = (struct old_thing){ .stays = ~0ull, .kept = { 1, 65535 } };
	o->part[2] =
		(struct old_part){ .small = 500, .gone = 1, .wide = 40000 };
	memcpy(o->name, "a thing", 8);
	EXPECT_EQ(0, to_new(self));
	EXPECT_EQ(77, self->new->first);
	EXPECT_EQ(99, self->new->second);
	EXPECT_EQ(98, n->added);
	EXPECT_EQ(~0ull, n->stays);
	EXPECT_EQ(65535, n->kept[1]);
	EXPECT_EQ(500, n->part[2].small);
	EXPECT_EQ(40000, n->part[2].wide);
	EXPECT_EQ(0, n->part[2].fresh);
	EXPECT_STREQ("a thing", n->name);
	/* and back */
	memset(self->old->thing, 0, sizeof(self->old->thing));
	EXPECT_EQ(0, to_old(self));
	EXPECT_EQ(500, o->part[2].small);
	EXPECT_EQ(0, o->part[2].gone);
	EXPECT_EQ(40000, o->part[2].wide);
	EXPECT_EQ(65535, o->kept[1]);
}

TEST_F(record, what_does_not_fit_is_not_cut_off)
{
	self->old->thing[3].part[1].wide = 65536;
	EXPECT_EQ(-EOVERFLOW, to_new(self));
	EXPECT_TRUE(strstr(self->err, "wide") != NULL);
	self->old->thing[3].part[1].wide = 0;
	self->old->thing[3].kept[2] = 1;
	EXPECT_EQ(-EOVERFLOW, to_new(self));
	EXPECT_TRUE(strstr(self->err, "kept") != NULL);
	self->new->thing[NR].stays = 1;
	EXPECT_EQ(-EOVERFLOW, to_old(self));
	EXPECT_TRUE(strstr(self->err, "thing") != NULL);
}

TEST_F(record, another_kind_of_thing_is_refused)
{
	struct record_field *f =
		(void *)((char *)self->old + self->old->head.fields_off);

	memcpy(f[0].name, "fresh", 6); /* two bytes for four, both numbers */
	EXPECT_EQ(0, to_new(self));
	memcpy(f[6].name, "stays", 6); /* eight bytes that are no number */
	f[6].bytes = 7;
	memcpy(f[3].name, "moved", 6);
	EXPECT_EQ(-EPROTONOSUPPORT, to_new(self));
	EXPECT_TRUE(strstr(self->err, "stays") != NULL);
}

TEST_F(record, holes_stay_holes)
{
	struct stat before, after;

	self->old->thing[NR - 1].stays = 5;
	ASSERT_EQ(0, fstat(self->old_fd, &before));
	EXPECT_EQ(0, to_new(self));
	ASSERT_EQ(0, fstat(self->old_fd, &after));
	EXPECT_EQ(5, self->new->thing[NR - 1].stays);
	EXPECT_EQ(before.st_blocks, after.st_blocks);
}

TEST_F(record, a_block_is_ours_to_the_byte)
{
	struct record_field *f =
		(void *)((char *)self->old + self->old->head.fields_off);

	EXPECT_TRUE(record_is_ours(&self->old->head, BYTES, old_defs, 3));
	EXPECT_FALSE(record_is_ours(&self->old->head, BYTES, new_defs, 3));
	EXPECT_FALSE(record_is_ours(&self->old->head, BYTES, old_defs, 2));
	EXPECT_FALSE(record_is_ours(&self->old->head, AT, old_defs, 3));
	f[1].off++;
	EXPECT_FALSE(record_is_ours(&self->old->head, BYTES, old_defs, 3));
}

/* Types are found by name, but the last one is the block. */
TEST_F(record, another_ones_block_is_refused)
{
	struct record_type *t =
		(void *)((char *)self->old + self->old->head.types_off);
	struct record_field *f =
		(void *)((char *)self->old + self->old->head.fields_off);

	memcpy(t[2].name, "blocl", 6);
	EXPECT_EQ(-EBADMSG, to_new(self));
	memcpy(t[0].name, "block", 6);
	t[0].bytes = ~0ull;
	memcpy(f[0].name, "first", 6);
	f[0].off = 1ull << 40;
	EXPECT_EQ(-EBADMSG, to_new(self));
}

/* Whatever the description says, nothing outside of the block is read. */
TEST_F(record, a_description_that_makes_no_sense_is_refused)
{
	u64 seed = test_seed();
	u32 i, k, n, bad = 0;
	char *was = malloc(BYTES - AT), *at = (char *)self->old + AT;
	struct record_head head = self->old->head;
	u64 bytes = record_bytes(old_defs, NR_DEFS);
	int rc;

	ASSERT_TRUE(was != NULL);
	memcpy(was, at, BYTES - AT);
	for (i = 0; i < 20000; i++) {
		n = 1 + (u32)(test_rand(&seed) % 3);
		for (k = 0; k < n; k++) {
			u64 r = test_rand(&seed);

			if (r % 4)
				at[(r >> 8) % bytes] = (char)(r >> 40);
			else
				((char *)&self->old->head)[12 + (r >> 8) % 28] =
					(char)(r >> 40);
		}
		rc = to_new(self);
		EXPECT_TRUE(!rc || rc == -EBADMSG || rc == -EOVERFLOW ||
			    rc == -EPROTONOSUPPORT);
		bad += rc == -EBADMSG;
		memcpy(at, was, BYTES - AT);
		self->old->head = head;
	}
	EXPECT_GT(bad, 1000);
	free(was);
}

TEST_HARNESS_MAIN
