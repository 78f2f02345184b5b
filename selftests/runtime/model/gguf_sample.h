/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_GGUF_SAMPLE_H
#define SELFTESTS_GGUF_SAMPLE_H
/*
 * gguf_sample.h - small files that the GGUF and tokenizer tests share
 */
#include "kernels/include/dtype.h"
#include "selftests/runtime/model/gguf_write.h"

/* Every value type once, and three tensors. */
static inline u8 *sample_gguf(size_t *len)
{
	static const char *const strs[] = { "one", "", "three" };
	static const float floats[] = { 1.5f, -2.0f };
	static const s32 ints[] = { -1, 2, 3 };
	static const float data[12] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
	struct gguf_writer w = { 0 };

	gw_str(&w, "general.architecture", "sample");
	gw_u32(&w, "a.u32", 7);
	gw_f32(&w, "a.f32", 0.5f);
	gw_bool(&w, "a.bool", true);
	gw_raw(&w, "a.u8", GGUF_U8, &(u8){ 200 }, 1);
	gw_raw(&w, "a.i8", GGUF_I8, &(s8){ -3 }, 1);
	gw_raw(&w, "a.u16", GGUF_U16, &(u16){ 60000 }, 2);
	gw_raw(&w, "a.i16", GGUF_I16, &(s16){ -30000 }, 2);
	gw_raw(&w, "a.i32", GGUF_I32, &(s32){ 5 }, 4);
	gw_raw(&w, "a.u64", GGUF_U64, &(u64){ 1ull << 63 }, 8);
	gw_raw(&w, "a.i64", GGUF_I64, &(s64){ -1 }, 8);
	gw_raw(&w, "a.f64", GGUF_F64, &(double){ 0.25 }, 8);
	gw_arr_str(&w, "b.strs", strs, ARRAY_SIZE(strs));
	gw_arr_f32(&w, "b.floats", floats, ARRAY_SIZE(floats));
	gw_arr_i32(&w, "b.ints", ints, ARRAY_SIZE(ints));
	gw_arr(&w, "b.none", GGUF_U8, NULL, 0, 1);
	gw_tensor(&w, "x", KV_DTYPE_F32, 2, (u64[]){ 4, 3 }, data,
		  sizeof(data));
	gw_tensor(&w, "blk.0.q", KV_DTYPE_Q4_K, 2, (u64[]){ 256, 2 }, NULL,
		  288);
	gw_tensor(&w, "blk.0.h", KV_DTYPE_BF16, 1, (u64[]){ 5 }, NULL, 10);
	return gw_finish(&w, len);
}

/*
 * A SentencePiece vocabulary of 256 + 16 tokens: enough to merge "hello",
 * to fall back to bytes, and with one token of each class.
 */
static inline u8 *sample_llama(size_t *len)
{
	static const char *const words[] = {
		"<unk>",
		"<s>",
		"</s>",
		"h",
		"e",
		"l",
		"o",
		"he",
		"ll",
		"hell",
		"hello",
		"\xe2\x96\x81",
		"\xe2\x96\x81hello",
		"ab",
		"a",
		"<tag>",
	};
	enum { NR_WORDS = ARRAY_SIZE(words), NR = NR_WORDS + 256 };
	static const s32 word_class[NR_WORDS] = { 2, 3, 3, 1, 1, 1, 1, 1,
						  1, 1, 1, 1, 1, 5, 1, 4 };
	static char bytes[256][8];
	const char *names[NR];
	float scores[NR];
	s32 classes[NR];
	struct gguf_writer w = { 0 };

	for (int i = 0; i < NR; i++) {
		scores[i] = (float)-i;
		if (i < NR_WORDS) {
			names[i] = words[i];
			classes[i] = word_class[i];
			continue;
		}
		snprintf(bytes[i - NR_WORDS], sizeof(bytes[0]), "<0x%02X>",
			 (unsigned int)(i - NR_WORDS) & 0xff);
		names[i] = bytes[i - NR_WORDS];
		classes[i] = 6;
	}
	gw_str(&w, "tokenizer.ggml.model", "llama");
	gw_arr_str(&w, "tokenizer.ggml.tokens", names, NR);
	gw_arr_f32(&w, "tokenizer.ggml.scores", scores, NR);
	gw_arr_i32(&w, "tokenizer.ggml.token_type", classes, NR);
	gw_bool(&w, "tokenizer.ggml.add_space_prefix", false);
	return gw_finish(&w, len);
}

/* The name of a byte in gpt2's alphabet. */
static inline void sample_byte_name(u32 b, char out[4])
{
	u32 cp = b;

	if (b <= 0x20)
		cp = 0x100 + b;
	else if (b >= 0x7f && b <= 0xa0)
		cp = 0x121 + b - 0x7f;
	else if (b == 0xad)
		cp = 0x143;
	if (cp < 0x80) {
		out[0] = (char)cp;
		out[1] = '\0';
		return;
	}
	out[0] = (char)(0xc0 | cp >> 6);
	out[1] = (char)(0x80 | (cp & 0x3f));
	out[2] = '\0';
}

/*
 * A byte-level vocabulary: 256 bytes, then "he" "ll" "hell" "hello"
 * " hello" (256 to 260), two tokens of class @turns and a user token (261 to
 * 263).
 */
static inline u8 *sample_gpt2_turns(const char *chat_template, s32 turns,
				    size_t *len)
{
	static const char *const merges[] = { "h e", "l l", "he ll", "hell o",
					      "\xc4\xa0 hello" };
	static const char *const words[] = {
		"he",
		"ll",
		"hell",
		"hello",
		"\xc4\xa0hello",
		"<|im_start|>",
		"<|im_end|>",
		"<tool>",
	};
	enum { NR = 256 + ARRAY_SIZE(words) };
	static char bytes[256][4];
	const char *names[NR];
	s32 classes[NR];
	struct gguf_writer w = { 0 };

	for (u32 i = 0; i < NR; i++) {
		classes[i] = i < 261 ? 1 : i < 263 ? turns : 4;
		if (i < 256)
			sample_byte_name(i, bytes[i]);
		names[i] = i < 256 ? bytes[i] : words[i - 256];
	}
	gw_str(&w, "tokenizer.ggml.model", "gpt2");
	gw_str(&w, "tokenizer.ggml.pre", "qwen2");
	gw_arr_str(&w, "tokenizer.ggml.tokens", names, NR);
	gw_arr_i32(&w, "tokenizer.ggml.token_type", classes, NR);
	gw_arr_str(&w, "tokenizer.ggml.merges", merges, ARRAY_SIZE(merges));
	gw_u32(&w, "tokenizer.ggml.eos_token_id", 262);
	if (chat_template)
		gw_str(&w, "tokenizer.chat_template", chat_template);
	return gw_finish(&w, len);
}

/* The same with control tokens, as it should be. */
static inline u8 *sample_gpt2(const char *chat_template, size_t *len)
{
	return sample_gpt2_turns(chat_template, 3, len);
}

#endif
