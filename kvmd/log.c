/* SPDX-License-Identifier: MIT */
/*
 * log.c - kvmd's log: one logfmt line per event
 *
 * A line is put together in a local buffer and written with one write(2), so
 * lines of different threads do not mix. The only shared state is the rate
 * limit, which a mutex covers: a client that provokes a line per packet must
 * not fill the disk.
 */
#include "kvmd/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024
#define LOG_RATE_MAX 200

static const char *const level_names[] = {
	[LOG_LEVEL_ERR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static struct {
	int fd;
	enum log_level level;
	pthread_mutex_t lock; /* covers what follows */
	time_t second;
	unsigned int nr_lines, nr_dropped;
} sink = {
	.fd = STDERR_FILENO,
	.level = LOG_LEVEL_INFO,
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

int log_open(const char *path, enum log_level level)
{
	int fd;

	sink.level = level;
	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	log_close();
	sink.fd = fd;
	return 0;
}

void log_close(void)
{
	if (sink.fd != STDERR_FILENO)
		close(sink.fd);
	sink.fd = STDERR_FILENO;
}

int log_level_parse(const char *word, enum log_level *out)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(level_names); i++) {
		if (!strcmp(word, level_names[i])) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	if (strcmp(word, "err"))
		return -EINVAL;
	*out = LOG_LEVEL_ERR;
	return 0;
}

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

/* May a line go out now? If so, how many were left out before it. */
static bool rate_admit(time_t now, unsigned int *nr_dropped)
{
	bool admit = true;

	pthread_mutex_lock(&sink.lock);
	if (now != sink.second) {
		sink.second = now;
		sink.nr_lines = 0;
	}
	*nr_dropped = 0;
	if (sink.nr_lines >= LOG_RATE_MAX) {
		sink.nr_dropped++;
		admit = false;
	} else {
		sink.nr_lines++;
		*nr_dropped = sink.nr_dropped;
		sink.nr_dropped = 0;
	}
	pthread_mutex_unlock(&sink.lock);
	return admit;
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	unsigned int nr_dropped;
	struct timespec ts;
	struct tm tm;
	size_t n;
	va_list ap;

	if (level > sink.level)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (!rate_admit(ts.tv_sec, &nr_dropped))
		return;
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "ts=%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n,
			      ".%03ldZ level=%s msg=\"%s\"",
			      ts.tv_nsec / 1000000, level_names[level], msg);
	if (nr_dropped && n < sizeof(line))
		n += (size_t)snprintf(line + n, sizeof(line) - n, " dropped=%u",
				      nr_dropped);
	if (fmt[0] && n < sizeof(line) - 1) {
		line[n++] = ' ';
		va_start(ap, fmt);
		n += (size_t)vsnprintf(line + n, sizeof(line) - n, fmt, ap);
		va_end(ap);
	}
	n = min(n, sizeof(line) - 2);
	line[n++] = '\n';
	if (write(sink.fd, line, n) < 0)
		return; /* nowhere to say so */
}

void log_text(char *dst, size_t size, const char *src, size_t len)
{
	size_t i;

	for (i = 0; i + 1 < size && i < len && src[i]; i++) {
		dst[i] = src[i];
		if (src[i] < ' ' || src[i] > '~' || src[i] == '"' ||
		    src[i] == '\\')
			dst[i] = '?';
	}
	dst[i] = '\0';
}
