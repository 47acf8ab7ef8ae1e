"""History: what a run gave, and how it is shown in terminals and notebooks."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjit_runtime.norms import Norms

_CURVE_POINTS, _CURVE_WIDTH, _CURVE_HEIGHT, _MOST_CURVES = 200, 400, 100, 100
"""Of the picture of a history, in points of a screen, and how many models it shows."""


@dataclass(frozen=True)
class History:
    """What a run gave: `losses`, one float for each step, `aux`, each result stacked, and `norms` where the step has
    `watch`; or None.

    Of many models there is a loss of each at each step: `losses[step, model]`."""

    losses: np.ndarray
    aux: Any = None
    norms: Norms | None = None

    def __len__(self) -> int:
        return len(self.losses)

    def __repr__(self) -> str:
        aux = "" if self.aux is None else ", with aux"
        aux += "" if self.norms is None else ", with norms"
        models = self.losses.shape[1:]
        of = f" of {' x '.join(map(str, models))} models" if models else ""
        if not len(self.losses):
            return f"<history of no steps{of}{aux}>"
        steps = f"{len(self.losses)} step{'' if len(self.losses) == 1 else 's'}{of}"
        first, last = (f"{_span(losses)}" for losses in (self.losses[0], self.losses[-1]))
        return f"<history of {steps}: loss {first} first, {last} last, lowest {self._lowest()}{aux}>"

    def _lowest(self) -> str:
        """The lowest loss, and where it is; NaN where there is none."""
        if np.all(np.isnan(self.losses)):
            return "nan"
        step, *model = np.unravel_index(int(np.nanargmin(self.losses)), self.losses.shape)
        of = f" of model {', '.join(map(str, model))}" if model else ""
        return f"{np.nanmin(self.losses):.6g} at {step}{of}"

    def _repr_html_(self) -> str:
        """The losses as curves, one for each model, for a notebook."""
        text = f"<p>{html.escape(repr(self))}</p>"
        each = self.losses.reshape(len(self.losses), -1).T[:_MOST_CURVES]
        curves = [_curve(losses) for losses in each if np.isfinite(losses).sum() > 1]
        if not curves:
            return text
        low, high = min(np.min(ups) for _, ups in curves), max(np.max(ups) for _, ups in curves)
        lines = []
        for across, heights in curves:
            ups = (high - heights) / (high - low or 1.0) * _CURVE_HEIGHT
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, ups, strict=True))
            lines.append(f'<polyline points="{points}" fill="none" stroke="currentColor"/>')
        size = f'width="{_CURVE_WIDTH}" height="{_CURVE_HEIGHT}"'
        return f'{text}<svg {size} xmlns="http://www.w3.org/2000/svg">{"".join(lines)}</svg>'


def _span(losses: np.ndarray) -> str:
    """The loss of a step; of many models the lowest and the highest."""
    if not losses.ndim:
        return f"{losses:.6g}"
    numbers = losses[~np.isnan(losses)]
    return f"{np.min(numbers):.6g} to {np.max(numbers):.6g}" if len(numbers) else "nan"


def _curve(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the losses of one model: where points of its curve are, and how high, as means of parts: as many points as can
    be seen."""
    finite = np.flatnonzero(np.isfinite(losses))
    parts = np.array_split(finite, min(len(finite), _CURVE_POINTS))
    heights = np.array([losses[part].mean() for part in parts])
    return np.linspace(0, _CURVE_WIDTH, len(heights)), heights
