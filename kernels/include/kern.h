/* SPDX-License-Identifier: MIT */
#ifndef KERN_H
#define KERN_H
/*
 * kern.h - the operations of a decoder-only transformer on one flat batch
 *
 * A batch is T tokens of any mix of sequences, prefill and decode; nothing
 * is padded. Each operation has one plain-old-data parameter struct, every
 * pointer with its shape beside it (innermost dimension last, strides in
 * elements unless they say bytes), and one entry in struct kern_ops that
 * computes a range [lo, hi) of the operation's own unit, so that any thread
 * pool can split it. ref/ defines every operation in plain C, attention and
 * products more than once (enum kern_numerics); the other rows give the bits of
 * theirs (Documentation/internals/numerics.rst).
 *
 * Nothing here allocates, takes a lock or fails: the caller has validated
 * shapes, indices and addresses (kern_*_check() tell how). Kernels know
 * neither the daemon nor the runtime; they see addresses, positions,
 * lengths and block tables.
 *
 * The thread that runs an operation must have called kern_thread_init():
 * denormals are flushed, as the definition says.
 */
#include "kernels/include/dtype.h"

/* Per-thread scratch an operation may use; aligned to 64 bytes. */
#define KERN_SCRATCH_BYTES (1u << 20)

/* Keys that attention folds from the empty state, counted from position 0. */
#define KERN_ATTN_SEGMENT 256

enum kern_layout {
	KERN_LAYOUT_GGUF = 1, /* packing version 1: rows of GGUF blocks */
	KERN_LAYOUT_STRIP = 2, /* packing version 2: pack.h */
};

/* A weight matrix [rows][cols]: rows of blocks, or strips of 16 rows. */
struct kern_mat {
	const void *data;
	u64 stride; /* bytes from a row, or from a strip, to the next */
	u32 rows; /* N: outputs */
	u32 cols; /* K: inputs */
	u32 dtype; /* enum kv_dtype */
	u32 layout; /* enum kern_layout */
};

/* ---- rows of weights and of activations; unit: a row (a token) ---- */

/* Rows row0 .. row0 + (hi - 1) of w; exact fp32, or rounded to bf16. */
struct kern_dequant {
	struct kern_mat w;
	u32 row0;
	float *f32; /* [hi][w.cols] or NULL */
	u16 *bf16; /* [hi][w.cols] or NULL */
};

/* out[t] = w[ids[t]] * scale, ids[t] < w.rows */
struct kern_embed {
	struct kern_mat w;
	const u32 *ids; /* [T] */
	float *out; /* [T][w.cols] */
	float scale;
};

/*
 * y = x / sqrt(mean(x^2) + eps) * weight, each head of each token by itself
 * (heads = 1 for a plain norm), then y += add. out may be x or add.
 */
struct kern_rmsnorm {
	const float *x; /* [T][x_stride], heads * len used */
	const float *weight; /* [len], NULL = ones */
	const float *add; /* [T][out_stride] or NULL */
	float *f32; /* [T][out_stride] or NULL */
	u16 *bf16; /* [T][out_stride] or NULL */
	u32 x_stride, out_stride;
	u32 heads, len;
	float eps;
};

/* Round rows to bf16 (to nearest, ties to even). */
struct kern_round {
	const float *x; /* [T][x_stride] */
	u16 *out; /* [T][out_stride] */
	u32 x_stride, out_stride, len;
};

/* out = a + b; out may be a or b. */
struct kern_add {
	const float *a; /* [T][len] */
	const float *b; /* [T][len] */
	float *out; /* [T][len] */
	u32 len;
};

enum kern_act {
	KERN_ACT_SILU = 0,
	KERN_ACT_GELU_TANH = 1,
};

/* out = act(gate) * up, rounded to bf16 */
struct kern_gated {
	const float *gate; /* [T][stride] */
	const float *up; /* [T][stride] */
	u16 *out; /* [T][out_stride] */
	u32 stride, out_stride, len;
	u32 act; /* enum kern_act */
};

/* x = cap * tanh(x / cap), in place */
struct kern_softcap {
	float *x; /* [T][len] */
	u32 len;
	float cap;
};

