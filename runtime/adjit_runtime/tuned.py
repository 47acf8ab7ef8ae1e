"""The tuned numbers that the runtime itself reads; what was measured for each stands in docs/tuning.md.

The runtime imports nothing of the compiler, so these stand apart from `adjit/tuned`, which has those of generated code;
the compiler does not read them. Another value gives the same results at another speed, or holds more memory.
"""

from __future__ import annotations

# -- calls: Python or machine code -------------------------------------------------------------------------------------

RELEASE_SECONDS = 20e-6
"""A call that takes longer gives the GIL back meanwhile; to give and take it costs 25 ns, and a wait for it more."""
NATIVE_ENTRIES = 8
"""Signatures with a native entry at a time, the newest first: each costs the ones after it some 10 ns."""
CALLS_TO_ENTRY = 32
"""Calls by way of Python after which a signature gets its native entry again."""
RUNS_KEPT = 8
"""Native loops that a state keeps for the next run on data of the same types: buffers for a batch and an order of the
rows each."""
RUN_SLICE_SECONDS = 0.05
"""Seconds after which a native loop comes back to Python: signals, progress, other threads. A bound of how long Ctrl-C
waits, as coming back costs nothing to speak of: a million steps of a small network took 115 to 124 ms with slices of
0.1, 1, 50 and 1000 ms."""

FORK_LOOK_SECONDS = 0.0005
"""Seconds between two looks whether LLVM is done, ahead of a fork."""

# -- memory ------------------------------------------------------------------------------------------------------------

REUSE_BYTES = 1 << 20
"""Bytes from which the memory of a result is used again once the result is gone: the system takes as long to hand out
fresh pages of this size as a kernel takes to fill them."""
SHARED_ARENA_BYTES = 1 << 20
"""Bytes of scratch memory from which the native entries of a function share it, so that one call is in them at a time
and others go by way of Python: 10 us more, where a call with a megabyte takes 100."""
REUSED_RESULTS = 16
"""Large results of one size whose memory a program keeps."""
RESULT_PAGE_OFFSET = 2048
"""Where in a page a large result begins. Large arrays of NumPy begin all at the same place of a page, and a load that
follows a store with nearly the same last 12 bits of its address waits for it."""
CACHE_MB = 256
"""Bound of the cache of object code on disk, where `ADJIT_CACHE_MB` says nothing."""
CACHE_SLACK = 1 / 64
"""The part of that bound that is left free when entries are thrown out, and that a process may write before it looks at
all entries again."""
LINKS_PER_JIT = 32
"""Programs that are linked by one of LLVM's JITs, on systems where LLVM links, before the next one is made. A JIT keeps
10 KB of each program that is gone until it goes itself, with its last program; to make one takes 0.5 ms and 125 KB."""
