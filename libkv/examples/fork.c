/* SPDX-License-Identifier: MIT */
/*
 * fork.c - one sequence, then two that share it until they differ
 *
 * A client attaches, describes its pages, appends tokens to a space and reads
 * them back through the block table. Then it forks the space: both sides see
 * the same page until one of them writes to it.
 *
 *	fork [SOCKET]
 */
#include <kv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_TOKENS 16u
#define ROW	    64u /* bytes of one token's K, or V: one head of 32 bf16 */

static struct kv *kv;
static struct kv_geometry geom = {
	.page_tokens = PAGE_TOKENS,
	.nr_layers = 2,
	.nr_kv_heads = 1,
	.head_dim = ROW / 2,
	.elem = KV_ELEM_BF16,
	.token_stride = ROW,
	.head_stride = ROW,
	.v_offset = PAGE_TOKENS * ROW,
	.layer_stride = 2 * PAGE_TOKENS * ROW,
	.page_bytes = 2 * 2 * PAGE_TOKENS * ROW,
};

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s (%s)\n", what, kv ? kv_error(kv) : "",
		strerror(-rc));
	exit(1);
}

/* Where the K row of a token lies, in the first layer. */
static char *row(uint32_t space, uint64_t token)
{
	const uint32_t *table = kv_space_table(kv, space, 0);
	uint64_t page = (uint64_t)table[token / PAGE_TOKENS] * geom.unit_bytes;

	return (char *)kv_base(kv) + page + token % PAGE_TOKENS * ROW;
}

/* One engine step that appends a word per token. */
static void append(uint32_t space, const char *const *words, unsigned int nr)
{
	struct kv_resv_item item = { .space = space,
				     .nr_tokens = nr,
				     .pos = kv_space_len(kv, space) };
	struct kv_step *step;
	unsigned int i;

	check(kv_step_prepare(kv, &item, 1, KV_STEP_WAIT, 1000, &step),
	      "prepare");
	kv_step_run_copies(kv, step); /* a shared page becomes our own */
	for (i = 0; i < nr; i++)
		snprintf(row(space, item.pos + i), ROW, "%s", words[i]);
	kv_step_complete(kv, step);
	check(kv_step_commit(kv, step), "commit");
}

static void show(const char *who, uint32_t space)
{
	uint64_t i, len = kv_space_len(kv, space);

	printf("%-6s (page %u):", who, kv_space_table(kv, space, 0)[0]);
	for (i = 0; i < len; i++)
		printf(" %s", row(space, i));
	printf("\n");
}

int main(int argc, char **argv)
{
	static const char *const start[] = { "the", "sky", "is" };
	static const char *const day[] = { "blue" }, *const night[] = {
		"dark"
	};
	struct kv_attach_opts opts = { .sz = sizeof(opts), .name = "fork" };
	struct kv_space_args args = { .nr_areas = 1 };
	uint32_t parent, child, before;
	int rc;

	opts.socket = argc > 1 ? argv[1] : NULL;
	rc = kv_attach(&opts, &kv);
	if (rc) {
		fprintf(stderr, "%s\n", kv_attach_error());
		return 1;
	}
	check(kv_geometry_add(kv, &geom, &args.area[0].geom), "geometry");
	check(kv_space_create(kv, &args, &parent), "create");
	append(parent, start, 3);
	show("parent", parent);

	check(kv_space_fork(kv, parent, 3, &child), "fork");
	before = kv_space_table(kv, parent, 0)[0];
	append(child, day, 1); /* the child gets a page, 3 tokens are copied */
	append(parent, night, 1); /* the parent has its page alone again */
	show("parent", parent);
	show("child", child);
	if (kv_space_table(kv, parent, 0)[0] != before ||
	    kv_space_table(kv, child, 0)[0] == before ||
	    strcmp(row(child, 2), "is") || strcmp(row(parent, 3), "dark"))
		return 1;
	kv_detach(kv);
	return 0;
}
