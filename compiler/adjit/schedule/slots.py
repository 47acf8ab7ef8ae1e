"""The slots of a program: what its table of addresses holds."""

from __future__ import annotations

from adjit.ir.graph import Graph
from adjit_runtime.program import Slot


def slots_of(graph: Graph) -> tuple[Slot, ...]:
    """One slot for each input, then for each output; an input with an update is state."""
    state = {target for target, _ in graph.updates}
    inputs = [
        Slot(
            node.attrs["name"], "state" if node in state else "input", node.dtype.str, node.shape, node.array_type.weak
        )
        for node in graph.inputs
    ]
    outputs = [Slot(f"result{i}", "output", node.dtype.str, node.shape) for i, node in enumerate(graph.outputs)]
    return tuple(inputs + outputs)
