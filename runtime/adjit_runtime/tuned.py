"""The tuned numbers that the runtime itself reads, each with what was measured.

The runtime imports nothing of the compiler, so these stand apart from `adjit/tuned`, which has those of generated code;
the compiler does not read them. Another value gives the same results at another speed, or holds more memory.
"""

from __future__ import annotations

# -- calls: Python or machine code -------------------------------------------------------------------------------------

RELEASE_SECONDS = 20e-6
"""A call that takes longer gives the GIL back meanwhile; to give and take it costs 25 ns, and a wait for it more."""
NATIVE_ENTRIES = 8
"""Signatures with a native entry at a time, the newest first: each costs the ones behind it some 10 ns."""
CALLS_TO_ENTRY = 32
"""Calls by way of Python after which a signature gets its native entry again. (Twelve signatures in turn, each call 5.7
us; 10.7 if it came back after 4, 5.2 after 256, when a signature that has become the common one waits longer.)"""
RUNS_KEPT = 8
"""Native loops that a state keeps for the next run on data of the same types: buffers for a batch and an order of the
rows each. (A run of one step of a 2-8-1 network: 43 us with a loop that is kept, 150 with a new one.)"""
RUN_SLICE_SECONDS = 0.05
"""Seconds after which a native loop comes back to Python: signals, progress, other threads. A bound of how long Ctrl-C
waits, as coming back costs nothing to speak of: a million steps of a small network took 115 to 124 ms with slices of
0.1, 1, 50 and 1000 ms."""

FORK_LOOK_SECONDS = 0.0005
"""Seconds between two looks whether LLVM is done, ahead of a fork. (The code of one module takes 1 to 300 ms.)"""

# -- memory ------------------------------------------------------------------------------------------------------------

REUSE_BYTES = 1 << 20
"""Bytes from which the memory of a result is used again once the result is gone: the system takes as long to hand out
fresh pages of this size as a kernel takes to fill them (five arrays of 8 MB: 5 ms)."""
SHARED_ARENA_BYTES = 1 << 20
"""Bytes of scratch memory from which the native entries of a function share it, so that one call is in them at a time
and others go by way of Python: 10 us more, where a call with a megabyte takes 100. (Eight signatures with arenas of 34
MB held 262 MB; they hold 101.)"""
REUSED_RESULTS = 16
"""Large results of one size whose memory a program keeps. (1, 16, 64: 12 results of 2 MB that live together take 985,
137, 153 us each, 24 of them 1028, 485, 173.)"""
RESULT_PAGE_OFFSET = 2048
"""Where in a page a large result begins. Large arrays of NumPy begin all at the same place of a page, and a load that
follows a store with nearly the same last 12 bits of its address waits for it (five arrays of 8 MB: 17.4 against 15.6
ms)."""
CACHE_MB = 256
"""Bound of the cache of object code on disk, where `ADJIT_CACHE_MB` says nothing. (The programs of the ten benchmarks
and their libraries are 14 entries of 252 KB together: room for fourteen thousand such entries.)"""
CACHE_SLACK = 1 / 64
"""The part of that bound that is left free when entries are thrown out, and that a process may write before it looks at
all entries again. (To look at 14,000 of them takes 200 ms.)"""
LINKS_PER_JIT = 32
"""Programs that are linked by one of LLVM's JITs, on systems where LLVM links, before the next one is made. A JIT keeps
10 KB of each program that is gone until it goes itself, with its last program; to make one takes 0.5 ms and 125 KB.
(Every program in a JIT of its own: 674 us and 177 KB; 8 in each: 210 us and 63 KB; 32: 151 us and 51 KB; 64: 142 us and
49 KB; all in one: 136 us and 47 KB.)"""
