"""Products and sums of products: matmul, dot, einsum, tensordot, outer, kron, cross, norms, powers of matrices."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjit.ir.types import BOOL, F32, F64, I64
from adjit.trace.functions.arrays import chain_order, contract_all, diagonal, product
from adjit.trace.functions.calling import (
    cast,
    dtype_of,
    make_dtype,
    shape_of,
    since,
    spread_to,
    static_int,
    truth,
    value,
    wrap,
    wrap_c,
)
from adjit.trace.functions.elementary import root_of_squares
from adjit.trace.functions.factorizations import inverse, matrices, rectangular, singular_values
from adjit.trace.functions.reductions import extremum, reduced, sum_dtype
from adjit.trace.functions.shaping import move_axes
from adjit.trace.functions.subscripts import interleaved, letters, parse, sizes_of
from adjit.trace.lower import as_tracer, broadcast_shapes, is_tracer, maybe_view, normalize_axes, normalize_axis
from adjit.trace.promote import widened
from adjit.trace.refuse import dtype_error, shape_error, trace_error
from adjit.trace.table import gufunc, implements


def _operands(function: str, *operands: Any, dtype: Any = None) -> list[Any]:
    """Strong Values in one dtype; bools are left as they are."""
    values = [value(x) for x in operands]
    found = [x.dtype for x in values]
    if dtype is None and found.count(found[0]) == len(found):
        return values
    common = make_dtype(function, np.result_type(*found) if dtype is None else dtype)
    if dtype is None:
        widened(function, [x.type for x in values], common)
    return [cast(x, common) for x in values]


def _contracted(spec: str, x: Any, y: Any) -> Any:
    """A contraction; of bools, whether any product is true."""
    if x.dtype != BOOL:
        return product(x.builder, spec, x, y)
    return truth(product(x.builder, spec, cast(x, I64), cast(y, I64)))


@functools.lru_cache(maxsize=1024)
def _matmul_spec(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """Index expression of a product and the shapes its operands are brought to; None where the shapes do not fit.

    Leading axes are broadcast: one of size 1 beside a larger one is dropped, so that nothing is copied."""
    inner_left, inner_right = left[-1], right[0] if len(right) == 1 else right[-2]
    if inner_left != inner_right:
        return None
    lead_left, lead_right = left[:-2], right[:-2]
    depth = max(len(lead_left), len(lead_right))
    names = letters(3 + depth)[3:]
    terms = []
    kept: list[tuple[int, ...]] = []
    padded = [(1,) * (depth - len(lead)) + lead for lead in (lead_left, lead_right)]
    if any(m != n and 1 not in (m, n) for m, n in zip(*padded, strict=True)):
        return None
    for lead, other, own in ((lead_left, padded[1], left), (lead_right, padded[0], right)):
        first = depth - len(lead)
        stays = [i for i, n in enumerate(lead) if n != 1 or other[first + i] == 1]
        terms.append("".join(names[first + i] for i in stays))
        kept.append(tuple(lead[i] for i in stays) + own[len(lead) :])
    rows = "a" if len(left) > 1 else ""
    columns = "c" if len(right) > 1 else ""
    return f"{terms[0]}{rows}b,{terms[1]}b{columns}->{names}{rows}{columns}", kept[0], kept[1]


def _matmul(function: str, x: Any, y: Any) -> Any:
    if not x.shape or not y.shape:
        raise shape_error(f"{function}: an operand is 0-d, {x.type} @ {y.type}; use * for products with scalars")
    plan = _matmul_spec(x.shape, y.shape)
    if plan is None:
        m, n = x.shape[-1], y.shape[0] if len(y.shape) == 1 else y.shape[-2]
        why = f"inner dimensions differ, {x.type} @ {y.type}: {m} is not {n}"
        if m == n:
            why = f"leading dimensions do not broadcast, {x.type} @ {y.type}"
        raise shape_error(f"{function}: {why}")
    spec, left, right = plan
    b = x.builder
    x = x if x.shape == left else b.reshape(x, shape=left)
    y = y if y.shape == right else b.reshape(y, shape=right)
    return _contracted(spec, x, y)


@gufunc(np.matmul)
def _matmul_ufunc(x: Any, y: Any) -> Any:
    return wrap_c(_matmul("matmul", *_operands("matmul", x, y)))


@implements(np.linalg.matmul)
def _linalg_matmul(x1: Any, x2: Any) -> Any:
    return _matmul_ufunc(x1, x2)


@gufunc(np.vecdot)
def _vecdot(x: Any, y: Any) -> Any:
    u, v = _operands("vecdot", x, y)
    return wrap_c(_vecdot_of(u, v))


def _vecdot_of(u: Any, v: Any) -> Any:
    if not u.shape or not v.shape or u.shape[-1] != v.shape[-1]:
        raise shape_error(f"vecdot: last dimensions differ, {u.type} and {v.type}")
    shape = (*broadcast_shapes("vecdot, without the last axis", u.shape[:-1], v.shape[:-1]), u.shape[-1])
    names = letters(len(shape))
    return _contracted(f"{names},{names}->{names[:-1]}", spread_to(u, shape), spread_to(v, shape))


@since(gufunc, "matvec")
def _matvec(x: Any, y: Any) -> Any:
    a, v = _operands("matvec", x, y)
    if len(a.shape) < 2 or not v.shape:
        raise shape_error(f"matvec: {a.type} is no matrix or {v.type} no vector")
    column = v.builder.reshape(v, shape=(*v.shape, 1))
    z = _matmul("matvec", a, column)
    return wrap_c(z.builder.reshape(z, shape=z.shape[:-1]))


@since(gufunc, "vecmat")
def _vecmat(x: Any, y: Any) -> Any:
    v, a = _operands("vecmat", x, y)
    if len(a.shape) < 2 or not v.shape:
        raise shape_error(f"vecmat: {v.type} is no vector or {a.type} no matrix")
    row = v.builder.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1]))
    z = _matmul("vecmat", row, a)
    return wrap_c(z.builder.reshape(z, shape=(*z.shape[:-2], z.shape[-1])))


@implements(np.linalg.vecdot)
def _linalg_vecdot(x1: Any, x2: Any, axis: Any = -1) -> Any:
    return _vecdot(move_axes(as_tracer(x1), axis, -1), move_axes(as_tracer(x2), axis, -1))


@implements(np.dot)
def _dot(a: Any, b: Any) -> Any:
    x, y = _operands("dot", a, b)
    if not x.shape or not y.shape:
        shape = x.shape or y.shape
        u, v = spread_to(x, shape), spread_to(y, shape)
        return wrap(u & v if u.dtype == BOOL else u * v)
    if len(y.shape) == 1 or (len(x.shape) <= 2 and len(y.shape) == 2):
        return wrap_c(_matmul("dot", x, y))
    # The sum over the last axis of x and the second to last of y; all other axes stand side by side.
    _check_inner("dot", x, y, x.shape[-1], y.shape[-2])
    left, right = _letters_of(x, y)
    inner = right[:-2] + left[-1] + right[-1]
    return wrap_c(_contracted(f"{left},{inner}->{left[:-1]}{right[:-2]}{right[-1]}", x, y))


def _letters_of(x: Any, y: Any) -> tuple[str, str]:
    """Letters for the axes of two operands, all different."""
    both = letters(len(x.shape) + len(y.shape))
    return both[: len(x.shape)], both[len(x.shape) :]


def _check_inner(function: str, x: Any, y: Any, m: int, n: int) -> None:
    if m != n:
        raise shape_error(f"{function}: inner dimensions differ, {x.type} and {y.type}: {m} is not {n}")


@implements(np.inner)
def _inner(a: Any, b: Any) -> Any:
    x, y = _operands("inner", a, b)
    if not x.shape or not y.shape:
        return _dot(a, b)
    _check_inner("inner", x, y, x.shape[-1], y.shape[-1])
    left, right = _letters_of(x, y)
    return wrap_c(_contracted(f"{left},{right[:-1]}{left[-1]}->{left[:-1]}{right[:-1]}", x, y))


@implements(np.vdot)
def _vdot(a: Any, b: Any) -> Any:
    x, y = (_flat(v) for v in _operands("vdot", a, b))
    _check_inner("vdot", x, y, x.shape[0], y.shape[0])
    return wrap_c(_contracted("a,a->", x, y))


def _flat(x: Any) -> Any:
    return x if len(x.shape) == 1 else x.builder.reshape(x, shape=(math.prod(x.shape),))


@implements(np.outer)
def _outer(a: Any, b: Any) -> Any:
    x, y = (_flat(v) for v in _operands("outer", a, b))
    return wrap_c(_contracted("a,b->ab", x, y))


@implements(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any) -> Any:
    if len(shape_of(x1)) != 1 or len(shape_of(x2)) != 1:
        raise shape_error(f"linalg.outer: operands are vectors, not of shapes {shape_of(x1)} and {shape_of(x2)}")
    return _outer(x1, x2)


@implements(np.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    x, y = _operands("tensordot", a, b)
    mine, theirs = _tensordot_axes(x, y, axes)
    if len(mine) != len(theirs) or any(x.shape[i] != y.shape[j] for i, j in zip(mine, theirs, strict=False)):
        raise shape_error(f"tensordot: axes {axes} of {x.type} and {y.type} do not fit each other")
    left, letters = _letters_of(x, y)
    right = list(letters)
    for i, j in zip(mine, theirs, strict=True):
        right[j] = left[i]
    result = "".join(c for i, c in enumerate(left) if i not in mine)
    result += "".join(c for j, c in enumerate(right) if j not in theirs)
    return wrap_c(_contracted(f"{left},{''.join(right)}->{result}", x, y))


def _tensordot_axes(x: Any, y: Any, axes: Any) -> tuple[list[int], list[int]]:
    if not isinstance(axes, Sequence | np.ndarray):
        n = static_int(axes, "tensordot", "axes")
        if n > min(len(x.shape), len(y.shape)):
            raise shape_error(f"tensordot: {n} axes of {x.type} and {y.type}")
        return list(range(len(x.shape) - n, len(x.shape))), list(range(n))
    first, second = axes
    firsts = first if isinstance(first, Sequence | np.ndarray) else [first]
    seconds = second if isinstance(second, Sequence | np.ndarray) else [second]
    return [normalize_axis(i, len(x.shape)) for i in firsts], [normalize_axis(i, len(y.shape)) for i in seconds]


@implements(np.linalg.tensordot)
def _linalg_tensordot(x1: Any, x2: Any, axes: Any = 2) -> Any:
    return _tensordot(x1, x2, axes)


@implements(np.einsum)
def _einsum(*operands: Any, optimize: Any = False, dtype: Any = None, casting: Any = "safe") -> Any:
    if not operands:
        raise trace_error("np.einsum: no operands are given", numpy_too=True)
    spec, arrays = (operands[0], operands[1:]) if isinstance(operands[0], str) else interleaved(operands)
    for x in arrays if dtype is not None else ():
        if not np.can_cast(dtype_of(x), np.dtype(dtype), casting):
            raise dtype_error(f"einsum: cannot cast {dtype_of(x)} to {np.dtype(dtype)} under the rule {casting!r}")
    values = _operands("einsum", *arrays, dtype=dtype)
    shapes = [x.shape for x in values]
    terms, result = parse(spec, shapes)
    sizes = sizes_of(terms, shapes)
    for letter in result:
        if letter not in sizes or result.count(letter) > 1:
            raise shape_error(f"einsum {spec!r}: the result's letter {letter!r} is no single letter of the operands")
    boolean = values[0].dtype == BOOL
    if boolean:
        values = [cast(x, I64) for x in values]
    y = contract_all(values[0].builder, terms, result, values, sizes, _path(terms, result, sizes))
    y = truth(y) if boolean else y
    # With one operand NumPy gives a view where nothing is summed.
    moved = len(values) == 1 and set(terms[0]) == set(result) and is_tracer(arrays[0])
    return maybe_view(wrap(y), arrays[0]) if moved else wrap(y)


def _path(terms: list[str], result: str, sizes: dict[str, int]) -> list[tuple[int, ...]]:
    """The order of pairwise contractions, as NumPy's greedy search finds it."""
    if len(terms) == 1:
        return []
    if len(terms) == 2:
        return [(0, 1)]
    return _search(tuple(terms), result, tuple(sorted(sizes.items())))


