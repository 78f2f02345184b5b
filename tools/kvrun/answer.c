/* SPDX-License-Identifier: MIT */
/*
 * answer.c - generated sequences as text and as JSON
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine.h"
#include "tools/kvrun/answer.h"
#include "tools/kvrun/json_text.h"

void answer_show(struct answer_stream *a, FILE *out)
{
	if (a->len == a->shown)
		return;
	fwrite(a->text + a->shown, 1, a->len - a->shown, out);
	fflush(out);
	a->shown = a->len;
}

int answer_push(struct answer_stream *a, u32 id)
{
	if (vocab_is_eog(a->vocab, id))
		return 0;
	return vocab_stream_push(a->vocab, &a->vs, id, 0, &a->text, &a->len);
}

int answer_end(struct answer_stream *a)
{
	return vocab_stream_end(&a->vs, &a->text, &a->len);
}

int answer_text(const struct vocab *v, const struct seq *s, char **text,
		size_t *len)
{
	struct answer_stream a = { .vocab = v };
	u32 i;
	int rc = 0;

	for (i = s->req->p.nr_prompt; i < s->nr && !rc; i++)
		rc = answer_push(&a, s->ids[i]);
	if (!rc)
		rc = answer_end(&a);
	if (rc) {
		free(a.text);
		return rc;
	}
	*text = a.text;
	*len = a.len;
	return 0;
}

static void put_logprobs(FILE *out, const struct seq *s)
{
	u32 k = s->req->p.nr_logprobs, i, j;

	fputs(",\"logprobs\":[", out);
	for (i = 0; k && i < seq_nr_new(s); i++) {
		fputs(i ? ",[" : "[", out);
		for (j = 0; j < k; j++)
			fprintf(out, "%s{\"id\":%u,\"logprob\":%.7g}",
				j ? "," : "", s->lps[(size_t)i * k + j].id,
				(double)s->lps[(size_t)i * k + j].logprob);
		fputc(']', out);
	}
	fputc(']', out);
}

static const char *finish_word(enum finish_reason f)
{
	return f == FINISH_STOP ? "stop" : "length";
}

static int put_sequence(FILE *out, const struct answer_json *a,
			const struct seq *s)
{
	char *text = NULL;
	size_t len = 0;
	int rc = answer_text(a->vocab, s, &text, &len);

	if (rc)
		return rc;
	fputs("{\"ids\":", out);
	json_put_ids(out, s->ids + a->req->p.nr_prompt, seq_nr_new(s));
	fputs(",\"text\":", out);
	json_put_str(out, text ? text : "", len);
	put_logprobs(out, s);
	fprintf(out, ",\"finish\":\"%s\"", finish_word(s->finish));
	if (a->req->p.kind == REQUEST_BEAM)
		fprintf(out, ",\"score\":%.9g", s->cum);
	fputc('}', out);
	free(text);
	return 0;
}

int answer_print_json(FILE *out, const struct answer_json *a)
{
	u32 i;
	int rc = 0;

	fputs("{\"model\":", out);
	json_put_str(out, a->model, strlen(a->model));
	fputs(",\"prompt_ids\":", out);
	json_put_ids(out, a->prompt, a->nr_prompt);
	fputs(",\"sequences\":[", out);
	for (i = 0; i < request_nr_answers(a->req) && !rc; i++) {
		if (i)
			fputc(',', out);
		rc = put_sequence(out, a, request_answer(a->req, i));
	}
	fprintf(out,
		"],\"seed\":%" PRIu64 ",\"stats\":{\"steps\":%" PRIu64
		",\"prefill_tokens\":%" PRIu64 ",\"decode_tokens\":%" PRIu64
		",\"preempted\":%" PRIu64 ",\"seconds\":%.3f}}\n",
		a->req->p.sampling.seed, a->stats->nr_steps,
		a->stats->nr_prefill, a->stats->nr_decode,
		a->stats->nr_preempted, a->seconds);
	return rc;
}
