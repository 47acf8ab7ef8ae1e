"""An interrupt at any bytecode of any entry: the state is free and whole, no lock stays taken, nothing stays set.

A trace function raises at the n-th bytecode that runs in our files or llvmlite's, for every n until the entry ends
without (of a compilation, which has too many, for some): more places than those at which Python looks for signals. The
cache and checkpoints have tests of their own."""

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import llvmlite
import numpy as np
import pytest

import adjit
from adjit import compilation, optim
from adjit.codegen import interpreter
from adjit.trace import context, current_trace
from adjit_runtime import fork, guard, threads
from adjit_runtime.tuned import CALLS_TO_ENTRY

ROOTS = tuple(str(Path(module.__file__ or "").parent) for module in (adjit, guard, llvmlite))
OTHERS = ("cache.py", "checkpoint.py", "replace.py")
BEFORE = (gc.isenabled(), sys.getswitchinterval())


def interrupted(call: Callable[[], Any], at: int, files: tuple[str, ...] = ROOTS) -> bool:
    """Call with an interrupt at a bytecode; False where the call has fewer."""
    count = 0

    def each(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
            # What a finalizer raises Python prints and forgets.
            if count >= at and not in_finalizer(frame):
                raise KeyboardInterrupt
        return each

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(files) or name.endswith(OTHERS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return each

    was = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(was)
    assert count < at, "the interrupt was swallowed"
    return False


def in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold within a minute."""
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds()


def nothing_is_held() -> None:
    assert (gc.isenabled(), sys.getswitchinterval()) == BEFORE
    assert not interpreter._CHANGED
    # Code generation ends on its own thread, whoever waited for it.
    assert soon(lambda: not fork.INSIDE)
    assert current_trace() is None
    locks = [fork.GATE, fork.LLVMLITE, *(lock._lock for lock in guard._LOCKS)]
    locks += [job.lock for job in compilation._JOBS.values() if job.library is None]
    assert not any(lock._is_owned() for lock in locks)


def every(call: Callable[[], Any], check: Callable[[], None], stride: int = 1, **options: Any) -> int:
    """Interrupt a call at every bytecode; how many there are."""
    at = 1
    while interrupted(call, at, **options):
        nothing_is_held()
        check()
        at += stride
    nothing_is_held()
    check()
    return at


def by_python(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A call on the path through Python, whether or not there is a native entry for it."""
    return type(function).__mro__[1].__call__(function, *args, **kwargs)


@dataclass
class Node:
    """What is read and made by attributes."""

    x: Any
    kind: str = "static"


class Training:
    """A step whose parameters are 1 - step / 4, so that they tell whether they belong to the step count."""

    def __init__(self) -> None:
        self.step = adjit.training_step(lambda p, b, *, key: np.sum(p["w"] * b["a"] + 0.0 * key), optim.sgd(0.25))
        self.state = self.step.init({"w": np.ones(3)})
        self.batch = {"a": np.ones(3)}
        self.data = ({"a": np.ones((6, 3))},)
        self.make()
        self.run()

    def make(self) -> None:
        self.step(self.state, self.batch)

    def run(self, **options: Any) -> None:
        self.step.run(self.state, self.data, batch_size=1, **options)

    def check(self) -> None:
        """Parameters and count fit each other, and another step is made, by another thread."""
        before = self.state.step
        worker = threading.Thread(target=self.make)
        worker.start()
        worker.join(60)
        assert self.state.step == before + 1
        np.testing.assert_array_equal(self.state.params["w"], np.full(3, 1 - (before + 1) / 4))


@pytest.fixture(scope="module")
def training() -> Training:
    return Training()


@pytest.fixture(autouse=True)
def no_work_beside() -> Iterator[None]:
    yield
    adjit.set_threads(None)


def test_a_step_by_way_of_python(training: Training) -> None:
    assert every(lambda: by_python(training.step, training.state, training.batch), training.check) > 100


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_run(training: Training, shuffle: bool) -> None:
    seen: list[int] = []
    options = {"shuffle": shuffle, "progress": lambda done, *_: seen.append(done)}
    assert every(lambda: training.run(**options), training.check) > 300
    assert seen


def test_a_run_on_data_of_other_types(training: Training) -> None:
    """Its tables and buffers are made, and the state keeps them."""

    def run() -> None:
        training.state.loops.clear()
        training.step.plans.clear()
        training.run()

    assert every(run, training.check) > 1000


def test_what_users_do_with_a_state(training: Training) -> None:
    state = training.state

    def set_numbers() -> None:
        state.key = 7
        state.hyper["learning_rate"] = 0.25

    assert every(set_numbers, training.check) > 50
    assert every(state.copy, training.check) > 50
    assert every(lambda: (state.params, state.optimizer, state.shared, repr(state)), training.check) > 50


def test_closing(training: Training) -> None:
    """A state that is not closed is whole, one that is says so."""
    states = []

    def check() -> None:
        if states[-1].busy[0]:
            with pytest.raises(adjit.StateError, match="closed"):
                training.step(states[-1], training.batch)
        else:
            np.testing.assert_array_equal(states[-1].params["w"], np.ones(3))
            training.step(states[-1], training.batch)

    def close() -> None:
        states[-1].close()

    at = 1
    while True:
        states.append(training.step.init({"w": np.ones(3)}))
        if not interrupted(close, at):
            break
        check()
        at += 1
    with pytest.raises(adjit.StateError, match="closed"):
        states[-1].params  # noqa: B018
    assert at > 20


def test_saving_and_loading(training: Training, tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert every(lambda: adjit.save(path, training.state), training.check) > 20
    saved = training.state.step - 1
    every(lambda: adjit.load(path), training.check)
    assert adjit.load(path).step == saved


def test_a_native_entry_is_made() -> None:
    """Of functions and of a step: afterwards there is a whole chain, the old one or the new."""
    function = adjit.jit(lambda x: x + 1.0)
    trees = adjit.jit(lambda p, *, b: {"y": p["x"] + b[0]})
    nodes = adjit.jit(lambda p, *, b: Node(OrderedDict(y=p.x["x"] + b["b"])))
    node = {"b": defaultdict(float, b=1.0)}
    step = adjit.training_step(lambda p, x: np.sum(p["w"] * x), optim.sgd(0.25))
    state, x = step.init({"w": np.ones(3)}), np.ones(3)
    other = [np.ones(n) for n in range(4, 14)]
    for array in (x, *other):
        function(array)
    trees({"x": x}, b=(1.0,))
    nodes(Node(OrderedDict(x=x)), **node)
    step(state, x)
    (binding,) = state.bindings.values()

    def offer() -> None:
        # As before the call after which it is made.
        for compiled in function._calls:
            function._calls[compiled] = 1
        for described in (trees, nodes):
            described._lock.run(described._chain, list)
            described._calls.update(dict.fromkeys(described._calls, 1))
        state.entries.clear()
        binding.calls = CALLS_TO_ENTRY + 1
        step._lock.run(step._chain, list)
        for array in other:
            function(array)
        trees({"x": x}, b=(1.0,))
        nodes(Node(OrderedDict(x=x)), **node)
        step(state, x)

    def check() -> None:
        np.testing.assert_array_equal(nodes(Node(OrderedDict(x=x)), **node).x["y"], x + 1.0)
        np.testing.assert_array_equal(trees({"x": x}, b=(1.0,))["y"], x + 1.0)
        for array in (x, *other):
            np.testing.assert_array_equal(function(array), array + 1.0)
        before = state.step
        step(state, x)
        np.testing.assert_array_equal(state.params["w"], np.full(3, 1 - (before + 1) / 4))

    assert every(offer, check, stride=13) > 5000


def test_calls_with_keywords_and_gradients() -> None:
    function = adjit.jit(lambda x, scale: {"y": x * scale})
    slope = adjit.value_and_grad(lambda p: np.sum(p["w"] * p["w"]))
    p = {"w": np.arange(3.0)}

    def check() -> None:
        np.testing.assert_array_equal(function(np.ones(2), scale=3.0)["y"], [3, 3])
        np.testing.assert_array_equal(slope(p)[1]["w"], 2 * p["w"])

    check()
    assert every(lambda: by_python(function, np.ones(2), scale=3.0), check) > 100
    assert every(lambda: by_python(slope, p), check) > 100


class FirstCalls:
    """A function that is compiled, anew each time."""

    function: Any = None

    def make(self) -> None:
        self.function = adjit.jit(lambda x: np.tanh(x) @ x)
        self.function(np.ones(3))

    def check(self) -> None:
        """By another thread, which needs all locks."""
        results: list[Any] = []
        worker = threading.Thread(target=lambda: results.append(self.function(np.ones(3))))
        worker.start()
        worker.join(60)
        np.testing.assert_allclose(results, np.tanh(1.0) * 3)  # sums in another order


def test_a_first_call_where_something_is_kept() -> None:
    """At every bytecode of the files that take, set and give back."""
    calls = FirstCalls()
    calls.make()
    files = [guard.__file__, fork.__file__, interpreter.__file__, context.__file__]
    assert every(calls.make, calls.check, files=tuple(map(str, files))) > 300


# llvmlite's objects have a __del__ that does not work on those that were not quite made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("files", [ROOTS[:1], ROOTS[1:]], ids=["compiler", "runtime and llvmlite"])
def test_a_first_call(files: tuple[str, ...]) -> None:
    """At some forty bytecodes, spread over the whole of it."""
    calls = FirstCalls()
    calls.make()
    low, high = 1, 1000
    while interrupted(calls.make, high, files):
        low, high = high, 4 * high
    while high - low > high // 10:
        middle = (low + high) // 2
        low, high = (middle, high) if interrupted(calls.make, middle, files) else (low, middle)
    # Not a round number, so that it meets other places of what is done again and again.
    assert every(calls.make, calls.check, stride=high // 40 | 1, files=files) > 1000


def test_the_number_of_threads() -> None:
    threads._LOCK.run(threads._POOL.need)
    counts = iter(range(10**9))

    def change() -> None:
        adjit.set_threads(2 + next(counts) % 2)

    def check() -> None:
        # One that was not quite started when the interrupt came ends by itself.
        assert soon(lambda: workers() == adjit.get_threads() - 1)

    adjit.set_threads(3)
    assert every(change, check) > 100


def workers() -> int:
    return sum(thread.name.startswith("adjit ") and thread.name[6:].isdecimal() for thread in threading.enumerate())


PROGRAM = """
import signal
import numpy as np
import adjit
f = adjit.jit(lambda x: np.tanh(x @ x) @ x)
x = np.random.default_rng(0).normal(size=(128, 128))
adjit.set_threads(2)
wanted = f(x)

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
for n in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + n % 53))
        # Not for ever: Python forgets an interrupt in a finalizer.
        for count in 100 * (2, 3):
            adjit.set_threads(count)
    except KeyboardInterrupt:
        pass
    assert np.array_equal(f(x), wanted)
print("end")
"""


def test_exit_after_interrupts_of_set_threads() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_signals(training: Training) -> None:
    """Real ones, at places that differ from run to run."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        # Not for ever: Python forgets an interrupt in a finalizer.
        for _ in range(100):
            training.make()
            training.run(progress=lambda *_: None)
            training.state.copy()

    count = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(300):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (10 + n % 37))
                work()
                count += 1
            training.check()
        assert count < 100
    finally:
        signal.signal(signal.SIGALRM, before)
