/* SPDX-License-Identifier: MIT */
/*
 * test_kvctl.c - kvctl against a daemon that answers what the test says
 *
 * A thread plays kvmd's control interface: whatever is asked, the answer is
 * the test's text, or an error. So the words and exit statuses of kvctl are
 * judged alone, with answers that a real kvmd gives only on a bad day.
 */
#include "selftests/harness.h"
#include <kv.h>
#include <kv/table.h>
#include <pthread.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "selftests/lib_kvmd.h"

FIXTURE(kvctl)
{
	char socket[108];
	int listener;
	pthread_t thread;
	bool running;
	const char *json; /* of every answer */
	int status; /* -errno instead */
	int nr_deaf; /* connections that are closed at once */
	int nr_cut; /* questions that are taken and not answered */
	int nr_bad; /* questions whose answer is no JSON */
	char asked[16][128]; /* the request lines */
	unsigned int nr_asked;
	char out[65536];
};

static void send_json(int conn, uint64_t cookie, const char *json)
{
	struct {
		struct kv_msg msg;
		struct kv_msg_ctl ctl;
	} r = { .msg = { .type = KV_MSG_CTL | KV_MSG_REPLY, .cookie = cookie },
		.ctl = { .bytes = strlen(json) } };
	char ctl[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int fd = memfd_create("answer", MFD_CLOEXEC);

	if (fd < 0 || write(fd, json, strlen(json)) != (ssize_t)strlen(json))
		_exit(1);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(conn, &m, MSG_NOSIGNAL) < 0)
		TH_LOG("answer: %s", strerror(errno));
	close(fd);
}

static void send_error(int conn, uint64_t cookie, int status)
{
	struct {
		struct kv_msg msg;
		char text[64];
	} r = { .msg = { .type = KV_MSG_CTL | KV_MSG_REPLY,
			 .status = status,
			 .cookie = cookie } };

	snprintf(r.text, sizeof(r.text), "the fake says no\033[2J");
	send(conn, &r, sizeof(r), MSG_NOSIGNAL);
}

static void serve(struct kvctl_self *self, int conn)
{
	struct {
		struct kv_msg msg;
		struct kv_msg_welcome w;
	} w = { .msg = { .type = KV_MSG_HELLO | KV_MSG_REPLY },
		.w = { .magic = KV_ABI_MAGIC,
		       .major = KV_ABI_MAJOR,
		       .features = KV_FEATURES,
		       .version = "fake" } };
	struct {
		struct kv_msg msg;
		char text[1024];
	} q;
	ssize_t n = recv(conn, &q, sizeof(q), 0);

	if (n < (ssize_t)sizeof(q.msg))
		return;
	if (self->nr_deaf) {
		self->nr_deaf--;
		return;
	}
	w.msg.cookie = q.msg.cookie;
	send(conn, &w, sizeof(w), MSG_NOSIGNAL);
	while ((n = recv(conn, &q, sizeof(q) - 1, 0)) >
	       (ssize_t)sizeof(q.msg)) {
		((char *)&q)[n] = '\0';
		if (self->nr_asked < 16)
			snprintf(self->asked[self->nr_asked++], 128, "%.127s",
				 q.text);
		if (self->nr_cut) {
			self->nr_cut--;
			return;
		}
		if (self->status)
			send_error(conn, q.msg.cookie, self->status);
		else
			send_json(conn, q.msg.cookie,
				  self->nr_bad ? "?" : self->json);
		self->nr_bad -= self->nr_bad > 0;
	}
}

static void *fake_kvmd(void *arg)
{
	struct kvctl_self *self = arg;
	int conn;

	while ((conn = accept(self->listener, NULL, NULL)) >= 0) {
		serve(self, conn);
		close(conn);
	}
	return NULL;
}

FIXTURE_SETUP(kvctl)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(self->socket, sizeof(self->socket), "%.100s/s", test_tmpdir());
	memcpy(sa.sun_path, self->socket, sizeof(sa.sun_path));
	self->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(self->listener, (void *)&sa, sizeof(sa)));
	ASSERT_EQ(0, listen(self->listener, 8));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, fake_kvmd, self));
	self->running = true;
	setenv("KVMD_SOCKET", self->socket, 1);
	unsetenv("NO_COLOR");
}

FIXTURE_TEARDOWN(kvctl)
{
	if (self->running) {
		shutdown(self->listener, SHUT_RDWR);
		pthread_join(self->thread, NULL);
		close(self->listener);
	}
}

