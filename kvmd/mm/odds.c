/* SPDX-License-Identifier: MIT */
/*
 * odds.c - how likely a page of some class and age is to be used again
 *
 * Learning. seen[c][a] counts the pages of class c that came to interval a
 * without being used, used[c][a] those that were used there. A page counts
 * in interval 0 when it is used; when a slot passes to the next interval, so
 * do the pages that are still alive in it. A page that is forgotten in
 * between (no longer remembered, or dropped) counts as far as it came. Both
 * are halved every DECAY uses per page, so that old habits fade.
 *
 * Few pages say little: the ratio of a class is drawn towards that of the
 * class above it as if SHRINK more pages had behaved like that. Of pages used
 * once those of a run's length lean on all of them, those as near to the end
 * on these, those of a turn on the latter; of others those as near lean on
 * their level of uses, a level on the next lower one, the lowest on all pages,
 * and those on PRIOR, the same for each interval but the first, which stands
 * for all shorter ones. Intervals grow
 * with age, so that the prior's value falls with age: before anything is known,
 * the order is that of least recent use.
 *
 * Value. A page in memory costs its place for as long as it stays. If it is
 * kept until the end of interval k at most, it is used with probability P(k)
 * and stays for T(k) on average; the value is the largest P(k) / T(k). This
 * is the index of Gittins for a job that may be abandoned at any time: to
 * give up the page with the smallest one is best if pages are used
 * independently of each other. Unlike the chance of use in the next moment,
 * it knows of pages that come back late but surely, as in a loop.
 *
 * Slots. Slot 0 is the epoch that goes on; after it slots are merged if they
 * are in the same interval and together no longer than it, so that there are
 * two per interval at most, and old ones are coarse.
 */
#include <string.h>

#include "kvmd/mm/odds.h"

#define DECAY  16ull
#define SHRINK 32.0
#define PRIOR  0.05
#define SQRT2  1.41421356237309515

#define UNIT_MIN  16u
#define EPOCH_MIN 64u

/* Where each interval begins, and the end of the last one. */
static void edges(const struct odds *o, double edge[ODDS_AGES + 1])
{
	u32 a;

	edge[0] = 0;
	edge[1] = o->unit;
	edge[2] = o->unit * SQRT2;
	for (a = 3; a <= ODDS_AGES; a++)
		edge[a] = 2 * edge[a - 2];
}

static u32 interval_of(const double edge[ODDS_AGES + 1], u64 age)
{
	u32 a = 0;

	while (a + 1 < ODDS_AGES && (double)age >= edge[a + 1])
		a++;
	return a;
}

u32 odds_near(u32 below)
{
	return !below ? 0 : below < 8 ? 1 : 2;
}

u32 odds_near_of(u32 cls)
{
	return cls < ODDS_FRESH ? cls / ODDS_TURNS % ODDS_NEAR
				: (cls - ODDS_FRESH) % ODDS_NEAR;
}

u32 odds_class_fresh(u32 turn, u32 run, u32 near)
{
	u32 length = run <= 2 ? 0 : run <= 8 ? 1 : run <= 32 ? 2 : 3;

	return (length * ODDS_NEAR + near) * ODDS_TURNS +
	       min(turn, ODDS_TURNS - 1);
}

u32 odds_class_again(u32 uses, u32 near)
{
	static const u8 last[ODDS_LEVELS - 1] = { 2, 3, 4, 6, 9, 15 };
	u32 level = 0;

	while (level < ODDS_LEVELS - 1 && uses > last[level])
		level++;
	return ODDS_FRESH + level * ODDS_NEAR + near;
}

/* ---- values ---- */

/*
 * Intervals from the last one back. Who keeps a page through interval a keeps
 * it through what follows as long as that is worth more: those are joined to
 * stretches, and each is joined once.
 */
void odds_values(const double p[ODDS_AGES], const double edge[ODDS_AGES + 1],
		 double value[ODDS_AGES])
{
	struct {
		double use, stay, left;
	} s[ODDS_AGES], *top = s + ODDS_AGES;
	u32 a;

	for (a = ODDS_AGES; a-- > 0;) {
		top--;
		top->use = p[a];
		top->stay = (edge[a + 1] - edge[a]) * (1 - p[a] / 2);
		top->left = 1 - p[a];
		while (top + 1 < s + ODDS_AGES &&
		       top[1].use * top->stay > top->use * top[1].stay) {
			top[1].use = top->use + top->left * top[1].use;
			top[1].stay = top->stay + top->left * top[1].stay;
			top[1].left *= top->left;
			top++;
		}
		value[a] = top->use / top->stay;
	}
}

