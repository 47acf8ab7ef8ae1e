"""Formulas of SymPy as functions (`from_sympy`), and functions as formulas of SymPy (`symbolic`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optree

from adjit.autodiff.reverse import gradient
from adjit.driver import options_of, statics_of
from adjit.formulas import Expressions, Formula, length_of, symbols_of
from adjit.functions import JitFunction, name_of
from adjit.ir.types import F64, Array, is_float
from adjit.trace import Traced, trace_flat
from adjit.trace.frozen import watched
from adjit.trace.returned import returned
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError
from adjit_runtime.public import public

_MOST_SHOWN = 5_000
"""Terms of an expression that are shown."""


class FormulaFunction(JitFunction):
    """A formula as a compiled function."""

    kind = "from_sympy"

    def __init__(self, formula: Formula, name: str, text: str) -> None:
        self.formula = formula
        self.text = text
        super().__init__(
            _plain(formula, name, text), options_of(self.kind, "auto", False), *statics_of(self.kind, (), ())
        )

    def __repr__(self) -> str:
        return f"<formula {self.__name__}{self.__signature__}: {self.text}>"


def _plain(formula: Formula, name: str, text: str) -> Any:
    """The function of Python that computes a formula in a trace."""
    signature = inspect.Signature(formula.parameters)

    def compute(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{name}: {error}; it is {name}{signature}") from None
        return formula.call(list(bound.arguments.values()))

    compute.__name__ = compute.__qualname__ = name
    compute.__doc__ = f"{name}{signature} computes {text}."
    compute.__signature__ = signature  # type: ignore[attr-defined]
    return compute


_KNOWN = {
    "expr": "expressions",
    "exprs": "expressions",
    "symbols": "args",
    "modules": "adjit compiles the formula: leave it out",
    "backend": "adjit compiles the formula: leave it out",
    "cse": "common subexpressions are computed once: leave it out",
    "derivatives": "wrt",
}
"""Arguments that other libraries have."""


@public(_KNOWN)
def from_sympy(args: Any, expressions: Any, wrt: Any = None, *, name: str = "formula") -> Any:
    """A function that computes expressions of SymPy: compiled when it is called, a part of traced functions inside.

    `args` is a symbol, or a list with an entry for each argument: a symbol, a list of symbols (given as a list, or as
    an array along axis 0), a Matrix of symbols or a MatrixSymbol (an array whose last axes are the matrix's). Functions
    of time, as f(t) and its derivatives, and elements A[i] stand for values as symbols do. `expressions` is a SymPy
    expression, relation or matrix, or a list, tuple or dict of these, in which the results come. Arguments broadcast as
    in NumPy, and each result has their common shape, a matrix with its axes after it. Results are float32 where all
    arrays are, else float64; truths are bool.

    With `wrt`, a symbol, the result is (values, derivatives), whose trees are the same; for a list of symbols the
    derivatives are a tuple of such. They are taken on the graph, in forward or reverse mode, not on the
    formula.

    Equal parts of expressions are computed once. Whole powers up to 16 are products, square roots roots; a Piecewise
    chooses, and its derivatives are those of the chosen side. Functions are those of real numbers, NaN where SymPy's
    value is complex. Raises ArgumentError for names that are not among `args`, and for what has no meaning here
    (Integral, I), all of them at once, and WeakOverflowError for numbers beyond float64; a call raises what calls of
    `jit` raise.

    >>> import sympy, adjit
    >>> x, y = sympy.symbols("x y")
    >>> f = adjit.from_sympy([x, y], x * sympy.exp(y), wrt=[x, y])
    >>> f
    <formula formula(x, y): x*exp(y)>
    >>> value, (by_x, by_y) = f(2.0, 0.0)
    >>> float(value), float(by_x), float(by_y)
    (2.0, 1.0, 2.0)
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ArgumentError(f"from_sympy: name is that of a function, not {checks.shown(name)}")
    formula = Formula(args, expressions, wrt)
    return FormulaFunction(formula, name, formula.describe(expressions))


@dataclass(frozen=True)
class Symbolic:
    """A function in SymPy's words: its `value`, an expression or a tree of them, and its `gradient`, which has in place
    of each expression a tuple of its derivatives by `symbols`. `value, gradient = ...` takes it apart.

    Notebooks show it in LaTeX, other places as text."""

    name: str
    symbols: tuple[Any, ...]
    value: Any
    gradient: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.gradient))

    def __repr__(self) -> str:
        lines = []
        for name, by, expression in self._lines():
            left = f"d{name}/d{by}" if by is not None else f"{name}({', '.join(map(str, self.symbols))})"
            lines.append(f"{left} = {expression}")
        return "\n".join(lines)

    def _repr_latex_(self) -> str:
        from sympy import Derivative, Function, latex

        rows = []
        for name, by, expression in self._lines():
            function = Function(name)(*self.symbols)
            left = function if by is None else Derivative(function, by)
            right = rf"\text{{{expression}}}" if isinstance(expression, str) else latex(expression)
            rows.append(f"{latex(left)} &= {right}")
        return r"$\displaystyle \begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}$"

    def _lines(self) -> Iterator[tuple[str, Any, Any]]:
        """For each equation a name, the symbol by which it is differentiated, or None, and what is shown of it."""
        values, gradients = optree.tree_leaves(self.value), iter(optree.tree_leaves(self.gradient))
        for i, value in enumerate(values):
            name = self.name if len(values) == 1 else f"{self.name}_{i}"
            yield name, None, _shown(value)
            for symbol in self.symbols:
                yield name, symbol, _shown(next(gradients))


