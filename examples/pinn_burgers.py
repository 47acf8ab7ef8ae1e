"""A network that solves Burgers' equation: u_t + u u_x = nu u_xx, from its residual alone.

The derivatives of the network by time and place are derivatives inside of the loss, whose gradient trains it: third
derivatives in all, in one native training step.
"""

import itertools

import numpy as np

import adjit

NU = 0.05


def network(params, t, x):
    """u at one point; exact at the start, -sin(pi x), and at both ends, 0."""
    h = np.stack([t, x])
    for w, b in params[:-1]:
        h = np.tanh(h @ w + b)
    w, b = params[-1]
    return -np.sin(np.pi * x) + t * (1 - x * x) * (h @ w + b)[0]


def residual(params, t, x):
    u_x = adjit.grad(network, argnums=2)
    u_t = adjit.grad(network, argnums=1)(params, t, x)
    u_xx = adjit.grad(u_x, argnums=2)(params, t, x)
    return u_t + network(params, t, x) * u_x(params, t, x) - NU * u_xx


def loss(params, t, x):
    return np.mean(adjit.vmap(residual, in_axes=(None, 0, 0))(params, t, x) ** 2)


def finite_differences(cells=400, steps=4000):
    """The solution at t = 1 on a grid, by small steps."""
    x = np.linspace(-1, 1, cells + 1)
    u, h, dt = -np.sin(np.pi * x), 2 / cells, 1 / steps
    for _ in range(steps):
        flux = u * u / 2
        inner = -(flux[2:] - flux[:-2]) / (2 * h) + NU * (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2
        u = np.concatenate([[0.0], u[1:-1] + dt * inner, [0.0]])
    return x, u


def main():
    rng = np.random.default_rng(0)
    sizes = [2, 20, 20, 20, 1]
    params = [(rng.normal(size=(n, m)) * np.sqrt(1 / n), np.zeros(m)) for n, m in itertools.pairwise(sizes)]
    t, x = rng.uniform(0, 1, 1000), rng.uniform(-1, 1, 1000)
    rate = adjit.optim.schedule.exponential(4e-3, 0.999)
    step = adjit.training_step(loss, adjit.optim.adam(rate))
    state = step.init(params)
    first = step(state, t, x)
    run = step.run(state, (t, x), batch_size=1000, epochs=3000)
    grid, wanted = finite_differences()
    found = adjit.jit(adjit.vmap(network, in_axes=(None, None, 0)))(state.params, 1.0, grid)
    print(f"residual {first:.2f} -> {run.losses[-1]:.1e}")
    print(f"largest error at t = 1: {np.max(np.abs(found - wanted)):.3f}")


if __name__ == "__main__":
    main()
