# SPDX-License-Identifier: MIT
kvrun-y += tools/kvrun/main.o tools/kvrun/cmd_tokenize.o \
	tools/kvrun/json_text.o \
	tools/kvrun/cmd_generate.o tools/kvrun/cmd_score.o \
	tools/kvrun/cmd_chat.o tools/kvrun/cmd_serve.o tools/kvrun/answer.o \
	tools/kvrun/session.o tools/kvrun/private_kvmd.o \
	tools/kvrun/drop.o tools/kvrun/read_file.o
kvctl-y += $(addprefix tools/kvctl/,main.o cmd.o complete.o ask.o fmt.o tab.o \
	show.o show_oom.o show_table.o act.o top.o top_screen.o)
kvctl-libs := -ljansson
kvbench-y += $(addprefix tools/kvbench/,main.o claims.o report.o \
	against.o sample.o mmhost.o client.o bench_bw.o bench_attn.o \
	bench_gemm.o onednn.o bench_util.o bench_frag.o bench_fault.o bench_fork.o bench_pages.o \
	bench_probes.o bench_model.o bench_engine.o bench_restart.o bench_revoke.o \
	models.o bench_score.o bench_tokens.o bench_weights.o bench_prefill.o \
	bench_gate.o bench_handover.o bench_load.o bench_neighbour.o bench_turns.o bench_ttft.o bench_cache.o cache_trace.o cache_gen.o cache_replay.o cache_tree.o \
	bench_swap.o bench_sim.o bench_orca.o bench_sarathi.o \
	bench_host.o bench_radix.o bench_radix_model.o radix_load.o)
kvbench-y += $(addprefix tools/kvbench/sim/,world.o backend.o calls.o fleet.o \
	setup.o capacity.o real.o measure.o) kvmd/ipc/growing.o
kvbench-serve := $(addprefix tools/kvbench/serve/,http.o sse.o answer.o \
	failures.o samples.o dist.o work.o work_tree.o work_trace.o render.o \
	target.o conn.o run.o server.o slo.o figures.o sweep.o options.o serve.o \
	svg.o plot.o plot_steps.o lines.o values.o)
kvbench-y += $(kvbench-serve)
kvbench-y += $(addprefix tools/kvrun/,session.o private_kvmd.o drop.o)
kvbench-libs := -ljansson -lm
# fmt.o: as kvctl writes numbers
kvtrace-y += $(addprefix tools/kvtrace/,main.o tracer.o faults.o \
	faults_json.o probes.o) tools/kvctl/fmt.o
kvtrace-libs := -ljansson -l:libbpf.a -lelf -lz
CFLAGS-tools/kvtrace/tracer.o = -isystem $(dir $(skel-h))
