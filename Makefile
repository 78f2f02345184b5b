# SPDX-License-Identifier: MIT
#
# One Makefile; each folder names its objects in its files.mk.
# Variables: O=dir  V=1  SAN=address|thread|undefined  CC=  OPT=-O2
#            DESTDIR= PREFIX= LIBDIR= (install)  T=pattern (check, quick)
#            T="name ..." RECORD=1 (figures)
#            KVTRACE=y|n (y where clang, bpftool and libbpf are)
#            MODEL=file ONCE=1 (run)

MAKEFLAGS += -rR
.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:

CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
CXX := $(if $(filter default undefined,$(origin CXX)),g++,$(CXX))
AR := $(if $(filter default undefined,$(origin AR)),ar,$(AR))
PKG_CONFIG ?= pkg-config
VERSION := 0.1.0

comma := ,
SAN ?=
ifneq ($(SAN),)
O ?= build/san-$(SAN)
san-flags := $(if $(filter address,$(SAN)),-fsanitize=address$(comma)undefined) \
	     $(if $(filter undefined,$(SAN)),-fsanitize=undefined) \
	     $(if $(filter thread,$(SAN)),-fsanitize=thread) \
	     -fno-omit-frame-pointer -fno-sanitize-recover=all
endif
O ?= build
ifeq ($(V),1)
Q :=
say :=
else
Q := @
say = @printf '  %-7s %s\n' '$(1)' '$(2)';
endif

warn-flags := -Wall -Wextra -Werror -Wundef -Wshadow -Wvla \
	-Wmissing-prototypes -Wstrict-prototypes -Wpointer-arith \
	-Wwrite-strings -Wformat=2 -Wnull-dereference \
	-Wimplicit-fallthrough -Wframe-larger-than=4096 -Wno-unused-parameter
gcc-warn := -Wlogical-op -Wduplicated-cond
ifneq ($(shell $(CC) --version 2>/dev/null | grep -ci clang),0)
gcc-warn :=
endif
OPT ?= -O2
# No contraction: the order and the rounding of every float operation is
# written down in the source (Documentation/internals/numerics.rst).
KV_CFLAGS = -std=gnu11 $(OPT) -g $(warn-flags) $(if $(SAN),,$(gcc-warn)) \
	-ffp-contract=off -fno-math-errno -fvisibility=hidden -fPIC -pthread \
	-D_GNU_SOURCE -DKV_VERSION='"$(VERSION)"' \
	-I. -Iinclude -Iinclude/uapi -Ilibkv/include $(san-flags) $(CFLAGS)
ifneq ($(SAN),)
warn-flags += -Wno-null-dereference -Wno-frame-larger-than
endif
# A test has the stack of a main thread.
test-flags := -Wframe-larger-than=262144
KV_LDFLAGS = -pthread $(san-flags) $(LDFLAGS)

# ---- what is built: files.mk of each folder adds to these ----
lib-y :=
kernels-y :=
mm-y :=
kvmd-y :=
libkv-y :=
runtime-y :=
kvctl-y :=
kvrun-y :=
kvbench-y :=
kvtrace-y :=
examples-y :=
test-helpers-y :=
test-y :=
check-scripts :=
lint-scripts :=

include lib/files.mk kernels/files.mk kvmd/files.mk libkv/files.mk \
	runtime/files.mk tools/files.mk selftests/files.mk scripts/files.mk

libs := lib kernels mm kvmd libkv runtime test
$(foreach l,$(libs),$(eval $(l)-a := $(O)/lib/lib$(l)-int.a))
obj = $(addprefix $(O)/obj/,$(1))

LIBKV_SO := $(O)/lib/libkv.so
BINS := $(addprefix $(O)/bin/,kvmd kvctl kvrun kvbench)

