"""What a body reads from outside are operands of its loop; here as nodes around the body, and graph to graph.

    body: %0 = constant @w          =>   outside: %w = constant @w
          %1 = matmul %c, %0             body(%c, %w): %1 = matmul %c, %w

Small constants stay in the body, where they fold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adjit.ir.builder import INPUT, SMALL_CONSTANT, Builder
from adjit.ir.graph import Graph, closed, copy_node
from adjit.ir.node import Node
from adjit.ir.types import Array


@dataclass(frozen=True, eq=False, slots=True)
class Operands:
    """A body and the nodes outside of it that its inputs stand for, in the order of `scan`: carried, read in parts,
    read as a whole in each of `length` turns."""

    body: Graph
    carried: tuple[Node, ...]
    sliced: tuple[Node, ...]
    whole: tuple[Node, ...]
    length: int

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All operands."""
        return self.carried + self.sliced + self.whole

    @property
    def bytes_carried(self) -> int:
        """Those of what a turn changes."""
        pairs = zip(self.body.inputs[: len(self.carried)], self.body.outputs, strict=False)
        return sum(before.array_type.nbytes for before, after in pairs if before is not after)

    @property
    def sliced_inputs(self) -> tuple[Node, ...]:
        """The inputs of the body that are parts."""
        start = len(self.carried)
        return self.body.inputs[start : start + len(self.sliced)]

    @property
    def whole_inputs(self) -> tuple[Node, ...]:
        """The inputs of the body that are the same in each turn."""
        return self.body.inputs[len(self.carried) + len(self.sliced) :]


def hoisted(b: Builder, operands: Operands) -> Operands:
    """Large constants of the body, whose nodes go to `b`, become operands."""
    found = [node for node in operands.body.nodes if _is_large(node)]
    if not found:
        return operands
    body = operands.body
    inputs = [new_input(body, node.attrs["data"].name, node.array_type, i) for i, node in enumerate(found)]
    new = dict(zip((*body.inputs, *found), (*body.inputs, *inputs), strict=True))
    nodes = [node for node in body.nodes if node not in new]
    for node in nodes:
        new[node] = copy_node(node, [new[arg] for arg in node.args])
    outputs = [new[node] for node in body.outputs]
    body = closed(body.name, [*body.inputs, *inputs], [new[node] for node in nodes], outputs)
    return replace(operands, body=body, whole=(*operands.whole, *map(b.keep, found)))


def _is_large(node: Node) -> bool:
    return "data" in node.attrs and node.array_type.size > SMALL_CONSTANT


def new_input(body: Graph, name: str, type: Array, number: int) -> Node:
    """The `number`th of several inputs that a body is to have beside its own, whose names it does not share."""
    names = {node.attrs["name"] for node in body.inputs}
    shown = f"{name}_{number}"
    while shown in names:
        shown += "_"
    return Node(INPUT, (), {"name": shown}, type)


def needed(operands: Operands) -> Operands:
    """Without the operands that the body does not read; what is carried stays."""
    read = set(operands.body.outputs).union(*(node.args for node in operands.body.nodes))
    count = len(operands.carried)
    kept = [i < count or node in read for i, node in enumerate(operands.body.inputs)]
    split = count + len(operands.sliced)
    nodes = operands.nodes
    return replace(
        operands,
        body=replace(
            operands.body, inputs=tuple(x for x, keep in zip(operands.body.inputs, kept, strict=True) if keep)
        ),
        sliced=tuple(x for x, keep in zip(nodes[count:split], kept[count:split], strict=True) if keep),
        whole=tuple(x for x, keep in zip(nodes[split:], kept[split:], strict=True) if keep),
    )
