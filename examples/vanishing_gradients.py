"""Why deep networks were hard to train: the gradient layer by layer, in networks with 16 hidden layers.

    python examples/vanishing_gradients.py                              the digits of this project: a few seconds
    python examples/vanishing_gradients.py --data mnist --epochs 3 --picture gradients.png

Going back through a layer multiplies the gradient by weights and slopes. Where that makes it smaller, as with sigmoids,
whose slope is 1/4 at most, next to nothing arrives at the first layers; where it makes it larger, it explodes. Weights
that are too small for their activation let the values vanish on their way forth as well, so that no layer learns.
Weights in proportion keep both, and residual connections and batch normalisation do so even for sigmoids. Clipping
bounds the steps of a gradient that explodes.

For each there is the norm of the loss's gradient in the weights of the first and the last of these layers, as the
training steps watch it: at the first step and over the last epoch; and what plain descent with momentum, at one rate
for all, comes to.

Sources: Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen (1991); Bengio, Simard, Frasconi, Learning
long-term dependencies with gradient descent is difficult (1994); Glorot, Bengio (2010); He, Zhang, Ren, Sun (2015,
2016); Ioffe, Szegedy (2015); Pascanu, Mikolov, Bengio (2013).
"""

import argparse

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random

LAYERS, UNITS = 16, 64
# Activation, what is around it, the variance of a weight times the inputs of its unit, and the norm to clip at.
VARIANTS = {
    "sigmoid, Glorot": (nn.sigmoid, "plain", 1.0, None),
    "sigmoid, residual": (nn.sigmoid, "residual", 1.0, None),
    "sigmoid, batch norm": (nn.sigmoid, "batch norm", 1.0, None),
    "tanh, too small": (nn.tanh, "plain", 0.1, None),
    "tanh, Glorot": (nn.tanh, "plain", 1.0, None),
    "ReLU, Glorot": (nn.relu, "plain", 1.0, None),
    "ReLU, He": (nn.relu, "plain", 2.0, None),
    "ReLU, too large": (nn.relu, "plain", 5.0, None),
    "ReLU, too large, clipped": (nn.relu, "plain", 5.0, 1.0),
}


def init(inputs, variance, seed):
    first, hidden, out = random.split(random.key(seed), 3)
    return {
        "first": nn.init.dense(inputs, UNITS, key=first),
        "hidden": [
            {"w": w * np.float32(np.sqrt(variance / UNITS)), "b": np.zeros(UNITS, np.float32)}
            for w in random.normal(hidden, (LAYERS, UNITS, UNITS))
        ],
        "out": nn.init.dense(UNITS, 10, key=out),
    }


def layer(params, h, activation, around):
    below = h
    h = nn.dense(params, h)
    if around == "batch norm":
        # By the statistics of the batch, while testing as well.
        h, _ = nn.batch_norm(h, training=True)
    h = activation(h)
    return below + h if around == "residual" else h


def predict(params, x, activation, around):
    h = nn.dense(params["first"], x)
    for each in params["hidden"]:
        h = layer(each, h, activation, around)
    return nn.dense(params["out"], h)


def study(variant, train, test, rate, epochs, seed):
    """Norms of the gradient in the weights of each hidden layer by steps, the last loss, the accuracy on the test."""
    activation, around, variance, clip_norm = variant

    def loss(params, x, labels):
        return nn.cross_entropy(predict(params, x, activation, around), labels)

    step = adjit.training_step(loss, optim.sgd(rate, momentum=0.9), clip_norm=clip_norm, watch="gradients")
    state = step.init(init(train[0].shape[1], variance, seed))
    history = step.run(state, train, batch_size=50, epochs=epochs, seed=seed, on_nan="ignore")
    norms = np.stack([history.norms.gradients[f"hidden.{k}.w"] for k in range(LAYERS)], axis=1)
    labels = np.argmax(predict(state.params, test[0], activation, around), axis=1)
    return norms, history.losses[-30:].mean(), np.mean(labels == test[1])


def draw(path, found):
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'adjit[plot]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    for name, (norms, _, accuracy) in found.items():
        line = "--" if "clipped" in name else "-"
        axes.plot(np.arange(1, LAYERS + 1), norms[0], line, marker=".", label=f"{name}: {accuracy:.0%}")
    axes.set(xlabel="hidden layer", ylabel="norm of the gradient before training", yscale="log")
    axes.legend(title="test accuracy after it", bbox_to_anchor=(1.02, 1), loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder with images in IDX files; without it the digits of this project")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="where to draw the norms layer by layer, if matplotlib is installed")
    options = parser.parse_args()

    train, test = ((x.reshape(len(x), -1), labels) for x, labels in load(options.data))
    found = {}
    print("                                before training       after training")
    print("                            layer 1    layer 16    layer 1    layer 16     loss   test accuracy")
    for name, variant in VARIANTS.items():
        norms, loss, accuracy = found[name] = study(variant, train, test, options.rate, options.epochs, options.seed)
        last = norms[-(len(norms) // options.epochs) :].mean(axis=0)
        shown = "  ".join(f"{norm:10.1e}" for norm in (norms[0, 0], norms[0, -1], last[0], last[-1]))
        print(f"{name:25s}{shown}  {loss:7.3f}  {accuracy:14.2%}")
    if options.picture:
        draw(options.picture, found)


if __name__ == "__main__":
    main()
