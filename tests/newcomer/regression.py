"""Robust and logistic regression with scipy.optimize: values and gradients from adjit, the models in NumPy."""

import numpy as np
from scipy.optimize import curve_fit, least_squares, minimize
from scipy.special import gammaln

import adjit

NU = 4.0  # degrees of freedom of the noise


def make_data(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    coefficients = np.array([1.0, 2.0, -1.0, 0.5])
    y = X @ coefficients + 0.3 * rng.standard_t(NU, size=n)
    labels = rng.random(n) < 1 / (1 + np.exp(-X @ coefficients))
    return X, y, labels, coefficients


def student_t(theta, X, y):
    """Negative log-likelihood up to a constant; the last parameter is the logarithm of the scale."""
    beta, log_sigma = theta[:-1], theta[-1]
    r = (y - X @ beta) / np.exp(log_sigma)
    return 0.5 * (NU + 1) * np.log1p(r**2 / NU).sum() + len(y) * log_sigma


def student_t_with_nu(theta, X, y):
    """The whole negative log-likelihood; the last two parameters are the logarithms of scale and degrees of freedom."""
    nu = np.exp(theta[-1])
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * nu)
    r = (y - X @ theta[:-2]) / np.exp(theta[-2])
    return np.sum(0.5 * (nu + 1) * np.log1p(r**2 / nu) + theta[-2] - constant)


def huber(beta, X, y, delta=0.5):
    r = np.abs(y - X @ beta)
    return np.sum(np.where(r <= delta, 0.5 * r**2, delta * (r - 0.5 * delta)))


def huber_by_masks(beta, X, y, delta=0.5):
    r = np.abs(y - X @ beta)
    small = r <= delta
    return 0.5 * np.sum(r[small] ** 2) + np.sum(delta * (r[~small] - 0.5 * delta))


def logistic(w, X, labels, ridge=1e-3):
    z = X @ w
    return np.mean(np.logaddexp(0, z) - labels * z) + ridge * np.sum(w[1:] ** 2)


class Decay:
    """a exp(-b t) + c, with its residuals and their Jacobian."""

    def __init__(self, t, y):
        self.t, self.y = t, y
        self.jacobian = adjit.jit(self._jacobian)

    @staticmethod
    def model(t, a, b, c):
        return a * np.exp(-b * t) + c

    def residuals(self, p):
        return self.model(self.t, *p) - self.y

    def _jacobian(self, p):
        # The product with a vector from the left is linear in that vector, so its derivative by it is the column.
        def column(direction):
            def pulled(u):
                return adjit.grad(lambda q: self.residuals(q) @ u)(p) @ direction

            return adjit.grad(pulled)(np.zeros(len(self.t)))

        return np.stack([column(direction) for direction in np.eye(3)], axis=1)


def fit(loss, start, *data, **options):
    return minimize(adjit.value_and_grad(loss), start, args=data, jac=True, **options)


def hessian(loss, theta, *data):
    gradient = adjit.grad(loss)
    rows = adjit.jit(lambda t: np.array([adjit.grad(lambda u: gradient(u, *data) @ e)(t) for e in np.eye(len(theta))]))
    return rows(theta)


def main():
    X, y, labels, coefficients = make_data()
    results = {}

    for method in ["BFGS", "L-BFGS-B", "trust-constr"]:
        results[method] = fit(student_t, np.zeros(5), X, y, method=method)
        print(f"Student-t, {method}: {results[method].x.round(3)}, {results[method].nit} iterations")
    errors = np.sqrt(np.diag(np.linalg.inv(hessian(student_t, results["BFGS"].x, X, y))))
    for name, true, found, error in zip("abcd", coefficients, results["BFGS"].x, errors):
        print(f"  {name}: {found:6.3f} +- {error:.3f} (true {true})")
    results["errors"] = errors

    results["nu"] = fit(student_t_with_nu, np.append(results["BFGS"].x, 1.0), X, y)
    print(f"  with {np.exp(results['nu'].x[-1]):.2f} degrees of freedom (true {NU}): {results['nu'].x.round(3)}")

    results["huber"] = fit(huber, np.zeros(4), X, y)
    results["huber by masks"] = fit(huber_by_masks, np.zeros(4), X, y)
    results["logistic"] = fit(logistic, [0.0, 0.0, 0.0, 0.0], X, labels)
    print(f"Huber: {results['huber'].x.round(3)}, logistic: {results['logistic'].x.round(3)}")

    t = np.linspace(0, 4, 50)
    decay = Decay(t, Decay.model(t, 2.5, 1.3, 0.5) + 0.05 * np.random.default_rng(1).normal(size=t.shape))
    results["decay"] = decay
    results["least_squares"] = least_squares(
        adjit.jit(decay.residuals), np.ones(3), jac=decay.jacobian, loss="soft_l1", xtol=1e-12, ftol=1e-12
    )
    results["curve_fit"] = curve_fit(
        adjit.jit(Decay.model), t, decay.y, jac=lambda t, *p: decay.jacobian(np.array(p)), p0=np.ones(3)
    )
    print(f"decay: {results['least_squares'].x.round(3)}, by curve_fit {results['curve_fit'][0].round(3)}")
    return results


if __name__ == "__main__":
    main()
