/* SPDX-License-Identifier: MIT */
/*
 * hold.c - a client that holds two spaces until its standard input ends
 *
 * One space of 40 tokens in one area of 8 KiB pages, and a fork of it at 24:
 * its second page is half full and shared. It is the second of two ranks.
 * Prints "holding" when it stands.
 */
#include <kv.h>
#include <stdio.h>
#include <unistd.h>

static int hold(struct kv *kv)
{
	struct kv_geometry g = { .page_tokens = 16,
				 .nr_layers = 1,
				 .nr_kv_heads = 1,
				 .head_dim = 128,
				 .elem = KV_ELEM_BF16,
				 .token_stride = 512,
				 .head_stride = 256,
				 .v_offset = 256,
				 .layer_stride = 8192,
				 .page_bytes = 8192 };
	struct kv_space_args args = { .nr_areas = 1,
				      .area = { { .nr_heads = 1 } },
				      .ns = { .adapter = 42 } };
	struct kv_resv_item item = { .nr_tokens = 40 };
	struct kv_step *st;
	uint32_t child;
	char c;
	int rc = kv_geometry_add(kv, &g, &args.area[0].geom);

	if (!rc)
		rc = kv_space_create(kv, &args, &item.space);
	if (!rc)
		rc = kv_step_prepare(kv, &item, 1, KV_STEP_WAIT, 5000, &st);
	if (rc)
		return rc;
	kv_step_complete(kv, st);
	rc = kv_step_commit(kv, st);
	if (!rc)
		rc = kv_space_fork(kv, item.space, 24, &child);
	if (rc)
		return rc;
	puts("holding");
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return 0;
}

int main(void)
{
	const struct kv_rank rank = { .tp_rank = 1, .tp_size = 2 };
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .name = "hold",
				    .rank = &rank };
	struct kv *kv;
	int rc = kv_attach(&o, &kv);

	if (rc) {
		fprintf(stderr, "hold: %s\n", kv_attach_error());
		return 1;
	}
	rc = hold(kv);
	if (rc)
		fprintf(stderr, "hold: %s\n", kv_error(kv));
	kv_detach(kv);
	return rc ? 1 : 0;
}
