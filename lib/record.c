/* SPDX-License-Identifier: MIT */
/*
 * record.c - memory that says how it is laid out
 *
 * Types are paired by name, then fields within a pair, once; the copy walks
 * the fields of ours from the block down. The other description is not
 * trusted: all it says lies within the block, or nothing is done. Types only
 * contain ones before them, so the walk ends.
 *
 * A block is sparse: reading a hole of a mapped memfd would fill it. So
 * elements are visited where there is data.
 */
#include "lib/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/kv/errbuf.h"

#define TYPES_MAX  256u
#define FIELDS_MAX 4096u

struct side {
	const char *base;
	const struct record_type *types;
	const struct record_field *fields;
	u32 nr_types, nr_fields;
};

/* [data, hole): known to be no hole. */
struct convert {
	struct side to, from;
	const struct record_field **pair; /* by ours; NULL: they have none */
	int fd;
	u64 bytes, data, hole;
	char *err;
};

/* ---- to describe ---- */

static u32 count_fields(const struct record_def *defs, u32 nr)
{
	u32 i, n = 0;

	for (i = 0; i < nr; i++)
		n += defs[i].nr;
	return n;
}

u64 record_bytes(const struct record_def *defs, u32 nr)
{
	return nr * sizeof(struct record_type) +
	       count_fields(defs, nr) * sizeof(struct record_field);
}

static struct record_type type_of(const struct record_def *d, u32 first)
{
	struct record_type t = { .bytes = d->bytes,
				 .first = first,
				 .nr = d->nr };

	strncpy(t.name, d->name, RECORD_NAME - 1);
	return t;
}

static struct side side_of(const struct record_head *h)
{
	const char *base = (const char *)h;

	return (struct side){
		.base = base,
		.types = (const void *)(base + h->types_off),
		.fields = (const void *)(base + h->fields_off),
		.nr_types = h->nr_types,
		.nr_fields = h->nr_fields,
	};
}

void record_describe(struct record_head *h, u64 off,
		     const struct record_def *defs, u32 nr)
{
	struct record_field *f;
	struct record_type *t;
	u32 i, first = 0;

	h->nr_types = nr;
	h->nr_fields = count_fields(defs, nr);
	h->types_off = off;
	h->fields_off = off + nr * sizeof(*t);
	t = (void *)((char *)h + h->types_off);
	f = (void *)((char *)h + h->fields_off);
	for (i = 0; i < nr; first += defs[i++].nr) {
		t[i] = type_of(&defs[i], first);
		memcpy(&f[first], defs[i].fields, defs[i].nr * sizeof(*f));
	}
}

/* ---- to read ---- */

static bool lies_within(u64 off, u64 n, u64 size, u64 bytes)
{
	return off <= bytes && n <= (bytes - off) / size;
}

static bool head_is_valid(const struct record_head *h, u64 bytes)
{
	return bytes >= sizeof(*h) && h->nr_types && h->nr_types <= TYPES_MAX &&
	       h->nr_fields <= FIELDS_MAX && h->types_off % 8 == 0 &&
	       h->fields_off % 8 == 0 &&
	       lies_within(h->types_off, h->nr_types,
			   sizeof(struct record_type), bytes) &&
	       lies_within(h->fields_off, h->nr_fields,
			   sizeof(struct record_field), bytes);
}

static bool name_is_valid(const char *name)
{
	return name[0] && memchr(name, 0, RECORD_NAME);
}

static bool field_is_valid(const struct side *s, u32 type,
			   const struct record_field *f)
{
	return name_is_valid(f->name) && f->bytes &&
	       lies_within(f->off, f->nr, f->bytes, s->types[type].bytes) &&
	       f->type <= type &&
	       (!f->type || s->types[f->type - 1].bytes == f->bytes);
}

static const struct record_type *find_type(const struct side *s,
					   const char *name)
{
	u32 i;

	for (i = 0; i < s->nr_types; i++)
		if (!strcmp(s->types[i].name, name))
			return &s->types[i];
	return NULL;
}

static bool side_is_valid(const struct side *s, u64 bytes)
{
	const struct record_type *t;
	u32 i, k;

	for (i = 0; i < s->nr_types; i++)
		if (!name_is_valid(s->types[i].name))
			return false;
	for (i = 0; i < s->nr_types; i++) {
		t = &s->types[i];
		if (find_type(s, t->name) != t ||
		    !lies_within(t->first, t->nr, 1, s->nr_fields))
			return false;
		for (k = 0; k < t->nr; k++)
			if (!field_is_valid(s, i, &s->fields[t->first + k]))
				return false;
	}
	return s->types[s->nr_types - 1].bytes <= bytes;
}

bool record_is_ours(const struct record_head *h, u64 bytes,
		    const struct record_def *defs, u32 nr)
{
	struct record_type t;
	struct side s;
	u32 i, first = 0;

	if (!head_is_valid(h, bytes) || h->nr_types != nr ||
	    h->nr_fields != count_fields(defs, nr))
		return false;
	s = side_of(h);
	for (i = 0; i < nr; first += defs[i++].nr) {
		t = type_of(&defs[i], first);
		if (memcmp(&t, &s.types[i], sizeof(t)) ||
		    memcmp(defs[i].fields, &s.fields[first],
			   defs[i].nr * sizeof(*s.fields)))
			return false;
	}
	return true;
}

/* ---- pairs ---- */

