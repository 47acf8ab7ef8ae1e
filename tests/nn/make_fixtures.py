"""Records what PyTorch gives for the cases of `torch_cases`: values, and gradients of their weighted sums.

Run from the root with an interpreter that has torch, after a case is added or changed:

    python -m tests.nn.make_fixtures
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

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

FIXTURES = Path(__file__).with_name("torch_fixtures.json")

Theirs = Callable[..., Any]


def batch_norm(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    mean, var = mean.detach().clone(), var.detach().clone()
    y = functional.batch_norm(x, mean, var, scale, bias, training=True, momentum=0.3)
    return y, mean, var


def spectral_norm(w: Any, u: Any) -> Any:
    # Their iteration starts at the vector of the columns, which ours calls u.
    norm = torch.nn.utils.parametrizations._SpectralNorm(w.detach(), n_power_iterations=2, dim=0)
    norm._v = functional.normalize(u.detach(), dim=0)
    return norm(w), norm._v


def cat(*parts: Any) -> Any:
    return torch.cat([part.T for part in parts])


def attention_weights(prefix: str, g: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{prefix}in_proj_weight": cat(g["wq"], g["wk"], g["wv"]),
        f"{prefix}in_proj_bias": torch.cat([g["bq"], g["bk"], g["bv"]]),
        f"{prefix}out_proj.weight": g["wo"].T,
        f"{prefix}out_proj.bias": g["bo"],
    }


def multi_head_attention(**g: Any) -> Any:
    module = torch.nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)
    y, _ = torch.func.functional_call(module, attention_weights("", g), (g["q"], g["k"], g["k"]))
    return y


def transformer_block(norm_first: bool, **g: Any) -> Any:
    module = torch.nn.TransformerEncoderLayer(
        4, 2, 7, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    params = {
        **attention_weights("self_attn.", g),
        **{f"norm{i}.weight": g[f"scale{i}"] for i in (1, 2)},
        **{f"norm{i}.bias": g[f"bias{i}"] for i in (1, 2)},
        "linear1.weight": g["up"].T, "linear1.bias": g["b_up"], "linear2.weight": g["down"].T,
        "linear2.bias": g["b_down"],
    }  # fmt: skip
    hidden = torch.triu(torch.full((3, 3), -torch.inf, dtype=torch.float64), 1)
    return torch.func.functional_call(module, params, (g["x"],), {"src_mask": hidden})


def recurrent(make: Any, lengths: Any = None, backward: bool = False, **options: Any) -> Callable[..., tuple[Any, ...]]:
    def run(x: Any, w: Any, b: Any, u: Any, c: Any, h: Any, cell: Any = None) -> tuple[Any, ...]:
        module = make(2, 3, bidirectional=backward, dtype=torch.float64, **options)
        names = {"weight_ih_l0": w.T, "bias_ih_l0": b, "weight_hh_l0": u.T, "bias_hh_l0": c}
        params = {**names, **({f"{name}_reverse": p for name, p in names.items()} if backward else {})}
        states = [torch.stack([state] * (1 + backward)) for state in (h, cell) if state is not None]
        start = states[0] if cell is None else tuple(states)
        packed = x
        if lengths is not None:
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        y, last = torch.func.functional_call(module, params, (packed, start))
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
        return (y[..., 3 * backward :], *(part[-1] for part in (last if isinstance(last, tuple) else (last,))))

    return run


def focal(logits: Any) -> Any:
    # As torchvision.ops.sigmoid_focal_loss has it.
    t = torch.tensor(np.arange(12).reshape(4, 3) % 2, dtype=torch.float64)
    p = torch.sigmoid(logits)
    right = p * t + (1 - p) * (1 - t)
    loss = functional.binary_cross_entropy_with_logits(logits, t, reduction="none") * (1 - right) ** 1.5
    return (0.3 * t + 0.7 * (1 - t)) * loss


def ctc(frames: Any = (7, 7, 7), sizes: Any = (3, 3, 3), **options: Any) -> Theirs:
    def run(logits: Any) -> Any:
        given = torch.log_softmax(logits, -1)
        lengths = torch.tensor(frames), torch.tensor(sizes)
        return functional.ctc_loss(given, torch.tensor(CTC_LABELS), *lengths, reduction="none", **options)

    return run


def attend(**options: Any) -> Theirs:
    return lambda q, k, v, bias=None: functional.scaled_dot_product_attention(
        q, k, v, **({"attn_mask": bias} if bias is not None else {}), **options
    )


def cross_entropy(**options: Any) -> Theirs:
    return lambda logits, class_weights: functional.cross_entropy(
        logits, torch.tensor(LABELS), class_weights.detach(), ignore_index=-1, **options
    )


THEIRS: dict[str, Theirs] = {
    "layer_norm": lambda x, scale, bias: functional.layer_norm(x, (4,), scale, bias),
    "layer_norm, two axes": lambda x, scale, bias: functional.layer_norm(x, (3, 4), scale, bias, 0.01),
    "rms_norm": lambda x, scale: functional.rms_norm(x, (4,), scale, 0.01),
    "group_norm": lambda x, scale, bias: functional.group_norm(x, 2, scale, bias),
    "instance_norm": lambda x, scale, bias: functional.instance_norm(x, weight=scale, bias=bias),
    "batch_norm": batch_norm,
    "batch_norm, resting": lambda x, scale, bias, mean, var: functional.batch_norm(
        x, mean.detach(), var.detach(), scale, bias
    ),
    "weight_norm": lambda v, g: torch._weight_norm(v, g[None], 1),
    "spectral_norm": spectral_norm,
    "attention": attend(scale=0.3),
    "attention, mask": attend(attn_mask=torch.tensor(MASK)),
    "attention, bias": attend(),
    "attention, causal": attend(is_causal=True),
    "attention, groups": attend(enable_gqa=True),
    "multi_head_attention": multi_head_attention,
    "transformer_block": lambda **g: transformer_block(True, **g),
    "transformer_block, norm behind": lambda **g: transformer_block(False, **g),
    "rnn": recurrent(torch.nn.RNN),
    "rnn, relu": recurrent(torch.nn.RNN, nonlinearity="relu"),
    "gru": recurrent(torch.nn.GRU),
    "gru, lengths": recurrent(torch.nn.GRU, LENGTHS),
    "gru, backward": recurrent(torch.nn.GRU, LENGTHS, backward=True),
    "lstm": recurrent(torch.nn.LSTM),
    "lstm, lengths": recurrent(torch.nn.LSTM, LENGTHS),
    "lstm, backward": recurrent(torch.nn.LSTM, backward=True),
    "cross_entropy, classes": cross_entropy(),
    "cross_entropy, all": cross_entropy(label_smoothing=0.2),
    "cross_entropy, each": cross_entropy(label_smoothing=0.2, reduction="none"),
    "cross_entropy, shares": lambda logits, class_weights, targets: functional.cross_entropy(
        logits, targets, class_weights, label_smoothing=0.2
    ),
    "binary_cross_entropy": lambda logits, targets, positive_weight: functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=positive_weight.detach()
    ),
    "focal": focal,
    "kl_divergence": lambda logits, targets: functional.kl_div(
        torch.log_softmax(logits, -1), targets, reduction="batchmean"
    ),
    "kl_divergence, log": lambda logits, targets: functional.kl_div(
        torch.log_softmax(logits, -1), torch.log_softmax(targets, -1), reduction="batchmean", log_target=True
    ),
    "cosine_loss": lambda a, b: functional.cosine_embedding_loss(
        a, b, torch.tensor(PAIRS), margin=-0.5, reduction="none"
    ),
    "cosine_similarity": lambda a, b: functional.cosine_similarity(a, b, dim=-2),
    "triplet": lambda anchor, positive, negative: functional.triplet_margin_loss(
        anchor, positive, negative, margin=1.5, eps=0, reduction="none"
    ),
    "triplet, swap": lambda anchor, positive, negative: functional.triplet_margin_loss(
        anchor, positive, negative, margin=1.5, eps=0, swap=True
    ),
    "huber": lambda prediction, target: functional.huber_loss(prediction, target, delta=0.7),
    "ctc": ctc(),
    "ctc, lengths": ctc(CTC_FRAMES, CTC_SIZES, blank=0),
    "ctc, too short": ctc((3, 3, 3), zero_infinity=True),
}


def record(name: str) -> dict[str, Any]:
    """Outputs of a case, and the gradient of each input; null where it has none."""
    inputs = {key: torch.tensor(x, requires_grad=True) for key, x in CASES[name].items()}
    found = THEIRS[name](**inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    plain = [y.detach().numpy() for y in outputs]
    weighted = zip(outputs, weights_of(name, plain), strict=True)
    total = sum(torch.sum(y * torch.tensor(w)) for y, w in weighted)
    gradients = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    return {
        "outputs": [rounded(y.tolist()) for y in plain],
        "gradients": {
            key: None if g is None else rounded(g.tolist()) for key, g in zip(inputs, gradients, strict=True)
        },
    }


def rounded(x: Any) -> Any:
    """Nested lists of numbers, each of 13 digits."""
    return [rounded(y) for y in x] if isinstance(x, list) else float(f"{x:.13g}")


def main() -> None:
    """Write the fixtures, one case a line."""
    torch.manual_seed(0)
    rows = [f"{json.dumps(name)}: {json.dumps(record(name))}" for name in CASES]
    FIXTURES.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
