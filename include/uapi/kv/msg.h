/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_MSG_H
#define UAPI_KV_MSG_H
/*
 * msg.h - messages on kvmd's AF_UNIX SOCK_SEQPACKET socket
 *
 * A packet is struct kv_msg followed by the body its type names. A reply has
 * the request's cookie and type | KV_MSG_REPLY. An error reply has status < 0
 * and as its body one sentence, zero-terminated, that names the object.
 * Descriptors travel as SCM_RIGHTS beside the packet. WELCOME is the reply to
 * HELLO, of type KV_MSG_HELLO | KV_MSG_REPLY.
 *
 *	client				kvmd
 *	HELLO			->
 *			<-	WELCOME (fds: ring, table, status, doorbell)
 *	GEOM_ADD		->	GEOM_ADD|REPLY
 *	WEIGHTS_OPEN		->	reply (fd: the mapping), see below
 *	WEIGHTS_SEAL		->	reply
 *			<-	EXTENT (fd), unasked, before the completion
 *				that needs it
 *
 * A client has one message answered at a time: the next one is read when the
 * reply to this one has left.
 *
 * Who breaks the rules hears BYE|REPLY, unasked, with a sentence that says how,
 * before the connection is closed.
 *
 * A connection whose HELLO says KV_HELLO_CTL has no rings: it sends CTL
 * requests, text in, a memfd with JSON out.
 */
#include "abi.h"
#include "geometry.h"

#define KV_MSG_MAX   4096u /* bytes of a packet */
#define KV_MSG_REPLY 0x8000u

enum kv_msg_type {
	KV_MSG_HELLO = 1,
	KV_MSG_GEOM_ADD = 2,
	KV_MSG_WEIGHTS_OPEN = 3,
	KV_MSG_WEIGHTS_SEAL = 4,
	KV_MSG_WEIGHTS_CLOSE = 5,
	KV_MSG_EXTENT = 6,
	KV_MSG_CTL = 7,
	KV_MSG_BYE = 8,
	KV_MSG_RESUME = 9,
};

struct kv_msg {
	uint32_t type; /* enum kv_msg_type, | KV_MSG_REPLY */
	int32_t status; /* 0, or -errno in a reply */
	uint64_t cookie;
};
KV_ABI_SIZE(struct kv_msg, 16);

#define KV_HELLO_CTL (1u << 0) /* inspection only */
#define KV_HELLO_ADMIN                                        \
	(1u << 1) /* may change things; needs kvmd's uid or 0 \
		   */

struct kv_msg_hello {
	uint32_t magic;
	uint16_t major, minor;
	uint64_t features;
	uint32_t flags; /* KV_HELLO_* */
	uint32_t device; /* device number, 0 = the first */
	uint64_t steps_from; /* first step number minus one, normally 0 */
	struct kv_rank rank;
	struct kv_namespace ns; /* model this client runs */
	char name[KV_NAME_LEN]; /* shown by kvctl, printable */
};
KV_ABI_SIZE(struct kv_msg_hello, 136);

struct kv_msg_welcome {
	uint32_t magic;
	uint16_t major, minor;
	uint64_t features; /* those that both sides know */
	uint32_t client; /* index of this client */
	uint32_t tenant;
	uint32_t device;
	uint32_t nr_fds; /* 4: ring, table, status, doorbell */
	uint64_t device_bytes; /* size of the offset space to reserve */
	uint64_t limit_bytes; /* the tenant's hard limit */
	uint64_t ring_bytes, table_bytes, status_bytes;
	uint32_t extent_bytes, chunk_bytes;
	char device_name[KV_NAME_LEN]; /* "cpu:0" */
	char tenant_name[KV_NAME_LEN];
	char version[KV_NAME_LEN];
};
KV_ABI_SIZE(struct kv_msg_welcome, 176);

struct kv_msg_geom_add {
	struct kv_geometry geom; /* out: with kvmd's fields */
	uint32_t id; /* out: index */
	uint32_t reserved; /* 0 */
};
KV_ABI_SIZE(struct kv_msg_geom_add, 64);

/*
 * Weights: one mapping per (digest, packing, isa) and tenant. The reply's
 * state says what to do with the descriptor that comes beside it:
 *	READY	map it read-only
 *	FILL	writable: write all of it, unmap, close, send WEIGHTS_SEAL
 * While another client fills it, the reply waits. If that client dies, the
 * next waiter is told to fill. The reply to SEAL says READY and carries the
 * read-only descriptor. CLOSE instead of SEAL: the filler gave up.
 */
struct kv_msg_weights {
	uint8_t digest[32];
	uint32_t packing; /* layout version */
	uint32_t isa; /* ISA class of the packing, 0 = any */
	uint64_t bytes; /* of the mapping */
	uint32_t state; /* out: enum kv_weights_state */
	uint32_t id; /* out; in for SEAL and CLOSE */
	char name[KV_NAME_LEN];
};
KV_ABI_SIZE(struct kv_msg_weights, 88);

enum kv_weights_state {
	KV_WEIGHTS_READY = 1,
	KV_WEIGHTS_FILL = 2,
};

/* An extent of this client: map the descriptor at base + index << 23. */
struct kv_msg_extent {
	uint32_t extent; /* index in the device's offset space */
	uint32_t seq; /* of the grant: 1, 2, 3 ... per client */
	uint32_t flags; /* KV_EXTENT_* */
	uint32_t reserved;
};
KV_ABI_SIZE(struct kv_msg_extent, 16);

/*
 * RESUME, unasked, with KV_FEAT_RESUME: kvmd was killed or replaced, and its
 * successor serves the same socket and the same shared memory. Grants are
 * numbered from @seq + 1 on; the first @nr of them are all extents that the
 * client has, and until they have come no other number means anything. A
 * request that had no answer is answered, or was not done and is issued.
 */
struct kv_msg_resume {
	uint32_t seq;
	uint32_t nr;
};
KV_ABI_SIZE(struct kv_msg_resume, 8);

#define KV_EXTENT_GONE	 (1u << 0) /* taken back: unmap it (no descriptor) */
#define KV_EXTENT_SHARED (1u << 1) /* of the tenant's page cache: read-only */
#define KV_EXTENT_AGAIN	 (1u << 2) /* behind RESUME: it had this one before */

/*
 * CTL: body is a request line, "OBJECT VERB [ARGS]"; the reply carries a
 * memfd with one JSON object (Documentation/abi/ctl) and this body.
 */
struct kv_msg_ctl {
	uint64_t bytes; /* of JSON */
};
KV_ABI_SIZE(struct kv_msg_ctl, 8);

#endif
