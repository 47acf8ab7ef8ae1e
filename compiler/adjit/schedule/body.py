"""A group's nodes as scalar instructions over its space.

`BodyBuilder.value(node, map)` gives the number of the instruction that is `node` at `map`: a load where the node has
memory, else its own computation, with movement ops turned into index maps on the way. For what cannot be written so
`body` raises `NeedsStorage`: the planner then gives those nodes memory and starts again.

The recursion is bounded: it descends through the members of one group and the light nodes between them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from adjit.ir.axes import is_linear, joins, without_ones
from adjit.ir.node import Node
from adjit.ops.declare import Elementwise
from adjit.schedule.buffer import Buffer
from adjit.schedule.group import Group
from adjit.schedule.instructions import (
    Apply,
    Body,
    Bounds,
    Const,
    Gather,
    Index,
    Inside,
    Instruction,
    Load,
    ProductElement,
    Reduce,
    Store,
    side_by_side,
)
from adjit.schedule.maps import Affine, Bound, Map, contiguous_strides, identity, linear, operand_map

Made = TypeVar("Made")


class NeedsStorage(Exception):
    """Each of `nodes` must have memory of its own (dense, where its value is True) for the plan to go on."""

    def __init__(self, nodes: dict[Node, bool]) -> None:
        super().__init__(", ".join(node.op.name for node in nodes))
        self.nodes = nodes


def all_of(*makes: Callable[[], Made]) -> list[Made]:
    """What each makes; what they need is asked for at once, so that it takes one round of planning."""
    found: list[Made] = []
    lacking: dict[Node, bool] = {}
    for make in makes:
        try:
            found.append(make())
        except NeedsStorage as need:
            lacking |= need.nodes
    if lacking:
        raise NeedsStorage(lacking)
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """Where a node's value lies: a buffer, an offset and a stride for each dimension, in elements."""

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]

    def is_dense(self, shape: Sequence[int]) -> bool:
        """Whether the value is C-ordered without gaps."""
        return self.strides == contiguous_strides(shape)


