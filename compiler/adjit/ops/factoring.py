"""Factorisations of matrices, and solutions of equations by means of them.

    %1 = cholesky %0 : f64[8,3,3]         the lower factor of each of 8 matrices, of whose lower triangle it reads
    %2 = lu %0 : f64[8,12]                L below the diagonal, U on and above it, then which row each row of L U was
    %3 = triangular_solve %1, %4 lower=true transposed=false unit=false : f64[8,3,2]
    %5 = solve %0, %2, %4 transposed=false : f64[8,3,2]      by the factors %2 of %0

Matrices are the last two axes of an operand; each place of those in front has one. A result with several parts has them
one after the other, flat, in C order (`parts`). Where there is no factor, all of it is NaN: who asks for one checks
that. NaN goes where LAPACK lets it go."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import I64, Array
from adjit.ops.declare import Factoring
from adjit_runtime.errors import DTypeError, ShapeError

Shape = tuple[int, ...]


# -- notation for rules ------------------------------------------------------------------------------------------------


def turned(b: Builder, x: Value) -> Value:
    """Each matrix transposed."""
    rank = len(x.shape)
    turned: Value = b.transpose(x, axes=(*range(rank - 2), rank - 1, rank - 2))
    return turned


def product(b: Builder, x: Value, y: Value) -> Value:
    """The product of each matrix with its own."""
    lead = string.ascii_letters[3 : 1 + len(x.shape)]
    found: Value = b.contract(x, y, spec=f"{lead}ab,{lead}bc->{lead}ac")
    return found


def triangle(b: Builder, x: Value, *, lower: bool, diagonal: float = 1.0) -> Value:
    """The lower or upper triangle of each matrix, with the diagonal times a number, and zeros elsewhere."""
    rank = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    kept = b.select(row > column if lower else row < column, x, 0.0)
    on_it: Value = x if diagonal == 1.0 else diagonal * x
    found: Value = b.select(row.eq(column), on_it, kept) if diagonal else kept
    return found


def parts(b: Builder, x: Value, shapes: Sequence[Shape]) -> list[Value]:
    """The parts of each flat result."""
    found, start, lead = [], 0, x.shape[:-1]
    for shape in shapes:
        size = math.prod(shape)
        zeros, ones = (0,) * len(lead), (1,) * len(lead)
        part = b.slice(x, start=(*zeros, start), stop=(*lead, start + size), step=(*ones, 1))
        found.append(b.reshape(part, shape=(*lead, *shape)))
        start += size
    return found


# -- types -------------------------------------------------------------------------------------------------------------


def _matrices(name: str, x: Array) -> tuple[Shape, int, int]:
    if x.ndim < 2 or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        raise (ShapeError if x.ndim < 2 else DTypeError)(f"{name}: of matrices of float32 or float64, not {x}")
    return x.shape[:-2], x.shape[-2], x.shape[-1]


def _square(name: str, x: Array) -> tuple[Shape, int]:
    lead, m, n = _matrices(name, x)
    if m != n:
        raise ShapeError(f"{name}: of square matrices, not {x}")
    return lead, n


def _cholesky_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    _square("cholesky", types[0])
    return types[0].strong


def _lu_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = _square("lu", types[0])
    return types[0].strong.with_shape((*lead, n * n + n))


def _beside(name: str, a: Array, b: Array) -> Array:
    """The type of what solves equations with right-hand sides `b`."""
    lead, n = _square(name, a)
    other, m, _ = _matrices(name, b)
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


def _eigh_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = _square("eigh", types[0])
    return types[0].strong.with_shape((*lead, n + n * n))


def _eigvalsh_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = _square("eigvalsh", types[0])
    return types[0].strong.with_shape((*lead, n))


def svd_shapes(m: int, n: int, full: bool) -> tuple[Shape, Shape, Shape]:
    """Those of U, s and V, of m rows and n columns."""
    k = min(m, n)
    return ((m, m), (k,), (n, n)) if full else ((m, k), (k,), (n, k))


def qr_shapes(m: int, n: int, full: bool) -> tuple[Shape, Shape]:
    """Those of Q and R, of m rows and n columns."""
    k = m if full else min(m, n)
    return (m, k), (k, n)


def _flat_type(name: str, shapes: Callable[[int, int], Sequence[Shape]]) -> Callable[[tuple[Array, ...], Attrs], Array]:
    def infer(types: tuple[Array, ...], attrs: Attrs) -> Array:
        lead, m, n = _matrices(name, types[0])
        return types[0].strong.with_shape((*lead, sum(map(math.prod, shapes(m, n)))))

    return infer


def _det_type(name: str, types: tuple[Array, ...]) -> Array:
    a, factors = types
    lead, _ = _square(name, a)
    if factors.shape != _lu_type((a,), {}).shape or factors.dtype != a.dtype:
        raise ShapeError(f"{name}: {factors} are no factors of {a}")
    return a.strong.with_shape(lead)


# -- NumPy's meaning ---------------------------------------------------------------------------------------------------


def _each(function: Callable[..., Any], shape: Shape, *arrays: np.ndarray) -> np.ndarray:
    """`function` of the matrices at each place in front."""
    lead = arrays[0].shape[:-2]
    result = np.empty((*lead, *shape), arrays[0].dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(*lead):
            result[place] = function(*(x[place] for x in arrays))
    return result


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
    return _each(_cholesky_of, x.shape[-2:], x)


def _flat_of(given: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in given])


def _svd_of(x: np.ndarray, full: bool) -> Any:
    try:
        u, s, vh = np.linalg.svd(x, full_matrices=full)
    except np.linalg.LinAlgError:
        return np.nan
    return _flat_of([u, s, vh.T])


def _eigh_of(x: np.ndarray) -> Any:
    try:
        return _flat_of(np.linalg.eigh(x))
    except np.linalg.LinAlgError:
        return np.nan


def _evaluate_eigh(x: np.ndarray) -> np.ndarray:
    return _each(_eigh_of, (x.shape[-1] * (x.shape[-1] + 1),), x)


def _evaluate_eigvalsh(x: np.ndarray) -> np.ndarray:
    n = x.shape[-1]
    return np.ascontiguousarray(_evaluate_eigh(x)[..., :n])


def _evaluate_svd(full: bool) -> Callable[[np.ndarray], np.ndarray]:
    def evaluate(x: np.ndarray) -> np.ndarray:
        m, n = x.shape[-2:]
        return _each(lambda x: _svd_of(x, full), (sum(map(math.prod, svd_shapes(m, n, full))),), x)

    return evaluate


def _evaluate_svdvals(x: np.ndarray) -> np.ndarray:
    m, n = x.shape[-2:]
    start = m * min(m, n)
    return np.ascontiguousarray(_evaluate_svd(False)(x)[..., start : start + min(m, n)])


def _evaluate_qr(full: bool) -> Callable[[np.ndarray], np.ndarray]:
    def evaluate(x: np.ndarray) -> np.ndarray:
        m, n = x.shape[-2:]
        size = sum(map(math.prod, qr_shapes(m, n, full)))
        return _each(lambda x: _flat_of(np.linalg.qr(x, "complete" if full else "reduced")), (size,), x)

    return evaluate


def _evaluate_lu(x: np.ndarray) -> np.ndarray:
    return _each(_lu_of, (x.shape[-1] * (x.shape[-1] + 1),), x)


def _evaluate_triangular(a: np.ndarray, b: np.ndarray, *, lower: bool, transposed: bool, unit: bool) -> np.ndarray:
    return _each(lambda a, b: _triangular_of(a, b, lower, transposed, unit), b.shape[-2:], a, b)


def _evaluate_solve(a: np.ndarray, factors: np.ndarray, b: np.ndarray, *, transposed: bool) -> np.ndarray:
    flat = factors[..., None, :]
    return _each(lambda a, f, b: _solve_of(a, f[0], b, transposed), b.shape[-2:], a, flat, b)


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


def _symmetric(b: Builder, x: Value) -> Value:
    """The symmetric matrix of which this is the lower triangle."""
    return triangle(b, x, lower=True) + turned(b, triangle(b, x, lower=True, diagonal=0.0))


def _as_lower(b: Builder, x: Value) -> Value:
    """The gradient by a lower triangle, of one by a symmetric matrix, which need not be symmetric itself."""
    return triangle(b, x + turned(b, x), lower=True, diagonal=0.5)


def _between(b: Builder, l: Value, x: Value, transposed: bool) -> Value:
    """L^-1 X L^-T, or L^-T X L^-1."""
    for _ in range(2):
        x = turned(b, b.triangular_solve(l, x, lower=True, transposed=transposed, unit=False))
    return x


def _cholesky_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    inner = triangle(b, product(b, turned(b, y), triangle(b, g, lower=True)), lower=True, diagonal=0.5)
    return (_as_lower(b, _between(b, y, inner, transposed=True)),)


def _cholesky_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    (dx,) = tangents
    inner = _between(b, y, _symmetric(b, dx), transposed=False)
    return product(b, y, triangle(b, inner, lower=True, diagonal=0.5))


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


def _apart(b: Builder, w: Value, shape: Shape) -> Value:
    """1 / (w_j - w_i), and 0 where both are the same: what belongs to them is free to turn, and has no derivative."""
    lead = len(w.shape) - 1
    row, column = (b.broadcast(w, shape=shape, axes=(*range(lead), axis)) for axis in (lead, lead + 1))
    apart = column - row
    found: Value = b.select(apart.eq(0.0), 0.0, 1.0 / b.select(apart.eq(0.0), b.full(1.0, apart), apart))
    return found


def _columns(b: Builder, x: Value, w: Value) -> Value:
    """Each column times its number."""
    lead = len(w.shape) - 1
    found: Value = x * b.broadcast(w, shape=x.shape, axes=(*range(lead), lead + 1))
    return found


def _on_diagonal(b: Builder, w: Value) -> Value:
    lead, n = len(w.shape) - 1, w.shape[-1]
    shape = (*w.shape, n)
    row, column = (b.iota(shape=shape, axis=axis, dtype=I64) for axis in (lead, lead + 1))
    found: Value = b.select(row.eq(column), b.broadcast(w, shape=shape, axes=(*range(lead), lead)), 0.0)
    return found


def _of_diagonal(b: Builder, x: Value) -> Value:
    rank = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    found: Value = b.sum(b.select(row.eq(column), x, 0.0), axes=(rank - 1,))
    return found


def _eigen(b: Builder, y: Value, n: int) -> tuple[Value, Value]:
    w, v = parts(b, y, ((n,), (n, n)))
    return w, v


def _eigh_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    n = x.shape[-1]
    (w, v), (by_w, by_v) = _eigen(b, y, n), _eigen(b, g, n)
    inner = _on_diagonal(b, by_w) + _apart(b, w, v.shape) * product(b, turned(b, v), by_v)
    return (_as_lower(b, product(b, product(b, v, inner), turned(b, v))),)


def _eigh_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    w, v = _eigen(b, y, x.shape[-1])
    inner = product(b, product(b, turned(b, v), _symmetric(b, tangents[0])), v)
    return _flat(b, [_of_diagonal(b, inner), product(b, v, _apart(b, w, v.shape) * inner)], len(x.shape) - 2)


def _flat(b: Builder, given: Sequence[Value], lead: int) -> Value:
    """Parts as one flat result for each matrix."""
    flat = [b.reshape(x, shape=(*x.shape[:lead], math.prod(x.shape[lead:]))) for x in given]
    found: Value = b.concatenate(*flat, axis=lead)
    return found


def _eigvalsh_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    _, v = _eigen(b, b.eigh(x), x.shape[-1])
    return (_as_lower(b, product(b, _columns(b, v, g), turned(b, v))),)


def _eigvalsh_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    _, v = _eigen(b, b.eigh(x), x.shape[-1])
    return _of_diagonal(b, product(b, product(b, turned(b, v), _symmetric(b, tangents[0])), v))


def _inverted(b: Builder, s: Value) -> Value:
    """1 / s, and 0 where s is."""
    found: Value = b.select(s.eq(0.0), 0.0, 1.0 / b.select(s.eq(0.0), b.full(1.0, s), s))
    return found


def _outside(b: Builder, u: Value, x: Value) -> Value:
    """What of each column of x the columns of u do not reach."""
    return x - product(b, u, product(b, turned(b, u), x))


def _svd_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    shapes = svd_shapes(*x.shape[-2:], False)
    (u, s, v), (by_u, by_s, by_v) = parts(b, y, shapes), parts(b, g, shapes)
    k = shapes[1][0]
    apart = _apart(b, s * s, (*x.shape[:-2], k, k))

    def skew(z: Value, by_z: Value) -> Value:
        both = product(b, turned(b, z), by_z)
        return apart * (both - turned(b, both))

    inverted = _inverted(b, s)
    left = _columns(b, product(b, u, skew(u, by_u)), s) + _columns(b, _outside(b, u, by_u), inverted)
    right = _columns(b, product(b, v, turned(b, skew(v, by_v))), s) + _columns(b, _outside(b, v, by_v), inverted)
    middle = _columns(b, u, by_s)
    return (product(b, left + middle, turned(b, v)) + product(b, u, turned(b, right)),)


def _svd_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    dx = tangents[0]
    u, s, v = parts(b, y, svd_shapes(*x.shape[-2:], False))
    inner = product(b, product(b, turned(b, u), dx), v)
    apart, inverted = _apart(b, s * s, inner.shape), _inverted(b, s)
    by_columns = _columns(b, inner, s)
    by_rows = turned(b, _columns(b, turned(b, inner), s))
    du = product(b, u, apart * (by_columns + turned(b, by_columns)))
    dv = product(b, v, apart * (by_rows + turned(b, by_rows)))
    du = du + _columns(b, _outside(b, u, product(b, dx, v)), inverted)
    dv = dv + _columns(b, _outside(b, v, product(b, turned(b, dx), u)), inverted)
    return _flat(b, [du, _of_diagonal(b, inner), dv], len(x.shape) - 2)


def _svdvals_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    u, _, v = parts(b, b.svd(x), svd_shapes(*x.shape[-2:], False))
    return (product(b, _columns(b, u, g), turned(b, v)),)


def _svdvals_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    u, _, v = parts(b, b.svd(x), svd_shapes(*x.shape[-2:], False))
    return _of_diagonal(b, product(b, product(b, turned(b, u), tangents[0]), v))


def _left_of(b: Builder, r: Value, x: Value, transposed: bool) -> Value:
    """x R^-1, or x R^-T where it is `transposed`, of an upper triangle."""
    return turned(b, b.triangular_solve(r, turned(b, x), lower=False, transposed=not transposed, unit=False))


def _cut_columns(b: Builder, x: Value, low: int, high: int) -> Value:
    lead = x.shape[:-1]
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    found: Value = b.slice(x, start=(*zeros, low), stop=(*lead, high), step=(*ones, 1))
    return found


def _qr_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    m, n = x.shape[-2:]
    shapes = qr_shapes(m, n, False)
    (q, r), (by_q, by_r) = parts(b, y, shapes), parts(b, g, shapes)
    if m >= n:
        return (_qr_square_vjp(b, q, r, by_q, by_r),)
    # The first columns have the factors; the others are Q times what R has of them.
    others, by_others = _cut_columns(b, x, m, n), _cut_columns(b, by_r, m, n)
    by_q = by_q + product(b, others, turned(b, by_others))
    first = _qr_square_vjp(b, q, _cut_columns(b, r, 0, m), by_q, _cut_columns(b, by_r, 0, m))
    return (b.concatenate(first, product(b, q, by_others), axis=len(x.shape) - 1),)


def _qr_square_vjp(b: Builder, q: Value, r: Value, by_q: Value, by_r: Value) -> Value:
    by_r = triangle(b, by_r, lower=False)
    both = product(b, r, turned(b, by_r)) - product(b, turned(b, by_q), q)
    return _left_of(b, r, by_q + product(b, q, _symmetric(b, both)), transposed=True)


def _qr_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    dx = tangents[0]
    m, n = x.shape[-2:]
    lead = len(x.shape) - 2
    q, r = parts(b, y, qr_shapes(m, n, False))
    k = min(m, n)
    square = r if m >= n else _cut_columns(b, r, 0, k)
    scaled = _left_of(b, square, dx if m >= n else _cut_columns(b, dx, 0, k), transposed=False)
    inner = product(b, turned(b, q), scaled)
    below = triangle(b, inner, lower=True, diagonal=0.0)
    turn = below - turned(b, below)
    dq = product(b, q, turn) + scaled - product(b, q, inner)
    dr = product(b, inner - turn, square)
    if m < n:
        others = product(b, turned(b, dq), _cut_columns(b, x, k, n))
        others = others + product(b, turned(b, q), _cut_columns(b, dx, k, n))
        dr = b.concatenate(dr, others, axis=lead + 1)
    return _flat(b, [dq, dr], lead)


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
        vjp=_cholesky_vjp, jvp=_cholesky_jvp, singular=True,
    )
)  # fmt: skip
"""L of L L^T, of the lower triangle of a matrix; zeros above. The derivative is by that triangle. Murray 2016."""
lu = register(
    Factoring(
        name="lu", kind="factoring", arity=1, infer=_lu_type, evaluate=_evaluate_lu, vjp=_lu_vjp, jvp=_lu_jvp,
        singular=True,
    )
)  # fmt: skip
"""L and U in one matrix, then for each row of L U the number of the row of the operand that it is."""
triangular_solve = register(
    Factoring(
        name="triangular_solve", kind="factoring", arity=2, infer=_triangular_type, attr_kinds=_HOW, linear=((1,),),
        evaluate=_evaluate_triangular, vjp=_triangular_vjp, jvp=_triangular_jvp, singular=True,
    )
)  # fmt: skip
"""x of A x = b, or of A^T x = b where it is `transposed`; A is the `lower` or upper triangle of the first operand, with
ones on the diagonal where it is `unit`. Giles 2008."""
solve = register(
    Factoring(
        name="solve", kind="factoring", arity=3, infer=_solve_type, attr_kinds={"transposed": "bool"}, linear=((2,),),
        evaluate=_evaluate_solve, vjp=_solve_vjp, jvp=_solve_jvp, singular=True, unread=(0,),
    )
)  # fmt: skip
"""x of A x = b, or of A^T x = b, by the factors that `lu` gives of A: A itself has the derivative. Giles 2008."""
eigh = register(
    Factoring(
        name="eigh", kind="factoring", arity=1, infer=_eigh_type, evaluate=_evaluate_eigh, vjp=_eigh_vjp,
        jvp=_eigh_jvp, singular=True,
    )
)  # fmt: skip
"""The eigenvalues of a symmetric matrix in order, then V, of the lower triangle. Where some are the same V is one of
many, of which the derivative has none that turns into another. Giles 2008."""
eigvalsh = register(
    Factoring(
        name="eigvalsh", kind="factoring", arity=1, infer=_eigvalsh_type, evaluate=_evaluate_eigvalsh,
        vjp=_eigvalsh_vjp, jvp=_eigvalsh_jvp, singular=True,
    )
)  # fmt: skip
"""The eigenvalues alone."""
svd = register(
    Factoring(
        name="svd", kind="factoring", arity=1,
        infer=_flat_type("svd", lambda m, n: svd_shapes(m, n, False)), evaluate=_evaluate_svd(False),
        vjp=_svd_vjp, jvp=_svd_jvp, singular=True,
    )
)  # fmt: skip
"""U, the singular values, then V, of the smaller number of columns. Townsend 2016."""
svdvals = register(
    Factoring(
        name="svdvals", kind="factoring", arity=1, infer=_flat_type("svdvals", lambda m, n: [(min(m, n),)]),
        evaluate=_evaluate_svdvals, vjp=_svdvals_vjp, jvp=_svdvals_jvp, singular=True,
    )
)  # fmt: skip
"""The singular values alone."""
svd_full = register(
    Factoring(
        name="svd_full", kind="factoring", arity=1, infer=_flat_type("svd_full", lambda m, n: svd_shapes(m, n, True)),
        evaluate=_evaluate_svd(True), exempt="the basis of what a matrix does not reach is arbitrary: "
        "full_matrices=False leaves it out",
    )
)  # fmt: skip
"""U and V with all columns."""
qr = register(
    Factoring(
        name="qr", kind="factoring", arity=1, infer=_flat_type("qr", lambda m, n: qr_shapes(m, n, False)),
        evaluate=_evaluate_qr(False), vjp=_qr_vjp, jvp=_qr_jvp, singular=True,
    )
)  # fmt: skip
"""Q, of the smaller number of columns, then R. Walter and Lehmann 2010; Roberts and Roberts 2020 for more columns."""
qr_full = register(
    Factoring(
        name="qr_full", kind="factoring", arity=1, infer=_flat_type("qr_full", lambda m, n: qr_shapes(m, n, True)),
        evaluate=_evaluate_qr(True), exempt="the basis of what a matrix does not reach is arbitrary: mode='reduced' "
        "leaves it out",
    )
)  # fmt: skip
"""Q with all columns, then R."""
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
