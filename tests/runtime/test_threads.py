"""The pool of threads: the same bits for any number of them, at any size; fork, exit, many callers at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import compilation, nn, optim
from adjit.codegen import cuts
from adjit_runtime import threads
from adjit_runtime.program import POOL_WORDS
from tests.thresholds import CUT, TILED, force


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    yield
    adjit.set_threads(None)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that can be cut is cut."""
    force(monkeypatch, CUT)


COUNTS = (1, 2, 3, 8)


def loss(p: Any, x: Any, labels: Any, *, key: Any) -> Any:
    h = nn.dropout(nn.relu(x @ p["w1"] + p["b1"]), 0.2, key)
    return nn.cross_entropy(nn.gelu(h @ p["w2"]) @ p["w3"], labels)


def params(dtype: Any) -> Any:
    rng = np.random.default_rng(0)
    sizes = {"w1": (70, 100), "b1": (100,), "w2": (100, 90), "w3": (90, 10)}
    return {name: (rng.normal(size=shape) / 10).astype(dtype) for name, shape in sizes.items()}


def data(rows: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, 70)).astype(dtype), rng.integers(0, 10, rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 31, 64, 100, 257])
def test_the_same_bits_for_any_number_of_threads(rows: int, dtype: Any, eager: None) -> None:
    x, labels = data(rows, dtype)
    step = adjit.training_step(loss, optim.adam(1e-2))
    found = []
    for count in COUNTS:
        adjit.set_threads(count)
        state = step.init(params(dtype), key=3)
        losses = [step(state, x, labels) for _ in range(3)]
        found.append((losses, state.params["w1"].tobytes(), state.params["w2"].tobytes()))
        other = step.init(params(dtype), key=3)
        run = step.run(other, (x, labels), batch_size=rows, epochs=3, shuffle=False)
        assert list(run.losses) == losses
    assert "adjit_parallel" in str(step.ir("llvm"))
    assert all(each == found[0] for each in found)


def test_the_same_bits_on_both_sides_of_the_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = data(100, np.float32)
    found = set()
    for flops in (1, 10**12):
        monkeypatch.setattr(cuts, "PARALLEL_FLOPS", flops)
        monkeypatch.setattr(cuts, "PARALLEL_COST", flops)
        step = adjit.training_step(loss, optim.sgd(1e-2))
        for count in COUNTS:
            adjit.set_threads(count)
            state = step.init(params(np.float32))
            found.add((step(state, x, labels), step(state, x, labels), state.params["w1"].tobytes()))
    assert len(found) == 1


def test_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, TILED)
    rng = np.random.default_rng(2)
    w = rng.normal(size=20)
    function = adjit.value_and_grad(lambda w, x, y: nn.binary_cross_entropy_with_logits(x @ w, y))
    for rows in (128, 200, 1000, 1001):
        x, y = rng.normal(size=(rows, 20)), (rng.random(rows) < 0.5).astype(float)
        results = set()
        for count in COUNTS:
            adjit.set_threads(count)
            value, slope = function(w, x, y)
            results.add((float(value), slope.tobytes()))
        assert len(results) == 1
        assert " turns in " in str(function.ir("plan"))


def test_many_callers_at_once(eager: None) -> None:
    """One of them has the workers; the others work alone."""
    adjit.set_threads(3)
    compiled = adjit.jit(lambda x, w: np.tanh(x @ w) * 2.0)
    rng = np.random.default_rng(3)
    arrays = [(rng.normal(size=(64, 80)), rng.normal(size=(80, 96))) for _ in range(6)]
    wanted = [compiled(*pair) for pair in arrays]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(100) if not np.array_equal(compiled(*arrays[i]), wanted[i]))

    callers = [threading.Thread(target=work, args=(i,)) for i in range(len(arrays))]
    for caller in callers:
        caller.start()
    for count in (2, 5, 1, 3):
        adjit.set_threads(count)
    for caller in callers:
        caller.join()
    assert not wrong


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert adjit.get_threads() == threads.default_threads()
    adjit.set_threads(5)
    assert adjit.get_threads() == 5
    adjit.set_threads(None)
    monkeypatch.setenv("ADJIT_THREADS", "3")
    assert adjit.get_threads() == 3
    for text in ("0", "two", "-1", "1000"):
        monkeypatch.setenv("ADJIT_THREADS", text)
        with pytest.raises(adjit.ArgumentError, match="ADJIT_THREADS"):
            adjit.get_threads()
    for bad in (0, -1, 257, 2.5, True, "2"):
        with pytest.raises(adjit.ArgumentError, match="set_threads: a number of threads from 1 to 256"):
            adjit.set_threads(bad)  # type: ignore[arg-type]


def test_the_default_is_what_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADJIT_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(threads, "_control_group_limit", lambda: 256)
    assert adjit.get_threads() == 6
    monkeypatch.setattr(threads, "_control_group_limit", lambda: 2)
    assert adjit.get_threads() == 2


PROGRAM = """
import os, signal, sys, threading
import numpy as np
import adjit

adjit.set_threads(3)
f = adjit.jit(lambda x: np.tanh(x @ x) @ x)
x = np.random.default_rng(0).normal(size=(128, 128))
wanted = f(x)
def check():
    for _ in range(20):
        assert np.array_equal(f(x), wanted)
check()
"""


