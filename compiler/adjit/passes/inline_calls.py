"""inline_calls: what is called stands where it is called, in the bodies of loops, too.

    %0 = call %x given=1 body=graph @f(%a: f64[]) -> f64[] {        %0 = sin %x : f64[]
      %0 = sin %a : f64[]                                       =>  return %0
      return %0
    } jvp=graph ... : (f64[])
    %1 = item %0 index=0 : f64[]
    return %1

The rules of what is called go: a stage of its own, after all that differentiates and ahead of the passes."""

from __future__ import annotations

from adjit.ir.graph import Graph
from adjit.ops.calls import without_calls


def inline_calls(graph: Graph) -> Graph:
    """The graph without calls; itself where it has none."""
    return without_calls(graph)
