/* SPDX-License-Identifier: MIT */
/* san: thread */
/* timeout: 400 */
/*
 * test_step_threads.c - both ends of the ring and of the step protocol as
 *			 threads of one process
 *
 * Three threads share one mapping of everything, so that ThreadSanitizer sees
 * each access under one address:
 *
 *	client	libkv itself, over a struct kv that was put together here
 *	stream	runs the steps one after the other, as a device does: copies,
 *		reads everything the step may read, writes, completes
 *	kvmd	the mm core: answers the ring, and moves frames all the time
 *
 * The client goes on while the stream is behind: it prepares the next step,
 * forks, truncates and destroys what the running step still uses. The stream
 * works with the tables as they were when its step was launched.
 */
#include "libkv/src/attach.c" /* white box: begin() */
#include "kvmd/mm/mm.h"
#include "selftests/harness.h"
#include "selftests/libkv/seq.h"
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define DEVICE_BYTES (64ull << 20)
#define NR_SEQS	     6u
#define QUEUE	     64u

/* ---- kvmd ---- */

struct daemon {
	struct kv *kv; /* whose mappings we share */
	struct mm *mm;
	u32 client;
	int sock;
	bool stop; /* atomic */
	u32 sq_head, cq_tail;
	u64 rand;
	u64 wait_for;
	u64 nr_moves, nr_tries, nr_sleeps;
	struct kv_copy copies[KV_RESV_MAX * KV_AREA_MAX];
};

static int grow_table(void *host, u32 client, u32 nr_leaves)
{
	return nr_leaves <= 4096 ? 0 : -ENOSPC;
}

static const struct mm_host_ops host_ops = { .table_grow = grow_table };

static void post(struct daemon *d, const struct kv_cqe *cqe)
{
	struct kv_cqe *cq = (void *)(d->kv->ring + KV_RING_CQ_OFF);

	cq[d->cq_tail & (KV_CQ_ENTRIES - 1)] = *cqe;
	kv_ring_publish(&d->kv->hdr->cq_tail, ++d->cq_tail);
	if (kv_ring_must_wake(&d->kv->hdr->cq_sleeping))
		syscall(SYS_futex, &d->kv->hdr->cq_sleeping.v, 1 /* WAKE */, 1,
			NULL, NULL, 0);
}

static u8 *arena(struct daemon *d, u32 off)
{
	return d->kv->ring + KV_RING_ARENA_OFF + off;
}

static void drain(struct daemon *d)
{
	struct mm_request r;

	while (mm_next_request(d->mm, &r)) {
		switch (r.type) {
		case MM_REQ_POPULATE:
			mm_populate_done(d->mm, r.extent, 0);
			break;
		case MM_REQ_SCRUB:
			memset(d->kv->base + ((u64)r.extent << KV_EXTENT_SHIFT),
			       0, KV_EXTENT_SIZE);
			mm_scrub_done(d->mm, r.extent, 0);
			break;
		case MM_REQ_COMPLETE:
			memcpy(arena(d, r.out_off),
			       r.copies ? (const void *)r.copies : r.holders,
			       r.cqe.out_len);
			r.cqe.extent_seq = 0;
			post(d, &r.cqe);
			break;
		default: /* one mapping for all: nothing to pass or take */
			break;
		}
	}
}

static int reserve_op(struct daemon *d, const struct kv_sqe *sqe,
		      struct kv_cqe *cqe)
{
	struct kv_resv_item items[KV_RESV_MAX];
	struct mm_resv r = { .step = sqe->step,
			     .user_data = sqe->user_data,
			     .items = items,
			     .nr_items = sqe->nr,
			     .flags = sqe->flags,
			     .out_off = sqe->out_off,
			     .out_room = sqe->out_len };
	u32 seq;
	int rc;

	memcpy(items, arena(d, sqe->arg_off), sqe->nr * sizeof(items[0]));
	rc = mm_reserve(d->mm, d->client, &r, d->copies, &seq, &cqe->extra);
	if (rc > 0) {
		cqe->out_len = (u32)rc * (u32)sizeof(struct kv_copy);
		memcpy(arena(d, sqe->out_off), d->copies, cqe->out_len);
	}
	return rc;
}

