/* SPDX-License-Identifier: MIT */
/*
 * test_ctl.c - what the control interface says, and to whom
 */
#include <grp.h>
#include <jansson.h>
#include "selftests/kvmd/ipc/raw.h"
#include <kv.h>

FIXTURE(ctl)
{
	struct test_kvmd d;
	struct raw r;
	uint32_t space, child;
};

FIXTURE_SETUP(ctl)
{
	struct kv_cqe cqe;

	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--drain", "20", "--limit", "team=16M",
				     NULL));
	raw_attach(&self->r, self->d.socket);
	self->space = (uint32_t)raw_space(&self->r, raw_geom(&self->r), 0);
	EXPECT_EQ(0, raw_reserve(&self->r, self->space, 0, 40).res);
	raw_commit(&self->r, self->space, 40);
	cqe = raw_call(&self->r, (struct kv_sqe){ .opcode = KV_OP_SPACE_FORK,
						  .space = self->space,
						  .arg = { 40 } });
	ASSERT_GE(cqe.res, 0);
	self->child = (uint32_t)cqe.res;
	kv_store_release(&self->r.status->space[self->child].len, 40ull);
}

FIXTURE_TEARDOWN(ctl)
{
	if (self->d.pid)
		EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* Ask, parse, and look whether it is what Documentation/abi/ctl.rst says. */
static json_t *ask(struct ctl_self *self, const char *request)
{
	char *text = test_kvmd_ctl(&self->d, request);
	json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL)
			 : NULL;
	char object[32];

	if (!EXPECT_TRUE(o))
		TH_LOG("%s: %s", request, text ? text : "no answer");
	ASSERT_TRUE(o);
	EXPECT_TRUE(!strncmp(text, "{\"schema\":\"kvctl/1\",\"object\":", 29));
	snprintf(object, sizeof(object), "%.*s", (int)strcspn(request, " "),
		 request);
	EXPECT_STREQ(json_string_value(json_object_get(o, "object")), object);
	free(text);
	return o;
}

static long long num(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);

	if (!EXPECT_TRUE(json_is_integer(v)))
		TH_LOG("no number %s", key);
	return json_integer_value(v);
}

static int refused(struct ctl_self *self, unsigned int flags, const char *line,
		   const char *word)
{
	char *text = NULL;
	int rc = kv_ctl(self->d.socket, flags, line, &text);

	if (!EXPECT_TRUE(text && strstr(text, word)))
		TH_LOG("%s: %s", line, text ? text : "-");
	free(text);
	return rc;
}

TEST_F(ctl, status_counts_what_is_there)
{
	json_t *o = ask(self, "status"), *dev;

	EXPECT_EQ(num(o, "clients"), 1);
	EXPECT_EQ(num(o, "spaces"), 2);
	EXPECT_EQ(num(o, "tenants"), 2);
	EXPECT_EQ(num(o, "pid"), self->d.pid);
	EXPECT_STREQ(json_string_value(json_object_get(o, "state")), "ok");
	EXPECT_STREQ(json_string_value(json_object_get(o, "health")), "OK");
	dev = json_array_get(json_object_get(o, "devices"), 0);
	EXPECT_EQ(num(dev, "total_bytes"), 64 << 20);
	EXPECT_EQ(num(dev, "held_bytes"), 8 << 20);
	EXPECT_EQ(num(dev, "frame_bytes"), 3 * 8192);
	EXPECT_EQ(num(dev, "saved_bytes"), 3 * 8192);
	json_decref(o);
}

