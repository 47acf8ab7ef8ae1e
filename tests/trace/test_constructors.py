"""`float(x)` and `np.float64(x)` of traced values; and that the classes are what they were for everybody else."""

from __future__ import annotations

import copy
import functools
import gc
import itertools
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import float32 as by_name

import adjit
from adjit.trace import is_tracer
from adjit.trace.constructors import CLASSES
from adjit_runtime import constructors, guard
from adjit_runtime.errors import DTypeError, TraceError, WeakOverflowError
from tests.trace.check import run, same

X = np.array([0.3, 0.7, -1.2])
MATRIX = np.arange(6.0).reshape(2, 3)
S32 = np.float32(1.7)


class Made(float):
    """Made before anything is traced in this process, if this file is what runs."""


class MadeOfNumpy(np.float64):
    pass


FUNCTIONS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda x: np.sum(np.float64(x[0]) * x), X),
    (lambda x: float(x[0]) * x, X),
    (lambda x: float(x[0]) * x, X.astype(np.float32)),
    (lambda x: np.float64(x[0]) * x, X),
    (lambda x: np.float32(x[0]) * x.astype(np.float32), X),
    (lambda x: by_name(x) + 1, X),
    (lambda x: np.float64(x), X),
    (lambda x: np.float32(x), MATRIX),
    (lambda x: np.float64(x[0, ...]) + 1, X),
    (lambda x: np.float32(x), np.float64(0.1)),
    (lambda x: np.int64(x), np.float64(2.7)),
    (lambda x: np.int64(x), np.array([2.7, -2.7])),
    (lambda x: np.int32(x) // 2, np.int64(7)),
    (lambda x: np.uint8(x), np.int64(7)),
    (lambda x: np.uint8(x), np.int64(300)),
    (lambda x: np.bool_(x), np.float64(2.5)),
    (lambda x: np.bool_(x), np.array([0, 2, 0])),
    (lambda x: np.float64(x > 0), X),
    (lambda x: float(x), np.int64(3)),
    (lambda x: float(x), np.bool_(True)),
    (lambda x: float(x) * np.ones(2, np.float32), np.float64(0.1)),
    (lambda x: math.exp(float(x)), np.float64(0.5)),
    (lambda x: math.sqrt(np.float64(x)), 2.0),
    (lambda x: [float(v) for v in x], X),
    (lambda x: list(map(float, x)), X),
    (lambda x: sum(map(float, x)), np.array([0.5, 1.5, -2.25])),  # without a rounding: Python 3.12 corrects for it
    (lambda x: max(map(float, x)), X),
    (lambda x: [*map(np.float64, x)], X),
    (lambda x: functools.reduce(lambda a, b: a + float(b), x, 0.0), X),
    (lambda x: functools.partial(float)(x), S32),
    (lambda x: np.vectorize(float)(x), X),
    (lambda x: np.vectorize(lambda v: float(v) * 2)(x), MATRIX),
    (lambda x: np.array([float(x[0]), x[1]]), X),
    (lambda x: np.fromiter(map(float, x), float), X),
    (lambda x: x.dtype.type(x[0]) + x.dtype.type(1), X.astype(np.float32)),
    (lambda x: {"kind": np.float64}["kind"](x[1]), X),
    (lambda x: float(*[x]), S32),
    (lambda x: np.float64(float(np.float32(float(x)))), np.float64(0.1)),
    (lambda x: (abs(float(x)), round(float(x), 1), round(np.float64(x), 2), abs(np.float32(x))), np.float64(-2.78)),
    (lambda x: float(np.float64(2.5)) + x, 1.0),
]
"""What gives the values, dtypes and shapes of NumPy."""


@pytest.mark.parametrize(("function", "x"), FUNCTIONS)
@pytest.mark.filterwarnings("ignore::adjit.WideningWarning")
def test_values(function: Callable[[Any], Any], x: Any) -> None:
    same(function, x)


