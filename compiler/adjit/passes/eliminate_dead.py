"""eliminate_dead: a node that no output and no update needs goes.

    %0 = exp %x : f32[3]
    %1 = tanh %x : f32[3]     =>  %0 = tanh %x : f32[3]
    return %1                     return %0

Inputs stay, whoever reads them. A check_index whose result nothing reads goes too: nothing is read out of range."""

from __future__ import annotations

from adjit.ir.graph import Graph


def eliminate_dead(graph: Graph) -> Graph:
    """The graph with the nodes that its roots need, in the same order."""
    live = set(graph.roots)
    for node in reversed(graph.nodes):
        if node in live:
            live.update(node.args)
    nodes = [node for node in graph.nodes if node in live]
    return graph if len(nodes) == len(graph.nodes) else graph.with_nodes(nodes)
