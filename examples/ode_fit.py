"""Fitting an epidemic: the rates of a SIR model from noisy counts, by SciPy's L-BFGS with exact gradients.

The equations are solved by the classical method of Runge and Kutta in a plain Python loop of 400 steps, which the
compiler rolls up: the value and its gradient are one native call.
"""

import numpy as np
from scipy.optimize import minimize

import adjit

STEPS, EVERY, H = 400, 10, 0.1


def slope(u, rates):
    ill = rates[0] * u[0] * u[1]
    return np.stack([-ill, ill - rates[1] * u[1], rates[1] * u[1]])


def infected(rates, start):
    """The share of people who are ill, every tenth step."""
    u, found = np.stack([1 - start, start, 0 * start]), []
    for _ in range(STEPS):
        a = slope(u, rates)
        b = slope(u + H / 2 * a, rates)
        c = slope(u + H / 2 * b, rates)
        d = slope(u + H * c, rates)
        u = u + H / 6 * (a + 2 * b + 2 * c + d)
        found.append(u[1])
    return np.stack(found)[EVERY - 1 :: EVERY]


def loss(parameters, counts):
    """Positive parameters by their logarithms: contacts, recoveries, who is ill at the start."""
    positive = np.exp(parameters)
    return np.sum((infected(positive[:2], positive[2]) - counts) ** 2)


def main():
    truth = np.array([0.9, 0.3, 0.01])
    rng = np.random.default_rng(0)
    counts = adjit.jit(infected)(truth[:2], truth[2]) + 0.002 * rng.normal(size=STEPS // EVERY)
    value_and_grad = adjit.value_and_grad(loss)
    found = minimize(value_and_grad, np.log([0.5, 0.5, 0.05]), args=(counts,), jac=True, method="L-BFGS-B")
    rolled = str(value_and_grad.explain(found.x, counts)).split("rolled up\n")[1]
    print("the loop:", rolled.strip().split(": ", 1)[1])
    print(f"L-BFGS: {found.nit} iterations, {found.nfev} values and gradients, loss {found.fun:.1e}")
    for name, wanted, value in zip(("contacts", "recovery", "ill at the start"), truth, np.exp(found.x), strict=True):
        print(f"{name}: {value:.4f} (truth {wanted})")


if __name__ == "__main__":
    main()
