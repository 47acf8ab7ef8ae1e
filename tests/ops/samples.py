"""Sample calls of every op: operands, attributes, and NumPy's meaning written down independently of the declaration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import adjit.ops  # noqa: F401  # fills the registry
from adjit.ir.builder import Builder
from adjit.ir.graph import Graph
from adjit.ir.op import OPS, Op
from adjit.ir.subscripts import Subscripts
from adjit.ir.types import Array
from adjit.ops.declare import Elementwise
from adjit_runtime.errors import DTypeError

DTYPES = [np.dtype(name) for name in ("float32", "float64", "int32", "int64", "uint8", "uint64", "bool")]
FLOATS, INTEGERS = DTYPES[:2], DTYPES[2:6]
SHAPES = [(), (0,), (1,), (17,), (3, 37), (2, 1, 5)]
F64, I64 = np.dtype(np.float64), np.dtype(np.int64)

FACTORING = frozenset(op.name for op in OPS.values() if op.kind == "factoring")
STRUCTURAL = frozenset({"input", "constant", "item", "tiled", "scan", "call", "after"}) | FACTORING
"""They stand for a graph's own structure; `tiled` is tested with the pass that makes it, `scan` in test_loops,
`call` in tests/autodiff/test_custom_rules, `after`, which orders kernels, in tests/schedule/test_limit; what works on
whole matrices, and takes what others give, is in test_factoring."""


@dataclass(frozen=True)
class Case:
    """One call of an op."""

    op: str
    arrays: tuple[np.ndarray, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        types = ",".join(f"{a.dtype.name}{list(a.shape)}" for a in self.arrays)
        return f"{self.op}({types}){self.attrs or ''}"


def graph_of(cases: list[Case]) -> Graph:
    """All cases side by side in one graph; the inputs of one after those of the other."""
    b = Builder()
    outputs = []
    for i, case in enumerate(cases):
        nodes = [b.input(f"x{i}_{j}", Array(a.dtype, a.shape)) for j, a in enumerate(case.arrays)]
        outputs.append(b.emit(case.op, *nodes, **case.attrs))
    return b.graph("cases", outputs)


def domain_of(op: Elementwise, number: int) -> tuple[float, float]:
    domain = op.domain[number] if isinstance(op.domain[0], tuple) else op.domain
    return domain  # type: ignore[return-value]


def draw(op: Elementwise, number: int, dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Operand `number` of an elementwise op, from its domain where it is float."""
    rng = np.random.default_rng((seed, number, len(shape)))
    if dtype.kind == "f":
        return np.asarray(rng.uniform(*domain_of(op, number), shape), dtype=dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), dtype=bool)
    # A count of bits, and an exponent, is not negative; what happens elsewhere is among the edges.
    low, high = {"shift_left": (0, 8), "shift_right": (0, 8), "pow": (0, 6)}.get(op.name, (-20, 21))
    if number == 0:
        low, high = -20, 21
    return np.asarray(rng.integers(0 if dtype.kind == "u" else low, high, shape), dtype=dtype)


EDGES = {
    "f": [
        0.0,
        -0.0,
        1.0,
        -1.0,
        np.inf,
        -np.inf,
        np.nan,
        0.5,
        2.5,
        -2.5,
        3e38,
        -3e38,
        16777217.0,
        1e19,
        300.0,
        -2147483649.0,
    ],
    "i": [0, 1, -1, 2, -2, 7, -7, 31, 32, 33, 63, 64, 65, -64],
    "u": [0, 1, 2, 7, 31, 32, 63, 64, 255],
    "b": [False, True],
}


