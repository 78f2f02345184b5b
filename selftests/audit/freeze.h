/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_AUDIT_FREEZE_H
#define SELFTESTS_AUDIT_FREEZE_H
/*
 * freeze.h - have kvmd stand still and hand out its books
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum book_kind {
	BOOK_STATE,
	BOOK_TABLE,
	BOOK_STATUS,
	BOOK_EXTENT,
};

/* One descriptor, and what kvmd says it is. */
struct book {
	enum book_kind kind;
	int fd;
	uint32_t client; /* TABLE, STATUS */
	uint32_t extent; /* EXTENT */
	uint64_t bytes; /* TABLE */
};

struct books {
	int sock;
	uint64_t state_bytes;
	struct book *book;
	unsigned int nr;
	int *fds; /* in the order they came */
	unsigned int nr_fds;
};

/**
 * freeze_begin - connect, freeze, and take all descriptors
 * @path: kvmd's socket
 * @b: filled in; freeze_end() it, whatever this returns
 *
 * Return: 0 or -errno; a sentence is on standard error.
 */
int freeze_begin(const char *path, struct books *b);
/* freeze_end - thaw and close everything */
void freeze_end(struct books *b);

#endif
