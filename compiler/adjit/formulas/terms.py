"""SymPy expressions as a list of terms: each after those that it is made of, equal ones once.

A loop with its own stack, in which expressions are known by identity and terms by head and operands: SymPy's own
equality and hashes go down by recursion. What has no meaning here is collected, and told all at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from adjit_runtime.errors import ArgumentError, WeakOverflowError

NUMBER, TRUTH, LEAF = "number", "truth", "leaf"
"""Heads of terms that have no operands. Their values: a float, or a Fraction where it is 1 / n; a bool; the number of a
symbol."""

_EXACT_DIGITS = 60
"""Of constants such as pi, before they are rounded once."""

_TRUTHS = {"BooleanTrue": True, "BooleanFalse": False}

_HINTS = {
    "Derivative": "call .doit(), or give it as an argument",
    "Integral": "call .doit()",
    "Limit": "call .doit()",
    "Product": "call .doit()",
    "Subs": "call .doit()",
    "Sum": "call .doit()",
    "ImaginaryUnit": "adjit computes with real numbers: give the real and the imaginary part",
    "ComplexInfinity": "a pole",
}


class Term(NamedTuple):
    """A head, by the name of its class, and the numbers of the terms that it is applied to; a leaf has a value."""

    head: str
    args: tuple[int, ...] = ()
    value: float | Fraction | int | bool | None = None


@dataclass(slots=True)
class Terms:
    """The terms of some expressions; `roots` has the number of each expression's."""

    leaves: Mapping[Any, int]
    known: Collection[str]
    items: list[Term] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    _numbers: dict[Term, int] = field(default_factory=dict)
    _done: dict[int, int] = field(default_factory=dict)
    _foreign: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)

    @staticmethod
    def of(expressions: Sequence[Any], leaves: Mapping[Any, int], known: Collection[str]) -> Terms:
        """The terms of expressions over `leaves`, symbols with their numbers, and functions whose names are `known`.

        Raises ArgumentError for symbols that are no leaves, and for what is not known; all of them at once."""
        terms = Terms(leaves, known)
        for expression in expressions:
            terms.roots.append(terms._through(expression))
        terms._check()
        return terms

    def _through(self, root: Any) -> int:
        classes = {type(leaf) for leaf in self.leaves}
        waiting: list[tuple[Any, tuple[Any, ...] | None]] = [(root, None)]
        done = self._done
        while waiting:
            expression, operands = waiting.pop()
            if id(expression) in done:
                continue
            if operands is None:
                leaf = self._leaf(expression, classes)
                if leaf is not None:
                    done[id(expression)] = self._number(leaf)
                    continue
                operands = _operands(expression)
                waiting.append((expression, operands))
                waiting.extend((operand, None) for operand in reversed(operands) if id(operand) not in done)
                continue
            done[id(expression)] = self._number(
                Term(type(expression).__name__, tuple(done[id(operand)] for operand in operands))
            )
        return done[id(root)]

    def _number(self, term: Term) -> int:
        found = self._numbers.setdefault(term, len(self.items))
        if found == len(self.items):
            self.items.append(term)
        return found

    def _leaf(self, expression: Any, classes: set[type]) -> Term | None:
        """The term of what has no operands: symbols, numbers, truths, and what is unknown; None for all else."""
        if type(expression) in classes and expression in self.leaves:
            return Term(LEAF, (), self.leaves[expression])
        if expression.is_Symbol or _is_name(expression):
            self._names.add(str(expression))
            return Term(LEAF, (), -1)
        if expression.is_Number or expression.is_NumberSymbol:
            unit = expression.is_Rational and abs(expression.p) == 1 and expression.q > 1
            return Term(NUMBER, (), Fraction(int(expression.p), int(expression.q)) if unit else number(expression))
        if type(expression).__name__ in _TRUTHS:
            return Term(TRUTH, (), _TRUTHS[type(expression).__name__])
        name = type(expression).__name__
        if name not in self.known or not type(expression).__module__.startswith("sympy."):
            self._foreign.add(name)
            return Term(LEAF, (), -1)
        return None

    def _check(self) -> None:
        problems = []
        if self._names:
            names, given = sorted(self._names), ", ".join(map(str, self.leaves)) or "none"
            verb = "is" if len(names) == 1 else "are"
            problems.append(f"{', '.join(names)} {verb} in the expressions and not among args ({given})")
        if self._foreign:
            found = ", ".join(f"{name}{_hint(name)}" for name in sorted(self._foreign))
            known = ", ".join(sorted(self.known))
            problems.append(f"expressions have {found}, for which no meaning is known; known are {known}")
        if problems:
            raise ArgumentError(f"from_sympy: {'; '.join(problems)}")


def _hint(name: str) -> str:
    return f" ({_HINTS[name]})" if name in _HINTS else ""


def _is_name(expression: Any) -> bool:
    """Whether it stands for a value as a symbol does: f(t), A[i]."""
    from sympy.core.function import AppliedUndef
    from sympy.matrices.expressions.matexpr import MatrixElement
    from sympy.tensor.indexed import Indexed

    return isinstance(expression, AppliedUndef | MatrixElement | Indexed)


def _operands(expression: Any) -> tuple[Any, ...]:
    """What an expression is made of; of a Piecewise values and conditions in turn."""
    if type(expression).__name__ == "Piecewise":
        return tuple(part for pair in expression.args for part in pair.args)
    operands: tuple[Any, ...] = expression.args
    return operands


def number(expression: Any) -> float:
    """A number of SymPy rounded to the nearest float64; WeakOverflowError where it is beyond them."""
    if expression.is_Rational:
        exact = Fraction(int(expression.p), int(expression.q))
    elif expression.is_NumberSymbol:
        return number(expression.evalf(_EXACT_DIGITS))
    elif expression.is_finite:
        sign, mantissa, exponent, _ = expression._mpf_
        exact = Fraction(-int(mantissa) if sign else int(mantissa)) * Fraction(2) ** int(exponent)
    else:
        # Infinities and NaN.
        return float(expression)
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        digits = math.floor((abs(exact) // 1).bit_length() * math.log10(2)) + 1
        raise WeakOverflowError(
            f"from_sympy: expressions have a number of about {digits} digits, which does not fit float64"
        ) from None
