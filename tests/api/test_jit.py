"""jit: arguments, results, signatures, errors at the boundary."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import logging
import operator
import pickle
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjit
from tests.api.models import data, make_params, predict

DTYPES = ["bool", "int32", "int64", "uint8", "uint64", "float32", "float64"]


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return x * self.factor

    def by(self, x: Any) -> Any:
        return x / self.factor


def test_a_network() -> None:
    params, (x, _) = make_params(), data()
    compiled = adjit.jit(predict)
    # The order of sums is not NumPy's.
    np.testing.assert_allclose(compiled(params, x), predict(params, x), rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (17,), (3, 5), (2, 0, 3)])
def test_every_dtype_goes_in_and_out(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, dtype)
    found = adjit.jit(lambda x: (x, np.stack([x, x])))(x)
    for have, want in zip(found, (x, np.stack([x, x])), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)


def test_results_are_fresh_and_writable_also_where_an_argument_is_returned() -> None:
    x = np.arange(3.0)
    same = adjit.jit(lambda x: x)
    first, second = same(x), same(x)
    assert not np.shares_memory(first, x)
    assert not np.shares_memory(first, second)
    first[0] = 5.0
    assert x[0] == 0.0


def test_results_without_dimensions_are_scalars() -> None:
    value = adjit.jit(np.sum)(np.ones(3, np.float32))
    assert type(value) is np.float32


@pytest.mark.parametrize(
    "function", [np.exp, operator.neg, functools.partial(np.multiply, 2.0), Scale(3.0), Scale(3.0).by]
)
def test_callables_of_every_kind(function: Any) -> None:
    x = np.arange(3.0)
    # exp is ours, and may differ from libm's in the last bit.
    np.testing.assert_allclose(adjit.jit(function)(x), function(x), rtol=1e-15)


def test_a_callable_without_a_module_has_that_of_its_type() -> None:
    # As the ufuncs of NumPy 2.0.
    assert not hasattr(np.ndarray.sum, "__module__")
    assert adjit.jit(np.ndarray.sum).__module__ == "builtins"


def test_arguments_of_every_layout() -> None:
    compiled = adjit.jit(lambda x: x * 2)
    x = np.arange(24.0).reshape(4, 6)
    frozen = x.copy()
    frozen.flags.writeable = False
    raw = np.zeros(8 * 24 + 1, np.uint8)
    odd = raw[1:].view(np.float64).reshape(4, 6)
    odd[...] = x
    swapped = x.astype(">f8")
    unpickled = pickle.loads(pickle.dumps(x))
    for array in (x[::2, ::-1], x.T, np.asfortranarray(x), frozen, odd, swapped, unpickled, copy.deepcopy(x)):
        found = compiled(array)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, np.asarray(array) * 2)
    longlong = np.arange(3).astype("q")
    np.testing.assert_array_equal(compiled(longlong), longlong * 2)


def test_memmap_and_scalars(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(5,))
    mapped[...] = 3
    assert adjit.jit(np.sum)(mapped) == 15.0
    compiled = adjit.jit(lambda a, b: a + b)
    assert compiled(np.float32(1), np.float32(2)) == np.float32(3)
    assert compiled(np.ones(2, np.float32), 1).dtype == np.float32
    assert compiled(np.ones(2, np.float32), 1.5).dtype == np.float32
    assert compiled(True, 1) == 2


class Layer(NamedTuple):
    w: Any
    b: Any


def test_pytrees_go_in_and_out() -> None:
    def f(layers: Any, extra: Any) -> Any:
        return {"sum": layers[0].w + layers[1].b, "rest": [extra["x"], (layers[0].b, None)]}

    layers = [Layer(np.ones(2), np.zeros(2)), Layer(np.full(2, 2.0), np.full(2, 3.0))]
    found = adjit.jit(f)(layers, {"x": 7})
    assert found["sum"].tolist() == [4.0, 4.0]
    assert found["rest"][0] == 7
    assert found["rest"][1][1] is None


def test_one_program_for_each_signature() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(1)
        return x + 1

    compiled = adjit.jit(f)
    compiled(np.ones(3))
    compiled(np.zeros(3))
    compiled(np.ones(3, np.float32))
    compiled(np.ones((3, 1)))
    compiled(1.0)
    assert len(calls) == 4
    assert compiled.signatures() == ["x: f64[3]", "x: f32[3]", "x: f64[3,1]", "x: f64[]~"]


def test_static_arguments() -> None:
    @adjit.jit(static_argnames="kind")
    def f(x: Any, kind: Any = "sum", *, times: int = 1) -> Any:
        return (np.sum(x) if kind == "sum" else np.max(x)) * times

    x = np.array([1.0, 2.0])
    assert f(x) == 3.0
    assert f(x, "max") == 2.0
    assert f(x, kind="max", times=3) == 6.0
    assert "kind='sum'" in f.signatures()[0]
    by_number = adjit.jit(lambda x, n: x**n, static_argnums=1)
    assert by_number(3.0, 2) == 9.0
    with pytest.raises(adjit.ArgumentError, match="the static argument kind is a list, which has no hash"):
        f(x, kind=[1])
    with pytest.raises(adjit.ArgumentError, match="no parameter 'nothing' that could be static"):
        adjit.jit(predict, static_argnames=("nothing",))


def test_static_values_of_other_types_are_other_signatures() -> None:
    f = adjit.jit(lambda x, n: x + n[0], static_argnames="n")
    x = np.ones(1, np.int64)
    assert f(x, n=(1,)).dtype == np.int64
    assert f(x, n=(1.0,)).dtype == np.float64
    assert f(x, n=(True,)).dtype == np.int64
    assert len(f.signatures()) == 3


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (np.ones(2, np.complex128), adjit.DTypeError, "x: no code exists for complex128"),
        (np.ones(2, np.longdouble), adjit.DTypeError, "x: no code exists for"),
        (np.array(["a"]), adjit.DTypeError, "x: no code exists for <U1"),
        (np.array([None]), adjit.DTypeError, "x: no code exists for object"),
        ("text", adjit.ArgumentError, "x: 'text' is no array; name the argument in static_argnames"),
        (1j, adjit.ArgumentError, "x: builtins.complex is no array"),
        (2**63, adjit.ArgumentError, "does not fit int64"),
        (object(), adjit.ArgumentError, "x: builtins.object is no array"),
    ],
)
def test_foreign_arguments_are_refused_by_name(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"f: {text}" if text.startswith("x") else text):
        adjit.jit(f)({"inner": value}["inner"])


def f(x: Any) -> Any:
    return x


def test_nested_names() -> None:
    with pytest.raises(adjit.DTypeError, match=r"predict: params\.w1: no code exists"):
        adjit.jit(predict)({"w1": np.ones(3, np.complex64)}, np.ones(3))


def test_it_looks_like_the_function() -> None:
    @adjit.jit
    def model(x: Any, y: Any = 2) -> Any:
        """Says what it does."""
        return x

    assert model.__name__ == "model"
    assert model.__doc__ == "Says what it does."
    assert list(inspect.signature(model).parameters) == ["x", "y"]
    assert model.__wrapped__(3) == 3


def test_methods() -> None:
    class Model:
        def __init__(self) -> None:
            self.scale = 3.0

        @adjit.jit
        def double(x: Any) -> Any:
            return x

    assert adjit.jit(Model)  # a class is callable, too
    with pytest.raises(adjit.ArgumentError, match="is no array"):
        Model().double()


def test_jit_of_jit_is_one_graph() -> None:
    inner = adjit.jit(lambda x: np.exp(x))
    outer = adjit.jit(lambda x: inner(x) + 1)
    np.testing.assert_allclose(outer(np.zeros(3)), 2.0)
    assert inner.signatures() == []


def test_ir_of_every_stage() -> None:
    compiled = adjit.jit(predict)
    with pytest.raises(adjit.ArgumentError, match="has not been compiled yet"):
        compiled.ir("trace")
    params, (x, _) = make_params(), data()
    assert str(compiled.ir("trace", params, x)).startswith("graph @predict(")
    for stage, text in (("optimized", "contract"), ("plan", "arena"), ("llvm", "define"), ("asm", ".text")):
        assert text in str(compiled.ir(stage))
    with pytest.raises(adjit.ArgumentError, match=r"stage is 'trace', .* or 'asm', not 'hlo'"):
        compiled.ir("hlo")
    with pytest.raises(adjit.ArgumentError, match="predict has no stage 'adjoint'"):
        compiled.ir("adjoint")


def test_log_of_compilations(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    compiled = adjit.jit(predict)
    params, (x, _) = make_params(), data()
    with caplog.at_level(logging.DEBUG, "adjit.compile"):
        compiled(params, x)
        compiled(params, x[:5])
    first, second = (record.getMessage() for record in caplog.records)
    assert "predict(" in first
    assert "because: first call" in first
    assert "because: x is f64[5,3], was f64[37,3]" in second
    for part in ("trace", "passes", "code", "link"):
        assert part in second


def test_constants() -> None:
    table = np.arange(60_000.0).reshape(100, 600)
    compiled = adjit.jit(lambda x: np.sum(table * x))
    assert compiled(2.0) == np.sum(table) * 2
    text = str(compiled.ir("trace"))
    assert "constant @c0 sha256=" in text
    assert len(text) < 2000
    assert "59999" not in str(compiled.ir("llvm"))
    unbound = adjit.parse(text)
    with pytest.raises(adjit.ArgumentError, match="c0"):
        adjit.evaluate(unbound, 2.0)
    (value,) = adjit.evaluate(adjit.parse(text, constants={"c0": table}), 2.0)
    np.testing.assert_allclose(value, np.sum(table) * 2)
    table[:] = 0  # taken at trace time
    assert compiled(2.0) != 0


def test_index_out_of_range_is_found() -> None:
    take = adjit.jit(lambda x, i: x[i])
    x = np.arange(5.0)
    assert take(x, np.array([4, -5])).tolist() == [4.0, 0.0]
    for bad in (5, -6, 2**40):
        with pytest.raises(IndexError, match=rf"test_jit\.py:\d+: index {bad} is out of bounds for axis 0 with size 5"):
            take(x, np.array([0, bad]))
    assert take(x, np.array([1])).tolist() == [1.0]


def test_one_function_from_many_threads() -> None:
    compiled = adjit.jit(lambda x: np.cumsum(np.sin(x @ x.T), axis=1))
    arrays = [np.random.default_rng(i).normal(size=(20, 30 + i % 3)) for i in range(24)]
    expected = [compiled.__wrapped__(x) for x in arrays]
    failures: list[str] = []

    def work(i: int) -> None:
        results = [compiled(arrays[i]) for _ in range(20)]
        failures.extend(str(i) for found in results if not np.allclose(found, expected[i], rtol=1e-12))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(arrays))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(compiled.signatures()) == 3


def test_errors_of_the_function_itself_pass_through() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        adjit.jit(broken)(1.0)


@pytest.mark.parametrize(("dtype", "fits", "bad"), [("uint8", 255, 256), ("uint8", 0, -1), ("int32", -(2**31), 2**31)])
def test_a_python_integer_that_does_not_fit_is_refused_at_run_time(dtype: str, fits: int, bad: int) -> None:
    add = adjit.jit(lambda x, n: x * 0 + n)
    assert add(np.ones(2, dtype), fits).tolist() == [fits, fits]
    text = rf"test_jit\.py:\d+: Python integer {bad} out of bounds for {dtype}"
    with pytest.raises(OverflowError, match=text):
        add(np.ones(2, dtype), bad)
    assert len(add.signatures()) == 1
    # A negative one in a uint64: NumPy's largest is no int64.
    assert adjit.jit(lambda x, n: x + n)(np.ones(1, np.uint64), 2**62).dtype == np.uint64
    with pytest.raises(OverflowError):
        adjit.jit(lambda x, n: x + n)(np.ones(1, np.uint64), -1)


def test_large_results_use_memory_again_once_they_are_gone() -> None:
    double = adjit.jit(lambda x: x * 2.0)
    x = np.arange(300_000.0)
    first, second = double(x), double(x + 1.0)
    address = first.ctypes.data
    assert address != second.ctypes.data
    np.testing.assert_array_equal(first, x * 2)
    tail = first[1000:]
    del first
    # A view keeps the memory.
    assert double(x).ctypes.data != address
    np.testing.assert_array_equal(tail, x[1000:] * 2)
    del tail
    found = {double(x).ctypes.data for _ in range(3)}
    assert address in found or len(found) == 1
    np.testing.assert_array_equal(second, (x + 1) * 2)
    again = pickle.loads(pickle.dumps(second))
    second += 1.0
    np.testing.assert_array_equal(again + 1.0, second)


def test_large_results_outlive_their_function() -> None:
    result = adjit.jit(lambda x: x + 1.0)(np.zeros(200_000))
    gc.collect()
    np.testing.assert_array_equal(result, np.ones(200_000))