def edges(dtype: np.dtype) -> list[Any]:
    """Values at which something special happens."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return [v for v in EDGES[dtype.kind] if limits.min <= v <= limits.max] + [
            limits.min,
            limits.max,
            limits.max - 1,
        ]
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        tiny = [limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, limits.tiny / 3]
        return EDGES["f"] + tiny + [limits.max, -limits.max]
    return EDGES[dtype.kind]


def takes(op: Elementwise, dtype: np.dtype) -> bool:
    try:
        op.infer((Array(dtype, ()),) * (op.arity or 1), {})
    except DTypeError:
        return False
    return True


CASTS = [(a, b) for a in DTYPES for b in DTYPES]


def elementwise_cases(op: Elementwise) -> Iterator[Case]:
    """Every dtype at every shape, then all pairs of edge values."""
    if op.name == "cast":
        for a, b in CASTS:
            for shape in ((), (0,), (17,)):
                yield Case(
                    "cast", (draw(op, 0, a, shape, 1) * 3 if a.kind == "f" else draw(op, 0, a, shape, 1),), {"dtype": b}
                )
            yield Case("cast", (np.array(edges(a), dtype=a),), {"dtype": b})
        return
    if op.name == "random_bits":
        for shape in SHAPES:
            n = math.prod(shape)
            yield Case("random_bits", (np.full(shape, -7 * n), (np.arange(n) * 2**33 + 5).reshape(shape)))
        return
    for dtype in DTYPES:
        if op.name == "select":
            for shape in SHAPES:
                condition = draw(op, 0, np.dtype(bool), shape, 2)
                yield Case("select", (condition, draw(op, 1, dtype, shape, 3), draw(op, 2, dtype, shape, 4)))
            continue
        if not takes(op, dtype):
            continue
        arity = op.arity or 1
        for shape in SHAPES:
            yield Case(op.name, tuple(draw(op, i, dtype, shape, 5) for i in range(arity)))
        special = np.array(edges(dtype), dtype=dtype)
        grid = np.meshgrid(*[special] * arity, indexing="ij")
        arrays = tuple(g.ravel() for g in grid)
        if op.name == "pow" and dtype.kind == "i":
            keep = arrays[1] >= 0
            arrays = tuple(a[keep] for a in arrays)
        yield Case(op.name, arrays)


def values(shape: tuple[int, ...], dtype: Any = F64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, *shape))
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.asarray(rng.normal(size=shape), dtype=dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape), dtype=bool)
    return np.asarray(rng.integers(0 if dtype.kind == "u" else -9, 10, shape), dtype=dtype)


SPECS = [
    ("ik,kj->ij", (3, 5), (5, 4)), ("ik,kj->ij", (37, 17), (17, 33)), ("ki,kj->ij", (17, 5), (17, 9)),
    ("ik,jk->ij", (7, 17), (5, 17)), ("ik,k->i", (5, 17), (17,)), ("i,j->ij", (5,), (17,)), ("i,i->", (17,), (17,)),
    ("bik,bkj->bij", (3, 4, 5), (3, 5, 6)), ("ijk,kjl->il", (3, 4, 5), (5, 4, 7)), ("ik,kj->ji", (3, 5), (5, 4)),
    ("ij,ij->ij", (3, 5), (3, 5)), ("ik,kj->ij", (0, 5), (5, 4)), ("ik,kj->ij", (3, 0), (0, 4)),
    ("ik,kj->ij", (1, 1), (1, 1)), ("abc,cd->abd", (2, 3, 17), (17, 40)), ("ba,bac->bc", (3, 17), (3, 17, 5)),
]  # fmt: skip

SHAPED: dict[str, list[tuple[tuple[int, ...], dict[str, Any]]]] = {
    "reshape": [
        ((3, 4), {"shape": (2, 6)}),
        ((12,), {"shape": (3, 1, 4)}),
        ((0, 3), {"shape": (3, 0)}),
        ((1,), {"shape": ()}),
    ],
    "transpose": [
        ((3, 4, 5), {"axes": (2, 0, 1)}),
        ((17, 37), {"axes": (1, 0)}),
        ((0, 3), {"axes": (1, 0)}),
        ((), {"axes": ()}),
    ],
    "broadcast": [
        ((3,), {"shape": (2, 3, 4), "axes": (1,)}),
        ((), {"shape": (17,), "axes": ()}),
        ((5,), {"shape": (0, 5), "axes": (1,)}),
        ((2, 3), {"shape": (2, 5, 3), "axes": (0, 2)}),
    ],
    "slice": [
        ((17,), {"start": (2,), "stop": (15,), "step": (3,)}),
        ((5, 7), {"start": (1, 0), "stop": (4, 7), "step": (1, 2)}),
        ((5,), {"start": (3,), "stop": (3,), "step": (1,)}),
        ((3, 4), {"start": (0, 1), "stop": (3, 2), "step": (2, 1)}),
    ],
    "pad": [
        ((3, 4), {"low": (1, 0), "high": (0, 2), "interior": (0, 0), "value": 2}),
        ((5,), {"low": (1,), "high": (2,), "interior": (2,), "value": 0}),
        ((0,), {"low": (2,), "high": (1,), "interior": (0,), "value": 1}),
        ((17, 3), {"low": (0, 3), "high": (0, 0), "interior": (1, 0), "value": 0}),
    ],
    "windows": [
        ((9,), {"axes": (0,), "size": (3,), "step": (1,), "dilation": (1,)}),
        ((2, 11), {"axes": (1,), "size": (3,), "step": (2,), "dilation": (2,)}),
        ((4, 5), {"axes": (0, 1), "size": (3, 2), "step": (1, 2), "dilation": (1, 1)}),
        ((2,), {"axes": (0,), "size": (3,), "step": (1,), "dilation": (1,)}),
        ((6, 2), {"axes": (0,), "size": (1,), "step": (4,), "dilation": (5,)}),
    ],
    "add_windows": [
        ((7, 3), {"axes": (0,), "extents": (9,), "step": (1,), "dilation": (1,)}),
        ((2, 4, 3), {"axes": (1,), "extents": (11,), "step": (2,), "dilation": (2,)}),
        ((2, 2, 3, 2), {"axes": (0, 1), "extents": (4, 5), "step": (1, 2), "dilation": (1, 1)}),
        ((0, 3), {"axes": (0,), "extents": (2,), "step": (1,), "dilation": (1,)}),
        ((2, 2, 1), {"axes": (0,), "extents": (8,), "step": (4,), "dilation": (5,)}),
        ((10, 41), {"axes": (0,), "extents": (50,), "step": (1,), "dilation": (1,)}),
        ((3, 37), {"axes": (0,), "extents": (80,), "step": (3,), "dilation": (2,)}),
    ],
    "flip": [((17,), {"axes": (0,)}), ((3, 4, 5), {"axes": (0, 2)}), ((0, 3), {"axes": (1,)}), ((1,), {"axes": (0,)})],
    "sum": [
        ((3, 5), {"axes": (0,)}),
        ((3, 37), {"axes": (1,)}),
        ((2, 3, 4), {"axes": (0, 2)}),
        ((0, 3), {"axes": (0,)}),
        ((3, 0), {"axes": (0,)}),
        ((5000,), {"axes": (0,)}),
        ((), {"axes": ()}),
        ((100, 40), {"axes": (0, 1)}),
        ((9, 37), {"axes": (1,)}),
    ],
    "cumsum": [
        ((17,), {"axis": 0, "reverse": False}),
        ((3, 5), {"axis": 1, "reverse": True}),
        ((40, 3), {"axis": 0, "reverse": False}),
        ((0, 2), {"axis": 0, "reverse": False}),
    ],
    "argmax": [
        ((17,), {"axis": 0}),
        ((3, 37), {"axis": 1}),
        ((5, 4), {"axis": 0}),
        ((3, 1), {"axis": 1}),
        ((9, 37), {"axis": 1}),
    ],
}
SHAPED["prod"] = [case for case in SHAPED["sum"] if case[0] not in ((5000,), (100, 40))]
SHAPED["max"] = SHAPED["min"] = [case for case in SHAPED["sum"] if case[0] != (0, 3)]
SHAPED["any"] = SHAPED["all"] = SHAPED["sum"]
SHAPED["sort"] = SHAPED["argsort"] = [
    ((17,), {"axis": 0}),
    ((3, 5), {"axis": 1}),
    ((40, 3), {"axis": 0}),
    ((2, 4, 9), {"axis": 1}),
    ((0, 2), {"axis": 0}),
    ((2, 300), {"axis": 1}),
]
SHAPED["cumprod"], SHAPED["argmin"] = SHAPED["cumsum"], SHAPED["argmax"]


def other_cases(op: Op) -> Iterator[Case]:
    """Ops of the other kinds, from the tables above."""
    if op.name == "contract":
        for dtype in (d for d in DTYPES if d.kind != "b"):
            for spec, left, right in SPECS:
                yield Case("contract", (values(left, dtype, 1), values(right, dtype, 2)), {"spec": Subscripts.of(spec)})
        return
    if op.name == "iota":
        for dtype in (d for d in DTYPES if d.kind != "b"):
            for shape, axis in (((17,), 0), ((3, 5), 1), ((3, 5), 0), ((0,), 0)):
                yield Case("iota", (), {"shape": shape, "axis": axis, "dtype": dtype})
        return
    if op.name == "concatenate":
        for dtype in DTYPES:
            for shapes, axis in ([((3,), (4,)), 0], [((2, 3), (2, 5), (2, 1)), 1], [((1, 3), (0, 3), (4, 3)), 0]):
                yield Case("concatenate", tuple(values(s, dtype, i) for i, s in enumerate(shapes)), {"axis": axis})
        return
    if op.name == "check_index":
        for dtype in INTEGERS:
            for shape in ((), (0,), (17,), (3, 5)):
                index = np.abs(values(shape, np.int64)) % 7
                index = index - (7 * (index > 3) if dtype.kind == "i" else 0)
                yield Case("check_index", (index.astype(dtype),), {"size": 7, "axis": 0})
        return
    if op.name == "check_fits":
        for dtype in INTEGERS:
            yield Case("check_fits", (np.array(7),), {"dtype": dtype})
        return
    if op.name == "check_holds":
        for dtype in INTEGERS:
            for shape in ((), (0,), (17,)):
                yield Case(
                    op.name, (values(shape, dtype), np.array(True)), {"error": "DomainError", "text": "a {text}"}
                )
        return
    if op.name in ("take", "scatter", "scatter_add"):
        yield from indexing_cases(op.name)
        return
    for shape, attrs in SHAPED[op.name]:
        for dtype in DTYPES:
            truth = op.name in ("any", "all")
            counts = op.kind in ("reduction", "argreduction", "running", "overlap")
            if truth != (dtype.kind == "b") and counts:
                continue
            if op.kind == "sorting" and dtype.itemsize < 4:
                continue
            attributes = dict(attrs)
            if "value" in attributes:
                attributes["value"] = dtype.type(attributes["value"]).item()
            yield Case(op.name, (values(shape, dtype, 3),), attributes)


INDEXED: list[tuple[tuple[int, ...], int, Any]] = [
    ((7,), 0, (3, 0, 6)),
    ((5, 37), 0, (1, 1, 4)),
    ((3, 9, 2), 1, ((0, 8), (2, 2))),
    ((4, 3), 0, ()),
    ((3, 6), 1, 2),
]


BATCHED: list[tuple[tuple[int, ...], int, int, Any]] = [
    ((2, 5), 1, 1, ((0, 4, 4), (2, 1, 0))),
    ((3, 6), 1, 1, (5, 0, 5)),
    ((2, 3, 4, 5), 2, 1, (((0, 3), (1, 1)), ((2, 2), (3, 0)))),
    ((2, 2, 3), 2, 2, (((0,), (2,)), ((1,), (1,)))),
    ((2, 17, 3), 1, 1, ((16, 3), (0, 0))),
    ((0, 3), 1, 1, ()),
]
"""Shape, axis, axes that operand and index share, the index."""


def indexing_cases(name: str) -> Iterator[Case]:
    for dtype in DTYPES:
        if name == "scatter_add" and dtype.kind == "b":
            continue
        for shape, axis, batch, index in [*((shape, axis, 0, index) for shape, axis, index in INDEXED), *BATCHED]:
            at = np.array(index, dtype=np.int64)
            if 0 in shape:
                at = at.reshape(*shape[:batch], 4)
            x = values(shape, dtype, 4)
            attrs = {"axis": axis, "batch": batch} if batch else {"axis": axis}
            if name == "take":
                yield Case("take", (x, at), attrs)
            else:
                update = values(shape[:axis] + at.shape[batch:] + shape[axis + 1 :], dtype, 5)
                yield Case(name, (x, at, update), attrs)


def cases_of(name: str) -> list[Case]:
    op = OPS[name]
    return list(elementwise_cases(op) if isinstance(op, Elementwise) else other_cases(op))


def assert_close(found: np.ndarray, wanted: np.ndarray, case: Case, ulps: float) -> None:
    """Equal, zeros with their sign, or for floats within `ulps` units in the last place.

    Sums are taken in another order than NumPy's, so there the unit is that of the largest result.
    """
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), case
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, str(case))
        return
    with np.errstate(all="ignore"):
        distance = np.abs(found.astype(np.longdouble) - wanted.astype(np.longdouble))
        unit = np.spacing(np.abs(wanted))
        if OPS[case.op].kind in SUMMED:
            unit = np.maximum(unit, np.finfo(wanted.dtype).eps * np.max(np.abs(wanted), initial=0.0))
        near = distance <= ulps * unit
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    if isinstance(OPS[case.op], Elementwise):
        same &= (found != 0) | (np.signbit(found) == np.signbit(wanted))
    good = same | (near & (found != wanted))
    operands = [a[~good][:3] for a in case.arrays if a.shape == good.shape]
    assert good.all(), (str(case), found[~good][:3], wanted[~good][:3], operands)


SUMMED = ("reduction", "contraction", "running", "overlap")


def tolerance(case: Case) -> float:
    """In units of the last place, against the evaluator."""
    op = OPS[case.op]
    if isinstance(op, Elementwise):
        # Arithmetic, rounding and remainders are exact; a function has 2 ULP of its own, and NumPy's SIMD loops about
        # as many.
        exact = op.cost <= 6 or op.name in ("fmod", "remainder", "floor_divide")
        return 0.0 if exact else 4.0
    return 64.0 if op.kind in SUMMED else 0.0


COMPUTED = [name for name in OPS if name not in STRUCTURAL]


def _windows(x: np.ndarray, axes: Any, size: Any, step: Any, dilation: Any) -> np.ndarray:
    """Element by element of the window."""
    places = []
    counts = [
        max((x.shape[a] - (k - 1) * d - 1) // s + 1, 0) for a, k, s, d in zip(axes, size, step, dilation, strict=True)
    ]
    for place in np.ndindex(*size):
        part = x
        for axis, j, n, s, d in zip(axes, place, counts, step, dilation, strict=True):
            part = np.take(part, j * d + s * np.arange(n), axis)
        places.append(part)
    return np.stack(places, -1).reshape((*places[0].shape, *size))


def _add_windows(g: np.ndarray, axes: Any, extents: Any, step: Any, dilation: Any) -> np.ndarray:
    """As the transpose of the matrix that reads windows."""
    shape = list(g.shape[: g.ndim - len(axes)])
    for axis, n in zip(axes, extents, strict=True):
        shape[axis] = n
    numbers = np.arange(math.prod(shape)).reshape(shape)
    read = _windows(numbers, axes, g.shape[g.ndim - len(axes) :], step, dilation)
    total = np.zeros(math.prod(shape), g.dtype)
    np.add.at(total, read.ravel(), g.ravel())
    return total.reshape(shape)


def _padded(x: np.ndarray, low: Any, high: Any, interior: Any, value: Any) -> np.ndarray:
    shape = [lo + hi + max(n + (n - 1) * gap, 0) for n, lo, hi, gap in zip(x.shape, low, high, interior, strict=True)]
    result = np.full(shape, value, x.dtype)
    at = tuple(
        slice(lo, lo + n + max(n - 1, 0) * gap, gap + 1) for n, lo, gap in zip(x.shape, low, interior, strict=True)
    )
    result[at] = x
    return result


def _spread(x: np.ndarray, shape: Any, axes: Any) -> np.ndarray:
    places = [x.shape[axes.index(i)] if i in axes else 1 for i in range(len(shape))]
    return np.broadcast_to(x.reshape(places), shape)


def _by_entry(function: Any, *arrays: Any, axis: int, batch: int = 0) -> Any:
    """The function of each entry along the first `batch` axes, which all arrays share."""
    if batch == 0:
        return function(*arrays, axis=axis)
    entries = [_by_entry(function, *parts, axis=axis - 1, batch=batch - 1) for parts in zip(*arrays, strict=True)]
    if entries:
        return np.stack(entries)
    x, i = arrays[:2]
    shape = x.shape if len(arrays) > 2 else (*x.shape[:axis], *i.shape[batch:], *x.shape[axis + 1 :])
    return np.empty(shape, x.dtype)


def _scattered(x: np.ndarray, index: np.ndarray, update: np.ndarray, axis: int, add: bool) -> np.ndarray:
    result = np.moveaxis(x.copy(), axis, 0)
    moved = np.moveaxis(update, tuple(range(axis, axis + index.ndim)), tuple(range(index.ndim)))
    for at in np.ndindex(*index.shape):
        if add:
            result[index[at]] += moved[at]
        else:
            result[index[at]] = moved[at]
    return np.moveaxis(result, 0, axis)


def _running(f: Any, x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    turned = np.flip(x, axis) if reverse else x
    result = f(turned, axis=axis, dtype=x.dtype)
    return np.flip(result, axis) if reverse else result


MEANING: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "neg": np.negative, "abs": np.abs,
    "sign": np.sign, "maximum": np.maximum, "minimum": np.minimum, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "fmod": np.fmod, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "not": np.invert, "shift_left": np.left_shift, "shift_right": np.right_shift, "isnan": np.isnan,
    "isfinite": np.isfinite, "signbit": np.signbit, "copysign": np.copysign, "stop_gradient": lambda x: x,
    "select": np.where, "cast": lambda x, dtype: x.astype(dtype), "pow": np.power, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "rint": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x))),
    "erf": np.vectorize(math.erf, otypes=[float]), "contract": lambda x, y, spec: np.einsum(str(spec), x, y),
    "reshape": lambda x, shape: x.reshape(shape), "transpose": lambda x, axes: x.transpose(axes), "broadcast": _spread,
    "slice": lambda x, start, stop, step: x[tuple(map(slice, start, stop, step))], "pad": _padded,
    "windows": _windows, "add_windows": _add_windows,
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis), "flip": lambda x, axes: np.flip(x, axes),
    "iota": lambda shape, axis, dtype: np.indices(shape)[axis].astype(dtype),
    "sum": lambda x, axes: np.sum(x, axes, x.dtype), "prod": lambda x, axes: np.prod(x, axes, x.dtype),
    "max": lambda x, axes: np.max(x, axes), "min": lambda x, axes: np.min(x, axes),
    "any": lambda x, axes: np.any(x, axes),
    "all": lambda x, axes: np.all(x, axes),
    "argmax": np.argmax, "argmin": np.argmin, "cumsum": lambda x, axis, reverse: _running(np.cumsum, x, axis, reverse),
    "cumprod": lambda x, axis, reverse: _running(np.cumprod, x, axis, reverse),
    "take": lambda x, i, **attrs: _by_entry(np.take, x, i, **attrs),
    "scatter": lambda *xs, **attrs: _by_entry(lambda x, i, u, axis: _scattered(x, i, u, axis, False), *xs, **attrs),
    "scatter_add": lambda *xs, **attrs: _by_entry(lambda x, i, u, axis: _scattered(x, i, u, axis, True), *xs, **attrs),
    "check_index": lambda x, size, axis: np.arange(size)[x], "check_fits": lambda x, dtype: x.astype(dtype),
    "check_holds": lambda x, holds, error, text: x, "sort": np.sort,
    "argsort": lambda x, axis: np.apply_along_axis(
        lambda row: np.array(sorted(range(len(row)), key=row.__getitem__), np.int64), axis, x
    ) if x.size else np.zeros(x.shape, np.int64),
}  # fmt: skip
SAME_NAME = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "arcsin", "arccos",
    "arctan", "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
]  # fmt: skip
MEANING.update((name, getattr(np, name)) for name in SAME_NAME)
