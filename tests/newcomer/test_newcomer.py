"""Programs as a scientist who knows NumPy and SciPy writes them, run as they stand; what they find is compared with
SciPy on the plain functions, with central differences in float64, and with the parameters behind simulated data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjit

pytest.importorskip("scipy")

from scipy.optimize import curve_fit, least_squares, minimize
from tests.newcomer import double_pendulum, garch, predator_prey, regression, spirals


def differences(function: Callable[[Any], Any], x: Any, size: float = 1e-6) -> np.ndarray:
    """The derivative of a function of one vector, scalar or not, by central differences; its axis is the last one."""
    x = np.asarray(x, float)
    columns = []
    for direction in size * np.eye(len(x)):
        high, low = np.asarray(function(x + direction)), np.asarray(function(x - direction))
        columns.append((high - low) / (2 * size))
    return np.stack(columns, axis=-1)


def check_gradient(loss: Callable[..., Any], x: Any, *data: Any) -> None:
    """Value and gradient are those of the plain function."""
    value, gradient = adjit.value_and_grad(loss)(x, *data)
    np.testing.assert_allclose(value, loss(x, *data), rtol=1e-12)  # sums in another order
    expected = differences(lambda y: loss(y, *data), x)
    # Central differences are good to some eps^(2/3) of the function's size.
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8 * max(1.0, abs(value)))


def test_every_program_is_tested() -> None:
    programs = {path.name for path in Path(__file__).parent.glob("*.py")} - {Path(__file__).name}
    assert programs == {"double_pendulum.py", "garch.py", "predator_prey.py", "regression.py", "spirals.py"}


def test_regression() -> None:
    results = regression.main()
    X, y, labels, coefficients = regression.make_data()
    plain = minimize(regression.student_t, np.zeros(5), args=(X, y), options={"gtol": 1e-6})
    for method in ("BFGS", "L-BFGS-B", "trust-constr"):
        assert results[method].success
        # Where the optimisers stop, not where the function is at its least.
        np.testing.assert_allclose(results[method].x, plain.x, atol=1e-4)
        assert np.all(np.abs(results[method].x[:4] - coefficients) < 4 * results["errors"][:4])
    # BFGS without second derivatives knows the inverse Hessian roughly; differences of the gradient well.
    gradient = adjit.grad(regression.student_t)
    hessian = differences(lambda theta: gradient(theta, X, y), results["BFGS"].x)
    np.testing.assert_allclose(results["errors"], np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-6)

    plain = minimize(regression.student_t_with_nu, np.append(results["BFGS"].x, 1.0), args=(X, y))
    # Differences of the plain one end a little short.
    np.testing.assert_allclose(results["nu"].x, plain.x, atol=1e-3)
    assert 2 < np.exp(results["nu"].x[-1]) < 8

    plain = minimize(regression.huber, np.zeros(4), args=(X, y), options={"gtol": 1e-6})
    np.testing.assert_allclose(results["huber"].x, plain.x, atol=1e-5)
    np.testing.assert_allclose(results["huber by masks"].x, plain.x, atol=1e-5)
    plain = minimize(regression.logistic, np.zeros(4), args=(X, labels), options={"gtol": 1e-7})
    np.testing.assert_allclose(results["logistic"].x, plain.x, atol=1e-4)

    decay = results["decay"]
    p = results["least_squares"].x
    np.testing.assert_allclose(decay.jacobian(p), differences(decay.residuals, p), rtol=1e-6, atol=1e-8)
    plain = least_squares(decay.residuals, np.ones(3), loss="soft_l1", xtol=1e-12, ftol=1e-12)
    np.testing.assert_allclose(p, plain.x, rtol=1e-5)
    found, covariance = results["curve_fit"]
    plain_found, plain_covariance = curve_fit(decay.model, decay.t, decay.y, p0=np.ones(3))
    np.testing.assert_allclose(found, plain_found, rtol=1e-5)
    np.testing.assert_allclose(covariance, plain_covariance, rtol=1e-4)


@pytest.mark.parametrize(
    "loss", [regression.student_t, regression.student_t_with_nu, regression.huber, regression.huber_by_masks]
)
def test_gradients_of_regression(loss: Callable[..., Any]) -> None:
    X, y, _, _ = regression.make_data(n=40)
    size = {regression.student_t: 5, regression.student_t_with_nu: 6}.get(loss, 4)
    check_gradient(loss, np.linspace(-0.5, 0.7, size), X, y)


def test_spirals() -> None:
    results = spirals.main()
    model, history = results["model"], results["history"]
    losses = [loss for _, loss, _ in history]
    assert results["accuracy"] > 0.95
    assert losses[0] > 10 * results["best"]
    assert results["best"] < min(losses) + 1e-4
    # The plain function, on the parameters that were kept while the state went on.
    plain = model.loss(results["best_params"], *results["validation_set"])
    np.testing.assert_allclose(results["best"], plain, rtol=1e-12)
    # Put back in place, they are what the state holds; and a copy of the state is from the same step.
    state, best_state = results["state"], results["best_state"]
    for layer, kept, copied in zip(state.params, results["best_params"], best_state.params, strict=True):
        for name in ("W", "b"):
            np.testing.assert_array_equal(layer[name], kept[name])
            np.testing.assert_array_equal(copied[name], kept[name])
    assert best_state.step < state.step
    # The rate goes up to the peak of its cosine, and down.
    rates = [rate for _, _, rate in history]
    assert rates.index(max(rates)) < 5
    assert rates[-1] < max(rates)


def test_gradients_of_spirals() -> None:
    rng = np.random.default_rng(1)
    model = spirals.MLP([2, 4, 2])
    layers = model.init(rng)
    x, label = spirals.make_data(20, rng)

    def loss(theta: Any, x: Any, label: Any) -> Any:
        params, start = [], 0
        for layer in layers:
            W = theta[start : start + layer["W"].size].reshape(layer["W"].shape)
            start += W.size
            params.append({"W": W, "b": theta[start : start + layer["b"].size]})
            start += layer["b"].size
        return model.loss(params, x, label)

    check_gradient(loss, rng.normal(size=sum(a.size for layer in layers for a in layer.values())), x, label)


def test_predator_prey() -> None:
    results = predator_prey.main()
    found, true = vars(results["found"]), vars(results["true"])
    assert results["result"].success
    for name, value in true.items():
        # The noise is 2% on 80 observations.
        assert abs(found[name] / value - 1) < 0.05, name
    data = (results["data"], results["y0"], results["dt"])
    plain = minimize(predator_prey.loss, results["start"], args=data, method="L-BFGS-B")
    np.testing.assert_allclose(results["result"].x, plain.x, atol=1e-3)
    check_gradient(predator_prey.loss, results["start"], *data)


@pytest.mark.parametrize(
    "way", [predator_prey.euler_in_lists, predator_prey.euler_in_buffers, predator_prey.euler_in_place]
)
def test_ways_to_write_a_solver(way: Callable[..., Any]) -> None:
    y0, target = np.array([5.0, 3.0]), np.linspace(1.0, 2.0, 30).reshape(15, 2)

    def loss(theta: Any) -> Any:
        rates = dict(zip("abcd", theta, strict=True))
        return np.sum((way(rates, y0, 15, 0.1) - target) ** 2)

    check_gradient(loss, np.array([1.1, 0.4, 0.4, 0.1]))


def test_garch() -> None:
    results = garch.main()
    r, result = results["r"], results["result"]
    assert result.success
    assert np.all(np.abs(result.x - garch.TRUE) < 3 * results["errors"])
    start = np.array([0.0, 0.2, 0.05, 0.85])
    plain = minimize(garch.nll, start, args=(r,), method="L-BFGS-B", bounds=garch.BOUNDS)
    np.testing.assert_allclose(result.fun, plain.fun, rtol=1e-6)
    # The likelihood is flat where omega and beta trade places.
    np.testing.assert_allclose(result.x, plain.x, atol=0.1 * results["errors"].min())


@pytest.mark.parametrize("way", garch.WAYS)
def test_ways_to_write_garch(way: Callable[..., Any]) -> None:
    r = garch.simulate(60)
    theta = np.array([0.02, 0.2, 0.1, 0.7])
    np.testing.assert_allclose(way(theta, r), garch.nll(theta, r), rtol=1e-12)
    check_gradient(way, theta, r)


def test_double_pendulum() -> None:
    results = double_pendulum.main()
    pendulum, start = results["pendulum"], results["start"]

    def flow(state: Any) -> np.ndarray:
        return np.array(pendulum.flow(tuple(state), results["steps"], results["h"]))

    np.testing.assert_allclose(results["final"], flow(start), rtol=1e-12)
    expected = differences(flow, start)
    np.testing.assert_allclose(results["sensitivity"], expected[2], rtol=1e-6, atol=1e-8)
    found = double_pendulum.jacobian(pendulum, start, 3, results["h"])
    few = differences(lambda s: np.array(pendulum.flow(tuple(s), 3, results["h"])), start)
    np.testing.assert_allclose(found, few, rtol=1e-6, atol=1e-8)

    # Energy is kept to the order of the method, whatever the first state.
    drift, slope = results["drift"]
    assert abs(drift) < 1e-4 * abs(pendulum.energy(*start))
    plain = differences(lambda s: pendulum.energy(*flow(s)) - pendulum.energy(*s), start)
    np.testing.assert_allclose(slope, plain, rtol=1e-4, atol=1e-7)
    by_length = differences(
        lambda p: double_pendulum.Pendulum(*p).flow(start, results["steps"], results["h"])[0],
        list(vars(pendulum).values()),
    )
    found_by_length = [getattr(results["by_length"], name) for name in ("l1", "l2", "m1", "m2")]
    np.testing.assert_allclose(found_by_length, by_length, rtol=1e-6, atol=1e-8)
