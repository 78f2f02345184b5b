/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_POINT_H
#define LIBKV_POINT_H
/*
 * point.h - the named transitions of trace.h, seen from libkv
 *
 * Nothing in the library that is installed. A test that includes the sources
 * defines KV_TEST_POINTS and libkv_point(), and dies where it likes.
 */
#include <kv/trace.h>

#ifdef KV_TEST_POINTS
void libkv_point(enum kv_trace_client point);
#define KV_POINT(name) libkv_point(KV_TRACE_##name)
#else
#define KV_POINT(name) \
	do {           \
	} while (0)
#endif

#endif