static void handle(struct daemon *d, const struct kv_sqe *sqe)
{
	struct kv_cqe cqe = { .user_data = sqe->user_data };
	struct kv_space_args args;

	switch (sqe->opcode) {
	case KV_OP_SPACE_CREATE:
		memcpy(&args, arena(d, sqe->arg_off), sizeof(args));
		cqe.res = mm_space_create(d->mm, d->client, &args);
		break;
	case KV_OP_SPACE_DESTROY:
		cqe.res = mm_space_destroy(d->mm, d->client, sqe->space);
		break;
	case KV_OP_SPACE_FORK:
		cqe.res = mm_space_fork(d->mm, d->client, sqe->space,
					sqe->arg[0]);
		break;
	case KV_OP_SPACE_TRUNCATE:
		cqe.res = mm_space_truncate(d->mm, d->client, sqe->space,
					    sqe->arg[0]);
		break;
	case KV_OP_RESERVE:
		cqe.res = reserve_op(d, sqe, &cqe);
		break;
	default:
		cqe.res = -EOPNOTSUPP;
	}
	if (cqe.res == -EINPROGRESS) {
		if (!cqe.extra)
			return;
		cqe.res = -EAGAIN;
		cqe.flags = KV_CQE_MORE;
	}
	post(d, &cqe);
}

static bool take_requests(struct daemon *d)
{
	struct kv_sqe *sq = (void *)(d->kv->ring + KV_RING_SQ_OFF), sqe;
	u32 tail = kv_ring_avail(&d->kv->hdr->sq_tail);
	bool any = d->sq_head != tail;

	while (d->sq_head != tail) {
		sqe = sq[d->sq_head & (KV_SQ_ENTRIES - 1)];
		kv_ring_release(&d->kv->hdr->sq_head, ++d->sq_head);
		handle(d, &sqe);
		drain(d);
	}
	return any;
}

static bool take_packets(struct daemon *d)
{
	struct {
		struct kv_msg msg;
		struct kv_msg_geom_add g;
	} p;

	if (recv(d->sock, &p, sizeof(p), MSG_DONTWAIT) != sizeof(p))
		return false;
	p.msg.status = mm_geom_add(d->mm, d->client, &p.g.geom, &p.g.id);
	p.msg.type |= KV_MSG_REPLY;
	return send(d->sock, &p, sizeof(p), MSG_NOSIGNAL) > 0;
}

static void copy_frame(void *ctx, u64 src, u64 dst, u64 bytes)
{
	struct daemon *d = ctx;

	memcpy(d->kv->base + dst, d->kv->base + src, bytes);
}

/* The frame of a random page of a random space goes somewhere else. */
static void move_something(struct daemon *d)
{
	u64 r = test_rand(&d->rand);
	u32 space = (u32)(r % NR_SEQS), area = (u32)(r >> 8) & 1;
	u32 page = (u32)(r >> 16) % 12;

	d->nr_tries++;
	if (!mm_move_page(d->mm, d->client, space, area, page, copy_frame, d))
		d->nr_moves++;
	drain(d);
}

static void *daemon_run(void *arg)
{
	struct daemon *d = arg;
	struct pollfd p = { .fd = d->kv->doorbell, .events = POLLIN };
	u64 idle = 0, n;

	while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE)) {
		if (take_requests(d) | take_packets(d))
			idle = 0;
		move_something(d);
		if (++idle % 64)
			continue;
		kv_ring_sleep(&d->kv->hdr->sq_sleeping);
		if (kv_ring_avail(&d->kv->hdr->sq_tail) == d->sq_head) {
			d->nr_sleeps++;
			if (poll(&p, 1, 1) == 1 &&
			    read(p.fd, &n, sizeof(n)) != sizeof(n))
				break;
		}
		kv_ring_awake(&d->kv->hdr->sq_sleeping);
	}
	return NULL;
}

/* ---- the stream ---- */

struct work {
	struct kv_step *st; /* NULL: a fork of the model only */
	u32 seq, child;
	u32 pos, n;
	u64 token;
	u32 table[2][SEQ_LEN_MAX / 16 + 1];
};

