"""Straight-line code: every value of a small graph is one LLVM vector, its elements in C order.

An elementwise op is its lowering on vectors; movement is a shuffle, whose lanes the op's own NumPy meaning gives when
it is run on positions; a reduction folds halves onto each other, so that a sum is a tree; a contraction is a product of
two shuffles, then a sum. Vectors have a power of two of lanes; those beyond the last element repeat the first one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from adjit.codegen.lanes import Lane, Lanes
from adjit.codegen.llvm import (
    I8,
    I64,
    PTR,
    VOID,
    Function,
    Module,
    Value,
    int_literal,
    literal,
    memory_type,
    register_type,
    vector_literal,
)
from adjit.codegen.nested import emit_carrying
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.op import OPS
from adjit.ops.contraction import sizes_of, subscripts_of
from adjit.ops.declare import Elementwise
from adjit.schedule.turns import StraightLoop
from adjit.tuned import GATHER_EFFORT
from adjit_runtime.target import Target

Positions = np.ndarray
"""int64 array: for each element of a result the element of the operand that it is."""


class TooLong(Exception):
    """A straight line has more lines than it may."""


class StraightEmitter:
    """Emits one graph into `function`, in at most so many lines; raises TooLong where it takes more."""

    def __init__(self, function: Function, most_lines: float = math.inf, first_check: int = 0) -> None:
        self.function = function
        self.most_lines = most_lines
        self._values: dict[Node, Value] = {}
        self._checks = first_check

    def emit(self, graph: Graph, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Load the inputs, compute and check, store the outputs, then the new values of state; `inputs` and `outputs`
        are their addresses."""
        for node, pointer in zip(graph.inputs, inputs, strict=True):
            self._values[node] = self._load(node, pointer)
        for node in graph.nodes:
            self._values[node] = self._value(node)
            if self.function.lines > self.most_lines:
                raise TooLong
        home = dict(zip(graph.inputs, inputs, strict=True))
        places = [*zip(graph.outputs, outputs, strict=True), *((value, home[to]) for to, value in graph.updates)]
        for node, pointer in places:
            self._store(node, pointer)

    def emit_loop(self, work: StraightLoop, params: Sequence[Value], every: int = 0) -> None:
        """Write a loop, whose parameters are at `params`; `every` so many turns the function may be left (0: never)."""
        f, graph, first = self.function, work.graph, len(work.graph.inputs)
        inputs = list(zip(graph.inputs, params[:first], work.turns[:first], strict=True))
        for node, pointer, step in inputs:
            if not step:
                self._values[node] = self._load(node, pointer)
        carried = graph.inputs[: work.carried]
        varying = {*carried, *(node for node, _, step in inputs if step)}
        for node in graph.nodes:
            # What all turns compute alike is computed once; a check stays where it is.
            if varying.isdisjoint(node.args) and node.op.kind != "check":
                self._values[node] = self._value(node)
            else:
                varying.add(node)
        outputs = list(zip(graph.outputs, params[first:], work.turns[first:], strict=False))

        def turn(i: Value, values: list[Value]) -> list[Value]:
            self._values.update(zip(carried, values, strict=True))
            for node, pointer, step in inputs:
                if step:
                    self._values[node] = self._load(node, self._moved_on(pointer, node, i, step))
            for node in graph.nodes:
                if node in varying:
                    self._values[node] = self._value(node)
            for node, pointer, step in outputs[work.carried :]:
                self._store(node, self._moved_on(pointer, node, i, step))
            return [self._values[node] for node in graph.outputs[: work.carried]]

        counter = params[-1] if work.counted else None
        starts = [self._values[node] for node in carried]
        goes_on = (lambda values: values[0]) if work.stops else None
        last = emit_carrying(f, work, counter, every, starts, turn, goes_on)
        for (node, pointer, _), value in zip(outputs, last, strict=False):
            self._values[node] = value
            self._store(node, pointer)

    def _moved_on(self, pointer: Value, node: Node, turn: Value, step: int) -> Value:
        return self.function.element(pointer, memory_type(node.dtype), self.function.mul(turn, step))

    # -- memory -------------------------------------------------------------------------------------------------------

    def _load(self, node: Node, pointer: Value) -> Value:
        size = node.array_type.size
        memory = memory_type(node.dtype)
        raw = self.function.load(pointer, memory.vector(size if size > 1 else 0))
        if size > 1:
            raw = self._shuffled(raw, np.arange(size), size)
        return self.function.compare("ne", raw, literal(raw.ty, 0)) if node.dtype.kind == "b" else raw

    def _store(self, node: Node, pointer: Value) -> None:
        f = self.function
        value = self._values[node]
        if node.dtype.kind == "b":
            value = f.convert("zext", value, I8.vector(value.ty.lanes))
        size = node.array_type.size
        if value.ty.lanes not in (0, size):
            value = f.shuffle(value, None, range(size))
        f.store(value, pointer)

    # -- values -------------------------------------------------------------------------------------------------------

    def _value(self, node: Node) -> Value:
        values = [self._values[arg] for arg in node.args]
        if node.op.kind == "leaf":
            return self._constant(node)
        if node.op.kind == "creation":
            places = np.broadcast_to(
                np.arange(node.shape[node.attrs["axis"]]).reshape(
                    [-1 if i == node.attrs["axis"] else 1 for i in range(len(node.shape))]
                ),
                node.shape,
            )
            return self._array(places.astype(node.dtype))
        if isinstance(node.op, Elementwise):
            return self._elementwise(node, values)
        if node.op.kind == "movement":
            return self._moved(node, values)
        if node.op.kind == "contraction":
            return self._contracted(node, *values)
        if node.op.kind == "check":
            return self._checked(*values)
        axes = node.attrs["axes"]
        return self._reduced(node.op.name, values[0], node.args[0].shape, axes, node.args[0].dtype)

    def _checked(self, value: Value, holds: Value) -> Value:
        """The value; the program is left with the number of the check where it does not hold."""
        self._checks += 1
        self.function.return_if(self.function.compare("eq", holds, literal(holds.ty, 0)), int_literal(self._checks))
        return value

    def _constant(self, node: Node) -> Value:
        if node.is_splat:
            lanes = _lanes(node.array_type.size)
            return literal(register_type(node.dtype).vector(lanes), node.attrs["value"])
        return self._array(node.attrs["data"].array)

    def _array(self, array: np.ndarray) -> Value:
        lanes = _lanes(array.size)
        flat = [value.item() for value in array.ravel()]
        ty = register_type(array.dtype)
        return (
            vector_literal(ty.vector(lanes), flat + flat[:1] * (lanes - len(flat))) if lanes else literal(ty, flat[0])
        )

    def _elementwise(self, node: Node, values: list[Value]) -> Value:
        if node.op.name == "stop_gradient":
            return values[0]
        kit = Lanes(self.function, _lanes(node.array_type.size))
        operands = [kit.wrap(value, arg.dtype) for value, arg in zip(values, node.args, strict=True)]
        rule = getattr(node.op, "scalar", None)
        assert rule is not None
        attrs = {name: value for name, value in node.attrs.items() if name != "weak"}
        result: Lane = rule(kit, *operands, **attrs)
        return result.value

    def _moved(self, node: Node, values: list[Value]) -> Value:
        """What movement does to elements it does to their positions; operands are numbered one after the other."""
        positions, at = [], 1
        for arg in node.args:
            size = arg.array_type.size
            positions.append(np.arange(at, at + size).reshape(arg.shape))
            at += size
        attrs = {**node.attrs, "value": 0} if node.op.name == "pad" else node.attrs
        places = np.asarray(node.op.evaluate(*positions, **attrs)).ravel()
        result: Value | None = None
        at = 1
        for arg, value in zip(node.args, values, strict=True):
            size = arg.array_type.size
            here = (places >= at) & (places < at + size)
            part = self._shuffled(value, np.where(here, places - at, 0), node.array_type.size)
            result = part if result is None else self._chosen(here, part, result)
            at += size
        assert result is not None
        if node.op.name == "pad" and (places == 0).any():
            fill = literal(result.ty, node.attrs["value"])
            result = self._chosen(places > 0, result, fill)
        return result

    def _chosen(self, here: np.ndarray, x: Value, y: Value) -> Value:
        if not x.ty.lanes:
            return x if here[0] else y
        lanes = x.ty.lanes
        padded = np.resize(here, lanes)
        return self.function.shuffle(x, y, [i if padded[i] else lanes + i for i in range(lanes)])

    def _shuffled(self, value: Value, places: Positions, size: int) -> Value:
        """The elements at `places`, `size` of them."""
        lanes = _lanes(size)
        f = self.function
        if not value.ty.lanes:
            return f.splat(value, lanes) if lanes else value
        if not lanes:
            return f.extract(value, int(places[0]))
        order = [int(place) for place in places] + [int(places[0])] * (lanes - size)
        if lanes == value.ty.lanes and order[:size] == list(range(size)):
            return value
        return f.shuffle(value, None, order)

    def _reduced(self, name: str, value: Value, shape: tuple[int, ...], axes: Sequence[int], dtype: np.dtype) -> Value:
        """Halves folded onto each other; an odd one left over joins in the next round."""
        places = _columns(shape, axes)
        rows = len(places)
        combine = getattr(OPS[name], "combine", None)
        assert combine is not None
        while (n := places.shape[1]) > 1:
            low_places, high_places, new = _halves(places)
            half = low_places.size
            kit = Lanes(self.function, _lanes(half))
            low, high = (kit.wrap(self._shuffled(value, part, half), dtype) for part in (low_places, high_places))
            folded = combine(kit, low, high).value
            if n % 2:
                # After the sums.
                size = half + rows
                first = self._shuffled(folded, np.concatenate([np.arange(half), np.zeros(rows, np.int64)]), size)
                last = self._shuffled(value, np.concatenate([np.zeros(half, np.int64), places[:, -1]]), size)
                folded = self._chosen(np.arange(size) < half, first, last)
                new = np.concatenate([new, np.arange(half, size)[:, None]], axis=1)
            value, places = folded, new
        return self._shuffled(value, places.ravel(), rows)

    def _contracted(self, node: Node, x: Value, y: Value) -> Value:
        """The operands spread to one vector of all products, which is summed. What is summed over comes last or first
        in that vector, whichever moves fewer lanes; the sums are the same."""
        spec, sizes = subscripts_of(node), sizes_of(node)
        result, summed = spec.result, spec.summed
        shapes = [arg.shape for arg in node.args]

        def spread(letters: str) -> list[Positions]:
            return [_spread(letters, own, sizes, shape) for own, shape in zip(spec.operands, shapes, strict=True)]

        def effort(letters: str) -> int:
            shape = tuple(sizes[c] for c in letters)
            folds = _folds(shape, [letters.index(c) for c in summed], node.dtype)
            return folds + sum(_moves(places, node.dtype) for places in spread(letters))

        letters = min((result + summed, summed + result), key=effort)
        shape = tuple(sizes[c] for c in letters)
        total = math.prod(shape)
        kit = Lanes(self.function, _lanes(total))
        factors = [
            kit.wrap(self._shuffled(value, places, total), node.dtype)
            for value, places in zip((x, y), spread(letters), strict=True)
        ]
        product = (factors[0] * factors[1]).value
        return self._reduced("sum", product, shape, [letters.index(c) for c in summed], node.dtype)


