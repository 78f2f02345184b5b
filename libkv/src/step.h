/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_STEP_H
#define LIBKV_STEP_H
/*
 * step.h - a step's reservation: reserve.c for step.c
 */
#include "libkv/src/client.h"

/* reserve_post - hand the reservation of @st over, as request @id */
int reserve_post(struct kv *kv, enum req_id id, const struct kv_step *st,
		 unsigned int flags);
/**
 * reserve_result - take the final answer of request @id
 * @kv: handle
 * @id: done
 * @st: gets the copies to run
 *
 * Receives the extents that the answer needs.
 * Return: 0 granted, else why not; kv_error() then has the sentence.
 */
int reserve_result(struct kv *kv, enum req_id id, struct kv_step *st);
/**
 * reserve_step - post, wait, take the answer
 * @kv: handle
 * @st: gets the copies to run
 * @flags: KV_STEP_WAIT: wait for memory,
 * @end_ns: until then; ~0: for ever
 * @timeout_ms: how long that was, for the sentence
 */
int reserve_step(struct kv *kv, struct kv_step *st, unsigned int flags,
		 u64 end_ns, int timeout_ms);

#endif