GRADIENTS: list[Callable[[Any], Any]] = [
    lambda x: np.sum(np.float64(x[0]) * x),
    lambda x: float(x[0]) * float(np.sum(x)),
    lambda x: math.sin(float(x[1])) * np.exp(np.float64(x[2])),
    lambda x: sum(v * v for v in map(float, x)),
    lambda x: np.sum(np.vectorize(lambda v: float(v) ** 3)(x)),
    lambda x: np.sum(np.float64(x) ** 2),
    lambda x: np.float64(np.float64(x[0, ...]) * x[1]),
]


@pytest.mark.parametrize("function", GRADIENTS)
def test_gradients(function: Callable[[Any], Any]) -> None:
    found = adjit.grad(function)(X)
    step = 1e-6
    for i in range(X.size):
        near = np.zeros(X.size)
        near[i] = step
        slope = (function(X + near) - function(X - near)) / (2 * step)
        # The step of the differences bounds what they can tell.
        np.testing.assert_allclose(found[i], slope, rtol=1e-7, atol=1e-8)


def test_the_derivative_passes_float32() -> None:
    assert adjit.grad(lambda x: np.float64(np.float32(x)) ** 2)(3.0) == 6.0
    assert adjit.grad(lambda x: x * np.float64(np.int64(x)))(2.7) == 2.0


def test_what_a_conversion_shows() -> None:
    def f(x: Any, n: Any) -> Any:
        for y, kind in [
            (float(x[0]), float), (float(n), float), (float(x[0]) * 2, float), (np.float64(x[0]), np.float64),
            (np.float64(n), np.float64), (np.float32(n), np.float32), (np.int64(x[0]), np.int64),
            (np.bool_(n), np.bool_), (np.float64(x[0, ...]), np.float64), (np.float64(x), np.ndarray),
        ]:  # fmt: skip
            assert is_tracer(y)
            assert y.__class__ is kind
            assert isinstance(y, kind)
        assert float(y := float(n)) is y
        assert np.float64(x) is x
        # Not the same value as the view, which may be written.
        a = x.copy()
        taken = np.float64(a[0, ...])
        a[0] = 7.0
        return taken

    assert adjit.jit(f)(X, 3) == X[0]


def test_arrays_of_more_elements_are_no_numbers() -> None:
    for x in (X, MATRIX, np.zeros(0)):
        with pytest.raises(TypeError) as theirs:
            float(x)
        with pytest.raises(DTypeError, match=str(theirs.value)) as ours:
            adjit.jit(lambda x: float(x))(x)
        assert "test_constructors.py" in str(ours.value)

        def caught(x: Any) -> Any:
            try:
                return float(x)
            except TypeError:
                return -1.0

        assert adjit.jit(caught)(x) == -1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_arrays_of_one_element_are_as_in_this_numpy() -> None:
    def f(x: Any) -> Any:
        try:
            return float(x) * 2
        except TypeError:
            return -1.0

    for x in (np.array([3.0]), np.array([[3.0]])):
        assert adjit.jit(f)(x) == f(x)


def test_python_integers_must_fit() -> None:
    assert adjit.jit(lambda n: np.uint8(n))(255) == 255
    assert adjit.jit(lambda n: np.int64(n))(-(2**63)) == -(2**63)
    for kind, value in [(np.uint8, 256), (np.uint8, -1), (np.int32, 2**31), (np.uint8, 256.5)]:
        with pytest.raises(OverflowError):
            kind(value)  # type: ignore[arg-type]
        with pytest.raises(WeakOverflowError):
            adjit.jit(lambda n, kind=kind: kind(n), static_argnames="kind")(value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: int(x), "a Python int"),
        (lambda x: bool(x), "truth"),
        (lambda x: complex(x), "a Python complex"),
        (lambda x: np.float16(x), r"np\.float32\(x\)"),
        (lambda x: np.complex128(x), r"np\.float32\(x\)"),
        (lambda x: Made(x), "a Python float"),
        # Code in C asks for a number of C, not for an object.
        (lambda x: exp(x), "a Python float"),
        (lambda x: f"{float(x):.2f}", "formatted"),
        (lambda x: "%.2f" % x, "a Python float"),  # noqa: UP031
        (lambda x: Fraction(float(x)), "is_integer|as_integer_ratio|a Python"),
    ],
)
def test_what_is_refused(call: Callable[..., Any], text: str) -> None:
    with pytest.raises((TraceError, DTypeError, AttributeError), match=text):
        adjit.jit(call)(np.float64(2.0))


