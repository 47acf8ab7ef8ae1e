"""Handwritten digits, 8x8 pixels: a network with dropout, trained to 97% and more in a few seconds.

Data: UCI "Optical Recognition of Handwritten Digits" (see data/README.md), 1500 images to train on and 297 to test.
All steps of an epoch run in native code. The last line is the accuracy on the test images.
"""

import gzip
from pathlib import Path

import numpy as np

import adjit
from adjit import nn

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
EPOCHS = 40
RATE = 0.2


def load_digits():
    with gzip.open(DATA, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = table[:, :64] / np.float32(16), table[:, 64].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def init(seed=0):
    keys = adjit.random.split(adjit.random.key(seed), 3)
    return {
        "w1": nn.init.he_normal((64, 256), key=keys[0]),
        "b1": np.zeros(256, np.float32),
        "w2": nn.init.he_normal((256, 128), key=keys[1]),
        "b2": np.zeros(128, np.float32),
        "w3": nn.init.glorot_uniform((128, 10), key=keys[2]),
        "b3": np.zeros(10, np.float32),
    }


def predict(params, x, key=None):
    first, second = adjit.random.split(key, 2) if key is not None else (None, None)
    h = nn.dropout(nn.relu(x @ params["w1"] + params["b1"]), RATE, first)
    h = nn.dropout(nn.relu(h @ params["w2"] + params["b2"]), RATE, second)
    return h @ params["w3"] + params["b3"]


def loss(params, x, labels, *, key):
    return nn.cross_entropy(predict(params, x, key), labels)


def accuracy(params, x, labels):
    return np.mean(np.argmax(predict(params, x), axis=1) == labels)


def draw(path, losses, accuracies):
    try:
        import matplotlib
    except ImportError:
        print("no learning curve: matplotlib is not installed (pip install 'adjit[plot]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, left = plt.subplots(figsize=(7, 4))
    steps = len(losses) // len(accuracies)
    left.plot(np.arange(len(losses)) / steps, losses, linewidth=0.5, color="tab:blue")
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right = left.twinx()
    right.plot(np.arange(1, len(accuracies) + 1), accuracies, color="tab:orange")
    right.set(ylabel="test accuracy")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"learning curve: {path}")


def train(epochs=EPOCHS, report=print, seed=0):
    images, labels = load_digits()
    train_x, train_y, test_x, test_y = images[:1500], labels[:1500], images[1500:], labels[1500:]
    rate = adjit.optim.schedule.cosine(2e-3, steps=epochs * 47)
    step = adjit.training_step(loss, adjit.optim.adam(rate))
    state = step.init(init(seed), key=seed)
    measure = adjit.jit(accuracy)
    losses, accuracies = [], []
    for epoch in range(epochs):
        history = step.run(state, (train_x, train_y), batch_size=32, epochs=1, seed=seed)
        losses.extend(history.losses)
        accuracies.append(float(measure(state.params, test_x, test_y)))
        report(f"epoch {epoch + 1:2d}  loss {np.mean(history.losses):.4f}  test accuracy {accuracies[-1]:.2%}")
    return np.array(losses), accuracies


def main():
    try:
        from rich.progress import Progress
    except ImportError:
        print("no progress bar: rich is not installed (pip install 'adjit[train]')")
        losses, accuracies = train()
    else:
        with Progress() as progress:
            task = progress.add_task("training", total=EPOCHS)

            def report(line):
                progress.console.print(line, highlight=False)
                progress.advance(task)

            losses, accuracies = train(report=report)
    draw(Path(__file__).with_name("digits_learning_curve.png"), losses, accuracies)
    print(f"test accuracy {accuracies[-1]:.2%}")


if __name__ == "__main__":
    main()
