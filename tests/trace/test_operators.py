"""Python's operators on tracers: NumPy's values and dtypes on arrays, Python's between weak values."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjit.trace
from adjit.ir.types import BOOL, F32, F64, I32, I64, U8, Array, dtype_name
from adjit_runtime.errors import DTypeError, ShapeError, TraceError, WeakOverflowError, WideningWarning
from tests.trace.check import floats, graph_of, integers, run, same, trace_of

DTYPES = (BOOL, U8, I32, I64, F32, F64)
BINARY = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
    operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, operator.and_, operator.or_,
    operator.xor, operator.lshift, operator.rshift, divmod,
)  # fmt: skip
UNARY = (operator.neg, operator.pos, operator.abs, operator.invert)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, np.inf, -np.inf, np.nan, 1e-30, 7.0, -7.0])


def sample(dtype: np.dtype, seed: int) -> np.ndarray:
    """Values of a dtype, the awkward ones too."""
    if dtype.kind == "f":
        return np.random.default_rng(seed).permutation(SPECIAL).astype(dtype)
    if dtype.kind == "b":
        return integers(12, low=0, high=2, seed=seed).astype(dtype)
    low = 0 if dtype.kind == "u" else -7
    return integers(12, low=low, high=8, seed=seed).astype(dtype)


def unsupported(call: Callable[[], Any]) -> bool:
    """Whether NumPy refuses the operands, or gives a dtype that no machine code exists for."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = call()
    except (TypeError, ValueError):
        return True
    results = results if isinstance(results, tuple) else (results,)
    return any(np.asarray(r).dtype.name in ("int8", "float16", "int16") for r in results)


def awkward(function: Any, y: np.ndarray) -> np.ndarray:
    """Operands without a negative power of an integer, and without shifts by a negative number."""
    if function in (operator.pow, operator.lshift, operator.rshift) and y.dtype.kind in "iu":
        return np.abs(y)
    return y


