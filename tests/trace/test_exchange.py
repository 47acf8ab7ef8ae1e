"""Exchanged functions: for the time of a trace, in its thread, for the user's code alone; whatever ends the trace."""

from __future__ import annotations

import builtins
import math
import os
import signal
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.trace import exchange, is_tracer
from adjit.trace.promote import type_of
from tests.trace.check import run, trace_of

X = np.array([0.3, 0.7])
NAMES: list[tuple[Any, str]] = [
    (module, name) for module, names in exchange._ORIGINALS.items() for name in names
]  # fmt: skip
ORIGINALS = [vars(module)[name] for module, name in NAMES]


def is_restored() -> bool:
    return all(vars(module)[name] is f for (module, name), f in zip(NAMES, ORIGINALS, strict=True))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    assert is_restored()
    yield
    assert is_restored()


def test_what_is_exchanged() -> None:
    names = {f"{module.__name__}.{name}" for module, name in NAMES}
    assert {
        "numpy.array", "numpy.asarray", "numpy.asanyarray", "numpy.ascontiguousarray", "numpy.zeros", "numpy.ones",
        "numpy.empty", "numpy.full", "numpy.eye", "numpy.identity", "numpy.arange", "numpy.linspace",
        "numpy.zeros_like", "numpy.ones_like", "numpy.empty_like", "numpy.full_like", "numpy.r_", "numpy.c_",
        "numpy.fromiter", "numpy.vectorize", "numpy.sum", "numpy.linalg.norm", "math.cos", "builtins.max",
        "builtins.min",
    } <= names  # fmt: skip
    functions = {name for name in dir(math) if callable(getattr(math, name)) and not name.startswith("_")}
    integers = {
        "ceil",
        "comb",
        "factorial",
        "floor",
        "gcd",
        "isqrt",
        "lcm",
        "perm",
        "trunc",
        "sumprod",
        "fma",
        "integer",
    }
    assert functions - integers <= {name for module, name in NAMES if module is math}


def test_nested_and_failing_traces() -> None:
    def program(x: Any) -> Any:
        with pytest.raises(KeyError):
            run(lambda y: {}[0], X)
        assert not is_restored()
        assert is_tracer(np.zeros(2))
        inner = adjit.grad(lambda y: np.sum(np.array([y[0], y[1] ** 2])))(x)
        assert is_tracer(np.zeros(2))
        return inner

    run(program, X)
    assert is_restored()
    with pytest.raises(KeyError):
        run(lambda x: {}[np.zeros(1).shape], X)


def test_an_error_that_is_kept_does_not_keep_the_exchange() -> None:
    try:
        run(lambda x: {}[0], X)
    except KeyError as error:
        kept = error
    assert is_restored()
    assert kept.__traceback__ is not None


def test_threads_that_do_not_trace_see_the_originals() -> None:
    inside, done = threading.Event(), threading.Event()
    seen: list[Any] = []

    def other() -> None:
        inside.wait(60)
        seen.extend([type(np.zeros(2)), type(np.array([1.0])), math.cos(0.0), max(1, 2)])
        done.set()

    def program(x: Any) -> Any:
        inside.set()
        assert done.wait(60)
        return x + np.zeros(2)

    thread = threading.Thread(target=other)
    thread.start()
    run(program, X)
    thread.join()
    assert seen == [np.ndarray, np.ndarray, 1.0, 2]


def test_concurrent_traces() -> None:
    """The one that began first ends first, and the other still sees tracers."""
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    seen: list[bool] = []

    def first(x: Any) -> Any:
        first_in.set()
        assert second_in.wait(60)
        return x

    def second(x: Any) -> Any:
        assert first_in.wait(60)
        second_in.set()
        assert first_out.wait(60)
        seen.append(is_tracer(np.zeros(2)))
        return x

    def ended() -> None:
        run(first, X)
        first_out.set()

    threads = [threading.Thread(target=ended), threading.Thread(target=run, args=(second, X))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of signals here")
# One that comes in a finalizer or a callback of the collector, as other packages have them, Python itself forgets.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_collector")
def test_interrupted_traces() -> None:
    """An exception of a signal's handler, at whatever bytecode it comes."""

    class Interrupt(BaseException):
        pass

    def handler(number: int, frame: types.FrameType | None) -> None:
        raise Interrupt

    def program(x: Any) -> Any:
        return np.sum(np.zeros(2) + x)

    trace_of(program, type_of(X))
    before = signal.signal(signal.SIGALRM, handler)
    interrupted = 0
    try:
        for step in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + 2e-5 * step)
                trace_of(program, type_of(X))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                interrupted += 1
            assert is_restored()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def test_a_function_that_the_user_exchanged_stays() -> None:
    original = np.zeros

    def mine(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs) + 1

    np.zeros = mine  # type: ignore[assignment]
    try:
        assert run(lambda x: x + np.zeros(2), X).tolist() == (X + 1).tolist()
        assert np.zeros is mine
    finally:
        np.zeros = original


