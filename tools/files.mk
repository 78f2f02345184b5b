# SPDX-License-Identifier: MIT
kvrun-y += tools/kvrun/main.o tools/kvrun/cmd_tokenize.o \
	tools/kvrun/json_text.o