/*
 * ---- matrix product; unit: a column of y (a row of w) ----
 * Where w has strips, lo is a multiple of 16, and hi too or w.rows.
 */

/* The largest element of a row and its column: of equal ones the first. */
struct kern_best {
	float max;
	u32 id;
} __attribute__((aligned(8)));

/* Of no element; a NaN, or a row of nothing but -INFINITY, leaves it. */
#define KERN_BEST_NONE ((struct kern_best){ -__builtin_inff(), 0 })

/*
 * y[m][n] = (sum_k x[m][k] * w[n][k] + bias[n]) + residual[m][n]
 * y may be residual (same stride). The sum is numerics.rst's.
 */
struct kern_gemm {
	struct kern_mat w; /* [N][K] */
	const u16 *x; /* bf16 [M][x_stride] */
	float *y; /* [M][y_stride] */
	const float *bias; /* [N] or NULL */
	const float *residual; /* [M][y_stride] or NULL */
	u32 m;
	u32 x_stride, y_stride;
	const void *packed; /* x by gemm_pack() of the same row, or NULL */
	/*
	 * NULL; or [M]: what y has that is larger goes there, and y itself,
	 * which may be NULL then, gets the rows that @keep names. Ranges that
	 * are computed at the same time have one each.
	 */
	struct kern_best *best;
	const bool *keep; /* [M]; NULL: none */
};

/*
 * out[m][n] = act(sum_k x[m][k] * gate[n][k]) * (sum_k x[m][k] * up[n][k]),
 * rounded to bf16: two products and kern_gated, whose sums nobody else sees.
 */
struct kern_gemm_gated {
	struct kern_mat gate, up; /* [N][K]; faster if they have one layout */
	const u16 *x; /* bf16 [M][x_stride] */
	u16 *out; /* [M][out_stride] */
	u32 m;
	u32 x_stride, out_stride;
	u32 act; /* enum kern_act */
	const void *packed; /* as of kern_gemm */
};

#define KERN_PACK_ROWS	32u /* of x: the unit of gemm_pack() */
#define KERN_PACK_BF16	(32 * sizeof(u16)) /* pack_bytes of x as it is */
#define KERN_GATED_ROWS 64u /* gemm_gated() is for more */

/* ---- rope, and K and V into their pages; unit: a token ---- */

/*
 * The angles of a step: once per (base, scale), used by every layer.
 * angle(t, i) = pos[t] * scale * base^(-2i/rot) / freq_factors[i]
 */
struct kern_rope_table {
	const u32 *pos; /* [T] */
	const float *freq_factors; /* [rot / 2] or NULL */
	float *cos_sin; /* [T][2][rot / 2]: cosines, then sines */
	u32 rot; /* rotated dimensions, even */
	double base;
	double scale; /* 1 / linear factor */
};

/*
 * Where one layer of an area has its K and V. The row of the token at
 * position p is base + (u64)table[p / page_tokens] * unit + layer_off +
 * (p % page_tokens) * tok_stride; K of head h lies at + k_off +
 * h * head_stride, V at + v_off + h * head_stride, head_dim bf16 each.
 * Contiguous memory is an identity table.
 */
struct kern_kv {
	u8 *base;
	u64 unit; /* bytes that one step of a table entry means */
	u64 layer_off; /* all these in bytes */
	u64 k_off, v_off;
	u64 tok_stride, head_stride;
	u32 page_tokens;
	u32 nr_kv_heads;
	u32 head_dim;
};

/* Offset of a token's row from base + layer_off, as kern_rope.rows wants. */
static inline u64 kern_kv_row(const struct kern_kv *kv, const u32 *table,
			      u32 pos)
{
	return (u64)table[pos / kv->page_tokens] * kv->unit +
	       (u64)(pos % kv->page_tokens) * kv->tok_stride;
}

/*
 * Rotate q and k (the first rot dimensions of each head, dimension i paired
 * with i + rot/2), k and v rounded to bf16 into the pages. q is in place.
 */
struct kern_rope {
	float *q; /* [T][q_stride], nr_heads * head_dim used */
	const float *k; /* [T][k_stride], nr_kv_heads * head_dim used */
	const float *v; /* [T][v_stride], nr_kv_heads * head_dim used */
	const float *cos_sin; /* [T][2][rot / 2] */
	const u64 *rows; /* [T], kern_kv_row() of each token */
	struct kern_kv kv;
	u32 q_stride, k_stride, v_stride;
	u32 nr_heads;
	u32 rot; /* <= head_dim */
};

