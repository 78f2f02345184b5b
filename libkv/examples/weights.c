/* SPDX-License-Identifier: MIT */
/*
 * weights.c - two processes, one copy of the model
 *
 * Both processes ask for the same weights. kvmd tells the first to fill them
 * and lets the second wait; then both map the same memory, read-only.
 *
 *	weights [SOCKET]
 */
#include <kv.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (8u << 20)

static int fill(void *dst, size_t bytes, void *ctx)
{
	unsigned char *p = dst;
	size_t i;

	printf("process %s fills the weights\n", (const char *)ctx);
	for (i = 0; i < bytes; i++)
		p[i] = (unsigned char)(i * 7 + 1);
	return 0;
}

static int run(const char *socket, const char *who)
{
	struct kv_attach_opts opts = { .sz = sizeof(opts),
				       .socket = socket,
				       .name = "weights" };
	struct kv_msg_weights key = { .packing = 1,
				      .bytes = BYTES,
				      .name = "example" };
	struct kv_weights w;
	unsigned char who_copy[8] = { 0 };
	struct kv *kv;
	size_t i, bad = 0;
	int rc;

	memset(key.digest, 0x5a, sizeof(key.digest));
	memcpy(who_copy, who, 1);
	rc = kv_attach(&opts, &kv);
	if (rc) {
		fprintf(stderr, "%s\n", kv_attach_error());
		return 1;
	}
	rc = kv_weights_open(kv, &key, fill, who_copy, &w);
	if (rc) {
		fprintf(stderr, "%s\n", kv_error(kv));
		kv_detach(kv);
		return 1;
	}
	for (i = 0; i < w.bytes; i++)
		bad += ((const unsigned char *)w.addr)[i] !=
		       (unsigned char)(i * 7 + 1);
	printf("process %s reads %zu bytes, %zu of them wrong\n", who, w.bytes,
	       bad);
	kv_weights_close(kv, &w);
	kv_detach(kv);
	return bad != 0;
}

int main(int argc, char **argv)
{
	const char *socket = argc > 1 ? argv[1] : NULL;
	int status = 0, rc;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	pid = fork();
	if (pid < 0)
		return 1;
	if (!pid)
		_exit(run(socket, "B"));
	rc = run(socket, "A");
	if (waitpid(pid, &status, 0) != pid || status)
		rc = 1;
	return rc;
}
