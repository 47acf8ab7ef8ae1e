"""np.linalg by factorisations: cholesky, solve, inv, det, slogdet, tensorsolve, tensorinv.

Matrices of integers are of float64, as in NumPy. What NumPy raises as LinAlgError is raised when the program runs, ahead
of any write of a state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F32, F64, I64
from adjit.ops.factoring import diagonal, parity, turned
from adjit.trace import checks
from adjit.trace.functions.calling import cast, spread_to, value, wrap_c
from adjit.trace.locate import locate
from adjit.trace.lower import as_tracer, broadcast_shapes
from adjit.trace.refuse import shape_error
from adjit.trace.table import implements
from adjit.tuned import SMALL_ROWS
from adjit_runtime import lapack


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
    return np.linalg._linalg.SlogdetResult(wrap_c(sign), wrap_c(b.log_det(x, f)))


@implements(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    x, y = as_tracer(a), as_tracer(b)
    if axes is not None:
        order = [i for i in range(x.ndim) if i not in {k % x.ndim for k in axes}] + [k % x.ndim for k in axes]
        x = np.transpose(x, order)
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