class BodyBuilder:
    """Writes one body. `placements` are where values lie: those that are read there are noted in `reads`, in order."""

    def __init__(
        self,
        group: Group | None,
        domain: tuple[int, ...],
        placements: Mapping[Node, Placement],
        first_param: int = 0,
    ) -> None:
        self.group = group
        self.domain = domain
        self.reads: dict[Node, None] = {}
        self.code: list[Instruction] = []
        self.params: list[tuple[Buffer, int]] = []
        self._placements = placements
        self._first_param = first_param
        self._param_numbers: dict[tuple[int, int], int] = {}
        self._numbers: dict[tuple[Node, Map, tuple[Bound, ...]], int] = {}
        self._same: dict[Instruction, int] = {}
        self.lacking: dict[Node, bool] = {}
        self.tile_of: Node | None = None

    @property
    def full(self) -> Map:
        """The identity map over the whole domain."""
        return identity(len(self.domain), range(len(self.domain)))

    def map_of(self, member: Node) -> Map:
        """The map at which a member of the group is computed."""
        assert self.group is not None
        return self.full if self.group.members[member] == "full" else identity(len(self.domain), self.group.rows)

    def body(self, reduced: tuple[int, ...] = ()) -> Body:
        """Close the body; raises NeedsStorage for all that lack memory."""
        if self.lacking:
            raise NeedsStorage(self.lacking)
        dtypes = tuple(buffer.dtype for buffer, _ in self.params)
        beside = side_by_side(self.code, self.domain, self.params, self._first_param)
        return Body(self.domain, reduced, dtypes, tuple(self.code), beside)

    def emit(self, instruction: Instruction) -> int:
        """Append an instruction unless the same one is there."""
        if isinstance(instruction, Store):
            self.code.append(instruction)
            return len(self.code) - 1
        number = self._same.get(instruction)
        if number is None:
            number = self._same[instruction] = len(self.code)
            self.code.append(instruction)
        return number

    def param(self, buffer: Buffer, offset: int) -> int:
        """The number of the parameter that points at element `offset` of `buffer`."""
        key = (id(buffer), offset)
        if key not in self._param_numbers:
            self._param_numbers[key] = len(self.params) + self._first_param
            self.params.append((buffer, offset))
        return self._param_numbers[key]

    def store(self, arg: int, placement: Placement, map_: Map, dtype: np.dtype) -> None:
        """Write an instruction's value at `map_` of a placed value."""
        offset, coefficients = self._element(placement, map_)
        self.emit(Store(self.param(placement.buffer, offset), coefficients, arg, dtype))

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, node: Node, map_: Map, inside: tuple[Bound, ...] = ()) -> int:
        """The number of the instruction that is `node` at `map_`; memory is touched only where `inside` holds."""
        key = (node, map_, inside)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._value(node, map_, inside)
        return number

    def _value(self, node: Node, map_: Map, inside: tuple[Bound, ...]) -> int:
        if node.is_splat:
            return self.constant(node.attrs["value"], node.dtype)
        if node is self.tile_of:
            if map_ != self.full or inside:
                return self._lacks(node, node.dtype)
            return self.emit(ProductElement(node.dtype))
        if self.group is not None and node in self.group.members and map_ == self.map_of(node) and not inside:
            return self._compute(node, map_)
        placement = self._read(node)
        if placement is not None:
            return self.load(placement, map_, inside, node.dtype)
        if isinstance(node.op, Elementwise):
            return self._apply(node, map_, inside)
        if node.op.kind == "movement":
            return self._moved(node, map_, inside)
        if node.op.kind == "creation":
            constant, coefficients = map_[node.attrs["axis"]]
            return self.emit(Index(constant, self._padded(coefficients), node.dtype))
        return self._lacks(node, node.dtype)

    def _read(self, node: Node) -> Placement | None:
        """Where a node is read: no member of the group is, whose values are in registers."""
        if self.group is not None and node in self.group.members:
            return None
        placement = self._placements.get(node)
        if placement is not None:
            self.reads[node] = None
        return placement

    def _lacks(self, node: Node, dtype: np.dtype, dense: bool = False) -> int:
        """Note that a node needs memory, and go on with a number in place of what is read of it."""
        self.lacking[node] = dense or self.lacking.get(node, False)
        return self.constant(0, dtype)

    def constant(self, value: object, dtype: np.dtype) -> int:
        """A constant."""
        scalar = np.asarray(value, dtype=dtype)
        return self.emit(Const(scalar.item(), scalar.tobytes(), dtype))

    def load(self, placement: Placement, map_: Map, inside: tuple[Bound, ...], dtype: np.dtype) -> int:
        """The element of a placed value that `map_` names."""
        offset, coefficients = self._element(placement, map_)
        return self.emit(Load(self.param(placement.buffer, offset), coefficients, self._bounds(inside), dtype))

    def _compute(self, node: Node, map_: Map) -> int:
        if isinstance(node.op, Elementwise):
            return self._apply(node, map_, ())
        if node.op.kind in ("reduction", "argreduction", "running"):
            arg = self.value(node.args[0], self.full)
            return self.emit(Reduce(node.op.name, arg, node.dtype))
        if node.op.kind == "gather":
            return self._take(node, map_, ())
        if node.op.kind == "movement":
            return self._moved(node, map_, ())
        if node.op.kind == "creation":
            constant, coefficients = map_[node.attrs["axis"]]
            return self.emit(Index(constant, self._padded(coefficients), node.dtype))
        return self._lacks(node, node.dtype)

    def _apply(self, node: Node, map_: Map, inside: tuple[Bound, ...]) -> int:
        args = tuple(self.value(arg, map_, inside) for arg in node.args)
        if node.op.name == "stop_gradient" or (node.op.name == "cast" and node.args[0].dtype == node.dtype):
            return args[0]
        attrs = tuple(sorted((k, v) for k, v in node.attrs.items() if k != "weak"))
        return self.emit(Apply(node.op.name, args, attrs, node.dtype))

    def _take(self, node: Node, map_: Map, inside: tuple[Bound, ...]) -> int:
        source, index = node.args
        axis, batch = node.attrs["axis"], node.attrs.get("batch", 0)
        placement = self._gathered(node, source)
        if placement is None:
            return self._lacks(source, node.dtype)
        after = axis + len(index.shape) - batch
        at = self.value(index, map_[:batch] + map_[axis:after], inside)
        outer = map_[:axis] + map_[after:]
        strides = placement.strides[:axis] + placement.strides[axis + 1 :]
        offset, coefficients = linear(outer, strides, placement.offset)
        param = self.param(placement.buffer, offset)
        stride, size = placement.strides[axis], source.shape[axis]
        bounds = self._bounds(inside)
        return self.emit(Gather(param, self._padded(coefficients), at, stride, size, bounds, node.dtype))

    def _gathered(self, node: Node, source: Node) -> Placement | None:
        """Where `node` reads elements of `source`: where that lies; where it is a part or an order of what lies there,
        there, if no more is read than it has."""
        placement = self._read(source)
        if placement is not None:
            return placement
        if not is_linear(source) and node.array_type.size > source.array_type.size:
            return None
        found = operand_strides(source, self._placements)
        if found is None or self._read(found[0]) is None:
            return None
        return found[1]

    def _moved(self, node: Node, map_: Map, inside: tuple[Bound, ...]) -> int:
        if joins(node):
            return self._lacks(node, node.dtype)
        arg = node.args[0]
        inner, bounds = operand_map(node, map_, self.domain)
        if inner is None:
            if not is_linear(node):
                return self._lacks(node, node.dtype)
            placement = self._read(arg)
            if placement is None:
                return self._lacks(arg, node.dtype)
            if not placement.is_dense(arg.shape):
                return self._lacks(arg, node.dtype, dense=True)
            offset, coefficients = linear(map_, contiguous_strides(node.shape), placement.offset)
            param = self.param(placement.buffer, offset)
            return self.emit(Load(param, self._padded(coefficients), self._bounds(inside), node.dtype))
        if not bounds:
            return self.value(arg, inner, inside)
        guarded = self.value(arg, inner, inside + bounds)
        test = self.emit(Inside(self._bounds(bounds), np.dtype(np.bool_)))
        fill = self.constant(node.attrs["value"], node.dtype)
        return self.emit(Apply("select", (test, guarded, fill), (), node.dtype))

    # -- maps ---------------------------------------------------------------------------------------------------------

    def _padded(self, coefficients: tuple[int, ...]) -> tuple[int, ...]:
        return coefficients or (0,) * len(self.domain)

    def _element(self, placement: Placement, map_: Map) -> Affine:
        offset, coefficients = linear(map_, placement.strides, placement.offset)
        if 0 in self.domain:
            return 0, (0,) * len(self.domain)
        return offset, self._padded(coefficients)

    def _bounds(self, inside: tuple[Bound, ...]) -> Bounds:
        return tuple(dict.fromkeys((constant, self._padded(terms), n) for (constant, terms), n in inside))


