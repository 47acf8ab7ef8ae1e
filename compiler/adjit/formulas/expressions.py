"""A graph of scalars as expressions of SymPy: each op by the symbolic meaning that it declares.

What a function does with small arrays of its scalars is carried out on arrays of expressions, by the ops' NumPy
meaning; loops run turn by turn. What is a number there stays one, as positions must be."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ops.declare import Bodied, Checked, Elementwise, Reduction
from adjit.trace import refuse
from adjit_runtime.errors import TraceError

MOST_TERMS = 10_000
"""Ops that the loops of a function may be unrolled to: a bound for safety, as SymPy takes long for more."""

_EXACT = 1 << 10
"""Fractions whose denominators are at most this power of two are written as fractions."""


def length_of(expression: Any) -> int:
    """How many terms the text of an expression has; a loop, in which shared parts are counted once and added often."""
    lengths: dict[int, int] = {}
    waiting = [(expression, False)]
    while waiting:
        part, ready = waiting.pop()
        if id(part) in lengths:
            continue
        if not ready:
            waiting.append((part, True))
            waiting += [(arg, False) for arg in part.args]
            continue
        lengths[id(part)] = 1 + sum(lengths[id(arg)] for arg in part.args)
    return lengths[id(expression)]


def symbols_of(names: Sequence[Any]) -> list[Any]:
    """A real symbol for each name; symbols stay as they are."""
    import sympy

    return [sympy.Symbol(name, real=True) if isinstance(name, str) else name for name in names]


class Expressions:
    """What is known of a graph's nodes, as arrays of SymPy's expressions."""

    def __init__(self) -> None:
        self.left = MOST_TERMS
        self.constants = _named()

    def of(self, graph: Graph, operands: Sequence[Any]) -> list[Any]:
        """The outputs of a graph of scalars, of an expression for each input."""
        values = self._run(graph, [_array(operand) for operand in operands])
        return [value[()] for value in values]

    def zeros(self, count: int) -> tuple[Any, ...]:
        """The derivatives of what has none: integers and truths."""
        return (self._number(0),) * count

    def _run(self, graph: Graph, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        values: dict[Node, Any] = dict(zip(graph.inputs, operands, strict=True))
        for node in graph.nodes:
            values[node] = self._value(node, [values[arg] for arg in node.args])
        return [values[node] for node in graph.outputs]

    def _value(self, node: Node, args: list[Any]) -> Any:
        try:
            if node.op.name == "constant":
                return self._constant(node)
            if node.op.name == "item":
                return args[0][node.attrs["index"]]
            if isinstance(node.op, Bodied):
                return self._loop(node, args)
            return self._applied(node, args)
        except RecursionError:
            raise _refused(node, "SymPy goes down expressions by recursion, and this one is too deep for it") from None

    def _constant(self, node: Node) -> np.ndarray:
        plain = np.broadcast_to(node.attrs["value"], node.shape) if node.is_splat else node.attrs["data"].array
        return self._expressions(np.asarray(plain, node.dtype))

    def _expressions(self, numbers: np.ndarray) -> np.ndarray:
        """An array of numbers as one of expressions."""
        found = np.empty(numbers.shape, object)
        for index in np.ndindex(*numbers.shape):
            found[index] = self._number(numbers[index].item())
        return found

    def _number(self, value: float | int | bool) -> Any:
        """Whole numbers, short fractions and well-known constants are exact; all else is the float that it is."""
        import sympy

        if isinstance(value, bool | int) or not math.isfinite(value):
            return sympy.sympify(value)
        # Powers of two scale, and are divided by again.
        if (abs(value) < 2**53 and (value * _EXACT).is_integer()) or abs(math.frexp(value)[0]) == 0.5:
            return sympy.Rational(value)
        for constant, size in self.constants:
            # Where a program computed it, the last bit may be another.
            if math.isclose(abs(value), size, rel_tol=4e-16):
                return constant if value > 0 else -constant
        return sympy.Float(value)

    # -- ops ----------------------------------------------------------------------------------------------------------

    def _applied(self, node: Node, args: list[np.ndarray]) -> np.ndarray:
        op = node.op
        numbers = [_numbers(arg, of) for arg, of in zip(args, node.args, strict=True)]
        if isinstance(op, Elementwise) and op.name == "cast":
            return _cast(node, args[0])
        if isinstance(op, Elementwise) and op.symbolic is not None and not _is_of_bits(node):
            return _each(op.symbolic, args)
        if isinstance(op, Reduction) and op.combine is not None and op.kind == "reduction" and args[0].size:
            return _reduced(op, args[0], node.attrs["axes"])
        if all(number is not None for number in numbers):
            return self._expressions(np.asarray(op.evaluate(*numbers, **node.attrs), node.dtype))
        if isinstance(op, Elementwise | Checked):
            raise _refused(node, "it has no symbolic meaning")
        # Positions are numbers; what is moved, taken and multiplied may be anything.
        given = [
            number if number is not None and of.dtype.kind in "iub" else arg
            for number, arg, of in zip(numbers, args, node.args, strict=True)
        ]
        try:
            return _array(op.evaluate(*given, **node.attrs))
        except (TypeError, ValueError, IndexError) as error:
            raise _refused(node, f"it depends on the values of symbols ({error})") from None

    def _loop(self, node: Node, args: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """`scan` turn by turn."""
        attrs = node.attrs
        if node.op.name != "scan":
            raise _refused(node, "it has no symbolic meaning")
        body, count, carried, sliced = (attrs[name] for name in ("body", "length", "carried", "sliced"))
        if attrs.get("counted", False):
            told = _numbers(args[-1], node.args[-1])
            if told is None and count == 1:
                return self._branch(node, args)
            if told is None:
                raise _refused(node, "how many turns it has depends on the values of symbols")
            count = min(max(int(told), 0), count)
        now, parts = args[:carried], args[carried : carried + sliced]
        whole = args[carried + sliced : len(body.inputs)]
        made: list[list[np.ndarray]] = []
        at = 0
        while at < count and not (attrs.get("stops", False) and not self._goes_on(node, now[0])):
            self._take(node, len(body.nodes))
            i = count - 1 - at if attrs.get("reverse", False) else at
            outputs = self._run(body, [*now, *(_array(part[i]) for part in parts), *whole])
            now = outputs[:carried]
            made.append(outputs[carried:])
            at += 1
        if attrs.get("reverse", False):
            made.reverse()
        return (*now, *(self._stacked(node, made, i) for i in range(carried, len(body.outputs))))

    def _branch(self, node: Node, args: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """A loop that runs once, or never: the one side of a branch."""
        import sympy

        told: Any = args[-1][()]
        carried = node.attrs["carried"]
        # How a truth is counted.
        counts = isinstance(told, sympy.Piecewise) and [pair.expr for pair in told.args] == [1, 0]
        condition = told.args[0].cond if counts else sympy.Gt(told, 0)
        once = self._loop(node, [*args[:-1], _array(sympy.Integer(1))])
        chosen = [
            _each(lambda new, old: sympy.Piecewise((new, condition), (old, True)), [new, old])
            for new, old in zip(once[:carried], args[:carried], strict=True)
        ]
        return (*chosen, *once[carried:])

    def _goes_on(self, node: Node, flag: np.ndarray) -> bool:
        known = _numbers(flag, node.args[0])
        if known is None:
            raise _refused(node, "how many turns it has depends on the values of symbols")
        return bool(known)

    def _take(self, node: Node, count: int) -> None:
        self.left -= max(count, 1)
        if self.left < 0:
            raise _refused(node, f"its turns are more than {MOST_TERMS} ops, which SymPy takes long for")

    def _stacked(self, node: Node, made: Sequence[Sequence[np.ndarray]], output: int) -> np.ndarray:
        """What turns gave beside what they carry, along the first axis; 0 for turns that did not run."""
        item = node.attrs["body"].outputs[output]
        found = self._expressions(np.zeros((node.attrs["length"], *item.shape), item.dtype))
        for i, outputs in enumerate(made):
            found[i] = outputs[output - node.attrs["carried"]]
        return found


def _array(value: Any) -> np.ndarray:
    """Expressions, or numbers of NumPy, as an array of expressions."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value
    found = np.empty(np.shape(value), object)
    found[...] = value
    return found


