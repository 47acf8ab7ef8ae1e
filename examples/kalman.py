"""A filter's parameters by maximum likelihood: the noise of a motion, and of what is seen of it, from 500 positions.

Kalman's filter is one `adjit.scan`; Newton's method takes the gradient and the Hessian of its likelihood.
"""

import numpy as np

import adjit

DT = 0.1
MOVE = np.array([[1.0, DT], [0.0, 1.0]])
PUSH = np.array([DT**2 / 2, DT])


def negative_likelihood(logs, positions):
    """Of the observations, for the logarithms of both standard deviations."""
    motion, seen = np.exp(2 * logs[0]) * np.outer(PUSH, PUSH), np.exp(2 * logs[1])

    def step(state, position):
        mean, spread = state
        mean, spread = MOVE @ mean, MOVE @ spread @ MOVE.T + motion
        error, scale = position - mean[0], spread[0, 0] + seen
        gain = spread[:, 0] / scale
        likelihood = -0.5 * (np.log(2 * np.pi * scale) + error**2 / scale)
        return (mean + gain * error, spread - np.outer(gain, spread[0])), likelihood

    _, found = adjit.scan(step, (np.zeros(2), np.eye(2)), positions)
    return -np.sum(found)


def simulated(rng, pushes, noise, count):
    """What is seen of a body that is pushed at random."""
    state, found = np.zeros(2), []
    for _ in range(count):
        state = MOVE @ state + pushes * rng.normal() * PUSH
        found.append(state[0] + noise * rng.normal())
    return np.array(found)


def main():
    truth = np.array([2.0, 0.1])
    positions = simulated(np.random.default_rng(0), *truth, 500)
    gradient, hessian = adjit.grad(negative_likelihood), adjit.hessian(negative_likelihood)
    logs = np.log([1.0, 0.2])
    changes = [1.0]
    while changes[-1] > 1e-10:
        change = np.linalg.solve(hessian(logs, positions), gradient(logs, positions))
        logs = logs - np.clip(change, -0.5, 0.5)
        changes.append(np.max(np.abs(change)))
    errors = np.sqrt(np.diag(np.linalg.inv(hessian(logs, positions))))
    print(f"Newton's method: {len(changes) - 1} iterations, gradient {np.max(np.abs(gradient(logs, positions))):.0e}")
    for name, wanted, log, error in zip(("pushes", "noise"), truth, logs, errors, strict=True):
        print(f"{name}: {np.exp(log):.4f} +- {np.exp(log) * error:.4f} (truth {wanted})")


if __name__ == "__main__":
    main()
