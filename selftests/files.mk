# SPDX-License-Identifier: MIT
test-helpers-y += selftests/harness_victim