/* What [first, first + nr) did in interval @a, if @above is what others do. */
static double hazard(const struct odds *o, u32 first, u32 nr, u32 a,
		     double above)
{
	double used = 0, seen = 0;
	u32 c;

	for (c = first; c < first + nr; c++) {
		used += o->used[c][a];
		seen += o->seen[c][a];
	}
	return min(1.0, (used + SHRINK * above) / (seen + SHRINK));
}

static void hazards(const struct odds *o, u32 a, double *p)
{
	const u32 run = ODDS_NEAR * ODDS_TURNS;
	double all, fresh, above = 0, near = 0;
	u32 c;

	all = hazard(o, 0, ODDS_CLASSES, a, a ? PRIOR : 3 * PRIOR);
	fresh = hazard(o, 0, ODDS_FRESH, a, all);
	for (c = 0; c < ODDS_FRESH; c++) {
		if (c % run == 0)
			above = hazard(o, c, run, a, fresh);
		if (c % ODDS_TURNS == 0)
			near = hazard(o, c, ODDS_TURNS, a, above);
		p[c] = hazard(o, c, 1, a, near);
	}
	for (above = all; c < ODDS_CLASSES; c++) {
		if ((c - ODDS_FRESH) % ODDS_NEAR == 0)
			above = hazard(o, c, ODDS_NEAR, a, above);
		p[c] = hazard(o, c, 1, a, above);
	}
}

static void revalue(struct odds *o, const double edge[ODDS_AGES + 1])
{
	double of_class[ODDS_CLASSES], of_age[ODDS_AGES];
	u32 a, c;

	/* value[] has the hazards first */
	for (a = 0; a < ODDS_AGES; a++) {
		hazards(o, a, of_class);
		for (c = 0; c < ODDS_CLASSES; c++)
			o->value[c][a] = of_class[c];
	}
	for (c = 0; c < ODDS_CLASSES; c++) {
		memcpy(of_age, o->value[c], sizeof(of_age));
		odds_values(of_age, edge, o->value[c]);
	}
}

/* ---- pages ---- */