# kvtrace's programs for the kernel are compiled by clang and built in. Where
# that, bpftool or libbpf is missing (`make setup` installs them), or with
# KVTRACE=n, all the rest is built.
BPF_CC ?= $(shell command -v clang-14 || command -v clang)
BPFTOOL ?= $(firstword $(shell command -v bpftool) $(wildcard /usr/sbin/bpftool))
kvtrace-missing := $(if $(KVTRACE),,$(if $(BPF_CC),,no clang; )$(if $(BPFTOOL),,no bpftool; )$(if $(wildcard /usr/include/bpf/usdt.bpf.h),,no libbpf; ))
KVTRACE ?= $(if $(kvtrace-missing),n,y)
BINS += $(if $(filter y,$(KVTRACE)),$(O)/bin/kvtrace)

TESTS := $(sort $(patsubst %.c,$(O)/%,$(shell find selftests -name 'test_*.c')))
TEST_HELPERS := $(addprefix $(O)/,$(test-helpers-y))
EXAMPLES := $(addprefix $(O)/,$(examples-y))

.PHONY: all kvmd libkv runtime kernels tools clean help
all: $(BINS) $(LIBKV_SO) $(EXAMPLES) ## build everything
	$(if $(kvtrace-missing),@echo 'kvtrace is not built: $(kvtrace-missing)')
kvmd: $(O)/bin/kvmd ## build the daemon
libkv: $(LIBKV_SO) ## build the client library
kernels: $(kernels-a) ## build the kernels
runtime: $(O)/bin/kvrun ## build the model runtime
tools: $(O)/bin/kvctl $(O)/bin/kvbench $(filter %/kvtrace,$(BINS)) ## build kvctl, kvbench and kvtrace

# Objects are made again when the compiler or its flags are others.
.PHONY: FORCE
$(O)/flags: export KV_FLAGS = $(CC) $(KV_CFLAGS)
$(O)/flags: FORCE
	@mkdir -p $(@D)
	@printenv KV_FLAGS | cmp -s - $@ || printenv KV_FLAGS >$@

$(O)/obj/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,$*.o)$(CC) $(KV_CFLAGS) $(if $(filter selftests/%,$*),$(test-flags)) \
		$(CFLAGS-$*.o) -MMD -MP -c -o $@ $<

define archive
$$($(1)-a): $$(call obj,$$($(1)-y))
	@mkdir -p $$(@D)
	$$(call say,AR,$$(@F))rm -f $$@ && $$(AR) rcs $$@ $$^
endef
$(foreach l,$(libs),$(eval $(call archive,$(l))))

$(LIBKV_SO): $(call obj,$(libkv-y)) $(lib-a) libkv/libkv.map
	@mkdir -p $(@D)
	$(call say,LD,libkv.so)$(CC) $(KV_LDFLAGS) -shared -Wl,-soname,libkv.so.1 \
		-Wl,--version-script=libkv/libkv.map -Wl,--no-undefined -o $@ \
		$(call obj,$(libkv-y)) $(lib-a)
	$(Q)ln -sf libkv.so $(@D)/libkv.so.1

# Programs of ours link the client library statically: one binary, no path.
link = $(call say,LD,$(@F))$(CC) $(KV_LDFLAGS) -o $@ $(filter %.o,$^) \
	-Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(1)

$(O)/bin/kvmd: $(call obj,kvmd/main.o) $(kvmd-a) $(mm-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-luring $(kvmd-libs))
$(O)/bin/kvctl: $(call obj,$(kvctl-y)) $(libkv-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,$(kvctl-libs))
$(O)/bin/kvrun: $(call obj,$(kvrun-y)) $(runtime-a) $(kernels-a) $(libkv-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-lm $(runtime-libs))
$(O)/bin/kvbench: $(call obj,$(kvbench-y)) $(runtime-a) $(kernels-a) $(libkv-a) $(mm-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-lm $(runtime-libs) $(kvbench-libs))

$(O)/bin/kvtrace: $(call obj,$(kvtrace-y)) $(libkv-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,$(kvtrace-libs))

