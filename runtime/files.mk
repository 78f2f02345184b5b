# SPDX-License-Identifier: MIT
runtime-y += runtime/model/gguf.o runtime/model/gguf_parse.o \
	runtime/model/gguf_get.o runtime/model/unicode.o \
	runtime/model/vocab.o runtime/model/vocab_gpt2.o \
	runtime/model/vocab_special.o runtime/model/vocab_text.o \
	runtime/model/tok_llama.o runtime/model/tok_gpt2.o \
	runtime/model/tok_pre.o runtime/model/chat_template.o
runtime-y += runtime/model/hparams.o runtime/model/model.o \
	runtime/model/forward.o runtime/model/digest.o \
	runtime/model/packing.o
runtime-y += runtime/engine/kv_paged.o runtime/engine/kv_contig.o \
	runtime/engine/kv_ideal.o runtime/engine/kv_none.o \
	runtime/engine/draw.o runtime/engine/sampler.o runtime/engine/request.o \
	runtime/engine/engine.o runtime/engine/ahead.o \
	runtime/engine/plan.o runtime/engine/batch.o runtime/engine/sched.o \
	runtime/engine/admit.o runtime/engine/order.o \
	runtime/engine/index.o runtime/engine/twins.o \
	runtime/engine/program.o \
	runtime/engine/decide.o runtime/engine/beam.o \
	runtime/engine/cost.o runtime/engine/back.o runtime/engine/turns.o \
	runtime/engine/step_log.o runtime/engine/reqs.o runtime/engine/preempt.o runtime/engine/commit.o \
	runtime/engine/law.o runtime/engine/budget.o runtime/engine/profile.o runtime/engine/check.o
runtime-y += $(addprefix runtime/server/,strbuf.o stop.o api_error.o params.o peers.o \
	feed.o metrics.o prompt.o call.o reply.o routes.o http.o server.o)
examples-y += examples/three_ways
runtime-libs += -lcrypto -lmicrohttpd -ljansson