@pytest.mark.parametrize("left", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("right", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore::adjit_runtime.errors.WideningWarning")
def test_binary(function: Callable[..., Any], left: np.dtype, right: np.dtype) -> None:
    x, y = sample(left, 1), awkward(function, sample(right, 2))
    if unsupported(lambda: function(x, y)):
        with pytest.raises(DTypeError, match=r"test_operators\.py:"):
            run(lambda x, y: function(x, y), x, y)
        return
    if function is operator.pow and np.result_type(x, y).kind == "f":
        # The meaning of `pow` is np.power; the short cuts for some exponents are not taken here.
        same(lambda x, y: function(x, y), x, y, exact=False)
        return
    same(lambda x, y: function(x, y), x, y)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("function", UNARY, ids=lambda f: f.__name__)
def test_unary(function: Callable[..., Any], dtype: np.dtype) -> None:
    x = sample(dtype, 3)
    if unsupported(lambda: function(x)):
        with pytest.raises(DTypeError, match=r"test_operators\.py:"):
            run(lambda x: function(x), x)
        return
    same(lambda x: function(x), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("function", BINARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "number", [2, 3.5, True, np.float32(1.5), np.float64(2.5), np.int64(3), np.array([2.0])], ids=repr
)
@pytest.mark.filterwarnings("ignore::adjit_runtime.errors.WideningWarning")
def test_beside_numbers(function: Callable[..., Any], dtype: np.dtype, number: Any) -> None:
    if function is operator.pow and dtype == BOOL:
        # The operator takes np.square for 2, whose int8 no machine code exists for.
        function = np.power
    x = np.abs(sample(dtype, 4)) if dtype != BOOL else sample(dtype, 4)
    for call in (lambda x: function(x, number), lambda x: function(number, x)):
        if unsupported(lambda call=call: call(x)):
            with pytest.raises(DTypeError):
                run(call, x)
        else:
            same(call, x, exact=function not in (operator.pow, np.power))


@pytest.mark.parametrize("exponent", [2, 1, 0.5, -1, 0, 3, -2, 2.0])
def test_powers(exponent: float) -> None:
    same(lambda x: x**exponent, np.abs(floats(9)) + 1, exact=False)
    same(lambda x: np.power(x, exponent), np.abs(floats(9)) + 1, exact=False)


def test_square_is_a_product() -> None:
    assert [node.op.name for node in graph_of(lambda x: x**2, floats(3)).nodes] == ["mul"]


@pytest.mark.parametrize(
    "shapes", [((3, 1), (4,)), ((1,), (3, 4)), ((), (2,)), ((2, 1, 3), (4, 1)), ((0, 3), (1,)), ((), ())]
)
def test_broadcasting(shapes: Any) -> None:
    same(operator.add, floats(*shapes[0]), floats(*shapes[1]))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"test_operators\.py:\d+: np\.add: f32\[3,2\] and f32\[3\] do not fit"):
        run(lambda x, y: x + y, floats(3, 2), floats(3))


def test_lists_are_arrays() -> None:
    x = floats(3, dtype=np.float64)
    same(lambda x: x + [1, 2, 3], x)  # noqa: RUF005
    same(lambda x: [1.0, 2.0, 3.0] * x, x)
    same(lambda x: (1, 2, 3) - x, x)


# Weak values.


def weak_types(function: Callable[..., Any], *args: Any) -> str:
    graph = graph_of(function, *args)
    return str(graph.outputs[0].type)


@pytest.mark.parametrize(
    ("function", "args", "type"),
    [
        (lambda n: n + 1, (3,), "i64[]~"),
        (lambda n: n / 2, (3,), "f64[]~"),
        (lambda n: n // 2, (3,), "i64[]~"),
        (lambda n: n**2, (3,), "i64[]~"),
        (lambda n: n**-1, (3,), "f64[]~"),
        (lambda n: 0.9**n, (3,), "f64[]~"),
        (lambda n: n < 2, (3,), "bool[]~"),
        (lambda n: (n < 2) + (n > 0), (3,), "i64[]~"),
        (lambda n: (n < 2) & (n > 0), (3,), "bool[]~"),
        (lambda n: -(n < 2), (3,), "i64[]~"),
        (lambda b: b * 2.5, (True,), "f64[]~"),
        (lambda t: np.sqrt(1 - 0.9**t), (3,), "f64[]~"),
        (lambda t: np.minimum(t, 2.0), (3.0,), "f64[]~"),
        (lambda t: np.where(t < 2, 0.5, 0.1), (3.0,), "f64[]~"),
        (lambda t: t + np.float64(1), (3.0,), "f64[]"),
        (lambda t: t + np.float32(1), (3.0,), "f32[]"),
        (lambda t: t.astype(np.float32), (3.0,), "f32[]"),
        (lambda x, t: x * t, (floats(2), 3.0), "f32[2]"),
        (lambda x, t: x * t, (floats(2), 3), "f32[2]"),
        (lambda x, t: x * (t / 3), (floats(2), 3), "f32[2]"),
        (lambda x, t: x + (t > 1), (floats(2), 3), "f32[2]"),
        (lambda x, t: x * t, (integers(2, dtype=np.int32), 3), "i32[2]"),
        (lambda x, t: x.sum() * t, (floats(2), 3.0), "f32[]"),
    ],
)
def test_weak(function: Callable[..., Any], args: Any, type: str) -> None:
    assert weak_types(function, *args) == type


@pytest.mark.parametrize("x", [7, -7, 2.5, -2.5, True])
@pytest.mark.parametrize("y", [3, -3, 0.75, -0.75, True])
@pytest.mark.parametrize(
    "function", [f for f in BINARY if f not in (operator.lshift, operator.rshift)], ids=lambda f: f.__name__
)
def test_weak_operators_are_pythons(function: Callable[..., Any], x: Any, y: Any) -> None:
    try:
        expected = function(x, y)
    except TypeError:
        with pytest.raises(DTypeError):
            run(function, x, y)
        return
    if isinstance(expected, complex):
        # As np.power has it: Python leaves the reals.
        assert np.isnan(run(function, x, y))
        return
    if function is operator.pow and isinstance(x, int) and isinstance(y, int):
        with pytest.raises(TraceError, match=r"2\.0 \*\* n"):
            run(function, x, y)
        found = run(lambda x: x**y, x)
    else:
        found = run(function, x, y)
    for have, want in zip(np.atleast_1d(found), np.atleast_1d(expected), strict=True):
        assert have.dtype.kind == np.asarray(want).dtype.kind
        assert have == want


def test_weak_integers_that_do_not_fit() -> None:
    x = integers(3, dtype=np.uint8, low=0)
    with pytest.raises(WeakOverflowError, match="Python integer 300 out of bounds for uint8"):
        run(lambda x: x + 300, x)
    with pytest.raises(OverflowError):
        run(lambda x: x * 2**40, integers(3, dtype=np.int32))
    for number in (300, -1):
        for function in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne):
            same(lambda x, function=function, number=number: function(x, number), x)
            same(lambda x, function=function, number=number: function(number, x), x)


# Widening and dtypes.


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: x / np.sqrt(64), floats(3)),
        (lambda x: x / 255, integers(3, dtype=np.uint8, low=0)),
        (lambda x: x + np.zeros(3), floats(3)),
        (lambda x: x + np.zeros(3, np.int64), floats(3)),
    ],
)
def test_widening_warns_with_the_line(function: Callable[..., Any], x: np.ndarray) -> None:
    with pytest.warns(WideningWarning, match=r"test_operators\.py:\d+: np\.(divide|add)") as caught:
        same(function, x)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_widening_warns_once_for_each_line() -> None:
    def thrice(x: Any) -> Any:
        for _ in range(3):
            y = x / np.float64(3)
        return y * x

    with pytest.warns(WideningWarning) as caught:
        run(thrice, floats(3))
    assert len(caught) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2.5,
        lambda x: x / 3,
        lambda x: x**2,
        lambda x: x + np.array([1, 2, 3]) * 2 > 0.5 if x.dtype == np.float64 else x,
    ],
)
def test_no_warning_where_nothing_widens(function: Callable[..., Any]) -> None:
    same(function, floats(3))
    same(function, floats(3, dtype=np.float64))