u32 odds_slot_of(const struct odds *o, u64 stamp)
{
	u32 low = 0, high = o->nr_slots - 1, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (stamp >= o->slot[mid].begin)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

void odds_born(struct odds *o, u32 cls)
{
	o->alive[o->slot[0].id][cls]++;
	o->seen[cls][0]++;
}

void odds_used(struct odds *o, u32 cls, u64 stamp)
{
	const struct odds_slot *s = &o->slot[odds_slot_of(o, stamp)];

	o->alive[s->id][cls]--;
	o->used[cls][s->age]++;
}

void odds_forget(struct odds *o, u32 cls, u64 stamp)
{
	o->alive[o->slot[odds_slot_of(o, stamp)].id][cls]--;
}

void odds_move(struct odds *o, u32 from, u32 to, u64 stamp)
{
	const struct odds_slot *s = &o->slot[odds_slot_of(o, stamp)];
	u32 a;

	o->alive[s->id][from]--;
	o->alive[s->id][to]++;
	for (a = 0; a <= s->age; a++) {
		o->seen[from][a] = max(0.0, o->seen[from][a] - 1);
		o->seen[to][a]++;
	}
}

/* ---- time ---- */

static void slots_grow_older(struct odds *o, u64 clock,
			     const double edge[ODDS_AGES + 1])
{
	struct odds_slot *s;
	u64 end = clock;
	u32 k, c, age;

	for (k = 0; k < o->nr_slots; end = o->slot[k].begin, k++) {
		s = &o->slot[k];
		age = interval_of(edge, clock - (end + s->begin) / 2);
		for (; s->age < age; s->age++)
			for (c = 0; c < ODDS_CLASSES; c++)
				o->seen[c][s->age + 1] += o->alive[s->id][c];
	}
}

/* Slot @k becomes a part of the next older one. */
static struct odds_event slot_merge(struct odds *o, u32 k)
{
	struct odds_event ev = { o->slot[k].id, o->slot[k + 1].id };
	u32 c;

	for (c = 0; c < ODDS_CLASSES; c++) {
		o->alive[ev.to][c] += o->alive[ev.from][c];
		o->alive[ev.from][c] = 0;
	}
	o->free_ids |= 1ull << ev.from;
	o->nr_slots--;
	memmove(&o->slot[k], &o->slot[k + 1],
		(o->nr_slots - k) * sizeof(o->slot[0]));
	return ev;
}

static bool may_merge(const struct odds *o, u32 k,
		      const double edge[ODDS_AGES + 1])
{
	const struct odds_slot *s = &o->slot[k];

	if (s[0].age != s[1].age)
		return false;
	return s[0].age == ODDS_AGES - 1 ||
	       (double)(s[-1].begin - s[1].begin) <=
		       edge[s[0].age + 1] - edge[s[0].age];
}

static void slot_open(struct odds *o, u64 clock)
{
	u32 id = (u32)__builtin_ctzll(o->free_ids);

	o->free_ids &= ~(1ull << id);
	memmove(&o->slot[1], &o->slot[0], o->nr_slots * sizeof(o->slot[0]));
	o->slot[0] = (struct odds_slot){ .begin = clock, .id = id };
	o->nr_slots++;
}

static void decay(struct odds *o)
{
	u32 c, a;

	for (c = 0; c < ODDS_CLASSES; c++)
		for (a = 0; a < ODDS_AGES; a++) {
			o->used[c][a] /= 2;
			o->seen[c][a] /= 2;
		}
}

/* ---- unit ---- */

static void unit_double(struct odds *o)
{
	u32 c, k, last = ODDS_AGES - 2;

	for (c = 0; c < ODDS_CLASSES; c++) {
		o->used[c][2] += o->used[c][0] + o->used[c][1];
		o->seen[c][2] = o->seen[c][0];
		memmove(o->used[c], o->used[c] + 2, last * sizeof(double));
		memmove(o->seen[c], o->seen[c] + 2, last * sizeof(double));
		o->used[c][last] = o->used[c][last + 1] = 0;
		o->seen[c][last] = o->seen[c][last + 1] = 0;
	}
	for (k = 0; k < o->nr_slots; k++)
		o->slot[k].age -= min(o->slot[k].age, 2u);
	o->unit *= 2;
}

/* What was used in interval 0 is taken to spread evenly over its parts. */
static void unit_halve(struct odds *o)
{
	u32 c, k, a, last = ODDS_AGES - 2;
	double all, part;

	for (c = 0; c < ODDS_CLASSES; c++) {
		all = o->seen[c][0];
		memmove(o->used[c] + 2, o->used[c], last * sizeof(double));
		memmove(o->seen[c] + 2, o->seen[c], last * sizeof(double));
		part = o->used[c][2] / 3;
		for (a = 0; a < 3; a++) {
			o->used[c][a] = part;
			o->seen[c][a] = all - a * part;
		}
	}
	for (k = 0; k < o->nr_slots; k++)
		if (o->slot[k].age)
			o->slot[k].age = min(o->slot[k].age + 2, ODDS_AGES - 1);
	o->unit /= 2;
}

int odds_tick(struct odds *o, u64 clock, u32 nr_pages,
	      struct odds_event *merges)
{
	double edge[ODDS_AGES + 1];
	u32 k;
	int nr = 0;

	if (clock - o->slot[0].begin < max(o->unit / 2, EPOCH_MIN))
		return -1;
	while (nr_pages > 16 * o->unit)
		unit_double(o);
	while (nr_pages < 4 * o->unit && o->unit > UNIT_MIN)
		unit_halve(o);
	edges(o, edge);
	slots_grow_older(o, clock, edge);
	for (k = 1; k + 1 < o->nr_slots;) {
		if (may_merge(o, k, edge))
			merges[nr++] = slot_merge(o, k);
		else
			k++;
	}
	if (o->nr_slots == ODDS_SLOTS)
		merges[nr++] = slot_merge(o, ODDS_SLOTS - 2);
	slot_open(o, clock);
	if (clock >= o->decay_at) {
		decay(o);
		o->decay_at = clock + 8 * DECAY * o->unit;
	}
	revalue(o, edge);
	return nr;
}

void odds_init(struct odds *o)
{
	double edge[ODDS_AGES + 1];

	memset(o, 0, sizeof(*o));
	o->unit = UNIT_MIN;
	o->decay_at = 8 * DECAY * o->unit;
	o->free_ids = ~0ull;
	slot_open(o, 0);
	edges(o, edge);
	revalue(o, edge);
}
