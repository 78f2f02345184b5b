/* SPDX-License-Identifier: MIT */
/*
 * explore.c - every interleaving of a few actors, with store buffers
 *
 * Depth first, states on an explicit stack, one copy per level.
 */
#include "selftests/explore/explore.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"

#define DEPTH 4096

struct entry {
	u64 value;
	u8 word, release;
	u8 pad[6];
};

struct state {
	u64 mem[X_WORDS];
	struct entry sb[X_ACTORS][X_STORES];
	u64 log[X_ACTORS][X_LOG];
	u8 locals[X_ACTORS][X_LOCALS];
	u8 ghost[X_GHOST];
	u8 nr_sb[X_ACTORS], nr_log[X_ACTORS], done[X_ACTORS];
	u8 pad[7];
};

/* A way out of a state: an actor's next operation, or a flush. */
struct move {
	u8 actor;
	u8 flush; /* 1 + index in the buffer, 0: operation */
	u8 choice;
};

struct level {
	struct state s;
	struct move next;
	struct move taken; /* the one that leads to the level above */
	char text[48]; /* what it did */
};

static struct {
	const struct x_world *w;
	struct state *s; /* being changed */
	const void *word[X_WORDS];
	const char *word_name[X_WORDS];
	u32 nr_words;
	u32 actor;
	u32 pos; /* operations seen in this call */
	bool acted, blocked;
	u32 choice, nr_choices; /* asked for, found */
	jmp_buf out;
	const char *failed;
	char text[48];
	u64 *seen;
	u64 seen_mask, nr_seen;
} x;

static u32 word_index(const void *word)
{
	u32 i;

	for (i = 0; i < x.nr_words; i++)
		if (x.word[i] == word)
			return i;
	fprintf(stderr, "explore: a word that init() did not name\n");
	abort();
}

void x_word(const void *word, const char *name, u64 value)
{
	if (x.nr_words == X_WORDS)
		abort();
	x.word[x.nr_words] = word;
	x.word_name[x.nr_words] = name;
	x.s->mem[x.nr_words++] = value;
}

u64 x_peek(const void *word)
{
	return x.s->mem[word_index(word)];
}

bool x_drained(unsigned int actor)
{
	return !x.s->nr_sb[actor];
}

void x_check(bool ok, const char *what)
{
	if (!ok && !x.failed)
		x.failed = what;
}

/* Was the operation done in an earlier step? Then *@value is its result. */
static bool replayed(u64 *value)
{
	if (x.pos < x.s->nr_log[x.actor]) {
		*value = x.s->log[x.actor][x.pos++];
		return true;
	}
	if (x.acted || x.failed)
		longjmp(x.out, 1);
	x.acted = true;
	return false;
}

static void blocked(void)
{
	x.blocked = true;
	longjmp(x.out, 1);
}

static u64 record(u64 value)
{
	if (x.pos == X_LOG) {
		fprintf(stderr, "explore: an iteration is too long\n");
		abort();
	}
	x.s->log[x.actor][x.pos++] = value;
	x.s->nr_log[x.actor] = (u8)x.pos;
	return value;
}

static u64 see(u32 word)
{
	const struct entry *sb = x.s->sb[x.actor];
	u32 i;

	for (i = x.s->nr_sb[x.actor]; i-- > 0;)
		if (sb[i].word == word)
			return sb[i].value;
	return x.s->mem[word];
}

#define SAY(...) snprintf(x.text, sizeof(x.text), __VA_ARGS__)

u64 x_load(const void *word)
{
	u32 i = word_index(word);
	u64 v;

	if (replayed(&v))
		return v;
	v = see(i);
	SAY("load %s -> %#llx", x.word_name[i], (unsigned long long)v);
	return record(v);
}