def _shown(expression: Any) -> Any:
    """An expression, or how long it is: what is used twice is written twice, and so on."""
    length = length_of(expression)
    return expression if length <= _MOST_SHOWN else f"({min(length, 10**300):.3g} terms)"


@public({"fun": "f", "func": "f", "fn": "f", "function": "f"})
def symbolic(f: Callable[..., Any], *names: Any) -> Symbolic:
    """A function of scalars, and its gradient, as expressions of SymPy.

    `names` has a text or a symbol of SymPy for each argument, and is those of f's parameters where it is left out; a
    text becomes a real symbol. f is traced as for `jit`, with Python's floats for arguments, and gives a scalar or a
    pytree of scalars. The gradient is that which adjit computes, by reverse mode on the graph; loops are unrolled.
    The result has `value` and `gradient`.

    Raises ArgumentError for names that do not fit f, ShapeError where it gives arrays, TraceError, with the user's line
    for what no expression stands for, as random numbers and loops whose turns depend on values, and what `jit` raises.

    >>> import numpy as np, adjit
    >>> value, gradient = adjit.symbolic(lambda x, y: x**2 * np.sin(y), "x", "y")
    >>> value
    x**2*sin(y)
    >>> gradient
    (2*x*sin(y), x**2*cos(y))
    """
    checks.function("symbolic: f", f)
    symbols = symbols_of(_names(f, names))
    traced = watched(f, _traced, f, symbols)
    graph = traced.graph
    for node in graph.outputs:
        if node.shape:
            raise returned(
                ShapeError,
                f,
                f"symbolic: {name_of(f)} returns {node.type}; return the elements that are wanted, as scalars",
            )
    expressions = Expressions()
    values = expressions.of(graph, symbols)
    everywhere = range(len(symbols))
    gradients = [
        tuple(expressions.of(gradient(graph, everywhere, i), symbols)[len(values) :])
        if is_float(node.dtype)
        else expressions.zeros(len(symbols))
        for i, node in enumerate(graph.outputs)
    ]
    tree = traced.out_tree
    name = name_of(f)
    return Symbolic(
        name if name.isidentifier() else "f",
        tuple(symbols),
        optree.tree_unflatten(tree, values),
        optree.tree_unflatten(tree, gradients),
    )


def _traced(f: Callable[..., Any], symbols: Sequence[Any]) -> Traced:
    names = [str(symbol) for symbol in symbols]
    types = [Array(F64, (), True)] * len(names)
    return trace_flat("symbolic", lambda leaves: f(*leaves), types, names)


def _names(f: Callable[..., Any], names: Sequence[Any]) -> Sequence[Any]:
    """A name for each argument of a call."""
    import sympy

    for name in names:
        if not isinstance(name, str | sympy.Symbol):
            raise ArgumentError(f"symbolic: names are texts or symbols of SymPy, not {checks.shown(name)}")
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return names
    if not names:
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in signature.parameters.values() if p.kind in positional and p.default is p.empty]
    try:
        signature.bind(*names)
    except TypeError as error:
        raise ArgumentError(
            f"symbolic: {name_of(f)}{signature} cannot be called with {len(names)} scalars: {error}"
        ) from None
    return names
