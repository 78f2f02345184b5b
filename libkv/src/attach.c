/* SPDX-License-Identifier: MIT */
/*
 * attach.c - the handshake, what it maps, and how it ends
 *
 *	connect -> HELLO -> WELCOME and four descriptors -> mapped
 *
 * Mapped at attach and never moved: the ring, the client's page tables (at
 * their maximum size, read-only; the file behind grows), the status array,
 * one reservation of the device's whole offset space, and the address space
 * of the mirrors. Extents are laid over the reservation as they come (msg.c).
 *
 * The daemon is trusted with this client's memory, but not to be the one we
 * know: every size it names is held against what this library was built for,
 * and a difference is -EPROTO with both versions in the sentence.
 */
#include "libkv/src/client.h"
#include "libkv/src/connect.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SPIN_NS 50000u

static __thread char attach_error[KV_ERRLEN];

const char *kv_attach_error(void)
{
	return attach_error;
}

const char *kv_error(const struct kv *kv)
{
	return kv->err;
}

const struct kv_msg_welcome *kv_info(const struct kv *kv)
{
	return &kv->info;
}

void *kv_base(const struct kv *kv)
{
	return kv->base;
}

void kv_counters_get(const struct kv *kv, struct kv_counters *out)
{
	*out = kv->nr;
}

int kv_stats_get(const struct kv *kv, struct kv_stats *out)
{
	return kv_stats_read(kv_table_stats(kv->table), out) ? 0 : -EAGAIN;
}

static int read_opts(const struct kv_attach_opts *opts,
		     struct kv_attach_opts *o)
{
	*o = (struct kv_attach_opts){ .sz = sizeof(*o) };
	if (!opts)
		return 0;
	if (opts->sz < offsetof(struct kv_attach_opts, timeout_ms))
		return err_set(attach_error, -EINVAL,
			       "kv_attach: opts.sz is %zu, set it to "
			       "sizeof(struct kv_attach_opts)",
			       opts->sz);
	memcpy(o, opts, min(opts->sz, sizeof(*o)));
	if (o->flags || o->reserved)
		return err_set(attach_error, -EINVAL,
			       "kv_attach: unknown flags %#x", o->flags);
	return 0;
}

static void fill_hello(struct kv_msg_hello *h, const struct kv_attach_opts *o)
{
	const char *name = o->name ? o->name : program_invocation_short_name;
	size_t i;

	*h = (struct kv_msg_hello){
		.magic = KV_ABI_MAGIC,
		.major = KV_ABI_MAJOR,
		.minor = KV_ABI_MINOR,
		.features = KV_FEATURES,
		.device = o->device,
	};
	if (o->rank)
		h->rank = *o->rank;
	if (o->ns)
		h->ns = *o->ns;
	for (i = 0; i + 1 < sizeof(h->name) && name[i]; i++)
		h->name[i] = name[i] > ' ' && name[i] < 127 ? name[i] : '_';
}

/* A file of kvmd's must be as large as this library will read. */
static int check_fd(int fd, u64 bytes, u64 said, const char *what)
{
	s64 has = fd < 0 ? 0 : sys_fd_bytes(fd);

	if (has >= (s64)bytes && said >= bytes)
		return 0;
	return err_set(attach_error, -EPROTO,
		       "kvmd's %s has %lld bytes, this libkv needs %llu", what,
		       (long long)has, (unsigned long long)bytes);
}

static int check_welcome(const struct kv_msg_welcome *w,
			 const int fds[SYS_NR_FDS])
{
	int rc;

	if (w->extent_bytes != KV_EXTENT_SIZE ||
	    w->chunk_bytes != KV_CHUNK_SIZE || !w->device_bytes ||
	    w->device_bytes % KV_EXTENT_SIZE || w->device_bytes >> 48)
		return err_set(attach_error, -EPROTO,
			       "kvmd's device has %llu bytes in extents of %u",
			       (unsigned long long)w->device_bytes,
			       w->extent_bytes);
	rc = check_fd(fds[0], KV_RING_SIZE, w->ring_bytes, "ring");
	if (!rc)
		rc = check_fd(fds[1], KV_TABLE_LEAVES_OFF, KV_TABLE_SIZE_MAX,
			      "page table");
	if (!rc)
		rc = check_fd(fds[2], sizeof(struct kv_status), w->status_bytes,
			      "status array");
	if (!rc && fds[3] < 0)
		rc = err_set(attach_error, -EPROTO, "kvmd sent no doorbell");
	return rc;
}

static int map_all(struct kv *kv, const int fds[SYS_NR_FDS])
{
	void *p;
	int rc;

	rc = sys_map(NULL, KV_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     fds[0], &p);
	if (rc)
		return rc;
	kv->ring = p;
	kv->hdr = p;
	rc = sys_map(NULL, KV_TABLE_SIZE_MAX, PROT_READ, MAP_SHARED, fds[1],
		     &p);
	if (rc)
		return rc;
	kv->table = p;
	rc = sys_map(NULL, sizeof(struct kv_status), PROT_READ | PROT_WRITE,
		     MAP_SHARED, fds[2], &p);
	if (rc)
		return rc;
	kv->status = p;
	rc = sys_reserve(kv->info.device_bytes, &p);
	if (rc)
		return rc;
	kv->base = p;
	rc = sys_map(NULL, sizeof(struct mirror) * KV_AREA_MAX * KV_SPACE_MAX,
		     PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		     &p);
	if (rc)
		return rc;
	kv->mirror = p;
	return 0;
}

