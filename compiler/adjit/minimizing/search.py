"""How far to go along a direction: a step that meets the strong Wolfe conditions.

    f(a) <= f(0) + LOWER a f'(0)        |f'(a)| <= FLATTER |f'(0)|

Algorithms 3.5 and 3.6 of Nocedal and Wright, Numerical Optimization, 2006, as one loop with one evaluation a turn: the
interval from `low`, the best point so far, to `high` grows by cubic extrapolation until it has a minimum in it, and
shrinks by cubic interpolation. Where values differ by rounding alone the first condition is that of Hager and Zhang,
SIAM J. Optim. 16, 2005: f'(a) <= (2 LOWER - 1) f'(0). What is not finite counts as too high."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from adjit.control import while_loop

LOWER, FLATTER = 1e-4, 0.9
"""Of quasi-Newton methods: chapter 3.1 of the same book."""
_LONGEST, _SHORTEST, _MARGIN = 10.0, 1.01, 0.1
"""An interval grows to between 1.01 and 10 times its length; a trial within it keeps a tenth from its ends."""
_ROUNDING = 8
"""Units in the last place by which equal values may differ."""


class Point(NamedTuple):
    """A place along the direction, with the value there and its slope along it."""

    at: Any
    value: Any
    slope: Any


class Found(NamedTuple):
    """Where the search ended, the gradient there, and how often it was computed."""

    point: Point
    gradient: Any
    evaluations: Any


def search(
    evaluate: Callable[[Any], tuple[Any, Any]],
    x: Any,
    direction: Any,
    begin: Point,
    gradient: Any,
    trial: Any,
    once: Any,
    most: int,
) -> Found:
    """A step along `direction`, first of the length `trial`, from the point `begin`, which has the `gradient`. It is 0
    where none is found in `most` evaluations. `once` says that the first trial is taken, whatever it is."""

    def goes_on(now: Any) -> Any:
        return ~now["done"] & (now["count"] < most)

    def turn(now: Any) -> Any:
        value, slopes = evaluate(x + now["trial"].astype(x.dtype) * direction)
        slack = _ROUNDING * float(max(np.finfo(value.dtype).eps, np.finfo(x.dtype).eps)) * np.abs(begin.value)
        value = value.astype(np.float64)
        tried = Point(now["trial"], value, along(slopes, direction))
        low, high = Point(*now["low"]), Point(*now["high"])
        is_lower = (value <= begin.value + LOWER * tried.at * begin.slope) | (
            (np.abs(value - begin.value) <= slack) & (tried.slope <= (2 * LOWER - 1) * begin.slope)
        )
        is_finite = np.isfinite(value) & np.isfinite(tried.slope)
        too_high = ~(is_finite & is_lower & (value <= low.value + slack))
        done = once | (~too_high & (np.abs(tried.slope) <= -FLATTER * begin.slope))
        # The minimum is on the other side of the new point: between it and the one before.
        turned = ~too_high & (tried.slope * (high.at - low.at) >= 0)
        new_high = _chosen(too_high, tried, _chosen(turned, low, high))
        kept = too_high & ~once
        new_low = _chosen(kept, low, tried)
        bracketed = now["bracketed"] | too_high | turned
        return {
            "trial": np.where(bracketed, _within(new_low, new_high), _beyond(low, tried)),
            "low": tuple(new_low),
            "high": tuple(new_high),
            "gradient": np.where(kept, now["gradient"], slopes),
            "bracketed": bracketed,
            "done": done,
            "count": now["count"] + 1,
        }

    none = trial * 0.0
    last = while_loop(
        goes_on,
        turn,
        {
            "trial": trial,
            "low": tuple(begin),
            "high": (none + np.inf, none + np.inf, none),
            "gradient": gradient,
            "bracketed": np.bool_(False),
            "done": np.bool_(False),
            "count": np.int64(0),
        },
    )
    low = Point(*last["low"])
    is_better = last["done"] | (low.value < begin.value)
    return Found(_chosen(is_better, low, begin), np.where(is_better, last["gradient"], gradient), last["count"])


def along(gradient: Any, direction: Any) -> Any:
    """The slope along a direction, float64."""
    return np.sum(gradient * direction).astype(np.float64)


def _chosen(condition: Any, a: Point, b: Point) -> Point:
    return Point(*(np.where(condition, x, y) for x, y in zip(a, b, strict=True)))


def _within(low: Point, high: Point) -> Any:
    """A trial between two points: where their cubic is least, else the middle."""
    left, right = np.minimum(low.at, high.at), np.maximum(low.at, high.at)
    margin = _MARGIN * (right - left)
    least = _least(low, high)
    return np.where(np.isfinite(least), np.clip(least, left + margin, right - margin), 0.5 * (left + right))


def _beyond(low: Point, tried: Point) -> Any:
    """A trial beyond the last one, which follows `low`."""
    nearest, farthest = tried.at + (_SHORTEST - 1) * (tried.at - low.at), _LONGEST * tried.at
    least = _least(low, tried)
    return np.where(np.isfinite(least), np.clip(least, nearest, farthest), farthest)


def _least(a: Point, b: Point) -> Any:
    """Where the cubic with these values and slopes at two points has its minimum: NaN where it has none."""
    mean = a.slope + b.slope - 3 * (a.value - b.value) / (a.at - b.at)
    square = mean * mean - a.slope * b.slope
    root = np.sign(b.at - a.at) * np.sqrt(np.where(square >= 0, square, np.nan))
    return b.at - (b.at - a.at) * ((b.slope + root - mean) / (b.slope - a.slope + 2 * root))
