/* SPDX-License-Identifier: MIT */
/*
 * test_weights_beside_a_full_device.c - a runtime that was killed could not
 * come back while another one used all of the device: its weights had made
 * room for the other's pages, which made none for them
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <kv.h>

static int fill(void *dst, size_t bytes, void *ctx)
{
	memset(dst, 1, bytes);
	return 0;
}

static struct seqs a;
static struct seq s[64];

/* Until the device is full: 74 pages of 4 KiB for each sequence. */
static uint32_t take_all(void)
{
	uint32_t i, n = SEQ_LEN_MAX - 16;
	struct seq *q;

	for (i = 0; i < 64; i++) {
		q = &s[i];
		ASSERT_EQ(0, seq_create(&a, q));
		if (seq_step(&a, &q, &n, 1, 1, 0, 0)) {
			seq_destroy(&a, q);
			break;
		}
	}
	return i;
}

TEST(weights, get_room_on_a_device_that_pages_have_filled)
{
	struct kv_msg_weights key = {
		.packing = 1, .digest = { 1 }, .bytes = 5u << 20, .name = "late"
	};
	struct kv_weights w;
	struct test_kvmd d;
	struct kv_attach_opts o = { .sz = sizeof(o) };
	uint32_t nr, i, nr_lost = 0, one = 1;
	struct seq *q;
	struct kv *b;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "24M", NULL));
	o.socket = d.socket;
	ASSERT_EQ(0, seqs_attach(&a, d.socket, "full"));
	ASSERT_EQ(0, kv_attach(&o, &b));
	nr = take_all();
	ASSERT_GE(nr, 2u);
	if (!EXPECT_EQ(0, kv_weights_open(b, &key, fill, NULL, &w)))
		TH_LOG("%s", kv_error(b));
	else
		kv_weights_close(b, &w);
	/* what was taken for them is said, and nothing else is wrong */
	for (i = 0; i < nr; i++) {
		q = &s[i];
		nr_lost += seq_step(&a, &q, &one, 1, 7, KV_STEP_WAIT, 5000) < 0;
	}
	EXPECT_EQ(0u, a.faults);
	EXPECT_LT(nr_lost, nr);
	kv_detach(a.kv);
	kv_detach(b);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