/* Set what later calls rely on; the ring is where kvmd left it. */
static void begin(struct kv *kv)
{
	u32 i;

	if (kv->info.features & KV_FEAT_GATE)
		kv->turn = kv_ring_turn(kv->ring);
	kv->sq_tail = kv_load_acquire(&kv->hdr->sq_tail.v);
	kv->cq_head = kv_load_acquire(&kv->hdr->cq_head.v);
	kv->issued = kv_load_relaxed(&kv->status->rank[0].completed);
	for (i = 0; i <= STEP_CARRY; i++)
		kv->open_step[i] = STEP_NONE;
	kv->spin_ns = sys_nr_cpus() > 1 ? SPIN_NS : 0;
	kv->spin_now_ns[0] = kv->spin_now_ns[1] = kv->spin_ns;
	kv->cookie = 1; /* HELLO's */
}

/*
 * Connect and be welcomed. A kvmd that is killed meanwhile has a successor in
 * a moment: it knows nothing of us yet, so ask again, as long as there is time.
 */
static int reach(struct kv *kv, const char *path,
		 const struct kv_msg_hello *hello, u32 timeout_ms,
		 int fds[SYS_NR_FDS])
{
	u64 end = sys_now_ns() + (u64)timeout_ms * 1000000u;
	bool was_reset = false;
	int rc;

	for (;; was_reset = true) {
		rc = connect_to(path, timeout_ms, &kv->sock, attach_error);
		if (rc)
			return rc;
		KV_POINT(ATTACH_CONNECTED);
		rc = connect_hello(kv->sock, hello, timeout_ms, &kv->info, fds,
				   attach_error);
		if (rc == -ETIMEDOUT && was_reset)
			return err_set(attach_error, -ECONNRESET,
				       "kvmd closed the connection without an "
				       "answer");
		if (rc != -ECONNRESET || sys_now_ns() >= end)
			return rc;
		sys_close(kv->sock);
		kv->sock = -1;
	}
}

static int handshake(struct kv *kv, const struct kv_attach_opts *o)
{
	u32 timeout_ms = o->timeout_ms ? o->timeout_ms : 5000;
	struct kv_msg_hello hello;
	int fds[SYS_NR_FDS], rc, i;

	fill_hello(&hello, o);
	rc = reach(kv, o->socket, &hello, timeout_ms, fds);
	if (rc)
		return rc;
	KV_POINT(ATTACH_WELCOME);
	rc = check_welcome(&kv->info, fds);
	if (!rc) {
		rc = map_all(kv, fds);
		if (rc)
			err_set(attach_error, rc,
				"cannot map kvmd's %llu MiB device: %s",
				(unsigned long long)kv->info.device_bytes >> 20,
				strerror(-rc));
	}
	if (!rc) {
		kv->doorbell = fds[3];
		fds[3] = -1;
	}
	for (i = 0; i < SYS_NR_FDS; i++)
		sys_close(fds[i]);
	if (!rc && kv_load_acquire(&kv->table->magic) != KV_ABI_MAGIC)
		rc = err_set(attach_error, -EPROTO,
			     "kvmd's page table is not one");
	return rc;
}

int kv_attach(const struct kv_attach_opts *opts, struct kv **out)
{
	struct kv_attach_opts o;
	struct kv *kv;
	void *p;
	int rc;

	attach_error[0] = '\0';
	rc = read_opts(opts, &o);
	if (rc)
		return rc;
	rc = sys_map(NULL, sizeof(*kv), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, &p);
	if (rc)
		return err_set(attach_error, rc, "no memory for a client");
	kv = p;
	kv->sock = kv->doorbell = -1;
	kv->pid = sys_pid();
	kv->stop = o.stop;
	rc = handshake(kv, &o);
	if (rc) {
		kv_detach(kv);
		return rc;
	}
	begin(kv);
	KV_POINT(ATTACH_DONE);
	*out = kv;
	return 0;
}

void kv_detach(struct kv *kv)
{
	struct kv_msg bye = { .type = KV_MSG_BYE };

	if (!kv)
		return;
	/* a child leaves its parent's session alone */
	if (kv->sock >= 0 && kv->base && kv->pid == sys_pid())
		sys_send(kv->sock, &bye, sizeof(bye), NULL, 0);
	sys_unmap(kv->mirror,
		  sizeof(struct mirror) * KV_AREA_MAX * KV_SPACE_MAX);
	sys_unmap(kv->base, kv->info.device_bytes);
	sys_unmap(kv->status, sizeof(struct kv_status));
	sys_unmap(kv->table, KV_TABLE_SIZE_MAX);
	sys_unmap(kv->ring, KV_RING_SIZE);
	sys_close(kv->doorbell);
	sys_close(kv->sock);
	sys_unmap(kv, sizeof(*kv));
}