def _lanes(size: int) -> int:
    """Lanes of the vector that holds so many elements: 0, a scalar, for one."""
    return 0 if size == 1 else 1 << (size - 1).bit_length()


def _spread(letters: str, own: str, sizes: dict[str, int], shape: tuple[int, ...]) -> Positions:
    """Where an operand with the axes `own` has the elements of an array with the axes `letters`."""
    places = np.arange(math.prod(shape)).reshape(shape)
    places = places.transpose([own.index(c) for c in sorted(own, key=letters.index)])
    places = places.reshape([sizes[c] if c in own else 1 for c in letters])
    return np.broadcast_to(places, tuple(sizes[c] for c in letters)).ravel()


def _moves(places: Positions, dtype: np.dtype) -> int:
    """Roughly how many instructions it takes to bring the elements at `places` together, with 64-byte registers: none
    where they are a register already, one for whole quarters of one register, two for each source of any other."""
    width = max(1, 64 // dtype.itemsize)
    quarter = max(1, width // 4)
    total = 0
    for at in range(0, len(places), width):
        part = places[at : at + width]
        if part[0] % width == 0 and (np.diff(part) == 1).all():
            continue
        sources = len(np.unique(part // width))
        blocks = part[: len(part) // quarter * quarter].reshape(-1, quarter)
        whole = len(part) % quarter == 0 and (blocks[:, 0] % quarter == 0).all() and (np.diff(blocks) == 1).all()
        total += 1 if sources == 1 and (whole or (part == part[0]).all()) else 2 * sources
    return total


def _folds(shape: tuple[int, ...], axes: Sequence[int], dtype: np.dtype) -> int:
    """Moves of the first fold of a sum, which has the most lanes; the others go the same way."""
    low, high, _ = _halves(_columns(shape, axes))
    return _moves(low, dtype) + _moves(high, dtype) if low.size else 0


def _columns(shape: tuple[int, ...], axes: Sequence[int]) -> Positions:
    """A row for each sum over `axes`: where its elements are."""
    kept = [i for i in range(len(shape)) if i not in axes]
    places = np.arange(math.prod(shape)).reshape(shape).transpose(*kept, *axes)
    return places.reshape(math.prod(shape[i] for i in kept), -1)


def _halves(places: Positions) -> tuple[Positions, Positions, Positions]:
    """The elements of the first and of the second half of each row, in the order in which the first ones lie, so that
    they move as little as may be; and where their sums then are. An odd one at the end is left out."""
    half = places.shape[1] // 2
    low, high = places[:, :half].ravel(), places[:, half : 2 * half].ravel()
    order = np.argsort(low)
    new = np.empty_like(order)
    new[order] = np.arange(len(order))
    return low[order], high[order], new.reshape(len(places), half)


def emit_straight_loop(module: Module, name: str, work: StraightLoop, every: int = 0) -> Function:
    """The function of a loop in registers, of a pointer for each parameter; it has a status where it may fail, or polls
    `every` so many turns."""
    has_status = work.may_fail or every > 0
    params = [(PTR, f"p{i}") for i in range(len(work.turns) + work.counted)]
    f = module.function(name, I64 if has_status else VOID, params, internal=True)
    StraightEmitter(f, first_check=work.first_check or 0).emit_loop(work, f.params, every)
    f.ret(int_literal(0) if has_status else None)
    return f


def emit_straight(function: Function, graph: Graph, table: Value, most_lines: float = math.inf) -> None:
    """Write a program's entry: the table's slots are the graph's inputs, then its outputs."""
    f = function
    count = len(graph.inputs)
    pointers = [f.load(f.element(table, PTR, number), PTR) for number in range(count + len(graph.outputs))]
    StraightEmitter(f, most_lines).emit(graph, pointers[:count], pointers[count:])
    f.ret(int_literal(0))


_VECTOR = re.compile(r"<(\d+) x ([a-z]+)(\d*)>")
_BITS = {"double": 64, "float": 32, "ptr": 64}


def code_effort(text: str, target: Target) -> int:
    """What LLVM does for straight-line code: its instructions, each once for every register that its vectors fill on
    the target, with those of paths that are seldom taken. (A shuffle makes what its result fills.)"""
    bits = 8 * target.vector_bytes
    effort = 0
    for line in text.splitlines():
        if not line.startswith("  "):
            continue
        types = [(int(lanes), _BITS.get(kind) or int(width)) for lanes, kind, width in _VECTOR.findall(line)]
        if types and " = shufflevector " in line:
            types = [(types[-1][0], types[0][1])]
        registers = max((-(-lanes * width // bits) for lanes, width in types), default=1)
        effort += registers * (GATHER_EFFORT if "@llvm.masked.gather" in line else 1)
    return effort
