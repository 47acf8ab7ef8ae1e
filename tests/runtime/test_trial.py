"""Short kernels: shared or not, by what takes less time; the same bits whichever it is."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import adjit
from adjit.codegen.objects import compile_text
from adjit.codegen.trial import SYMBOLS, trial_text
from adjit.tuned import TRIAL_CALLS, TRIAL_PERIOD
from adjit_runtime.load import session
from adjit_runtime.target import host_target
from tests.thresholds import SHARED, force

Functions = tuple[Callable[..., int], Callable[..., None], Callable[..., int]]
"""adjit_trial_begin, adjit_trial_end, adjit_short_threads."""


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    adjit.set_threads(2)
    yield
    adjit.set_threads(None)


def layers(p: Any, x: Any) -> Any:
    for w in p:
        x = x + np.tanh(x @ w)
    return np.mean(x * x)


def large() -> Any:
    product, a = adjit.jit(lambda a, b: a @ b), np.ones((400, 400), np.float32)
    product(a, a)
    return product


def as_functions(symbols: Any) -> Functions:
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    return (
        ctypes.CFUNCTYPE(word, pointer)(symbols["adjit_trial_begin"]),
        ctypes.CFUNCTYPE(None, pointer, word)(symbols["adjit_trial_end"]),
        ctypes.CFUNCTYPE(word, pointer)(symbols["adjit_short_threads"]),
    )


CLOCK = "declare i32 @clock_gettime(i32, ptr)"
STOPPED = """
define i32 @clock_gettime(i32 %which, ptr %time) {{
  %now = load [2 x i64], ptr inttoptr (i64 {address} to ptr)
  store [2 x i64] %now, ptr %time
  ret i32 0
}}

define i64 @adjit_threads() {{
  ret i64 2
}}
"""


@pytest.fixture
def clock() -> np.ndarray:
    """Seconds and nanoseconds of a clock that stands still until somebody sets it."""
    return np.array([5, 0], np.int64)


@pytest.fixture
def clocked(clock: np.ndarray) -> Iterator[Functions]:
    """The functions of a trial for two threads, which read that clock."""
    assert trial_text().count(CLOCK) == 1
    code = compile_text(trial_text().replace(CLOCK, STOPPED.format(address=clock.ctypes.data)), host_target())
    builder = llvm.JITLibraryBuilder().add_object_img(code)
    for symbol in SYMBOLS:
        builder = builder.export_symbol(symbol)
    jit = llvm.create_lljit_compiler()
    code_in_memory = builder.add_current_process().link(jit, "trial")
    yield as_functions(code_in_memory)
    del code_in_memory


@pytest.mark.parametrize("least", [1, 9 * 10**8])
@pytest.mark.parametrize("shared_is_slow", [True, False])
def test_what_takes_less_is_done_until_the_next_trial(
    shared_is_slow: bool, least: int, clock: np.ndarray, clocked: Functions
) -> None:
    begin, end, short_threads = clocked
    trial = np.zeros(4, np.int64)
    chosen = []
    for call in range(TRIAL_PERIOD + 2 * TRIAL_CALLS + 1):
        # In the second period it is the other way round.
        slow = shared_is_slow != (call >= TRIAL_PERIOD)
        begun = begin(trial.ctypes.data)
        count = short_threads(trial.ctypes.data)
        at = call % TRIAL_PERIOD
        assert (begun != 0) == (at < 2 * TRIAL_CALLS)
        if begun:
            assert count == (2 if at < TRIAL_CALLS else 1)
            # The first call of either sort is not counted, which would turn the choice; the least of the others is.
            is_slow = slow == (count == 2)
            if at % TRIAL_CALLS == 0:
                spent = 0 if is_slow else 10**10
            elif at % TRIAL_CALLS == 1:
                spent = least + max(1, least // 9) * is_slow
            else:
                spent = 3 * least + 3
            clock[:] = divmod(int(clock[0]) * 10**9 + int(clock[1]) + spent, 10**9)
        else:
            chosen.append(count)
        end(trial.ctypes.data, begun)
    first, then = (1, 2) if shared_is_slow else (2, 1)
    assert chosen == [first] * (TRIAL_PERIOD - 2 * TRIAL_CALLS) + [then]


def test_one_thread_tries_nothing() -> None:
    large()  # Workers are made when a program wants them.
    begin, end, short_threads = as_functions(session().library("pool"))
    assert begin(np.zeros(4, np.int64).ctypes.data) != 0
    adjit.set_threads(1)
    trial = np.zeros(4, np.int64)
    for _ in range(20):
        begun = begin(trial.ctypes.data)
        assert begun == 0
        assert short_threads(trial.ctypes.data) == 1
        end(trial.ctypes.data, begun)
    assert not trial.any()


def test_the_same_bits_shared_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Kernels of 64 cubed are short: 524,288 operations.
    rng = np.random.default_rng(0)
    p = [(rng.normal(size=(64, 64)) / 16).astype(np.float32) for _ in range(3)]
    x = rng.normal(size=(64, 64)).astype(np.float32)

    def losses(threads: int) -> list[float]:
        adjit.set_threads(threads)
        step = adjit.training_step(layers, adjit.optim.adam(1e-2))
        state = step.init(p)
        found = [float(step(state, x)) for _ in range(3 * TRIAL_CALLS)]
        assert ("@adjit_trial_begin(" in step.ir("llvm")) == trials
        return [*found, *(float(w.sum()) for w in state.params)]

    trials = True
    alone = losses(1)
    assert losses(2) == alone
    assert losses(3) == alone
    # Where nothing is short, what is cut is always shared.
    force(monkeypatch, SHARED)
    trials = False
    assert losses(2) == alone


def test_explain_says_that_it_is_tried() -> None:
    p, x = [np.ones((64, 64), np.float32) / 64], np.ones((64, 64), np.float32)
    gradient = adjit.value_and_grad(layers)
    gradient(p, x)
    assert "while the program finds this faster" in str(gradient.explain())
    assert "while the program finds" not in str(large().explain())