TEST_F(ctl, spaces_share_and_say_so)
{
	json_t *o = ask(self, "space list"), *s;
	char line[64];

	EXPECT_EQ(json_array_size(json_object_get(o, "spaces")), 2);
	s = json_array_get(json_object_get(o, "spaces"), 1);
	EXPECT_EQ(num(s, "parent"), self->space);
	EXPECT_EQ(num(s, "pages"), 3);
	EXPECT_EQ(num(s, "pages_shared"), 3);
	EXPECT_EQ(num(s, "rss_bytes"), 3 * 8192);
	EXPECT_EQ(num(s, "pss_bytes"), 3 * 8192 / 2);
	EXPECT_EQ(num(s, "uss_bytes"), 0);
	json_decref(o);
	snprintf(line, sizeof(line), "space show 0:%u", self->child);
	o = ask(self, line);
	s = json_object_get(o, "space");
	EXPECT_EQ(num(json_array_get(json_object_get(s, "area"), 0), "pages"),
		  3);
	json_decref(o);
}

TEST_F(ctl, a_dump_is_the_page_table)
{
	char line[64];
	json_t *o, *p;
	size_t i;

	snprintf(line, sizeof(line), "space dump 0:%u", self->space);
	o = ask(self, line);
	EXPECT_EQ(json_array_size(json_object_get(o, "pages")), 3);
	json_array_foreach(json_object_get(o, "pages"), i, p)
	{
		EXPECT_EQ(num(p, "page"), i);
		EXPECT_EQ(num(p, "entry"),
			  kv_pte_frame(
				  raw_pte(&self->r, self->space, (uint32_t)i)));
		EXPECT_EQ(num(p, "offset_bytes"), num(p, "entry") * 8192);
		EXPECT_STREQ(json_string_value(json_object_get(p, "flags")),
			     "prs");
	}
	json_decref(o);
}

TEST_F(ctl, who_finds_every_mapper)
{
	uint32_t entry = kv_pte_frame(raw_pte(&self->r, self->space, 1));
	char line[64];
	json_t *o;

	snprintf(line, sizeof(line), "who 0:0:%u", entry);
	o = ask(self, line);
	EXPECT_EQ(num(o, "client"), 0);
	EXPECT_EQ(num(o, "pid"), getpid());
	EXPECT_EQ(json_array_size(json_object_get(o, "pages")), 2);
	json_decref(o);
	snprintf(line, sizeof(line), "who %llu",
		 (unsigned long long)entry * 8192 + 5);
	o = ask(self, line);
	EXPECT_EQ(json_array_size(json_object_get(o, "pages")), 2);
	json_decref(o);
	o = ask(self, "who 56M");
	EXPECT_TRUE(json_is_null(json_object_get(o, "client")));
	json_decref(o);
}

/* All members differ, the numbers have their highest bit. */
static struct kv_namespace odd_ns(uint8_t first)
{
	struct kv_namespace ns = { .adapter = 0xa0a1a2a3a4a5a6a7 + first,
				   .adapter_version =
					   0xb0b1b2b3b4b5b6b7 + first,
				   .salt = 0xc0c1c2c3c4c5c6c7 + first };
	unsigned int i;

	for (i = 0; i < sizeof(ns.model_digest); i++)
		ns.model_digest[i] = (uint8_t)(first + 7 * i);
	return ns;
}

static void expect_hex(json_t *o, const char *key, uint64_t want)
{
	char text[17];

	snprintf(text, sizeof(text), "%llx", (unsigned long long)want);
	EXPECT_STREQ(text, json_string_value(json_object_get(o, key)));
}

static void expect_ns(json_t *o, const struct kv_namespace *ns)
{
	json_t *n = json_object_get(o, "ns");
	char text[65];
	unsigned int i;

	for (i = 0; i < sizeof(ns->model_digest); i++)
		snprintf(text + 2 * i, 3, "%02x", ns->model_digest[i]);
	EXPECT_STREQ(text, json_string_value(json_object_get(n, "model")));
	expect_hex(n, "adapter", ns->adapter);
	expect_hex(n, "adapter_version", ns->adapter_version);
	expect_hex(n, "salt", ns->salt);
}