/*
 * ---- paged attention; unit: an item of the plan; of a merge: a head of a row
 * that has parts, merges[i / nr_heads]'s head i % nr_heads ----
 */

struct kern_attn_seq {
	const u32 *table; /* [DIV_ROUND_UP(kv_len, page_tokens)] */
	u32 row0; /* first row of q and out */
	u32 nr_rows; /* 0 is allowed */
	u32 pos0; /* absolute position of row0 */
	u32 kv_len; /* >= pos0 + nr_rows: rows written so far */
	u32 window; /* keys a row sees, itself included; 0 = all */
};

/*
 * Row r of a sequence sees the keys at positions (pos - window, pos],
 * pos = pos0 + r. Query head h reads KV head h / (nr_heads / nr_kv_heads);
 * 64 query heads share a KV head at most.
 * Rows >= kv_len, and pages that lie wholly before the window of the
 * sequence's first row, are never touched.
 */
struct kern_attn {
	const float *q; /* [T][q_stride], nr_heads * head_dim used */
	float *f32; /* [T][nr_heads][head_dim] or NULL */
	u16 *bf16; /* [T][nr_heads][head_dim] or NULL */
	const struct kern_attn_seq *seqs; /* [nr_seqs] */
	struct kern_kv kv;
	u32 nr_seqs;
	u32 nr_heads;
	u32 q_stride;
	float scale;
	float softcap; /* 0 = none */
};

/* A row of a sequence, and where the plan keeps the parts of its result. */
struct kern_attn_row {
	u32 seq, row;
	u32 part; /* its first partial record; KERN_ATTN_WHOLE = none */
	u32 seg0, nr_segs; /* it has a record for each of these segments */
};

#define KERN_ATTN_WHOLE (~0u)

/*
 * One piece of work: some segments for one KV head and some rows, of one
 * sequence or of several that have the same pages there.
 */
struct kern_attn_item {
	u32 seq; /* its table says where the keys are */
	u32 kv_head;
	u32 row, nr_rows; /* in the plan's rows */
	u32 seg0, seg1; /* segments [seg0, seg1) */
};

/*
 * A plan depends on the sequences, their tables and the head counts: make it
 * once a step and area, use it for every layer. A row whose segments are
 * shared out over several items has a partial record (max, sum,
 * out[head_dim]) for each KV head, segment and query head of the group in
 * parts; attn_merge() then folds them in order. Zero it before the first
 * kern_attn_plan(); kern_attn_plan_fini() frees it.
 */
struct kern_attn_plan {
	struct kern_attn_row *rows; /* [nr_rows] */
	struct kern_attn_item *items; /* [nr_items] */
	u32 *merges; /* [nr_merges], rows that have parts */
	float *parts; /* [nr_parts][2 + head_dim] */
	u32 nr_rows, nr_items, nr_merges, nr_parts;
	u32 max_rows, max_items, max_merges;
	u64 max_part_floats;
	u32 *order; /* [max_seqs], of kern_attn_plan()'s own */
	struct kern_attn_run *runs; /* [nr_runs], likewise */
	u32 max_seqs, nr_runs, max_runs;
};

/**
 * kern_attn_plan - list the work of an attention call
 * @plan: zeroed, or used before (its memory is reused)
 * @a: seqs with their tables, nr_seqs, nr_heads and kv's counts are read
 * @nr_threads: splits long rows over keys when there are fewer items
 *
 * Sequences of few rows that have the same pages for a whole segment read it
 * once for all of them (a cascade).
 *
 * Return: 0, or -ENOMEM. The result's bits do not depend on @nr_threads.
 */
int __must_check kern_attn_plan(struct kern_attn_plan *plan,
				const struct kern_attn *a, u32 nr_threads);
void kern_attn_plan_fini(struct kern_attn_plan *plan);

/* ---- logits; unit: a row ---- */