void x_store(void *word, u64 value, bool release)
{
	u32 i = word_index(word);
	struct entry *e;
	u64 v;

	if (replayed(&v))
		return;
	if (x.s->nr_sb[x.actor] == X_STORES)
		blocked();
	e = &x.s->sb[x.actor][x.s->nr_sb[x.actor]++];
	*e = (struct entry){ .value = value,
			     .word = (u8)i,
			     .release = release };
	SAY("store %s = %#llx%s", x.word_name[i], (unsigned long long)value,
	    release ? " (release)" : "");
	record(0);
}

void x_fence(void)
{
	u64 v;

	if (replayed(&v))
		return;
	if (x.s->nr_sb[x.actor] && !(x.w->no_fence & (1u << x.actor)))
		blocked();
	SAY("fence");
	record(0);
}

void x_wait(const void *word, u64 value)
{
	u32 i = word_index(word);
	u64 v;

	if (replayed(&v))
		return;
	if (see(i) != value)
		blocked();
	SAY("saw %s == %#llx", x.word_name[i], (unsigned long long)value);
	record(value);
}

u64 x_choose(unsigned int n)
{
	u64 v;

	if (replayed(&v))
		return v;
	x.nr_choices = n;
	SAY("choose %u of %u", x.choice, n);
	return record(x.choice);
}

u64 x_do(u64 (*act)(void *ghost, u64 arg), u64 arg)
{
	u64 v;

	if (replayed(&v))
		return v;
	v = act(x.s->ghost, arg);
	if (v == X_BLOCK)
		blocked();
	SAY("act(%#llx) -> %#llx", (unsigned long long)arg,
	    (unsigned long long)v);
	return record(v);
}

/* One more operation of @actor. Return: false if it cannot go on. */
static bool step_actor(u32 actor, u32 choice)
{
	const struct x_actor *a = &x.w->actor[actor];
	u8 locals[X_LOCALS];
	bool done;

	memcpy(locals, x.s->locals[actor], sizeof(locals));
	x.actor = actor;
	x.pos = 0;
	x.acted = false;
	x.blocked = false;
	x.choice = choice;
	x.nr_choices = 1;
	x.text[0] = '\0';
	if (setjmp(x.out))
		return !x.blocked;
	done = a->run(locals);
	memcpy(x.s->locals[actor], locals, sizeof(locals));
	x.s->done[actor] = done;
	memset(x.s->log[actor], 0, sizeof(x.s->log[actor]));
	x.s->nr_log[actor] = 0;
	return true;
}

/* May the store at @i leave the buffer now? */
static bool may_flush(const struct state *s, u32 actor, u32 i)
{
	const struct entry *sb = s->sb[actor];
	u32 k;

	if (!x.w->pso)
		return i == 0;
	for (k = 0; k < i; k++)
		if (sb[i].release || sb[k].word == sb[i].word)
			return false;
	return true;
}

static void flush(struct state *s, u32 actor, u32 i)
{
	struct entry *sb = s->sb[actor];

	SAY("  ... %s = %#llx reaches memory", x.word_name[sb[i].word],
	    (unsigned long long)sb[i].value);
	s->mem[sb[i].word] = sb[i].value;
	s->nr_sb[actor]--;
	memmove(&sb[i], &sb[i + 1], (s->nr_sb[actor] - i) * sizeof(*sb));
	memset(&sb[s->nr_sb[actor]], 0, sizeof(*sb));
}

/* Return: true if the state is new. */
static bool remember(const struct state *s)
{
	u64 h = 0x1234567, v, i;
	const u64 *p = (const u64 *)(const void *)s;

	for (i = 0; i < sizeof(*s) / 8; i++) {
		memcpy(&v, &p[i], 8);
		h = (h ^ v) * 0x9ddfea08eb382d69ull;
		h ^= h >> 29;
	}
	h = hash_mix(h) | 1;
	for (i = h >> 20;; i++) {
		u64 *slot = &x.seen[i & x.seen_mask];

		if (*slot == h)
			return false;
		if (!*slot) {
			*slot = h;
			x.nr_seen++;
			return true;
		}
	}
}