/* Run kvctl; its output, errors included, is in self->out. */
static int run(struct kvctl_self *self, const char *args)
{
	char cmd[1024];
	FILE *f;
	int status;

	snprintf(cmd, sizeof(cmd), "'%s/bin/kvctl' %s 2>&1", test_build_dir(),
		 args);
	f = popen(cmd, "r");
	if (!f)
		return -1;
	self->out[fread(self->out, 1, sizeof(self->out) - 1, f)] = '\0';
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char spaces[] =
	"{\"schema\":\"kvctl/1\",\"object\":\"space\",\"spaces\":["
	"{\"client\":0,\"space\":2,\"name\":\"b\\u001b[31m\",\"tenant\":\"t\","
	"\"state\":\"live\",\"family\":1,\"parent\":null,\"len\":118,"
	"\"pages\":16,\"pages_shared\":8,\"pages_swapped\":3,"
	"\"rss_bytes\":786432,"
	"\"pss_bytes\":589824,\"uss_bytes\":393216},"
	"{\"client\":0,\"space\":9,\"name\":\"a\",\"tenant\":\"t\","
	"\"state\":\"live\",\"family\":1,\"parent\":2,\"len\":20000,"
	"\"pages\":1250,\"pages_shared\":8,\"pages_swapped\":0,"
	"\"rss_bytes\":61440000,"
	"\"pss_bytes\":61243392,\"uss_bytes\":61046784}]}";

TEST_F(kvctl, prints_a_table_in_the_order_of_the_answer)
{
	self->json = spaces;
	EXPECT_EQ(0, run(self, "space list"));
	EXPECT_STREQ(
		"CLIENT  SPACE  NAME    TENANT  STATE  FAMILY  PARENT  TOKENS  "
		"PAGES  SHARED  SWAPPED    RSS    PSS    USS\n"
		"     0      2  b?[31m  t       live        1       -     118  "
		"   16       8        3   768K   576K   384K\n"
		"     0      9  a       t       live        1       2   20.0k  "
		" 1250       8        0  58.6M  58.4M  58.2M\n",
		self->out);
	EXPECT_STREQ("space list", self->asked[0]);
}

TEST_F(kvctl, picks_and_sorts_columns_for_scripts)
{
	self->json = spaces;
	EXPECT_EQ(0, run(self, "-H -o space,RSS,name -s rss --bytes spaces"));
	EXPECT_STREQ("9\t61440000\ta\n2\t786432\tb?[31m\n", self->out);
	EXPECT_EQ(0, run(self, "space list -H -o name -s name"));
	EXPECT_STREQ("a\nb?[31m\n", self->out);
	EXPECT_EQ(2, run(self, "space list -o nonsense"));
	EXPECT_TRUE(strstr(self->out, "no column \"nonsense\"; there are: CL"));
}

TEST_F(kvctl, json_is_what_the_daemon_sent)
{
	self->json = "{\"schema\":\"kvctl/1\",\"object\":\"space\",\"new\":1.5,"
		     "\"spaces\":[]}";
	EXPECT_EQ(0, run(self, "--json space list"));
	EXPECT_EQ(0, strncmp(self->out, self->json, strlen(self->json)));
	EXPECT_STREQ("\n", self->out + strlen(self->json));
	EXPECT_EQ(0, run(self, "-p space list"));
	EXPECT_TRUE(strstr(self->out, "\n  \"spaces\": []\n"));
}

TEST_F(kvctl, an_absent_limit_is_max)
{
	self->json = "{\"tenants\":[{\"tenant\":\"uid:0\",\"max_bytes\":null},"
		     "{\"tenant\":\"uid:7\",\"max_bytes\":1073741824}]}";
	EXPECT_EQ(0, run(self, "tenant list -H -o tenant,max -s max"));
	EXPECT_STREQ("uid:0\tmax\nuid:7\t1.0G\n", self->out);
}

TEST_F(kvctl, pressure_is_in_percent_and_the_device_has_no_name)
{
	self->json = "{\"pressure\":[{\"tenant\":null,\"waiting\":1,"
		     "\"working\":0,\"some\":{\"avg10\":1234,\"avg60\":5,"
		     "\"avg300\":0,\"total_us\":77},\"full\":{\"avg10\":0,"
		     "\"avg60\":0,\"avg300\":0,\"total_us\":9}}]}";
	EXPECT_EQ(0, run(self, "pressure -H"));
	EXPECT_STREQ("-\t12.34\t0.05\t0.00\t77\t0.00\t0.00\t0.00\t9\t1\n",
		     self->out);
}

TEST_F(kvctl, an_oom_report_is_a_sentence_and_three_tables)
{
	self->json =
		"{\"next\":2,\"reports\":[{\"seq\":1,\"time_ns\":1500000000,"
		"\"cause\":\"kill\",\"why\":\"reservation\",\"client\":4,"
		"\"name\":\"kvrun\",\"tenant\":\"uid:7\",\"for_client\":2,"
		"\"step\":9,\"lacked_bytes\":8388608,\"waited_ns\":300000000,"
		"\"total_bytes\":67108864,\"held_bytes\":33554432,"
		"\"ready_bytes\":0,\"charged_bytes\":0,\"tenants\":["
		"{\"tenant\":\"uid:7\",\"held_bytes\":33554432,"
		"\"charged_bytes\":0,\"max_bytes\":null}],\"clients\":["
		"{\"client\":4,\"name\":\"kvrun\",\"tenant\":\"uid:7\","
		"\"held_bytes\":33554432,\"spaces\":1,\"cache\":false}],"
		"\"spaces\":[]}]}";
	EXPECT_EQ(0, run(self, "oom 1"));
	EXPECT_STREQ("oom 1", self->asked[self->nr_asked - 1]);
	EXPECT_TRUE(strstr(self->out, "client 4 (kvrun) of tenant uid:7 was "
				      "killed after 300ms for 8.0M: another "
				      "one waits for it (client 2)\n"));
	EXPECT_TRUE(strstr(self->out, "of 64.0M: 32.0M held"));
	EXPECT_TRUE(strstr(self->out, "  uid:7"));
	EXPECT_TRUE(strstr(self->out, "  4"));
	EXPECT_EQ(0, run(self, "tenant limit t high=1G"));
	EXPECT_STREQ("tenant limit t high=1G", self->asked[self->nr_asked - 1]);
}

TEST_F(kvctl, check_says_clean_or_broken_like_fsck)
{
	self->json = "{\"ok\":true,\"faults\":[],\"extents\":3,"
		     "\"extent_resident_bytes\":25165824}";
	EXPECT_EQ(0, run(self, "check"));
	EXPECT_TRUE(strstr(self->out, "clean: 3 extents, 24.0M"));
	self->json = "{\"ok\":false,\"faults\":[\"frame 7 has 2 mappers, "
		     "counted 1\"],\"extents\":3}";
	EXPECT_EQ(4, run(self, "check"));
	EXPECT_TRUE(strstr(self->out, "frame 7 has 2 mappers"));
	EXPECT_EQ(4, run(self, "-j check"));
	EXPECT_EQ(4, run(self, "-q check"));
}

TEST_F(kvctl, an_error_has_its_sentence_and_exit_status)
{
	static const int codes[][2] = {
		{ EPERM, 4 },  { EACCES, 4 }, { ENOENT, 6 },
		{ EBUSY, 7 },  { EDQUOT, 7 }, { EAGAIN, 75 },
		{ EINVAL, 2 }, { EIO, 1 },    { ETIMEDOUT, 5 },
	};
	unsigned int i;

	for (i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		self->status = -codes[i][0];
		EXPECT_EQ(codes[i][1], run(self, "client show 3"));
		EXPECT_STREQ("kvctl: the fake says no?[2J\n", self->out);
	}
	self->status = -ENOENT;
	EXPECT_EQ(6, run(self, "-j client show 3 2>/dev/null"));
	EXPECT_TRUE(strstr(self->out, "\"error\":{\"code\":\"ENOENT\","));
}

TEST_F(kvctl, answers_that_are_no_json_are_refused)
{
	self->json = "{\"spaces\":[";
	EXPECT_EQ(1, run(self, "space list"));
	EXPECT_TRUE(strstr(self->out, "is no JSON"));
	self->json = "[]";
	EXPECT_EQ(1, run(self, "space list"));
}

TEST_F(kvctl, a_wrong_word_is_a_usage_error_with_a_hint)
{
	EXPECT_EQ(2, run(self, "statsu"));
	EXPECT_TRUE(strstr(self->out, "did you mean \"status\"?"));
	EXPECT_EQ(2, run(self, "space lst"));
	EXPECT_TRUE(strstr(self->out, "did you mean \"list\"?"));
	EXPECT_EQ(2, run(self, "client show"));
	EXPECT_EQ(2, run(self, "tenant limit t mux=1G"));
	EXPECT_TRUE(strstr(self->out, "\"mux=1G\" is no limit"));
	EXPECT_EQ(2, run(self, "client kill x"));
	EXPECT_EQ(2, run(self, "wait usage"));
	EXPECT_EQ(2, run(self, "-n 0 status"));
	EXPECT_EQ(2, run(self, "-n -5 status"));
	EXPECT_EQ(2, run(self, "top </dev/null"));
	EXPECT_EQ(2, run(self, ""));
	EXPECT_EQ(0, self->nr_asked);
}

TEST_F(kvctl, no_daemon_is_exit_status_three)
{
	EXPECT_EQ(3, run(self, "--socket /nonexistent status"));
	EXPECT_TRUE(strstr(self->out, "no kvmd on /nonexistent"));
	EXPECT_EQ(5, run(self, "-S /nonexistent -t 0.1 wait ready"));
	EXPECT_EQ(3, run(self, "-S /nonexistent wait idle"));
}

TEST_F(kvctl, a_kvmd_that_goes_while_it_is_asked_has_a_successor)
{
	self->json = "{\"ok\":true,\"faults\":[],\"extents\":0}";
	self->nr_deaf = 3;
	EXPECT_EQ(0, run(self, "check"));
	self->nr_cut = 2;
	EXPECT_EQ(0, run(self, "check"));
	EXPECT_EQ(4, self->nr_asked);
	self->nr_deaf = 1;
	EXPECT_EQ(0, run(self, "tenant limit t high=1G"));
	EXPECT_EQ(5, self->nr_asked);
	self->nr_deaf = 100000;
	EXPECT_EQ(3, run(self, "status"));
}

TEST_F(kvctl, wait_that_could_not_ask_has_not_seen_its_condition)
{
	self->json = "{\"clients\":1,\"spaces\":0}";
	self->nr_bad = 1;
	EXPECT_EQ(5, run(self, "-t 0.5 wait idle"));
	EXPECT_TRUE(strstr(self->out, "not idle after 0.5 s"));
	self->json = "{\"clients\":0,\"spaces\":0}";
	self->nr_bad = 1;
	EXPECT_EQ(0, run(self, "-t 5 wait idle"));
	EXPECT_STREQ("", self->out);
}

TEST_F(kvctl, events_are_followed_into_a_successors_list)
{
	self->json = "{\"next\":3,\"lost\":0,\"events\":[{\"seq\":5,"
		     "\"time_ns\":0,\"event\":\"start\",\"client\":null,"
		     "\"tenant\":null,\"message\":\"\"}]}";
	EXPECT_EQ(0, run(self, "-w 0.01 -n 2 events follow"));
	EXPECT_STREQ("events list 0", self->asked[0]);
	EXPECT_STREQ("events list 5", self->asked[1]);
	EXPECT_STREQ("events list 0", self->asked[2]);
	EXPECT_EQ(3, self->nr_asked);
}

TEST_F(kvctl, what_may_have_been_done_is_not_asked_twice)
{
	self->json = "{}";
	self->nr_cut = 1;
	EXPECT_EQ(3, run(self, "-y client kill 3"));
	EXPECT_EQ(1, self->nr_asked);
}

TEST_F(kvctl, a_dry_run_asks_nothing)
{
	EXPECT_EQ(0, run(self, "--dry-run tenant limit uid:0 max=1G"));
	EXPECT_STREQ("would ask kvmd: tenant limit uid:0 max=1G\n", self->out);
	EXPECT_EQ(0, run(self, "--dry-run kill 3"));
	EXPECT_EQ(0, self->nr_asked);
}

TEST_F(kvctl, there_is_no_colour_in_a_pipe)
{
	self->json = spaces;
	EXPECT_EQ(0, run(self, "space list"));
	EXPECT_FALSE(strchr(self->out, '\033'));
	EXPECT_EQ(0, run(self, "--color=always space list"));
	EXPECT_TRUE(strchr(self->out, '\033'));
	EXPECT_EQ(2, run(self, "--color=sometimes space list"));
}

/* One object with what every request of top reads. */
static const char everything[] =
	"{\"version\":\"0.1\",\"state\":\"ok\",\"health\":\"OK\","
	"\"clients\":[{\"client\":3,\"name\":\"kvrun\",\"tenant\":\"u\"},"
	"{\"client\":4,\"name\":\"other\",\"tenant\":\"u\"}],"
	"\"tenants\":[{\"tenant\":\"u\"}],"
	"\"spaces\":[{\"client\":3,\"space\":0,\"name\":\"kvrun\","
	"\"parent\":null},{\"client\":3,\"space\":1,\"name\":\"kvrun\","
	"\"parent\":0}],\"counters\":{\"forks\":7},"
	"\"devices\":[{\"name\":\"cpu:0\",\"total_bytes\":1000,"
	"\"held_bytes\":600,\"frame_bytes\":300,\"charged_bytes\":0,"
	"\"token_bytes\":290}]}";

TEST_F(kvctl, top_prints_a_batch)
{
	self->json = everything;
	EXPECT_EQ(0, run(self, "top -b -n 2 -w 0.01"));
	EXPECT_TRUE(strstr(self->out, "useful 96.7%"));
	EXPECT_TRUE(strstr(self->out, "[|||||======.......]"));
	EXPECT_TRUE(strstr(self->out, "`-kvrun"));
	EXPECT_EQ(0, run(self, "-j top -n 1"));
	EXPECT_TRUE(strstr(self->out, "\"object\":\"top\""));
}

/* What the terminal got until @want came, or nothing for 20 seconds. */
static bool screen_shows(struct kvctl_self *self, int fd, const char *want)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;
	ssize_t got;

	while (n + 1 < sizeof(self->out) && poll(&p, 1, 20000) > 0) {
		got = read(fd, self->out + n, sizeof(self->out) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		self->out[n] = '\0';
		if (strstr(self->out, want))
			return true;
	}
	TH_LOG("wanted \"%s\"", want);
	return false;
}

static void press(int fd, const char *keys)
{
	if (write(fd, keys, strlen(keys)) < 0)
		TH_LOG("%s", strerror(errno));
}

/* top on a terminal of its own, with a sample each @every seconds. */
static pid_t start_top(int *fd, const char *every)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };
	char path[512];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/bin/kvctl", test_build_dir());
	pid = forkpty(fd, NULL, NULL, &ws);
	if (!pid) {
		setenv("TERM", "xterm", 1);
		execl(path, "kvctl", "-w", every, "top", NULL);
		_exit(127);
	}
	return pid;
}

