/* SPDX-License-Identifier: MIT */
/*
 * top_screen.c - the live screen of top: plain ANSI, no curses
 *
 * The terminal is put into raw mode and onto its alternate screen; both are
 * undone on the way out, on a signal as well. A frame is composed in memory
 * and written with one write, each line ended by "erase to the end", so that
 * nothing flickers. Without colour the selected row and the bar of keys are
 * in reverse video still: that is no colour.
 */
#include "tools/kvctl/top.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <kv.h>

#define KEY_UP	  0x101
#define KEY_DOWN  0x102
#define KEY_F(n)  (0x110 + (n))
#define KEY_NONE  0
#define KEY_BREAK (-1)

struct screen {
	const struct options *opt;
	struct options tab; /* for the panel's table */
	struct top_view view;
	struct sample now, prev;
	bool have_prev, help, typing; /* typing: the filter */
	bool confirm; /* kill the victim? */
	char note[160]; /* what the last key did */
	int width, height;
	unsigned int nr_rows;
	u64 selected_client;
	u64 victim; /* selected when its end was asked for */
	unsigned int sort_col; /* 0: the panel's own order */
};

static struct termios saved_tty;
static volatile sig_atomic_t must_quit, resized;

static void on_signal(int sig)
{
	if (sig == SIGWINCH)
		resized = 1;
	else
		must_quit = sig;
}

static void term_size(struct screen *s)
{
	struct winsize ws;

	s->width = 80;
	s->height = 24;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) && ws.ws_col && ws.ws_row) {
		s->width = ws.ws_col;
		s->height = ws.ws_row;
	}
}

static void write_all(const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(STDOUT_FILENO, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		p += w;
		n -= (size_t)w;
	}
}

static int term_enter(void)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &saved_tty))
		return -errno;
	raw = saved_tty;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	sigaction(SIGWINCH, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw))
		return -errno;
	write_all("\033[?1049h\033[?25l", 14);
	return 0;
}

static void term_leave(void)
{
	write_all("\033[?25h\033[?1049l", 14);
	tcsetattr(STDIN_FILENO, TCSANOW, &saved_tty);
}

/* One line, cut at @width characters, padded when in reverse video. */
static void put_line(FILE *out, const char *s, int len, int width,
		     const char *sgr)
{
	int i, cols = 0;

	if (sgr)
		fprintf(out, "\033[%sm", sgr);
	for (i = 0; i < len; i++) {
		bool start = ((unsigned char)s[i] & 0xc0) != 0x80;

		if (start && cols == width)
			break;
		cols += start;
		fputc(s[i], out);
	}
	if (sgr && !strcmp(sgr, "7"))
		fprintf(out, "%*s", width - cols, "");
	fputs(sgr ? "\033[0m\033[K\r\n" : "\033[K\r\n", out);
}

static const char *const help_lines[] = {
	"",
	"  F1 h     this help              F2 Tab   clients, spaces, tenants",
	"  F4 /     filter by name         F5 t     spaces as a tree of forks",
	"  F6 s     next sort column       F9 k     kill the selected client",
	"  Up Down  select a row           F10 q    quit",
	"",
	"  The bar of a device: | frames and weights, = held, . free.",
	"  useful is the committed tokens' share of the frames in use.",
};

static const char key_bar[] =
	"F1Help F2Panel F4Filter F5Tree F6Sort F9Kill F10Quit";

