"""What losses share: operands of one shape, weights, reductions, and the names that other libraries have."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjit.nn.operands import like, operand, within
from adjit_runtime import checks
from adjit_runtime.errors import ShapeError

KNOWN = {
    "input": "the first argument is what the model gives",
    "y_pred": "the first argument is what the model gives",
    "y_true": "the second argument is what is right",
    "dim": "axis",
    "reduce": "reduction",
    "size_average": "reduction",
    "sample_weight": "weights",
    "weight": "weights are those of samples, class_weights (where there are any) those of classes",
    "pos_weight": "positive_weight",
    "ignore_index": "ignore",
    "smoothing": "label_smoothing",
    "log_target": "log_targets",
    "from_logits": "logits are what all of these take",
    "x1": "the first argument is what the model gives",
    "x2": "the second argument is what is right",
    "blank_id": "blank",
    "log_probs": "logits",
    "log_probabilities": "logits",
    "input_lengths": "logit_lengths",
    "target_lengths": "label_lengths",
    "logit_paddings": "logit_lengths",
    "label_paddings": "label_lengths",
}
"""Arguments that other libraries have, and what they are here."""


def pair(name: str, **operands: Any) -> list[Any]:
    """Operands of one shape: broadcasting (n, 1) against (n,) would give n * n errors, and no message."""
    found = {key: operand(f"{name}: {key}", x) for key, x in operands.items()}
    if len({np.shape(x) for x in found.values()}) > 1:
        shapes = ", ".join(f"{key} {np.shape(x)}" for key, x in found.items())
        raise ShapeError(f"{name}: predictions and targets differ in shape: {shapes}")
    return list(found.values())


def difference(name: str, prediction: Any, target: Any) -> Any:
    """prediction - target, which have one shape."""
    prediction, target = pair(name, prediction=prediction, target=target)
    return prediction - like(target, prediction)


def reduced(name: str, values: Any, reduction: str, weights: Any = None, shares: Any = None) -> Any:
    """Losses times their weights, by `reduction`. `shares` are what a mean counts each of them for besides, where that
    is not 1: class weights, which the losses have in them."""
    checks.choice(f"{name}: reduction", reduction, ("mean", "sum", "none"))
    if weights is not None:
        weights = like(within(f"{name}: weights", weights, np.shape(values), "the losses"), values)
        values = values * weights
        shares = weights if shares is None else weights * shares
    if reduction == "none":
        return values
    if reduction == "sum":
        return np.sum(values)
    if shares is None:
        return np.mean(values)
    total = np.sum(np.broadcast_to(shares, np.shape(values)))
    return np.sum(values) / np.where(total == 0, 1.0, total)
