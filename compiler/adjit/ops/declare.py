"""The kinds of ops, and what an op of each kind declares.

The kind decides the type rule's shape, the emitter and how an op fuses; the declaration gives the rest in one
place: NumPy meaning, derivative, lowering, symbolic meaning and the domain that tests sample.

Derivative rules (`vjp`) are called as `vjp(b, g, y, *operands, **attrs)`: `b` builder, `g` cotangent of the
result, `y` result, then the operands, all `Value`s. They return one contribution for each operand, or None
where no derivative flows (integers, conditions). A rule never looks at guards: the engine does.

Forward mode needs no rules: what is linear in an operand says so (`linear`), and that of an elementwise op is a product
with the derivative, which the reverse rule makes, too. An op that is neither has a rule `jvp(b, tangents, y, *operands,
**attrs)`: `tangents` are those of the operands, None where there is none; it returns that of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from adjit.ir.axes import AxesRule, reduced, same
from adjit.ir.node import Node
from adjit.ir.op import Attrs, Op, Rule, register
from adjit.ir.types import BOOL, Array, dtype_name
from adjit_runtime.errors import DTypeError, ShapeError

Domain = tuple[float, float]
Groups = tuple[tuple[int, ...], ...]
"""Numbers of operands, in groups."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Differentiable(Op):
    """An op that has a derivative, or says in `exempt` why it has none.

    `singular` says that the rule may make anything but zero of a cotangent of zero, at some value that a `select` may
    discard: only there guards are carried. `regular(node)`, where it is given, says of which nodes this is not so.

    `linear` has groups of operands, or gives them for a node: in those of one group together it is linear, the others
    held. Where attributes make it affine, `homogeneous(attrs)` are those of its linear part."""

    vjp: Rule | None = None
    jvp: Rule | None = None
    linear: Groups | Callable[[Node], Groups] = ()
    homogeneous: Callable[[Attrs], Attrs] | None = None
    singular: bool = False
    regular: Callable[[Node], bool] | None = None
    exempt: str = ""

    def linear_in(self, node: Node) -> Groups:
        """The groups of operands of a node in which it is linear."""
        return self.linear(node) if callable(self.linear) else self.linear