static void expect_rank(json_t *o, const struct kv_rank *rank)
{
	json_t *r = json_object_get(o, "rank");

	EXPECT_EQ(num(r, "tp_rank"), rank->tp_rank);
	EXPECT_EQ(num(r, "tp_size"), rank->tp_size);
	EXPECT_EQ(num(r, "pp_rank"), rank->pp_rank);
	EXPECT_EQ(num(r, "pp_size"), rank->pp_size);
	EXPECT_EQ(num(r, "layer_first"), rank->layer_first);
	EXPECT_EQ(num(r, "layers"), rank->nr_layers);
	EXPECT_EQ(num(r, "head_first"), rank->head_first);
	EXPECT_EQ(num(r, "heads"), rank->nr_heads);
}

/* What the descriptor and "space show" say. */
static void expect_space(struct ctl_self *self, const struct raw *r, int space,
			 const struct kv_namespace *ns,
			 const struct kv_rank *rank)
{
	char line[64];
	json_t *o, *s;

	ASSERT_GE(space, 0);
	EXPECT_EQ(0, memcmp(ns, &kv_table_space(r->table, (uint32_t)space)->ns,
			    sizeof(*ns)));
	snprintf(line, sizeof(line), "space show %u:%d", r->table->client,
		 space);
	o = ask(self, line);
	s = json_object_get(o, "space");
	expect_ns(s, ns);
	expect_rank(s, rank);
	json_decref(o);
}

TEST_F(ctl, namespace_and_rank_come_back)
{
	struct kv_msg_hello h = raw_hello(0);
	const struct kv_namespace ns = odd_ns(91);
	struct kv_sqe create = { .opcode = KV_OP_SPACE_CREATE };
	struct kv_sqe fork = { .opcode = KV_OP_SPACE_FORK };
	struct kv_space_args *a;
	struct raw r;
	char line[64];
	int space;
	json_t *o;

	h.ns = odd_ns(3);
	h.rank = (struct kv_rank){ .tp_rank = 1,
				   .tp_size = 2,
				   .pp_rank = 3,
				   .pp_size = 4,
				   .layer_first = 39,
				   .nr_layers = 13,
				   .head_first = 8,
				   .nr_heads = 65535 };
	raw_attach_as(&r, self->d.socket, &h);
	a = raw_arena(&r, 0);
	*a = (struct kv_space_args){ .nr_areas = 1, .ns = ns };
	a->area[0].geom = raw_geom(&r);
	space = raw_call(&r, create).res;
	expect_space(self, &r, space, &ns, &h.rank);
	fork.space = (uint32_t)space;
	expect_space(self, &r, raw_call(&r, fork).res, &ns, &h.rank);

	snprintf(line, sizeof(line), "client show %u", r.table->client);
	o = ask(self, line);
	expect_ns(json_object_get(o, "client"), &h.ns);
	expect_rank(json_object_get(o, "client"), &h.rank);
	json_decref(o);
	raw_detach(&r);
}

TEST_F(ctl, a_bare_client_has_none)
{
	json_t *o = ask(self, "space show 0:0"), *ns, *v;
	const char *key;

	ns = json_object_get(json_object_get(o, "space"), "ns");
	EXPECT_EQ(json_object_size(ns), 4);
	json_object_foreach(ns, key, v)
	{
		EXPECT_STREQ(json_string_value(v), "");
	}
	expect_rank(json_object_get(o, "space"), &(struct kv_rank){ 0 });
	json_decref(o);
}

TEST_F(ctl, every_request_of_the_page_is_answered)
{
	static const char *const lines[] = {
		"health",	 "meminfo",	  "vmstat",
		"device list",	 "device show 0", "client list",
		"client show 0", "tenant list",	  "tenant show team",
		"space list 0",	 "weights list",  "events list",
		"events list 1", "config show",	  "check"
	};
	unsigned int i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		json_decref(ask(self, lines[i]));
}

/* The row of @rows whose @key is @name; NULL: null. */
static json_t *row_of(json_t *rows, const char *key, const char *name)
{
	const char *is;
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		is = json_string_value(json_object_get(row, key));
		if (name ? is && !strcmp(is, name) : !is)
			return row;
	}
	return NULL;
}

