"""np.linalg by factorisations: cholesky, solve, inv, det, slogdet, tensorsolve, tensorinv; eigh, svd, qr and their kin.

Matrices of integers are of float64, as in NumPy. What NumPy raises as LinAlgError is raised when the program runs,
ahead of any write of a state."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from adjit.ir.types import F32, F64, I64
from adjit.ops.factoring import diagonal, parity
from adjit.ops.matrices import parts, turned
from adjit.ops.spectral import qr_shapes, svd_shapes
from adjit.trace import checks
from adjit.trace.functions.calling import cast, spread_to, value, wrap_c
from adjit.trace.locate import locate
from adjit.trace.lower import as_tracer, broadcast_shapes
from adjit.trace.refuse import shape_error, trace_error
from adjit.trace.table import implements
from adjit.tuned import SMALL_ROWS
from adjit_runtime import lapack

_NO_VALUE: Any = np._NoValue
_RESULTS: Any = sys.modules[np.linalg.eigh.__module__ + "._linalg"]
"""Where NumPy has the named tuples that its functions give."""


def matrices(function: str, a: Any) -> Any:
    """A Value of square matrices of floats."""
    x = value(a)
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise shape_error(f"{function}: {x.type} is not square in its last two dimensions")
    return _sized(function, x)


def _sized(function: str, x: Any) -> Any:
    """As floats; LAPACK is there where matrices are larger than those of our own code."""
    if x.shape[-2] > SMALL_ROWS:
        lapack.require(f"np.linalg.{function}")
    return x if x.dtype in (F32, F64) else cast(x, F64)


def _raises(flag: Any, text: str) -> None:
    """A LinAlgError where not all of `flag` are true."""
    holds = flag.builder.all(flag, axes=tuple(range(len(flag.shape)))) if flag.shape else flag
    checks.note(wrap_c(holds), "LinAlgError", text, locate())


@implements(np.linalg.cholesky)
def _cholesky(a: Any, *, upper: bool = False) -> Any:
    x = matrices("cholesky", a)
    b = x.builder
    y = b.cholesky(turned(b, x) if upper else x)
    if 0 not in x.shape:
        first = (*(slice(None),) * (len(x.shape) - 2), 0, 0)
        corner = value(wrap_c(y)[first])
        _raises(corner.eq(corner), "cholesky: a matrix is not positive definite")
    return wrap_c(turned(b, y) if upper else y)


def factors(function: str, x: Any) -> Any:
    """What `lu` gives of matrices; a singular one is an error."""
    f = x.builder.lu(x)
    if 0 not in x.shape:
        _raises(diagonal(x.builder, f, x.shape[-1]).ne(0.0), f"{function}: a matrix is singular")
    return f


def solved(function: str, a: Any, b: Any) -> Any:
    """x of a x = b, of Values with the same axes in front of matrices."""
    return a.builder.solve(a, factors(function, a), b, transposed=False)


@implements(np.linalg.solve)
def _solve(a: Any, b: Any) -> Any:
    x, y = matrices("solve", a), value(b)
    dtype = F32 if {x.dtype, y.dtype} == {F32} else F64
    is_vector = len(y.shape) == 1
    if not y.shape:
        raise shape_error(f"solve: {y.type} is neither a vector nor matrices")
    y = y.builder.reshape(y, shape=(*y.shape, 1)) if is_vector else y
    if y.shape[-2] != x.shape[-1]:
        raise shape_error(f"solve: {x.type} and {value(b).type} do not fit: {x.shape[-1]} rows and {y.shape[-2]}")
    lead = broadcast_shapes("solve, ahead of matrices", x.shape[:-2], y.shape[:-2])
    x, y = (spread_to(cast(z, dtype), (*lead, *z.shape[-2:])) for z in (x, y))
    found = solved("solve", x, y)
    return wrap_c(found.builder.reshape(found, shape=found.shape[:-1]) if is_vector else found)


@implements(np.linalg.inv)
def _inv(a: Any) -> Any:
    return wrap_c(inverse("inv", matrices("inv", a)))


def inverse(function: str, x: Any) -> Any:
    """The inverse of each matrix of a Value."""
    b, rank = x.builder, len(x.shape)
    row, column = (b.iota(shape=x.shape, axis=axis, dtype=I64) for axis in (rank - 2, rank - 1))
    return solved(function, x, cast(row.eq(column), x.dtype))


@implements(np.linalg.det)
def _det(a: Any) -> Any:
    x = matrices("det", a)
    return wrap_c(x.builder.det(x, x.builder.lu(x)))


@implements(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    x = matrices("slogdet", a)
    b, n = x.builder, x.shape[-1]
    f = b.lu(x)
    plain = b.stop_gradient(f)
    sign = parity(b, plain, n) * b.prod(b.sign(diagonal(b, plain, n)), axes=(len(x.shape) - 2,))
    return _RESULTS.SlogdetResult(wrap_c(sign), wrap_c(b.log_det(x, f)))


@implements(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    y, x = as_tracer(b), as_tracer(a)
    if axes is not None:
        order = [i for i in range(x.ndim) if i not in {k % x.ndim for k in axes}] + [k % x.ndim for k in axes]
        x = as_tracer(np.transpose(x, order))
    shape = x.shape[y.ndim - x.ndim :] if x.ndim > y.ndim else ()
    size = math.prod(shape)
    if size != y.size or math.prod(x.shape) != size * size:
        raise shape_error(f"tensorsolve: {value(x).type} and {value(y).type} are no equations for {shape}")
    return np.reshape(np.linalg.solve(np.reshape(x, (size, size)), np.ravel(y)), shape)


@implements(np.linalg.tensorinv)
def _tensorinv(a: Any, ind: Any = 2) -> Any:
    x = as_tracer(a)
    if ind <= 0:
        raise shape_error("tensorinv: ind is not positive")
    rows, columns = x.shape[:ind], x.shape[ind:]
    if math.prod(rows) != math.prod(columns):
        raise shape_error(f"tensorinv: {value(x).type} is no square matrix with {ind} axes of rows")
    return np.reshape(np.linalg.inv(np.reshape(x, (math.prod(rows), -1))), (*columns, *rows))


# -- eigenvalues, singular values, QR ----------------------------------------------------------------------------------


def rectangular(function: str, a: Any) -> Any:
    """A Value of matrices of floats, for which LAPACK is there."""
    x = value(a)
    if len(x.shape) < 2:
        raise shape_error(f"{function}: {x.type} is no matrix")
    lapack.require(f"np.linalg.{function}")
    return x if x.dtype in (F32, F64) else cast(x, F64)


def _found(y: Any, function: str) -> None:
    """An error where LAPACK found nothing."""
    if y.shape and 0 not in y.shape:
        first = value(wrap_c(y)[..., 0])
        _raises(first.eq(first), f"{function}: no convergence")


def _symmetric(function: str, a: Any, triangle: Any) -> Any:
    if triangle not in ("L", "U", "l", "u"):
        raise trace_error(f"{function}: UPLO is 'L' or 'U', not {triangle!r}", numpy_too=True)
    x = rectangular(function, a)
    if x.shape[-1] != x.shape[-2]:
        raise shape_error(f"{function}: {x.type} is not square in its last two dimensions")
    return turned(x.builder, x) if triangle in "Uu" else x


@implements(np.linalg.eigh)
def _eigh(a: Any, UPLO: Any = "L") -> Any:
    x = _symmetric("eigh", a, UPLO)
    n = x.shape[-1]
    y = x.builder.eigh(x)
    _found(y, "eigh")
    w, v = parts(x.builder, y, ((n,), (n, n)))
    return _RESULTS.EighResult(wrap_c(w), wrap_c(v))


@implements(np.linalg.eigvalsh)
def _eigvalsh(a: Any, UPLO: Any = "L") -> Any:
    x = _symmetric("eigvalsh", a, UPLO)
    y = x.builder.eigvalsh(x)
    _found(y, "eigvalsh")
    return wrap_c(y)


@implements(np.linalg.svd)
def _svd(a: Any, full_matrices: Any = True, compute_uv: Any = True, hermitian: Any = False) -> Any:
    if hermitian:
        raise trace_error("svd: hermitian=True has no lowering: leave it out, or write np.linalg.eigh")
    x = rectangular("svd", a)
    if not compute_uv:
        return wrap_c(singular_values("svd", x))
    m, n = x.shape[-2:]
    full = bool(full_matrices) and m != n
    y = x.builder.svd_full(x) if full else x.builder.svd(x)
    _found(y, "svd")
    u, s, v = parts(x.builder, y, svd_shapes(m, n, full))
    return _RESULTS.SVDResult(wrap_c(u), wrap_c(s), wrap_c(turned(x.builder, v)))


def singular_values(function: str, x: Any) -> Any:
    """Those of each matrix of a Value."""
    y = x.builder.svdvals(x)
    _found(y, function)
    return y


@implements(np.linalg.svdvals)
def _svdvals(x: Any) -> Any:
    return wrap_c(singular_values("svdvals", rectangular("svdvals", x)))


@implements(np.linalg.qr)
def _qr(a: Any, mode: Any = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise trace_error(f"qr: mode {mode!r} has no lowering: 'reduced', 'complete' or 'r'", numpy_too=mode != "raw")
    x = rectangular("qr", a)
    m, n = x.shape[-2:]
    full = mode == "complete" and m > n
    q, r = parts(x.builder, (x.builder.qr_full if full else x.builder.qr)(x), qr_shapes(m, n, full))
    return wrap_c(r) if mode == "r" else _RESULTS.QRResult(wrap_c(q), wrap_c(r))


def _pseudo_inverse(function: str, x: Any, cutoff: Any) -> Any:
    """The inverse of Moore and Penrose of each matrix of a Value; `cutoff` is relative."""
    lead = x.shape[:-2]
    bound = spread_to(cast(value(cutoff), x.dtype), lead)
    y = x.builder.pinv(x, bound)
    _found(x.builder.reshape(y, shape=(*lead, math.prod(y.shape[len(lead) :]))), function)
    return y


@implements(np.linalg.pinv)
def _pinv(a: Any, rcond: Any = None, hermitian: Any = False, *, rtol: Any = _NO_VALUE) -> Any:
    if hermitian:
        raise trace_error("pinv: hermitian=True has no lowering: leave it out")
    if rcond is not None and rtol is not _NO_VALUE:
        raise trace_error("pinv: `rcond` and `rtol` cannot both be given", numpy_too=True)
    x = rectangular("pinv", a)
    if rcond is None:
        # NumPy's own defaults.
        rcond = 1e-15 if rtol is _NO_VALUE else rtol
    cutoff = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps) if rcond is None else rcond
    return wrap_c(_pseudo_inverse("pinv", x, cutoff))


@implements(np.linalg.lstsq)
def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    x = rectangular("lstsq", a)
    y = as_tracer(b)
    if len(x.shape) != 2 or y.ndim not in (1, 2) or y.shape[0] != x.shape[0]:
        raise shape_error(f"lstsq: {value(a).type} and {value(y).type} are no equations")
    m, n = x.shape
    if rcond is None or rcond == -1:
        rcond = float(np.finfo(x.dtype).eps) * (max(m, n) if rcond is None else 1)
    found = as_tracer(wrap_c(_pseudo_inverse("lstsq", x, rcond))) @ y
    s = as_tracer(wrap_c(singular_values("lstsq", x)))
    rank = np.sum(s > rcond * np.max(s)) if min(m, n) else np.int64(0)
    rest = as_tracer(a) @ found - y
    residuals = np.sum(rest * rest, axis=0).reshape(-1) if m > n else np.zeros(0, found.dtype)
    return found, residuals, rank, s


@implements(np.linalg.matrix_rank)
def _matrix_rank(A: Any, tol: Any = None, hermitian: Any = False, *, rtol: Any = None) -> Any:
    if hermitian:
        raise trace_error("matrix_rank: hermitian=True has no lowering: leave it out")
    if tol is not None and rtol is not None:
        raise trace_error("matrix_rank: `tol` and `rtol` cannot both be given", numpy_too=True)
    if len(as_tracer(A).shape) < 2:
        return np.asarray(np.any(as_tracer(A) != 0)).astype(np.int64)
    x = rectangular("matrix_rank", A)
    s = as_tracer(wrap_c(singular_values("matrix_rank", x)))
    if tol is None:
        eps = float(np.finfo(x.dtype).eps) * max(x.shape[-2:])
        tol = np.max(s, axis=-1) * (eps if rtol is None else rtol)
    return np.sum(s > np.asarray(tol)[..., None] if not hasattr(tol, "type") else s > tol[..., None], axis=-1)


@implements(np.linalg.cond)
def _cond(x: Any, p: Any = None) -> Any:
    a = as_tracer(x)
    if p in (None, 2, -2):
        s = as_tracer(wrap_c(singular_values("cond", rectangular("cond", a))))
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return np.linalg.norm(a, p, axis=(-2, -1)) * np.linalg.norm(np.linalg.inv(a), p, axis=(-2, -1))
