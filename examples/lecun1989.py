"""The network that read zip codes: backpropagation's first use on real images, with the paper's figures beside.

    python examples/lecun1989.py                     the digits of this project, at 16x16: a few seconds
    python examples/lecun1989.py --data mnist        7,291 and 2,007 digits of MNIST at 16x16, as many as in the paper

Two layers of twelve feature maps each, found by 5x5 kernels every second pixel, then 30 units and 10 outputs: 9,760
parameters. Each unit has a bias of its own, and units of the second layer look at 8 of the 12 maps. All are
1.7159 tanh(2x/3), beyond an edge there is -1, targets are -1 and 1, and each pattern alone makes a step, 23 times.

With the seeds 0, 1 and 2 4.33%, 4.68% and 4.93% of the test digits of MNIST are wrong, after 4 seconds; in 1989 it
took three days.

The zip codes are not published. Which 8 maps a unit sees is not in the paper either, which descended with an estimate
of the diagonal of the Hessian: here it is plain descent. Both, and the choice of digits, follow Karpathy, who found
0.62% and 4.09% on 7,291 and 2,007 digits of MNIST.

Sources: LeCun, Boser, Denker, Henderson, Howard, Hubbard, Jackel, Backpropagation applied to handwritten zip code
recognition, Neural Computation 1 (1989); Karpathy, Deep neural nets: 33 years ago and 33 years from now (2022).
"""

import argparse
import time

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random

SEEN = [*range(8), *range(4, 12), *range(4), *range(8, 12)]
"""The maps that a third of the second layer's maps look at, one third after the other."""
PAPER = {"training": (2.5e-3, "0.14%"), "test": (1.8e-2, "5.0%")}


def squash(x):
    return 1.7159 * np.tanh(2 / 3 * x)


def init(seed):
    shapes = {"h1": (5, 5, 1, 12), "h2": (5, 5, 8, 12), "h3": (192, 30), "out": (30, 10)}
    biases = {"h1": (12, 8, 8), "h2": (12, 4, 4), "h3": (30,), "out": (10,)}
    params = {}
    for (name, shape), key in zip(shapes.items(), random.split(random.key(seed), 4), strict=True):
        bound = 2.4 / np.sqrt(np.prod(shape[:-1]))
        params[name] = {
            "w": random.uniform(key, shape, low=-bound, high=bound),
            "b": np.zeros(biases[name], np.float32),
        }
    return params


def layer(params, x, groups=1):
    x = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=-1)
    return squash(nn.conv(x, params["w"], stride=2, groups=groups) + params["b"])


def predict(params, x):
    h = layer(params["h1"], x)
    h = layer(params["h2"], h[:, SEEN], groups=3)
    h = squash(nn.dense(params["h3"], h.reshape(len(x), -1)))
    return squash(nn.dense(params["out"], h))


def loss(params, x, targets):
    return np.mean((predict(params, x) - targets) ** 2)


@adjit.jit
def figures(params, x, targets):
    outputs = predict(params, x)
    wrong = np.argmax(outputs, axis=1) != np.argmax(targets, axis=1)
    return np.mean((outputs - targets) ** 2), np.sum(wrong)


def prepared(images, labels, count, seed):
    """So many of the images at 16x16 from -1 to 1, and targets of -1 and 1."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    x = nn.resize(images[chosen], 16) * 2 - 1
    return x, np.where(np.arange(10) == labels[chosen, None], 1, -1).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder with MNIST in IDX files; without it the digits of this project")
    parser.add_argument("--passes", type=int, default=23)
    parser.add_argument("--rate", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    train, test = load(options.data)
    data = {"training": prepared(*train, 7291, options.seed), "test": prepared(*test, 2007, options.seed)}
    params = init(options.seed)
    print(f"{adjit.ravel(params)[0].size:,} parameters")
    step = adjit.training_step(loss, optim.sgd(options.rate))
    state = step.init(params)
    begun = time.perf_counter()
    history = step.run(state, data["training"], batch_size=1, epochs=options.passes, seed=options.seed)
    print(
        f"{options.passes} passes, {len(history):,} steps of one pattern each, in {time.perf_counter() - begun:.1f} s"
    )
    print("              squared error        wrong             of the paper")
    for name, (x, targets) in data.items():
        error, wrong = figures(state.params, x, targets)
        print(f"{name:12s}  {error:.2e}  {wrong:4d} of {len(x)}  {wrong / len(x):6.2%}", end="")
        print(f"    {PAPER[name][0]:.1e}  {PAPER[name][1]:>5s}")


if __name__ == "__main__":
    main()
