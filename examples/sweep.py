"""64 learning rates at once: `vmap` of a training step trains 64 networks on the digits in one native call a step.

All begin with the same weights and see the same batches; too high a rate ruins its own network and no other. The one
that does best is trained again by itself, and comes out the same.
"""

import gzip
import time
from pathlib import Path

import numpy as np

import adjit
from adjit import nn

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
RATES = np.logspace(-4, 2, 64)


def load_digits():
    with gzip.open(DATA, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = table[:, :64] / np.float32(16), table[:, 64].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def init():
    first, second = adjit.random.split(adjit.random.key(0), 2)
    return {
        "w1": nn.init.he_normal((64, 32), key=first),
        "b1": np.zeros(32, np.float32),
        "w2": nn.init.glorot_uniform((32, 10), key=second),
        "b2": np.zeros(10, np.float32),
    }


def predict(params, x):
    return nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params, x, labels):
    return nn.cross_entropy(predict(params, x), labels)


def accuracy(params, x, labels):
    return np.mean(np.argmax(predict(params, x), axis=1) == labels)


def main():
    images, labels = load_digits()
    data, test = (images[:1500], labels[:1500]), (images[1500:], labels[1500:])
    step = adjit.vmap(adjit.training_step(loss, adjit.optim.sgd(RATES, momentum=0.9)), in_axes=(0, None, None))
    state = step.init(init(), models=len(RATES))
    begun = time.perf_counter()
    history = step.run(state, data, batch_size=32, epochs=20)
    seconds = time.perf_counter() - begun
    accuracies = adjit.vmap(accuracy, in_axes=(0, None, None))(state.params, *test)
    # Of the last epoch, which has 47 batches.
    losses = np.mean(history.losses[-47:], axis=0)
    print(f"{len(RATES)} networks, {len(history)} steps each, in {seconds:.1f} s")
    for k in range(0, len(RATES), 9):
        print(f"rate {RATES[k]:8.4f}  loss {losses[k]:8.4f}  test accuracy {accuracies[k]:6.2%}")
    # Ten classes by chance.
    print(f"ruined: {np.sum(losses > np.log(10))}")
    best = int(np.argmax(accuracies))
    print(f"best rate {RATES[best]:.4f}  test accuracy {accuracies[best]:.2%}")

    alone = adjit.training_step(loss, adjit.optim.sgd(RATES[best], momentum=0.9))
    one = alone.init(init())
    alone.run(one, data, batch_size=32, epochs=20)
    difference = max(np.max(np.abs(one.params[name] - state.params[name][best])) for name in one.params)
    print(f"by itself: test accuracy {accuracy(one.params, *test):.2%}, weights differ by {difference:.0e}")


if __name__ == "__main__":
    main()
