"""GARCH(1,1) by maximum likelihood on simulated returns, with standard errors from the Hessian."""

import math

import numpy as np
from scipy.optimize import minimize

import adjit

TRUE = np.array([0.05, 0.1, 0.15, 0.75])
BOUNDS = [(None, None), (1e-6, None), (1e-6, 1.0), (1e-6, 0.999)]


def simulate(n, theta=TRUE, seed=5):
    mu, omega, alpha, beta = theta
    rng = np.random.default_rng(seed)
    r = np.zeros(n)
    variance = omega / (1 - alpha - beta)
    for t in range(n):
        e = np.sqrt(variance) * rng.standard_normal()
        r[t] = mu + e
        variance = omega + alpha * e**2 + beta * variance
    return r


def nll(theta, r):
    """Negative log-likelihood, with the variance running along."""
    mu, omega, alpha, beta = theta
    variance, total = np.var(r), 0.0
    for x in r:
        total += 0.5 * (math.log(2 * math.pi) + math.log(variance) + (x - mu) ** 2 / variance)
        variance = omega + alpha * (x - mu) ** 2 + beta * variance
    return total


def nll_in_buffer(theta, r):
    mu, omega, alpha, beta = theta
    e = r - mu
    s2 = np.zeros(len(r))
    s2[0] = r.var()
    for t in range(1, len(r)):
        s2[t] = omega + alpha * e[t - 1] ** 2 + beta * s2[t - 1]
    return 0.5 * np.sum(np.log(2 * np.pi) + np.log(s2) + e**2 / s2)


def nll_in_list(theta, r):
    mu, omega, alpha, beta = theta
    h = np.var(r)
    variances = [h]
    for x in r[:-1]:
        h = omega + alpha * (x - mu) ** 2 + beta * h
        variances.append(h)
    variances = np.clip(np.array(variances), 1e-12, None)
    return 0.5 * (np.log(2 * np.pi * variances) + (r - mu) ** 2 / variances).sum()


def nll_by_matrix(theta, r):
    """Without a loop: the recursion is a product with the powers of beta."""
    mu, omega, alpha, beta = theta
    t = np.arange(len(r))
    lag = t[:, None] - t[None, :]
    powers = np.where(lag > 0, beta ** np.maximum(lag - 1, 0), 0.0)
    s2 = np.var(r) * beta**t + powers @ (omega + alpha * (r - mu) ** 2)
    return 0.5 * np.sum(np.log(2 * np.pi * s2) + (r - mu) ** 2 / s2)


WAYS = [nll, nll_in_buffer, nll_in_list, nll_by_matrix]


class Garch:
    def __init__(self, loss=nll, method="L-BFGS-B"):
        self.loss = loss
        self.method = method

    def fit(self, r, start):
        self.result = minimize(
            adjit.value_and_grad(self.loss), start, args=(r,), jac=True, method=self.method, bounds=BOUNDS
        )
        return self.result

    def standard_errors(self, r):
        gradient = adjit.grad(self.loss)
        h = 1e-5
        rows = [(gradient(self.result.x + h * e, r) - gradient(self.result.x - h * e, r)) / (2 * h) for e in np.eye(4)]
        return np.sqrt(np.diag(np.linalg.inv(np.array(rows))))


def main(n=700):
    r = simulate(n)
    garch = Garch(nll_by_matrix)
    result = garch.fit(r, np.array([0.0, 0.2, 0.05, 0.85]))
    errors = garch.standard_errors(r)
    for name, true, found, error in zip(["mu", "omega", "alpha", "beta"], TRUE, result.x, errors):
        print(f"{name:>5} {found:7.4f} +- {error:.4f} (true {true})")
    return {"r": r, "result": result, "errors": errors}


if __name__ == "__main__":
    main()