@functools.lru_cache(maxsize=256)
def _search(terms: tuple[str, ...], result: str, sizes: tuple[tuple[str, int], ...]) -> list[tuple[int, ...]]:
    known = dict(sizes)
    stand_ins = [np.broadcast_to(np.empty(()), tuple(known[c] for c in term)) for term in terms]
    path = np.einsum_path(f"{','.join(terms)}->{result}", *stand_ins, optimize="greedy")[0]
    return [tuple(int(i) for i in step) for step in path[1:]]


@implements(np.einsum_path)
def _einsum_path(*operands: Any, optimize: Any = "greedy", einsum_call: Any = False) -> Any:
    stand_ins: list[Any] = [np.broadcast_to(np.empty(()), shape_of(x)) if is_tracer(x) else x for x in operands]
    return np.einsum_path(*stand_ins, optimize=optimize)


@implements(np.kron)
def _kron(a: Any, b: Any) -> Any:
    x, y = _operands("kron", a, b)
    build = x.builder
    n = max(len(x.shape), len(y.shape))
    left, right = ((1,) * (n - len(v.shape)) + v.shape for v in (x, y))
    shape = tuple(m for pair in zip(left, right, strict=True) for m in pair)
    u = spread_to(build.reshape(x, shape=tuple(m for k in left for m in (k, 1))), shape)
    v = spread_to(build.reshape(y, shape=tuple(m for k in right for m in (1, k))), shape)
    z = u & v if u.dtype == BOOL else u * v
    return wrap(build.reshape(z, shape=tuple(k * m for k, m in zip(left, right, strict=True))))


