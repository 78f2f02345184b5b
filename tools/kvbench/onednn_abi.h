/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_ONEDNN_ABI_H
#define TOOLS_KVBENCH_ONEDNN_ABI_H
/*
 * onednn_abi.h - what kvbench calls of oneDNN 2.x, after its dnnl.h
 *
 * Descriptors are plain structs there, but calls take and give them by
 * address only: here they are bytes, more than enough of them. Numbers are
 * those of its enums. Where the header is installed, test_onednn.c holds all
 * of this against it when it compiles.
 */
#include <stddef.h>
#include <stdint.h>

#define ONEDNN_SONAME	 "libdnnl.so.2"
#define ONEDNN_MAJOR	 2
#define ONEDNN_DIMS_MAX	 12
#define ONEDNN_MD_BYTES	 768 /* dnnl_memory_desc_t */
#define ONEDNN_OPD_BYTES 4096 /* dnnl_matmul_desc_t */

enum onednn_status {
	ONEDNN_SUCCESS = 0,
	ONEDNN_OUT_OF_MEMORY = 1,
	ONEDNN_UNIMPLEMENTED = 3,
};

enum {
	ONEDNN_CPU = 1, /* an engine */
	ONEDNN_STREAM_DEFAULT = 1,
	ONEDNN_BF16 = 2,
	ONEDNN_F32 = 3,
	ONEDNN_ANY = 1, /* a layout of its choice */
	ONEDNN_AB = 3, /* row by row */
	ONEDNN_BA = 22, /* column by column */
	ONEDNN_QUERY_WEIGHTS_MD = 131,
	ONEDNN_ARG_SRC = 1, /* of a reorder too */
	ONEDNN_ARG_DST = 17,
	ONEDNN_ARG_WEIGHTS = 33,
};

struct onednn_md {
	_Alignas(64) char bytes[ONEDNN_MD_BYTES];
};

struct onednn_opd {
	_Alignas(64) char bytes[ONEDNN_OPD_BYTES];
};

struct onednn_arg {
	int arg;
	void *memory;
};

/* The beginning of dnnl_version_t. */
struct onednn_version {
	int major, minor, patch;
};

/* Engines, streams, memories and primitives are pointers to what it hides. */
struct onednn_calls {
	const struct onednn_version *(*version)(void);
	int (*engine_create)(void **engine, int kind, size_t index);
	int (*stream_create)(void **stream, void *engine, unsigned int flags);
	int (*stream_wait)(void *stream);
	int (*memory_desc_init_by_tag)(struct onednn_md *md, int ndims,
				       const int64_t *dims, int data_type,
				       int tag);
	size_t (*memory_desc_get_size)(const struct onednn_md *md);
	int (*memory_create)(void **memory, const struct onednn_md *md,
			     void *engine, void *data);
	int (*memory_destroy)(void *memory);
	int (*matmul_desc_init)(struct onednn_opd *opd,
				const struct onednn_md *src,
				const struct onednn_md *weights,
				const struct onednn_md *bias,
				const struct onednn_md *dst);
	int (*reorder_primitive_desc_create)(void **pd,
					     const struct onednn_md *src,
					     void *src_engine,
					     const struct onednn_md *dst,
					     void *dst_engine,
					     const void *attr);
	int (*primitive_desc_create)(void **pd, const struct onednn_opd *opd,
				     const void *attr, void *engine,
				     const void *hint);
	const struct onednn_md *(*primitive_desc_query_md)(const void *pd,
							   int what, int index);
	int (*primitive_desc_destroy)(void *pd);
	int (*primitive_create)(void **primitive, const void *pd);
	int (*primitive_execute)(const void *primitive, void *stream, int nr,
				 const struct onednn_arg *args);
	int (*primitive_destroy)(void *primitive);
	/* of the OpenMP that it computes with */
	void (*omp_set_num_threads)(int nr);
	int (*omp_pause_resource_all)(int kind);
};

#define ONEDNN_OMP_PAUSE_HARD 2 /* its threads end */

#endif
