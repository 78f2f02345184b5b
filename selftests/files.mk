# SPDX-License-Identifier: MIT
test-helpers-y += selftests/harness_victim
test-helpers-y += selftests/kernels/dequant_dump
CFLAGS-selftests/kernels/test_amx.o := $(avx2-flags)
CFLAGS-selftests/kernels/test_attn_amx.o := $(avx2-flags)
CFLAGS-selftests/kernels/test_amx_int8.o := $(avx2-flags)
test-y += selftests/lib_kvmd.o
test-y += selftests/hold.o
test-helpers-y += selftests/runtime/model/write_sample
test-helpers-y += selftests/e2e/rude selftests/e2e/slow_fill
test-helpers-y += $(if $(SAN),,selftests/e2e/kvmd_other)
test-y += selftests/sim/day.o
test-y += selftests/sim/sim.o
test-y += selftests/sim/sim_client.o
test-y += selftests/explore/explore.o
test-y += selftests/audit/freeze.o
test-y += selftests/faults/left.o
test-y += selftests/faults/sites.o
test-helpers-y += selftests/audit/audit
test-y += selftests/kvmd/mm/fuzz_mm.o
test-y += $(addprefix tools/kvbench/,sample.o cache_trace.o cache_gen.o \
	cache_replay.o mmhost.o onednn.o sim/world.o sim/backend.o sim/calls.o \
	sim/fleet.o sim/setup.o sim/capacity.o)
test-y += $(addprefix tools/kvbench/serve/,http.o sse.o answer.o \
	failures.o samples.o slo.o dist.o work.o work_tree.o work_trace.o \
	render.o sweep.o svg.o lines.o)
test-helpers-y += selftests/tools/kvctl/hold
test-helpers-y += selftests/tools/kvtrace/faults
test-helpers-y += selftests/tools/kvtrace/steps
test-helpers-y += selftests/faults/shim.so
test-helpers-y += selftests/faults/fault_client
test-helpers-y += selftests/faults/fault_engine
