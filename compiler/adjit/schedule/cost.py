"""What a kernel has to do: operations, and bytes that it reads and writes; and how long that takes, in operations.

The time is a prediction by which plans of one program are compared, not one of seconds: what is larger, the operations
of a kernel or its bytes, each of which counts as so many operations (roofline: Williams, Waterman, Patterson 2009)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ir.types import Array
from adjit.ops.contraction import extents_of
from adjit.ops.declare import Bodied, Elementwise
from adjit.schedule.arena import read, storage, written
from adjit.schedule.plan import (
    Apply,
    Body,
    CheckRange,
    Gather,
    Kernel,
    Load,
    Loop,
    Nested,
    Plan,
    Product,
    Reduce,
    Running,
    Scatter,
    Store,
    Straight,
    StraightLoop,
    Work,
)
from adjit.tuned import CACHE_BYTE_COST, MEMORY_BYTE_COST, MEMORY_BYTES


@dataclass(frozen=True)
class Cost:
    """What a kernel has to do at least: floating-point operations, bytes, and of elements of what size."""

    flops: float
    nbytes: float
    itemsize: int


def work_of(kernel: Kernel) -> Cost:
    """What a kernel computes and moves: each element once, however often it is read."""
    work, both = kernel.work, read(kernel) | written(kernel)
    flops, itemsize = flops_of(work), _itemsize(work)
    if isinstance(work, Nested):
        # Not what its turns hand on among each other.
        return Cost(flops, sum(buffer.nbytes for buffer in both - {kernel.params[-1][0]}), itemsize)
    if isinstance(work, Loop | Running | Scatter | CheckRange):
        return Cost(flops, _moved(kernel, work.body), itemsize)
    touched = {storage(buffer): buffer.nbytes for buffer in both}
    twice = read(kernel) & written(kernel) if isinstance(work, Product) else set()
    return Cost(flops, sum(touched.values()) + sum(buffer.nbytes for buffer in twice), itemsize)


def _moved(kernel: Kernel, body: Body) -> float:
    """Bytes of the elements that a loop reads and writes."""
    found: dict[tuple[int, bool], float] = {}
    for instruction in body.code:
        if isinstance(instruction, Load | Gather | Store):
            reached = math.prod(n for n, c in zip(body.domain, instruction.coefficients, strict=True) if c)
            buffer = kernel.params[instruction.param][0]
            key = (instruction.param, isinstance(instruction, Store))
            found[key] = max(found.get(key, 0.0), min(reached, buffer.size) * instruction.dtype.itemsize)
    return sum(found.values())


def flops_of(work: Work) -> float:
    """The operations of a work; a function such as exp counts as the instructions that it takes."""
    if isinstance(work, Nested):
        return work.count * sum(flops_of(step.work) for step in work.steps)
    if isinstance(work, Straight | StraightLoop):
        turns = work.count if isinstance(work, StraightLoop) else 1
        return turns * sum(_node_cost(node) for node in work.graph.nodes)
    if isinstance(work, Product):
        pairs = math.prod(entry[0] for entry in work.batch)
        extra = _body_cost(work.epilogue) * work.m * work.n * pairs if work.epilogue is not None else 0.0
        return 2.0 * work.m * work.n * work.k * pairs + extra
    return _body_cost(work.body) * math.prod(work.body.domain)


def _body_cost(body: Body) -> float:
    """Operations for each element of the domain, rows' values spread over their rows."""
    total = 0.0
    row = math.prod(body.domain[d] for d in body.reduced)
    reduced = False
    for instruction in body.code:
        if isinstance(instruction, Reduce):
            total += 1
            reduced = True
        elif isinstance(instruction, Apply) and instruction.op not in ("select", "cast"):
            op = OPS[instruction.op]
            cost = op.cost if isinstance(op, Elementwise) else 1
            total += cost / row if reduced and row > 1 and body.reduced else cost
    return total


def _node_cost(node: Node) -> float:
    cost = node.op.cost if isinstance(node.op, Elementwise) else 1
    return float(cost * max(node.array_type.size, *(arg.array_type.size for arg in node.args), 1))


def _itemsize(work: Work) -> int:
    """Bytes of the numbers that a work computes with."""
    if isinstance(work, Nested):
        return max((_itemsize(step.work) for step in work.steps), default=4)
    if isinstance(work, Straight | StraightLoop):
        return 4
    if isinstance(work, Product):
        return work.dtype.itemsize
    sizes = [i.dtype.itemsize for i in work.body.code if isinstance(i, Apply | Reduce) and i.dtype.kind == "f"]
    return min(sizes, default=4)


def time_of(plan: Plan) -> float:
    """How long a plan takes, in operations; the plans of turns as often as these run at most."""
    total = 0.0
    waiting = [(plan, 1)]
    while waiting:
        at, times = waiting.pop()
        for kernel in at.kernels:
            if kernel.inner is not None and isinstance(kernel.work, Nested):
                waiting.append((kernel.inner, times * kernel.work.count))
                continue
            work = work_of(kernel)
            byte = MEMORY_BYTE_COST if work.nbytes > MEMORY_BYTES else CACHE_BYTE_COST
            total += times * max(work.flops, work.nbytes * byte)
    return total


def time_of_graph(graph: Graph) -> float:
    """How long a graph takes, in the same operations, whatever its kernels are."""
    total = 0.0
    waiting = [(graph, 1)]
    while waiting:
        at, times = waiting.pop()
        waiting += [(inner, times * node.attrs.get("length", 1)) for node in at.nodes for inner in _bodies(node)]
        total += times * sum(_time_of_node(node) for node in at.nodes if isinstance(node.type, Array))
    return total


def _bodies(node: Node) -> list[Graph]:
    return [node.attrs["body"]] if isinstance(node.op, Bodied) else []


def _time_of_node(node: Node) -> float:
    if node.op.kind == "contraction":
        return 2.0 * math.prod(extents_of(node))
    return 0.0 if node.op.kind in ("leaf", "tuple", "movement", "creation") else _node_cost(node)
