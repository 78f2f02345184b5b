/* SPDX-License-Identifier: MIT */
#ifndef KVMD_GATE_TURNS_H
#define KVMD_GATE_TURNS_H
/*
 * turns.h - who computes next, where clients share processors
 *
 * Pure: it is told the time, makes no system call and knows clients by number.
 *
 *	OUT -> IDLE -> WAITS -> HAS -> IDLE -> OUT
 *
 *	OUT	does not take part
 *	IDLE	takes part, wants nothing
 *	WAITS	wants to compute
 *	HAS	may; also one that does not compute, as long as nobody waits
 *
 * Exclusive: of clients whose processors meet, one HAS the turn. Each is
 * charged the time in which it had it: its tenant by the tenant's weight (a
 * virtual time, stride scheduling), itself among the tenant's clients. Who was
 * charged least has the first claim. While nobody waits for what a client has,
 * time is not charged by the clock but by what the client says it computed.
 *
 * Work is done where it can be: a waiter with a later claim goes before one
 * with an earlier claim that is blocked elsewhere, until the latter leads by
 * TURNS_SLACK_NS; from then on nobody it would have to wait for gets anything.
 *
 * Who was away does not come back with the claims of all that time, and one
 * that had its processors for itself does not pay for that among others: at
 * each asking a claim is brought near those that it competes with
 * (TURNS_BEHIND_NS, TURNS_AHEAD_NS).
 *
 * A tenant has its share of all processors together: one that gets it on some
 * of them may have no claim on others for as long as that lasts, and so may its
 * client there. So who has waited for TURNS_STARVE_NS goes before all others,
 * whatever was charged; of several, who asked first.
 */
#include "include/kv/types.h"

#define TURNS_CLIENT_MAX 1024u
#define TURNS_TENANT_MAX 256u
#define TURNS_CPUS	 1024u
#define TURNS_CPU_WORDS	 (TURNS_CPUS / 64u)
#define TURNS_WEIGHT	 100u /* virtual time is time at this weight */

/* Of a client's own time; Documentation/internals/gate.rst says why so long. */
#define TURNS_QUANTUM_NS 4000000ull /* a turn lasts so long, if it is used */
#define TURNS_SLACK_NS	 50000000ull
#define TURNS_BEHIND_NS	 200000000ull
#define TURNS_AHEAD_NS	 1000000000ull
#define TURNS_STARVE_NS	 10000000000ull

enum turns_state { TURNS_OUT, TURNS_IDLE, TURNS_WAITS, TURNS_HAS };

struct turns_client {
	u8 state; /* enum turns_state */
	bool wanted; /* HAS: another waits for it */
	bool fresh; /* was never active */
	bool starved; /* WAITS: for TURNS_STARVE_NS */
	u16 at; /* place in act[] */
	u32 tenant;
	u64 cpus[TURNS_CPU_WORDS];
	u64 v; /* charged, in ns: its claim among its tenant's */
	u64 mark_ns, seen_ns; /* HAS: charged up to here; computed() then */
	u64 asked_ns, granted_ns;
	u64 until_ns; /* wanted: may be kept so long */
	/* counters */
	u64 nr, held_ns, waited_ns, nr_revoked;
};

struct turns_tenant {
	u32 weight, nr_clients;
	bool fresh;
	u64 v; /* virtual time */
};

/**
 * struct turns_ops - what the host is told
 * @computed: ns that a client says it has computed, in all
 * @grant: it has the turn
 * @want: it may keep it until @until_ns; 0: as long as it likes
 */
struct turns_ops {
	u64 (*computed)(void *host, u32 client);
	void (*grant)(void *host, u32 client);
	void (*want)(void *host, u32 client, u64 until_ns);
};

struct turns {
	const struct turns_ops *ops;
	void *host;
	u32 nr_act;
	u16 act[TURNS_CLIENT_MAX]; /* who WAITS or HAS */
	struct turns_client clients[TURNS_CLIENT_MAX];
	struct turns_tenant tenants[TURNS_TENANT_MAX];
};

void turns_init(struct turns *t, const struct turns_ops *ops, void *host);
/* turns_weight - from now on */
void turns_weight(struct turns *t, u32 tenant, u32 weight, u64 now_ns);
/* turns_join - OUT to IDLE */
void turns_join(struct turns *t, u32 client, u32 tenant);
/* turns_leave - any to OUT */
void turns_leave(struct turns *t, u32 client, u64 now_ns);
/* turns_cpus - on which it computes; false: it HAS what is now another's too */
bool turns_cpus(struct turns *t, u32 client, const u64 *cpus);
/* turns_ask - IDLE to WAITS */
void turns_ask(struct turns *t, u32 client, u64 now_ns);
/* turns_give - WAITS or HAS to IDLE */
void turns_give(struct turns *t, u32 client, u64 now_ns);
/* turns_keep - IDLE to HAS, if nobody has what it needs; 0 or -EBUSY */
int turns_keep(struct turns *t, u32 client, u64 now_ns);
/* turns_plan - grant what can be granted, say to holders who waits */
void turns_plan(struct turns *t, u64 now_ns);

/**
 * turns_check - what must hold after turns_plan()
 * @t: the whole
 *
 * Return: NULL, or what does not.
 */
const char *turns_check(const struct turns *t);

#endif