def collapse(body: Body, runs: Sequence[Sequence[int]]) -> Body | None:
    """The body over a domain in which each run of adjacent dimensions is one; None where an access does not allow it.

    `runs` partitions the dimensions in order; an empty run becomes a dimension of extent 1."""
    domain = tuple(math.prod(body.domain[d] for d in run) for run in runs)

    def merged(coefficients: tuple[int, ...]) -> tuple[int, ...] | None:
        result = []
        for run in runs:
            kept = [d for d in run if body.domain[d] != 1]
            for a, b in itertools.pairwise(kept):
                if coefficients[a] != coefficients[b] * body.domain[b]:
                    return None
            result.append(coefficients[kept[-1]] if kept else 0)
        return tuple(result)

    code: list[Instruction] = []
    for instruction in body.code:
        if isinstance(instruction, (Load, Gather, Store, Index)):
            terms = merged(instruction.coefficients)
            if terms is None:
                return None
            if terms != instruction.coefficients:
                instruction = replace(instruction, coefficients=terms)
        if isinstance(instruction, (Load, Gather, Inside)) and instruction.bounds:
            bounds = [_merged_bound(body.domain, runs, *bound) for bound in instruction.bounds]
            if None in bounds:
                return None
            instruction = replace(instruction, bounds=tuple(bound for bound in bounds if bound is not None))
        code.append(instruction)
    position = {d: i for i, run in enumerate(runs) for d in run}
    reduced = tuple(sorted({position[d] for d in body.reduced if d in position}))
    return Body(domain, reduced, body.params, tuple(code), body.beside)