TEST_F(ctl, pressure_is_there_while_a_reservation_waits)
{
	json_t *o, *row, *all;
	char name[32], line[64];
	struct kv_cqe cqe;
	uint32_t waiting;

	snprintf(name, sizeof(name), "uid:%u", getuid());
	snprintf(line, sizeof(line), "tenant limit %s max=16M", name);
	json_decref(ask(self, line));
	waiting = (uint32_t)raw_space(&self->r, 0, 0);
	EXPECT_GE(raw_reserve(&self->r, self->space, 40, 30000).res, 0);
	*(struct kv_resv_item *)raw_arena(&self->r, 0) =
		(struct kv_resv_item){ .space = waiting, .nr_tokens = 9000 };
	raw_push(&self->r, &(struct kv_sqe){ .opcode = KV_OP_RESERVE,
					     .flags = KV_SQE_WAIT,
					     .nr = 1,
					     .step = ++self->r.step,
					     .out_off = RAW_OUT_OFF,
					     .out_len = 1024 });
	ASSERT_TRUE(raw_pop(&self->r, &cqe, RAW_WAIT_MS));
	ASSERT_EQ(cqe.flags, KV_CQE_MORE);
	usleep(30000);
	o = ask(self, "pressure");
	all = row_of(json_object_get(o, "pressure"), "tenant", NULL);
	row = row_of(json_object_get(o, "pressure"), "tenant", name);
	ASSERT_TRUE(all && row);
	EXPECT_EQ(num(row, "waiting"), 1);
	EXPECT_EQ(num(row, "working"), 1); /* its steps have not ended */
	EXPECT_GE(num(json_object_get(row, "some"), "total_us"), 30000);
	EXPECT_LE(num(json_object_get(row, "full"), "total_us"),
		  num(json_object_get(row, "some"), "total_us"));
	EXPECT_LE(num(json_object_get(row, "some"), "total_us"),
		  num(json_object_get(all, "some"), "total_us"));
	EXPECT_LE(num(json_object_get(all, "some"), "avg10"), 10000);
	/* tenants without a client are listed too */
	EXPECT_TRUE(row_of(json_object_get(o, "pressure"), "tenant", "team"));
	json_decref(o);
}

TEST_F(ctl, what_was_not_to_be_had_is_reported)
{
	json_t *o = ask(self, "oom"), *r, *t;
	char name[32], line[64];

	EXPECT_EQ(json_array_size(json_object_get(o, "reports")), 0);
	EXPECT_EQ(num(o, "next"), 1);
	json_decref(o);
	snprintf(name, sizeof(name), "uid:%u", getuid());
	snprintf(line, sizeof(line), "tenant limit %s max=8M high=8M", name);
	json_decref(ask(self, line));
	EXPECT_EQ(-E2BIG, raw_reserve(&self->r, self->space, 40, 33000).res);
	o = ask(self, "oom 1");
	ASSERT_EQ(json_array_size(json_object_get(o, "reports")), 1);
	r = json_array_get(json_object_get(o, "reports"), 0);
	EXPECT_EQ(num(r, "seq"), 1);
	EXPECT_STREQ(json_string_value(json_object_get(r, "cause")), "too_big");
	EXPECT_STREQ(json_string_value(json_object_get(r, "why")),
		     "tenant_max");
	EXPECT_STREQ(json_string_value(json_object_get(r, "tenant")), name);
	EXPECT_GE(num(r, "lacked_bytes"), 8 << 20);
	t = row_of(json_object_get(r, "tenants"), "tenant", name);
	ASSERT_TRUE(t);
	EXPECT_EQ(num(t, "max_bytes"), 8 << 20);
	EXPECT_EQ(num(t, "high_bytes"), 8 << 20);
	EXPECT_EQ(num(t, "held_bytes"), 8 << 20);
	EXPECT_EQ(json_array_size(json_object_get(r, "clients")), 1);
	EXPECT_EQ(json_array_size(json_object_get(r, "spaces")), 2);
	json_decref(o);
	snprintf(line, sizeof(line), "tenant show %s", name);
	o = ask(self, line);
	t = json_object_get(json_object_get(o, "tenant"), "events");
	EXPECT_EQ(num(t, "oom"), 1);
	EXPECT_EQ(num(t, "oom_kill"), 0);
	json_decref(o);
	o = ask(self, "events list");
	t = row_of(json_object_get(o, "events"), "event", "oom");
	ASSERT_TRUE(t);
	EXPECT_STREQ(json_string_value(json_object_get(t, "tenant")), name);
	json_decref(o);
}

