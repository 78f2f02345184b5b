/* SPDX-License-Identifier: MIT */
#ifndef LIB_ILIST_H
#define LIB_ILIST_H
/*
 * ilist.h - doubly linked lists whose links are array indices
 *
 * An object that lives in an array embeds a struct ilink; a list is a struct
 * ilist that names its ends. No pointer is stored, so the array and its
 * lists mean the same wherever they are mapped.
 *
 * Every call names the array once, through ILINKS(array, member), which is
 * the address of the first link and the distance to the next:
 *
 *	ilist_add_tail(&mm->ready, ILINKS(extents, link), i);
 *	ilist_for_each(i, &mm->ready, ILINKS(extents, link))
 *
 * A link is not initialised before it is added; an object is on at most one
 * list per link, and its owner knows which.
 */
#include "include/kv/types.h"

#define ILIST_NONE 0xffffffffu

struct ilink {
	u32 prev, next;
};

struct ilist {
	u32 first, last;
	u32 nr;
};

/* The two arguments "links, stride" of the functions below. */
#define ILINKS(array, member) \
	((void *)&(array)[0].member), ((u32)sizeof((array)[0]))

static inline struct ilink *ilink_at(void *links, u32 stride, u32 i)
{
	return (struct ilink *)(void *)((char *)links + (size_t)i * stride);
}

static inline void ilist_init(struct ilist *l)
{
	l->first = ILIST_NONE;
	l->last = ILIST_NONE;
	l->nr = 0;
}

static inline bool ilist_is_empty(const struct ilist *l)
{
	return l->nr == 0;
}

static inline u32 ilist_next(void *links, u32 stride, u32 i)
{
	return ilink_at(links, stride, i)->next;
}

static inline void ilist_add_tail(struct ilist *l, void *links, u32 stride,
				  u32 i)
{
	struct ilink *k = ilink_at(links, stride, i);

	k->prev = l->last;
	k->next = ILIST_NONE;
	if (l->last == ILIST_NONE)
		l->first = i;
	else
		ilink_at(links, stride, l->last)->next = i;
	l->last = i;
	l->nr++;
}

static inline void ilist_add_head(struct ilist *l, void *links, u32 stride,
				  u32 i)
{
	struct ilink *k = ilink_at(links, stride, i);

	k->prev = ILIST_NONE;
	k->next = l->first;
	if (l->first == ILIST_NONE)
		l->last = i;
	else
		ilink_at(links, stride, l->first)->prev = i;
	l->first = i;
	l->nr++;
}

/* ilist_add_before - insert @i before @pos; ILIST_NONE: at the tail */
static inline void ilist_add_before(struct ilist *l, void *links, u32 stride,
				    u32 pos, u32 i)
{
	struct ilink *k, *p;

	if (pos == ILIST_NONE) {
		ilist_add_tail(l, links, stride, i);
		return;
	}
	p = ilink_at(links, stride, pos);
	if (p->prev == ILIST_NONE) {
		ilist_add_head(l, links, stride, i);
		return;
	}
	k = ilink_at(links, stride, i);
	k->prev = p->prev;
	k->next = pos;
	ilink_at(links, stride, p->prev)->next = i;
	p->prev = i;
	l->nr++;
}

static inline void ilist_del(struct ilist *l, void *links, u32 stride, u32 i)
{
	struct ilink *k = ilink_at(links, stride, i);

	if (k->prev == ILIST_NONE)
		l->first = k->next;
	else
		ilink_at(links, stride, k->prev)->next = k->next;
	if (k->next == ILIST_NONE)
		l->last = k->prev;
	else
		ilink_at(links, stride, k->next)->prev = k->prev;
	l->nr--;
}

/* ilist_append - what is on @from stands behind what is on @to */
static inline void ilist_append(struct ilist *to, struct ilist *from,
				void *links, u32 stride)
{
	if (ilist_is_empty(from))
		return;
	if (ilist_is_empty(to)) {
		*to = *from;
	} else {
		ilink_at(links, stride, to->last)->next = from->first;
		ilink_at(links, stride, from->first)->prev = to->last;
		to->last = from->last;
		to->nr += from->nr;
	}
	ilist_init(from);
}

/* ilist_pop - take the first one off; ILIST_NONE if there is none */
static inline u32 ilist_pop(struct ilist *l, void *links, u32 stride)
{
	u32 i = l->first;

	if (i != ILIST_NONE)
		ilist_del(l, links, stride, i);
	return i;
}

/* The loop body must not take @i off the list. */
#define ilist_for_each(i, list, ...)                 \
	for ((i) = (list)->first; (i) != ILIST_NONE; \
	     (i) = ilist_next(__VA_ARGS__, (i)))

/* The loop body may take @i (only @i) off the list. */
#define ilist_for_each_safe(i, n, list, ...)                              \
	for ((i) = (list)->first,                                         \
	    (n) = (i) == ILIST_NONE ? (i) : ilist_next(__VA_ARGS__, (i)); \
	     (i) != ILIST_NONE; (i) = (n),                                \
	    (n) = (i) == ILIST_NONE ? (i) : ilist_next(__VA_ARGS__, (i)))

#endif
