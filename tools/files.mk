# SPDX-License-Identifier: MIT
kvrun-y += tools/kvrun/main.o tools/kvrun/cmd_tokenize.o \
	tools/kvrun/json_text.o
kvctl-y += $(addprefix tools/kvctl/,main.o cmd.o complete.o ask.o fmt.o tab.o \
	show.o show_table.o act.o top.o top_screen.o)
kvctl-libs := -ljansson