TEST_F(ctl, limits_hold_and_are_told)
{
	json_t *o = ask(self, "tenant show team"), *t;
	uint32_t head = 0;
	struct kv_event *ev = (void *)(self->r.ring + KV_RING_EQ_OFF);
	char line[96];

	t = json_object_get(o, "tenant");
	EXPECT_EQ(num(t, "max_bytes"), 16 << 20);
	json_decref(o);
	snprintf(line, sizeof(line), "tenant limit uid:%u max=8M weight=200",
		 getuid());
	o = ask(self, line);
	t = json_object_get(o, "tenant");
	EXPECT_EQ(num(t, "max_bytes"), 8 << 20);
	EXPECT_EQ(num(t, "weight"), 200);
	json_decref(o);
	EXPECT_GT(kv_load_acquire(&self->r.hdr->eq_tail.v), head);
	EXPECT_EQ(ev[0].type, KV_EVENT_LIMIT);
	EXPECT_EQ(ev[0].arg, 8 << 20);
	/* more than 8 MiB is now more than this tenant could ever have */
	EXPECT_EQ(-E2BIG, raw_reserve(&self->r, self->space, 40, 33000).res);
}

TEST_F(ctl, what_is_wrong_is_named)
{
	const unsigned int admin = KV_HELLO_ADMIN;

	EXPECT_EQ(-EINVAL, refused(self, admin, "fly", "fly"));
	EXPECT_EQ(-EINVAL, refused(self, admin, "space", "space"));
	EXPECT_EQ(-EINVAL,
		  refused(self, admin, "space dump 7", "CLIENT:SPACE"));
	EXPECT_EQ(-ENOENT, refused(self, admin, "space dump 0:77", "0:77"));
	EXPECT_EQ(-ENOENT, refused(self, admin, "client show 9", "client 9"));
	EXPECT_EQ(-EINVAL, refused(self, admin, "client show x", "client x"));
	EXPECT_EQ(-ENOENT, refused(self, admin, "tenant show no", "tenant no"));
	EXPECT_EQ(-EINVAL, refused(self, admin, "tenant limit team max=lots",
				   "max=lots"));
	EXPECT_EQ(-EINVAL,
		  refused(self, admin, "tenant limit team size=1", "size=1"));
	EXPECT_EQ(-ENOENT, refused(self, admin, "device show 4", "device 4"));
	EXPECT_EQ(-EPERM, refused(self, 0, "check", "administrator"));
	EXPECT_EQ(-EPERM, refused(self, 0, "kill 0", "administrator"));
}

/* ---- swap is steered while it goes on ---- */

/* Wait for a number of the answer to @request to be @least. */
static bool comes_to(const struct ctl_self *self, const char *request,
		     const char *key, uint64_t least)
{
	uint64_t n = 0;
	int i;

	for (i = 0; i < 1000 && n < least; i++) {
		n = test_kvmd_u64(&self->d, request, key);
		usleep(5000);
	}
	if (n < least)
		TH_LOG("%s: %s is %llu", request, key, (unsigned long long)n);
	return n >= least;
}