def test_known_values_are_converted_by_numpy() -> None:
    def f(x: Any) -> Any:
        known = np.arange(3.0) + 0.5
        assert is_tracer(known)
        assert type(float(known[1])) is float
        assert type(np.float32(known[1])) is np.float32
        assert type(np.int8(known[2])) is np.int8
        assert range(int(np.int64(known[2])))[-1] == 1
        assert np.float64(known) is known
        assert np.int64(known).tolist() == [0, 1, 2]
        known[0] = x
        return float(known[0]) + float(known[1])

    assert adjit.jit(f)(4.0) == 5.5


def test_traces_in_traces() -> None:
    def outer(x: Any) -> Any:
        slope = adjit.grad(lambda y: float(y) ** 2 * np.float64(x))(x)
        return float(slope) + adjit.jit(lambda y: np.float64(float(x)) + y)(x)

    assert run(outer, np.float64(1.5)) == pytest.approx(2 * 1.5 * 1.5 + 3.0)


def test_outside_of_its_trace_a_tracer_is_no_number() -> None:
    kept: list[Any] = []
    adjit.jit(lambda x: (kept.append(x), x)[1])(np.float64(2.0))
    for kind in (float, np.float64, np.float32):
        with pytest.raises(TraceError, match="ended"):
            kind(kept[0])
        with pytest.raises(TraceError, match="ended"):
            adjit.jit(lambda x, kind=kind: x + kind(kept[0]), static_argnames="kind")(1.0)


def test_code_of_others_in_c_is_given_numbers_of_its_own() -> None:
    """A function in C which calls a class and takes what it gives for a number, without a look."""
    in_c = guard._function("adjit_held")

    def f(x: Any) -> Any:
        return x * in_c(dict, dict, float, x)

    assert in_c(dict, dict, float, S32) == float(S32)
    with pytest.raises(TraceError, match="a Python float"):
        adjit.jit(f)(2.0)


def test_packages_see_tracers_and_numpy_and_adjit_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "installed_scale.py").write_text("def half(x):\n    return float(x) / 2\n")
    sys.path.insert(0, str(folder))
    try:
        import installed_scale  # type: ignore[import-not-found]

        assert run(lambda x: installed_scale.half(x[0]), X) == 0.15
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("installed_scale", None)
    with pytest.raises(TraceError):
        adjit.jit(lambda x: adjit.optim.sgd(x).hyper)(0.1)


# -- everybody else ---------------------------------------------------------------------------------------------------


class Raises:
    def __float__(self) -> float:
        raise KeyError("mine")

    __int__ = __index__ = __float__  # type: ignore[assignment]


class Number:
    def __float__(self) -> float:
        return 1.5

    def __index__(self) -> int:
        return 3