struct stream {
	struct seqs c; /* its own copy: tables of the launch */
	struct seq seq[NR_SEQS]; /* tokens as the device has them */
	struct work work[QUEUE];
	u32 head, tail; /* under the lock */
	bool stop;
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static void stream_do(struct stream *s, struct work *w)
{
	struct seq *q = &s->seq[w->seq];

	if (!w->st) {
		memcpy(s->seq[w->child].token, q->token, w->n * sizeof(u64));
		return;
	}
	s->c.table[0] = w->table[0];
	s->c.table[1] = w->table[1];
	kv_step_run_copies(s->c.kv, w->st);
	q->len = w->pos;
	seq_verify(&s->c, q, w->pos);
	seq_write(&s->c, q, w->pos, w->n, w->token);
	seq_verify(&s->c, q, w->pos + w->n);
	kv_step_complete(s->c.kv, w->st);
}

static void *stream_run(void *arg)
{
	struct stream *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->stop || s->head != s->tail) {
		if (s->head == s->tail) {
			pthread_cond_wait(&s->cond, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		stream_do(s, &s->work[s->head % QUEUE]);
		pthread_mutex_lock(&s->lock);
		s->head++;
		pthread_cond_broadcast(&s->cond);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static struct work *stream_slot(struct stream *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->tail - s->head == QUEUE)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return &s->work[s->tail % QUEUE];
}

static void stream_push(struct stream *s)
{
	pthread_mutex_lock(&s->lock);
	s->tail++;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* ---- the client ---- */

struct front {
	struct seqs c;
	struct seq seq[NR_SEQS]; /* len only: what the client has launched */
	struct kv_step *open[2];
	u32 nr_open;
	u64 token;
	u64 nr_steps, nr_forks;
};

static void commit_oldest(struct front *f)
{
	int rc;

	do {
		rc = kv_step_commit(f->c.kv, f->open[0]);
		if (rc == -EBUSY)
			sched_yield();
	} while (rc == -EBUSY);
	EXPECT_EQ(0, rc);
	f->open[0] = f->open[1];
	f->nr_open--;
}

static void launch(struct front *f, struct stream *s, u32 i, u32 n, u64 r)
{
	struct seq *q = &f->seq[i];
	struct kv_resv_item it = { .space = q->space,
				   .nr_tokens = n,
				   .pos = q->len };
	struct kv_step *st;
	struct work *w;
	int rc;
	u32 a;

	if (r & 1) {
		rc = kv_step_prefetch(f->c.kv, &it, 1);
		EXPECT_TRUE(!rc || rc == -EBUSY);
		if (r & 2 && n > 1)
			it.nr_tokens = --n; /* another step than foretold */
	}
	if (f->nr_open == 2)
		commit_oldest(f);
	rc = kv_step_prepare(f->c.kv, &it, 1, 0, 0, &st);
	if (rc) {
		EXPECT_EQ(-EAGAIN, rc);
		TH_LOG("%s", kv_error(f->c.kv));
		return;
	}
	if ((r & 0x7c) == 4) {
		kv_step_abandon(f->c.kv, st);
		return;
	}
	w = stream_slot(s);
	w->st = st;
	w->seq = i;
	w->pos = q->len;
	w->n = n;
	w->token = f->token;
	for (a = 0; a < 2; a++)
		memcpy(w->table[a], kv_space_table(f->c.kv, q->space, a),
		       sizeof(w->table[a]));
	stream_push(s);
	f->token += n;
	q->len += n;
	f->open[f->nr_open++] = st;
	f->nr_steps++;
}

static void do_fork(struct front *f, struct stream *s, u32 from, u32 to)
{
	struct work *w;

	if (kv_space_fork(f->c.kv, f->seq[from].space, f->seq[from].len,
			  &f->seq[to].space))
		return;
	f->seq[to].live = true;
	f->seq[to].len = f->seq[from].len;
	w = stream_slot(s);
	w->st = NULL;
	w->seq = from;
	w->child = to;
	w->n = f->seq[from].len;
	stream_push(s);
	f->nr_forks++;
}

static void one_round(struct front *f, struct stream *s, u64 *rand)
{
	u64 r = test_rand(rand);
	u32 i = (u32)(r >> 8) % NR_SEQS, j = (u32)(r >> 16) % NR_SEQS;
	struct seq *q = &f->seq[i];

	if (!q->live) {
		EXPECT_EQ(0, seq_create(&f->c, q));
		return;
	}
	switch (r % 16) {
	case 0:
		seq_destroy(&f->c, q);
		break;
	case 1:
		if (!kv_space_truncate(f->c.kv, q->space,
				       q->len - min(q->len, 5u)))
			q->len -= min(q->len, 5u);
		break;
	case 2:
	case 3:
		if (i != j) {
			seq_destroy(&f->c, &f->seq[j]);
			do_fork(f, s, i, j);
		}
		break;
	default:
		if (q->len + 20 >= SEQ_LEN_MAX || q->len > 180)
			seq_destroy(&f->c, q);
		else
			launch(f, s, i, 1 + (u32)(r >> 24) % 20, r >> 32);
	}
}

/* ---- putting it together ---- */

static void *memory(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	return p;
}

static struct kv *make_client(int sock)
{
	struct kv *kv = memory(sizeof(*kv), PROT_READ | PROT_WRITE);

	kv->sock = sock;
	kv->doorbell = eventfd(0, EFD_NONBLOCK);
	kv->ring = memory(KV_RING_SIZE, PROT_READ | PROT_WRITE);
	kv->hdr = (void *)kv->ring;
	kv->table = memory(KV_TABLE_SIZE_MAX, PROT_READ | PROT_WRITE);
	kv->status = memory(sizeof(struct kv_status), PROT_READ | PROT_WRITE);
	kv->base = memory(DEVICE_BYTES, PROT_READ | PROT_WRITE);
	kv->mirror = memory(sizeof(struct mirror) * KV_AREA_MAX * KV_SPACE_MAX,
			    PROT_NONE);
	kv->info.device_bytes = DEVICE_BYTES;
	snprintf(kv->info.device_name, sizeof(kv->info.device_name), "cpu:0");
	return kv;
}

static void make_core(struct daemon *d)
{
	struct mm_config cfg = { .device_bytes = DEVICE_BYTES,
				 .ready_extents = 1,
				 .seed = 1 };
	struct mm_attach at = { .table = d->kv->table,
				.status = d->kv->status,
				.name = "threads" };

	ASSERT_EQ(0, mm_create(&cfg,
			       memory(mm_state_bytes(&cfg),
				      PROT_READ | PROT_WRITE),
			       &host_ops, d, &d->mm));
	drain(d);
	ASSERT_EQ(0, mm_tenant_get(d->mm, "t", &at.tenant));
	ASSERT_EQ(0, mm_client_attach(d->mm, &at, &d->client));
	drain(d);
}

/* Both threads, and nothing in between: @d runs, @c is attached. */
static void start(struct daemon *d, struct seqs *c, pthread_t *t, u64 seed)
{
	int pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	d->kv = make_client(pair[0]);
	d->sock = pair[1];
	d->rand = seed;
	make_core(d);
	begin(d->kv);
	ASSERT_EQ(0, pthread_create(t, NULL, daemon_run, d));
	ASSERT_EQ(0, seqs_begin(c, d->kv));
}

static void stop(struct daemon *d, pthread_t t)
{
	__atomic_store_n(&d->stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	EXPECT_EQ(0, mm_check(d->mm, NULL, NULL));
}

TEST(step, is_stale_when_the_epoch_moved_under_it)
{
	static struct daemon d;
	static struct seqs c;
	static struct seq s;
	struct kv_resv_item it = { .nr_tokens = 4 };
	struct kv_step *st;
	pthread_t t;
	u32 add = 4;

	start(&d, &c, &t, 1);
	ASSERT_EQ(0, seq_create(&c, &s));
	ASSERT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add, 1, 1, 0, 0));
	it.space = s.space;
	it.pos = 4;
	ASSERT_EQ(0, kv_step_prepare(c.kv, &it, 1, 0, 0, &st));
	kv_step_complete(c.kv, st);
	__atomic_fetch_add(&d.kv->table->epoch, 1, __ATOMIC_SEQ_CST);
	EXPECT_EQ(-ESTALE, kv_step_commit(c.kv, st));
	TH_LOG("%s", kv_error(c.kv));
	EXPECT_EQ(4, kv_space_len(c.kv, s.space));
	EXPECT_EQ(4, d.kv->status->space[s.space].len);
	EXPECT_EQ(1, d.kv->nr.stale);
	/* the next step knows the new epoch */
	EXPECT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add, 1, 9, 0, 0));
	EXPECT_EQ(8, kv_space_len(c.kv, s.space));
	EXPECT_EQ(0, c.faults);
	/* the core did not move it */
	__atomic_fetch_sub(&d.kv->table->epoch, 1, __ATOMIC_SEQ_CST);
	stop(&d, t);
}

static void *release_hold(void *arg)
{
	struct daemon *d = arg;

	usleep(20000);
	kv_store_release(&d->kv->table->hold_step, ~0ull);
	return NULL;
}

TEST(step, waits_while_kvmd_holds)
{
	static struct daemon d;
	static struct seqs c;
	static struct seq s;
	struct kv_resv_item it = { .nr_tokens = 1 };
	struct kv_step *st;
	pthread_t t, t2;
	u32 add = 4;
	double t0;

	start(&d, &c, &t, 1);
	ASSERT_EQ(0, seq_create(&c, &s));
	ASSERT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add, 1, 1, 0, 0));
	kv_store_release(&d.kv->table->hold_step, d.kv->issued);
	t0 = th_now();
	ASSERT_EQ(0, pthread_create(&t2, NULL, release_hold, &d));
	ASSERT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add, 1, 5, 0, 0));
	EXPECT_GE(th_now() - t0, 0.015);
	pthread_join(t2, NULL);
	/* with a step under way waiting would never end */
	it.space = s.space;
	it.pos = 8;
	ASSERT_EQ(0, kv_step_prepare(c.kv, &it, 1, 0, 0, &st));
	kv_store_release(&d.kv->table->hold_step, d.kv->issued);
	it.pos++;
	EXPECT_EQ(-EBUSY, kv_step_prepare(c.kv, &it, 1, 0, 0, &st));
	TH_LOG("%s", kv_error(c.kv));
	kv_store_release(&d.kv->table->hold_step, ~0ull);
	stop(&d, t);
}

