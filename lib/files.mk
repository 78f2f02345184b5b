# SPDX-License-Identifier: MIT
lib-y += lib/bitmap.o
lib-y += lib/hash.o
lib-y += lib/heap.o
lib-y += lib/huge.o
lib-y += lib/record.o
lib-y += lib/stdfds.o
