/* SPDX-License-Identifier: MIT */
#ifndef LIB_RECORD_H
#define LIB_RECORD_H
/*
 * record.h - memory that says how it is laid out
 *
 * What a process leaves in memory may be read by another build of the same
 * program, whose structs have other fields, in other places. So the memory, a
 * block, begins with a head that leads to its description: by name each struct
 * and each of its fields that counts. record_convert() fills a block of this
 * build with what one of another build says:
 *
 *	field		becomes
 *	in both		copied. A number may be wider or narrower now, an array
 *			longer or shorter, if what it says fits
 *	only ours	stays what it was in the block that is filled
 *	only theirs	forgotten
 *
 * What a field means is not described. One that comes to mean something else
 * gets another name; what cannot be told so, another version of the block,
 * which the caller compares. Numbers that become wider are taken to have no
 * sign, and one that meant something with all its bits set does not any more.
 */
#include <stdbool.h>
#include <stddef.h>

#include "include/kv/types.h"

#define RECORD_NAME 24u

/**
 * struct record_field - where a field lies
 * @name: in its struct; unused bytes are 0
 * @off: from the begin of its struct
 * @bytes: of it, or of one element
 * @nr: elements of an array, else 1
 * @type: 1 + which type it is of; 0: bytes that nobody looks into
 */
struct record_field {
	char name[RECORD_NAME];
	u64 off;
	u32 bytes, nr;
	u32 type, reserved;
};

/* A struct as the description has it: fields [first, first + nr). */
struct record_type {
	char name[RECORD_NAME];
	u64 bytes;
	u32 first, nr;
};

/* What a block begins with. Of all types the last one is the block's own. */
struct record_head {
	u64 magic; /* the caller's: written last */
	u32 version; /* likewise */
	u32 nr_types;
	u64 types_off, fields_off; /* from the head */
	u32 nr_fields, reserved;
};

/**
 * struct record_def - a struct as this build has it
 * @name: the same in every build
 * @bytes: sizeof
 * @fields: those that count
 * @nr: of them
 *
 * In an array, each behind those that its fields are of.
 */
struct record_def {
	const char *name;
	u64 bytes;
	const struct record_field *fields;
	u32 nr;
};

#define RECORD_AT(s, f)	   offsetof(struct s, f)
#define RECORD_SIZE(s, f)  sizeof(((struct s *)0)->f)
#define RECORD_COUNT(s, f) (RECORD_SIZE(s, f) / RECORD_SIZE(s, f[0]))

/* Field @f of struct @s: a number or bytes, an array of them, a struct that is
 * described as @t, an array of these. */
#define RECORD_PLAIN(s, f)                          \
	{                                           \
		.name = #f, .off = RECORD_AT(s, f), \
		.bytes = RECORD_SIZE(s, f), .nr = 1 \
	}
#define RECORD_ARRAY(s, f)                                              \
	{                                                               \
		.name = #f, .off = RECORD_AT(s, f),                     \
		.bytes = RECORD_SIZE(s, f[0]), .nr = RECORD_COUNT(s, f) \
	}
#define RECORD_STRUCT(s, f, t)                                       \
	{                                                            \
		.name = #f, .off = RECORD_AT(s, f),                  \
		.bytes = RECORD_SIZE(s, f), .nr = 1, .type = 1 + (t) \
	}
#define RECORD_STRUCTS(s, f, t)                                          \
	{                                                                \
		.name = #f, .off = RECORD_AT(s, f),                      \
		.bytes = RECORD_SIZE(s, f[0]), .nr = RECORD_COUNT(s, f), \
		.type = 1 + (t)                                          \
	}

/* struct @s, whose fields are @what_fields and whose name is @what */
#define RECORD_DEF(s, what)                                              \
	{                                                                \
		.name = #what, .bytes = sizeof(struct s),                \
		.fields = what##_fields, .nr = ARRAY_SIZE(what##_fields) \
	}

/* record_bytes - what the description takes */
u64 record_bytes(const struct record_def *defs, u32 nr);

/* record_describe - write it at @off of the block, 8-byte aligned, and into the
 * head where it is */
void record_describe(struct record_head *h, u64 off,
		     const struct record_def *defs, u32 nr);

/* record_is_ours - is a block of @bytes laid out as these say, to the byte? */
bool record_is_ours(const struct record_head *h, u64 bytes,
		    const struct record_def *defs, u32 nr);

/**
 * record_convert - fill a block with what another build's says
 * @to: described; as it is where there is nothing to say
 * @from: the other one
 * @from_bytes: of it
 * @from_fd: what is mapped there, whose holes are not looked into; or -1
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: 0; -EBADMSG: its description makes no sense; -EOVERFLOW: there is no
 * room here for something that is used there; -EPROTONOSUPPORT: a field is not
 * the same kind of thing; -ENOMEM. @to is of no use then.
 */
int __must_check record_convert(struct record_head *to,
				const struct record_head *from, u64 from_bytes,
				int from_fd, char *err);

#endif
