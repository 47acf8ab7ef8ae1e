"""A double pendulum in Python's floats: its flow, what the final state owes to the first one, and its energy."""

import math
from dataclasses import dataclass

import numpy as np

import adjit

G = 9.81


@dataclass(frozen=True)
class Pendulum:
    l1: float = 1.0
    l2: float = 0.8
    m1: float = 1.0
    m2: float = 0.7

    def derivatives(self, th1, w1, th2, w2):
        l1, l2, m1, m2 = self.l1, self.l2, self.m1, self.m2
        d = th1 - th2
        den = 2 * m1 + m2 - m2 * math.cos(2 * d)
        a1 = -G * (2 * m1 + m2) * math.sin(th1) - m2 * G * math.sin(th1 - 2 * th2)
        a1 -= 2 * math.sin(d) * m2 * (w2**2 * l2 + w1**2 * l1 * math.cos(d))
        a2 = w1**2 * l1 * (m1 + m2) + G * (m1 + m2) * math.cos(th1) + w2**2 * l2 * m2 * math.cos(d)
        return w1, a1 / (l1 * den), w2, 2 * math.sin(d) * a2 / (l2 * den)

    def energy(self, th1, w1, th2, w2):
        v1, v2 = self.l1 * w1, self.l2 * w2
        kinetic = 0.5 * self.m1 * v1**2 + 0.5 * self.m2 * (v1**2 + v2**2 + 2 * v1 * v2 * math.cos(th1 - th2))
        potential = -(self.m1 + self.m2) * G * self.l1 * math.cos(th1) - self.m2 * G * self.l2 * math.cos(th2)
        return kinetic + potential

    def flow(self, state, steps, h):
        """The state after some steps of Runge and Kutta's method."""

        def moved(k, size):
            return tuple(x + size * dx for x, dx in zip(state, k))

        for _ in range(steps):
            k1 = self.derivatives(*state)
            k2 = self.derivatives(*moved(k1, h / 2))
            k3 = self.derivatives(*moved(k2, h / 2))
            k4 = self.derivatives(*moved(k3, h))
            state = tuple(x + h / 6 * (a + 2 * b + 2 * c + d) for x, a, b, c, d in zip(state, k1, k2, k3, k4))
        return state


def jacobian(pendulum, state, steps, h):
    """The derivative of the final state by the first one, row by row."""

    def rows(state):
        return np.array([adjit.grad(lambda s: pendulum.flow(s, steps, h)[i])(state) for i in range(4)])

    return adjit.jit(rows)(state)


def main(steps=5, h=0.05):
    pendulum = Pendulum()
    start = (1.2, 0.0, 0.7, 0.1)
    final = adjit.jit(lambda s: pendulum.flow(s, steps, h))(start)
    sensitivity = adjit.grad(lambda s: pendulum.flow(s, steps, h)[2])(start)
    drift = adjit.value_and_grad(lambda s: pendulum.energy(*pendulum.flow(s, steps, h)) - pendulum.energy(*s))(start)
    by_length = adjit.grad(lambda p: p.flow(start, steps, h)[0])(pendulum)
    print(f"after {steps * h:.1f} s: {np.round(final, 4)}; energy drifted by {drift[0]:.1e}")
    print("d th2 / d start:", np.round(sensitivity, 4))
    return {
        "pendulum": pendulum, "start": start, "steps": steps, "h": h, "final": final, "sensitivity": sensitivity,
        "drift": drift, "by_length": by_length,
    }  # fmt: skip


if __name__ == "__main__":
    main()
