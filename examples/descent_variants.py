"""Gradient descent with one row, some rows or all rows a step, each at rates too small, right and too large.

    python examples/descent_variants.py                                  the digits of this project: a few seconds
    python examples/descent_variants.py --data mnist --picture descent.png

One network, which all begin with, sees the data 20 times, and the loss on all data is measured after each time. Steps
with one row are many and noisy, those with all rows few and exact: for as much reading of the data the few get least
far. Rates that are right differ by a factor of a hundred, and above them each descent fails in its own way. The three
rates of a descent are three networks in one native call, by `vmap` of the training step.

Source: Bottou, Curtis, Nocedal, Optimization methods for large-scale machine learning, SIAM Review 60 (2018).
"""

import argparse
import time

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random

NAMES = ["too small", "right", "too large"]
# Rows of a step, and the three rates.
VARIANTS = {
    "stochastic": (1, [1e-4, 1e-2, 0.5]),
    "mini-batch": (32, [1e-3, 0.2, 10.0]),
    "full batch": (None, [1e-2, 1.0, 50.0]),
}


def init(inputs, seed):
    hidden, out = random.split(random.key(seed), 2)
    return {"hidden": nn.init.dense(inputs, 32, key=hidden), "out": nn.init.dense(32, 10, key=out)}


def predict(params, x):
    return nn.dense(params["out"], nn.tanh(nn.dense(params["hidden"], x)))


def loss(params, x, labels):
    return nn.cross_entropy(predict(params, x), labels)


def accuracy(params, x, labels):
    return np.mean(np.argmax(predict(params, x), axis=1) == labels)


def descend(params, data, rows, rates, passes, seed):
    """Parameters for each rate, and the losses on all data after each pass: (1 + passes, rates)."""
    step = adjit.vmap(adjit.training_step(loss, optim.sgd(rates)), in_axes=(0, None, None))
    measure = adjit.vmap(loss, in_axes=(0, None, None))
    state = step.init(params, models=len(rates))
    losses = [measure(state.params, *data)]
    for _ in range(passes):
        step.run(state, data, batch_size=rows, seed=seed, on_nan="ignore")
        losses.append(measure(state.params, *data))
    return state.params, np.array(losses)


def draw(path, curves):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'adjit[plot]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axes, (title, (rates, losses)) in zip(panels, curves.items(), strict=True):
        for name, rate, curve in zip(NAMES, rates, losses.T, strict=True):
            axes.plot(curve, label=f"{name}: {rate:g}")
        axes.set(title=title, xlabel="passes over the data", yscale="log")
        axes.legend(loc="center right")
    panels[0].set_ylabel("training loss")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder with images in IDX files; without it the digits of this project")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="where to draw the losses, if matplotlib is installed")
    options = parser.parse_args()

    train, test = (((x.reshape(len(x), -1)), labels) for x, labels in load(options.data))
    params = init(train[0].shape[1], options.seed)
    curves = {}
    for title, (rows, rates) in VARIANTS.items():
        rows = rows or len(train[0])
        begun = time.perf_counter()
        trained, losses = descend(params, train, rows, np.array(rates), options.passes, options.seed)
        seconds = time.perf_counter() - begun
        print(f"{title}: {options.passes * -(-len(train[0]) // rows)} steps of {rows} rows in {seconds:.1f} s")
        correct = adjit.vmap(accuracy, in_axes=(0, None, None))(trained, *test)
        for name, rate, last, share in zip(NAMES, rates, losses[-1], correct, strict=True):
            print(f"    {name:9s}  rate {rate:<7g}  loss {last:8.4f}  test accuracy {share:6.2%}")
        curves[title] = rates, losses
    if options.picture:
        draw(options.picture, curves)


if __name__ == "__main__":
    main()
