"""The pipeline: its stages, what is shown of them and when they run; how rules of the reals are allowed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import adjit
from adjit import nn, optim, stages
from adjit.codegen import emit
from adjit.ir.graph import Graph
from adjit.stages import SHOWN, STAGES, Record
from adjit_runtime.errors import InternalError
from adjit_runtime.load import Session
from adjit_runtime.target import host_target


def twice(x: Any) -> Any:
    return x * 2.0


def record_of(function: Any) -> Record:
    record: Record = next(reversed(function.records.values()))
    return record


def trained() -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """A step whose products call a library, after its first call."""

    def loss(params: Any, x: Any, labels: Any) -> Any:
        h = nn.relu(x @ params["w1"] + params["b1"])
        return nn.cross_entropy(h @ params["w2"], labels)

    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(40, 64)), "b1": np.zeros(64), "w2": rng.normal(size=(64, 10))}
    step = adjit.training_step(loss, optim.adam(1e-3))
    state = step.init(params)
    x, labels = rng.normal(size=(48, 40)), rng.integers(0, 10, 48)
    step(state, x, labels)
    return step, state, x, labels


def test_the_pipeline_is_one_list() -> None:
    names = [stage.name for stage in STAGES]
    assert names == [
        "trace",
        "roll",
        "adjoint",
        "step",
        "batch",
        "inline",
        "widen",
        "passes",
        "plan",
        "code",
        "object",
        "link",
    ]
    assert list(SHOWN) == ["trace", "rolled", "adjoint", "step", "batch", "optimized", "plan", "llvm", "asm"]
    own = [stage.make is None for stage in STAGES]
    assert own == sorted(own, reverse=True), "what is the function's own comes first"


def test_a_record_has_what_each_stage_made() -> None:
    step, *_ = trained()
    made = record_of(step).until("link")
    # The graph of the step is kept; what comes after it is not made for those who look ahead of it.
    assert list(made) == ["step", "inline", "widen", "passes", "plan", "code", "object", "link"]
    assert all(isinstance(made[stage.name], stage.makes) for stage in STAGES if stage.name in made)
    assert list(record_of(step).until("adjoint")) == ["trace", "roll", "adjoint"]
    assert made["code"].plan is made["plan"].plan
    assert str(step.ir("optimized")) == str(made["passes"])
    assert str(step.ir("llvm")) == made["code"].llvm


def test_what_is_shown_later_is_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says by then."""
    monkeypatch.setenv("ADJIT_CPU", "nehalem")
    target = host_target()
    step, state, x, labels = trained()
    names = [name for name in SHOWN if name != "batch"]
    before = [str(step.ir(name)) for name in names] + [str(step.explain())]
    monkeypatch.delenv("ADJIT_CPU")
    monkeypatch.setenv("ADJIT_THREADS", "1")
    assert host_target() != target
    assert [str(step.ir(name)) for name in names] + [str(step.explain())] == before
    linked = []
    library = Session.library

    def note(self: Session, name: str, target: Any = None) -> dict[str, int]:
        if name.startswith("gemm"):
            linked.append(target)
        return library(self, name, target)

    monkeypatch.setattr(Session, "library", note)
    profile = step.profile(state, x, labels, steps=3)
    assert len(profile.rows) == before[names.index("plan")].count("\nkernel ")
    assert linked
    assert set(linked) == {target}


