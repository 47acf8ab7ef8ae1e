"""Graph -> Plan: nodes fused into kernels, kernels in order, buffers in one arena.

normalize   a few nodes rewritten as what kernels are made of
maps        affine index maps, and how movement ops compose them
group       which nodes form a kernel
body        a group as scalar instructions over an iteration domain
plan        Plan, Kernel, Buffer: data
arena       order, liveness, places in the arena
text        the plan as text, which parse reads back
verify      what every plan must hold
planner     all of it: `make_plan(graph, target)`
"""
