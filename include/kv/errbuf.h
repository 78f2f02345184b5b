/* SPDX-License-Identifier: MIT */
#ifndef KV_ERRBUF_H
#define KV_ERRBUF_H
/*
 * errbuf.h - the sentence that goes with an error code
 *
 * A function that can refuse what a file or a person gave it takes a buffer
 * of KV_ERRLEN bytes, or NULL, and leaves there one sentence that names the
 * object; its return value stays 0 or -errno.
 */
#include <stdarg.h>
#include <stdio.h>

#define KV_ERRLEN 512

/**
 * err_set - leave a sentence and pass the code on
 * @err: KV_ERRLEN bytes, or NULL
 * @rc: the code to return, -errno
 *
 * Return: @rc, so that a caller can write return err_set(err, -EINVAL, ...).
 */
__attribute__((format(printf, 3, 4))) static inline int
err_set(char *err, int rc, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return rc;
	va_start(ap, fmt);
	vsnprintf(err, KV_ERRLEN, fmt, ap);
	va_end(ap);
	return rc;
}

#endif
