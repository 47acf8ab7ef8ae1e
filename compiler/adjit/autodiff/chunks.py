"""Batching in chunks: a loop over so many values at once, in place of all of them.

    graph @f_batch(%x: f64[10,3], %w: f64[3]) {       # of 10 values, at most 4 at once
      %0 = slice %x start=(0,0) stop=(8,3)
      %1 = reshape %0 shape=(2,4,3)
      %2 = scan %1, %w length=2 sliced=1 body=graph @f_batch(%x: f64[4,3], %w: f64[3]) ...
      ...                                             # f of %x[8:], by itself
      %9 = concatenate ...
    }

What does not depend on the batch comes from the last values, which are then outside of the loop."""

from __future__ import annotations

from collections.abc import Sequence

from adjit.autodiff.batch import Batched, batch, depends, moved
from adjit.ir.builder import INPUT, Builder
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node


def batch_in_chunks(graph: Graph, axes: Sequence[int | None], size: int, most: int) -> Batched:
    """As `batch`, with at most `most` > 0 values at once."""
    flags = depends(graph, [axis is not None for axis in axes])
    if size <= most or not any(flags):
        return batch(graph, axes, size)
    count = size // most
    if size == count * most and not all(flags):
        count -= 1
    chunks = _Chunks(graph, axes, size)
    outputs: list[Node | None] = [None] * len(flags)
    if count:
        for i, node in zip(_numbers(flags), chunks.loop(flags, count, most), strict=True):
            outputs[i] = node
    if size > count * most:
        last = chunks.rest(count * most)
        outputs = [
            node if head is None else chunks.joined(head, node) for head, node in zip(outputs, last, strict=True)
        ]
    made = [node for node in outputs if node is not None]
    return Batched(chunks.b.graph(f"{graph.name}_batch", made), flags)


def _numbers(flags: Sequence[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if flag]


class _Chunks:
    """The graph of the whole batch, and its inputs with the batch as axis 0."""

    def __init__(self, graph: Graph, axes: Sequence[int | None], size: int) -> None:
        self.graph = graph
        self.size = size
        self.axes = [None if axis is None else 0 for axis in axes]
        self.b = Builder(graph.outputs[0].loc)
        self.inputs: list[Node] = []
        for node, axis in zip(graph.inputs, axes, strict=True):
            type = node.array_type
            if axis is not None:
                type = type.with_shape((*type.shape[:axis], size, *type.shape[axis:]))
            image = Node(INPUT, (), node.attrs, type, node.loc)
            self.b.inputs.append(image)
            self.inputs.append(image if axis is None else moved(self.b, image, axis, 0))

    def loop(self, flags: Sequence[bool], count: int, n: int) -> list[Node]:
        """The outputs that depend on the batch, for the first `count` times n values."""
        b = self.b
        body = batch(self.graph, self.axes, n).graph
        sliced = [i for i, axis in enumerate(self.axes) if axis is not None]
        order = [*sliced, *(i for i, axis in enumerate(self.axes) if axis is None)]
        outputs = [body.outputs[i] for i in _numbers(flags)]
        body = closed(body.name, [body.inputs[i] for i in order], body.nodes, outputs)
        operands = list(self.inputs)
        for i in sliced:
            head = self._part(operands[i], 0, count * n)
            operands[i] = b.emit("reshape", head, shape=(count, n, *head.shape[1:]))
        loop = b.emit("scan", *(operands[i] for i in order), length=count, carried=0, sliced=len(sliced), reverse=False,
                      body=body)  # fmt: skip
        items = [b.emit("item", loop, index=i) for i in range(len(outputs))]
        return [b.emit("reshape", item, shape=(count * n, *item.shape[2:])) for item in items]

    def rest(self, start: int) -> list[Node]:
        """All outputs, for the values from `start` on."""
        parts = [
            node if axis is None else self._part(node, start, self.size)
            for node, axis in zip(self.inputs, self.axes, strict=True)
        ]
        return self.b.inline(batch(self.graph, self.axes, self.size - start).graph, parts)

    def joined(self, head: Node, last: Node) -> Node:
        """The values of the loop, and those after it."""
        return self.b.emit("concatenate", head, last, axis=0)

    def _part(self, node: Node, start: int, stop: int) -> Node:
        if (start, stop) == (0, self.size):
            return node
        rank = len(node.shape)
        return self.b.emit(
            "slice", node, start=(start, *(0,) * (rank - 1)), stop=(stop, *node.shape[1:]), step=(1,) * rank
        )
