"""Networks of convolutions, written once over the operations that each side has as its library's users write them.

Images have their channels last, kernels are (height, width, inputs, outputs); a side may keep them otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks.problem import Arrays, Problem

WIDTHS = (16, 32, 64)
"""Channels of the three blocks of `resnet8`."""
NARROW, EXPANDED = 32, 192
"""Channels of `depthwise`, outside and inside."""


class Operations(Protocol):
    """What a network is made of."""

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """A convolution of squares; groups of channels do not meet."""

    def max_pool(self, x: Any) -> Any:
        """The largest of each two by two."""

    def mean(self, x: Any) -> Any:
        """Over height and width."""

    def rows(self, x: Any) -> Any:
        """Each image as a row, in the order height, width, channels."""

    def normalized(self, x: Any, scale: Any, shift: Any) -> Any:
        """Each channel over the batch, with statistics of the batch."""

    def shifted(self, x: Any, bias: Any) -> Any:
        """A number added to each channel."""

    def tanh(self, x: Any) -> Any: ...

    def relu(self, x: Any) -> Any: ...

    def relu6(self, x: Any) -> Any: ...

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        """The mean."""


Loss = Callable[[Operations, Any, Any, Any], Any]


def lenet(of: Operations, p: Any, x: Any, labels: Any) -> Any:
    h = of.max_pool(of.tanh(of.shifted(of.conv(x, p["k1"], padding=2), p["b1"])))
    h = of.max_pool(of.tanh(of.shifted(of.conv(h, p["k2"]), p["b2"])))
    h = of.tanh(of.rows(h) @ p["w3"] + p["b3"])
    h = of.tanh(h @ p["w4"] + p["b4"])
    return of.cross_entropy(h @ p["w5"] + p["b5"], labels)


def resnet8(of: Operations, p: Any, x: Any, labels: Any) -> Any:
    def layer(x: Any, name: str, stride: int = 1) -> Any:
        y = of.conv(x, p[f"{name}_k"], stride=stride, padding=1)
        return of.normalized(y, p[f"{name}_scale"], p[f"{name}_shift"])

    h = of.relu(layer(x, "first"))
    for i in range(len(WIDTHS)):
        stride = 2 if i else 1
        inside = layer(of.relu(layer(h, f"block{i}_a", stride)), f"block{i}_b")
        beside = of.conv(h, p[f"block{i}_beside"], stride=stride) if i else h
        h = of.relu(inside + beside)
    return of.cross_entropy(of.mean(h) @ p["w"] + p["b"], labels)


def depthwise(of: Operations, p: Any, x: Any, labels: Any) -> Any:
    def layer(x: Any, name: str, padding: int = 0, groups: int = 1) -> Any:
        y = of.conv(x, p[f"{name}_k"], padding=padding, groups=groups)
        return of.normalized(y, p[f"{name}_scale"], p[f"{name}_shift"])

    h = of.relu6(layer(x, "expand"))
    h = of.relu6(layer(h, "apart", padding=1, groups=EXPANDED))
    h = x + layer(h, "project")
    return of.cross_entropy(of.mean(h) @ p["w"] + p["b"], labels)


CONVOLVED: dict[str, Loss] = {"lenet": lenet, "resnet8": resnet8, "depthwise": depthwise}

CONVOLVED_MEANING: dict[str, str] = {
    "lenet": "LeNet-5 on 28 x 28, tanh, maximum of two by two, batch 64, SGD with momentum",
    "resnet8": "ResNet-8 on 32 x 32 x 3, 16, 32 and 64 channels, batch normalisation, batch 32, SGD with momentum",
    "depthwise": "MobileNetV2's block on 28 x 28 x 32, expanded by 6, batch normalisation, batch 32, SGD with momentum",
}


class _Layers:
    """Parameters as they are made, and the operations of a step."""

    def __init__(self, batch: int) -> None:
        self.rng = np.random.default_rng(0)
        self.params: Arrays = {}
        self.batch, self.flops = batch, 0.0

    def weights(self, name: str, *shape: int, places: int = 1, times: int = 3) -> None:
        """A matrix or kernel, used at so many places of each row: forward and `times` - 1 gradients."""
        values = self.rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        self.params[name] = values.astype(np.float32)
        self.flops += 2.0 * times * self.batch * places * float(np.prod(shape))

    def vector(self, name: str, size: int, value: float = 0.0) -> None:
        self.params[name] = np.full(size, value, np.float32)

    def problem(self, side: int, channels: int, rate: float, steps: int) -> Problem:
        x = self.rng.normal(size=(self.batch, side, side, channels)).astype(np.float32)
        weights = float(sum(array.nbytes for array in self.params.values()))
        return Problem(
            self.params, {"x": x, "labels": self.rng.integers(0, 10, self.batch)}, {"learning_rate": rate}, self.flops,
            6 * weights, 2 * weights + x.nbytes, tolerance=1e-3, optimizer="momentum", loop_steps=steps,
        )  # fmt: skip


def _lenet() -> Problem:
    made = _Layers(64)
    made.weights("k1", 5, 5, 1, 6, places=28 * 28, times=2)
    made.weights("k2", 5, 5, 6, 16, places=10 * 10)
    for i, (n, m) in enumerate(((400, 120), (120, 84), (84, 10)), 3):
        made.weights(f"w{i}", n, m)
        made.vector(f"b{i}", m)
    made.vector("b1", 6)
    made.vector("b2", 16)
    return made.problem(28, 1, 0.01, 20)


def _resnet8() -> Problem:
    made = _Layers(32)

    def layer(name: str, inputs: int, outputs: int, side: int, times: int = 3) -> None:
        made.weights(f"{name}_k", 3, 3, inputs, outputs, places=side * side, times=times)
        made.vector(f"{name}_scale", outputs, 1.0)
        made.vector(f"{name}_shift", outputs)

    layer("first", 3, WIDTHS[0], 32, times=2)
    inputs, side = WIDTHS[0], 32
    for i, outputs in enumerate(WIDTHS):
        side //= 2 if i else 1
        layer(f"block{i}_a", inputs, outputs, side)
        layer(f"block{i}_b", outputs, outputs, side)
        if i:
            made.weights(f"block{i}_beside", 1, 1, inputs, outputs, places=side * side)
        inputs = outputs
    made.weights("w", inputs, 10)
    made.vector("b", 10)
    return made.problem(32, 3, 0.01, 4)


def _depthwise() -> Problem:
    made, side = _Layers(32), 28
    layers = {"expand": (1, NARROW, EXPANDED), "apart": (3, 1, EXPANDED), "project": (1, EXPANDED, NARROW)}
    for name, (size, inputs, outputs) in layers.items():
        made.weights(f"{name}_k", size, size, inputs, outputs, places=side * side, times=2 if name == "expand" else 3)
        made.vector(f"{name}_scale", outputs, 1.0)
        made.vector(f"{name}_shift", outputs)
    made.weights("w", NARROW, 10)
    made.vector("b", 10)
    return made.problem(side, NARROW, 0.01, 4)


CONVOLVED_PROBLEMS: dict[str, Callable[[], Problem]] = {"lenet": _lenet, "resnet8": _resnet8, "depthwise": _depthwise}