# bpftool's linker leaves out what only debuggers want.
bpf-o := $(O)/obj/tools/kvtrace/kvtrace.bpf.o
skel-h := $(O)/obj/tools/kvtrace/kvtrace.skel.h
$(bpf-o): tools/kvtrace/kvtrace.bpf.c tools/kvtrace/faults.h \
		include/kv/fault_record.h
	@mkdir -p $(@D)
	$(call say,BPF,$(<F))$(BPF_CC) -g -O2 -Wall -Werror --target=bpf \
		-D__TARGET_ARCH_$(if $(filter aarch64,$(shell uname -m)),arm64,x86) \
		-idirafter /usr/include/$(shell uname -m)-linux-gnu -I. \
		-c -o $@.full $< && $(BPFTOOL) gen object $@ $@.full
$(skel-h): $(bpf-o)
	$(call say,SKEL,$(@F))$(BPFTOOL) gen skeleton $< name kvtrace >$@
$(call obj,tools/kvtrace/tracer.o): $(skel-h)

$(O)/selftests/%: $(O)/obj/selftests/%.o $(test-a) $(runtime-a) $(kernels-a) $(kvmd-a) $(mm-a) $(libkv-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-lm -luring $(runtime-libs) $(kvmd-libs))

# kvmd as another build has it: its blocks are laid out differently.
other-h := $(addprefix $(O)/other/include/kvmd/,mm/state.h keep/block.h)
$(O)/other/include/%.h: %.h selftests/e2e/other_build.awk
	@mkdir -p $(@D)
	$(call say,GEN,other/$*.h)awk -f selftests/e2e/other_build.awk $< >$@
$(O)/other/obj/%.o: %.c $(other-h) $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC,other/$*.o)$(CC) -I$(O)/other/include $(KV_CFLAGS) \
		$(CFLAGS-$*.o) -MMD -MP -c -o $@ $<
$(O)/selftests/e2e/kvmd_other: $(addprefix $(O)/other/obj/,kvmd/main.o $(kvmd-y) $(mm-y)) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-luring $(kvmd-libs))

# Preloaded into programs that a test lets fail.
$(O)/selftests/faults/shim.so: $(O)/obj/selftests/faults/shim.o
	@mkdir -p $(@D)
	$(call say,LD,$(@F))$(CC) $(KV_LDFLAGS) -shared -o $@ $<

$(O)/examples/%: libkv/examples/%.c $(LIBKV_SO)
	@mkdir -p $(@D)
	$(call say,LD,examples/$*)$(CC) $(KV_CFLAGS) $(KV_LDFLAGS) -o $@ $< \
		-L$(O)/lib -lkv -Wl,-rpath,'$$ORIGIN/../lib'

# A program of generations is one with the runtime: there is no library of it.
$(O)/examples/three_ways: $(call obj,runtime/examples/three_ways.o) $(runtime-a) $(kernels-a) $(libkv-a) $(lib-a)
	@mkdir -p $(@D)
	$(call link,-lm $(runtime-libs))

.PRECIOUS: $(O)/obj/%.o
.SECONDARY:

.PHONY: tests tests-san
tests: all $(TESTS) $(TEST_HELPERS) ## build the tests, run none

# The tests that ask for this sanitizer: "san: NAME" in their first 30 lines.
SAN_TESTS := $(if $(SAN),$(patsubst %.c,$(O)/%,$(shell awk \
	'FNR > 30 { nextfile } /san: .*$(SAN)/ { print FILENAME; nextfile }' \
	$$(find selftests -name 'test_*.c'))))
tests-san: all $(SAN_TESTS) $(TEST_HELPERS)