def test_dtypes_without_code() -> None:
    with pytest.raises(DTypeError, match=r"np\.sqrt of u8\[3\] is f16 in NumPy.*write x\.astype\(np\.float32\)"):
        run(lambda x: np.sqrt(x), integers(3, dtype=np.uint8, low=0))
    with pytest.raises(DTypeError, match="f16"):
        run(lambda x: x.astype(np.float16), floats(3))
    with pytest.raises(DTypeError, match="a constant"):
        run(lambda x: x + np.zeros(3, np.float16), floats(3))
    with pytest.raises(DTypeError, match="complex"):
        run(lambda x: x + 1j, floats(3))
    with pytest.raises(DTypeError, match="complex128"):
        run(lambda x: x.astype(complex), floats(3))
    with pytest.raises(DTypeError, match="boolean subtract"):
        run(lambda x: x - x, np.array([True]))


def test_dtype_argument_and_casts() -> None:
    same(lambda x: np.add(x, 1, dtype=np.float32), floats(3))
    same(lambda x: np.add(x, 1, dtype=np.float32), floats(3, dtype=np.float64))
    with pytest.raises(DTypeError, match="float64"):
        run(lambda x: np.add(x, 1, dtype=np.int32), floats(3, dtype=np.float64))
    same(lambda x: (x.astype(np.int32), x.astype(bool), x.astype(np.float64)), floats(5) * 9)
    same(lambda x: x.astype(np.float32, copy=False), floats(5))
    with pytest.raises(DTypeError, match="'safe'"):
        run(lambda x: x.astype(np.float32, casting="safe"), floats(5, dtype=np.float64))


# Methods of ufuncs that are not reductions.


def test_outer() -> None:
    same(lambda x, y: np.multiply.outer(x, y), floats(2, 3), floats(4))
    same(lambda x: np.add.outer(x, [1, 2, 3]), floats(2, dtype=np.float64))
    same(lambda x: np.subtract.outer(np.arange(3), x), floats(2, 2, dtype=np.float64))


def test_ufunc_arguments() -> None:
    x = floats(4)
    same(lambda x: np.add(x, 1, casting="same_kind", order="K", subok=True), x)
    with pytest.raises(TraceError, match=r"np\.log: where= without out="):
        run(lambda x: np.log(x, where=x > 0), x)
    same(lambda x: np.log(x, out=np.zeros_like(x), where=x > 0), x, exact=False)
    with pytest.raises(TraceError, match="'signature'"):
        run(lambda x: np.add(x, 1, signature="ff->f"), x)
    with pytest.raises(TraceError, match="'order'"):
        run(lambda x: np.add(x, 1, order="F"), x)


def test_constants() -> None:
    table = np.arange(6.0).reshape(2, 3)

    def both(x: Any) -> Any:
        return x + table, x * table, x + np.ones((2, 3)), x - adjit.trace.asarray(table)[0]

    same(both, floats(3, dtype=np.float64))
    graph = trace_of(both, Array(F64, (3,))).graph
    assert sum("data" in node.attrs for node in graph.nodes) == 1


def test_a_constant_that_changes_between_uses() -> None:
    def changing(x: Any) -> Any:
        buffer = np.zeros(3)
        buffer[0] = 1
        y = x + buffer
        buffer[1] = 2
        return y, x + buffer

    same(changing, floats(3, dtype=np.float64))


def test_foreign_operands() -> None:
    with pytest.raises(TraceError, match="MaskedArray"):
        run(lambda x: np.add(np.ma.masked_array([1.0]), x), floats(1, dtype=np.float64))
    with pytest.raises(TypeError):
        run(lambda x: x + "a", floats(1))
    with pytest.raises(DTypeError, match="object"):
        run(lambda x: x + np.array([object()]), floats(1))
    same(lambda x: x + np.array([1.0, 2.0], dtype=">f4"), floats(2))


def test_integers_to_negative_powers() -> None:
    with pytest.raises(TraceError, match=r"integers to negative integer powers.*write 1\.0 / x"):
        run(lambda x: x**-1, integers(3))


def test_functions_of_weak_values_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="adjit.trace"):
        trace_of(lambda t: (np.sqrt(t), np.where(t < 1, t, 2), t * 2), Array(F64, (), True))
    assert [record.args[1] for record in caplog.records] == ["np.sqrt", "np.where"]


def test_operands_that_know_better() -> None:
    class Scaled:
        __array_ufunc__ = None

        def __rmul__(self, x: Any) -> Any:
            return x + x

    same(lambda x: x * Scaled(), floats(3))