/* 256 pages of 8 KiB in a space that no step uses, and that go to swap. */
static void start_swap(struct ctl_self *self, const char *fault)
{
	char file[300];

	snprintf(file, sizeof(file), "%.250s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--drain", "20", "--swap-ram", "4M",
				     "--swap-file", file, "--swap-size", "8M",
				     "--swap-demote", "0,0", "--swap-deadline",
				     "0", fault ? "--swap-fault" : NULL, fault,
				     NULL));
	raw_attach(&self->r, self->d.socket);
	self->space = (uint32_t)raw_space(&self->r, raw_geom(&self->r), 0);
	EXPECT_EQ(0, raw_reserve(&self->r, self->space, 0, 4096).res);
	raw_commit(&self->r, self->space, 4096);
	json_decref(ask(self, "device reclaim 0 1G"));
}

/* What `swap list` says of a tier's use. */
static long long tier_used(struct ctl_self *self, size_t tier)
{
	json_t *o = ask(self, "swap list");
	long long n = num(json_array_get(json_object_get(o, "tiers"), tier),
			  "used_bytes");

	json_decref(o);
	return n;
}

TEST(ctl_swap, what_was_set_is_shown_and_bad_values_are_named)
{
	const unsigned int admin = KV_HELLO_ADMIN;
	struct ctl_self self = { 0 };
	json_t *o;

	ASSERT_EQ(0, test_kvmd_start(&self.d, test_tmpdir(), "--size", "16M",
				     "--drain", "20", NULL));
	o = ask(&self, "swap list");
	EXPECT_EQ(num(o, "deadline_ms"), 10000);
	EXPECT_EQ(num(o, "demote_low"), 10);
	EXPECT_EQ(num(o, "demote_high"), 20);
	EXPECT_TRUE(json_is_false(json_object_get(o, "discard")));
	json_decref(o);
	json_decref(ask(&self, "swap deadline 600000"));
	json_decref(ask(&self, "swap demote 0,100"));
	o = ask(&self, "swap discard on");
	EXPECT_EQ(num(o, "deadline_ms"), 600000);
	EXPECT_EQ(num(o, "demote_low"), 0);
	EXPECT_EQ(num(o, "demote_high"), 100);
	EXPECT_TRUE(json_is_true(json_object_get(o, "discard")));
	EXPECT_EQ(0, json_array_size(json_object_get(o, "tiers")));
	json_decref(o);
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap deadline 600001",
				   "swap deadline: \"600001\""));
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap deadline soon",
				   "swap deadline: \"soon\""));
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap demote 20,10",
				   "swap demote: \"20,10\""));
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap demote 10,101",
				   "swap demote: \"10,101\""));
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap discard maybe",
				   "swap discard: \"maybe\""));
	EXPECT_EQ(-EINVAL, refused(&self, admin, "swap discard", "swap"));
	EXPECT_EQ(-EPERM, refused(&self, 0, "swap deadline 1", "admin"));
	EXPECT_EQ(-EPERM, refused(&self, 0, "swap demote 1,2", "admin"));
	EXPECT_EQ(-EPERM, refused(&self, 0, "swap discard off", "admin"));
	o = ask(&self, "config show");
	EXPECT_EQ(num(json_object_get(o, "config"), "swap_deadline_ms"),
		  600000);
	EXPECT_EQ(num(json_object_get(o, "config"), "swap_demote_high"), 100);
	json_decref(o);
	EXPECT_EQ(0, test_kvmd_stop(&self.d));
}

