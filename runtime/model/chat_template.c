/* SPDX-License-Identifier: MIT */
/*
 * chat_template.c - ChatML and Gemma's turns
 *
 * A conversation becomes a list of segments over one buffer: markers, which
 * are ours, and words, which are somebody's. As a text they are simply one
 * after the other; as ids only markers may become control tokens
 * (vocab_tokenize_parts), so that nobody can write himself a turn.
 *
 * What ChatML's template says when there is no system message is read from
 * its text: it stands between "<|im_start|>system\n" and "<|im_end|>" in one
 * string literal.
 */
#include "runtime/model/chat_template.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "runtime/model/unicode.h"

struct segment {
	size_t from, len;
	unsigned int flags;
};

struct script {
	char *buf;
	size_t len, cap;
	struct segment *segs;
	size_t nr_segs, cap_segs;
	bool failed; /* out of memory, told at the end */
};

static const struct {
	const char *open, *close;
} markers[] = {
	[CHAT_CHATML] = { "<|im_start|>", "<|im_end|>" },
	[CHAT_GEMMA] = { "<start_of_turn>", "<end_of_turn>" },
};

static void script_fini(struct script *s)
{
	free(s->buf);
	free(s->segs);
}

static bool reserve(struct script *s, size_t len)
{
	if (s->failed)
		return false;
	if (s->len + len + 1 > s->cap) {
		size_t cap = 2 * (s->len + len + 1);
		char *p = realloc(s->buf, cap);

		if (!p)
			goto fail;
		s->buf = p;
		s->cap = cap;
	}
	if (s->nr_segs == s->cap_segs) {
		size_t cap = s->cap_segs ? 2 * s->cap_segs : 16;
		void *p = reallocarray(s->segs, cap, sizeof(*s->segs));

		if (!p)
			goto fail;
		s->segs = p;
		s->cap_segs = cap;
	}
	return true;
fail:
	s->failed = true;
	return false;
}

static void add(struct script *s, const char *text, size_t len,
		unsigned int flags)
{
	if (!reserve(s, len))
		return;
	if (len)
		memcpy(s->buf + s->len, text, len);
	s->segs[s->nr_segs++] = (struct segment){ s->len, len, flags };
	s->len += len;
	s->buf[s->len] = '\0';
}

static void add_words(struct script *s, const char *text, size_t len)
{
	add(s, text, len, 0);
}

/* A control token is only seen inside one segment, so it goes in whole. */
static void add_mark(struct script *s, const char *text)
{
	add(s, text, strlen(text), VOCAB_PARSE_SPECIAL);
}

static bool role_is(const struct chat_msg *m, const char *role)
{
	return !strcmp(m->role, role);
}

static int check_roles(const struct chat_msg *msgs, size_t nr, char *err)
{
	for (size_t i = 0; i < nr; i++)
		if (!role_is(&msgs[i], "system") &&
		    !role_is(&msgs[i], "user") &&
		    !role_is(&msgs[i], "assistant"))
			return err_set(
				err, -EINVAL,
				"messages[%zu] has the role '%.32s', not "
				"system, user or assistant",
				i, msgs[i].role);
	return 0;
}

static void chatml_turn(struct script *s, const char *role, const char *text,
			size_t len)
{
	add_mark(s, "<|im_start|>");
	add_mark(s, role);
	add_mark(s, "\n");
	add_words(s, text, len);
	add_mark(s, "<|im_end|>");
	add_mark(s, "\n");
}

static void chatml(struct script *s, const struct chat_template *t,
		   const struct chat_msg *msgs, size_t nr, bool prompt)
{
	if (t->system && (!nr || !role_is(&msgs[0], "system")))
		chatml_turn(s, "system", t->system, strlen(t->system));
	for (size_t i = 0; i < nr; i++)
		chatml_turn(s, msgs[i].role, msgs[i].text, msgs[i].len);
	if (prompt)
		add_mark(s, "<|im_start|>assistant\n");
}

/* White space of Python's str.strip(), by which the template's trim goes. */
static bool is_blank(u32 cp)
{
	return unicode_class(cp) == UNICODE_SPACE || (cp >= 0x1c && cp <= 0x1f);
}

/* Bytes of the blank that @text begins with, or ends with; 0 for none. */
static size_t blank_at_start(const char *text, size_t len)
{
	u32 cp;
	size_t n = utf8_decode(text, len, &cp);

	return is_blank(cp) ? n : 0;
}

static size_t blank_at_end(const char *text, size_t len)
{
	for (size_t n = 1; n <= min(len, (size_t)4); n++)
		if (blank_at_start(text + len - n, n) == n)
			return n;
	return 0;
}

static void add_trimmed(struct script *s, const char *text, size_t len)
{
	size_t n;

	while (len && (n = blank_at_start(text, len))) {
		text += n;
		len -= n;
	}
	while (len && (n = blank_at_end(text, len)))
		len -= n;
	add_words(s, text, len);
}

/* Turns alternate, user first; a system message joins the first of them. */
static int gemma(struct script *s, const struct chat_msg *msgs, size_t nr,
		 bool prompt, char *err)
{
	size_t first = nr && role_is(&msgs[0], "system");

	for (size_t i = first; i < nr; i++) {
		bool user = !((i - first) & 1);

		if (!role_is(&msgs[i], user ? "user" : "assistant"))
			return err_set(err, -EINVAL,
				       "messages[%zu] is the %s's, but turns "
				       "must alternate, user first",
				       i, msgs[i].role);
		add_mark(s, "<start_of_turn>");
		add_mark(s, user ? "user\n" : "model\n");
		if (i == first && first) {
			add_words(s, msgs[0].text, msgs[0].len);
			add_mark(s, "\n\n");
		}
		add_trimmed(s, msgs[i].text, msgs[i].len);
		add_mark(s, "<end_of_turn>");
		add_mark(s, "\n");
	}
	if (first && nr == 1)
		return err_set(err, -EINVAL,
			       "a system message needs a user's behind it");
	if (prompt)
		add_mark(s, "<start_of_turn>model\n");
	return 0;
}