/* The client of the selected row: the same rows, that column only. */
static void find_selected(struct screen *s, const json_t *rows)
{
	struct options only = s->tab;
	char *text = NULL, *p;
	size_t len, i;
	FILE *mem = open_memstream(&text, &len);

	if (!mem)
		return;
	only.no_header = true;
	only.columns = s->view.panel == PANEL_TENANTS ? "id" : "client";
	tab_print_to(mem, &only, top_table(&s->view), rows, 0);
	fclose(mem);
	p = text;
	for (i = 0; i < s->view.selected && p; i++) {
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	s->selected_client = p ? strtoull(p, NULL, 10) : 0;
	free(text);
}

static void draw_panel(struct screen *s, FILE *out, int lines)
{
	json_t *rows = top_rows(&s->now, &s->view);
	unsigned int first, row = 0;
	char *text = NULL, *p, *eol;
	size_t len;
	FILE *mem = open_memstream(&text, &len);

	s->nr_rows = (unsigned int)json_array_size(rows);
	if (s->view.selected >= s->nr_rows)
		s->view.selected = s->nr_rows ? s->nr_rows - 1 : 0;
	if (!mem)
		goto out_put;
	tab_print_to(mem, &s->tab, top_table(&s->view), rows, 0);
	fclose(mem);
	find_selected(s, rows);
	/* lines - 1 rows fit below the header: scroll to the selected one */
	first = lines > 1 && s->view.selected >= (unsigned int)(lines - 1)
			? s->view.selected - (unsigned int)(lines - 2)
			: 0;
	for (p = text; p && *p; p = eol + 1, row++) {
		eol = strchr(p, '\n');
		if (!eol)
			break;
		if (row && (row - 1 < first ||
			    row - 1 >= first + (unsigned int)(lines - 1)))
			continue;
		put_line(out, p, (int)(eol - p), s->width,
			 !row					     ? "1"
			 : row - 1 == s->view.selected && s->nr_rows ? "7"
								     : NULL);
	}
	free(text);
out_put:
	json_decref(rows);
}

static void draw_status_row(struct screen *s, FILE *out)
{
	char line[256];
	int n;

	if (s->typing)
		n = snprintf(line, sizeof(line), "filter: %s_", s->view.filter);
	else if (s->confirm)
		n = snprintf(line, sizeof(line), "kill client %" PRIu64 "? y/n",
			     s->victim);
	else if (s->note[0])
		n = snprintf(line, sizeof(line), "%s", s->note);
	else
		n = snprintf(line, sizeof(line), "[%s] sort %s%s%s%s",
			     panel_names[s->view.panel],
			     s->view.sort ? s->view.sort : "none",
			     s->view.tree ? "  tree" : "",
			     s->view.filter[0] ? "  filter " : "",
			     s->view.filter);
	put_line(out, line, n, s->width, NULL);
}

static void draw(struct screen *s)
{
	char *frame = NULL, *head = NULL, *p, *eol;
	size_t len, head_len, i;
	FILE *out, *mem = open_memstream(&head, &head_len);
	int used = 0;

	if (!mem)
		return;
	top_head(mem, s->opt, &s->now, s->have_prev ? &s->prev : NULL,
		 s->width);
	fclose(mem);
	out = open_memstream(&frame, &len);
	if (!out) {
		free(head);
		return;
	}
	fputs("\033[H", out);
	for (p = head; *p && used < s->height - 4; p = eol + 1, used++) {
		eol = strchr(p, '\n');
		put_line(out, p, (int)(eol - p), s->width, NULL);
	}
	free(head);
	draw_status_row(s, out);
	if (s->help) {
		for (i = 0; i < ARRAY_SIZE(help_lines); i++)
			put_line(out, help_lines[i], (int)strlen(help_lines[i]),
				 s->width, NULL);
	} else {
		draw_panel(s, out, s->height - used - 2);
	}
	fprintf(out, "\033[J\033[%d;1H\033[7m%-*.*s\033[0m", s->height,
		s->width, s->width, key_bar);
	fclose(out);
	write_all(frame, len);
	free(frame);
}

/* ---- keys ---- */

/* "\033[A", "\033OP", "\033[15~": what is known, else KEY_NONE. */
static int decode_escape(const char *s)
{
	static const struct {
		const char *seq;
		int key;
	} known[] = {
		{ "[A", KEY_UP },     { "[B", KEY_DOWN },
		{ "OA", KEY_UP },     { "OB", KEY_DOWN },
		{ "OP", KEY_F(1) },   { "OQ", KEY_F(2) },
		{ "OS", KEY_F(4) },   { "[11~", KEY_F(1) },
		{ "[12~", KEY_F(2) }, { "[14~", KEY_F(4) },
		{ "[15~", KEY_F(5) }, { "[17~", KEY_F(6) },
		{ "[20~", KEY_F(9) }, { "[21~", KEY_F(10) },
		{ "[[A", KEY_F(1) },  { "[[B", KEY_F(2) },
		{ "[[D", KEY_F(4) },  { "[[E", KEY_F(5) },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(known[i].seq, s))
			return known[i].key;
	return KEY_NONE;
}

/* Wait at most @ms for a key. KEY_BREAK: the terminal is gone. */
static int read_key(int ms)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char c, seq[8] = "";
	size_t n = 0;
	ssize_t got;

	if (poll(&p, 1, ms) <= 0)
		return KEY_NONE;
	got = read(STDIN_FILENO, &c, 1);
	if (got <= 0)
		return got < 0 && errno == EINTR ? KEY_NONE : KEY_BREAK;
	if (c != '\033')
		return (unsigned char)c;
	while (n + 1 < sizeof(seq) && poll(&p, 1, 20) > 0 &&
	       read(STDIN_FILENO, &c, 1) == 1) {
		seq[n++] = c;
		if (n > 1 && (c == '~' || (c >= 'A' && c <= 'Z')))
			break;
	}
	return n ? decode_escape(seq) : '\033';
}

