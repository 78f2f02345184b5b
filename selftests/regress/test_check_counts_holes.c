/* SPDX-License-Identifier: MIT */
/*
 * test_check_counts_holes.c - a client with holes in its memory is no fault
 *
 * A client may punch what it may write. kvmd's fsck took an extent without
 * pages for a broken book, so that any client could make `kvctl check` fail.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <kv.h>

static const struct kv_geometry geom = {
	.page_tokens = 16,
	.nr_layers = 2,
	.nr_kv_heads = 1,
	.head_dim = 32,
	.elem = KV_ELEM_BF16,
	.token_stride = 64,
	.head_stride = 64,
	.v_offset = 1024,
	.layer_stride = 2048,
	.page_bytes = 4096,
};

/* Punch the extent of the first page of a new space. */
static int punch(struct kv *kv)
{
	struct kv_space_args args = { .nr_areas = 1 };
	struct kv_resv_item item = { .nr_tokens = 16 };
	struct kv_geometry g = geom;
	struct kv_step *step;
	uint64_t at;
	int rc;

	rc = kv_geometry_add(kv, &g, &args.area[0].geom);
	if (!rc)
		rc = kv_space_create(kv, &args, &item.space);
	if (!rc)
		rc = kv_step_prepare(kv, &item, 1, KV_STEP_WAIT, 5000, &step);
	if (rc)
		return rc;
	at = (uint64_t)kv_space_table(kv, item.space, 0)[0] * g.unit_bytes;
	at -= at % KV_EXTENT_SIZE;
	rc = madvise((char *)kv_base(kv) + at, KV_EXTENT_SIZE, MADV_REMOVE);
	kv_step_complete(kv, step);
	return kv_step_commit(kv, step) ? -EIO : rc;
}

TEST(check, counts_holes_that_a_client_made_and_finds_no_fault)
{
	struct kv_attach_opts opts = { .sz = sizeof(opts) };
	struct test_kvmd d;
	uint64_t holes = 0;
	struct kv *kv;
	char *json;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	opts.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&opts, &kv));
	ASSERT_EQ(0, punch(kv));
	EXPECT_EQ(0, test_kvmd_check(&d));
	json = test_kvmd_ctl(&d, "check");
	EXPECT_EQ(0, test_json_u64(json, "hole_bytes", &holes));
	EXPECT_EQ(KV_EXTENT_SIZE, holes);
	free(json);
	kv_detach(kv);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
