"""A boundary-value problem with 100,000 unknowns by Newton's method: u'' + 3 e^u = 0, u(0) = u(1) = 0 (Bratu).

The Jacobian is tridiagonal. Nothing says so but the function itself: adjit proves the pattern, finds that three
products have all entries, and computes them and the residual in one native call. SciPy solves the linear systems.

Needs SciPy: pip install 'adjit[linalg]'."""

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.linalg import spsolve

import adjit

N = 100_000
H = 1 / (N + 1)
LAMBDA = 3.0


@adjit.sparse_jacobian(has_aux=True)
def linearised(u: Any) -> Any:
    """The residual, as value and beside it: the Jacobian comes with the value."""
    padded = np.pad(u, 1)
    residual = padded[2:] - 2 * u + padded[:-2] + H**2 * LAMBDA * np.exp(u)
    return residual, residual


def exact(x: np.ndarray) -> np.ndarray:
    """The lower one of the two solutions."""
    theta = brentq(lambda t: t - np.sqrt(2 * LAMBDA) * np.cosh(t / 4), 0.0, 4.8)
    return -2 * np.log(np.cosh((x - 0.5) * theta / 2) / np.cosh(theta / 4))


u = np.zeros(N)
jacobian, residual = linearised(u)
print(f"{N} unknowns, {jacobian.nnz} entries from {linearised.colors} products a Jacobian")
for step in range(1, 20):
    change = spsolve(jacobian, -residual)
    u += change
    jacobian, residual = linearised(u)
    print(f"step {step}  change {np.abs(change).max():.1e}  residual {np.abs(residual).max() / H**2:.1e}")
    if np.abs(change).max() < 1e-5:
        break

error = np.abs(u - exact(np.linspace(0, 1, N + 2)[1:-1])).max()
print(f"converged in {step} steps, at most {error:.1e} from the exact solution")