def test_code_in_c_keeps_the_originals() -> None:
    """Code that Cython compiled looks np.empty up in the module and takes the result for an array, without a look."""
    generator = np.random.RandomState(0)
    outside: list[Any] = []

    def program(x: Any) -> Any:
        outside.append(np.empty)
        return x + np.add.reduce(np.frompyfunc(lambda i: 0.0, 1, 1)(range(2)))

    run(program, X)
    # A call through C of an exchanged function gives an array, for `map` is no call of the user's.
    assert run(lambda x: x + sum(type(a) is np.ndarray for a in map(np.zeros, [1, 2])), X).tolist() == (X + 2).tolist()
    assert type(outside[0](2)) is np.ndarray
    assert generator.permutation(3).shape == (3,)


def test_installed_packages_keep_plain_arrays_and_see_tracers(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "installed_model.py").write_text(
        "import numpy as np\nTABLE = np.arange(3.0)\n"
        "def plain():\n    return np.zeros(2)\n"
        "def stacked(x):\n    return np.array([x[0], 2 * x[1]])\n"
    )
    sys.path.insert(0, str(folder))
    try:

        def program(x: Any) -> Any:
            import installed_model  # type: ignore[import-not-found]

            assert type(installed_model.TABLE) is np.ndarray
            assert type(installed_model.plain()) is np.ndarray
            return installed_model.stacked(x)

        assert run(program, X).tolist() == [0.3, 1.4]
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("installed_model", None)


def test_what_an_import_within_a_trace_makes_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "late_module.py").write_text("import numpy as np\nTABLE = np.arange(3.0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def program(x: Any) -> Any:
        import late_module  # type: ignore[import-not-found]

        assert type(late_module.TABLE) is np.ndarray
        return x

    run(program, X)
    sys.modules.pop("late_module")


def test_an_exchanged_function_looks_like_the_original() -> None:
    def program(x: Any) -> Any:
        assert np.zeros == ORIGINALS[NAMES.index((np, "zeros"))]
        assert np.zeros.__name__ == "zeros"
        assert np.zeros.__module__ == "numpy"
        assert np.zeros.__doc__ == ORIGINALS[NAMES.index((np, "zeros"))].__doc__
        assert repr(np.zeros) == repr(ORIGINALS[NAMES.index((np, "zeros"))])
        assert hash(builtins.max) == hash(ORIGINALS[NAMES.index((builtins, "max"))])
        assert isinstance(np.float64(1), np.float64)
        assert np.dtype(float) == np.float64
        return x.astype(np.float32)

    assert run(program, X).dtype == np.float32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_has_no_traces_of_other_threads() -> None:
    inside, done = threading.Event(), threading.Event()

    def program(x: Any) -> Any:
        inside.set()
        assert done.wait(60)
        return x

    thread = threading.Thread(target=run, args=(program, X))
    thread.start()
    assert inside.wait(60)
    assert not is_restored()
    with warnings.catch_warnings():
        # Python warns of a fork beside threads, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if is_restored() else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


LIBRARIES = """
import numpy as np
import adjit

def program(x):
    from numpy import ma
    from scipy import interpolate, linalg, sparse
    spline = interpolate.CubicSpline(np.linspace(0, 1, 5), np.sin(np.linspace(0, 1, 5)))(0.3)
    total = ma.masked_equal(np.arange(3.0), 1.0).sum() + sparse.csr_matrix(np.eye(3)).sum()
    solved = linalg.solve(np.eye(3) * 2, np.ones(3)).sum() + np.polyfit(np.arange(4.0), np.arange(4.0) ** 2, 2)[0]
    for i in np.ndindex(2, 2):
        total += sum(i)
    return np.sum(x * np.hanning(3)) + spline + total + solved + np.interp(0.5, np.arange(3.0), np.arange(3.0))

x = np.array([1.0, 2.0, 3.0])
first = adjit.jit(program)(x)
assert abs(first - program(x)) < 1e-12, (first, program(x))
"""


def test_libraries_that_a_trace_imports_and_calls() -> None:
    pytest.importorskip("scipy")
    done = subprocess.run([sys.executable, "-c", LIBRARIES], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
