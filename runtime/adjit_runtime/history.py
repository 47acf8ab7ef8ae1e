"""History: what a run gave, and how it is shown in terminals and notebooks."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

_CURVE_POINTS, _CURVE_WIDTH, _CURVE_HEIGHT = 200, 400, 100
"""Of the picture of a history, in points of a screen."""


@dataclass(frozen=True)
class History:
    """What a run gave: `losses`, one float for each step, and `aux`, each result stacked, or None."""

    losses: np.ndarray
    aux: Any = None

    def __len__(self) -> int:
        return len(self.losses)

    def __repr__(self) -> str:
        aux = "" if self.aux is None else ", with aux"
        if not len(self.losses):
            return f"<history of no steps{aux}>"
        # NaN where there is no lowest loss.
        lowest = "nan" if np.all(np.isnan(self.losses)) else f"{np.nanmin(self.losses):.6g} at {self._lowest()}"
        steps = f"{len(self.losses)} step{'' if len(self.losses) == 1 else 's'}"
        first, last = self.losses[0], self.losses[-1]
        return f"<history of {steps}: loss {first:.6g} first, {last:.6g} last, lowest {lowest}{aux}>"

    def _lowest(self) -> int:
        return int(np.nanargmin(self.losses))

    def _repr_html_(self) -> str:
        """The losses as a curve, for a notebook."""
        text = f"<p>{html.escape(repr(self))}</p>"
        finite = np.flatnonzero(np.isfinite(self.losses))
        if len(finite) < 2:
            return text
        # Means of parts: as many points as can be seen.
        parts = np.array_split(finite, min(len(finite), _CURVE_POINTS))
        heights = np.array([self.losses[part].mean() for part in parts])
        low, high = heights.min(), heights.max()
        ups = (high - heights) / (high - low or 1.0) * _CURVE_HEIGHT
        across = np.linspace(0, _CURVE_WIDTH, len(heights))
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, ups, strict=True))
        curve = f'<polyline points="{points}" fill="none" stroke="currentColor"/>'
        size = f'width="{_CURVE_WIDTH}" height="{_CURVE_HEIGHT}"'
        return f'{text}<svg {size} xmlns="http://www.w3.org/2000/svg">{curve}</svg>'
