"""Gradients of each example by themselves, as for privacy or for weighing examples: `vmap` of `grad`, one native call.

The loss of each image of the digits has a gradient of its own; each is cut to a norm of 1 before they are added up.
"""

import time

import numpy as np

import adjit


def loss(params, x, label):
    """The cross-entropy of one example."""
    h = np.tanh(x @ params["w1"] + params["b1"])
    logits = h @ params["w2"] + params["b2"]
    top = np.max(logits)
    return top + np.log(np.sum(np.exp(logits - top))) - logits[label]


def clipped(params, x, label):
    """The gradient of one example, of a norm of 1 at most; and that norm."""
    gradient = adjit.grad(loss)(params, x, label)
    norm = np.sqrt(sum(np.sum(g * g) for g in gradient.values()))
    return {name: g / np.maximum(1.0, norm) for name, g in gradient.items()}, norm


@adjit.jit
def summed(params, x, labels):
    """The sum of all clipped gradients, and each one's norm before."""
    gradients, norms = adjit.vmap(clipped, in_axes=(None, 0, 0))(params, x, labels)
    return {name: np.sum(g, axis=0) for name, g in gradients.items()}, norms


def main():
    rng = np.random.default_rng(0)
    sizes = {"w1": (64, 32), "b1": (32,), "w2": (32, 10), "b2": (10,)}
    params = {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in sizes.items()}
    x, labels = rng.normal(size=(256, 64)), rng.integers(0, 10, 256)
    found, norms = summed(params, x, labels)
    one_by_one = [clipped(params, a, b)[0] for a, b in zip(x, labels, strict=True)]
    worst = max(np.max(np.abs(found[name] - sum(g[name] for g in one_by_one))) for name in found)
    begun = time.perf_counter()
    for _ in range(100):
        summed(params, x, labels)
    print(f"256 gradients of {sum(p.size for p in params.values())} parameters: {norms.min():.2f} to {norms.max():.2f}")
    print(f"largest difference from one at a time: {worst:.0e}")
    print(f"a call takes {(time.perf_counter() - begun) * 10:.2f} ms")


if __name__ == "__main__":
    main()