# ---- what a person types ----
# These start with nothing but make, so the build is a make of its own: it
# sees the packages that setup has just installed.
sub = $(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: setup fetch run check check-long quick figures
setup: ## install the Debian packages, make user kvrun and group kvmem
	$(Q)scripts/setup.sh
fetch: setup ## download the two models
	$(Q)scripts/fetch.sh
run: setup ## two models on one device memory, then a chat (MODEL=, ONCE=1)
	$(Q)$(if $(MODEL),,scripts/fetch.sh)
	$(Q)$(sub) all
	$(Q)scripts/run.sh $(O) $(if $(MODEL),"$(MODEL)")
check: fetch ## everything, from packages to the last test (T=pattern)
	$(Q)$(sub) tests
ifeq ($(SAN),)
	$(Q)$(sub) SAN=address O=$(O)/san-address tests-san
	$(Q)$(sub) SAN=thread O=$(O)/san-thread tests-san
	$(Q)selftests/run.sh -b $(O) -S address -S thread $(T)
else
	$(Q)selftests/run.sh -b $(O) $(T)
endif
quick: ## tests of the daily loop: < 60 s, no models, no sanitizers (T=)
	$(Q)$(sub) tests
	$(Q)selftests/run.sh -q -b $(O) $(T)
check-long: fetch ## the tests too long for check; writes their record
	$(Q)$(sub) tests
	$(Q)$(sub) SAN=address O=$(O)/san-address tests-san
	$(Q)$(sub) SAN=thread O=$(O)/san-thread tests-san
	$(Q)scripts/check-long.sh $(O)
figures: fetch ## measure again what the documents claim (T=names RECORD=1)
	$(Q)$(sub) all
	$(Q)$(if $(RECORD),scripts/figures.sh $(O) Documentation/dev/figures.json,$(O)/bin/kvbench claims) $(T)

.PHONY: lint format compile_commands install uninstall
lint: setup ## the style rules, as far as a script can judge them
	$(Q)$(sub) all
	$(Q)scripts/lint.sh $(O)
format: ## clang-format what is tracked
	$(Q)git ls-files '*.c' '*.h' | xargs clang-format-14 -i
compile_commands: ## compile_commands.json for editors and clang-tidy
	$(Q)$(MAKE) -nBk --no-print-directory V=1 tests 2>/dev/null | \
		awk -v dir="$(CURDIR)" -f scripts/compile-commands.awk \
		>compile_commands.json

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
MANDIR ?= $(PREFIX)/share/man
COMPDIR ?= $(PREFIX)/share/bash-completion/completions
to = $(DESTDIR)$(1)
install: all ## programs, library, headers, man pages (DESTDIR= PREFIX=)
	$(Q)install -d $(call to,$(PREFIX)/bin) $(call to,$(LIBDIR)/pkgconfig) \
		$(call to,$(PREFIX)/include/kv) $(call to,$(MANDIR))
	$(Q)install -m 755 $(BINS) $(call to,$(PREFIX)/bin)
	$(Q)install -m 644 $(LIBKV_SO) $(call to,$(LIBDIR))/libkv.so.$(VERSION)
	$(Q)ln -sf libkv.so.$(VERSION) $(call to,$(LIBDIR))/libkv.so.1
	$(Q)ln -sf libkv.so.1 $(call to,$(LIBDIR))/libkv.so
	$(Q)install -m 644 libkv/include/*.h $(call to,$(PREFIX)/include)
	$(Q)install -m 644 include/uapi/kv/*.h $(call to,$(PREFIX)/include/kv)
	$(Q)sed -e 's|@prefix@|$(PREFIX)|; s|@libdir@|$(LIBDIR)|' \
		-e 's|@version@|$(VERSION)|' libkv/libkv.pc.in \
		>$(call to,$(LIBDIR)/pkgconfig)/libkv.pc
	$(Q)for page in $$(find libkv tools kvmd Documentation -path '*/man/*.[1-8]'); do \
		d=$(call to,$(MANDIR))/man$${page##*.}; \
		install -d $$d && install -m 644 $$page $$d || exit 1; done
	$(Q)install -d $(call to,$(COMPDIR))
	$(Q)$(O)/bin/kvctl completion bash >$(call to,$(COMPDIR)/kvctl)
	$(Q)$(if $(filter %/kvtrace,$(BINS)),$(O)/bin/kvtrace completion bash \
		>$(call to,$(COMPDIR)/kvtrace))

clean: ## remove what was built
	$(Q)rm -rf $(O)

help: ## this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)
	@sed -n 's/^# \(Variables\|  \)/  \1/p' Makefile

-include $(shell find $(O)/obj $(O)/other/obj -name '*.d' 2>/dev/null)
