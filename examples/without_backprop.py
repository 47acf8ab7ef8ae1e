"""Learning without backpropagation: forward-forward and Hebbian networks beside an ordinary one, on the same digits.

    python examples/without_backprop.py                     8x8 digits: a few seconds
    python examples/without_backprop.py --data FOLDER --hidden 500 --epochs 40

FOLDER holds the four files of MNIST. Three networks have the same number of units:

- backpropagation: two hidden layers, cross entropy.
- forward-forward: two hidden layers, each of which learns by itself to be active where image and label belong together,
  and not where they do not; no derivative goes from one layer to the one before. The label is written beside the image,
  and the answer is the label for which the layers are most active.
- Hebbian: weights change by what is at their two ends. Oja's rule, w += rate (y x - y y w), is one rule and two
  networks: where units are linear and each one leaves out what those before it hold, they come to be the principal
  components of the images; where the unit that is nearest is 1 and all others are 0, they come to be typical images.
  Both are found without a label. The delta rule then learns which digits the typical images speak for.

Sources: Hinton, The forward-forward algorithm, arXiv:2212.13345 (2022); Oja, A simplified neuron model as a principal
component analyzer, Journal of Mathematical Biology 15 (1982); Sanger, Optimal unsupervised learning in a single-layer
linear feedforward neural network, Neural Networks 2 (1989); Rumelhart and Zipser, Feature discovery by competitive
learning, Cognitive Science 9 (1985); Coates, Lee and Ng, AISTATS 2011, for how near a typical image is.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random

BATCH, DIGITS, COMPONENTS = 32, 10, 16
THRESHOLD = 1.0


def init(sizes, key):
    keys = random.split(key, len(sizes) - 1)
    return [nn.init.dense(m, n, key=k) for m, n, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]


def one_hot(labels):
    return np.equal(labels[..., None], np.arange(DIGITS)).astype(np.float32)


# -- backpropagation ---------------------------------------------------------------------------------------------------


def predict(params, x):
    for layer in params[:-1]:
        x = nn.relu(nn.dense(layer, x))
    return nn.dense(params[-1], x)


def loss(params, x, labels):
    return nn.cross_entropy(predict(params, x), labels)


# -- forward-forward ---------------------------------------------------------------------------------------------------


def goodness(params, x, labels):
    """How active each layer is for each image and the label beside it: (layers, images)."""
    h = np.concatenate([x, one_hot(labels)], axis=-1)
    found = []
    for layer in params:
        # Its length is what the layer before has learnt, and would tell this one all.
        h = h / (np.sqrt(np.mean(h**2, axis=-1, keepdims=True)) + 1e-6)
        h = nn.relu(nn.dense(layer, adjit.stop_gradient(h)))
        found.append(np.mean(h**2, axis=-1))
    return np.stack(found)


def local_loss(params, x, labels, *, key):
    """The sum of the layers' own losses, none of which depends on the weights of another layer."""
    others = (labels + 1 + random.bits(key, labels.shape) % (DIGITS - 1)) % DIGITS
    right, wrong = goodness(params, x, labels), goodness(params, x, others)
    return np.mean(np.sum(nn.softplus(THRESHOLD - right) + nn.softplus(wrong - THRESHOLD), axis=0))


def most_active(params, x):
    scores = [np.sum(goodness(params, x, np.full(len(x), digit)), axis=0) for digit in range(DIGITS)]
    return np.stack(scores, axis=-1)


# -- Hebbian -----------------------------------------------------------------------------------------------------------


def linear(w, x):
    return x @ w.T


def distances(w, x):
    return np.sum(x**2, axis=1)[:, None] - 2 * x @ w.T + np.sum(w**2, axis=1)


def nearest(w, x):
    return np.equal(np.argmin(distances(w, x), axis=1)[:, None], np.arange(len(w))).astype(np.float32)


