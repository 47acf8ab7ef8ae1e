"""A small residual network with batch normalisation classifies images.

    python examples/resnet.py                               8x8 digits: a few seconds
    python examples/resnet.py --data FOLDER --epochs 10     MNIST, Fashion-MNIST: the folder has their four files

A first convolution, then three stages of residual blocks, the second and third of which halve the image and double the
channels, and the mean of each channel. Batch normalisation subtracts the mean of a batch while training, and a running
mean afterwards.

Sources: He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016; Ioffe and Szegedy, Batch
normalization, ICML 2015.
"""

import argparse
import time

import numpy as np
from images import load

import adjit
from adjit import nn, optim, random

BATCH = 32


def init(width, blocks, seed):
    """Parameters, and the running statistics of all normalisations by the same names."""
    keys = iter(random.split(random.key(seed), 8 * blocks + 4))

    def layer(size, inputs, outputs):
        norm, running = nn.init.batch_norm(outputs)
        return {"w": nn.init.he_normal((size, size, inputs, outputs), key=next(keys)), "norm": norm}, running

    layers = {"first": layer(3, 1, width)}
    inputs = width
    for stage in range(3):
        outputs = width * 2**stage
        for block in range(blocks):
            name = f"stage {stage + 1}, block {block + 1}"
            layers[f"{name}, a"] = layer(3, inputs, outputs)
            layers[f"{name}, b"] = layer(3, outputs, outputs)
            if inputs != outputs:
                layers[f"{name}, shortcut"] = layer(1, inputs, outputs)
            inputs = outputs
    params = {name: params for name, (params, _) in layers.items()}
    params["out"] = nn.init.dense(inputs, 10, key=next(keys))
    return params, {name: running for name, (_, running) in layers.items()}


def predict(params, running, images, training=False):
    """Logits, and the running statistics after these images."""
    after = {}

    def layer(name, x, stride=1):
        y = nn.conv(x, params[name]["w"], stride=stride, padding="same")
        y, after[name] = nn.batch_norm(y, running[name], **params[name]["norm"], training=training)
        return y

    x = nn.relu(layer("first", images))
    for name in [name.removesuffix(", a") for name in params if name.endswith(", a")]:
        wider = f"{name}, shortcut" in params
        stride = 2 if wider else 1
        shortcut = layer(f"{name}, shortcut", x, stride) if wider else x
        x = nn.relu(shortcut + layer(f"{name}, b", nn.relu(layer(f"{name}, a", x, stride))))
    return nn.dense(params["out"], nn.global_avg_pool(x)), after


def loss(params, running, images, labels):
    logits, running = predict(params, running, images, training=True)
    return nn.cross_entropy(logits, labels), running


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a folder with the four files of MNIST, or of a set like it")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--blocks", type=int, default=1, help="in each stage")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    (images, labels), (test, test_labels) = load(options.data)
    steps = options.epochs * (len(images) // BATCH)
    rate = optim.schedule.warm_up(optim.schedule.cosine(options.rate, steps=steps), steps=steps // 20)
    step = adjit.training_step(loss, optim.sgd(rate, momentum=0.9, nesterov=True), has_aux=True, l2=2.5e-4)
    params, running = init(options.width, options.blocks, options.seed)
    state = step.init(params)
    answers = adjit.jit(lambda *args: np.argmax(predict(*args)[0], axis=1))
    generator = np.random.default_rng(options.seed)

    print(f"{adjit.ravel(params)[0].size} parameters")
    begun = time.perf_counter()
    for epoch in range(options.epochs):
        losses = []
        order = generator.permutation(len(images))
        for i in range(0, len(images) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            value, running = step(state, running, images[batch], labels[batch])
            losses.append(value)
        parts = np.split(test, range(500, len(test), 500))
        found = np.concatenate([answers(state.params, running, part) for part in parts])
        accuracy = np.mean(found == test_labels)
        print(f"epoch {epoch + 1:2d}  loss {np.mean(losses):.4f}  test accuracy {accuracy:.2%}")
    print(f"{time.perf_counter() - begun:.1f} s")
    print(f"test accuracy {accuracy:.2%}")


if __name__ == "__main__":
    main()
