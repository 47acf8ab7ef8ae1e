"""Layers and losses against PyTorch's values and gradients, which `make_fixtures` recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjit import nn
from adjit.autodiff.reverse import gradient
from tests.both import run_both
from tests.nn.torch_cases import (
    CASES,
    CTC_FRAMES,
    CTC_LABELS,
    CTC_SIZES,
    LABELS,
    LENGTHS,
    MASK,
    PAIRS,
    weights_of,
)
from tests.trace.check import graph_of

RECORDED = json.loads(Path(__file__).with_name("torch_fixtures.json").read_text(encoding="utf-8"))


def batch_norm(training: bool) -> Callable[..., Any]:
    def run(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
        running = {"mean": mean, "var": var}
        y, running = nn.batch_norm(x, running, scale, bias, training=training, momentum=0.3)
        return (y, running["mean"], running["var"]) if training else y

    return run


def heads(g: dict[str, Any]) -> dict[str, Any]:
    names = {"query": "q", "key": "k", "value": "v", "out": "o"}
    return {name: {"w": g[f"w{i}"], "b": g[f"b{i}"]} for name, i in names.items()}


def transformer_block(norm_first: bool = True, **g: Any) -> Any:
    params = {
        "norm1": {"scale": g["scale1"], "bias": g["bias1"]}, "norm2": {"scale": g["scale2"], "bias": g["bias2"]},
        "attention": heads(g), "up": {"w": g["up"], "b": g["b_up"]}, "down": {"w": g["down"], "b": g["b_down"]},
    }  # fmt: skip
    return nn.transformer_block(params, g["x"], heads=2, causal=True, norm_first=norm_first)


def recurrent(layer: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    def run(x: Any, w: Any, b: Any, u: Any, c: Any, h: Any, cell: Any = None) -> Any:
        params = {"input": {"w": w, "b": b}, "hidden": {"w": u, "b": c}}
        y, last = layer(params, x, h if cell is None else (h, cell), **options)
        return (y, *(last if isinstance(last, tuple) else (last,)))

    return run


def cross_entropy(**options: Any) -> Callable[..., Any]:
    return lambda logits, class_weights: nn.cross_entropy(
        logits, LABELS, class_weights=class_weights, ignore=-1, **options
    )


def softmax_kl(logits: Any, targets: Any) -> Any:
    return nn.kl_divergence(nn.log_softmax(logits), targets)


def log_kl(logits: Any, targets: Any) -> Any:
    return nn.kl_divergence(nn.log_softmax(logits), nn.log_softmax(targets), log_targets=True)


OURS: dict[str, Callable[..., Any]] = {
    "layer_norm": nn.layer_norm,
    "layer_norm, two axes": lambda x, scale, bias: nn.layer_norm(x, scale, bias, axis=(-1, 1), eps=0.01),
    "rms_norm": lambda x, scale: nn.rms_norm(x, scale, eps=0.01),
    "group_norm": lambda x, scale, bias: nn.group_norm(x, 2, scale, bias),
    "instance_norm": nn.instance_norm,
    "batch_norm": batch_norm(True),
    "batch_norm, resting": batch_norm(False),
    "weight_norm": nn.weight_norm,
    "spectral_norm": lambda w, u: nn.spectral_norm(w, u, steps=2),
    "attention": lambda q, k, v: nn.attention(q, k, v, scale=0.3),
    "attention, mask": lambda q, k, v: nn.attention(q, k, v, MASK),
    "attention, bias": lambda q, k, v, bias: nn.attention(q, k, v, bias=bias),
    "attention, causal": lambda q, k, v: nn.attention(q, k, v, causal=True),
    "attention, groups": nn.attention,
    "multi_head_attention": lambda **g: nn.multi_head_attention(heads(g), g["q"], g["k"], heads=2),
    "transformer_block": transformer_block,
    "transformer_block, norm behind": lambda **g: transformer_block(False, **g),
    "rnn": recurrent(nn.rnn),
    "rnn, relu": recurrent(nn.rnn, activation=nn.relu),
    "gru": recurrent(nn.gru),
    "gru, lengths": recurrent(nn.gru, lengths=LENGTHS),
    "gru, backward": recurrent(nn.gru, lengths=LENGTHS, reverse=True),
    "lstm": recurrent(nn.lstm),
    "lstm, lengths": recurrent(nn.lstm, lengths=LENGTHS),
    "lstm, backward": recurrent(nn.lstm, reverse=True),
    "cross_entropy, classes": cross_entropy(),
    "cross_entropy, all": cross_entropy(label_smoothing=0.2),
    "cross_entropy, each": cross_entropy(label_smoothing=0.2, reduction="none"),
    "cross_entropy, shares": lambda logits, class_weights, targets: nn.cross_entropy(
        logits, targets, class_weights=class_weights, label_smoothing=0.2
    ),
    "binary_cross_entropy": lambda logits, targets, positive_weight: nn.binary_cross_entropy_with_logits(
        logits, targets, positive_weight=positive_weight
    ),
    "focal": lambda logits: nn.focal(logits, np.arange(12).reshape(4, 3) % 2, 1.5, 0.3, reduction="none"),
    "kl_divergence": softmax_kl,
    "kl_divergence, log": log_kl,
    "cosine_loss": lambda a, b: nn.cosine_loss(a, b, PAIRS, margin=-0.5, reduction="none"),
    "cosine_similarity": lambda a, b: nn.cosine_similarity(a, b, axis=-2),
    "triplet": lambda anchor, positive, negative: nn.triplet(anchor, positive, negative, 1.5, reduction="none"),
    "triplet, swap": lambda anchor, positive, negative: nn.triplet(anchor, positive, negative, 1.5, swap=True),
    "huber": lambda prediction, target: nn.huber(prediction, target, 0.7),
    "ctc": lambda logits: nn.ctc(logits, CTC_LABELS, reduction="none"),
    "ctc, lengths": lambda logits: nn.ctc(logits, CTC_LABELS, CTC_FRAMES, CTC_SIZES, reduction="none"),
    "ctc, too short": lambda logits: nn.ctc(logits, CTC_LABELS, zero_infinity=True, reduction="none"),
}


def test_every_case_is_recorded() -> None:
    assert set(OURS) == set(CASES) == set(RECORDED)


def outputs_of(name: str, inputs: dict[str, Any]) -> list[Any]:
    found = OURS[name](**inputs)
    return list(found) if isinstance(found, tuple) else [found]


def total_of(name: str, inputs: dict[str, Any], weights: list[np.ndarray]) -> Any:
    return sum(np.sum(y * w) for y, w in zip(outputs_of(name, inputs), weights, strict=True))


@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients(name: str) -> None:
    inputs, recorded = CASES[name], RECORDED[name]
    expected = [np.array(y) for y in recorded["outputs"]]
    for have, want in zip(outputs_of(name, inputs), expected, strict=True):
        assert (have.dtype, np.shape(have)) == (np.float64, want.shape)
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12)
    weights = weights_of(name, expected)
    keys = list(inputs)
    wanted = [key for key in keys if recorded["gradients"][key] is not None]
    graph = graph_of(lambda *leaves: total_of(name, dict(zip(keys, leaves, strict=True)), weights), *inputs.values())
    found = run_both(gradient(graph, [keys.index(key) for key in wanted]), *inputs.values(), terms=10.0)
    total = sum(np.sum(y * w) for y, w in zip(expected, weights, strict=True))
    np.testing.assert_allclose(found[0], total, rtol=1e-11, atol=1e-11)
    for key, have in zip(wanted, found[1:], strict=True):
        np.testing.assert_allclose(have, np.array(recorded["gradients"][key]), rtol=1e-10, atol=1e-11, err_msg=key)