def _in_all(node: Node) -> Groups:
    return (tuple(range(len(node.args))),)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Elementwise(Differentiable):
    """The same scalar function of every element; operands and result have one shape.

    `scalar(k, *lanes)` is the lowering over the scalar protocol (with `k, x, dtype=` for cast).
    `symbolic(*symbols)` gives the SymPy meaning, or is None where there is none (bit operations).
    `domain` is where tests sample operands; `cost` counts rough instructions per element, for fusion.
    """

    axes: AxesRule | None = same
    scalar: Rule
    symbolic: Rule | None = None
    domain: Domain | tuple[Domain, ...] = (-3.0, 3.0)
    cost: int = 1
    accepts: str = "biuf"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Reduction(Differentiable):
    """Combines the elements along `axes` (dropped from the shape); or, with attr `axis`, a running or arg reduction."""

    axes: AxesRule | None = reduced
    identity: Callable[[np.dtype], Any] | None = None
    combine: Rule | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Contraction(Differentiable):
    """Sums of products, by an index expression `ik,kj->ij`; its adjoints are contractions again."""

    linear: Groups | Callable[[Node], Groups] = ((0,), (1,))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Movement(Differentiable):
    """Moves elements and computes nothing; becomes an index map. Its derivative moves conditions, too.

    `resize(attrs, shape)` gives the attributes for a result of another shape, where they depend on it; `lift(attrs, n)`
    those for operands with an axis of n elements ahead of all others, which the result has there, too."""

    linear: Groups | Callable[[Node], Groups] = _in_all
    resize: Callable[[Attrs, tuple[int, ...]], Attrs] | None = None
    lift: Callable[[Attrs, int], Attrs] | None = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Ordered(Movement):
    """Its first operand, not ahead of the second one: what is computed of it comes after that. Nothing is read of the
    second one."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Overlap(Differentiable):
    """Adds up elements that movement handed out several times: the adjoint of windows that overlap.

    Planning has no kernel for it: it becomes movement and sums. `lift` as for `Movement`."""

    linear: Groups | Callable[[Node], Groups] = _in_all
    lift: Callable[[Attrs, int], Attrs]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Indexing(Differentiable):
    """Reads or writes at positions that are computed at run time; one that `adds` adds to what is there."""

    adds: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sorting(Differentiable):
    """Puts the elements along attr `axis` in order, or gives their positions in that order."""

    gives_positions: bool = False


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Factoring(Differentiable):
    """Works on whole matrices, which are the last two axes of its first operand; all operands and the result have the
    axes in front of them. Matrices are square unless it is `rectangular`. Of the operands that are `unread` it has
    derivatives alone. `lowered(b, *operands, **attrs)` is what kernels compute in its place. Where code of ours has a
    matrix in each lane of a vector, that takes `across(rows, columns of right-hand sides)` vector instructions."""

    rectangular: bool = False
    unread: tuple[int, ...] = ()
    lowered: Rule | None = None
    across: Callable[[int, int], int] | None = None


class Binding(NamedTuple):
    """How an operand enters a body, or a result leaves it; `at` is the number of the operand or result.

    "whole"     the same for each turn of the loop
    "part"      operand: the turn's part of it, along its first axis (element `[i]`, or rows where the input has as many
                axes); result: the turns' parts, side by side along the first axis
    "carried"   operand: the value before the first turn, then what the turn before made; result: what the last made
    "combined"  result: what all turns made, combined by a reduction"""

    at: int
    how: str


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Bodied(Differentiable):
    """Runs a graph, its attribute `body`, for each of a number of turns.

    `entering(attrs)` has for each input of the body the operand that it is, `leaving(attrs)` for each output the result
    that it becomes. A value that is carried has the same number among inputs, outputs, operands and results.
    `deciding(attrs)` has the operands that decide how many turns run, one that is carried anew ahead of each turn."""

    entering: Callable[[Attrs], tuple[Binding, ...]]
    leaving: Callable[[Attrs], tuple[Binding, ...]]
    deciding: Callable[[Attrs], tuple[int, ...]] = lambda attrs: ()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Called(Differentiable):
    """Runs a graph, its attribute `body`, once; other graphs, its rules, say what the derivative is."""


class Condition(NamedTuple):
    """What a check asks: that its last operand lies in [low, high). Where it does not, the error, whose text has the
    value between `before` and `after`; without `after` it is `before` alone."""

    error: str
    before: str
    after: str | None
    low: int
    high: int


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Checked(Differentiable):
    """Gives its first operand where the last one is what it should be, and leaves the program where it is not.

    `condition(attrs, dtype of the result)` says what that is; with `counts_back` a negative value counts from the upper
    end of the range. The order of checks among each other is that of the graph."""

    axes: AxesRule | None = same
    condition: Callable[[Attrs, np.dtype], Condition]
    counts_back: bool = False


def condition_of(check: Node) -> Condition:
    """What a check asks."""
    assert isinstance(check.op, Checked)
    return check.op.condition(check.attrs, check.dtype)


def _elementwise_type(name: str, accepts: str, result: str) -> Callable[[tuple[Array, ...], Attrs], Array]:
    def infer(types: tuple[Array, ...], attrs: Attrs) -> Array:
        first = types[0]
        for other in types[1:]:
            if other.shape != first.shape:
                raise ShapeError(f"{name}: shapes differ, {first} and {other}")
            if other.dtype != first.dtype:
                raise DTypeError(f"{name}: dtypes differ, {first} and {other}; cast one with .astype")
        if first.dtype.kind not in accepts:
            raise DTypeError(f"{name}: does not take {dtype_name(first.dtype)}")
        dtype = BOOL if result == "bool" else first.dtype
        return Array(dtype, first.shape, all(t.weak for t in types))

    return infer


def elementwise(
    name: str,
    *,
    numpy: Callable[..., Any],
    scalar: Rule,
    vjp: Rule | None = None,
    linear: Groups = (),
    symbolic: Rule | None = None,
    arity: int = 1,
    accepts: str = "f",
    result: str = "same",
    domain: Domain | tuple[Domain, ...] = (-3.0, 3.0),
    singular: bool = False,
    regular: Callable[[Node], bool] | None = None,
    cost: int = 1,
    exempt: str = "",
) -> Elementwise:
    """Declare an elementwise op. `accepts` lists NumPy dtype kinds; `result` is "same" or "bool"."""

    def evaluate(*arrays: Any, **attrs: Any) -> Any:
        with np.errstate(all="ignore"):
            value = numpy(*arrays, **attrs)
        return np.asarray(value, dtype=np.bool_ if result == "bool" else np.asarray(arrays[0]).dtype)

    return register(
        Elementwise(
            name=name,
            kind="elementwise",
            arity=arity,
            infer=_elementwise_type(name, accepts, result),
            evaluate=evaluate,
            vjp=vjp,
            linear=linear,
            scalar=scalar,
            symbolic=symbolic,
            singular=singular,
            regular=regular,
            domain=domain,
            cost=cost,
            exempt=exempt,
            accepts=accepts,
        )
    )


def sympy_name(name: str) -> Rule:
    """The SymPy function of that name, looked up when it is called (SymPy's import is slow)."""

    def call(*args: Any) -> Any:
        import sympy

        return getattr(sympy, name)(*args)

    return call


def check_axes(name: str, axes: tuple[int, ...], ndim: int) -> None:
    """Axes of an IR op are sorted, distinct and in range; the tracer normalises NumPy's."""
    if list(axes) != sorted(set(axes)) or any(not 0 <= axis < ndim for axis in axes):
        raise ShapeError(f"{name}: axes {axes} do not fit {ndim} dimensions")
