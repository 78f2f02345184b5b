/* SPDX-License-Identifier: MIT */
/* san: address */
/*
 * test_attach.c - the handshake against a daemon that is not what it should
 *
 * A thread plays kvmd: it accepts one connection, reads the HELLO and answers
 * as the test says. Whatever comes, kv_attach() answers with a code and one
 * sentence, in time, and leaves no descriptor behind.
 */
#include "selftests/harness.h"
#include <dirent.h>
#include <kv.h>
#include <kv/table.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

struct answer {
	struct kv_msg msg;
	struct kv_msg_welcome w;
};

enum trick {
	TRICK_NONE,
	TRICK_SILENT, /* no answer */
	TRICK_CLOSE, /* hang up at once */
	TRICK_NO_FDS,
	TRICK_SMALL_RING,
	TRICK_SMALL_TABLE,
	TRICK_LATER_CLOSE, /* hang up after the handshake */
	TRICK_GARBAGE_CQ, /* a completion ring of garbage */
	TRICK_STRAY, /* completions nobody asked for */
};

FIXTURE(attach)
{
	char path[108];
	int listener, conn;
	int fds[4];
	enum trick trick;
	struct answer a;
	size_t bytes; /* of the answer */
	struct kv_msg_hello hello; /* as received */
	pthread_t thread;
	bool running;
	struct kv_ring_hdr *ring;
};

static int file_of(size_t bytes)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	if (ftruncate(fd, (off_t)bytes))
		_exit(1);
	return fd;
}

static void make_files(struct attach_self *self)
{
	struct kv_table_hdr th = { .magic = KV_ABI_MAGIC, .hold_step = ~0ull };
	bool small_ring = self->trick == TRICK_SMALL_RING;
	bool small_table = self->trick == TRICK_SMALL_TABLE;

	self->fds[0] = file_of(small_ring ? 4096 : KV_RING_SIZE);
	self->fds[1] = file_of(small_table ? 4096 : KV_TABLE_LEAVES_OFF);
	self->fds[2] = file_of(sizeof(struct kv_status));
	self->fds[3] = eventfd(0, EFD_CLOEXEC);
	if (pwrite(self->fds[1], &th, sizeof(th), 0) != sizeof(th))
		_exit(1);
	if (!small_ring)
		self->ring = mmap(NULL, KV_RING_SIZE, PROT_READ | PROT_WRITE,
				  MAP_SHARED, self->fds[0], 0);
}

static void send_answer(struct attach_self *self)
{
	char ctl[CMSG_SPACE(sizeof(self->fds))] __attribute__((aligned(8)));
	struct iovec iov = { &self->a, self->bytes };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	memset(ctl, 0, sizeof(ctl));
	if (self->trick != TRICK_NO_FDS) {
		m.msg_control = ctl;
		m.msg_controllen = sizeof(ctl);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(self->fds));
		memcpy(CMSG_DATA(c), self->fds, sizeof(self->fds));
	}
	sendmsg(self->conn, &m, MSG_NOSIGNAL);
}

/* Answer the first request with what the trick says. */
static void play_ring(struct attach_self *self)
{
	struct kv_cqe *cq = (void *)((char *)self->ring + KV_RING_CQ_OFF);
	struct kv_sqe *sq = (void *)((char *)self->ring + KV_RING_SQ_OFF);
	uint32_t tail = 0, i;

	while (!kv_load_acquire(&self->ring->sq_tail.v))
		usleep(100);
	if (self->trick == TRICK_GARBAGE_CQ) {
		kv_store_release(&self->ring->cq_tail.v, 123456u);
		return;
	}
	for (i = 0; i < 3; i++)
		cq[tail++] =
			(struct kv_cqe){ .user_data = ~(uint64_t)(i + 1) - 256,
					 .res = 5 };
	cq[tail++] =
		(struct kv_cqe){ .user_data = sq[0].user_data, .res = -ENOSPC };
	kv_store_release(&self->ring->cq_tail.v, tail);
}

static void *serve(void *arg)
{
	struct attach_self *self = arg;
	struct {
		struct kv_msg msg;
		struct kv_msg_hello hello;
	} in;

	self->conn = accept(self->listener, NULL, NULL);
	if (self->conn < 0)
		return NULL;
	if (self->trick == TRICK_CLOSE) {
		shutdown(self->conn, SHUT_RDWR);
		close(self->conn);
		self->conn = -1;
		return NULL;
	}
	if (recv(self->conn, &in, sizeof(in), 0) != sizeof(in))
		return NULL;
	self->hello = in.hello;
	if (self->trick == TRICK_SILENT)
		return NULL;
	make_files(self);
	send_answer(self);
	if (self->trick == TRICK_LATER_CLOSE) {
		while (!kv_load_acquire(&self->ring->sq_tail.v))
			usleep(100);
		close(self->conn);
		self->conn = -1;
	} else if (self->trick == TRICK_GARBAGE_CQ ||
		   self->trick == TRICK_STRAY) {
		play_ring(self);
	}
	return NULL;
}

