"""Factorisations of matrices, and solutions of equations by means of them.

    %1 = cholesky %0 : f64[8,3,3]         the lower factor of each of 8 matrices, of whose lower triangle it reads
    %6 = cholesky_adjoint %1, %5 : f64[8,3,3]    the derivative by the lower triangle of %0, of one by %1
    %2 = lu %0 : f64[8,12]                L below the diagonal, U on and above it, then which row each row of L U was
    %3 = triangular_solve %1, %4 lower=true transposed=false unit=false : f64[8,3,2]
    %5 = solve %0, %2, %4 transposed=false : f64[8,3,2]      by the factors %2 of %0

Matrices are the last two axes of an operand; each place of those in front has one. A result with several parts has them
one after the other, flat, in C order (`parts`). Where there is no factor, all of it is NaN: who asks for one checks
that. NaN goes where LAPACK lets it go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import I64, Array
from adjit.ops.declare import Factoring
from adjit.ops.matrices import each, matrices, parts, product, square, symmetric, triangle, turned
from adjit_runtime.errors import ShapeError

# -- types -------------------------------------------------------------------------------------------------------------


def _cholesky_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    square("cholesky", types[0])
    return types[0].strong


def _adjoint_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    return _beside("cholesky_adjoint", *types)


def _lu_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = square("lu", types[0])
    return types[0].strong.with_shape((*lead, n * n + n))


def _beside(name: str, a: Array, b: Array) -> Array:
    """The type of what solves equations with right-hand sides `b`."""
    lead, n = square(name, a)
    other, m, _ = matrices(name, b)
    if (lead, n) != (other, m) or a.dtype != b.dtype:
        raise ShapeError(f"{name}: {a} and {b} do not fit")
    return b.strong


def _triangular_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    return _beside("triangular_solve", *types)


def _solve_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    a, factors, b = types
    if factors.shape != _lu_type((a,), {}).shape or factors.dtype != a.dtype:
        raise ShapeError(f"solve: {factors} are no factors of {a}")
    return _beside("solve", a, b)


def _det_type(name: str, types: tuple[Array, ...]) -> Array:
    a, factors = types
    lead, _ = square(name, a)
    if factors.shape != _lu_type((a,), {}).shape or factors.dtype != a.dtype:
        raise ShapeError(f"{name}: {factors} are no factors of {a}")
    return a.strong.with_shape(lead)


# -- NumPy's meaning ---------------------------------------------------------------------------------------------------


def _cholesky_of(x: np.ndarray) -> Any:
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        return np.nan


def _lu_of(x: np.ndarray) -> np.ndarray:
    """Gauss's elimination with partial pivoting: the first of the largest is the pivot."""
    a, order = x.copy(), np.arange(len(x))
    for k in range(len(x)):
        size = np.abs(a[k:, k])
        pivot = k + int(np.argmax(size))
        a[[k, pivot]], order[[k, pivot]] = a[[pivot, k]], order[[pivot, k]]
        if a[k, k] != 0:
            a[k + 1 :, k] /= a[k, k]
            a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])
    return np.concatenate([a.ravel(), order.astype(x.dtype)])


def _triangular_of(a: np.ndarray, b: np.ndarray, lower: bool, transposed: bool, unit: bool) -> np.ndarray:
    a, x, n = (a.T if transposed else a), b.copy(), len(a)
    for i in range(n) if lower != transposed else range(n - 1, -1, -1):
        known = slice(0, i) if lower != transposed else slice(i + 1, n)
        x[i] -= a[i, known] @ x[known]
        if not unit:
            x[i] /= a[i, i]
    return x


def _solve_of(a: np.ndarray, factors: np.ndarray, b: np.ndarray, transposed: bool) -> np.ndarray:
    n = len(b)
    f, order = factors[: n * n].reshape(n, n), factors[n * n :].astype(np.int64)
    if not transposed:
        return _triangular_of(f, _triangular_of(f, b[order], True, False, True), False, False, False)
    x = np.empty_like(b)
    x[order] = _triangular_of(f, _triangular_of(f, b, False, True, False), True, True, True)
    return x


def _evaluate_cholesky(x: np.ndarray) -> np.ndarray:
    return each(_cholesky_of, x.shape[-2:], x)


