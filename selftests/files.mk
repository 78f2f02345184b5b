# SPDX-License-Identifier: MIT
test-helpers-y += selftests/harness_victim
test-helpers-y += selftests/kernels/dequant_dump
test-y += selftests/lib_kvmd.o
test-helpers-y += selftests/runtime/model/write_sample
test-y += selftests/sim/sim.o
test-y += selftests/sim/sim_client.o
test-y += selftests/explore/explore.o