struct kern_logits {
	const float *x; /* [R][len] */
	u32 len;
	const bool *keep; /* [R], rows that are looked at; NULL: all */
	/* Each may be NULL. */
	u32 *argmax; /* [R], the lowest index of the largest value */
	float *max; /* [R] */
	double *lse; /* [R], natural log of the sum of exponentials */
	/*
	 * The k largest, in falling order, equal ones by rising index;
	 * k <= len. k = 0: none.
	 */
	u32 *top_ids; /* [R][k] */
	float *top; /* [R][k] */
	u32 k;
};

/* ---- copies that a step was told to make; unit: a copy ---- */

struct kern_copy {
	void *dst;
	const void *src;
	size_t bytes;
};

/*
 * Which definition of the operations a row has. Rows with the same numerics
 * give the same bits; nothing that one has computed (K and V above all) goes
 * with what the others have.
 */
enum kern_numerics {
	KERN_NUMERICS_BF16 = 0, /* bf16 products, fp32 attention */
	KERN_NUMERICS_BF16_ATTN = 1, /* attention in bf16 too: q in two parts */
	KERN_NUMERICS_INT8 = 2, /* x quantised to int8, 32 k at a time */
	KERN_NUMERICS_INT16 = 3, /* x quantised to int16, likewise */
	KERN_NUMERICS_NR,
};

/* One more whenever a definition changes: goes with what is kept of it. */
#define KERN_NUMERICS_EDITION 2u

/**
 * struct kern_ops - one row per instruction set and definition
 * @name: "ref", "avx2", "avx512", "avx512bf16", "amx"; with attention in bf16
 *	  "refbf16attn", "avx2bf16attn", "avx512bf16attn", "amxbf16attn"; with
 *	  products in int8 "refint8", "avx2int8", "avx512vnni", "amxint8"; in
 *	  int16 "refint16", "avx2int16", "avx512int16"
 * @numerics: enum kern_numerics
 *
 * Every function computes [lo, hi) of its unit, may run at the same time on
 * any number of threads for ranges that do not overlap, and needs
 * KERN_SCRATCH_BYTES of scratch of its own where it takes any. None but
 * gemm_pack and gemm_gated is NULL in a row that kern_select() returned.
 */