static int build(const struct chat_template *t, const struct chat_msg *msgs,
		 size_t nr, bool prompt, struct script *s, char *err)
{
	int rc = check_roles(msgs, nr, err);

	if (rc)
		return rc;
	add_words(s, "", 0); /* an empty conversation is a text too */
	if (t->format == CHAT_GEMMA)
		rc = gemma(s, msgs, nr, prompt, err);
	else
		chatml(s, t, msgs, nr, prompt);
	if (!rc && s->failed)
		rc = err_set(err, -ENOMEM,
			     "the conversation does not fit in "
			     "memory");
	return rc;
}

int chat_template_render(const struct chat_template *t,
			 const struct chat_msg *msgs, size_t nr, bool prompt,
			 char **text, size_t *len, char *err)
{
	struct script s = { 0 };
	int rc = build(t, msgs, nr, prompt, &s, err);

	if (rc) {
		script_fini(&s);
		return rc;
	}
	*text = s.buf;
	*len = s.len;
	free(s.segs);
	return 0;
}

int chat_template_tokenize(const struct chat_template *t, const struct vocab *v,
			   const struct chat_msg *msgs, size_t nr, bool prompt,
			   u32 **ids, size_t *nr_ids, char *err)
{
	struct vocab_part *parts = NULL;
	struct script s = { 0 };
	int rc = build(t, msgs, nr, prompt, &s, err);

	if (!rc) {
		parts = calloc(s.nr_segs + 1, sizeof(*parts));
		if (!parts)
			rc = err_set(err, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < s.nr_segs && !rc; i++)
		parts[i] = (struct vocab_part){ s.buf + s.segs[i].from,
						s.segs[i].len,
						s.segs[i].flags };
	if (!rc) {
		rc = vocab_tokenize_parts(v, parts, s.nr_segs,
					  VOCAB_ADD_SPECIAL, ids, nr_ids);
		if (rc)
			err_set(err, rc, "a conversation of %zu bytes: %s",
				s.len, strerror(-rc));
	}
	free(parts);
	script_fini(&s);
	return rc;
}

static const char *find(struct gguf_str s, const char *what)
{
	return memmem(s.ptr, s.len, what, strlen(what));
}

/*
 * The words of a string literal up to @end: backslash n is a line feed, any
 * other escaped character itself. NULL if it is no plain text.
 */
static char *unquote(const char *s, const char *end)
{
	char *out = malloc((size_t)(end - s) + 1), *p = out;

	if (!out || s == end || *s == '\'' || *s == '"')
		goto none;
	for (; s < end; s++) {
		if (*s == '{' || *s == '}' || !*s)
			goto none;
		if (*s == '\\' && s + 1 < end) {
			s++;
			*p++ = *s == 'n' ? '\n' : *s;
		} else {
			*p++ = *s;
		}
	}
	*p = '\0';
	return out;
none:
	free(out);
	return NULL;
}

/* From an opening to the close behind it, unless another one opens between. */
static char *default_system(struct gguf_str tmpl)
{
	static const char open[] = "<|im_start|>system\\n";
	const char *p = find(tmpl, open), *end = NULL, *next;

	for (; p; p = next) {
		const char *from = p + sizeof(open) - 1;
		char *text;

		tmpl.len -= (size_t)(from - tmpl.ptr);
		tmpl.ptr = from;
		next = find(tmpl, open);
		if (!end || end < from)
			end = find(tmpl, markers[CHAT_CHATML].close);
		if (!end)
			break;
		text = next && next < end ? NULL : unquote(from, end);
		if (text)
			return text;
	}
	return NULL;
}

static bool is_marker(const struct vocab *v, const char *name)
{
	u32 id = vocab_find(v, name, strlen(name));

	return id != VOCAB_NONE && vocab_class(v, id) == VOCAB_CONTROL;
}

int chat_template_detect(const struct gguf *g, const struct vocab *v,
			 struct chat_template *out, char *err)
{
	static const char key[] = "tokenizer.chat_template";
	enum chat_format f = CHAT_NONE;
	struct gguf_str tmpl;
	int rc = gguf_get_str(g, key, &tmpl, err);

	if (rc == -ENOENT)
		return err_set(err, -EOPNOTSUPP,
			       "%s: the file has no chat template: it is no "
			       "model to chat with",
			       gguf_name(g));
	if (rc)
		return rc;
	for (size_t i = CHAT_CHATML; i < ARRAY_SIZE(markers); i++)
		if (f == CHAT_NONE && find(tmpl, markers[i].open) &&
		    find(tmpl, markers[i].close))
			f = (enum chat_format)i;
	if (f == CHAT_NONE)
		return err_set(err, -EOPNOTSUPP,
			       "%s: the chat template is neither ChatML nor "
			       "Gemma's",
			       gguf_name(g));
	if (!is_marker(v, markers[f].open) || !is_marker(v, markers[f].close))
		return err_set(err, -EOPNOTSUPP,
			       "%s: the chat template uses %s and %s, which "
			       "are no control tokens of the vocabulary",
			       gguf_name(g), markers[f].open, markers[f].close);
	out->format = f;
	out->system = f == CHAT_CHATML ? default_system(tmpl) : NULL;
	return 0;
}

void chat_template_fini(struct chat_template *t)
{
	free(t->system);
	*t = (struct chat_template){ 0 };
}
