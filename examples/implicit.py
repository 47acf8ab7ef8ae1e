"""Fitting through equations: a planet's orbit through Kepler's, a network of infinite depth through its fixed point.

The position on an ellipse at a time needs E with E - e sin(E) = M, which has no closed form: `adjit.root` solves it,
and the gradient by the eccentricity e is that of the equation. The network's layer is x with x = tanh(W x + U u + b),
by `adjit.fixed_point`; the memory that its gradient takes does not grow with the steps.
"""

import numpy as np

import adjit


def angle(mean, e):
    """The angle seen from the star, at a time that is given as the mean anomaly."""
    anomaly = adjit.root(lambda x: x - e * np.sin(x) - mean, mean)
    return 2 * np.arctan2(np.sqrt(1 + e) * np.sin(anomaly / 2), np.sqrt(1 - e) * np.cos(anomaly / 2))


def orbit_loss(params, times, angles):
    mean = 2 * np.pi * times / params["period"] + params["phase"]
    found = adjit.vmap(angle, in_axes=(0, None))(mean, params["e"])
    return np.mean(1 - np.cos(found - angles))


def fit_orbit():
    rng = np.random.default_rng(0)
    truth = {"e": np.array(0.4), "period": np.array(2.5), "phase": np.array(0.7)}
    times = np.sort(rng.uniform(0, 2, 60))
    mean = 2 * np.pi * times / truth["period"] + truth["phase"]
    angles = adjit.vmap(angle, in_axes=(0, None))(mean, truth["e"])
    step = adjit.training_step(orbit_loss, adjit.optim.adam(0.02))
    state = step.init({"e": np.array(0.1), "period": np.array(2.3), "phase": np.array(0.4)})
    for _ in range(600):
        loss = step(state, times, angles)
    print(f"orbit: loss {loss:.1e}", *(f"{name} {float(value):.4f}" for name, value in state.params.items()))


def layer(params, u):
    state = params["u"] @ u + params["b"]
    return adjit.fixed_point(lambda x: np.tanh(0.5 * params["w"] @ x + state), np.zeros(params["b"].shape))


def layer_loss(params, inputs, targets):
    states = adjit.vmap(layer, in_axes=(None, 0))(params, inputs)
    return np.mean((states @ params["out"] - targets) ** 2)


def fit_layer():
    rng = np.random.default_rng(1)
    inputs = rng.uniform(-1, 1, (32, 2))
    targets = np.sin(3 * inputs[:, 0]) * inputs[:, 1]
    sizes = {"w": (8, 8), "u": (8, 2), "b": (8,), "out": (8,)}
    params = {name: rng.normal(size=shape) / np.sqrt(shape[-1]) for name, shape in sizes.items()}
    params["w"] /= np.linalg.norm(params["w"], 2)
    step = adjit.training_step(layer_loss, adjit.optim.adam(0.01))
    state = step.init(params)
    first = step(state, inputs, targets)
    for _ in range(300):
        loss = step(state, inputs, targets)
    print(f"layer: loss {first:.3f} -> {loss:.5f}")


def main():
    fit_orbit()
    fit_layer()
    root = adjit.jit(lambda a: adjit.root(lambda x: x * x - a, 1.0))
    slopes = [adjit.grad(root)(2.0), adjit.grad(adjit.grad(root))(2.0)]
    print(f"sqrt(2): {float(root(2.0)):.12f}, derivatives {slopes[0]:.12f} {slopes[1]:.12f}")


if __name__ == "__main__":
    main()