struct kern_ops {
	const char *name;
	u32 numerics;
	u32 pack_rows; /* of x: gemm_pack() is for more */
	u32 pack_bytes; /* of 32 elements of a row that it has packed */
	void (*dequant)(const struct kern_dequant *p, u32 lo, u32 hi);
	void (*embed)(const struct kern_embed *p, u32 lo, u32 hi);
	void (*rmsnorm)(const struct kern_rmsnorm *p, u32 lo, u32 hi);
	void (*round)(const struct kern_round *p, u32 lo, u32 hi);
	void (*add)(const struct kern_add *p, u32 lo, u32 hi);
	void (*gated)(const struct kern_gated *p, u32 lo, u32 hi);
	void (*softcap)(const struct kern_softcap *p, u32 lo, u32 hi);
	void (*gemm)(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
	/*
	 * NULL, or: @to = x in the order in which gemm() reads it when there
	 * are more than pack_rows; kern_packed_bytes() in all, aligned to 64.
	 * Of w only cols and layout count; a type that gemm() does not
	 * multiply so takes x as it is.
	 */
	void (*gemm_pack)(const struct kern_gemm *p, void *to, u32 lo, u32 hi);
	/*
	 * NULL: gemm() and gated() do it; or for many rows, where gate and up
	 * have one layout, without their sums in memory.
	 */
	void (*gemm_gated)(const struct kern_gemm_gated *p, u32 lo, u32 hi,
			   void *scratch);
	void (*rope_table)(const struct kern_rope_table *p, u32 lo, u32 hi);
	void (*rope)(const struct kern_rope *p, u32 lo, u32 hi);
	void (*attn)(const struct kern_attn *p,
		     const struct kern_attn_plan *plan, u32 lo, u32 hi,
		     void *scratch);
	void (*attn_merge)(const struct kern_attn *p,
			   const struct kern_attn_plan *plan, u32 lo, u32 hi);
	void (*logits)(const struct kern_logits *p, u32 lo, u32 hi);
	void (*copy)(const struct kern_copy *list, u32 lo, u32 hi);
};

/* Bytes of x when it is packed by a row that does. */
static inline u64 kern_packed_bytes(const struct kern_ops *ops, u32 m, u32 cols)
{
	return (u64)ALIGN_UP(m, KERN_PACK_ROWS) * DIV_ROUND_UP(cols, 32u) *
	       ops->pack_bytes;
}

/**
 * kern_select - the row for an instruction set
 * @isa: a name of struct kern_ops; NULL = $KV_ISA if set, else the fastest
 *	 that this CPU has, int8 numerics left out
 *
 * Return: a constant row with the functions set that it must have; or NULL if
 * @isa (or $KV_ISA) is unknown or this CPU lacks it: kern_isa_list() has names
 */
const struct kern_ops *kern_select(const char *isa);

/*
 * Names that kern_select() takes on this CPU, NULL at the end: those of
 * KERN_NUMERICS_BF16, best first, then those of each of the others.
 */
const char *const *kern_isa_list(void);

/* Flush denormals in this thread; every thread that runs a kernel calls it. */
void kern_thread_init(void);

/* bf16 <-> fp32 of one value: to nearest even, NaN stays NaN. */
static inline float kern_bf16_to_f32(u16 h)
{
	union {
		u32 u;
		float f;
	} v = { .u = (u32)h << 16 };

	return v.f;
}

static inline u16 kern_f32_to_bf16(float f)
{
	union {
		float f;
		u32 u;
	} v = { .f = f };

	if ((v.u & 0x7fffffff) > 0x7f800000)
		return (u16)(v.u >> 16 | 0x40);
	return (u16)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

/* ---- whole operations on a thread pool ---- */

struct kern_exec;

/**
 * struct kern_exec_ops - what a model calls: whole operations, in order
 *
 * Each returns when the operation is done. A table, so that a recorder can
 * stand in for it. @t is the number of tokens (rows).
 */
struct kern_exec_ops {
	void (*dequant)(struct kern_exec *x, const struct kern_dequant *p,
			u32 t);
	void (*embed)(struct kern_exec *x, const struct kern_embed *p, u32 t);
	/*
	 * @nr norms, each row by each of them in turn: one may read what
	 * another before it has written of the same row.
	 */
	void (*rmsnorm)(struct kern_exec *x, const struct kern_rmsnorm *p,
			u32 nr, u32 t);
	void (*round)(struct kern_exec *x, const struct kern_round *p, u32 t);
	void (*add)(struct kern_exec *x, const struct kern_add *p, u32 t);
	void (*softcap)(struct kern_exec *x, const struct kern_softcap *p,
			u32 t);
	/* @nr products that do not depend on each other (q, k and v). */
	void (*gemm)(struct kern_exec *x, const struct kern_gemm *p, u32 nr);
	void (*gemm_gated)(struct kern_exec *x,
			   const struct kern_gemm_gated *p);
	void (*rope_table)(struct kern_exec *x, const struct kern_rope_table *p,
			   u32 t);
	void (*rope)(struct kern_exec *x, const struct kern_rope *p, u32 t);
	/* @plan is kern_attn_plan()'s for the same sequences and heads. */
	void (*attn)(struct kern_exec *x, const struct kern_attn *p,
		     const struct kern_attn_plan *plan);
	void (*logits)(struct kern_exec *x, const struct kern_logits *p,
		       u32 rows);
	void (*copy)(struct kern_exec *x, const struct kern_copy *list, u32 nr);
};

struct kern_exec {
	const struct kern_exec_ops *ops; /* x->ops->gemm(x, &p, 1) */
	const struct kern_ops *kern;
	struct pool *pool; /* kernels/cpu/pool.h */
};

/**
 * kern_exec_init - a pool of threads and the kernels for this CPU
 * @x: filled in
 * @isa: as for kern_select()
 * @nr_threads: 0 = the CPUs this process may run on; the caller is one
 *
 * Calls kern_thread_init() for the calling thread, which must be the one
 * that uses @x (or call it itself).
 *
 * Return: 0, -EINVAL for an @isa that this CPU lacks, -ENOMEM, -EAGAIN.
 */
int __must_check kern_exec_init(struct kern_exec *x, const char *isa,
				u32 nr_threads);
void kern_exec_fini(struct kern_exec *x);

#endif