def _each(function: Any, args: Sequence[np.ndarray]) -> np.ndarray:
    """A function of each element."""
    found = np.empty(args[0].shape, object)
    for index in np.ndindex(*found.shape):
        found[index] = function(*(arg[index] for arg in args))
    return found


def _numbers(array: np.ndarray, node: Node) -> np.ndarray | None:
    """Expressions as numbers of a node's dtype; None where one of them is none."""
    import sympy

    kinds = {"b": sympy.logic.boolalg.BooleanAtom, "i": sympy.Integer, "u": sympy.Integer, "f": sympy.Number}
    if not isinstance(array, np.ndarray) or not all(isinstance(x, kinds[node.dtype.kind]) for x in array.flat):
        return None
    convert = {"b": bool, "i": int, "u": int, "f": float}[node.dtype.kind]
    return np.array([convert(x) for x in array.flat], node.dtype).reshape(array.shape)


def _cast(node: Node, array: np.ndarray) -> np.ndarray:
    """A number for a truth, a truth for a number, a whole number for a float."""
    import sympy

    kinds = node.args[0].dtype.kind, node.dtype.kind
    if kinds[0] == "b" and kinds[1] != "b":
        return _each(lambda x: sympy.Piecewise((1, x), (0, True)), [array])
    if kinds[0] != "b" and kinds[1] == "b":
        return _each(lambda x: sympy.Ne(x, 0), [array])
    if kinds[0] == "f" and kinds[1] != "f":
        return _each(lambda x: sympy.sign(x) * sympy.floor(sympy.Abs(x)), [array])
    return array


