"""Eigenvalues, singular values and QR of matrices.

    %1 = eigh %0 : f64[8,12]     of f64[8,3,3]: the eigenvalues of each in order, then V, whose columns are eigenvectors
    %2 = svd %0 : f64[8,21]      U, the singular values in falling order, then V
    %3 = qr %0 : f64[8,18]       Q, then R

Parts are flat, in C order. Where LAPACK finds nothing, all of a result is NaN. Eigenvectors have the signs that it
gives them, singular vectors too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjit.ir.builder import Builder, Value
from adjit.ir.op import Attrs, register
from adjit.ir.types import I64, Array
from adjit.ops.declare import Factoring
from adjit.ops.matrices import Shape, as_lower, each, matrices, parts, product, square, symmetric, triangle, turned
from adjit_runtime.errors import ShapeError

# -- types -------------------------------------------------------------------------------------------------------------


def _eigh_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = square("eigh", types[0])
    return types[0].strong.with_shape((*lead, n + n * n))


def _eigvalsh_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    lead, n = square("eigvalsh", types[0])
    return types[0].strong.with_shape((*lead, n))


def svd_shapes(m: int, n: int, full: bool) -> tuple[Shape, Shape, Shape]:
    """Those of U, s and V, of m rows and n columns."""
    k = min(m, n)
    return ((m, m), (k,), (n, n)) if full else ((m, k), (k,), (n, k))


def qr_shapes(m: int, n: int, full: bool) -> tuple[Shape, Shape]:
    """Those of Q and R, of m rows and n columns."""
    k = m if full else min(m, n)
    return (m, k), (k, n)


def _pinv_type(types: tuple[Array, ...], attrs: Attrs) -> Array:
    x, cutoff = types
    lead, m, n = matrices("pinv", x)
    if cutoff.shape != lead or cutoff.dtype != x.dtype:
        raise ShapeError(f"pinv: {cutoff} is no number for each matrix of {x}")
    return x.strong.with_shape((*lead, n, m))


def _flat_type(name: str, shapes: Callable[[int, int], Sequence[Shape]]) -> Callable[[tuple[Array, ...], Attrs], Array]:
    def infer(types: tuple[Array, ...], attrs: Attrs) -> Array:
        lead, m, n = matrices(name, types[0])
        return types[0].strong.with_shape((*lead, sum(map(math.prod, shapes(m, n)))))

    return infer


# -- NumPy's meaning ---------------------------------------------------------------------------------------------------


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
    return each(_eigh_of, (x.shape[-1] * (x.shape[-1] + 1),), x)


def _evaluate_eigvalsh(x: np.ndarray) -> np.ndarray:
    n = x.shape[-1]
    return np.ascontiguousarray(_evaluate_eigh(x)[..., :n])


def _evaluate_svd(full: bool) -> Callable[[np.ndarray], np.ndarray]:
    def evaluate(x: np.ndarray) -> np.ndarray:
        m, n = x.shape[-2:]
        return each(lambda x: _svd_of(x, full), (sum(map(math.prod, svd_shapes(m, n, full))),), x)

    return evaluate


def _evaluate_svdvals(x: np.ndarray) -> np.ndarray:
    m, n = x.shape[-2:]
    start = m * min(m, n)
    return np.ascontiguousarray(_evaluate_svd(False)(x)[..., start : start + min(m, n)])


def _evaluate_qr(full: bool) -> Callable[[np.ndarray], np.ndarray]:
    def evaluate(x: np.ndarray) -> np.ndarray:
        m, n = x.shape[-2:]
        size = sum(map(math.prod, qr_shapes(m, n, full)))
        return each(lambda x: _flat_of(np.linalg.qr(x, "complete" if full else "reduced")), (size,), x)

    return evaluate


def _evaluate_pinv(x: np.ndarray, cutoff: np.ndarray) -> np.ndarray:
    m, n = x.shape[-2:]
    bounds = cutoff[..., None, None]
    return each(lambda x, c: np.linalg.pinv(x, rcond=c[0, 0]), (n, m), x, bounds)


# -- derivatives -------------------------------------------------------------------------------------------------------


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
    return (as_lower(b, product(b, product(b, v, inner), turned(b, v))),)


def _eigh_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    w, v = _eigen(b, y, x.shape[-1])
    inner = product(b, product(b, turned(b, v), symmetric(b, tangents[0])), v)
    return _flat(b, [_of_diagonal(b, inner), product(b, v, _apart(b, w, v.shape) * inner)], len(x.shape) - 2)


def _flat(b: Builder, given: Sequence[Value], lead: int) -> Value:
    """Parts as one flat result for each matrix."""
    flat = [b.reshape(x, shape=(*x.shape[:lead], math.prod(x.shape[lead:]))) for x in given]
    found: Value = b.concatenate(*flat, axis=lead)
    return found


def _eigvalsh_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    _, v = _eigen(b, b.eigh(x), x.shape[-1])
    return (as_lower(b, product(b, _columns(b, v, g), turned(b, v))),)


def _eigvalsh_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    _, v = _eigen(b, b.eigh(x), x.shape[-1])
    return _of_diagonal(b, product(b, product(b, turned(b, v), symmetric(b, tangents[0])), v))


def _inverted(b: Builder, s: Value) -> Value:
    """1 / s, and 0 where s is."""
    found: Value = b.select(s.eq(0.0), 0.0, 1.0 / b.select(s.eq(0.0), b.full(1.0, s), s))
    return found


def _outside(b: Builder, u: Value, x: Value) -> Value:
    """What of each column of x the columns of u do not reach."""
    return x - product(b, u, product(b, turned(b, u), x))


def _thin(x: Value) -> tuple[Shape, Shape, Shape]:
    return svd_shapes(x.shape[-2], x.shape[-1], False)


def _svd_vjp(b: Builder, g: Value, y: Value, x: Value) -> tuple[Value]:
    shapes = _thin(x)
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
    u, s, v = parts(b, y, _thin(x))
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
    u, _, v = parts(b, b.svd(x), _thin(x))
    return (product(b, _columns(b, u, g), turned(b, v)),)


def _svdvals_jvp(b: Builder, tangents: Sequence[Value], y: Value, x: Value) -> Value:
    u, _, v = parts(b, b.svd(x), _thin(x))
    return _of_diagonal(b, product(b, product(b, turned(b, u), tangents[0]), v))


def _pinv_lowered(b: Builder, x: Value, cutoff: Value) -> Value:
    """Singular values up to the largest one times `cutoff` count as 0."""
    u, s, v = parts(b, b.svd(x), _thin(x))
    lead = len(cutoff.shape)
    bound = b.broadcast(cutoff * b.max(s, axes=(lead,)), shape=s.shape, axes=tuple(range(lead)))
    large = s > bound
    inverted = b.select(large, 1.0 / b.select(large, s, 1.0), 0.0)
    return product(b, _columns(b, v, inverted), turned(b, u))


def _minus_identity(b: Builder, x: Value) -> Value:
    """x - 1."""
    rank = len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    return x - b.cast(row.eq(column), dtype=x.dtype)


def _pinv_vjp(b: Builder, g: Value, y: Value, x: Value, cutoff: Value) -> tuple[Value, None]:
    back, up = turned(b, g), turned(b, y)
    left = product(b, _minus_identity(b, product(b, x, y)), product(b, back, product(b, y, up)))
    right = product(b, product(b, product(b, up, y), back), _minus_identity(b, product(b, y, x)))
    return -(product(b, product(b, up, g), up) + left + right), None


def _pinv_jvp(b: Builder, tangents: Sequence[Value | None], y: Value, x: Value, cutoff: Value) -> Value:
    dx = tangents[0]
    if dx is None:
        found: Value = b.full(0.0, y)
        return found
    up, back = turned(b, y), turned(b, dx)
    left = product(b, product(b, y, up), product(b, back, _minus_identity(b, product(b, x, y))))
    right = product(b, _minus_identity(b, product(b, y, x)), product(b, back, product(b, up, y)))
    return -(product(b, product(b, y, dx), y) + left + right)


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
    return _left_of(b, r, by_q + product(b, q, symmetric(b, both)), transposed=True)


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
        name="svd", kind="factoring", arity=1, rectangular=True,
        infer=_flat_type("svd", lambda m, n: svd_shapes(m, n, False)), evaluate=_evaluate_svd(False),
        vjp=_svd_vjp, jvp=_svd_jvp, singular=True,
    )
)  # fmt: skip
"""U, the singular values, then V, of the smaller number of columns. Townsend 2016."""
svdvals = register(
    Factoring(
        name="svdvals", kind="factoring", arity=1, rectangular=True,
        infer=_flat_type("svdvals", lambda m, n: [(min(m, n),)]),
        evaluate=_evaluate_svdvals, vjp=_svdvals_vjp, jvp=_svdvals_jvp, singular=True,
    )
)  # fmt: skip
"""The singular values alone."""
svd_full = register(
    Factoring(
        name="svd_full", kind="factoring", arity=1, rectangular=True,
        infer=_flat_type("svd_full", lambda m, n: svd_shapes(m, n, True)),
        evaluate=_evaluate_svd(True), exempt="the basis of what a matrix does not reach is arbitrary: "
        "full_matrices=False leaves it out",
    )
)  # fmt: skip
"""U and V with all columns."""
pinv = register(
    Factoring(
        name="pinv", kind="factoring", arity=2, infer=_pinv_type, evaluate=_evaluate_pinv, vjp=_pinv_vjp,
        jvp=_pinv_jvp, singular=True, rectangular=True, lowered=_pinv_lowered,
    )
)  # fmt: skip
"""The inverse of Moore and Penrose; singular values up to the largest one times the second operand, a number for each
matrix, count as 0. Its derivative holds where their number does not change. Golub and Pereyra 1973."""
qr = register(
    Factoring(
        name="qr", kind="factoring", arity=1, rectangular=True,
        infer=_flat_type("qr", lambda m, n: qr_shapes(m, n, False)),
        evaluate=_evaluate_qr(False), vjp=_qr_vjp, jvp=_qr_jvp, singular=True,
    )
)  # fmt: skip
"""Q, of the smaller number of columns, then R. Walter and Lehmann 2010; Roberts and Roberts 2020 for more columns."""
qr_full = register(
    Factoring(
        name="qr_full", kind="factoring", arity=1, rectangular=True,
        infer=_flat_type("qr_full", lambda m, n: qr_shapes(m, n, True)),
        evaluate=_evaluate_qr(True), exempt="the basis of what a matrix does not reach is arbitrary: mode='reduced' "
        "leaves it out",
    )
)  # fmt: skip
"""Q with all columns, then R."""