/* As kvmd does: until no step up to @wait_for can be running. */
static void *release_when_idle(void *arg)
{
	struct daemon *d = arg;
	u32 i;

	for (i = 0; i < 5000; i++) {
		if (kv_load_acquire(&d->kv->status->rank[0].completed) >=
		    d->wait_for)
			break;
		usleep(1000);
	}
	kv_store_release(&d->kv->table->hold_step, ~0ull);
	return (void *)(uintptr_t)(i == 5000);
}

TEST(step, gives_up_what_it_asked_for_ahead_when_kvmd_holds)
{
	static struct daemon d;
	static struct seqs c;
	static struct seq s;
	struct kv_resv_item it = { .nr_tokens = 200, .pos = 4 };
	u32 add = 4, round;
	pthread_t t, t2;
	void *late;

	start(&d, &c, &t, 1);
	ASSERT_EQ(0, seq_create(&c, &s));
	ASSERT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add, 1, 1, 0, 0));
	it.space = s.space;
	for (round = 0; round < 2; round++) {
		ASSERT_EQ(0, kv_step_prefetch(c.kv, &it, 1));
		d.wait_for = d.kv->issued;
		kv_store_release(&d.kv->table->hold_step, 0);
		ASSERT_EQ(0, pthread_create(&t2, NULL, release_when_idle, &d));
		if (round) /* by hand: nothing is asked for ahead any more */
			ASSERT_EQ(0, kv_step_prefetch(c.kv, NULL, 0));
		else
			ASSERT_EQ(0, seq_step(&c, &(struct seq *){ &s }, &add,
					      1, 5, 0, 0));
		pthread_join(t2, &late);
		EXPECT_FALSE(late);
		it.pos = s.len;
		it.nr_tokens = 400;
	}
	EXPECT_EQ(0, c.faults);
	stop(&d, t);
}