@pytest.mark.parametrize("straight", [True, False])
def test_a_straight_line_is_written_once(straight: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be measured, and not again to be compiled; nor where it proves too long, as kernels come in its place."""
    monkeypatch.setenv("ADJIT_CACHE", "0")
    written = []
    line = emit.emit_straight
    monkeypatch.setattr(emit, "emit_straight", lambda *args: written.append(1) or line(*args))
    if not straight:
        monkeypatch.setattr(emit, "STRAIGHT_EFFORT", 10)
    function = adjit.jit(lambda x: sum(np.sin(x * k) for k in range(1, 4)))
    function(np.ones(3))
    assert len(written) == 1
    assert ("straight line" in str(function.ir("plan"))) == straight


def test_a_stage_that_does_not_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Graph, *args: Any) -> Graph:
        return dataclasses.replace(graph, nodes=())

    monkeypatch.setenv("ADJIT_CACHE", "0")
    monkeypatch.setenv("ADJIT_VERIFY", "1")
    monkeypatch.setattr(stages, "optimize", broken)
    with pytest.raises(InternalError, match=r"passes made what is invalid: (.|\n)*graph @"):
        adjit.jit(lambda x: np.sin(x) * 2.0)(1.0)


def test_plans_are_verified_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(plan: Any) -> None:
        raise InternalError("the plan of @f is invalid: so we say")

    monkeypatch.setattr(stages, "verify_plan", refuse)
    monkeypatch.setenv("ADJIT_CACHE", "0")
    expected = r"twice: plan made what is invalid: .*so we say(.|\n)*The graph:\ngraph @"
    monkeypatch.setenv("ADJIT_VERIFY", "1")
    with pytest.raises(InternalError, match=expected):
        adjit.jit(twice)(np.ones(3))
    monkeypatch.setenv("ADJIT_VERIFY", "0")
    assert adjit.jit(twice)(2.0) == 4.0


# -- rules of the reals -----------------------------------------------------------------------------------------------


def thirds(x: Any) -> Any:
    return np.sum(np.sin(x / 3.0) + ((x + 0.25) + 0.5) ** 2)


def squares(params: Any, x: Any) -> Any:
    return np.mean((x @ params / 3.0) ** 2)


def made(kind: str, **options: Any) -> tuple[Any, Any]:
    """A compiled function of a kind after its first call, and what that gave."""
    x = np.random.default_rng(0).normal(size=(7, 3))
    if kind == "training_step":
        step = adjit.training_step(squares, optim.sgd(0.1), **options)
        state = step.init(np.ones(3))
        return step, (step(state, x), state.params.copy())
    function = getattr(adjit, kind)(thirds, **options)
    return function, function(x)


def leaves(tree: Any) -> list[Any]:
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [tree]


KINDS = ("jit", "grad", "value_and_grad", "training_step")


@pytest.mark.parametrize("kind", KINDS)
def test_rules_of_the_reals_run_where_they_are_allowed(kind: str) -> None:
    exact, before = made(kind)
    allowed, after = made(kind, inexact=True)
    assert " div " in str(exact.ir("optimized"))
    assert " div " not in str(allowed.ir("optimized"))
    for one, other in zip(leaves(before), leaves(after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)  # some roundings


@pytest.mark.parametrize("kind", KINDS)
def test_programs_with_and_without_them_are_two(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    chosen = [{}, {"inexact": True}, {}, {"inexact": True}]
    found = [record_of(made(kind, **options)[0]) for options in chosen]
    assert [record.cached for record in found] == [False, False, True, True]
    assert [record.options.inexact for record in found] == [False, True, False, True]


def test_without_them_the_bits_are_numpys() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    third = np.float64(1.0) / 3.0
    assert (x / 3.0 != x * third).any()
    np.testing.assert_array_equal(adjit.jit(lambda x: x / 3.0)(x), x / 3.0)
    np.testing.assert_array_equal(adjit.jit(lambda x: x / 3.0, inexact=True)(x), x * third)
    nothing = np.array([np.inf, np.nan, 1.0])
    np.testing.assert_array_equal(adjit.jit(lambda x: x - x)(nothing), [np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(adjit.jit(lambda x: x - x, inexact=True)(nothing), np.zeros(3))


def test_the_outermost_function_says_whether_they_run() -> None:
    inner = adjit.jit(lambda x: x / 3.0, inexact=True)
    outer = adjit.jit(lambda x: inner(x) + 1.0)
    outer(np.ones(5))
    assert " div " in str(outer.ir("optimized"))

    @adjit.jit(inexact=True)
    def whole(x: Any) -> Any:
        return adjit.jit(lambda x: x / 3.0)(x) + 1.0

    whole(np.ones(5))
    assert " div " not in str(whole.ir("optimized"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_truth_is_refused(kind: str) -> None:
    with pytest.raises(adjit.ArgumentError, match=f"{kind}: inexact is True or False, not 'yes'"):
        made(kind, inexact="yes")
    with pytest.raises(adjit.ArgumentError, match="inexact"):
        made(kind, fastmath=True)
