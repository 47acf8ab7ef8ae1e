"""Write what torch gives for each case: `python -m tests.nn.record_convolutions`, where torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]

from tests.nn.convolution_cases import CASES, RECORDED, Case, arrays, cotangent

F = torch.nn.functional


def of_torch(case: Case, x: Any, w: Any) -> Any:
    """The case by torch's own functions; what they do not take is padded by hand."""
    rank, given = x.ndim - 2, dict(case.arguments)
    if case.function == "conv":
        padding = given.pop("padding", 0)
        if padding == "causal":
            x, padding = F.pad(x, ((w.shape[-1] - 1) * given["dilation"], 0)), 0
        elif isinstance(padding, tuple) and isinstance(padding[0], tuple):
            x, padding = F.pad(x, [n for pair in reversed(padding) for n in pair]), 0
        return getattr(F, f"conv{rank}d")(x, w, padding=padding, **given)
    if case.function == "conv_transpose":
        given["output_padding"] = given.pop("extra", 0)
        return getattr(F, f"conv_transpose{rank}d")(x, w, **given)
    size = given.pop("size")
    if case.function == "resize":
        method = given.pop("method", "bilinear")
        names = {"nearest": "nearest", "bilinear": {1: "linear", 2: "bilinear"}[rank]}
        return F.interpolate(x, size=size, mode=names[method])
    if case.function == "adaptive_avg_pool":
        return getattr(F, f"adaptive_avg_pool{rank}d")(x, size)
    if case.function == "avg_pool":
        given["count_include_pad"] = given.pop("count_padding", False)
    return getattr(F, f"{case.function}{rank}d")(x, size, **given)


def record() -> None:
    """Write all of them."""
    found = {}
    for name, case in CASES.items():
        x, w = arrays(name)
        leaves = [torch.tensor(x, requires_grad=True)]
        if w is not None:
            leaves.append(torch.tensor(np.moveaxis(w, (-1, -2), (0, 1)).copy(), requires_grad=True))
        y = of_torch(case, leaves[0], leaves[1] if w is not None else None)
        torch.sum(y * torch.tensor(cotangent(tuple(y.shape)))).backward()
        found[f"{name}/y"], found[f"{name}/dx"] = y.detach().numpy(), leaves[0].grad.numpy()
        if w is not None:
            found[f"{name}/dw"] = np.moveaxis(leaves[1].grad.numpy(), (0, 1), (-1, -2))
    np.savez_compressed(RECORDED, **found)


if __name__ == "__main__":
    record()
