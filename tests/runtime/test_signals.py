"""Handlers of signals run inside long native calls: what they raise comes out of the call, and the state is as before.

Nothing here depends on time: a signal is made pending right ahead of the native call, by C functions that follow each
other without a step of Python's interpreter between them (`pending`), so only the call itself can run the handler."""

from __future__ import annotations

import ctypes
import operator
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit.codegen import signals
from adjit_runtime import runs
from adjit_runtime.call_trees import Places
from adjit_runtime.errors import StateError
from adjit_runtime.load import POLLING, Loaded, session
from adjit_runtime.native import Entry
from tests.thresholds import POLLED, force

pytestmark = pytest.mark.skipif(not POLLING, reason="this Python has no C functions that a program could call")

_trip = ctypes.pythonapi.PyErr_SetInterruptEx
_trip.argtypes = [ctypes.c_int]


class Stop(Exception):
    """What a handler raises."""


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def everywhere(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Polls ahead of every kernel that may have one, and in the midst of all that can be cut."""
    force(monkeypatch, POLLED)
    adjit.set_threads(request.param)
    yield
    adjit.set_threads(None)


def due() -> None:
    """Let the time go by in which polls look at the clock alone."""
    time.sleep(1.1e-9 * signals.POLL_NANOSECONDS)


def pending(call: Callable[[], Any], number: int = signal.SIGUSR1) -> tuple[list[Any], BaseException | None]:
    """Call a C function with a signal pending: [its result], or [] and what it raised."""
    due()
    results: list[Any] = []
    try:
        # list.extend keeps what came ahead of an exception; map and call are C.
        results.extend(map(operator.call, [partial(_trip, number), call]))
    except BaseException as error:
        return results[1:], error
    return results[1:], None


def handler(act: Callable[[], None]) -> Any:
    """Handle SIGUSR1 by `act`; gives back the handler before."""
    return signal.signal(signal.SIGUSR1, lambda number, frame: act())


def network(w: Any, x: Any) -> Any:
    for _ in range(4):
        x = np.tanh(x @ w)
    return x


def arrays(rows: int = 96, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(size, size)) / 8, rng.normal(size=(rows, size))


def native(function: Any, release: bool, *args: Any, state: Any = None) -> Callable[[], Any]:
    """The native entry for these arguments, as a C function; the GIL kept or released."""
    function(*args)
    if state is None:
        signature, _, names = function.signature_of(args, {})
        compiled = function.compiled(signature, names)
        entry = Entry(compiled.loaded, signature.types, Places(args, {}), compiled.out_tree, release=release)
    else:
        (binding,) = state.bindings.values()
        (signature,) = (known for known, compiled in function._compiled.items() if compiled is binding.compiled)
        places, tree = Places(args, {}, bound=1), binding.compiled.out_tree
        entry = Entry(binding.loaded, signature.types, places, tree, state=state, release=release)
    entry.fall_through_to(_refuse)
    return partial(entry.function, *args)


def _refuse(*_: Any) -> None:
    raise AssertionError("the native entry did not take the call")


def raises() -> None:
    raise Stop


@pytest.mark.parametrize("release", [False, True], ids=["with the GIL", "without"])
def test_a_native_entry_raises_what_the_handler_raises(release: bool) -> None:
    w, x = arrays()
    function = adjit.jit(network)
    call = native(function, release, w, x)
    wanted = call()
    before = handler(raises)
    try:
        for _ in range(3):
            results, error = pending(call)
            assert results == []
            assert isinstance(error, Stop)
            np.testing.assert_array_equal(call(), wanted)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("release", [False, True], ids=["with the GIL", "without"])
def test_a_handler_that_does_not_raise_leaves_the_result_alone(release: bool) -> None:
    w, x = arrays()
    function = adjit.jit(network)
    call = native(function, release, w, x)
    wanted = call()
    seen: list[Any] = []
    # A handler may call what it likes: the same function too, on the path through Python.
    before = handler(lambda: seen.append(function(w, x)))
    try:
        results, error = pending(call)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert error is None
    np.testing.assert_array_equal(results[0], wanted)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], wanted)


class Tripped:
    """A native function whose n-th call, from 0, comes with a signal pending."""

    def __init__(self, function: Callable[..., Any], at: int = 0) -> None:
        self.function, self.left = function, at
        self.finished = False

    def __call__(self, *args: int) -> int:
        self.left -= 1
        if self.left != -1:
            return int(self.function(*args))
        results, error = pending(partial(self.function, *args))
        self.finished = bool(results)
        if error is not None:
            raise error
        return int(results[0])


def tripped(loaded: Loaded) -> Tripped:
    """Let a program be called with a signal pending."""
    loaded.entry = found = Tripped(loaded.entry)
    return found


def test_the_path_through_python_raises_it() -> None:
    w, x = arrays()
    function = adjit.jit(network)
    by_python = partial(type(function).__mro__[1].__call__, function)
    wanted = by_python(w, x)
    (compiled,) = function._compiled.values()
    arenas = len(compiled.loaded._arenas)
    entry = tripped(compiled.loaded)
    before = handler(raises)
    try:
        with pytest.raises(Stop):
            by_python(w, x)
        assert not entry.finished
        entry.left = 1
        np.testing.assert_array_equal(by_python(w, x), wanted)
        with pytest.raises(Stop):
            by_python(w, x)
    finally:
        signal.signal(signal.SIGUSR1, before)
    # The arena of each call came back.
    assert len(compiled.loaded._arenas) == arenas > 0


def loss(params: Any, x: Any, y: Any) -> Any:
    return np.mean((network(params["w"], x) @ params["out"] - y) ** 2)


def training(rows: int = 96) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    w, x = arrays(rows)
    rng = np.random.default_rng(1)
    step = adjit.training_step(loss, optim.adam(1e-3))
    return step, step.init({"w": w, "out": rng.normal(size=(64, 3))}), x, rng.normal(size=(rows, 3))


def unchanged(state: Any, leaves: list[np.ndarray]) -> None:
    for found, wanted in zip(state.leaves(), leaves, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("path", ["entry with the GIL", "entry", "Python"])
def test_a_step_that_is_left_leaves_the_state_free_and_as_before(path: str) -> None:
    step, state, x, y = training()
    step(state, x, y)
    if path == "Python":
        ((_, binding),) = state.bindings.items()
        entry = tripped(binding.loaded)
        entry.left = -1
    else:
        call = native(step, path == "entry", state, x, y, state=state)
    before = handler(raises)
    leaves = state.leaves()
    try:
        for _ in range(3):
            if path == "Python":
                entry.left = 0
                with pytest.raises(Stop):
                    type(step).__mro__[1].__call__(step, state, x, y)
            else:
                results, error = pending(call)
                assert results == []
                assert isinstance(error, Stop)
            unchanged(state, leaves)
            assert state.copy().step == state.step
    finally:
        signal.signal(signal.SIGUSR1, before)
    other = step.init({"w": np.zeros((64, 64)), "out": np.zeros((64, 3))})
    for view, leaf in zip(other.values(), leaves, strict=True):
        view[...] = leaf
    assert step(state, x, y) == step(other, x, y)
    unchanged(state, other.leaves())


def test_a_handler_finds_the_state_busy() -> None:
    step, state, x, y = training()
    call = native(step, True, state, x, y, state=state)
    seen: list[Any] = []

    def look() -> None:
        for act in (state.copy, partial(step, state, x, y)):
            try:
                act()
            except StateError as error:
                seen.append(error)

    before = handler(look)
    try:
        results, error = pending(call)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert error is None
    assert isinstance(results[0], float)
    assert len(seen) == 2
    assert state.step == 2


@pytest.mark.parametrize("at", [0, 2])
def test_a_run_is_left_within_a_step(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, state, x, y = training(384)
    _, other, *_ = training(384)
    made: list[Tripped] = []

    def run_function(polls: bool) -> Tripped:
        made.append(Tripped(function(polls), at))
        return made[0]

    function = runs.run_function
    monkeypatch.setattr(runs, "run_function", run_function)
    # One step in each slice.
    monkeypatch.setattr(runs, "RUN_SLICE_SECONDS", 0)
    # A process that a shell started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys.modules[__name__], "pending", partial(pending, number=signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            step.run(state, (x, y), batch_size=96, epochs=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not made[0].finished
    losses = caught.value.losses  # type: ignore[attr-defined]
    assert len(losses) == at == state.step
    monkeypatch.setattr(runs, "run_function", function)
    whole = step.run(other, (x, y), batch_size=96, epochs=1)
    np.testing.assert_array_equal(losses, whole.losses[:at])
    # The state is free, and its loop works as before.
    step.run(state, (x, y), batch_size=96)


def test_handlers_compute_with_subnormal_numbers() -> None:
    step, state, x, y = training()
    call = native(step, True, state, x, y, state=state)
    seen: list[float] = []
    before = handler(lambda: seen.append(float(np.float64(1e-310) * 0.5)))
    try:
        pending(call)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [5e-311]


def test_other_threads_leave_signals_to_the_main_thread() -> None:
    w, x = arrays()
    function = adjit.jit(network)
    call = native(function, True, w, x)
    wanted = call()
    seen: list[Any] = []
    found: list[Any] = []

    before = handler(lambda: seen.append(threading.current_thread()))
    try:
        # The signal is pending when the other thread's call begins.
        thread = threading.Thread(target=lambda: found.append(pending(call)))
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    ((results, error),) = found
    assert error is None
    np.testing.assert_array_equal(results[0], wanted)
    assert seen == [threading.main_thread()]


def test_without_a_handler_nothing_is_polled() -> None:
    """Where Python's functions cannot be called the pointer is null."""
    library = session().library("signals")
    poll = ctypes.CFUNCTYPE(ctypes.c_int64)(library["adjit_poll"])
    set_poll = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library["adjit_set_poll"])
    calls: list[int] = []
    handle = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: calls.append(1) or -1)  # type: ignore[func-returns-value]
    address = ctypes.cast(handle, ctypes.c_void_p).value
    here = threading.main_thread().ident or 0
    try:
        due()
        set_poll(None, here)
        assert poll() == 0
        set_poll(address, here + 1)
        assert poll() == 0
        set_poll(address, here)
        assert poll() == -1
        assert poll() == 0, "it looks at the clock alone for a while"
    finally:
        set_poll(session().library("python")["adjit_handle"], here)
    assert len(calls) == 1