TEST_F(kvctl, top_kills_the_client_it_asked_about)
{
	int fd, status;
	pid_t pid;

	self->json = everything;
	pid = start_top(&fd, "0.1");
	ASSERT_GE(pid, 0);
	EXPECT_TRUE(screen_shows(self, fd, "F10Quit"));
	press(fd, "k");
	EXPECT_TRUE(screen_shows(self, fd, "kill client 3? y/n"));
	self->json = "{\"clients\":[{\"client\":4,\"name\":\"newcomer\"}],"
		     "\"tenants\":[],\"spaces\":[],\"devices\":[]}";
	EXPECT_TRUE(screen_shows(self, fd, "newcomer"));
	EXPECT_TRUE(screen_shows(self, fd, "kill client 3? y/n"));
	press(fd, "y");
	EXPECT_TRUE(screen_shows(self, fd, "client 3 was killed"));
	press(fd, "q");
	EXPECT_TRUE(screen_shows(self, fd, "\033[?1049l"));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
}

TEST_F(kvctl, top_is_a_live_screen_with_keys)
{
	int fd, status;
	pid_t pid;

	self->json = everything;
	pid = start_top(&fd, "2");
	ASSERT_GE(pid, 0);
	EXPECT_TRUE(screen_shows(self, fd, "F10Quit"));
	EXPECT_TRUE(strstr(self->out, "[clients]"));
	press(fd, "\t");
	EXPECT_TRUE(screen_shows(self, fd, "[spaces]"));
	press(fd, "t");
	EXPECT_TRUE(screen_shows(self, fd, "`-kvrun"));
	press(fd, "\033OP");
	EXPECT_TRUE(screen_shows(self, fd, "this help"));
	press(fd, "h\t\t/oth\r");
	EXPECT_TRUE(screen_shows(self, fd, "filter oth"));
	press(fd, "s");
	EXPECT_TRUE(screen_shows(self, fd, "sort CLIENT"));
	press(fd, "k");
	EXPECT_TRUE(screen_shows(self, fd, "kill client 4? y/n"));
	press(fd, "n\033[21~");
	EXPECT_TRUE(screen_shows(self, fd, "\033[?1049l"));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
}

TEST_HARNESS_MAIN