static const struct record_field *
find_field(const struct side *s, const struct record_type *t, const char *name)
{
	u32 i;

	for (i = t->first; i < t->first + t->nr; i++)
		if (!strcmp(s->fields[i].name, name))
			return &s->fields[i];
	return NULL;
}

static bool is_number(u32 bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

/* Are these the same kind of thing? */
static bool is_pair(const struct convert *c, const struct record_field *to,
		    const struct record_field *from)
{
	if (to->type && from->type)
		return !strcmp(c->to.types[to->type - 1].name,
			       c->from.types[from->type - 1].name);
	return !to->type && !from->type &&
	       (to->bytes == from->bytes ||
		(is_number(to->bytes) && is_number(from->bytes)));
}

static int find_pairs(struct convert *c)
{
	const struct record_field *to, *from;
	const struct record_type *t, *their;
	u32 i, k;

	for (i = 0; i < c->to.nr_types; i++) {
		t = &c->to.types[i];
		their = find_type(&c->from, t->name);
		for (k = t->first; their && k < t->first + t->nr; k++) {
			to = &c->to.fields[k];
			from = find_field(&c->from, their, to->name);
			if (from && !is_pair(c, to, from))
				return err_set(c->err, -EPROTONOSUPPORT,
					       "%s of a %s is something else "
					       "there",
					       to->name, t->name);
			c->pair[k] = from;
		}
	}
	return 0;
}

/* ---- to copy ---- */

/* Where there is data in [off, end) of the other block, or end. */
static u64 next_data(struct convert *c, u64 off, u64 end)
{
	off_t at;

	if (off >= c->data && off < c->hole)
		return off;
	at = c->fd < 0 ? -1 : lseek(c->fd, (off_t)off, SEEK_DATA);
	if (at < 0 && c->fd >= 0 && errno == ENXIO)
		return end;
	c->data = at < 0 ? off : (u64)at;
	at = at < 0 ? -1 : lseek(c->fd, at, SEEK_HOLE);
	c->hole = at < 0 ? c->bytes : (u64)at;
	return min(c->data, end);
}

static int no_room(const struct convert *c, const struct record_field *f)
{
	return err_set(c->err, -EOVERFLOW, "there is more of %s than fits",
		       f->name);
}

/* Of x86 and whatever else kvmd runs on: the least byte is the first. */
static int copy_number(const struct convert *c, const struct record_field *f,
		       char *to, const char *from, u32 from_bytes)
{
	u64 v = 0;

	memcpy(&v, from, from_bytes);
	if (f->bytes < 8 && v >> (8 * f->bytes))
		return no_room(c, f);
	memcpy(to, &v, f->bytes);
	return 0;
}

static int copy_fields(struct convert *c, const struct record_type *t, char *to,
		       const char *from);

static int copy_element(struct convert *c, const struct record_field *f,
			char *to, const char *from, u32 from_bytes)
{
	if (f->type)
		return copy_fields(c, &c->to.types[f->type - 1], to, from);
	if (f->bytes != from_bytes)
		return copy_number(c, f, to, from, from_bytes);
	memcpy(to, from, f->bytes);
	return 0;
}

static bool is_zero(const char *p, u64 n)
{
	while (n && !*p) {
		p++;
		n--;
	}
	return !n;
}

static int copy_array(struct convert *c, const struct record_field *f, char *to,
		      const struct record_field *their, const char *from)
{
	u64 i, at, off = (u64)(from - c->from.base);
	u64 end = off + (u64)their->nr * their->bytes;
	int rc;

	for (i = 0; i < their->nr; i++) {
		at = next_data(c, off + i * their->bytes, end);
		i = (at - off) / their->bytes;
		if (i >= their->nr)
			break;
		if (i >= f->nr) {
			if (!is_zero(from + i * their->bytes, their->bytes))
				return no_room(c, f);
			continue;
		}
		rc = copy_element(c, f, to + i * f->bytes,
				  from + i * their->bytes, their->bytes);
		if (rc)
			return rc;
	}
	return 0;
}

static int copy_fields(struct convert *c, const struct record_type *t, char *to,
		       const char *from)
{
	const struct record_field *f, *their;
	u32 k;
	int rc = 0;

	for (k = t->first; k < t->first + t->nr && !rc; k++) {
		f = &c->to.fields[k];
		their = c->pair[k];
		if (their)
			rc = copy_array(c, f, to + f->off, their,
					from + their->off);
	}
	return rc;
}

int record_convert(struct record_head *to, const struct record_head *from,
		   u64 from_bytes, int from_fd, char *err)
{
	struct convert c = { .fd = from_fd, .bytes = from_bytes, .err = err };
	int rc;

	if (!head_is_valid(from, from_bytes))
		return err_set(err, -EBADMSG, "it has no description");
	c.to = side_of(to);
	c.from = side_of(from);
	if (!side_is_valid(&c.from, from_bytes) ||
	    strcmp(c.from.types[c.from.nr_types - 1].name,
		   c.to.types[c.to.nr_types - 1].name))
		return err_set(err, -EBADMSG, "its description makes no sense");
	c.pair = calloc(c.to.nr_fields + 1, sizeof(*c.pair));
	if (!c.pair)
		return err_set(err, -ENOMEM, "no memory");
	rc = find_pairs(&c);
	if (!rc)
		rc = copy_fields(&c, &c.to.types[c.to.nr_types - 1], (char *)to,
				 (const char *)from);
	free(c.pair);
	return rc;
}
