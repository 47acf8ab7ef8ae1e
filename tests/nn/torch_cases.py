"""What PyTorch was asked, and we are: the inputs of each case, in float64, from NumPy alone.

`make_fixtures` records what PyTorch makes of them, `test_against_torch` compares."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

Inputs = dict[str, np.ndarray]


def draw(case: str, **shapes: tuple[int, ...]) -> Inputs:
    """Standard normal values of a case, each name's own."""
    return {
        name: np.random.default_rng(zlib.crc32(f"{case}/{name}".encode())).standard_normal(shape)
        for name, shape in shapes.items()
    }


def weights_of(case: str, outputs: list[np.ndarray]) -> list[np.ndarray]:
    """What each output is multiplied by, so that its gradients are those of one number."""
    drawn = draw(case, **{f"weights {i}": np.shape(y) for i, y in enumerate(outputs)})
    return list(drawn.values())


def _recurrent(case: str, gates: int, **others: tuple[int, ...]) -> Inputs:
    drawn = draw(
        case, x=(5, 3, 2), w=(2, 3 * gates), b=(3 * gates,), u=(3, 3 * gates), c=(3 * gates,), h=(3, 3), **others
    )
    return drawn


NORMED = {"scale": (4,), "bias": (4,)}
HEADS = {"q": (2, 4, 3, 5), "k": (2, 4, 6, 5), "v": (2, 4, 6, 2)}
BLOCK = {
    "x": (2, 3, 4), **dict.fromkeys(("scale1", "bias1", "scale2", "bias2", "bq", "bk", "bv", "bo", "b_down"), (4,)),
    **dict.fromkeys(("wq", "wk", "wv", "wo"), (4, 4)), "up": (4, 7), "b_up": (7,), "down": (7, 4),
}  # fmt: skip
LABELS = np.array([0, 2, -1, 2, 1])
CLASSES = {"logits": (5, 3), "class_weights": (3,)}
LENGTHS = np.array([5, 1, 3])
MASK = np.array([[1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]], bool)
CTC_LABELS = np.array([[1, 2, 2], [3, 3, 1], [2, 1, 3]])
CTC_FRAMES, CTC_SIZES = np.array([7, 5, 6]), np.array([3, 2, 0])
PAIRS = np.array([1, -1, -1, 1])


def _positive(drawn: Inputs, *names: str) -> Inputs:
    return {name: np.abs(x) + 0.1 if name in names else x for name, x in drawn.items()}


def _shares(drawn: Inputs, *names: str) -> Inputs:
    """These as distributions along the last axis."""
    found: dict[str, Any] = {}
    for name, x in drawn.items():
        e = np.exp(x)
        found[name] = e / np.sum(e, axis=-1, keepdims=True) if name in names else x
    return found


CASES: dict[str, Inputs] = {
    "layer_norm": draw("layer_norm", x=(3, 4), **NORMED),
    "layer_norm, two axes": draw("layer_norm, two axes", x=(2, 3, 4), scale=(3, 4), bias=(3, 4)),
    "rms_norm": draw("rms_norm", x=(3, 4), scale=(4,)),
    "group_norm": draw("group_norm", x=(2, 4, 3, 1), **NORMED),
    "instance_norm": draw("instance_norm", x=(2, 4, 3), **NORMED),
    "batch_norm": _positive(draw("batch_norm", x=(3, 4, 2), **NORMED, mean=(4,), var=(4,)), "var"),
    "batch_norm, resting": _positive(draw("batch_norm, resting", x=(3, 4, 2), **NORMED, mean=(4,), var=(4,)), "var"),
    "weight_norm": draw("weight_norm", v=(3, 4), g=(4,)),
    "spectral_norm": draw("spectral_norm", w=(3, 4), u=(4,)),
    "attention": draw("attention", **HEADS),
    "attention, mask": draw("attention, mask", **HEADS),
    "attention, bias": draw("attention, bias", **HEADS, bias=(4, 3, 6)),
    "attention, causal": draw("attention, causal", q=(3, 5), k=(3, 5), v=(3, 1)),
    "attention, groups": draw("attention, groups", q=(2, 6, 3, 5), k=(2, 2, 3, 5), v=(2, 2, 3, 5)),
    "multi_head_attention": draw(
        "multi_head_attention", q=(2, 3, 4), k=(2, 5, 4), wq=(4, 4), wk=(4, 4), wv=(4, 4), wo=(4, 4), bq=(4,), bk=(4,),
        bv=(4,), bo=(4,),
    ),
    "transformer_block": draw("transformer_block", **BLOCK),
    "transformer_block, norm behind": draw("transformer_block, norm behind", **BLOCK),
    "rnn": _recurrent("rnn", 1),
    "rnn, relu": _recurrent("rnn, relu", 1),
    "gru": _recurrent("gru", 3),
    "gru, lengths": _recurrent("gru, lengths", 3),
    "gru, backward": _recurrent("gru, backward", 3),
    "lstm": _recurrent("lstm", 4, cell=(3, 3)),
    "lstm, lengths": _recurrent("lstm, lengths", 4, cell=(3, 3)),
    "lstm, backward": _recurrent("lstm, backward", 4, cell=(3, 3)),
    "cross_entropy, classes": _positive(draw("cross_entropy, classes", **CLASSES), "class_weights"),
    "cross_entropy, all": _positive(draw("cross_entropy, all", **CLASSES), "class_weights"),
    "cross_entropy, each": _positive(draw("cross_entropy, each", **CLASSES), "class_weights"),
    "cross_entropy, shares": _shares(
        _positive(draw("cross_entropy, shares", **CLASSES, targets=(5, 3)), "class_weights"), "targets"
    ),
    "binary_cross_entropy": _shares(
        draw("binary_cross_entropy", logits=(4, 3), targets=(4, 3), positive_weight=(3,)), "targets"
    ),
    "focal": draw("focal", logits=(4, 3)),
    "kl_divergence": _shares(draw("kl_divergence", logits=(4, 3), targets=(4, 3)), "targets"),
    "kl_divergence, log": draw("kl_divergence, log", logits=(4, 3), targets=(4, 3)),
    "cosine_loss": draw("cosine_loss", a=(4, 3), b=(4, 3)),
    "cosine_similarity": draw("cosine_similarity", a=(4, 3, 2), b=(3, 1)),
    "triplet": draw("triplet", anchor=(4, 3), positive=(4, 3), negative=(4, 3)),
    "triplet, swap": draw("triplet, swap", anchor=(4, 3), positive=(4, 3), negative=(4, 3)),
    "huber": draw("huber", prediction=(4, 3), target=(4, 3)),
    "ctc": draw("ctc", logits=(7, 3, 4)),
    "ctc, lengths": draw("ctc, lengths", logits=(7, 3, 4)),
    "ctc, too short": draw("ctc, too short", logits=(3, 3, 4)),
}  # fmt: skip
