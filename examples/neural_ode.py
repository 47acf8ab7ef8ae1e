"""A differential equation whose right side is a network, fitted to a spiral; the gradient keeps little of the way.

1,000 steps of Runge and Kutta for 64 curves would keep megabytes for the gradient. `checkpoint="..."` bounds what is
kept in bytes, and the compiler computes the rest again in the fewest steps that there can be.
"""

import functools

import numpy as np

import adjit

STEPS, H, CURVES = 1000, 0.006, 64


def field(params, u):
    return np.tanh(u @ params["w1"] + params["b1"]) @ params["w2"]


def ends(params, u, checkpoint):
    """Where the curves end."""

    def step(u, _):
        a = field(params, u)
        b = field(params, u + H / 2 * a)
        c = field(params, u + H / 2 * b)
        d = field(params, u + H * c)
        return u + H / 6 * (a + 2 * b + 2 * c + d), None

    return adjit.scan(step, u, length=STEPS, checkpoint=checkpoint)[0]


def loss(params, start, end, checkpoint):
    return np.mean((ends(params, start, checkpoint) - end) ** 2)


def true_ends(start):
    """A spiral, whose solution is a turn and a shrinking."""
    time = STEPS * H
    turn = np.array([[np.cos(time), -np.sin(time)], [np.sin(time), np.cos(time)]])
    return np.exp(-0.1 * time) * start @ turn


def kept(gradient):
    """Bytes of memory that a call takes, and what the compiler says of it."""
    words = [line.strip() for line in str(gradient.explain()).splitlines() if "forward" in line]
    return int(str(gradient.ir("plan")).split("arena ")[1].split()[0]), words


def main():
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(2, 16)), "b1": np.zeros(16), "w2": rng.normal(size=(16, 2)) / 16}
    start = rng.uniform(-1, 1, (CURVES, 2))
    end = true_ends(start)
    slopes = []
    for checkpoint in ("all", "64KB"):
        gradient = adjit.grad(functools.partial(loss, checkpoint=checkpoint))
        slopes.append(gradient(params, start, end))
        nbytes, words = kept(gradient)
        print(f"checkpoint={checkpoint!r}: {nbytes / 2**20:.2f} MB", *words)
    print(f"largest difference: {max(np.max(np.abs(slopes[0][k] - slopes[1][k])) for k in params):.0e}")
    step = adjit.training_step(functools.partial(loss, checkpoint="64KB"), adjit.optim.adam(0.02))
    state = step.init(params)
    first = step(state, start, end)
    for _ in range(150):
        last = step(state, start, end)
    print(f"loss {first:.4f} -> {last:.6f}")


if __name__ == "__main__":
    main()
