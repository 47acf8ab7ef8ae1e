"""Small matrices in lanes: the same function, compiled and evaluated, for as many places as do not fill vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.codegen.running import Ran

import adjit
from adjit.codegen.races import verify_jobs
from adjit.ir.builder import Builder, Value
from adjit.ir.evaluate import evaluate
from adjit.ir.graph import Graph
from adjit.ir.types import BOOL, F64, I64, Array
from adjit.passes import across
from adjit.passes.pipeline import optimize
from adjit.schedule.across import Across
from adjit.schedule.parse import parse_plan
from adjit.schedule.text import print_plan
from adjit_runtime.errors import LinAlgError
from adjit_runtime.target import host_target

RNG = np.random.default_rng(0)


def definite(*shape: int) -> np.ndarray:
    x = RNG.normal(size=shape)
    return np.asarray(x @ np.swapaxes(x, -1, -2) + shape[-1] * np.eye(shape[-1]))


def kinds(graph: Graph, arrays: list[np.ndarray]) -> list[str]:
    """The kinds of work that a graph becomes, when what machine code gives has been held against NumPy's meaning, and
    its plan against the verifiers and its own text."""
    ran = Ran(optimize(graph), arrays)
    for found, expected in zip(ran.outputs, evaluate(graph, *arrays), strict=True):
        single = found.dtype == np.float32
        # What is divided by several times is divided by once.
        np.testing.assert_allclose(found, expected, rtol=2e-3 if single else 1e-9, atol=1e-4 if single else 1e-10)
    plan = ran.lowered.plan
    assert print_plan(parse_plan(print_plan(plan))) == print_plan(plan)
    verify_jobs(plan, host_target())
    return [type(kernel.work).__name__ for kernel in plan.kernels]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("lead", "n", "m"),
    [
        ((4,), 1, 1),
        ((5,), 2, 3),
        ((7,), 3, 1),
        ((8,), 4, 4),
        ((9,), 5, 2),
        ((2, 3), 4, 1),
        ((37,), 7, 5),
        ((65,), 8, 8),
    ],
)
def test_places_of_any_number(lead: tuple[int, ...], n: int, m: int, dtype: Any) -> None:
    b = Builder()
    given = [definite(*lead, n, n).astype(dtype), RNG.normal(size=(*lead, n, m)).astype(dtype)]
    x, c = (b.value(b.input(name, Array(a.dtype, a.shape))) for name, a in zip("xc", given, strict=True))
    rank = len(lead)
    turned = b.transpose(x, axes=(*range(rank), rank + 1, rank))
    f = b.lu(x + turned)
    y = b.solve(x + turned, f, c * c, transposed=False)
    letters = "xy"[:rank]
    gram = b.contract(y, y, spec=f"{letters}ab,{letters}ac->{letters}bc")
    low = b.cholesky(x)
    z = b.triangular_solve(low, y - c, lower=True, transposed=True, unit=False)
    outputs = [y, gram, low, z, b.log_det(x, f), b.sum(z, axes=(rank,)), b.sum(y, axes=tuple(range(rank + 2)))]
    made = kinds(b.graph("f", [value.node for value in outputs]), given)
    assert made.count("Across") == 1
    assert "Factored" not in made
    assert "Product" not in made


def test_what_is_the_same_everywhere_and_what_is_no_float() -> None:
    b = Builder()
    arrays = [definite(20, 3, 3), RNG.normal(size=(3, 3)), RNG.normal(size=20) > 0, np.arange(60).reshape(20, 3)]
    x, w, flag, number = (
        b.value(b.input(name, Array(a.dtype, a.shape))) for name, a in zip("xwfi", arrays, strict=True)
    )

    def wide(value: Value, *axes: int) -> Value:
        found: Value = b.broadcast(value, shape=(20, 3, 3), axes=axes)
        return found

    assert (flag.dtype, number.dtype) == (BOOL, I64)
    scaled = b.select(wide(flag, 0), x, x + wide(w * w, 1, 2)) + b.cast(wide(number, 0, 1), dtype=F64)
    low = b.cholesky(b.contract(scaled, scaled, spec="abc,adc->abd") + 3.0 * x)
    signs = low > wide(w, 1, 2)
    padded = b.pad(low, value=2.0, low=(0, 1, 0), high=(0, 0, 1), interior=(0, 0, 0))
    outputs = [low, signs, padded, b.concatenate(low, x, axis=2)]
    made = kinds(b.graph("f", [value.node for value in outputs]), arrays)
    assert made.count("Across") == 1


def test_one_that_needs_all_places_of_another_comes_after() -> None:
    b = Builder()
    x = b.value(b.input("x", Array(F64, (12, 3, 3))))
    low = b.cholesky(x)
    most = b.broadcast(b.max(low, axes=(0, 1, 2)), shape=(12, 3, 3), axes=())
    graph = b.graph("f", [b.cholesky(low + most * x).node])
    assert kinds(graph, [definite(12, 3, 3)]).count("Across") == 2


def test_what_takes_too_many_instructions_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "ACROSS_WORK", 400)
    b = Builder()
    x = y = b.value(b.input("x", Array(F64, (6, 4, 4))))
    for _ in range(8):
        y = b.cholesky(x + 0.1 * b.contract(y, y, spec="abc,adc->abd"))
    works = Ran(optimize(b.graph("f", [y.node])), [definite(6, 4, 4)]).lowered.plan.kernels
    loops = [kernel.work for kernel in works if isinstance(kernel.work, Across)]
    assert len(loops) > 1
    assert kinds(b.graph("f", [y.node]), [definite(6, 4, 4)]).count("Across") == len(loops)


def nothing(x: Any) -> Any:
    return np.sum(np.linalg.cholesky(x))


FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "cholesky": (nothing, 1),
    "solve": (lambda x, c: np.sum(np.linalg.solve(x, c) ** 2), 2),
    "inv": (lambda x: np.sum(np.linalg.inv(x)), 1),
    "slogdet": (lambda x: np.sum(np.linalg.slogdet(x)[1]), 1),
    "det": (lambda x: np.sum(np.linalg.det(x)), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name: str) -> None:
    f, count = FUNCTIONS[name]
    args = [definite(9, 3, 3) / 3, RNG.normal(size=(9, 3, 1))][:count]
    adjit.check_grads(f, args)
    step = adjit.value_and_grad(f, argnums=tuple(range(count)))
    value, grads = step(*args)
    np.testing.assert_allclose(value, f(*args), rtol=1e-12)
    plain = adjit.grad(f, argnums=tuple(range(count)))(*args)
    for with_value, without in zip(grads, plain, strict=True):
        np.testing.assert_allclose(without, with_value, rtol=1e-12)
    # All of it is one loop over the matrices; what is left is small.
    assert step.ir("plan").count(" across 9 on ") == 1


def test_a_matrix_without_a_factor_is_an_error_of_the_gradient_alone_too() -> None:
    bad = definite(9, 3, 3)
    bad[8] = -np.eye(3)
    for made in (adjit.grad(nothing), adjit.value_and_grad(nothing), adjit.jit(nothing)):
        with pytest.raises(LinAlgError, match="positive definite"):
            made(bad)


def test_loops_of_the_user_are_in_lanes_too() -> None:
    def logs(x: Any) -> Any:
        return adjit.map(lambda a: np.linalg.slogdet(a)[1], x)

    x = definite(11, 4, 4)
    step = adjit.jit(logs)
    np.testing.assert_allclose(step(x), np.linalg.slogdet(x)[1], rtol=1e-12)
    assert " across 11 on " in step.ir("plan")


def test_batches_in_turns_of_a_loop_are_in_lanes() -> None:
    def last(x: Any) -> Any:
        return adjit.scan(lambda c, a: (np.linalg.cholesky(a + c @ np.swapaxes(c, 1, 2)), None), x[0], x[1:])[0]

    x = definite(5, 9, 3, 3)
    step = adjit.jit(last)
    expected = x[0]
    for each in x[1:]:
        expected = np.linalg.cholesky(each + expected @ np.swapaxes(expected, 1, 2))
    np.testing.assert_allclose(step(x), expected, rtol=1e-12)
    assert " across 9 on " in step.ir("plan")
    adjit.check_grads(lambda x: np.sum(last(x)), (x[:3, :, :2, :2],))