static void next_sort(struct screen *s)
{
	const struct table *t = top_table(&s->view);

	do {
		s->sort_col = (s->sort_col + 1) % (t->nr_cols + 1);
	} while (s->sort_col && (t->cols[s->sort_col - 1].flags & COL_HIDDEN));
	s->view.sort = s->sort_col ? t->cols[s->sort_col - 1].name : NULL;
	s->tab.sort = s->view.sort;
}

static void set_panel(struct screen *s, enum panel p)
{
	s->view.panel = p;
	s->view.selected = 0;
	s->sort_col = 0;
	s->view.sort = s->tab.sort = NULL;
}

static void type_filter(struct screen *s, int key)
{
	size_t n = strlen(s->view.filter);

	if (key == '\r' || key == '\n') {
		s->typing = false;
	} else if (key == '\033') {
		s->typing = false;
		s->view.filter[0] = '\0';
	} else if ((key == 127 || key == 8) && n) {
		s->view.filter[n - 1] = '\0';
	} else if (key >= 32 && key < 127 && n + 1 < sizeof(s->view.filter)) {
		s->view.filter[n] = (char)key;
		s->view.filter[n + 1] = '\0';
	}
}

static void kill_victim(struct screen *s)
{
	char request[64];
	json_t *a = NULL;
	int rc;

	snprintf(request, sizeof(request), "kill %" PRIu64, s->victim);
	rc = ask_quiet(s->opt, KV_HELLO_ADMIN, request, &a);
	json_decref(a);
	if (rc)
		snprintf(s->note, sizeof(s->note), "client %" PRIu64 ": %s",
			 s->victim, strerror(-rc));
	else
		snprintf(s->note, sizeof(s->note),
			 "client %" PRIu64 " was killed", s->victim);
}

/* Return: false to leave. */
static bool handle_key(struct screen *s, int key)
{
	if (s->typing) {
		type_filter(s, key);
		return true;
	}
	s->note[0] = '\0';
	if (s->confirm) {
		s->confirm = false;
		if (key == 'y' || key == 'Y')
			kill_victim(s);
		return true;
	}
	switch (key) {
	case 'q':
	case KEY_F(10):
	case KEY_BREAK:
		return false;
	case 'h':
	case '?':
	case KEY_F(1):
		s->help = !s->help;
		break;
	case '\t':
	case KEY_F(2):
		set_panel(s, (s->view.panel + 1) % PANEL_NR);
		break;
	case '/':
	case KEY_F(4):
		s->typing = true;
		break;
	case 't':
	case KEY_F(5):
		s->view.tree = !s->view.tree;
		if (s->view.tree)
			set_panel(s, PANEL_SPACES);
		break;
	case 's':
	case KEY_F(6):
		next_sort(s);
		break;
	case 'k':
	case KEY_F(9):
		s->confirm = s->nr_rows && s->view.panel != PANEL_TENANTS;
		s->victim = s->selected_client;
		break;
	case KEY_UP:
		s->view.selected -= s->view.selected > 0;
		break;
	case KEY_DOWN:
		s->view.selected += s->view.selected + 1 < s->nr_rows;
		break;
	}
	return true;
}

static int next_sample(struct screen *s)
{
	struct sample next;
	int rc = sample_take(s->opt, &next);

	if (rc)
		return rc;
	if (s->have_prev)
		sample_free(&s->prev);
	s->prev = s->now;
	s->have_prev = s->prev.status != NULL;
	s->now = next;
	return 0;
}

int top_screen(const struct options *opt, double every_s)
{
	struct screen s = { .opt = opt, .tab = *opt };
	double next = 0;
	int rc = sample_take(opt, &s.now), key;

	if (rc)
		return rc;
	s.tab.columns = s.tab.sort = NULL;
	s.tab.color = s.tab.no_header = false;
	if (term_enter())
		return EX_KV_FAILED;
	term_size(&s);
	next = clock_s() + every_s;
	while (!must_quit) {
		draw(&s);
		key = read_key(max((int)((next - clock_s()) * 1000), 0));
		if (resized) {
			resized = 0;
			term_size(&s);
		}
		if (key && !handle_key(&s, key))
			break;
		if (clock_s() < next)
			continue;
		next = clock_s() + every_s;
		rc = next_sample(&s);
		if (rc)
			break;
	}
	term_leave();
	if (rc)
		fprintf(stderr, "kvctl: kvmd has gone\n");
	sample_free(&s.now);
	if (s.have_prev)
		sample_free(&s.prev);
	return rc;
}
