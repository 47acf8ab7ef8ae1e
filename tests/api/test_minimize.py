"""`minimize`: L-BFGS in one native call, beside SciPy's, and the strong Wolfe conditions of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import adjit
from adjit.minimizing.search import FLATTER, LOWER, Point, search

RNG = np.random.default_rng(0)


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def begin(n: int) -> np.ndarray:
    return np.where(np.arange(n) % 2, 1.0, -1.2)


FEATURES = RNG.normal(size=(60, 4)) * [1, 10, 0.1, 3]
LABELS = (FEATURES @ [1.0, -0.2, 5, 0.3] + RNG.normal(size=60) > 0).astype(np.float64)


def logistic(p: Any, x: Any, y: Any) -> Any:
    logits = x @ p["w"] + p["b"]
    return np.mean(np.logaddexp(0, logits) - y * logits) + 1e-3 * np.sum(p["w"] ** 2)


SCALES = 10.0 ** np.linspace(-3, 3, 12)


def scaled(x: Any) -> Any:
    """A quadratic whose curvatures are of six orders."""
    return 0.5 * np.sum(SCALES * (x - 1) ** 2)


@pytest.mark.parametrize("n", [2, 10, 101])
def test_rosenbrock_beside_scipy(n: int) -> None:
    found = adjit.minimize(rosenbrock, begin(n), tol=1e-8, max_steps=2000)
    theirs = scipy.optimize.minimize(
        scipy.optimize.rosen, begin(n), jac=scipy.optimize.rosen_der, method="L-BFGS-B",
        options={"gtol": 1e-8, "ftol": 0, "maxiter": 2000},
    )  # fmt: skip
    assert found.converged
    assert found.why == "no element of the gradient is larger than tol"
    assert found.gradient <= 1e-8
    np.testing.assert_allclose(found.gradient, np.max(np.abs(scipy.optimize.rosen_der(found.x))), atol=1e-11)
    np.testing.assert_allclose(found.value, rosenbrock(found.x), atol=1e-20)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-6)
    # No worse than theirs, which search alike.
    assert found.evaluations <= 1.5 * theirs.nfev
    assert found.steps < found.evaluations


def test_logistic_regression_of_a_tree_in_a_compiled_function() -> None:
    solve = adjit.jit(lambda p, x, y: adjit.minimize(logistic, p, x, y, tol=1e-9))
    start = {"w": np.zeros(4), "b": 0.0}
    found = solve(start, FEATURES, LABELS)
    theirs = scipy.optimize.minimize(
        lambda v: logistic({"w": v[1:], "b": v[0]}, FEATURES, LABELS), np.zeros(5), options={"gtol": 1e-9}
    )
    assert isinstance(found, adjit.Minimum)
    assert found.converged
    np.testing.assert_allclose([found.x["b"], *found.x["w"]], theirs.x, rtol=1e-4)  # Theirs by differences.
    assert found.value <= theirs.fun + 1e-12
    # Other data, the same program.
    other = solve(start, FEATURES, 1 - LABELS)
    np.testing.assert_allclose(other.x["w"], -found.x["w"], rtol=1e-6)
    assert len(solve.signatures()) == 1


@pytest.mark.parametrize("history", [5, 40])
def test_scales_of_six_orders(history: int) -> None:
    found = adjit.minimize(scaled, np.zeros(12), tol=1e-6, history=history, max_steps=20_000)
    theirs = scipy.optimize.minimize(
        scaled, np.zeros(12), jac=lambda x: SCALES * (x - 1), method="L-BFGS-B",
        options={"gtol": 1e-6, "ftol": 0, "maxcor": history, "maxiter": 20_000, "maxfun": 100_000},
    )  # fmt: skip
    assert found.converged
    np.testing.assert_allclose(found.x, 1.0, atol=2e-3)
    assert found.evaluations <= 1.5 * theirs.nfev


def test_the_function_is_traced_once() -> None:
    calls = []

    def counted(x: Any) -> Any:
        calls.append(x)
        return np.sum((x - 2) ** 4)

    assert adjit.minimize(counted, np.zeros(3)).converged
    assert len(calls) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_and_trees(dtype: Any) -> None:
    tol = 1e-3 if dtype == np.float32 else 1e-9
    found = adjit.minimize(rosenbrock, begin(6).astype(dtype), tol=tol)
    assert found.converged
    assert found.x.dtype == dtype
    np.testing.assert_allclose(found.x, 1.0, atol=20 * tol)
    mixed = adjit.minimize(
        lambda t: np.sum((t[0] - 1).astype(np.float64) ** 2) + (t[1] + 2) ** 2, (np.zeros((2, 1), np.float32), 5)
    )
    assert mixed.x[0].dtype == np.float32
    np.testing.assert_allclose(mixed.x[0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(mixed.x[1], -2.0, rtol=1e-6)
    assert float(adjit.minimize(lambda x: (x - 3) ** 2, 1.0).x) == pytest.approx(3)


def test_how_it_ends() -> None:
    """Each reason, and what is told of it."""
    at_once = adjit.minimize(rosenbrock, np.ones(3))
    assert (at_once.steps, at_once.evaluations, at_once.converged) == (0, 1, True)
    none = adjit.minimize(rosenbrock, begin(3), max_steps=0)
    assert (none.steps, none.evaluations, none.converged, none.why) == (0, 1, False, "max_steps were made")
    np.testing.assert_array_equal(none.x, begin(3))
    assert none.value == rosenbrock(begin(3))
    few = adjit.minimize(rosenbrock, begin(3), max_steps=4)
    assert (few.steps, few.converged) == (4, False)
    rough = adjit.minimize(rosenbrock, begin(3), value_tol=1e-3, tol=0.0)
    assert rough.converged
    assert rough.why == "the value changed by no more than value_tol"
    assert 0 < rough.value < rosenbrock(begin(3))
    kink = adjit.minimize(lambda x: np.sum(2 * np.abs(x - 1.5) + x), np.array([0.0, 3.1]), tol=0.0)
    assert not kink.converged
    assert "no lower value" in kink.why
    np.testing.assert_allclose(kink.x, 1.5, atol=1e-6)
    steep = adjit.minimize(lambda x: -np.sum(np.exp(x)), np.zeros(2), max_steps=50)
    assert not steep.converged
    assert np.isfinite(steep.value)
    # To the last digit: rounding ends it, not the limit.
    exact = adjit.minimize(lambda x: scaled(x) + 1, np.zeros(12), tol=0.0, history=20)
    assert exact.steps < 500
    assert exact.value == 1


def test_what_is_not_finite() -> None:
    """Beside a wall steps are shorter; at the beginning it is an error."""
    found = adjit.minimize(lambda x: np.sum(x - np.log(x)), np.array([1e-3, 50.0]), tol=1e-8)
    assert found.converged
    np.testing.assert_allclose(found.x, 1.0, rtol=1e-6)
    for x0 in (np.array([-1.0]), np.array([np.nan]), np.array([np.inf])):
        with pytest.raises(adjit.NotFiniteError, match="at x0 is not finite"):
            adjit.minimize(lambda x: np.sum(x - np.log(x)), x0)
    with pytest.raises(adjit.NotFiniteError):
        # The value is 0 there, and the slope is not.
        adjit.minimize(lambda x: np.sum(np.sqrt(x)), np.zeros(2))


def test_many_at_once_are_what_each_is_alone() -> None:
    starts = RNG.normal(size=(3, 5))
    many = adjit.vmap(lambda x: adjit.minimize(rosenbrock, x, tol=1e-8))(starts)
    for k, x0 in enumerate(starts):
        one = adjit.minimize(rosenbrock, x0, tol=1e-8)
        # Sums in another order lead another way to the same place.
        np.testing.assert_allclose(many.x[k], one.x, atol=1e-6)
        assert many.converged[k]


def quartic(a: Any) -> Any:
    return (a - 3) ** 4 - a


# Of Moré and Thuente, ACM TOMS 20, 1994, and others: functions of one number that go down at 0.
LINES: dict[str, Callable[[Any], Any]] = {
    "rational": lambda a: -a / (a**2 + 2),
    "late": lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
    "wave": lambda a: np.where(np.abs(a - 1) < 0.01, (a - 1) ** 2 / 0.02 + 0.005, np.abs(a - 1))
    + 1.98 / (39 * np.pi) * np.sin(39 * np.pi / 2 * a),
    "quartic": quartic,
    "wall": lambda a: np.where(a < 2.5, a * a - 3 * a, np.nan),
    "parabola": lambda a: (a - 1e4) ** 2 / 1e8,
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_steps_meet_the_strong_wolfe_conditions(name: str) -> None:
    evaluate = adjit.value_and_grad(lambda x: np.sum(LINES[name](x)))
    value, slope = evaluate(np.zeros(1))
    assert slope[0] < 0

    @adjit.jit
    def run(first: Any) -> Any:
        start = Point(first * 0, first * 0 + value, first * 0 + slope[0])
        return search(evaluate, np.zeros(1), np.ones(1), start, first * 0 + slope, first, first < 0, 25)

    for trial in (1e-3, 0.1, 1.0, 10.0, 1e3):
        found = run(trial)
        assert found.point.value <= value + LOWER * found.point.at * slope[0]
        assert abs(found.point.slope) <= FLATTER * abs(slope[0])
        assert found.evaluations < 25
        there, slopes = evaluate(found.point.at * np.ones(1))
        np.testing.assert_allclose((found.point.value, *found.gradient), (there, *slopes), rtol=1e-12)


def test_what_is_refused() -> None:
    for call, kind, text in (
        (lambda: adjit.minimize(lambda x: x, np.ones(2)), adjit.ShapeError, "scalar"),
        (lambda: adjit.minimize(lambda x: np.sum(x) > 1, np.ones(2)), adjit.DTypeError, "bool"),
        (lambda: adjit.minimize(rosenbrock, np.array([1, 2])), adjit.DTypeError, "x0 is i64"),
        (lambda: adjit.minimize(rosenbrock, {}), adjit.ArgumentError, "no numbers"),
        (lambda: adjit.minimize(rosenbrock, np.zeros(0)), adjit.ArgumentError, "no numbers"),
        (lambda: adjit.minimize(rosenbrock, "x"), adjit.ArgumentError, "no array"),
        (lambda: adjit.minimize(rosenbrock, np.ones(2), history=0), adjit.ArgumentError, "history"),
        (lambda: adjit.minimize(rosenbrock, np.ones(2), maxiter=3), adjit.ArgumentError, "max_steps"),
    ):
        with pytest.raises(kind, match=text):
            call()


def test_derivatives_are_those_of_the_steps() -> None:
    least = adjit.jit(lambda a: adjit.minimize(lambda x: np.sum((x - a) ** 2) + a**3, np.zeros(2), tol=1e-9))
    assert float(adjit.grad(lambda a: least(a).value)(2.0)) == pytest.approx(12)
    assert adjit.jvp(lambda a: least(a).x, (2.0,), (1.0,))[1].tolist() == pytest.approx([1, 1])
