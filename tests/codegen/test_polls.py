"""Where a program looks for signals: in long ones, never after a write to state; what is left there wrote nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import optim
from adjit.codegen import emit, nested
from adjit.codegen.libraries import library
from adjit.codegen.objects import compile_text
from adjit.codegen.signals import Polls, polls_of, verify_polls, writes_state
from adjit.ir.graph import Graph
from adjit.schedule.turns import Nested
from adjit_runtime.errors import InternalError
from adjit_runtime.program import INTERRUPTED, Library
from adjit_runtime.target import Target, host_target
from tests.api import models
from tests.codegen import running
from tests.codegen.running import Lowered
from tests.thresholds import POLLED, force

POLL = re.compile(r"call i64 @adjit_poll\(\)")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls ahead of every kernel that may have one, and in the midst of all that can be cut."""
    force(monkeypatch, POLLED)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield adjit.set_threads
    adjit.set_threads(None)


class Countdown:
    """A library "signals" whose poll says INTERRUPTED at the n-th time, from 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = np.zeros(1, np.int64)
        text = f"""
define i64 @adjit_poll() {{
  %at = inttoptr i64 {self.left.ctypes.data} to ptr
  %left = load i64, ptr %at
  %less = sub i64 %left, 1
  store i64 %less, ptr %at
  %now = icmp eq i64 %left, 0
  %status = select i1 %now, i64 {INTERRUPTED}, i64 0
  ret i64 %status
}}"""
        code = compile_text(text, host_target())

        def made(name: str, target: Target) -> Library:
            return Library(name, code, ("adjit_poll",)) if name == "signals" else library(name, target)

        monkeypatch.setattr(running, "library", made)

    def run(self, graph: Graph, inputs: list[Any], left: int) -> running.Ran:
        self.left[0] = left
        return running.Ran(graph, inputs)


def deep(params: Any, x: Any, y: Any) -> Any:
    h = x
    for w in params["hidden"]:
        h = np.maximum(h @ w, 0.0) + np.tanh(h)
    return np.mean((h @ params["out"] - y) ** 2)


def deep_step(rows: int = 96, size: int = 64, optimizer: Any = None) -> tuple[Graph, list[Any]]:
    rng = np.random.default_rng(0)
    params = {
        "hidden": [rng.normal(size=(size, size)) / size for _ in range(3)],
        "out": rng.normal(size=(size, 3)),
    }
    x, y = rng.normal(size=(rows, size)), rng.normal(size=(rows, 3))
    step = adjit.training_step(deep, optimizer or optim.adam(1e-3))
    state = step.init(params)
    step(state, x, y)
    return step.ir("optimized"), [*state.leaves(), x, y]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.adam(1e-3)], ids=["sgd", "adam"])
def test_a_step_that_is_left_at_any_poll_has_written_no_state(monkeypatch: pytest.MonkeyPatch, optimizer: Any) -> None:
    graph, inputs = deep_step(optimizer=optimizer)
    countdown = Countdown(monkeypatch)
    whole = countdown.run(graph, inputs, -1)
    polls = int(-1 - countdown.left[0])
    assert whole.status == 0
    assert polls > 5
    assert not all(np.array_equal(a, b) for a, b in zip(whole.inputs, inputs, strict=True))
    for number in range(polls):
        ran = countdown.run(graph, inputs, number)
        assert ran.status == INTERRUPTED
        assert countdown.left[0] == -1, "it went on past the poll that said to stop"
        for found, given in zip(ran.inputs, inputs, strict=True):
            np.testing.assert_array_equal(found, given)


CUT: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "rows": (lambda a, b: np.tanh(a @ b), ((200, 70), (70, 40))),
    "columns": (lambda a, b: np.maximum(a @ b, 0), ((40, 30), (30, 300))),
    "batch": (lambda a, b: a @ b, ((7, 20, 30), (7, 30, 40))),
    "integers": (lambda a, b: a.astype(np.int32) @ b.astype(np.int32), ((7, 20, 30), (7, 30, 40))),
    "loop": (lambda a, b: np.exp(a) * b, ((300, 50), (300, 50))),
    "reduction": (lambda a, b: np.sum(np.abs(a[:, None, :] - b[None, :, :]), axis=2), ((90, 33), (80, 33))),
}


@pytest.mark.parametrize("name", CUT)
def test_turns_give_the_same_bits_on_any_number_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    function, shapes = CUT[name]
    arrays = [np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes)]
    plain = adjit.jit(function)
    wanted = plain(*arrays)
    assert not POLL.search(plain.ir("llvm"))
    force(monkeypatch, POLLED)
    turned = adjit.jit(function)
    for count in (1, 2, 3, 5):
        threads(count)
        np.testing.assert_array_equal(turned(*arrays), wanted)
    graph = turned.ir("optimized")
    plan = Lowered(graph, host_target(), straight=False).plan
    polls = polls_of(plan, host_target(), lambda work: emit.ranges_of(work, host_target()))
    assert any(ranges > 1 for ranges in polls.ranges.values())


def test_tiles_in_turns_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]) -> None:
    def function(x: Any, w: Any) -> Any:
        z = x @ w
        e = np.exp(z - np.max(z, axis=1, keepdims=True))
        p = e / np.sum(e, axis=1, keepdims=True)
        return p.T @ x, np.sum(p, axis=0)

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(60_000, 8)), rng.normal(size=(8, 12))
    for scratch in (1, 1 << 40):
        # One thread alone takes groups one after another where their scratch memory is large.
        monkeypatch.setattr(nested, "SHARED_SCRATCH_BYTES", scratch)
        threads(1)
        plain = adjit.jit(function)
        wanted = plain(x, w)
        assert not POLL.search(plain.ir("llvm"))
        with monkeypatch.context() as patch:
            force(patch, POLLED)
            turned = adjit.jit(function)
            for count in (1, 2, 3):
                threads(count)
                for found, array in zip(turned(x, w), wanted, strict=True):
                    np.testing.assert_array_equal(found, array)
            assert POLL.search(turned.ir("llvm"))
            plan = Lowered(turned.ir("optimized"), host_target()).plan
            (work,) = [kernel.work for kernel in plan.kernels if isinstance(kernel.work, Nested)]
            assert nested.turns_between_polls(work, host_target()) > 1


@pytest.mark.usefixtures("everywhere")
def test_no_plan_has_a_poll_after_a_write_to_state() -> None:
    graph, _ = deep_step()
    target = host_target()
    plan = Lowered(graph, target).plan
    polls = polls_of(plan, target, lambda work: emit.ranges_of(work, target))
    verify_polls(plan, polls)
    commits = [number for number, kernel in enumerate(plan.kernels) if writes_state(plan, kernel)]
    assert polls.ahead == frozenset(range(commits[0] + 1))
    assert polls.ranges
    with pytest.raises(InternalError, match="polls ahead of kernel"):
        verify_polls(plan, replace(polls, ahead=polls.ahead | {commits[0] + 1}))
    with pytest.raises(InternalError, match="polls in kernel"):
        verify_polls(plan, Polls(polls.ahead, {plan.kernels[commits[0]].work: 2}))


def test_small_programs_do_not_poll() -> None:
    step = adjit.training_step(models.loss, optim.adam(1e-3))
    x, y = models.data(4096)
    state = step.init(models.make_params())
    step(state, x, y)
    classifier, _ = deep_step(rows=128, size=128)
    small = adjit.jit(lambda x: np.tanh(x @ x) @ x)
    small(np.ones((128, 128)))
    texts = [step.ir("llvm"), small.ir("llvm"), Lowered(classifier, host_target()).llvm]
    for text in texts:
        assert "adjit_poll" not in text
    assert all(
        "signals" not in record.program.libraries for record in (*step.records.values(), *small.records.values())
    )


def test_long_programs_poll() -> None:
    def chain(x: Any, w: Any) -> Any:
        for _ in range(6):
            x = np.tanh(x @ w)
        return x

    shape = (np.zeros((1500, 1500)),) * 2
    text = adjit.jit(chain).ir("llvm", *shape)
    assert len(POLL.findall(text)) == 5
    one = adjit.jit(lambda x, w: x @ w).ir("llvm", *(np.empty((9000, 9000), np.float32),) * 2)
    assert len(POLL.findall(one)) == 1
