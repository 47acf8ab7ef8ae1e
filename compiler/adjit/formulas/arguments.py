"""The arguments of a formula: which symbols each one holds, and what a call gives for each symbol.

An argument is a symbol, a list or tuple of arguments, or a matrix of symbols: an array whose last axes are the
matrix's. What stands for a value is a symbol, too: f(t), its derivative by t, A[i]."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit.trace import is_tracer, lower
from adjit.trace.promote import type_of
from adjit_runtime import checks
from adjit_runtime.errors import ArgumentError, ShapeError


@dataclass(frozen=True, slots=True)
class Argument:
    """`shape` is that of a matrix, `parts` those of a list; a symbol has neither, and `symbols` is itself."""

    name: str
    symbols: tuple[Any, ...]
    shape: tuple[int, ...] | None = None
    parts: tuple[Argument, ...] | None = None

    def operands(self, given: Any) -> Iterator[Any]:
        """What a call gives for each symbol, in order; raises ShapeError and ArgumentError, naming the argument."""
        if self.parts is not None:
            yield from self._of_list(given)
        elif self.shape is not None:
            yield from self._of_matrix(given)
        else:
            yield given

    def _of_list(self, given: Any) -> Iterator[Any]:
        assert self.parts is not None
        shape = (len(given),) if isinstance(given, list | tuple) else np.shape(given)
        if shape[:1] != (len(self.parts),):
            found = checks.shown(given) if not shape else f"{shape[0]} along axis 0"
            raise ShapeError(f"the argument {self.name} has {len(self.parts)} values, not {found}")
        for i, part in enumerate(self.parts):
            yield from part.operands(given[i])

    def _of_matrix(self, given: Any) -> Iterator[Any]:
        assert self.shape is not None
        array = lower.as_tracer(given) if isinstance(given, list | tuple) else given
        shape, rank = np.shape(array), len(self.shape)
        if shape[len(shape) - rank :] != self.shape or len(shape) < rank:
            raise ShapeError(
                f"the argument {self.name} is an array whose last axes are {self.shape}, not one of shape {shape}"
            )
        for index in np.ndindex(*self.shape):
            yield array[(..., *index)]


def parse(args: Any) -> list[Argument]:
    """The arguments that a user gave; raises ArgumentError for what is no symbol, and for one that stands twice."""
    import sympy

    given = [args] if _is_value(args) or isinstance(args, sympy.MatrixSymbol) else _items(args)
    if given is None:
        raise ArgumentError(f"from_sympy: args is a symbol or a list of symbols, not {checks.shown(args)}{_hint(args)}")
    names: list[str] = []
    for item in given:
        names.append(_name(item, names))
    found = [_argument(item, name) for item, name in zip(given, names, strict=True)]
    counts = Counter(symbol for argument in found for symbol in argument.symbols)
    twice = [str(symbol) for symbol, count in counts.items() if count > 1]
    if twice:
        raise ArgumentError(f"from_sympy: args has {', '.join(twice)} twice")
    return found


def type_check(name: str, x: Any) -> None:
    """Raise ArgumentError where what a call gives for a symbol is no array and no number."""
    if not (is_tracer(x) or isinstance(x, bool | int | float | np.ndarray | np.generic)):
        raise ArgumentError(f"the argument {name} is an array or a number, not {checks.kind(x)}")
    type_of(x)


def _hint(args: Any) -> str:
    return ": write sympy.symbols(...)" if isinstance(args, str) else ""


def _items(given: Any) -> Sequence[Any] | None:
    """The elements of a list, a tuple, or SymPy's of either."""
    import sympy

    return list(given) if isinstance(given, list | tuple | sympy.Tuple | sympy.MatrixBase) else None


def _is_value(item: Any) -> bool:
    """Whether something stands for a value in expressions, by itself."""
    import sympy
    from sympy.core.function import AppliedUndef
    from sympy.matrices.expressions.matexpr import MatrixElement

    if isinstance(item, sympy.Derivative):
        return isinstance(item.expr, AppliedUndef)
    return isinstance(item, sympy.Symbol | AppliedUndef | MatrixElement | sympy.Indexed)


def _argument(item: Any, name: str) -> Argument:
    import sympy

    if _is_value(item):
        return Argument(name, (item,))
    if isinstance(item, sympy.MatrixSymbol) and not all(size.is_Integer for size in item.shape):
        raise ArgumentError(f"from_sympy: args has the matrix {item}, whose sizes are no numbers")
    if isinstance(item, sympy.MatrixSymbol | sympy.MatrixBase | sympy.NDimArray):
        shape = tuple(map(int, item.shape))
        symbols = tuple(item[index] for index in np.ndindex(*shape))
        for symbol in symbols:
            if not _is_value(symbol):
                raise _no_symbol(symbol)
        return Argument(name, symbols, shape)
    parts = _items(item)
    if parts is None:
        raise _no_symbol(item)
    inner = tuple(_argument(part, f"{name}[{i}]") for i, part in enumerate(parts))
    return Argument(name, tuple(symbol for part in inner for symbol in part.symbols), None, inner)


def _no_symbol(item: Any) -> ArgumentError:
    return ArgumentError(
        f"from_sympy: args has {checks.shown(item)}, where a symbol stands, or a list or matrix of symbols{_hint(item)}"
    )


def _name(item: Any, taken: Sequence[str]) -> str:
    """A name for a parameter of Python: the symbol's, where it can be one."""
    text = re.sub(r"\W+", "_", str(item)).strip("_") if _is_name(item) else ""
    name = text if text.isidentifier() else f"arg{len(taken)}"
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def _is_name(item: Any) -> bool:
    return _is_value(item) or getattr(item, "is_MatrixExpr", False)
