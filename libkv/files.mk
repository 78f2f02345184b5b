# SPDX-License-Identifier: MIT
libkv-y += $(addprefix libkv/src/,attach.o connect.o copy.o ctl.o event.o \
	mirror.o msg.o prefix.o reserve.o ring.o space.o step.o sys.o turn.o \
	weights.o)
examples-y += examples/fork examples/weights
# its tests share these
test-y += selftests/libkv/seq.o selftests/libkv/mix.o
test-helpers-y += selftests/libkv/kill_client
