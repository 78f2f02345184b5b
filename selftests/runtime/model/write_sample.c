/* SPDX-License-Identifier: MIT */
/*
 * write_sample.c - a tiny model file for a script
 *
 *	write_sample values|llama|gpt2|chatml|bert PATH
 */
#include "selftests/runtime/model/gguf_sample.h"

static u8 *sample(const char *kind, size_t *len)
{
	struct gguf_writer w = { 0 };

	if (!strcmp(kind, "values"))
		return sample_gguf(len);
	if (!strcmp(kind, "llama"))
		return sample_llama(len);
	if (!strcmp(kind, "gpt2"))
		return sample_gpt2(NULL, len);
	if (!strcmp(kind, "chatml"))
		return sample_gpt2("<|im_start|>system\\nS<|im_end|>", len);
	if (strcmp(kind, "bert"))
		return NULL;
	gw_str(&w, "tokenizer.ggml.model", "bert");
	return gw_finish(&w, len);
}

int main(int argc, char **argv)
{
	size_t len = 0, put;
	u8 *buf = argc == 3 ? sample(argv[1], &len) : NULL;
	FILE *f = buf ? fopen(argv[2], "wb") : NULL;

	if (!f) {
		fprintf(stderr, "usage: write_sample KIND PATH\n");
		return 2;
	}
	put = fwrite(buf, 1, len, f);
	free(buf);
	return fclose(f) || put != len;
}