TEST(ctl_swap, pages_go_on_and_room_is_given_back_when_told)
{
	struct ctl_self self = { 0 };
	struct kv_cqe cqe;

	start_swap(&self, NULL);
	ASSERT_TRUE(comes_to(&self, "vmstat", "swap_out", 256));
	EXPECT_EQ(tier_used(&self, 0), 2 << 20);
	EXPECT_EQ(tier_used(&self, 1), 0);
	json_decref(ask(&self, "swap demote 70,75")); /* of 4 MiB free */
	ASSERT_TRUE(comes_to(&self, "vmstat", "demoted", 128));
	EXPECT_EQ(tier_used(&self, 0), 1 << 20);
	EXPECT_EQ(tier_used(&self, 1), 1 << 20);
	cqe = raw_call(&self.r, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
						 .space = self.space });
	EXPECT_EQ(0, cqe.res);
	usleep(200000); /* more than a period */
	EXPECT_EQ(0, test_kvmd_u64(&self.d, "vmstat", "swap_discards"));
	json_decref(ask(&self, "swap discard on"));
	EXPECT_TRUE(comes_to(&self, "vmstat", "swap_discarded_bytes", 1 << 20));
	EXPECT_EQ(0, test_kvmd_check(&self.d));
	EXPECT_EQ(0, test_kvmd_stop(&self.d));
}

TEST(ctl_swap, a_deadline_holds_for_pages_that_are_stuck_already)
{
	struct ctl_self self = { 0 };

	start_swap(&self, "stuck:1");
	usleep(50000);
	EXPECT_EQ(0, test_kvmd_u64(&self.d, "vmstat", "swap_late"));
	json_decref(ask(&self, "swap deadline 20"));
	EXPECT_TRUE(comes_to(&self, "vmstat", "swap_late", 1));
	EXPECT_EQ(0, test_kvmd_check(&self.d));
	EXPECT_EQ(0, test_kvmd_stop(&self.d));
}

TEST_F(ctl, strangers_see_totals_only)
{
	json_t *o;
	char *text = NULL;

	if (geteuid())
		th_skip("needs root to become another user");
	ASSERT_EQ(0, chmod(test_tmpdir(), 0755));
	ASSERT_EQ(0, chmod(self->d.socket, 0666));
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(65534, 65534, 65534));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));
	EXPECT_EQ(-EPERM, refused(self, KV_HELLO_ADMIN, "status", "65534"));
	EXPECT_EQ(-EPERM, refused(self, 0, "client show 0", "another tenant"));
	EXPECT_EQ(-EPERM, refused(self, 0, "space dump 0:0", "another tenant"));
	EXPECT_EQ(0, kv_ctl(self->d.socket, 0, "client list", &text));
	EXPECT_TRUE(text && strstr(text, "\"clients\":[]"));
	free(text);
	ASSERT_EQ(0, kv_ctl(self->d.socket, 0, "tenant list", &text));
	o = json_loads(text, 0, NULL);
	EXPECT_EQ(json_array_size(json_object_get(o, "tenants")), 2);
	EXPECT_FALSE(strstr(text, "limit_hits"));
	json_decref(o);
	free(text);
	self->d.pid = 0; /* it ends with the test */
}

TEST_F(ctl, a_freeze_stops_everything_and_ends)
{
	struct kv_msg_hello h = raw_hello(KV_HELLO_CTL | KV_HELLO_ADMIN);
	struct raw c = { .sock = raw_connect(self->d.socket) };
	struct kv_cqe cqe;

	raw_send(&c, KV_MSG_HELLO, &h, sizeof(h));
	ASSERT_EQ(0, raw_reply(&c));
	raw_send(&c, KV_MSG_CTL, "audit freeze", 13);
	ASSERT_EQ(0, raw_reply(&c)); /* descriptors */
	EXPECT_GE(c.nr_fds, 3);
	ASSERT_EQ(0, raw_reply(&c)); /* their list */
	EXPECT_EQ(c.nr_fds, 1);
	raw_push(&self->r, &(struct kv_sqe){ .opcode = KV_OP_NOP });
	EXPECT_FALSE(raw_pop(&self->r, &cqe, 100));
	raw_send(&c, KV_MSG_CTL, "status", 7);
	EXPECT_EQ(-EBUSY, raw_reply(&c));
	close(c.sock);
	EXPECT_TRUE(raw_pop(&self->r, &cqe, RAW_WAIT_MS));
}

TEST_HARNESS_MAIN