def _merged_bound(
    domain: tuple[int, ...], runs: Sequence[Sequence[int]], constant: int, coefficients: tuple[int, ...], n: int
) -> tuple[int, tuple[int, ...], int] | None:
    """0 <= constant + coefficients . index < n over a domain in which each run of dimensions is one.

    Where it says nothing of the last dimensions of a run, of E elements, i in 0 <= i < n is E * i + j in
    0 <= E * i + j < E * n, whatever j."""
    terms: list[int] = []
    scale = 1
    for run in runs:
        kept = [d for d in run if domain[d] != 1]
        told = next((i for i in range(len(kept), 0, -1) if coefficients[kept[i - 1]]), 0)
        if any(coefficients[a] != coefficients[b] * domain[b] for a, b in itertools.pairwise(kept[:told])):
            return None
        beyond = math.prod(domain[d] for d in kept[told:]) if told else 1
        if beyond > 1 and (scale > 1 or coefficients[kept[told - 1]] != 1):
            return None
        terms = [term * beyond for term in terms]
        terms.append(1 if beyond > 1 else coefficients[kept[-1]] * scale if told else 0)
        scale *= beyond
    return constant * scale, tuple(terms), n * scale


def permuted(body: Body, order: Sequence[int]) -> Body:
    """The body over its dimensions in another order: dimension i of the result is `order[i]` of `body`."""
    if list(order) == list(range(len(body.domain))):
        return body

    def moved(coefficients: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(coefficients[d] for d in order)

    code: list[Instruction] = []
    for instruction in body.code:
        if isinstance(instruction, (Load, Gather, Store, Index)):
            instruction = replace(instruction, coefficients=moved(instruction.coefficients))
        if isinstance(instruction, (Load, Gather, Inside)):
            bounds = tuple((constant, moved(terms), n) for constant, terms, n in instruction.bounds)
            instruction = replace(instruction, bounds=bounds)
        code.append(instruction)
    reduced = tuple(sorted(order.index(d) for d in body.reduced))
    return Body(moved(body.domain), reduced, body.params, tuple(code), body.beside)


def collapse_greedily(body: Body) -> Body:
    """Merge adjacent dimensions wherever every access allows it; extents of 1 vanish."""
    kept = [d for d in range(len(body.domain)) if body.domain[d] != 1]
    runs: list[list[int]] = []
    for d in kept:
        if runs and (d in body.reduced) == (runs[-1][-1] in body.reduced):
            joined = [*runs[:-1], [*runs[-1], d]]
            rest = [[e] for e in kept if e > d]
            if collapse(body, joined + rest) is not None:
                runs = joined
                continue
        runs.append([d])
    result = collapse(body, runs)
    assert result is not None
    return result


def operand_strides(node: Node, placements: Mapping[Node, Placement]) -> tuple[Node, Placement] | None:
    """How a contraction reads `node`, looking through movement: what has memory, and where; or None."""
    extents = node.shape
    map_: Map = identity(len(extents), range(len(extents)))
    while True:
        placement = placements.get(node)
        if placement is not None:
            offset, strides = linear(map_, placement.strides, placement.offset)
            return node, Placement(placement.buffer, offset, strides or (0,) * len(extents))
        if node.op.kind != "movement" or joins(node):
            return None
        inner, bounds = operand_map(node, map_, extents)
        if bounds:
            return None
        if inner is None:
            if not is_linear(node):
                return None
            if without_ones(node.shape) == without_ones(node.args[0].shape):
                map_, node = _with_ones(map_, node.shape, node.args[0].shape, len(extents)), node.args[0]
                continue
            source = placements.get(node.args[0])
            if source is None or not source.is_dense(node.args[0].shape):
                return None
            offset, strides = linear(map_, contiguous_strides(node.shape), source.offset)
            return node.args[0], Placement(source.buffer, offset, strides)
        map_, node = inner, node.args[0]


def _with_ones(map_: Map, shape: tuple[int, ...], wanted: tuple[int, ...], rank: int) -> Map:
    """A map into `shape` as one into `wanted`, which differs by axes of size 1 alone."""
    moving = [entry for entry, n in zip(map_, shape, strict=True) if n != 1]
    return tuple(moving.pop(0) if n != 1 else (0, (0,) * rank) for n in wanted)


def unshaped(node: Node) -> Node:
    """The value that a root is a reshape of: it is written where the root goes, and nothing is copied."""
    value = node
    while is_linear(value):
        value = value.args[0]
    return node if value.op.kind == "leaf" else value
