"""Subnormal numbers count as zero within a training step, unless it is told otherwise, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import adjit
from adjit.codegen import cuts
from adjit.codegen.llvm import I64, Module
from adjit.codegen.subnormals import flushing
from adjit_runtime.target import _target

SMALL = {np.float32: 1e-40, np.float64: 1e-310}


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    yield
    adjit.set_threads(None)


def loss(w: Any, x: Any) -> Any:
    """Its value and its gradient are subnormal where x is."""
    return np.sum(w * x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [3, 1000])
def test_a_step_takes_them_for_zero(dtype: Any, size: int) -> None:
    x, w = np.full(size, SMALL[dtype], dtype), np.ones(size, dtype)
    found = {}
    for flush in (True, False):
        step = adjit.training_step(loss, adjit.optim.sgd(1.0), flush_subnormals=flush)
        state = step.init(w * 0)
        state.params[...] = SMALL[dtype]
        losses = [step(state, np.ones(size, dtype)) for _ in range(4)]
        kept = step.init(np.full(size, -SMALL[dtype], dtype))
        step(kept, x)
        found[flush] = losses[0], kept.params.copy()
    assert found[True][0] == 0.0
    np.testing.assert_array_equal(found[True][1], np.zeros(size, dtype))
    assert found[False][0] == pytest.approx(size * SMALL[dtype], rel=1e-4)
    np.testing.assert_allclose(found[False][1], -2 * x, rtol=1e-6)


def test_calls_runs_and_the_native_entry_agree() -> None:
    def decaying(w: Any, x: Any) -> Any:
        return np.sum(np.where(x > 0, w * x, 0.0))

    x = np.array([1.0] * 5 + [-1.0] * 1995, np.float32)
    step = adjit.training_step(decaying, adjit.optim.adam(1e-3))
    states = [step.init(np.ones(1, np.float32)) for _ in range(2)]
    called = [step(states[0], x[i : i + 1]) for i in range(len(x))]
    run = step.run(states[1], (x,), batch_size=1, shuffle=False)
    assert run.losses.tolist() == called
    for state in states:
        # 0.9^1995 is far below the smallest number; a moment would stay at the smallest ones for ever.
        assert float(state.optimizer["m"][0]) == 0.0
    assert states[0].params.tobytes() == states[1].params.tobytes()


def test_the_mode_ends_with_the_step() -> None:
    step = adjit.training_step(loss, adjit.optim.sgd(1.0))
    state = step.init(np.ones(4, np.float32))
    x = np.full(4, 1e-40, np.float32)
    double = adjit.jit(lambda x: x + x)
    for _ in range(4):
        step(state, x)
        assert (x + x != 0).all()
        assert (double(x) == x + x).all()
    checked = adjit.training_step(lambda w, i: np.sum(w[i]), adjit.optim.sgd(1.0))
    with pytest.raises(adjit.IndexOutOfRange):
        checked(checked.init(np.ones(3)), np.array([5]))
    assert (x + x != 0).all()


def test_workers_take_the_mode_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "PARALLEL_COST", 1)
    size = 1 << 16
    x = np.full(size, 1e-40, np.float32)
    step = adjit.training_step(lambda w, x: np.sum(w) + 0.0 * np.sum(x), adjit.optim.sgd(1.0, momentum=0.9))
    double = adjit.jit(lambda x: np.abs(x + x))
    for count in (1, 2, 3):
        adjit.set_threads(count)
        state = step.init(x)
        for _ in range(3):
            assert (double(x) == x + x).all()
            assert step(state, x[:3]) <= 0.0
            assert (double(x) == x + x).all()
    assert "adjit_parallel" in str(double.ir("llvm"))


def test_what_is_no_choice() -> None:
    with pytest.raises(adjit.ArgumentError, match="flush_subnormals is True or False"):
        adjit.training_step(loss, adjit.optim.sgd(1.0), flush_subnormals=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpu", "wanted"),
    [("apple-m1", "aarch64.set.fpcr"), ("haswell", "x86.sse.ldmxcsr"), ("x86-64-v4", "x86.sse.ldmxcsr")],
)
def test_every_machine_has_the_mode(cpu: str, wanted: str) -> None:
    module = Module("m", _target(cpu))
    f = module.function("f", I64, [])
    f.ret(flushing(f, lambda: f.call("g", I64, [])))
    assert str(module).count(f"call void @llvm.{wanted}") == 2
