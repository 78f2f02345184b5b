/* SPDX-License-Identifier: MIT */
/*
 * slow_fill.c - a runtime that fills a model's weights for ever
 *
 *	slow_fill MODEL
 *
 * It says "filling" and holds whoever needs these weights until it is killed,
 * or its standard input ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kv.h"
#include "kv/errbuf.h"
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"
#include "runtime/model/packing.h"

static int fill(void *dst, size_t bytes, void *ctx)
{
	char byte;

	(void)dst;
	(void)bytes;
	(void)ctx;
	printf("filling\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return -ECANCELED;
}

/* As kvrun asks for them. */
static int key_of(const char *path, struct kv_msg_weights *key, char *err)
{
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC);
	struct packing *p = NULL;
	struct gguf *g = NULL;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = gguf_open_fd(fd, path, &g, err);
	if (!rc)
		rc = digest_file(fd, path, key->digest, err);
	if (!rc)
		rc = packing_plan(g, &p, err);
	if (!rc)
		key->bytes = packing_bytes(p);
	packing_free(p);
	if (g)
		gguf_close(g);
	close(fd);
	return rc;
}

int main(int argc, char **argv)
{
	struct kv_attach_opts o = { .sz = sizeof(o), .name = "slow_fill" };
	struct kv_msg_weights key = { .packing = PACKING_VERSION };
	char err[KV_ERRLEN] = "usage: slow_fill MODEL";
	struct kv_weights w;
	struct kv *kv = NULL;
	int rc = argc == 2 ? key_of(argv[1], &key, err) : -EINVAL;

	if (!rc) {
		rc = kv_attach(&o, &kv);
		if (rc)
			err_set(err, rc, "%s", kv_attach_error());
	}
	if (!rc) {
		snprintf(key.name, sizeof(key.name), "slow_fill");
		rc = kv_weights_open(kv, &key, fill, NULL, &w);
		err_set(err, rc, "%s", kv_error(kv));
	}
	fprintf(stderr, "slow_fill: %s\n", err);
	kv_detach(kv);
	return rc ? 1 : 0;
}