def _adjoint_of(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    inner = np.tril(y.T @ np.tril(g))
    x = inner + np.tril(inner, -1).T
    for _ in range(2):
        x = _triangular_of(y, x.T, True, True, False)
    return np.asarray(np.tril(x) - 0.5 * np.diag(np.diag(x)))


def _evaluate_adjoint(y: np.ndarray, g: np.ndarray) -> np.ndarray:
    return each(_adjoint_of, y.shape[-2:], y, g)


def _evaluate_lu(x: np.ndarray) -> np.ndarray:
    return each(_lu_of, (x.shape[-1] * (x.shape[-1] + 1),), x)


def _evaluate_triangular(a: np.ndarray, b: np.ndarray, *, lower: bool, transposed: bool, unit: bool) -> np.ndarray:
    return each(lambda a, b: _triangular_of(a, b, lower, transposed, unit), b.shape[-2:], a, b)


def _evaluate_solve(a: np.ndarray, factors: np.ndarray, b: np.ndarray, *, transposed: bool) -> np.ndarray:
    flat = factors[..., None, :]
    return each(lambda a, f, b: _solve_of(a, f[0], b, transposed), b.shape[-2:], a, flat, b)


def _diagonal_of(factors: np.ndarray) -> tuple[int, np.ndarray]:
    n = _order_of(factors.shape[-1])
    return n, factors[..., : n * n : n + 1]


def _order_of(size: int) -> int:
    """n of n * n + n."""
    return math.isqrt(size)


def _evaluate_log_det(a: np.ndarray, factors: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(np.log(np.abs(_diagonal_of(factors)[1])), axis=-1), dtype=a.dtype)


def _evaluate_det(a: np.ndarray, factors: np.ndarray) -> np.ndarray:
    n, diagonal = _diagonal_of(factors)
    order = factors[..., n * n :]
    crossed = np.sum(np.triu(order[..., :, None] > order[..., None, :]), axis=(-2, -1))
    with np.errstate(all="ignore"):
        return np.asarray(np.prod(diagonal, axis=-1) * (1 - 2 * (crossed % 2)), dtype=a.dtype)


# -- derivatives -------------------------------------------------------------------------------------------------------


def _between(b: Builder, factor: Value, x: Value) -> Value:
    """L^-1 X L^-T."""
    for _ in range(2):
        x = turned(b, b.triangular_solve(factor, x, lower=True, transposed=False, unit=False))
    return x


def _cholesky_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    return (b.cholesky_adjoint(y, g),)


def _cholesky_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    (dx,) = tangents
    inner = _between(b, y, symmetric(b, dx))
    return product(b, y, triangle(b, inner, lower=True, diagonal=0.5))


def _adjoint_vjp(b: Builder, g: Value, y: Value, factor: Value, given: Value) -> tuple[Value, Value]:
    # y is the lower half of S = L^-T M L^-1, and M is symmetric with the lower triangle of P = L^T G.
    given, s = triangle(b, given, lower=True), y + turned(b, y)
    q = _between(b, factor, symmetric(b, g))
    by_p = triangle(b, q, lower=True, diagonal=0.5)
    by_factor = product(b, given, turned(b, by_p)) - product(b, s, product(b, factor, q))
    return triangle(b, by_factor, lower=True), triangle(b, product(b, factor, by_p), lower=True)


def _adjoint_jvp(b: Builder, tangents: Sequence[Value | None], y: Value, factor: Value, given: Value) -> Value:
    (change, _), s = tangents, y + turned(b, y)
    assert change is not None
    change = triangle(b, change, lower=True)
    moved = product(b, turned(b, change), product(b, s, factor))
    inner = symmetric(b, product(b, turned(b, change), triangle(b, given, lower=True))) - moved - turned(b, moved)
    for _ in range(2):
        inner = b.triangular_solve(factor, turned(b, inner), lower=True, transposed=True, unit=False)
    return triangle(b, inner, lower=True, diagonal=0.5)


def _triangular_vjp(b: Builder, g: Value, y: Value, a: Value, c: Value, **how: bool) -> tuple[Value, Value]:
    by_c = b.triangular_solve(a, g, **{**how, "transposed": not how["transposed"]})
    pair = (y, by_c) if how["transposed"] else (by_c, y)
    by_a = -product(b, pair[0], turned(b, pair[1]))
    return triangle(b, by_a, lower=how["lower"], diagonal=0.0 if how["unit"] else 1.0), by_c


def _triangular_jvp(b: Builder, tangents: Sequence[Value | None], y: Value, a: Value, c: Value, **how: bool) -> Value:
    da = tangents[0]
    assert da is not None
    change = triangle(b, da, lower=how["lower"], diagonal=0.0 if how["unit"] else 1.0)
    found: Value = -b.triangular_solve(a, product(b, turned(b, change) if how["transposed"] else change, y), **how)
    return found


def _factors(b: Builder, y: Value, n: int) -> tuple[Value, Value]:
    """L and U in one matrix, and which row each row was."""
    f, order = parts(b, y, ((n, n), (n,)))
    return f, b.cast(order, dtype=I64)


def _with_ones(b: Builder, f: Value) -> Value:
    """L of the factors."""
    rank = len(f.shape)
    row, column = (b.iota(shape=f.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    found: Value = b.select(row > column, f, b.cast(row.eq(column), dtype=f.dtype))
    return found


def _lu_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    n, lead = x.shape[-1], len(x.shape) - 2
    f, order = _factors(b, y, n)
    by_f = parts(b, g, ((n, n), (n,)))[0]
    by_l = product(b, turned(b, _with_ones(b, f)), triangle(b, by_f, lower=True, diagonal=0.0))
    by_u = product(b, triangle(b, by_f, lower=False), turned(b, triangle(b, f, lower=False)))
    inner = triangle(b, by_l, lower=True, diagonal=0.0) + triangle(b, by_u, lower=False)
    inner = b.triangular_solve(f, inner, lower=True, transposed=True, unit=True)
    inner = turned(b, b.triangular_solve(f, turned(b, inner), lower=False, transposed=False, unit=False))
    return (b.scatter_add(b.full(0.0, x), order, inner, axis=lead, batch=lead),)


def _lu_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    (dx,) = tangents
    n, lead = x.shape[-1], len(x.shape) - 2
    f, order = _factors(b, y, n)
    inner = b.take(dx, order, axis=lead, batch=lead)
    inner = b.triangular_solve(f, inner, lower=True, transposed=False, unit=True)
    inner = turned(b, b.triangular_solve(f, turned(b, inner), lower=False, transposed=True, unit=False))
    dl = product(b, _with_ones(b, f), triangle(b, inner, lower=True, diagonal=0.0))
    du = product(b, triangle(b, inner, lower=False), triangle(b, f, lower=False))
    df = triangle(b, dl, lower=True, diagonal=0.0) + triangle(b, du, lower=False)
    lead_shape = x.shape[:-2]
    flat = b.reshape(df, shape=(*lead_shape, n * n))
    rest = b.value(b.splat(0.0, Array(x.dtype, (*lead_shape, n))))
    found: Value = b.concatenate(flat, rest, axis=lead)
    return found


def _solve_vjp(
    b: Builder, g: Value, y: Value, a: Value, f: Value, c: Value, transposed: bool
) -> tuple[Value, None, Value]:
    by_c = b.solve(a, f, g, transposed=not transposed)
    pair = (y, by_c) if transposed else (by_c, y)
    return -product(b, pair[0], turned(b, pair[1])), None, by_c


def _solve_jvp(
    b: Builder, tangents: Sequence[Value | None], y: Value, a: Value, f: Value, c: Value, transposed: bool
) -> Value:
    da = tangents[0]
    if da is None:
        found: Value = b.full(0.0, y)
        return found
    found = -b.solve(a, f, product(b, turned(b, da) if transposed else da, y), transposed=transposed)
    return found


def _inverse(b: Builder, a: Value, f: Value, transposed: bool) -> Value:
    rank = len(a.shape)
    row, column = (b.iota(shape=a.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    found: Value = b.solve(a, f, b.cast(row.eq(column), dtype=a.dtype), transposed=transposed)
    return found


def _spread(b: Builder, x: Value, like: Value) -> Value:
    """A number for each matrix, in all of its elements."""
    found: Value = b.broadcast(x, shape=like.shape, axes=tuple(range(len(x.shape))))
    return found


def _trace(b: Builder, x: Value) -> Value:
    rank = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    found: Value = b.sum(b.select(row.eq(column), x, 0.0), axes=(rank - 2, rank - 1))
    return found


def _log_det_vjp(b: Builder, g: Value, y: Value, a: Value, f: Value) -> tuple[Value, None]:
    return _spread(b, g, a) * _inverse(b, a, f, True), None


def _log_det_jvp(b: Builder, tangents: Sequence[Value | None], y: Value, a: Value, f: Value) -> Value:
    da = tangents[0]
    found: Value = b.full(0.0, y) if da is None else _trace(b, b.solve(a, f, da, transposed=False))
    return found


def _det_vjp(b: Builder, g: Value, y: Value, a: Value, f: Value) -> tuple[Value, None]:
    return _spread(b, g * y, a) * _inverse(b, a, f, True), None


def _det_jvp(b: Builder, tangents: Sequence[Value | None], y: Value, a: Value, f: Value) -> Value:
    return y * _log_det_jvp(b, tangents, y, a, f)


# -- what kernels compute in place of some -----------------------------------------------------------------------------


def diagonal(b: Builder, f: Value, n: int) -> Value:
    """The diagonal of U."""
    lead = f.shape[:-1]
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    last = (n - 1) * (n + 1)
    found: Value = b.slice(f, start=(*zeros, 0), stop=(*lead, last + 1), step=(*ones, n + 1))
    return found


def _log_det_lowered(b: Builder, a: Value, f: Value) -> Value:
    found: Value = b.sum(b.log(b.abs(diagonal(b, f, a.shape[-1]))), axes=(len(a.shape) - 2,))
    return found


def parity(b: Builder, f: Value, n: int) -> Value:
    """The sign of the order of rows: 1 or -1 in the dtype of the factors."""
    lead = len(f.shape) - 1
    order = parts(b, f, ((n, n), (n,)))[1]
    shape = (*f.shape[:-1], n, n)
    before, after = (b.broadcast(order, shape=shape, axes=(*range(lead), axis)) for axis in (lead, lead + 1))
    row, column = (b.iota(shape=shape, axis=axis, dtype=I64) for axis in (lead, lead + 1))
    # Exchanges of two rows, of which each changes the sign, are as many as pairs that stand the wrong way round, or an
    # even number more or less.
    crossed = b.sum(b.cast((row < column) & (before > after), dtype=I64), axes=(lead, lead + 1))
    found: Value = b.cast(1 - 2 * (crossed & 1), dtype=f.dtype)
    return found


def _det_lowered(b: Builder, a: Value, f: Value) -> Value:
    n = a.shape[-1]
    found: Value = parity(b, f, n) * b.prod(diagonal(b, f, n), axes=(len(a.shape) - 2,))
    return found


_HOW = {"lower": "bool", "transposed": "bool", "unit": "bool"}

cholesky = register(
    Factoring(
        name="cholesky", kind="factoring", arity=1, infer=_cholesky_type, evaluate=_evaluate_cholesky,
        vjp=_cholesky_vjp, jvp=_cholesky_jvp, singular=True, across=lambda n, m: n**3 // 6 + n * n,
    )
)  # fmt: skip
"""L of L L^T, of the lower triangle of a matrix; zeros above. The derivative is by that triangle. Murray 2016."""
cholesky_adjoint = register(
    Factoring(
        name="cholesky_adjoint", kind="factoring", arity=2, infer=_adjoint_type, linear=((1,),),
        evaluate=_evaluate_adjoint, vjp=_adjoint_vjp, jvp=_adjoint_jvp, singular=True,
        across=lambda n, m: n**3 // 3 + 2 * n * n,
    )
)  # fmt: skip
"""The derivative by a matrix's lower triangle, of one by its factor, of which the lower triangle is read; zeros above.
Without an inverse, by what Cholesky's algorithm does, backwards. Murray 2016."""
lu = register(
    Factoring(
        name="lu", kind="factoring", arity=1, infer=_lu_type, evaluate=_evaluate_lu, vjp=_lu_vjp, jvp=_lu_jvp,
        singular=True, across=lambda n, m: 4 * n**3 // 3 + n * n,
    )
)  # fmt: skip
"""L and U in one matrix, then for each row of L U the number of the row of the operand that it is."""
triangular_solve = register(
    Factoring(
        name="triangular_solve", kind="factoring", arity=2, infer=_triangular_type, attr_kinds=_HOW, linear=((1,),),
        evaluate=_evaluate_triangular, vjp=_triangular_vjp, jvp=_triangular_jvp, singular=True,
        across=lambda n, m: n * (n + 1) * m // 2 + n,
    )
)  # fmt: skip
"""x of A x = b, or of A^T x = b where it is `transposed`; A is the `lower` or upper triangle of the first operand, with
ones on the diagonal where it is `unit`. Giles 2008."""
solve = register(
    Factoring(
        name="solve", kind="factoring", arity=3, infer=_solve_type, attr_kinds={"transposed": "bool"}, linear=((2,),),
        evaluate=_evaluate_solve, vjp=_solve_vjp, jvp=_solve_jvp, singular=True, unread=(0,),
        across=lambda n, m: 2 * n * n * m + n * n,
    )
)  # fmt: skip
"""x of A x = b, or of A^T x = b, by the factors that `lu` gives of A: A itself has the derivative. Giles 2008."""
log_det = register(
    Factoring(
        name="log_det", kind="factoring", arity=2, infer=lambda types, attrs: _det_type("log_det", types),
        evaluate=_evaluate_log_det, vjp=_log_det_vjp, jvp=_log_det_jvp, singular=True, lowered=_log_det_lowered,
    )
)  # fmt: skip
"""log |det A|, by the factors that `lu` gives of A."""
det = register(
    Factoring(
        name="det", kind="factoring", arity=2, infer=lambda types, attrs: _det_type("det", types),
        evaluate=_evaluate_det, vjp=_det_vjp, jvp=_det_jvp, singular=True, lowered=_det_lowered,
    )
)  # fmt: skip
"""det A, by the factors that `lu` gives of A. Its derivative is not finite where A is singular."""
