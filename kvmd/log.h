/* SPDX-License-Identifier: MIT */
#ifndef KVMD_LOG_H
#define KVMD_LOG_H
/*
 * log.h - kvmd's log: one logfmt line per event
 *
 *	ts=2026-01-31T10:00:00.123Z level=warn msg="client kicked" client=3
 *
 * The message is a constant; what varies goes into the pairs behind it, which
 * the caller writes as logfmt (text from outside passes log_text() first).
 */
#include "include/kv/types.h"

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/**
 * log_open - choose where lines go and which
 * @path: file to append to, NULL: standard error
 * @level: least important level that is written
 *
 * Return: 0 or -errno; standard error stays in use on failure.
 */
int __must_check log_open(const char *path, enum log_level level);
void log_close(void);
/* log_level_parse - "err", "warn", "info", "debug"; -EINVAL otherwise */
int log_level_parse(const char *word, enum log_level *out);
const char *log_level_name(enum log_level level);

/**
 * log_write - one line
 * @level: level
 * @msg: a constant sentence without quotes
 * @fmt: logfmt pairs, may be empty
 *
 * Context: any thread. At most LOG_RATE_MAX lines a second are written; how
 * many were left out is said by the next one that is.
 */
void __printf(3, 4)
	log_write(enum log_level level, const char *msg, const char *fmt, ...);

#define log_err(...)   log_write(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/**
 * log_text - make text from outside fit for a quoted logfmt value
 * @dst: @size bytes, always terminated
 * @src: up to @len bytes or to the first zero
 *
 * Quotes, backslashes and bytes that are not printable ASCII become '?'.
 */
void log_text(char *dst, size_t size, const char *src, size_t len);

#endif
