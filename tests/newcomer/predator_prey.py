"""Lotka-Volterra: four rates fitted to noisy observations, with the gradient through a Runge-Kutta solver."""

import dataclasses

import numpy as np
from scipy.optimize import minimize

import adjit


@dataclasses.dataclass
class Rates:
    growth: float
    predation: float
    death: float
    conversion: float

    def rhs(self, y):
        prey, predators = y
        return np.array(
            [
                self.growth * prey - self.predation * prey * predators,
                self.conversion * prey * predators - self.death * predators,
            ]
        )


def rk4(f, y0, n, dt):
    ys = np.zeros((n, 2))
    y = y0
    for i in range(n):
        ys[i] = y
        k1 = f(y)
        k2 = f(y + dt / 2 * k1)
        k3 = f(y + dt / 2 * k2)
        k4 = f(y + dt * k3)
        y = y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return ys


def simulate(theta, y0, n, dt):
    return rk4(Rates(*np.exp(theta)).rhs, y0, n, dt)


def euler_in_lists(rates, y0, n, dt):
    """The same with Euler's method and lists, for a look at other ways to write it."""
    y, out = list(y0), []
    for _ in range(n):
        out.append(y)
        dy = [rates["a"] * y[0] - rates["b"] * y[0] * y[1], rates["d"] * y[0] * y[1] - rates["c"] * y[1]]
        y = [u + dt * du for u, du in zip(y, dy)]
    return np.array(out)


def euler_in_buffers(rates, y0, n, dt):
    prey, predators = np.empty(n), np.empty(n)
    prey[0], predators[0] = y0
    for i in range(n - 1):
        meetings = prey[i] * predators[i]
        prey[i + 1] = prey[i] + dt * (rates["a"] * prey[i] - rates["b"] * meetings)
        predators[i + 1] = predators[i] + dt * (rates["d"] * meetings - rates["c"] * predators[i])
    return np.column_stack((prey, predators))


def euler_in_place(rates, y0, n, dt):
    y, out = np.array(y0), []
    for _ in range(n):
        out.append(y.copy())
        dy = np.zeros_like(y)
        dy[0] = rates["a"] * y[0] - rates["b"] * y[0] * y[1]
        dy[1] = rates["d"] * y[0] * y[1] - rates["c"] * y[1]
        y += dt * dy
    return np.stack(out)


def loss(theta, data, y0, dt):
    return np.mean((np.log(simulate(theta, y0, len(data), dt)) - np.log(data)) ** 2)


def main(n=30, dt=0.3):
    rng = np.random.default_rng(3)
    y0, true = np.array([5.0, 3.0]), Rates(1.1, 0.4, 0.4, 0.1)
    clean = rk4(true.rhs, y0, n, dt)
    data = clean * np.exp(0.02 * rng.normal(size=clean.shape))
    start = np.log([0.9, 0.35, 0.5, 0.12])
    result = minimize(adjit.value_and_grad(loss), start, args=(data, y0, dt), jac=True, method="L-BFGS-B")
    found = Rates(*np.exp(result.x))
    for field in dataclasses.fields(Rates):
        print(f"{field.name:>10}: {getattr(found, field.name):.4f} (true {getattr(true, field.name)})")
    return {"result": result, "start": start, "data": data, "y0": y0, "dt": dt, "true": true, "found": found}


if __name__ == "__main__":
    main()
