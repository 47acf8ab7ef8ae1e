"""Small graphs for many places at once, one in each lane of a vector: an element of a value is a vector, or known.

What lies in memory place by place comes in by whole vectors, which are transposed in registers: a gather, of as many
elements, takes several times as long. Movement says which vector is meant; what constants give, as triangles and
identities are made of, is computed here. The last places of a range are computed again with some of those ahead of
them, so that all vectors are full: `cuts` gives each part as many places as there are lanes, or more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.codegen.cuts import cut_of, lanes_across
from adjit.codegen.emitter import Emitter, How
from adjit.codegen.factoring.elements import WRITTEN_OUT, Arithmetic, Blank, Elements
from adjit.codegen.jobs import open_job, parts_for, range_of, run_job
from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import I8, Function, Ty, Value, int_literal, literal, memory_type, register_type
from adjit.ir.node import Node
from adjit.ops.contraction import sizes_of, subscripts_of
from adjit.ops.declare import Elementwise, Factoring, Movement, Reduction
from adjit.schedule.across import Across


class AcrossEmitter(Emitter[Across]):
    """A loop over blocks of places, or a job of parts of one."""

    def is_glue(self, work: Across, how: How) -> bool:
        """Whether its parts are functions of their own."""
        return how.parallel and cut_of(work, how.target) is not None

    def write(self, f: Function, params: Sequence[Value], name: str, work: Across, how: How) -> None:
        """Write the loop."""
        lanes = lanes_across(work, how.target)
        cut = cut_of(work, how.target) if how.parallel else None
        if cut is None:
            _emit(f, params, work, int_literal(0), int_literal(work.count), lanes)
            return
        job, given, part, parts = open_job(f.module, f"{name}_part", len(params))
        low, high = range_of(job, part, parts, cut)
        _emit(job, given, work, low, high, lanes)
        job.ret()
        run_job(f, params, job, parts_for(f, cut))


def _emit(f: Function, params: Sequence[Value], work: Across, low: Value, high: Value, lanes: int) -> None:
    first = len(work.graph.inputs)
    given = list(zip(work.graph.inputs, params[:first], work.turns[:first], strict=True))
    fixed = {node: _spread(f, node, pointer, lanes) for node, pointer, step in given if not step}
    last = f.sub(high, lanes)

    def turn(place: Value, _: list[Value]) -> list[Value]:
        at = f.minimum(place, last)

        def places(node: Node, pointer: Value, step: int) -> list[Value]:
            own = f.element(pointer, memory_type(node.dtype), f.mul(at, step))
            return [f.element(own, memory_type(node.dtype), lane * step) for lane in range(lanes)]

        values = dict(fixed)
        for node, pointer, step in given:
            if step:
                values[node] = _shaped(bring(f, places(node, pointer, step), node), node)
        line = _Line(f, lanes, values)
        for node in work.graph.nodes:
            values[node] = line.value(node)
        for node, pointer, step in zip(work.graph.outputs, params[first:], work.turns[first:], strict=True):
            store(f, [line.vector(x, node) for x in values[node].ravel()], places(node, pointer, step), node)
        return []

    f.loop(low, high, lanes, [], turn)


def _shaped(values: list[Any], node: Node) -> Elements:
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(node.shape)


# -- memory ------------------------------------------------------------------------------------------------------------


def _spread(f: Function, node: Node, pointer: Value, lanes: int) -> Elements:
    """What all places read, in each lane."""
    memory = memory_type(node.dtype)
    loaded = [f.load(f.element(pointer, memory, i), memory) for i in range(node.array_type.size)]
    return _shaped([f.splat(_register(f, value, node), lanes) for value in loaded], node)


def _register(f: Function, value: Value, node: Node) -> Value:
    return f.compare("ne", value, literal(value.ty, 0)) if node.dtype.kind == "b" else value


def _widths(size: int, lanes: int, node: Node) -> list[tuple[int, int]]:
    """Where pieces of an array begin, and their powers of two of elements: bools go one by one."""
    found, at, width = [], 0, 1 if node.dtype.kind == "b" else lanes
    while at < size:
        while width > size - at:
            width //= 2
        found.append((at, width))
        at += width
    return found


def bring(f: Function, places: Sequence[Value], node: Node) -> list[Value]:
    """A vector for each element of an array, of which each lane has one at its own place."""
    memory, lanes = memory_type(node.dtype), len(places)
    found: list[Value] = []
    for at, width in _widths(node.array_type.size, lanes, node):
        pieces = [f.load(f.element(place, memory, at), memory.vector(width if width > 1 else 0)) for place in places]
        if width == 1:
            found.append(_register(f, _joined_ones(f, pieces), node))
            continue
        rows = [_joined(f, pieces[row::width]) for row in range(width)]
        found += _transposed(f, rows)
    return found


def store(f: Function, values: Sequence[Value], places: Sequence[Value], node: Node) -> None:
    """Store such vectors."""
    memory, lanes = memory_type(node.dtype), len(places)
    if node.dtype.kind == "b":
        values = [f.convert("zext", value, I8.vector(lanes)) for value in values]
    for at, width in _widths(len(values), lanes, node):
        rows = _transposed(f, values[at : at + width])
        for place, (row, part) in zip(places, _pieces(width, lanes), strict=True):
            one = f.extract(rows[row], part) if width == 1 else _part(f, rows[row], part, width)
            f.store(one, f.element(place, memory, at))


def _pieces(width: int, lanes: int) -> list[tuple[int, int]]:
    """For each lane the row of a transposed block that has its piece, and the number of the piece there."""
    return [(lane % width, lane // width) for lane in range(lanes)]


def _part(f: Function, value: Value, part: int, width: int) -> Value:
    whole = value.ty.lanes == width
    return value if whole else f.shuffle(value, None, range(part * width, (part + 1) * width))


def _joined_ones(f: Function, scalars: Sequence[Value]) -> Value:
    vector = Value(scalars[0].ty.vector(len(scalars)), "poison")
    for lane, scalar in enumerate(scalars):
        vector = f.insert(vector, scalar, lane)
    return vector


def _joined(f: Function, pieces: Sequence[Value]) -> Value:
    """Vectors end to end."""
    while len(pieces) > 1:
        count = 2 * pieces[0].ty.lanes
        pieces = [f.shuffle(x, y, range(count)) for x, y in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


def _transposed(f: Function, rows: Sequence[Value]) -> list[Value]:
    """Blocks of as many columns as there are rows, each transposed: pairs of rows exchange halves, quarters ..."""
    rows = list(rows)
    lanes, distance = rows[0].ty.lanes, 1
    while distance < len(rows):
        low = [i if not i & distance else lanes + i - distance for i in range(lanes)]
        high = [i + distance if not i & distance else lanes + i for i in range(lanes)]
        for i in range(len(rows)):
            if not i & distance:
                x, y = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = f.shuffle(x, y, low), f.shuffle(x, y, high)
        distance *= 2
    return rows


# -- values ------------------------------------------------------------------------------------------------------------


class _Known(Lane):
    """A lane of a number that is known."""

    __slots__ = ("known",)

    def __init__(self, kit: Lanes, value: Value, dtype: np.dtype, known: Any) -> None:
        super().__init__(kit, value, dtype)
        self.known = known


class _Kit(Lanes):
    """Lanes in which a condition may be known."""

    def select(self, condition: Lane, x: Lane, y: Lane) -> Lane:
        """One of both where the condition is known."""
        if isinstance(condition, _Known):
            return x if condition.known else y
        return super().select(condition, x, y)


class _Line:
    """A graph, written out for as many places as a vector has lanes: an array of elements for each value."""

    def __init__(self, f: Function, lanes: int, values: dict[Node, Elements]) -> None:
        self.f = f
        self.lanes = lanes
        self.kit = _Kit(f, lanes)
        self.values = values
        self._arithmetic: dict[Ty, Arithmetic] = {}

    def vector(self, x: Any, node: Node) -> Value:
        """An element as a vector."""
        if isinstance(x, Value):
            return x
        return x.value if isinstance(x, Blank) else literal(register_type(node.dtype).vector(self.lanes), x)

    def value(self, node: Node) -> Elements:
        """The elements of a node."""
        operands = [self.values[arg] for arg in node.args]
        if isinstance(node.op, Factoring):
            return self._factored(node, operands)
        if isinstance(node.op, Elementwise):
            return self._elementwise(node, operands)
        if isinstance(node.op, Movement):
            return self._moved(node, operands)
        if isinstance(node.op, Reduction):
            return self._reduced(node, node.op, operands[0])
        if node.op.kind == "contraction":
            return self._contracted(node, *operands)
        data = np.full(node.shape, node.attrs["value"], node.dtype) if node.is_splat else node.attrs["data"].array
        return _shaped([x.item() for x in data.ravel()], node)

    def _of(self, node: Node) -> Arithmetic:
        ty = register_type(node.dtype).vector(self.lanes)
        return self._arithmetic.setdefault(ty, Arithmetic(self.f, ty))

    def _factored(self, node: Node, operands: list[Elements]) -> Elements:
        lead = node.args[0].shape[:-2]
        flat = [x.reshape(-1, *x.shape[len(lead) :]) for x in operands]
        write = WRITTEN_OUT[node.op.name]
        each = [write(self._of(node), *(x[i] for x in flat), **node.attrs) for i in range(len(flat[0]))]
        return np.concatenate([x.ravel() for x in each]).reshape(node.shape)

    def _moved(self, node: Node, operands: list[Elements]) -> Elements:
        """What movement does to elements it does to their positions; operands are numbered one after the other, a
        filling is 0."""
        flat: list[Any] = [node.attrs.get("value"), *itertools.chain.from_iterable(x.ravel() for x in operands)]
        positions, at = [], 1
        for x in operands:
            positions.append(np.arange(at, at + x.size).reshape(x.shape))
            at += x.size
        attrs = {**node.attrs, "value": 0} if "value" in node.attrs else node.attrs
        places = np.asarray(node.op.evaluate(*positions, **attrs))
        if not operands:
            return _shaped([x.item() for x in places.astype(node.dtype).ravel()], node)
        return _shaped([flat[place] for place in places.ravel()], node)

    def _elementwise(self, node: Node, operands: list[Elements]) -> Elements:
        made: dict[tuple[Any, ...], Any] = {}
        found = []
        for xs in zip(*(x.ravel() for x in operands), strict=True):
            key = tuple(x.ref if isinstance(x, Value) else id(x) if isinstance(x, Blank) else (str(x),) for x in xs)
            if key not in made:
                made[key] = self._one(node, xs)
            found.append(made[key])
        return _shaped(found, node)

    def _one(self, node: Node, xs: tuple[Any, ...]) -> Any:
        if not any(isinstance(x, Value | Blank) for x in xs):
            arrays = [np.asarray(x, arg.dtype) for x, arg in zip(xs, node.args, strict=True)]
            with np.errstate(all="ignore"):
                return np.asarray(node.op.evaluate(*arrays, **_own(node)), node.dtype).item()
        assert isinstance(node.op, Elementwise)
        lanes = [self._lane(x, arg) for x, arg in zip(xs, node.args, strict=True)]
        result: Lane = node.op.scalar(self.kit, *lanes, **_own(node))
        return result.known if isinstance(result, _Known) else result.value

    def _lane(self, x: Any, node: Node) -> Lane:
        if isinstance(x, Value | Blank):
            return self.kit.wrap(self.vector(x, node), node.dtype)
        return _Known(self.kit, self.vector(x, node), node.dtype, x)

    def _reduced(self, node: Node, op: Reduction, x: Elements) -> Elements:
        """Halves combined, so that each sum is a tree."""
        axes = node.attrs["axes"]
        kept = [i for i in range(x.ndim) if i not in axes]
        rows = x.transpose(*kept, *axes).reshape(node.array_type.size, -1)
        return _shaped([self._total(node, op, list(row)) for row in rows], node)

    def _total(self, node: Node, op: Reduction, row: list[Any]) -> Any:
        arg = node.args[0]
        assert op.combine is not None
        lanes = [self.kit.wrap(self.vector(x, arg), arg.dtype) for x in row]
        while len(lanes) > 1:
            half = len(lanes) // 2
            pairs = zip(lanes[:half], lanes[half : 2 * half], strict=True)
            lanes = [op.combine(self.kit, a, b) for a, b in pairs] + lanes[2 * half :]
        return lanes[0].value

    def _contracted(self, node: Node, x: Elements, y: Elements) -> Elements:
        spec, sizes = subscripts_of(node), sizes_of(node)
        k = self._of(node)
        found = []
        summed = [dict(zip(spec.summed, at, strict=True)) for at in np.ndindex(*(sizes[c] for c in spec.summed))]
        for place in np.ndindex(*(sizes[c] for c in spec.result)):
            at = [{**dict(zip(spec.result, place, strict=True)), **inner} for inner in summed]
            left, right = (
                [operand[tuple(each[c] for c in letters)] for each in at]
                for operand, letters in zip((x, y), spec.operands, strict=True)
            )
            found.append(k.sum_of_products(0.0, left, right))
        return _shaped(found, node)


def _own(node: Node) -> dict[str, Any]:
    return {name: value for name, value in node.attrs.items() if name != "weak"}
