"""A convolutional network that reads handwritten digits: 99% and more of MNIST's test images.

    python examples/mnist_cnn.py                     the digits of this project, 8x8: a few seconds
    python examples/mnist_cnn.py --data mnist        a folder with the four files of MNIST (see images.py)

Two layers of 3x3 kernels, each with relu and max-pooling, then 128 units with dropout. All steps of an epoch run in
native code, and so does the count of what is right. With seed 0 99.26% of MNIST are, after 100 s of processor.

Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE
86 (1998); relu, dropout and Adam are of later years.
"""

import argparse
import time

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random


def init(pixels, seed):
    first, second, hidden, out = random.split(random.key(seed), 4)
    return {
        "conv1": {"w": nn.init.he_normal((3, 3, 1, 16), key=first), "b": np.zeros((16, 1, 1), np.float32)},
        "conv2": {"w": nn.init.he_normal((3, 3, 16, 32), key=second), "b": np.zeros((32, 1, 1), np.float32)},
        "hidden": nn.init.dense(32 * (pixels // 4) ** 2, 128, key=hidden),
        "out": nn.init.dense(128, 10, key=out),
    }


def conv(params, x):
    return nn.max_pool(nn.relu(nn.conv(x, params["w"], padding="same") + params["b"]), 2)


def predict(params, x, key=None):
    h = conv(params["conv2"], conv(params["conv1"], x))
    h = nn.relu(nn.dense(params["hidden"], h.reshape(len(x), -1)))
    return nn.dense(params["out"], nn.dropout(h, 0.4, key))


def loss(params, x, labels, *, key):
    return nn.cross_entropy(predict(params, x, key), labels)


@adjit.jit
def correct(params, x, labels):
    return np.sum(np.argmax(predict(params, x), axis=1) == labels)


def accuracy(params, images, labels, rows=500):
    parts = range(0, len(images), rows)
    return sum(int(correct(params, images[i : i + rows], labels[i : i + rows])) for i in parts) / len(images)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder with MNIST in IDX files; without it the digits of this project")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    train, test = load(options.data)
    steps = options.epochs * -(-len(train[0]) // 64)
    step = adjit.training_step(loss, optim.adam(optim.schedule.cosine(2e-3, steps=steps)))
    state = step.init(init(train[0].shape[-1], options.seed), key=options.seed)
    begun = time.perf_counter()
    for epoch in range(options.epochs):
        history = step.run(state, train, batch_size=64, epochs=1, seed=options.seed)
        print(f"epoch {epoch + 1:2d}  loss {history.losses.mean():.4f}  {time.perf_counter() - begun:6.1f} s")
    print(f"test accuracy {accuracy(state.params, *test):.2%}")


if __name__ == "__main__":
    main()