/* The move after @m that could exist in @s; false: there is none. */
static bool next_move(const struct state *s, struct move *m)
{
	while (m->actor < x.w->nr_actors) {
		if (!m->flush && !s->done[m->actor])
			return true;
		if (!m->flush) {
			m->flush = 1;
			m->choice = 0;
		}
		for (; m->flush <= s->nr_sb[m->actor]; m->flush++)
			if (may_flush(s, m->actor, m->flush - 1u))
				return true;
		m->actor++;
		m->flush = 0;
		m->choice = 0;
	}
	return false;
}

static bool all_done(const struct state *s)
{
	u32 i;

	for (i = 0; i < x.w->nr_actors; i++)
		if (!s->done[i] || s->nr_sb[i])
			return false;
	return true;
}

static void show_way(const struct level *l, u32 depth)
{
	u32 i;

	printf("%s: %s\n", x.w->name, x.failed);
	for (i = 0; i < depth; i++)
		printf("  %-7s %s\n", x.w->actor[l[i].taken.actor].name,
		       l[i].text);
}

/* Leave @from by its next move into @to. Return: false if it is no move. */
static bool take(struct level *from, struct level *to)
{
	struct move *m = &from->next;
	bool ok = true;

	from->taken = *m;
	memcpy(&to->s, &from->s, sizeof(to->s));
	x.s = &to->s;
	if (m->flush) {
		flush(&to->s, m->actor, m->flush - 1u);
		m->flush++;
	} else {
		ok = step_actor(m->actor, m->choice);
		if (ok && m->choice + 1u < x.nr_choices) {
			m->choice++;
		} else {
			m->flush = 1;
			m->choice = 0;
		}
	}
	memcpy(from->text, x.text, sizeof(from->text));
	return ok;
}

static void search(struct level *l, bool show, u64 max_states)
{
	u32 depth = 0;
	bool *moved = calloc(DEPTH, sizeof(*moved));

	if (!moved)
		abort();
	while (!x.failed && x.nr_seen < max_states) {
		if (!next_move(&l[depth].s, &l[depth].next)) {
			if (!moved[depth]) {
				x.s = &l[depth].s;
				if (!all_done(&l[depth].s))
					x.failed = "nobody can go on";
				else if (x.w->end)
					x.w->end(l[depth].s.ghost);
				if (x.failed)
					break;
			}
			if (!depth)
				break;
			depth--;
			continue;
		}
		if (!take(&l[depth], &l[depth + 1]))
			continue;
		moved[depth] = true;
		if (!x.failed && !remember(&l[depth + 1].s))
			continue;
		if (++depth + 1 == DEPTH)
			abort();
		memset(&l[depth].next, 0, sizeof(l[depth].next));
		moved[depth] = false;
	}
	if (x.failed && show)
		show_way(l, depth);
	free(moved);
}

void x_explore(const struct x_world *w, bool show, struct x_result *res)
{
	u64 max_states = w->max_states ? w->max_states : 4000000;
	struct level *l = calloc(DEPTH, sizeof(*l));
	void *locals[X_ACTORS];
	u64 size = 1 << 16;
	u32 i;

	while (size < 2 * max_states && size < 1ull << 24)
		size *= 2;
	memset(&x, 0, sizeof(x));
	x.w = w;
	x.seen_mask = size - 1;
	x.seen = calloc(size, sizeof(*x.seen));
	if (!l || !x.seen)
		abort();
	max_states = max_states < size / 4 * 3 ? max_states : size / 4 * 3;
	x.s = &l[0].s;
	for (i = 0; i < X_ACTORS; i++)
		locals[i] = l[0].s.locals[i];
	w->init(l[0].s.ghost, locals);
	remember(&l[0].s);
	search(l, show, max_states);
	res->states = x.nr_seen;
	res->complete = !x.failed && x.nr_seen < max_states;
	res->failed = x.failed;
	free(x.seen);
	free(l);
}