TEST(step, reads_exactly_its_content_while_kvmd_moves_frames)
{
	static struct daemon d;
	static struct stream s = { .lock = PTHREAD_MUTEX_INITIALIZER,
				   .cond = PTHREAD_COND_INITIALIZER };
	static struct front f;
	pthread_t td, ts;
	u64 rand = test_seed(), i, rounds = 60000;

#ifdef __SANITIZE_THREAD__
	rounds = 6000;
#endif
	if (getenv("KV_LONG"))
		rounds *= 20;
	start(&d, &f.c, &td, rand ^ 1);
	s.c = f.c;
	f.token = 1;
	ASSERT_EQ(0, pthread_create(&ts, NULL, stream_run, &s));
	for (i = 0; i < rounds; i++)
		one_round(&f, &s, &rand);
	pthread_mutex_lock(&s.lock);
	s.stop = true;
	pthread_cond_broadcast(&s.cond);
	pthread_mutex_unlock(&s.lock);
	pthread_join(ts, NULL);
	while (f.nr_open)
		commit_oldest(&f);
	stop(&d, td);
	TH_LOG("%llu steps, %llu forks, %llu moves of %llu tried, %llu rows, "
	       "%llu quiet steps, kvmd slept %llu times",
	       (unsigned long long)f.nr_steps, (unsigned long long)f.nr_forks,
	       (unsigned long long)d.nr_moves, (unsigned long long)d.nr_tries,
	       (unsigned long long)s.c.checked,
	       (unsigned long long)d.kv->nr.steps_quiet,
	       (unsigned long long)d.nr_sleeps);
	EXPECT_EQ(0, s.c.faults);
	EXPECT_GT(d.nr_moves, 100);
	EXPECT_GT(f.nr_forks, 100);
	EXPECT_GT(d.kv->nr.steps_quiet, 100);
	EXPECT_EQ(0, d.kv->nr.stray_completions);
	EXPECT_EQ(0, d.kv->nr.forgotten_errors);
}

TEST_HARNESS_MAIN
