"""A double pendulum: SymPy derives the equations of motion from the Lagrangian, adjit integrates them.

Nothing is derived by hand. The equations become a function by `adjit.from_sympy`, which Runge and Kutta's method calls
four times a step, in a loop of 20,000 steps that is one program. The energy says how good it is; the gradient of where
the pendulum ends by where it began says how chaotic. The last line is the largest drift of the energy.
"""

import time

import numpy as np
import sympy

import adjit

L1, L2, M1, M2, G = 1.0, 0.8, 1.0, 0.7, 9.81
H, STEPS = 0.0005, 20_000


def equations():
    """(accelerations, energy) as functions of the angles and angular velocities."""
    t = sympy.Symbol("t")
    angles = [sympy.Function(name)(t) for name in ("theta1", "theta2")]
    speeds = [angle.diff(t) for angle in angles]

    x1, y1 = L1 * sympy.sin(angles[0]), -L1 * sympy.cos(angles[0])
    x2, y2 = x1 + L2 * sympy.sin(angles[1]), y1 - L2 * sympy.cos(angles[1])
    kinetic = M1 * (x1.diff(t) ** 2 + y1.diff(t) ** 2) / 2 + M2 * (x2.diff(t) ** 2 + y2.diff(t) ** 2) / 2
    potential = G * (M1 * y1 + M2 * y2)

    # Euler and Lagrange: d/dt dL/dq' - dL/dq = 0, linear in the accelerations.
    lagrangian = kinetic - potential
    motion = sympy.Matrix(
        [lagrangian.diff(v).diff(t) - lagrangian.diff(q) for q, v in zip(angles, speeds, strict=True)]
    )
    accelerations = sympy.Matrix([angle.diff(t, 2) for angle in angles])
    solved = motion.jacobian(accelerations).LUsolve(-motion.subs(dict.fromkeys(accelerations, 0)))

    arguments = [angles, speeds]
    return (
        adjit.from_sympy(arguments, list(solved), name="accelerations"),
        adjit.from_sympy(arguments, kinetic + potential, name="energy"),
    )


accelerations, energy = equations()


def slope(state):
    """The derivative by time of (angles, speeds), an array of shape (2, 2)."""
    return np.stack([state[1], np.stack(accelerations(state[0], state[1]))])


def step(state, _):
    k1 = slope(state)
    k2 = slope(state + H / 2 * k1)
    k3 = slope(state + H / 2 * k2)
    k4 = slope(state + H * k3)
    state = state + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return state, energy(state[0], state[1])


@adjit.jit(static_argnames="steps")
def swing(start, steps):
    """The last state, and the energy after each step."""
    return adjit.scan(step, start, length=steps)


def tip(start, steps):
    """How far to the right the lower bob is at the end."""
    state, _ = adjit.scan(step, start, length=steps)
    return L1 * np.sin(state[0, 0]) + L2 * np.sin(state[0, 1])


def main():
    print(f"equations of motion: {accelerations}")
    start = np.array([[2.0, 2.5], [0.0, 0.0]])
    before = energy(start[0], start[1])
    swing(start, steps=STEPS)
    begun = time.perf_counter()
    state, energies = swing(start, steps=STEPS)
    seconds = time.perf_counter() - begun
    drift = np.max(np.abs(energies - before)) / abs(before)
    print(f"after {H * STEPS:.0f} s: angles {state[0].round(3)}, {seconds * 1e9 / STEPS:.0f} ns a step")

    sensitivity = adjit.grad(tip, argnums=0, static_argnames="steps")
    for steps in (2000, 4000, 6000):
        size = np.linalg.norm(sensitivity(start, steps=steps))
        print(f"the tip after {H * steps:.0f} s moves {size:.3g} times as far as the start")
    print(f"energy drift {drift:.1e}")


if __name__ == "__main__":
    main()