FIXTURE_SETUP(attach)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int i;

	self->conn = -1;
	for (i = 0; i < 4; i++)
		self->fds[i] = -1;
	snprintf(self->path, sizeof(self->path), "%.90s/kvmd.sock",
		 test_tmpdir());
	memcpy(sa.sun_path, self->path, strlen(self->path) + 1);
	self->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(self->listener, (void *)&sa, sizeof(sa)));
	ASSERT_EQ(0, listen(self->listener, 4));
	self->bytes = sizeof(self->a);
	self->a = (struct answer){
		.msg = { .type = KV_MSG_HELLO | KV_MSG_REPLY, .cookie = 1 },
		.w = { .magic = KV_ABI_MAGIC,
		       .major = KV_ABI_MAJOR,
		       .features = KV_FEATURES,
		       .nr_fds = 4,
		       .device_bytes = 4 * KV_EXTENT_SIZE,
		       .ring_bytes = KV_RING_SIZE,
		       .table_bytes = KV_TABLE_SIZE_MAX,
		       .status_bytes = sizeof(struct kv_status),
		       .extent_bytes = KV_EXTENT_SIZE,
		       .chunk_bytes = KV_CHUNK_SIZE,
		       .device_name = "cpu:0" },
	};
}

FIXTURE_TEARDOWN(attach)
{
	int i;

	if (self->running)
		pthread_join(self->thread, NULL);
	for (i = 0; i < 4; i++)
		close(self->fds[i]);
	close(self->conn);
	close(self->listener);
}

static int nr_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Only these two are waited for to the end. */
static unsigned int patience_ms(enum trick trick)
{
	return trick == TRICK_SILENT  ? 300
	       : trick == TRICK_CLOSE ? 1000
				      : 20000;
}

static int try_attach_as(struct attach_self *self,
			 const struct kv_namespace *ns,
			 const struct kv_rank *rank, struct kv **kv)
{
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .socket = self->path,
				    .name = "a test!",
				    .timeout_ms = patience_ms(self->trick),
				    .ns = ns,
				    .rank = rank };

	self->running = !pthread_create(&self->thread, NULL, serve, self);
	return kv_attach(&o, kv);
}

static int try_attach(struct attach_self *self, struct kv **kv)
{
	return try_attach_as(self, NULL, NULL, kv);
}

static void refused(struct attach_self *self, int code, const char *word)
{
	struct kv *kv = NULL;
	int before = nr_open();

	EXPECT_EQ(code, try_attach(self, &kv));
	EXPECT_TRUE(kv == NULL);
	TH_LOG("%s", kv_attach_error());
	EXPECT_TRUE(strstr(kv_attach_error(), word) != NULL);
	pthread_join(self->thread, NULL);
	self->running = false;
	/* ours: the connection and up to four files of the fake */
	EXPECT_LE(nr_open(), before + 5);
}

TEST_F(attach, succeeds_and_says_who_we_are)
{
	struct kv *kv = NULL;

	ASSERT_EQ(0, try_attach(self, &kv));
	EXPECT_STREQ("a_test!", self->hello.name);
	EXPECT_STREQ("cpu:0", kv_info(kv)->device_name);
	EXPECT_EQ(0, (uintptr_t)kv_base(kv) % KV_CHUNK_SIZE);
	EXPECT_STREQ("", kv_error(kv));
	kv_detach(kv);
}

TEST_F(attach, says_what_it_runs_and_which_share_of_it)
{
	struct kv_namespace ns;
	struct kv_rank rank;
	struct kv *kv = NULL;

	memset(&ns, 0xa5, sizeof(ns));
	memset(&rank, 0x5a, sizeof(rank));
	ASSERT_EQ(0, try_attach_as(self, &ns, &rank, &kv));
	EXPECT_EQ(0, memcmp(&ns, &self->hello.ns, sizeof(ns)));
	EXPECT_EQ(0, memcmp(&rank, &self->hello.rank, sizeof(rank)));
	kv_detach(kv);
}

TEST_F(attach, refuses_another_abi_and_names_both)
{
	self->a.w.major = 7;
	self->a.w.minor = 3;
	self->bytes = sizeof(struct kv_msg) + 24; /* its welcome is shorter */
	refused(self, -EPROTO, "ABI 7.3, this libkv 1.0");
}

TEST_F(attach, refuses_what_is_no_kvmd)
{
	self->a.w.magic = 0x12345678;
	refused(self, -EPROTO, "none of kvmd's");
}

TEST_F(attach, passes_on_what_kvmd_says)
{
	const char text[] = "there is no device 4";

	self->a.msg.status = -ENODEV;
	memcpy(&self->a.w, text, sizeof(text));
	refused(self, -ENODEV, "there is no device 4");
}

TEST_F(attach, gives_up_in_time)
{
	self->trick = TRICK_SILENT;
	refused(self, -ETIMEDOUT, "300 ms");
}