def run(code: str) -> str:
    """The output of a Python program that ends well."""
    done = subprocess.run([sys.executable, "-c", PROGRAM + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


def test_exit_while_workers_are_there() -> None:
    assert run("print('end')") == "end\n"


def test_exit_of_a_thread_that_works() -> None:
    run("t = threading.Thread(target=lambda: [f(x) for _ in range(50)])\nt.start()")


def test_a_child_makes_workers_of_its_own() -> None:
    code = """
pid = os.fork()
if pid == 0:
    check()
    from adjit_runtime import threads
    alive = [worker for worker in threads._POOL.workers if worker.is_alive()]
    os._exit(0 if len(alive) == 2 else 3)
check()
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""
    assert run(code) == "0\n"


def test_ctrl_c_in_the_middle() -> None:
    code = """
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        f(x)
except KeyboardInterrupt:
    check()
    print("stopped")
"""
    assert run(code) == "stopped\n"


def test_workers_sleep_when_there_is_nothing_to_do() -> None:
    code = """
import resource, time
time.sleep(0.05)
before = resource.getrusage(resource.RUSAGE_SELF)
time.sleep(0.5)
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime - before.ru_utime < 0.1)
"""
    assert run(code) == "True\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_workers_stay_free_to_use_every_cpu(eager: None) -> None:
    """A worker that is woken on its caller's CPU leaves it; what it may use stays what it was, be that one CPU."""
    allowed = os.sched_getaffinity(0)
    f = adjit.jit(lambda x: np.abs(x + x))
    x = np.arange(1 << 14, dtype=np.float32)
    adjit.set_threads(3)
    f(x)
    workers = [thread.native_id or 0 for thread in threading.enumerate() if re.fullmatch(r"adjit \d+", thread.name)]
    assert len(workers) == 2

    def stays(cpus: set[int]) -> bool:
        for thread in (0, *workers):
            os.sched_setaffinity(thread, cpus)
        for _ in range(5):
            # Longer than a worker looks for work, so that each call wakes it.
            threading.Event().wait(0.005)
            np.testing.assert_array_equal(f(x), np.abs(x + x))
        # The last call's worker may still be about to give back what it took.
        threading.Event().wait(0.05)
        return all(os.sched_getaffinity(worker) == cpus for worker in workers)

    try:
        for cpus in (allowed, {min(allowed)}, allowed):
            # One that was giving back what it took when that was changed here gave back what was before.
            assert any(stays(cpus) for _ in range(20))
    finally:
        os.sched_setaffinity(0, allowed)


def few_threads(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The system has so many threads of ours, and no more."""
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("adjit "):
            if len(begun) >= most:
                raise RuntimeError("can't start new thread")
            begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_no_thread_to_be_had(
    most: int, eager: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool runs with the workers that there are, and says so; what is made beside is made by who needs it."""
    x, w = np.random.default_rng(4).normal(size=(2, 96, 96))
    adjit.set_threads(1)
    wanted = adjit.jit(lambda x, w: np.tanh(x @ w) * 2.0)(x, w)
    monkeypatch.setattr(compilation, "_JOBS", {})
    few_threads(monkeypatch, most)
    compiled = adjit.jit(lambda x, w: np.tanh(x @ w) * 2.0)
    adjit.set_threads(5)
    for _ in range(5):
        np.testing.assert_array_equal(compiled(x, w), wanted)
    assert len(threads._POOL.workers) <= most
    assert threads._POOL.words is not None
    assert int(threads._POOL.words[POOL_WORDS["threads"]]) == len(threads._POOL.workers) + 1
    assert f"large kernels run on {len(threads._POOL.workers) + 1} threads in place of 5" in caplog.text
    monkeypatch.undo()
    adjit.set_threads(3)
    assert len(threads._POOL.workers) == 2
    np.testing.assert_array_equal(compiled(x, w), wanted)


WRONG = """
import os
import numpy as np
import adjit
from adjit_runtime import threads

x = np.eye(128)
def refused(call):
    try:
        call()
    except adjit.ArgumentError as error:
        return str(error) == f"ADJIT_THREADS={os.environ['ADJIT_THREADS']}: a number of threads from 1 to 256"
    return False

def first_call():
    return adjit.jit(lambda x: np.tanh(x @ x) @ x)(x)

for text in ("foo", "0", "1e9", "257", "-1"):
    os.environ["ADJIT_THREADS"] = text
    print(*[refused(call) for call in (adjit.get_threads, first_call, first_call)])
os.environ["ADJIT_THREADS"] = "3"
first_call()
print(len(threads._POOL.workers))
adjit.set_threads(5)
os.environ["ADJIT_THREADS"] = "foo"
print(refused(lambda: adjit.set_threads(None)), refused(lambda: adjit.set_threads(None)), len(threads._POOL.workers))
"""


def test_a_wrong_setting_raises_for_every_program() -> None:
    """Not once, with one thread from then on; who sets it right has the threads."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["True True True"] * 5 + ["2", "True True 4"], done.stderr