def _is_of_bits(node: Node) -> bool:
    """Whether an op of truths computes with the bits of integers."""
    return node.op.name in ("and", "or", "xor", "not") and node.dtype.kind != "b"


def _reduced(op: Reduction, array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Elements along axes, combined as the op does."""
    import sympy

    kit = SimpleNamespace(maximum=sympy.Max, minimum=sympy.Min)
    kept = [n for i, n in enumerate(array.shape) if i not in axes]
    rows = np.moveaxis(array, axes, range(len(axes))).reshape(-1, *kept)
    combine = op.combine
    assert combine is not None
    return functools.reduce(lambda x, y: _each(lambda a, b: combine(kit, a, b), [x, y]), map(_array, rows))


def _refused(node: Node, why: str) -> TraceError:
    return refuse.located(TraceError, f"symbolic: {node.op.name} is no expression of SymPy: {why}", node.loc)


def _named() -> list[tuple[Any, float]]:
    """Constants that people write as floats."""
    from sympy import E, EulerGamma, Rational, log, pi, sqrt

    found = [pi, E, 2 * pi, pi / 2, pi / 4, pi / 180, 180 / pi, 1 / pi, 2 / pi, sqrt(2), sqrt(2) / 2, sqrt(3), sqrt(pi),
             sqrt(2 * pi), 1 / sqrt(2 * pi), 2 / sqrt(pi), sqrt(2 / pi), log(2), log(10), 1 / log(2), 1 / log(10),
             log(pi), log(2 * pi), log(2 * pi) / 2, EulerGamma, 1 / E, Rational(1, 3), Rational(2, 3),
             Rational(1, 6)]  # fmt: skip
    return [(constant, float(constant.evalf(30))) for constant in found]