@implements(np.trace)
def _trace(a: Any, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None) -> Any:
    x = value(a)
    n = len(x.shape)
    first, second = normalize_axis(axis1, n), normalize_axis(axis2, n)
    if n < 2 or first == second:
        raise shape_error(f"trace: axes {axis1} and {axis2} of {x.type} are no matrix")
    x = cast(x, sum_dtype(x.dtype) if dtype is None else make_dtype("trace", dtype))
    d = diagonal(x.builder, x, static_int(offset, "trace", "offset"), first, second)
    return wrap(reduced("any" if d.dtype == BOOL else "sum", d, (len(d.shape) - 1,)))


@implements(np.linalg.trace)
def _linalg_trace(x: Any, offset: Any = 0, dtype: Any = None) -> Any:
    return _trace(x, offset, -2, -1, dtype)


@implements(np.cross)
def _cross(a: Any, b: Any, axisa: Any = -1, axisb: Any = -1, axisc: Any = -1, axis: Any = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = (move_axes(as_tracer(v), i, -1) for v, i in ((a, axisa), (b, axisb)))
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise shape_error(f"cross: vectors have 2 or 3 components, not {x.shape[-1]} and {y.shape[-1]}")
    if x.shape[-1] == y.shape[-1] == 2:
        return x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]
    u, v = (_components(w) for w in (x, y))
    parts = [_minor(u, v, 1, 2), _minor(u, v, 2, 0), _minor(u, v, 0, 1)]
    shape = broadcast_shapes("cross, without the axis of components", x.shape[:-1], y.shape[:-1])
    return move_axes(np.stack([np.broadcast_to(part, shape) for part in parts], axis=-1), -1, axisc)


