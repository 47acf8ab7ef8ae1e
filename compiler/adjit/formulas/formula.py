"""A formula: expressions of SymPy as a function of traced values, with derivatives where they are wanted.

Its graph is one of scalars, made once for each dtype, which a call spreads over its arguments. All results have the
shape to which the arguments broadcast; of a matrix its axes come last."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optree

from adjit.formulas.arguments import parse, type_check
from adjit.formulas.scalars import KNOWN, graph_of
from adjit.formulas.spread import Spread
from adjit.formulas.terms import Terms
from adjit.ir.graph import Graph
from adjit.ir.node import Node
from adjit.ir.types import BOOL, F64, Array, is_float
from adjit.trace import lower
from adjit.trace.handle import c_strides
from adjit.trace.promote import check_dtype, type_of, widened
from adjit.trace.tracer import fresh
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guests import tree_flatten

_MOST_SHOWN = 100
"""Terms of a formula, and letters of its text, that are shown."""


class Result(NamedTuple):
    """One leaf of what a formula gives: its expressions, in a shape of their own, from number `first` on."""

    first: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many expressions it has."""
        return int(np.prod(self.shape, dtype=int))


class Formula:
    """`call` computes with traced values; `parameters` are those of a function of Python that does."""

    def __init__(self, args: Any, expressions: Any, wrt: Any) -> None:
        self.arguments = parse(args)
        self.symbols = [symbol for argument in self.arguments for symbol in argument.symbols]
        self.results, self.tree, flat = _results(expressions)
        leaves = {symbol: i for i, symbol in enumerate(self.symbols)}
        self.terms = Terms.of(flat, leaves, KNOWN)
        self.wrt, self.several = _targets(wrt, leaves)
        self.with_derivatives = wrt is not None
        self._graphs: dict[np.dtype, Graph] = {}
        # What cannot be built is told where the formula is made.
        self.graph(F64)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """One for each argument."""
        return [inspect.Parameter(a.name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for a in self.arguments]

    def describe(self, expressions: Any) -> str:
        """What it computes, in words of SymPy where that is short."""
        sizes: list[int] = []
        for term in self.terms.items:
            sizes.append(1 + sum(sizes[arg] for arg in term.args))
        # Those of deep expressions are beyond SymPy, and where much is shared they have no end.
        short = sum(sizes[root] for root in self.terms.roots) <= _MOST_SHOWN
        text = " ".join(str(expressions).split()) if short else ""
        return text if 0 < len(text) <= _MOST_SHOWN else f"{len(self.terms.items)} terms"

    def graph(self, dtype: np.dtype) -> Graph:
        """The graph of scalars."""
        if dtype not in self._graphs:
            names = [f"x{i}" for i in range(len(self.symbols))]
            self._graphs[dtype] = graph_of(self.terms, names, self.wrt, dtype)
        return self._graphs[dtype]

    def call(self, given: Sequence[Any]) -> Any:
        """The results for the arguments of a call inside of a trace."""
        operands = self._operands(given)
        types = [type_of(x) for x in operands]
        dtype = _dtype(types)
        widened("a formula", types, dtype)
        shape = lower.broadcast_shapes("a formula", *types) if types else ()
        weak = bool(types) and all(type.weak for type in types)
        nodes = [lower.lift(lower.cast(x, dtype)) for x in operands]
        graph = self.graph(dtype)
        spread = Spread(lower.builder(), graph, nodes)
        count = len(self.terms.roots)
        parts = [graph.outputs[i : i + count] for i in range(0, len(graph.outputs), count)] if count else []
        made = [self._of(spread, part, shape, dtype, weak) for part in parts or [()] * (1 + len(self.wrt))]
        if not self.with_derivatives:
            return made[0]
        return made[0], (tuple(made[1:]) if self.several else made[1])

    def _operands(self, given: Sequence[Any]) -> list[Any]:
        """What is given for each symbol."""
        found: list[Any] = []
        for argument, value in zip(self.arguments, given, strict=True):
            part = list(argument.operands(value))
            for x in part:
                type_check(argument.name, x)
            found += part
        return found

    def _of(self, spread: Spread, nodes: Sequence[Node], shape: tuple[int, ...], dtype: np.dtype, weak: bool) -> Any:
        """The tree of results, of the nodes of all expressions."""
        leaves = []
        for result in self.results:
            part = [spread.at(node, shape) for node in nodes[result.first : result.first + result.size]]
            leaf = _stacked(part, result.shape, shape, dtype) if result.shape else lower.c_ordered(fresh(part[0]))
            weakens = weak and not result.shape and is_float(leaf.type.dtype)
            leaves.append(lower.weak_cast(leaf, F64) if weakens else leaf)
        return optree.tree_unflatten(self.tree, leaves)


def _stacked(parts: Sequence[Node], shape: tuple[int, ...], outer: tuple[int, ...], dtype: np.dtype) -> Any:
    """The elements of a matrix along axes after those of the arguments."""
    if not parts:
        return lower.full(0.0, (*outer, *shape), dtype)
    tracers = [fresh(node, c_strides(outer)) for node in parts]
    if any(node.dtype != BOOL for node in parts):
        tracers = [lower.cast(x, dtype) for x in tracers]
    return np.stack(tracers, axis=-1).reshape((*outer, *shape))


def _dtype(types: Sequence[Array]) -> np.dtype:
    """What a formula computes in: float32 where all that is no Python number is, else float64, as in NumPy."""
    strong = [type.dtype for type in types if not type.weak]
    if not strong:
        return F64
    found = np.result_type(*(dtype if is_float(dtype) else F64 for dtype in strong))
    check_dtype("a formula", found, types)
    return found


def _results(expressions: Any) -> tuple[list[Result], optree.PyTreeSpec, list[Any]]:
    """The leaves of what a user gave, its tree, and all expressions in a row."""
    try:
        leaves, tree = tree_flatten(_plain(expressions))
    except RecursionError:
        raise ArgumentError("from_sympy: expressions are nested too deep, or hold themselves") from None
    results: list[Result] = []
    flat: list[Any] = []
    for leaf in leaves:
        items, shape = _elements(leaf)
        results.append(Result(len(flat), shape))
        flat += items
    return results, tree, flat


def _plain(expressions: Any) -> Any:
    """SymPy's tuple as one of Python."""
    import sympy

    return tuple(expressions) if isinstance(expressions, sympy.Tuple) else expressions


def _elements(leaf: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The expressions of a leaf, and its shape."""
    import sympy

    if isinstance(leaf, sympy.MatrixExpr):
        leaf = _explicit(leaf)
    if isinstance(leaf, sympy.MatrixBase | sympy.NDimArray | np.ndarray):
        shape = tuple(map(int, leaf.shape))
        # (np.ndindex makes an array of that shape.)
        places = np.ndindex(*shape) if math.prod(shape) else ()
        return [_expression(leaf[index]) for index in places], shape
    return [_expression(leaf)], ()


def _explicit(matrix: Any) -> Any:
    try:
        return matrix.as_explicit()
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"from_sympy: {checks.shown(matrix)} has no elements that could be told: {error}") from None


def _expression(leaf: Any) -> Any:
    import sympy

    if isinstance(leaf, np.number | np.bool_) and leaf.dtype.kind in "biuf":
        # (sympify takes a NaN of NumPy for a fraction.)
        leaf = leaf.item()
    if isinstance(leaf, bool | int | float):
        return sympy.sympify(leaf)
    if isinstance(leaf, sympy.Expr | sympy.logic.boolalg.Boolean):
        return leaf
    what = "a text, which sympy.sympify reads" if isinstance(leaf, str) else checks.shown(leaf)
    raise ArgumentError(f"from_sympy: expressions are SymPy's, in lists, tuples, dicts and matrices, not {what}")


def _targets(wrt: Any, leaves: Mapping[Any, int]) -> tuple[list[int], bool]:
    """The numbers of the symbols by which derivatives are wanted, and whether a list of them was given."""
    import sympy

    if wrt is None:
        return [], False
    several = isinstance(wrt, list | tuple | sympy.Tuple | sympy.MatrixBase)
    symbols = list(wrt) if several else [wrt]
    for symbol in symbols:
        if not isinstance(symbol, sympy.Basic) or symbol not in leaves:
            given = ", ".join(map(str, leaves)) or "none"
            raise ArgumentError(f"from_sympy: wrt has {checks.shown(symbol)}, which is none of the arguments ({given})")
    return [leaves[symbol] for symbol in symbols], several
