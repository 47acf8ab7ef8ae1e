"""Small matrices written out, element by element: one vector has an element of as many matrices as it has lanes.

An element is a vector or a number that is known: zeros of a structure cost nothing. What is divided by several times is
divided by once, so a pivot that is a subnormal number has no finite inverse. Every lane does the same: a pivot is
chosen by comparisons, rows are exchanged by selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjit.codegen.llvm import Function, Ty, Value, literal

Element = Value | float
Elements = np.ndarray
"""Of objects: an `Element` for each place of a matrix."""


class Blank(float):
    """A zero of a structure, which counts as one in products; where it is stored it is `value`."""

    value: Value

    @classmethod
    def of(cls, value: Value) -> Blank:
        """One of them."""
        made = cls(0.0)
        made.value = value
        return made


class Arithmetic:
    """Of elements: vectors of type `ty`."""

    def __init__(self, f: Function, ty: Ty) -> None:
        self.f = f
        self.ty = ty
        self._inverses: dict[str, Value] = {}
        self._equal: dict[tuple[str, int], Value] = {}

    def vector(self, x: Any) -> Value:
        """An element as a vector."""
        return x if isinstance(x, Value) else x.value if isinstance(x, Blank) else literal(self.ty, x)

    def sum_of_products(self, start: Element, x: list[Element], y: list[Element], sign: float = 1.0) -> Element:
        """start + sign * (x . y): in order, each rounded once."""
        f, total = self.f, start
        for a, b in zip(x, y, strict=True):
            if (not isinstance(a, Value) and a == 0) or (not isinstance(b, Value) and b == 0):
                continue
            left, right = self.vector(a), self.vector(b)
            if sign < 0:
                left = f.unary("fneg", left)
            is_first = not isinstance(total, Value) and total == 0 and not isinstance(total, Blank)
            total = f.binary("fmul", left, right) if is_first else f.fma(left, right, self.vector(total))
        return total

    def inverse(self, x: Element) -> Value:
        """1 / x, made once."""
        vector = self.vector(x)
        if vector.ref not in self._inverses:
            self._inverses[vector.ref] = self.f.binary("fdiv", literal(self.ty, 1.0), vector)
        return self._inverses[vector.ref]

    def times(self, x: Element, y: Value) -> Element:
        """x * y."""
        is_zero = not isinstance(x, Value) and x == 0
        return x if is_zero else self.f.binary("fmul", self.vector(x), y)

    def is_number(self, x: Value, number: int) -> Value:
        """Where x is a number, asked once."""
        key = (x.ref, number)
        if key not in self._equal:
            self._equal[key] = self.f.compare("oeq", x, literal(self.ty, float(number)))
        return self._equal[key]

    def chosen(self, condition: Value, x: Element, y: Element) -> Element:
        """x where the condition holds, else y."""
        if x is y or (not isinstance(x, Value) and not isinstance(y, Value) and float(x) == float(y)):
            return y
        return self.f.select(condition, self.vector(x), self.vector(y))


def cholesky(k: Arithmetic, x: Elements) -> Elements:
    """Row by row of L; what fails is NaN as a whole."""
    f, n = k.f, len(x)
    y = np.full((n, n), 0.0, object)
    failed: Value | None = None
    for i in range(n):
        for j in range(i):
            rest = k.sum_of_products(x[i, j], list(y[i, :j]), list(y[j, :j]), -1.0)
            y[i, j] = k.times(k.vector(rest), k.inverse(y[j, j]))
        pivot = k.vector(k.sum_of_products(x[i, i], list(y[i, :i]), list(y[i, :i]), -1.0))
        fails = f.compare("ule", pivot, literal(k.ty, 0.0))
        failed = fails if failed is None else f.binary("or", failed, fails)
        y[i, i] = f.intrinsic("sqrt", k.ty, (pivot,))
    assert failed is not None
    nan = literal(k.ty, float("nan"))
    blank = Blank.of(f.select(failed, nan, literal(k.ty, 0.0)))
    for i, j in np.ndindex(n, n):
        y[i, j] = blank if j > i else f.select(failed, nan, k.vector(y[i, j]))
    return y


def cholesky_adjoint(k: Arithmetic, factor: Elements, given: Elements) -> Elements:
    """Backwards through the columns of L, each with what it did to those ahead of it."""
    n = len(factor)
    y = np.full((n, n), 0.0, object)
    below_and_on = np.tril_indices(n)
    y[below_and_on] = given[below_and_on]
    for j in reversed(range(n)):
        inverse, below = k.inverse(factor[j, j]), slice(j + 1, n)
        y[below, j] = [k.times(value, inverse) for value in y[below, j]]
        by_pivot = k.sum_of_products(y[j, j], list(y[below, j]), list(factor[below, j]), -1.0)
        by_pivot = k.times(by_pivot, inverse)
        y[j, j] = k.times(by_pivot, literal(k.ty, 0.5))
        for c in range(j):
            for i in range(j + 1, n):
                y[i, c] = k.sum_of_products(y[i, c], [y[i, j]], [factor[j, c]], -1.0)
            left, right = [*y[below, j], by_pivot], [*factor[below, c], factor[j, c]]
            y[j, c] = k.sum_of_products(y[j, c], left, right, -1.0)
    return y


def lu(k: Arithmetic, x: Elements) -> Elements:
    """Gauss's elimination with partial pivoting, column by column: each has what was done to those ahead of it done, so
    that it stays in registers meanwhile. Rows of L are exchanged at the end, as columns of U do not wait for that."""
    f, n = k.f, len(x)
    pivots: list[Value] = []
    columns: list[list[Any]] = []
    for j in range(n):
        column: list[Any] = [k.vector(value) for value in x[:, j]]
        for step, pivot in enumerate(pivots):
            _exchange(k, column, step, pivot)
            for i in range(step + 1, n):
                column[i] = k.sum_of_products(column[i], [columns[step][i]], [column[step]], -1.0)
        pivots.append(_largest(k, column, j))
        _exchange(k, column, j, pivots[j])
        # All below a pivot of 0 are 0.
        is_zero = f.compare("oeq", column[j], literal(k.ty, 0.0))
        divisor = f.binary("fdiv", literal(k.ty, 1.0), f.select(is_zero, literal(k.ty, 1.0), column[j]))
        columns.append([*column[: j + 1], *(k.times(value, divisor) for value in column[j + 1 :])])
    order: list[Any] = [float(i) for i in range(n)]
    for j, column in enumerate([*columns, order]):
        for step in range(j + 1 if j < n else 0, n):
            _exchange(k, column, step, pivots[step])
    found = np.empty((n, n), object)
    for i, j in np.ndindex(n, n):
        found[i, j] = columns[j][i]
    flat = np.empty(n, object)
    flat[:] = order
    return np.concatenate([found.ravel(), flat])


def _largest(k: Arithmetic, column: list[Any], j: int) -> Value:
    """The number of the first of the largest from row j on."""
    f = k.f
    largest, number = f.intrinsic("fabs", k.ty, (column[j],)), literal(k.ty, float(j))
    for i in range(j + 1, len(column)):
        size = f.intrinsic("fabs", k.ty, (column[i],))
        larger = f.compare("ogt", size, largest)
        largest = f.select(larger, size, largest)
        number = f.select(larger, literal(k.ty, float(i)), number)
    return number


def _exchange(k: Arithmetic, column: list[Any], j: int, pivot: Value) -> None:
    """Row j with that of its pivot."""
    own = column[j]
    for i in range(j + 1, len(column)):
        is_pivot = k.is_number(pivot, i)
        column[j] = k.chosen(is_pivot, column[i], column[j])
        column[i] = k.chosen(is_pivot, own, column[i])


def triangular_solve(k: Arithmetic, a: Elements, b: Elements, *, lower: bool, transposed: bool, unit: bool) -> Elements:
    """By substitution, one right-hand side after the other; a triangle that is transposed is the other one."""
    a, x, n = (a.T if transposed else a), b.copy(), len(a)
    forward = lower != transposed
    for c in range(x.shape[1]):
        for i in range(n) if forward else range(n - 1, -1, -1):
            known = slice(0, i) if forward else slice(i + 1, n)
            rest = k.sum_of_products(x[i, c], list(a[i, known]), list(x[known, c]), -1.0)
            x[i, c] = rest if unit else k.times(rest, k.inverse(a[i, i]))
    return x


def solve(k: Arithmetic, a: Elements, factors: Elements, b: Elements, *, transposed: bool) -> Elements:
    """By both factors, rows put in order ahead of them, or after."""
    n, m = b.shape
    f, order = factors[: n * n].reshape(n, n), [k.vector(number) for number in factors[n * n :]]
    lower: dict[str, Any] = {"lower": True, "transposed": transposed, "unit": True}
    upper: dict[str, Any] = {"lower": False, "transposed": transposed, "unit": False}
    if transposed:
        y = triangular_solve(k, f, triangular_solve(k, f, b, **upper), **lower)
        return _chosen_of(k, n, m, lambda i, j: k.is_number(order[j], i), y)
    moved = _chosen_of(k, n, m, lambda i, j: k.is_number(order[i], j), b)
    return triangular_solve(k, f, triangular_solve(k, f, moved, **lower), **upper)


def _chosen_of(k: Arithmetic, n: int, m: int, is_row: Callable[[int, int], Value], x: Elements) -> Elements:
    """At row i that row j for which `is_row(i, j)`."""
    found = np.empty((n, m), object)
    for i, c in np.ndindex(n, m):
        value = x[0, c]
        for j in range(1, n):
            value = k.chosen(is_row(i, j), x[j, c], value)
        found[i, c] = value
    return found


WRITTEN_OUT: dict[str, Callable[..., Elements]] = {
    "cholesky": cholesky,
    "cholesky_adjoint": cholesky_adjoint,
    "lu": lu,
    "triangular_solve": triangular_solve,
    "solve": solve,
}
"""What each op makes of the elements of its operands."""
