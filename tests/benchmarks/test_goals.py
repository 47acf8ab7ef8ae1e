"""What rows have to reach, and the workloads that are transformations: derivatives against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from benchmarks import report as reports
from benchmarks import sides
from benchmarks.goals import GOALS, UNITS, judged
from benchmarks.results import Measured, Rates, Report, Row
from benchmarks.transformed import classifier, residual, rosenbrock, tridiagonal_indices
from benchmarks.workloads import WORKLOADS, problem_of

import adjit


def measured(values: list[float], steps: tuple[float, ...], **others: Any) -> Measured:
    return Measured(values, 0.1, step=Rates(steps), **others)


def report(*rows: Row) -> Report:
    return Report(list(rows), {}, {"adjit": "1.0", "jax": "2.0"}, [], "A machine", "2030-01-01")


def limited(workload: str, ours: Measured, peer: Measured | None = None, unit: Measured | None = None) -> Row:
    sides = {"adjit": ours} | ({"jax": peer} if peer else {})
    return Row(workload, 1, 1e-4, 0.0, 0.0, True, sides, unit=unit)


def test_rows_are_held_to_their_limits() -> None:
    ours = measured([1.0], (2000.0,) * 3, cold_cpu=0.4)
    met = limited("carries", ours, measured([1.0], (99.0,) * 3), measured([1.0], (5980.0,) * 3))
    assert [(one.measured, one.met) for one in judged(met)] == [
        ("20.20", True), ("500.0 us", True), ("0.40 s", True), ("2.99", True),
    ]  # fmt: skip
    assert report(met).faults() == []
    slow = measured([1.0], (900.0,) * 3, cold_cpu=0.6)
    missed = limited("carries", slow, measured([1.0], (99.0,) * 3), measured([1.0], (5980.0,) * 3))
    assert report(missed).faults() == [
        "carries, 1 thread: at least 20 x jax: 9.09",
        "carries, 1 thread: at most 1,000 us: 1111.1 us",
        "carries, 1 thread: first call at most 0.5 s of the CPU: 0.60 s",
        "carries, 1 thread: at most 3 x the value alone, by hand in Numba: 6.64",
    ]
    assert "| carries | at least 20 x jax | MISSED: 9.09 |" in reports.text_of(report(missed))


def test_limits_of_first_calls_and_of_the_best_peer() -> None:
    ours, unit = measured([1.0], (100.0,) * 3, cold_cpu=0.31), measured([1.0], (400.0,) * 3, cold_cpu=0.1)
    found = judged(limited("hessian", ours, measured([1.0], (101.0,) * 3), unit))
    assert [one.limit for one in found if not one.met] == [
        "at least 1 x the best peer", "first call at most 3 x that of the gradient",
    ]  # fmt: skip
    # What was not measured is not judged, and what failed is a fault of its own.
    alone = judged(limited("hessian", ours, unit=Measured(failure="no Numba")))
    assert [one.limit for one in alone] == ["first call at most 0.5 s of the CPU"]
    assert judged(limited("hessian", Measured(failure="out of memory"))) == []
    assert judged(limited("xor", ours)) == []


def test_limits_of_memory_are_shares_of_the_least_peer() -> None:
    def row(ours: int, *theirs: int) -> Row:
        peers = {f"peer{i}": measured([1.0], (10.0,), memory=size) for i, size in enumerate(theirs)}
        return Row("attention", 1, 1e-4, 0.0, 0.0, False, {"adjit": measured([1.0], (20.0,), memory=ours), **peers})

    def told(row: Row) -> list[tuple[str, bool]]:
        return [(one.measured, one.met) for one in judged(row) if "memory" in one.limit]

    assert told(row(25, 100, 400)) == [("0.25", True)]
    assert told(row(26, 400, 100)) == [("0.26", False)]
    # Where the system says nothing, or nobody is beside, there is nothing to judge.
    assert told(row(25, 0)) == told(row(0, 100)) == told(row(25)) == []


def test_limits_are_those_of_rows() -> None:
    assert set(GOALS) <= set(WORKLOADS)
    assert set(UNITS) <= set(GOALS)
    for unit in UNITS.values():
        assert problem_of(unit.workload).tolerance > 0


def step_of(name: str) -> Any:
    side = sides.build("adjit", name, WORKLOADS[name]())
    assert side is not None
    return side.step()


def along(function: Any, x: Any, v: Any, h: float = 1e-5) -> Any:
    """By central differences, which have some eight digits."""
    return (function(x + h * v) - function(x - h * v)) / (2 * h)


def in_double(params: Any) -> Any:
    return {key: array.astype(np.float64) for key, array in params.items()}


def test_entries_of_the_tridiagonal_jacobian() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    u = WORKLOADS["tridiagonal"]().params["u"]
    v = np.random.default_rng(1).normal(size=u.shape)
    matrix = sparse.csr_array((step_of("tridiagonal")["entries"], tridiagonal_indices(len(u))))
    np.testing.assert_allclose(matrix @ v, along(residual(np), u, v), atol=1e-6)


def test_the_hessian_of_a_row() -> None:
    x = WORKLOADS["hessian"]().params["x"]
    v = np.random.default_rng(1).normal(size=x.shape)
    expected = along(adjit.grad(rosenbrock(np)), x, v)
    np.testing.assert_allclose(step_of("hessian")["x"] @ v, expected, rtol=1e-6, atol=1e-4)  # of numbers up to 1e4


def test_gradients_of_examples_are_those_one_by_one() -> None:
    problem, found = WORKLOADS["vmap_grad"](), step_of("vmap_grad")
    x, labels = problem.data["x"].astype(np.float64), problem.data["labels"]
    for at in (0, 255):
        one = adjit.grad(classifier(np))(in_double(problem.params), x[at], labels[at])
        for key, gradient in one.items():
            np.testing.assert_allclose(found[key][at], gradient, atol=1e-5)  # of float32


def test_the_product_with_a_hessian_of_a_row() -> None:
    problem, gradient = WORKLOADS["hvp"](), adjit.grad(classifier(np))
    p, v, x, h = in_double(problem.params["p"]), problem.params["v"], problem.data["x"].astype(np.float64), 1e-5
    ends = [
        gradient({key: array + step * v[key] for key, array in p.items()}, x, problem.data["labels"])
        for step in (h, -h)
    ]
    for key, product in step_of("hvp").items():
        np.testing.assert_allclose(product, (ends[0][key] - ends[1][key]) / (2 * h), atol=1e-4)  # of float32


def test_numba_by_hand_has_the_rows_value() -> None:
    """What `carries` is measured in is the same loop."""
    pytest.importorskip("numba")
    value, row = (sides.build("numba", name, problem_of(name)) for name in ("carries_value", "carries"))
    assert value is not None
    assert row is not None
    assert sides.as_number(value.step()) == pytest.approx(sides.as_number(row.step()), rel=1e-12)  # the same sums
