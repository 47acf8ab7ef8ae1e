"""spared: what takes less time to compute again than to be kept, where all that is kept fits no cache.

    %2 = add %1, %b                       %2 = add %1, %b
    %3 = erf %2                           %3 = erf %2            # read at once, and gone
    %4 = contract %3, %w                  %4 = contract %3, %w
    ...                              =>   ...
    %8 = mul %7, %3                       %5 = after %2, %7      # %2 is read there anyhow
                                          %6 = erf %5
                                          %8 = mul %7, %6

Values that operations on elements make of others that are kept, as `recompute` has them; those that are made of one
another, and are read close together, are computed together. A value is read from memory, and written to it where only
late readers want it; its operations, and reading what they need, must cost no more than that
(`tuned.MEMORY_BYTE_COST`). No other thing is computed again without a limit of memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from adjit.ir.axes import base
from adjit.ir.node import Node
from adjit.ops.declare import Elementwise
from adjit.schedule.counts import operations_of_node
from adjit.schedule.recompute import Stretch, Timeline, is_cheap
from adjit.schedule.windowed import reads_windows
from adjit.tuned import CACHE_BYTE_COST, MEMORY_BYTE_COST, MEMORY_BYTES, MOST_AGAIN_COST, MOST_PLACES, TOGETHER_KERNELS


def spared(time: Timeline) -> tuple[Stretch, ...]:
    """What is computed again, and where."""
    if time.total <= MEMORY_BYTES:
        return ()
    may = _may_be_made_again(time)
    there = set(time.kept) - may.keys()
    found = []
    for values in _together(time, may):
        nodes = time.needed(set(values), there)
        if nodes is not None and _cost(nodes) + _reading(nodes, values, time) <= _keeping(values, time):
            found.append(Stretch(frozenset(values), time.late(values[0]), nodes))
    return tuple(sorted(found, key=lambda stretch: stretch.at))


def _may_be_made_again(time: Timeline) -> dict[Node, tuple[Node, ...]]:
    """Values with what each takes, where it is made of those that are not among them."""
    found: dict[Node, tuple[Node, ...]] = {}
    there = set(time.kept)
    for node in sorted(time.kept, key=time.grouping.position.__getitem__):
        if not is_cheap(node) or time.peak in time.uses[node]:
            continue
        nodes = time.needed({node}, there - {node})
        # What others are made of as well may cost more than one value is worth; a long chain is cut.
        if nodes is None or not all(map(is_cheap, nodes)) or _places(nodes) > MOST_PLACES:
            continue
        if _cost(nodes) <= MOST_AGAIN_COST * _bytes(node):
            found[node] = nodes
            there.discard(node)
    return found


def _together(time: Timeline, may: dict[Node, tuple[Node, ...]]) -> Iterator[Sequence[Node]]:
    """Values in sets, in the order in which they are read: those that share operations that are not light."""
    first: dict[Node, Node] = {}
    root = {node: node for node in may}

    def top(node: Node) -> Node:
        while root[node] is not node:
            node = root[node]
        return node

    for value, nodes in may.items():
        for node in nodes:
            if isinstance(node.op, Elementwise):
                root[top(value)] = top(first.setdefault(node, value))
    sets: dict[Node, list[Node]] = {}
    for value in sorted(may, key=time.late):
        of = sets.setdefault(top(value), [])
        if of and time.late(value) - time.late(of[0]) > TOGETHER_KERNELS:
            yield tuple(of)
            of.clear()
        of.append(value)
    yield from sets.values()


def _places(nodes: Iterable[Node]) -> int:
    """At how many places of windows elements are read."""
    return sum(arg.op.kind == "movement" and reads_windows(arg) for node in nodes for arg in node.args)


def _cost(nodes: Iterable[Node]) -> float:
    return sum(operations_of_node(node) for node in nodes if isinstance(node.op, Elementwise))


def _bytes(node: Node) -> float:
    return float(node.array_type.nbytes)


def _keeping(values: Sequence[Node], time: Timeline) -> float:
    """What it costs to read the values late, and to write them where nothing reads them early."""
    late = [value for value in values if time.uses[value][0] > time.peak]
    return MEMORY_BYTE_COST * sum(map(_bytes, (*values, *late)))


def _reading(nodes: Sequence[Node], values: Sequence[Node], time: Timeline) -> float:
    """What it costs to read what the nodes are made of, but for what the first reader of the values reads anyhow; and
    to write and read those that are no operands of operations on elements."""
    inside = set(nodes)
    there = time.grouping.reads(time.order[time.late(values[0])])
    read = {base(arg) for node in nodes for arg in node.args if not arg.is_splat} - there - inside
    through = [value for value in values if value in time.grouping.stored]
    return MEMORY_BYTE_COST * sum(map(_bytes, read)) + 2 * CACHE_BYTE_COST * sum(map(_bytes, through))