def run(code: str) -> str:
    """The output of a Python program that ends well."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


LONG = """
import signal
import numpy as np
import adjit

adjit.set_threads(THREADS)

def chain(x, w):
    for _ in range(400):
        x = np.tanh(x @ w)
    return x

x = np.ones((2048, 2048), np.float32)
f = adjit.jit(chain)
f.ir("optimized", x, x)

def handle(number, frame):
    # The call is under way where no other frame is on top of it.
    if frame.f_code.co_name == "invoke":
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
try:
    f(x, x)
except KeyboardInterrupt:
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("left")
else:
    print("finished")
"""


def test_a_long_call_is_left() -> None:
    """With the numbers as they are: seven trillion operations, of which it makes a few."""
    assert run(LONG.replace("THREADS", str(adjit.get_threads()))) == "left\n"


def test_the_thread_that_forked_is_the_main_thread_of_the_child() -> None:
    code = """
import os, signal, threading
import numpy as np
import adjit
from adjit.codegen import signals
from tests.runtime.test_signals import native, pending, raises

signals.POLL_EFFORT = 0
x = np.ones((64, 64))
call = native(adjit.jit(lambda x: np.tanh(x @ x) @ x), True, x)
call()

def work():
    pid = os.fork()
    if pid == 0:
        results, error = pending(call)
        os._exit(0 if results == [] and type(error).__name__ == "Stop" else 3)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status))

signal.signal(signal.SIGUSR1, lambda *_: raises())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    assert run(code) == "0\n"