def oja(activity, w, images, batches, rates):
    """Oja's rule, a batch after the other; batches are (steps, batch) places of images."""

    def turn(w, element):
        batch, rate = element
        x = images[batch]
        y = activity(w, x)
        # Sanger's: a unit sees of the images what is not held by those before it.
        return w + rate * (y.T @ x - np.tril(y.T @ y) @ w) / BATCH, None

    return adjit.scan(turn, w, (batches, rates))[0]


def closeness(w, x):
    """How much nearer each typical image is than all are in the mean, and 0 for one that is not."""
    far = np.sqrt(np.maximum(distances(w, x), 0))
    return nn.relu(np.mean(far, axis=1, keepdims=True) - far)


def delta_rule(v, features, labels, batches, rates):
    """v += rate h (right - y): the weights from h to the digits change by h and the error at their other end."""

    def turn(v, element):
        batch, rate = element
        h = features[batch]
        return v + rate * h.T @ (one_hot(labels[batch]) - nn.softmax(h @ v)), None

    return adjit.scan(turn, v, (batches, rates))[0]


def share_held(x, w):
    """The share of the variance of x that lies in the space of the rows of w."""
    basis, _ = np.linalg.qr(w.T)
    return np.sum((x @ basis) ** 2) / np.sum(x**2)


# -- all of them -------------------------------------------------------------------------------------------------------


def accuracy(scores, labels):
    return np.mean(np.argmax(scores, axis=1) == labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder with the four files of MNIST, or of a set like it")
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    (train, labels), (test, test_labels) = load(options.data)
    train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    pixels, hidden = train.shape[1], options.hidden
    keys = random.split(random.key(options.seed), 2)
    steps = options.epochs * (len(train) // BATCH)
    run = {"batch_size": BATCH, "epochs": options.epochs, "seed": options.seed, "drop_last": True}
    rate = optim.schedule.cosine(2e-3, steps=steps)

    begun = time.perf_counter()
    step = adjit.training_step(loss, optim.adam(rate))
    state = step.init(init((pixels, hidden, hidden, DIGITS), keys[0]))
    step.run(state, (train, labels), **run)
    found = accuracy(adjit.jit(predict)(state.params, test), test_labels)
    print(f"backpropagation   {found:.2%}  in {time.perf_counter() - begun:.1f} s")

    begun = time.perf_counter()
    rate = optim.schedule.cosine(5e-3, steps=steps)
    step = adjit.training_step(local_loss, optim.adam(rate))
    state = step.init(init((pixels + DIGITS, hidden, hidden), keys[1]), key=options.seed)
    step.run(state, (train, labels), **run)
    found = accuracy(adjit.jit(most_active)(state.params, test), test_labels)
    print(f"forward-forward   {found:.2%}  in {time.perf_counter() - begun:.1f} s")

    generator = np.random.default_rng(options.seed)
    orders = [generator.permutation(len(train))[: steps // options.epochs * BATCH] for _ in range(options.epochs)]
    batches = np.concatenate(orders).reshape(-1, BATCH)
    falling = np.linspace(1, 0, steps, endpoint=False, dtype=np.float32)

    begun = time.perf_counter()
    learn = adjit.jit(oja, static_argnames="activity")
    centred = train - train.mean(0)
    start = 0.1 * generator.standard_normal((COMPONENTS, pixels), dtype=np.float32)
    components = learn(linear, start, centred, batches, 0.5 / np.mean(np.sum(centred**2, axis=1)) * falling)
    _, best = np.linalg.eigh(centred.T @ centred)
    held = share_held(centred, components), share_held(centred, best[:, -COMPONENTS:].T)
    print(f"Oja's components  hold {held[0]:.2%} of the variance; no {COMPONENTS} hold more than {held[1]:.2%}")
    typical = learn(nearest, train[batches.ravel()[:hidden]], train, batches, 2.0 * falling)
    v = np.zeros((hidden, DIGITS), np.float32)
    v = adjit.jit(delta_rule)(v, closeness(typical, train), labels, batches, 0.1 * falling)
    found = accuracy(closeness(typical, test) @ v, test_labels)
    print(f"Hebbian           {found:.2%}  in {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