def _components(x: Any) -> list[Any]:
    """Three components; None for the third one of a plane vector."""
    return [x[..., i] if i < x.shape[-1] else None for i in range(3)]


def _minor(u: list[Any], v: list[Any], i: int, j: int) -> Any:
    first = u[i] * v[j] if u[i] is not None and v[j] is not None else None
    second = u[j] * v[i] if u[j] is not None and v[i] is not None else None
    if second is None:
        return first
    return -second if first is None else first - second


@implements(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, axis: Any = -1) -> Any:
    return _cross(x1, x2, axis=axis)


@implements(np.linalg.multi_dot)
def _multi_dot(arrays: Any) -> Any:
    items = _operands("multi_dot", *arrays)
    if len(items) < 2:
        raise shape_error("multi_dot: expecting at least two arrays")
    b = items[0].builder
    first, last = len(items[0].shape) == 1, len(items[-1].shape) == 1
    if first:
        items[0] = b.reshape(items[0], shape=(1, *items[0].shape))
    if last:
        items[-1] = b.reshape(items[-1], shape=(*items[-1].shape, 1))
    if any(len(x.shape) != 2 for x in items):
        raise shape_error("multi_dot: operands are matrices; the first and the last may be vectors")
    for i, j in chain_order([(x.shape[0], x.shape[1]) for x in items]):
        items.append(_matmul("multi_dot", items[i], items[j]))
    y = items[-1]
    return wrap_c(b.reshape(y, shape=(() if first else y.shape[:1]) + (() if last else y.shape[1:])))