VALUES: list[Any] = [
    1.5, 3, True, "2.5", b"2.5", "nonsense", None, [1.0, 2.0], X, np.float32(0.1), np.array(2.0), Made(2.0), Number(),
    MadeOfNumpy(2.5), Raises(), 10**400, 1j, Fraction(1, 3), {}, np.datetime64("2020-01-01"), 2.7, -1, float("nan"),
]  # fmt: skip
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    *(((x,), {}) for x in VALUES), ((), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"x": 1}), ((1,), {"dtype": 1}),
    ((1, 2), {"a": 1, "b": 2}), ((), {"": 1, "real": 2, "value": 3}),
]  # fmt: skip


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    try:
        x = call(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return type(x), str(x), getattr(x, "dtype", None)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_calls_without_tracers_are_what_they_were(kind: type) -> None:
    adjit.jit(lambda x: float(x))(1.0)
    # What type.__call__ does goes by tp_new, which is as it was.
    before = functools.partial(type.__call__, kind)
    for args, kwargs in CALLS:
        assert outcome(kind, *args, **kwargs) == outcome(before, *args, **kwargs)
        assert outcome(functools.partial(kind, *args), **kwargs) == outcome(before, *args, **kwargs)
    assert [outcome(kind, x) for x in VALUES] == list(map(functools.partial(outcome, kind), VALUES))
    adjit.jit(lambda x: (x, [outcome(kind, x) for x in VALUES])[0])(1.0)


def test_the_classes_are_themselves() -> None:
    adjit.jit(lambda x: float(x))(1.0)
    for kind in CLASSES[1:]:
        assert np.dtype(kind).type is kind
        x = kind(1)
        assert type(x) is kind
        assert isinstance(x, np.generic)
        for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
            assert (type(again), again) == (kind, x)
    assert isinstance(np.float64(1.5), float)
    match np.float64(1.5):
        case float(number):
            assert number == 1.5
    assert float.fromhex("0x1p3") == float.__new__(float, 8) == 8.0


def test_subclasses_are_left_alone() -> None:
    adjit.jit(lambda x: float(x))(1.0)

    class Later(float):
        pass

    class WithNew(float):
        def __new__(cls, x: Any) -> WithNew:
            return float.__new__(cls, x)

    class OfNumpy(np.float64):
        pass

    for kind in (Made, MadeOfNumpy, Later, WithNew, OfNumpy):
        x = kind("2.5")
        assert type(x) is kind
        assert x == 2.5
        assert type(float(x)) is float
        assert np.float64(x) == 2.5
    assert type(float.__new__(Made, 1.0)) is Made
    for again in (pickle.loads(pickle.dumps(Made(2.5))), copy.copy(Made(2.5)), copy.deepcopy(Made(2.5))):
        assert (type(again), again) == (Made, 2.5)


def test_threads() -> None:
    """Others convert all the time while this one traces and converts."""
    stop = threading.Event()
    wrong: list[Any] = []
    expected = [[outcome(kind, *args, **kwargs) for args, kwargs in CALLS] for kind in (float, np.float64)]

    def convert() -> None:
        while not stop.is_set():
            found = [[outcome(kind, *args, **kwargs) for args, kwargs in CALLS] for kind in (float, np.float64)]
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(10):
            assert run(lambda x, i=i: float(x[0]) * i + np.float64(x[1]), X) == X[0] * i + X[1]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_tracer_in_another_thread() -> None:
    errors: list[BaseException] = []

    def f(x: Any) -> Any:
        def work() -> None:
            try:
                float(x)
            except TraceError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x

    with pytest.raises(TraceError, match="another thread"):
        adjit.jit(f)(2.0)
    assert len(errors) == 1


def test_no_reference_is_lost_or_kept() -> None:
    objects = (float, np.float64, NotImplemented, None, "2.5", *VALUES)
    kept: list[Any] = []
    adjit.jit(lambda x: (kept.append(x), x)[1])(np.float64(2.0))

    def rounds(count: int) -> None:
        for _ in range(count):
            for kind in (float, np.float64):
                kind(1.5)
                kind("2.5")
                kind(VALUES[11])
        for args, kwargs in CALLS * (count // 1000):
            for kind in (float, np.float64):
                outcome(kind, *args, **kwargs)
                # Declined by `convert`.
                outcome(kind, kept[0])

    rounds(1000)
    gc.collect()
    before, blocks = [sys.getrefcount(x) for x in objects], sys.getallocatedblocks()
    rounds(20_000)
    gc.collect()
    # Caches and other threads of the tests take some; what every call kept would be thousands.
    assert abs(sys.getallocatedblocks() - blocks) < 500
    assert all(abs(a - sys.getrefcount(x)) < 100 for a, x in zip(before, objects, strict=True))


def test_no_reference_is_lost_or_kept_in_a_trace() -> None:
    counts: list[tuple[int, ...]] = []

    def f(x: Any) -> Any:
        for _ in range(100):
            for _ in range(100):
                float(x[0])
                np.float64(x[0])
            counts.append((sys.getrefcount(x), sys.getrefcount(NotImplemented), sys.getrefcount(float)))
        return x

    adjit.jit(f)(X)
    assert all(abs(a - b) < 10 for a, b in zip(counts[1], counts[-1], strict=True))


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300, check=False)


END = """
import atexit
import numpy as np
import adjit
from adjit.ir.types import Array
from adjit.trace import trace_flat

class Late:
    def __init__(self, x):
        self.x = x
    def __del__(self, float=float, float64=np.float64, print=print):
        print(float("1.5"), float64(2.5))
        try:
            float(self.x)
        except Exception as error:
            print(type(error).__name__)

kept = []
last = adjit.jit(lambda x: float(x) + np.float64(x))
for _ in range(4):
    last(2.0)  # its native entry, too, as nothing can be compiled at exit
at_exit = lambda: trace_flat("f", lambda xs: np.float64(float(xs[0])), [Array(np.dtype(np.float32))], ["x"]).graph
atexit.register(lambda: print(float(np.float32(3.5)), last(2.0), str(at_exit()).count("cast")))
adjit.jit(lambda x: (kept.append(Late(x)), float(x))[1])(1.0)
kept.append(kept)
"""


def test_a_process_ends_in_peace() -> None:
    done = script(END)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["3.5", "4.0", "2", "1.5", "2.5", "TraceError"]


FORKED = """
import os
import numpy as np
import adjit
adjit.jit(lambda x: float(x))(1.0)
if os.fork() == 0:
    os._exit(0 if adjit.jit(lambda x: float(x) * np.float64(x))(3.0) == 9.0 == float("9") else 1)
_, status = os.wait()
assert status == 0
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_a_child_process() -> None:
    done = script(FORKED)
    assert done.returncode == 0, done.stderr


UNKNOWN = """
import ctypes
import numpy as np
import adjit
from adjit_runtime import constructors

constructors._NEW += 8
words = [bytes((ctypes.c_char * 416).from_address(id(kind))) for kind in (float, np.float64)]
for call, text in [(lambda x: float(x), "a Python float"), (lambda x: np.float64(x), "np.float64 makes a plain")]:
    try:
        adjit.jit(call)(2.0)
    except adjit.TraceError as error:
        assert text in str(error), error
    else:
        raise AssertionError("not refused")
slots = [bytes((ctypes.c_char * 416).from_address(id(kind))) for kind in (float, np.float64)]
assert [x[312:] for x in words] == [x[312:] for x in slots]
"""


def test_other_layouts_are_left_alone() -> None:
    done = script(UNKNOWN)
    assert done.returncode == 0, done.stderr


def test_an_interrupted_installation_is_made_anew() -> None:
    """The classes are exchanged one by one, and whatever is done already holds."""
    adjit.jit(lambda x: float(x))(1.0)
    kept = constructors._KEPT[:]
    for count in range(3):
        constructors._KEPT.clear()
        constructors.install(CLASSES, kept[0][:3], kept[0][3])
        assert adjit.jit(lambda x, count=count: float(x) + np.float32(x) + count)(1.0) == 2.0 + count
    constructors._KEPT[:] = kept


def test_everything_at_once() -> None:
    """Names of the classes of every dtype, on every kind of argument."""
    arguments = [2.0, 3, True, np.float64(2.5), np.float32(2.5), np.int64(3), np.int32(3), np.uint8(3), np.bool_(True)]
    for kind, x in itertools.product(CLASSES, arguments):
        found, wanted = adjit.jit(lambda x, kind=kind: kind(x))(x), kind(x)
        assert (found, np.result_type(found)) == (wanted, np.result_type(wanted))
