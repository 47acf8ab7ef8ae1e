"""Random numbers are refused inside a trace, and nothing of that is left when it has ended, however it ends."""

# ruff: noqa: NPY002 (the legacy functions are what is tested)
from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import normal as normal_by_name

import adjit
from adjit.trace import frozen
from adjit_runtime.errors import TraceError

X = np.arange(3.0)
RNG = np.random.default_rng(0)
LEGACY = np.random.RandomState(0)
OF_PYTHON = random.Random(0)
DRAW = RNG.normal
NAMES = [shown for shown, _, _ in frozen.drawing().exchanged]


def standing() -> list[Any]:
    return [names[name] for _, names, name in frozen.drawing().exchanged]


@pytest.fixture(autouse=True)
def _restored() -> Any:
    before = standing()
    yield
    assert all(a is b for a, b in zip(standing(), before, strict=True))
    assert not frozen._OPEN


def test_what_is_exchanged() -> None:
    for name in ("np.random.normal", "np.random.seed", "np.random.default_rng", "np.random.rand", "np.random.choice",
                 "random.random", "random.gauss", "random.shuffle", "random.seed"):  # fmt: skip
        assert name in NAMES
    assert len(NAMES) > 65


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_modules_are_refused(name: str) -> None:
    module, _, function = name.rpartition(".")
    draw = {"np.random": np.random, "random": random}[module]
    with pytest.raises(TraceError, match=rf"test_frozen\.py:\d+: {name} would be called once.*adjit\.random\."):
        adjit.jit(lambda x: x + getattr(draw, function)())(X)


CASES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda x: x + np.random.normal(size=3), r"adjit\.random\.normal\(key, shape\)"),
    (lambda x: x * (np.random.rand(3) > 0.5), r"adjit\.random\.uniform\(key, shape\)"),
    (lambda x: x[np.random.permutation(3)], r"adjit\.random\.permutation"),
    (lambda x: x * random.random(), r"adjit\.random\.uniform"),
    (lambda x: x + np.random.default_rng().normal(size=3), r"np\.random\.default_rng.*adjit\.random\.key"),
    (lambda x: x + np.random.default_rng(None).normal(size=3), r"default_rng"),
    (lambda x: x + RNG.normal(size=3), r"generator `RNG` .*adjit\.random"),
    (lambda x: x + LEGACY.normal(size=3), "generator `LEGACY`"),
    (lambda x: x + OF_PYTHON.random(), "generator `OF_PYTHON`"),
    (lambda x: x + DRAW(size=3), "generator `DRAW`"),
    (lambda x: x + normal_by_name(size=3), "generator `normal_by_name`"),
    (lambda x: helper(x), "generator `RNG`"),
    (lambda x: adjit.jit(lambda y: y + RNG.normal())(x), "generator `RNG`"),
]


def helper(x: Any) -> Any:
    return x + RNG.standard_normal()