TEST_F(attach, sees_that_kvmd_hung_up)
{
	self->trick = TRICK_CLOSE;
	refused(self, -ECONNRESET, "closed the connection");
}

TEST_F(attach, wants_its_descriptors)
{
	self->trick = TRICK_NO_FDS;
	refused(self, -EPROTO, "ring");
}

TEST_F(attach, wants_a_whole_ring)
{
	self->trick = TRICK_SMALL_RING;
	refused(self, -EPROTO, "ring has 4096 bytes");
}

TEST_F(attach, wants_a_whole_table)
{
	self->trick = TRICK_SMALL_TABLE;
	refused(self, -EPROTO, "page table has 4096 bytes");
}

TEST_F(attach, wants_extents_of_the_size_it_knows)
{
	self->a.w.extent_bytes = 4096;
	refused(self, -EPROTO, "extents of 4096");
}

TEST_F(attach, ends_when_kvmd_dies_while_it_waits)
{
	struct kv_space_args args = { .nr_areas = 1 };
	struct kv *kv = NULL;
	uint32_t id;

	self->trick = TRICK_LATER_CLOSE;
	ASSERT_EQ(0, try_attach(self, &kv));
	EXPECT_EQ(-ESHUTDOWN, kv_shrink(kv));
	EXPECT_TRUE(strstr(kv_error(kv), "kvmd has gone") != NULL);
	EXPECT_EQ(-ESHUTDOWN, kv_shrink(kv));
	EXPECT_EQ(-EINVAL, kv_space_create(kv, &args, &id));
	EXPECT_EQ(-ESHUTDOWN, kv_event_wait(kv, &(struct kv_event){ 0 }, -1));
	kv_detach(kv);
}

TEST_F(attach, survives_a_ring_of_garbage)
{
	struct kv *kv = NULL;

	self->trick = TRICK_GARBAGE_CQ;
	ASSERT_EQ(0, try_attach(self, &kv));
	EXPECT_EQ(-EPROTO, kv_shrink(kv));
	EXPECT_TRUE(strstr(kv_error(kv), "makes no sense") != NULL);
	kv_detach(kv);
}

TEST_F(attach, counts_completions_that_nobody_asked_for)
{
	struct kv_counters n;
	struct kv *kv = NULL;

	self->trick = TRICK_STRAY;
	ASSERT_EQ(0, try_attach(self, &kv));
	EXPECT_EQ(-ENOSPC, kv_shrink(kv));
	kv_counters_get(kv, &n);
	EXPECT_EQ(3, n.stray_completions);
	kv_detach(kv);
}

/* ---- nobody there ---- */

static int attach_to(const char *path)
{
	struct kv_attach_opts o = { .sz = sizeof(o), .socket = path };
	struct kv *kv;
	int rc;

	errno = 77;
	rc = kv_attach(&o, &kv);
	EXPECT_EQ(77, errno);
	TH_LOG("%s", kv_attach_error());
	EXPECT_TRUE(kv_attach_error()[0] != '\0');
	if (!rc)
		kv_detach(kv);
	return rc;
}

TEST(nobody, there_is_no_socket)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/none", test_tmpdir());
	EXPECT_EQ(-ENOENT, attach_to(path));
	setenv("KVMD_SOCKET", path, 1);
	EXPECT_EQ(-ENOENT, attach_to(NULL));
	EXPECT_TRUE(strstr(kv_attach_error(), path) != NULL);
}

TEST(nobody, listens_on_a_stale_socket)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/stale",
		 test_tmpdir());
	ASSERT_EQ(0, bind(s, (void *)&sa, sizeof(sa)));
	EXPECT_EQ(-ECONNREFUSED, attach_to(sa.sun_path));
	close(s);
}

TEST(nobody, speaks_our_kind_of_socket)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%.90s/stream",
		 test_tmpdir());
	ASSERT_EQ(0, bind(s, (void *)&sa, sizeof(sa)));
	ASSERT_EQ(0, listen(s, 1));
	EXPECT_EQ(-EPROTO, attach_to(sa.sun_path));
	close(s);
}

TEST(nobody, has_a_path_this_long)
{
	char path[200];

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	EXPECT_EQ(-ENAMETOOLONG, attach_to(path));
}

TEST(options, are_checked)
{
	struct kv_attach_opts o = { .sz = 4 };
	struct kv *kv;

	EXPECT_EQ(-EINVAL, kv_attach(&o, &kv));
	o.sz = sizeof(o);
	o.flags = 1;
	EXPECT_EQ(-EINVAL, kv_attach(&o, &kv));
	kv_detach(NULL);
}

TEST(ctl, says_why_it_cannot_ask)
{
	char path[300], *json = NULL;

	snprintf(path, sizeof(path), "%s/none", test_tmpdir());
	EXPECT_EQ(-ENOENT, kv_ctl(path, 0, "status", &json));
	EXPECT_TRUE(json && strstr(json, path));
	free(json);
}

TEST_HARNESS_MAIN
