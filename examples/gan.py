"""A generator of digits and its adversary, trained in turn: two training steps, each of which reads the other's state.

    python examples/gan.py                                  8x8 digits: a few seconds
    python examples/gan.py --data FOLDER --hidden 512 --latent 64 --rate 2e-4 --epochs 30 --picture digits.png

FOLDER holds the four files of MNIST. The discriminator learns to tell images from what the generator makes of noise,
the generator to be taken for one of them. How well that goes is not to be seen from their losses, so a classifier that
was trained on the images says which digit it sees in new ones, and how sure it is: all ten should come up, and about as
often as each other. The third measure is the Frechet distance between new images and those of the test, both taken for
normal distributions. On MNIST, as above with seed 0, it falls from 178 to 8.3 in a few minutes, all ten digits come up
(3% to 20%), and the classifier is sure by 95.5% in the mean, where it is by 99.9% of the images that it learnt from.

Sources: Goodfellow et al., Generative adversarial nets, NeurIPS 2014; Salimans et al., Improved techniques for training
GANs, NeurIPS 2016, for labels of 0.9; Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017, for
the distance, which is of pixels here.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from images import draw, load

import adjit
from adjit import nn, optim, random

BATCH = 64


def init(sizes, key):
    keys = random.split(key, len(sizes) - 1)
    return [nn.init.dense(m, n, key=k) for m, n, k in zip(sizes[:-1], sizes[1:], keys, strict=True)]


def layers(params, x, activation):
    for layer in params[:-1]:
        x = activation(nn.dense(layer, x))
    return nn.dense(params[-1], x)


def generate(generator, key, count):
    noise = random.normal(key, (count, generator[0]["w"].shape[0]))
    return nn.sigmoid(layers(generator, noise, nn.relu))


def judge(discriminator, images, key):
    """How much each image looks like a true one, as a logit. Half of its pixels are hidden, lest it know them all."""
    return layers(discriminator, nn.dropout(images, 0.5, key), lambda x: nn.leaky_relu(x, 0.2))[:, 0]


def discriminator_loss(discriminator, images, generator, *, key):
    keys = random.split(key, 3)
    true = judge(discriminator, images, keys[0])
    made = judge(discriminator, generate(generator, keys[1], len(images)), keys[2])
    return nn.binary_cross_entropy_with_logits(true, np.full(len(images), 0.9, np.float32)) + np.mean(nn.softplus(made))


def generator_loss(generator, discriminator, *, key):
    keys = random.split(key, 2)
    return np.mean(nn.softplus(-judge(discriminator, generate(generator, keys[0], BATCH), keys[1])))


def classifier_loss(params, x, labels):
    return nn.cross_entropy(layers(params, x, nn.relu), labels)


def frechet(x, y):
    """The squared Frechet distance of two sets of images, each taken for a normal distribution."""
    a, b = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    both = np.linalg.eigvalsh(root @ b @ root)
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b) - 2 * np.sum(np.sqrt(np.maximum(both, 0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder with the four files of MNIST, or of a set like it")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--latent", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, help="where to draw new images")
    options = parser.parse_args()

    (train, labels), (test, _) = load(options.data)
    train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    hidden, pixels = options.hidden, train.shape[1]
    keys = random.split(random.key(options.seed), 4)

    step = adjit.training_step(classifier_loss, optim.adam(1e-3))
    classifier = step.init(init((pixels, hidden, 10), keys[0]))
    step.run(classifier, (train, labels), batch_size=BATCH, epochs=options.epochs // 2)

    adam = optim.adam(options.rate, b1=0.5)
    discern = adjit.training_step(discriminator_loss, adam)
    deceive = adjit.training_step(generator_loss, adam)
    discriminator = discern.init(init((pixels, hidden, hidden, 1), keys[1]), key=int(keys[1]))
    generator = deceive.init(init((options.latent, hidden, hidden, pixels), keys[2]), key=int(keys[2]))
    make = adjit.jit(generate, static_argnames="count")
    recognise = adjit.jit(lambda params, x: nn.softmax(layers(params, x, nn.relu)))

    def seen(images):
        """The share of each digit among images, and how sure the classifier is of what it sees."""
        found = recognise(classifier.params, images)
        return np.bincount(found.argmax(1), minlength=10) / len(images), np.mean(found.max(1))

    print(f"untrained: distance {frechet(make(generator.params, random.key(0), 2000), test):.2f}")
    shuffle = np.random.default_rng(options.seed)
    begun = time.perf_counter()
    for epoch in range(options.epochs):
        order = shuffle.permutation(len(train))
        for i in range(0, len(train) - BATCH + 1, BATCH):
            told = discern(discriminator, train[order[i : i + BATCH]], generator.params)
            taken = deceive(generator, discriminator.params)
        if (epoch + 1) % -(-options.epochs // 5) == 0:
            images = make(generator.params, random.key(0), 2000)
            shares, sure = seen(images)
            print(
                f"epoch {epoch + 1:3d}  losses {told:.2f} {taken:.2f}  distance {frechet(images, test):6.2f}  "
                f"digits {np.sum(shares > 0.03)}  sure {sure:.1%}"
            )
    print(f"{time.perf_counter() - begun:.1f} s, {generator.step} steps of each")
    print(f"training images: distance {frechet(train, test):.2f}, sure {seen(train)[1]:.1%}")
    shares, sure = seen(images)
    shown = " ".join(f"{share:.0%}" for share in shares)
    print(f"new images: distance {frechet(images, test):.2f}, sure {sure:.1%}, digits {shown}")
    if options.picture:
        draw(options.picture, images[:100].reshape(10, 10, -1))


if __name__ == "__main__":
    main()