@pytest.mark.parametrize(("function", "text"), CASES)
def test_draws_are_refused(function: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(TraceError, match=text):
        adjit.jit(function)(X)


def test_generators_that_are_closed_over_or_held() -> None:
    rng = np.random.default_rng(1)

    class Model:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(2)
            self.parts = {"noise": random.Random(3)}

        def loss(self, x: Any) -> Any:
            return np.sum(x) * self.rng.normal()

        def other(self, x: Any) -> Any:
            return np.sum(x) * self.parts["noise"].gauss(0, 1)

    def default(x: Any, draw: Any = np.random.default_rng(4)) -> Any:  # noqa: B008
        return x * draw.normal()

    model = Model()
    for function, name in (
        (lambda x: x + rng.normal(), "`rng`"), (model.loss, r"rng`"), (model.other, "noise"),
        (lambda x: model.loss(x), "rng`"), (lambda x: default(x), "a default"),
    ):  # fmt: skip
        with pytest.raises(TraceError, match=name):
            adjit.jit(function)(X)
    step = adjit.training_step(lambda p, x: np.sum(p * x) + rng.normal(), adjit.optim.sgd(0.1))
    with pytest.raises(TraceError, match="`rng`"):
        step(step.init(X), X)


def test_what_is_no_draw_of_the_function_works() -> None:
    seeded = adjit.jit(lambda x: x + np.random.default_rng(7).normal(size=3))
    np.testing.assert_array_equal(seeded(X), X + np.random.default_rng(7).normal(size=3))
    # It is seen and not drawn from; the standard library draws for itself.
    assert adjit.jit(lambda x: x if RNG is not None else -x)(1.0) == 1.0
    drawn = []
    noise = RNG.normal(size=3)

    def f(x: Any) -> Any:
        with tempfile.NamedTemporaryFile() as file:
            drawn.append(file.name)
        return x + noise

    np.testing.assert_array_equal(adjit.jit(f)(X), X + noise)
    before = RNG.bit_generator.state
    adjit.jit(lambda x: x + adjit.random.normal(adjit.random.key(0), (3,), np.float64))(X)
    assert RNG.bit_generator.state == before


def test_nested_and_failing_traces_restore() -> None:
    original = np.random.normal

    def inner(y: Any) -> Any:
        assert np.random.normal is not original
        return y * y

    def f(x: Any) -> Any:
        g = adjit.grad(inner)(x)
        assert np.random.normal is not original
        return g

    assert adjit.jit(f)(2.0) == 4.0
    assert np.random.normal is original
    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def fails(x: Any, error: Any = error) -> Any:
            raise error

        with pytest.raises(error):
            adjit.jit(fails)(2.0)
        assert np.random.normal is original


def test_other_threads_draw_as_before_and_traces_end_in_any_order() -> None:
    original = np.random.normal
    inside = [threading.Event(), threading.Event()]
    over = [threading.Event(), threading.Event()]
    refused = []

    def work(i: int) -> None:
        def f(x: Any) -> Any:
            inside[i].set()
            over[i].wait(20)
            return x + np.random.normal()

        with contextlib.suppress(TraceError):
            adjit.jit(f)(1.0)
            return
        refused.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for i, thread in enumerate(threads):
        thread.start()
        assert inside[i].wait(20)
    assert np.random.normal is not original
    np.random.seed(0)
    assert np.random.normal() == np.random.RandomState(0).normal()
    assert 0 <= random.random() < 1
    for i, thread in enumerate(threads):
        over[i].set()
        thread.join()
        assert (np.random.normal is original) == (i == 1)
    assert refused == [0, 1]


def test_what_others_put_there_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(*args: Any, **kwargs: Any) -> float:
        return 0.5

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "normal", mine)
        with pytest.raises(TraceError, match=r"np\.random\.normal"):
            adjit.jit(lambda x: x + np.random.normal())(1.0)
        assert np.random.normal is mine
    assert adjit.jit(lambda x: x + 1)(1.0) == 2.0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
@pytest.mark.usefixtures("no_collector")
def test_interrupts_restore() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    original, handler = np.random.normal, signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(300):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 2e-5 + n % 29 * 2e-5)
                # More than there is time for.
                for _ in range(1000):
                    adjit.trace.trace_flat("f", lambda xs: xs[0] + 1, [adjit.ir.types.Array(np.dtype(float))], ["x"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert np.random.normal is original
            assert not frozen._OPEN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_inside_a_trace_of_another_thread() -> None:
    original, inside, over = np.random.normal, threading.Event(), threading.Event()

    def f(x: Any) -> Any:
        inside.set()
        over.wait(20)
        return x

    thread = threading.Thread(target=adjit.jit(f), args=(1.0,))
    thread.start()
    assert inside.wait(20)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.random.normal is original and not frozen._OPEN else 1)
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_retrace_forgets_what_was_compiled() -> None:
    scale = np.array([1.0, 2.0])
    f = adjit.jit(lambda x: x * scale)
    g = adjit.value_and_grad(lambda x: np.sum(x * scale))
    step = adjit.training_step(lambda p, x: np.sum(p * x * scale), adjit.optim.sgd(1.0))
    state = step.init(np.zeros(2))
    x = np.ones(2)
    for _ in range(5):
        assert f(x).tolist() == [1, 2]
        assert g(x)[1].tolist() == [1, 2]
        step(state, x)
        step.run(state, (np.ones((1, 2)),), batch_size=1)
    assert state.params.tolist() == [-10, -20]
    scale[:] = 10
    assert f(x).tolist() == [1, 2]
    for function in (f, g, step):
        function.retrace()
        assert function.signatures() == []
    for _ in range(5):
        assert f(x).tolist() == [10, 10]
        assert g(x)[1].tolist() == [10, 10]
    for k in range(5):
        step(state, x)
        step.run(state, (np.ones((1, 2)),), batch_size=1)
        assert state.params.tolist() == [-10 - 20 * (k + 1), -20 - 20 * (k + 1)]
    assert len(f.signatures()) == 1
