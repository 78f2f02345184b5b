/* SPDX-License-Identifier: MIT */
/*
 * dequant_dump.c - blocks on standard input, their values as fp32 on output
 *
 *	dequant_dump TYPE BYTES
 *
 * TYPE is GGUF's number, BYTES the length of the input: whole blocks.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/include/kern.h"

static int dump(u32 type, size_t bytes)
{
	const struct dtype_info *d = dtype_info(type);
	struct kern_dequant p = { .w = { .rows = 1, .dtype = type } };
	u8 *in = malloc(bytes);
	int rc = 1;

	if (!d || !in || bytes % d->block_bytes)
		goto out;
	p.w.data = in;
	p.w.layout = KERN_LAYOUT_GGUF;
	p.w.stride = bytes;
	p.w.cols = (u32)(bytes / d->block_bytes * d->block_len);
	p.f32 = calloc(p.w.cols, sizeof(*p.f32));
	if (!p.f32 || fread(in, 1, bytes, stdin) != bytes)
		goto out;
	kern_select(NULL)->dequant(&p, 0, 1);
	rc = fwrite(p.f32, sizeof(*p.f32), p.w.cols, stdout) != p.w.cols;
out:
	free(p.f32);
	free(in);
	return rc;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: dequant_dump TYPE BYTES\n");
		return 2;
	}
	return dump((u32)strtoul(argv[1], NULL, 0), strtoul(argv[2], NULL, 0));
}
