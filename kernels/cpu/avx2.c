/* SPDX-License-Identifier: MIT */
#include "kernels/cpu/rows.h"

const struct kern_ops kern_ops_avx2 = {
	.name = "avx2",
};
