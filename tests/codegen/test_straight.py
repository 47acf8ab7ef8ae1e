"""Straight-line programs: what the evaluator gives, for every op that has a straight form, on both instruction sets."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import adjit
from adjit import nn, optim
from adjit.codegen.straight import code_effort
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import F64
from adjit.schedule import straight
from adjit.schedule.overlaps import without_overlaps
from adjit.schedule.turns import Straight
from adjit.tuned import GATHER_EFFORT, STRAIGHT_EFFORT
from adjit_runtime.target import Target, host_target
from tests.codegen.running import Ran
from tests.graphs import GraphMaker, arrays
from tests.ops.samples import COMPUTED, assert_close, cases_of, graph_of, tolerance
from tests.ops.test_compiled import targets
from tests.thresholds import STRAIGHT, force

WITHOUT = {
    "argmax", "argmin", "cumsum", "cumprod", "check_index", "check_fits", "take", "scatter", "scatter_add",
    "sort", "argsort",
}  # fmt: skip


def in_a_line(graph: Graph, inputs: list[np.ndarray], target: Target | None = None) -> list[np.ndarray]:
    """What a graph gives as one straight line, however long that is."""
    with pytest.MonkeyPatch.context() as patch:
        force(patch, STRAIGHT)
        ran = Ran(graph, inputs, target, straight=True)
    plan = ran.lowered.plan
    assert [type(kernel.work) for kernel in plan.kernels] == [Straight]
    assert (ran.status, plan.arena_bytes) == (0, 0)
    return ran.outputs


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize("name", [name for name in COMPUTED if name not in WITHOUT])
def test_every_op_in_a_straight_line(name: str, target: Target) -> None:
    cases = [case for case in cases_of(name) if straight.fits(without_overlaps(graph_of([case])))]
    small = [case for case in cases if all(array.size <= 40 for array in case.arrays)]
    assert small
    graph = graph_of(small)
    inputs = [array for case in small for array in case.arrays]
    for case, found, want in zip(small, in_a_line(graph, inputs, target), evaluate(graph, *inputs), strict=True):
        assert_close(found, want, case, tolerance(case))


def test_what_has_no_straight_form() -> None:
    for name in WITHOUT:
        assert not straight.fits(graph_of(cases_of(name)[:1])), name


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 16))
def test_random_graphs(seed: int, steps: int) -> None:
    graph = GraphMaker(seed, F64, small=True).graph(steps)
    assume(straight.fits(graph))  # nine of ten do
    inputs = arrays(graph, seed)
    for found, want in zip(in_a_line(graph, inputs), evaluate(graph, *inputs), strict=True):
        scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0.0)))
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13 * scale, err_msg=str(graph))


def loss(p: Any, x: Any, y: Any) -> Any:
    h = nn.relu(x @ p["w1"] + p["b1"])
    return np.mean((h @ p["w2"] + p["b2"] - y) ** 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_is_one_straight_line(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(2, 5)), "b1": np.zeros(5), "w2": rng.normal(size=(5, 1)), "b2": np.zeros(1)}
    params = {name: value.astype(dtype) for name, value in params.items()}
    x, y = rng.normal(size=(3, 2)).astype(dtype), rng.normal(size=(3, 1)).astype(dtype)
    step = adjit.training_step(loss, optim.adam(1e-2))
    state, other = step.init(params), step.init(params)
    losses = [step(state, x, y) for _ in range(50)]
    assert "kernel 0 straight line on" in str(step.ir("plan"))
    assert "arena 0 bytes" in str(step.ir("plan"))
    run = step.run(other, (x, y), batch_size=3, epochs=50, shuffle=False)
    assert list(run.losses) == losses
    np.testing.assert_array_equal(state.params["w1"], other.params["w1"])
    # The loops of a larger plan give the same, but for the order of sums.
    graph = step.ir("optimized")
    inputs = arrays(graph, 1)
    inputs = [np.abs(a) if a.dtype.kind == "f" else np.abs(a) + 1 for a in inputs]
    line, loops = Ran(graph, inputs, straight=True), Ran(graph, inputs)
    assert [type(kernel.work) for kernel in line.lowered.plan.kernels] == [Straight]
    assert len(loops.lowered.plan.kernels) > 1
    for a, b in zip((*line.outputs, *line.inputs), (*loops.outputs, *loops.inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("shape", [(1,), (3,), (8,), (2, 3), (4, 8), (7, 16), (16, 7), (2, 3, 5), (5, 1, 6)], ids=str)
def test_sums_over_any_axes(shape: tuple[int, ...]) -> None:
    """Whole numbers, so that every order of a sum gives the same; the straight form moves what it folds."""
    x = np.random.default_rng(0).integers(-50, 50, shape).astype(np.float64)
    axes = [chosen for n in range(len(shape) + 1) for chosen in itertools.combinations(range(len(shape)), n)]
    function = adjit.jit(lambda x: [np.sum(x, axis=chosen) for chosen in axes])
    function(x)
    graph = function.ir("trace")
    assert straight.fits(graph)
    for chosen, found in zip(axes, in_a_line(graph, [x]), strict=True):
        np.testing.assert_array_equal(found, np.sum(x, axis=chosen))


@pytest.mark.parametrize("spec", ["ab,bc->ac", "ba,bc->ac", "ab,cb->ac", "ab,b->a", "b,b->", "dab,dbc->dac", "a,c->ac"])
@pytest.mark.parametrize("sizes", [(4, 2, 8, 2), (1, 7, 3, 2), (5, 5, 1, 3), (3, 8, 5, 1)], ids=str)
def test_contractions(spec: str, sizes: tuple[int, ...]) -> None:
    """Whole numbers again: wherever the axis that is summed lies."""
    rng = np.random.default_rng(0)
    size = dict(zip("abcd", sizes, strict=True))
    left, right = spec.split("->")[0].split(",")
    x, y = (rng.integers(-9, 9, [size[c] for c in own]).astype(np.float32) for own in (left, right))
    function = adjit.jit(lambda x, y: np.einsum(spec, x, y))
    function(x, y)
    graph = function.ir("optimized")
    assert straight.fits(graph)
    np.testing.assert_array_equal(in_a_line(graph, [x, y])[0], np.einsum(spec, x, y))


def gradient(function: Any, x: Any) -> Any:
    """The record of the gradient of a sum of `function`, whose value is right."""
    compiled = adjit.value_and_grad(lambda x: np.sum(function(x)))
    value, _ = compiled(x)
    np.testing.assert_allclose(value, np.sum(function(x)), rtol=1e-5 if x.dtype == np.float32 else 1e-12)
    (record,) = compiled.records.values()
    return record


ELEMENTWISE = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "tanh": np.tanh, "power": lambda x: x**2.5,
    "arctan": np.arctan, "expm1": np.expm1, "log1p": np.log1p, "chain": lambda x: np.log(np.sum(np.exp(x)) + np.exp(x)),
    "fmod": lambda x: np.fmod(x, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_what_llvm_would_take_long_for_is_no_straight_line(name: str, dtype: Any) -> None:
    """LLVM takes so long as it has instructions for whole registers, of seldom paths too: they are bounded."""
    lines = []
    for size in (8, 100, 256):
        record = gradient(ELEMENTWISE[name], np.full(size, 0.5, dtype))
        lines.append("straight line" in str(record.show("plan")))
        assert not lines[-1] or code_effort(record.made("code").llvm, host_target()) <= STRAIGHT_EFFORT
    # Each is a line where it is short, and no longer once it is not, but for the slow paths of sines on few registers.
    assert lines == sorted(lines, reverse=True)
    if name in ("sin", "cos", "tan"):
        assert not lines[-1]
    else:
        assert lines[0]


def test_many_operations_on_a_small_table_are_no_straight_line() -> None:
    def f(a: Any, b: Any) -> Any:
        z = np.clip(np.cos(np.minimum(a, b)), -1.5, 1.5)
        return np.sum(z + np.sin(a)) + np.sum(np.arctan(a * b) + np.tan(0.1 * a))

    compiled = adjit.value_and_grad(f, argnums=(0, 1))
    a, b = np.full((19, 1), 0.3), np.full((1, 9), 0.4)
    value, _ = compiled(a, b)
    np.testing.assert_allclose(value, f(a, b), rtol=1e-12)
    assert "straight line" not in str(compiled.ir("plan"))


def test_effort_counts_registers() -> None:
    """A vector counts as often as it fills one, a gather for each element, a shuffle for its result."""
    lines = [
        ("  %a = fadd <32 x double> %x, %y", 4),
        ("  %a = fcmp ogt <32 x double> %x, %y", 4),
        ("  %a = fadd double %x, %y", 1),
        ("  %a = shufflevector <32 x double> %x, <32 x double> poison, <8 x i32> <i32 0, i32 1>", 1),
        ("  %a = call <8 x double> @llvm.masked.gather.v8f64(<8 x ptr> %p, i32 8)", GATHER_EFFORT),
        ("entry:", 0),
    ]
    for line, count in lines:
        assert code_effort(line, replace(host_target(), vector_bytes=64)) == count
    for nbytes in (16, 32, 64):
        target = replace(host_target(), vector_bytes=nbytes)
        assert code_effort("  %a = fadd <64 x float> %x, %y", target) == 256 // nbytes


def test_the_smallest_networks_are_far_from_the_bound() -> None:
    """2-8-1 with Adam, on the four rows of xor: bounds on what LLVM takes must leave it a line, with the same code."""
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(2, 8)), "b1": np.zeros(8), "w2": rng.normal(size=(8, 1)), "b2": np.zeros(1)}
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([[0], [1], [1], [0.0]])
    step = adjit.training_step(loss, optim.adam(1e-2))
    step(step.init(params), x, y)
    (record,) = step.records.values()
    assert "straight line" in str(record.show("plan"))
    assert 4 * code_effort(record.made("code").llvm, host_target()) < STRAIGHT_EFFORT