@implements(np.linalg.matrix_power)
def _matrix_power(a: Any, n: Any) -> Any:
    x = value(a)
    power = static_int(n, "matrix_power", "n")
    if len(x.shape) < 2 or x.shape[-1] != x.shape[-2]:
        raise shape_error(f"matrix_power: {x.type} is not square")
    if power < 0:
        x, power = inverse("matrix_power", matrices("matrix_power", a)), -power
        if power == 1:
            return wrap_c(x)
    if power == 1:
        return as_tracer(a)
    if power == 0:
        return as_tracer(np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape))
    if power == 1:
        # NumPy gives the array itself.
        return as_tracer(a)
    result: Any = None
    while power:
        if power % 2:
            result = x if result is None else _matmul("matrix_power", result, x)
        power //= 2
        x = _matmul("matrix_power", x, x) if power else x
    return wrap_c(result)


def _float(x: Any) -> Any:
    return x if x.dtype.kind == "f" else cast(x, F64)


def _length(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The root of the sum of squares, without overflow or underflow in the squares: those of float32 are summed in
    float64; float64 is summed once more, times a power of two where the first sum was infinite or tiny."""
    b = x.builder
    if x.dtype == F32:
        wide = cast(x, F64)
        return cast(root_of_squares(reduced("sum", wide * wide, axes, keepdims)), F32)
    total = b.stop_gradient(reduced("sum", x * x, axes, True))
    huge, tiny = total.eq(math.inf), total < 2.0**-900
    down = b.select(huge, b.full(2.0**-600, total), b.select(tiny, b.full(2.0**600, total), 1.0))
    u = x * spread_to(down, x.shape)
    root = root_of_squares(reduced("sum", u * u, axes, True)) / down
    return root if keepdims else _without(root, axes)


def _without(x: Any, axes: tuple[int, ...]) -> Any:
    return x.builder.reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _powers(x: Any, axes: tuple[int, ...], keepdims: bool, order: float) -> Any:
    """The root of a sum of powers, of elements divided by the largest one, unless that is 0 or infinite."""
    b = x.builder
    if not x.node.array_type.size:
        return reduced("sum", x, axes, keepdims)
    size = b.abs(x)
    largest = b.stop_gradient(extremum("max" if order > 0 else "min", size, axes, True))
    largest = b.select((largest > 0.0) & (largest < math.inf), largest, 1.0)
    total = reduced("sum", b.pow(size / spread_to(largest, x.shape), b.full(order, x)), axes, True)
    root = b.select(total.eq(0.0), 0.0, b.pow(total, b.full(1 / order, total))) * largest
    return root if keepdims else _without(root, axes)


def _vector_norm(x: Any, axes: tuple[int, ...], keepdims: bool, order: Any) -> Any:
    b = x.builder
    if order in (None, 2):
        return _length(x, axes, keepdims) if axes else b.abs(x)
    if order == math.inf:
        return extremum("max", b.abs(x), axes, keepdims)
    if order == -math.inf:
        return extremum("min", b.abs(x), axes, keepdims)
    if order == 0:
        return reduced("sum", cast(truth(x), x.dtype), axes, keepdims)
    if order == 1:
        return reduced("sum", b.abs(x), axes, keepdims)
    if isinstance(order, str) or is_tracer(order):
        raise trace_error(f"np.linalg.norm: ord={order!r} is not supported for vectors on traced arrays")
    return _powers(x, axes, keepdims, order)


def _matrix_norm(x: Any, axes: tuple[int, int], keepdims: bool, order: Any) -> Any:
    b = x.builder
    both = tuple(sorted(axes))
    if order in (None, "fro", "f"):
        return _length(x, both, keepdims)
    if order in (1, -1, math.inf, -math.inf):
        summed, other = (axes[0], axes[1]) if abs(order) == 1 else (axes[1], axes[0])
        sums = reduced("sum", b.abs(x), (summed,), True)
        y = extremum("max" if order > 0 else "min", sums, (other,), True)
        return y if keepdims else _without(y, both)
    if order not in (2, -2, "nuc"):
        raise trace_error(f"np.linalg.norm: ord={order!r} is no norm of a matrix", numpy_too=True)
    s = singular_values("norm", rectangular("norm", wrap(_with_last(x, axes))))
    last = (len(s.shape) - 1,)
    y = reduced("sum", s, last, False) if order == "nuc" else extremum("max" if order == 2 else "min", s, last, False)
    return b.reshape(y, shape=tuple(1 if i in both else n for i, n in enumerate(x.shape))) if keepdims else y


def _with_last(x: Any, axes: tuple[int, int]) -> Any:
    """With these axes last."""
    order = (*(i for i in range(len(x.shape)) if i not in axes), *axes)
    return x.builder.transpose(x, axes=order)


@implements(np.linalg.norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    v = _float(value(x))
    kept = bool(keepdims)
    n = len(v.shape)
    if axis is None and (ord is None or n == 1):
        return wrap(_vector_norm(v, tuple(range(n)), kept, ord))
    if axis is None and n != 2:
        raise shape_error(f"norm: ord={ord!r} of {v.type} needs `axis`")
    axes = (
        tuple(normalize_axis(i, n) for i in (axis if isinstance(axis, tuple | list) else (axis,)))
        if axis is not None
        else (0, 1)
    )
    if len(axes) == 1:
        return wrap(_vector_norm(v, axes, kept, ord))
    if len(axes) != 2 or axes[0] == axes[1]:
        raise shape_error(f"norm: axis {axis} is neither one axis nor two")
    return wrap(_matrix_norm(v, (axes[0], axes[1]), kept, ord))


@implements(np.linalg.vector_norm)
def _linalg_vector_norm(x: Any, axis: Any = None, keepdims: Any = False, ord: Any = 2) -> Any:
    v = _float(value(x))
    return wrap(_vector_norm(v, normalize_axes(axis, len(v.shape)), bool(keepdims), ord))


@implements(np.linalg.matrix_norm)
def _linalg_matrix_norm(x: Any, keepdims: Any = False, ord: Any = "fro") -> Any:
    v = _float(value(x))
    n = len(v.shape)
    if n < 2:
        raise shape_error(f"matrix_norm: {v.type} is no matrix")
    return wrap(_matrix_norm(v, (n - 2, n - 1), bool(keepdims), ord))
