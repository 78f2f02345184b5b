/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_ONEDNN_H
#define TOOLS_KVBENCH_ONEDNN_H
/*
 * onednn.h - products of oneDNN, to time ours beside
 *
 * Debian's libdnnl2 is looked for when a program runs: nothing is built or
 * linked with it. y = x w', with w of fp32 or of bf16, which lies in the
 * layout that oneDNN wants for this m. Sums are in fp32. Its threads are
 * OpenMP's, as many as onednn_load() was told; they spin for milliseconds
 * when a product is done, so onednn_rest() ends them before others are timed.
 *
 * One thread at a time.
 */
#include "include/kv/types.h"

#define ONEDNN_NOTE 160

/**
 * onednn_load - find the library, once a process; it stays
 * @threads: of each product, the caller's among them
 * @note: ONEDNN_NOTE bytes
 *
 * It multiplies once, and counts the threads that it did so with. The process
 * should have but the calling one.
 *
 * Return: 0, -EOPNOTSUPP if it is not there, -EINVAL if it takes another
 * number of threads, or -errno; @note says so.
 */
int __must_check onednn_load(u32 threads, char *note);

/* "2.6.3", after onednn_load() */
void onednn_version(char *buf, size_t len);

/**
 * struct onednn_product - y = x w'
 * @bf16: of x and w; else fp32
 * @copies: of w, one after the other in memory
 * @x: [m][k], bf16 whatever it computes with
 * @w: [n][k]; not needed once the product is made
 * @y: [m][n]
 *
 * The caller fills in the first part, and owns what it points to.
 */
struct onednn_product {
	bool bf16;
	u32 m, n, k, copies;
	const u16 *x;
	const float *w;
	float *y;

	void *matmul, *src, *dst;
	void **weights; /* [copies] */
	float *x_f32;
	u8 *data; /* [copies][stride] */
	size_t stride;
};

/*
 * onednn_product_init - 0, or -EOPNOTSUPP if it has no such product on this
 * CPU, or -errno
 */
int __must_check onednn_product_init(struct onednn_product *p);
void onednn_product_fini(struct onednn_product *p);
int __must_check onednn_product_run(struct onednn_product *p, u32 copy);

/*
 * onednn_product_check - 0 if some elements of y are about the sums that
 * doubles make of @x and @w, -EBADMSG if one is not
 */
int __must_check onednn_product_check(const struct onednn_product *p);

void onednn_rest(void);

#endif
