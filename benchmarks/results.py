"""What was measured, as data, and what follows from it: agreement, the best peer, the share of the limit."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.goals import judged
from benchmarks.sides import LOOPS

LATER = 10.0
"""Losses after some 25 steps may differ by this times the tolerance: rounding grows along the way."""


IMPOSSIBLE = 1.08
"""A rate this far above a limit is a mistake in the harness; the rest is the clock's drift between measurements."""


@dataclass(frozen=True)
class Limits:
    """Flops and bytes a second of so many threads. Bandwidths belong to `working_set` bytes."""

    threads: int
    flops_f32: float
    flops_f64: float
    working_set: float
    read: float
    triad: float

    @property
    def bandwidth(self) -> float:
        """The better of the two."""
        return max(self.read, self.triad)

    def rate(self, flops: float, nbytes: float, double: bool) -> float | None:
        """Steps a second that arithmetic and memory allow; None where nothing is known of a step."""
        seconds = max(flops / (self.flops_f64 if double else self.flops_f32), nbytes / self.bandwidth)
        return 1 / seconds if seconds else None


def better(one: Limits, other: Limits) -> Limits:
    """The higher of each figure of two measurements."""
    return Limits(
        one.threads,
        max(one.flops_f32, other.flops_f32),
        max(one.flops_f64, other.flops_f64),
        one.working_set,
        max(one.read, other.read),
        max(one.triad, other.triad),
    )


@dataclass(frozen=True)
class Rates:
    """Steps a second, one figure for each block."""

    blocks: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.blocks)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, relative to the median."""
        if len(self.blocks) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.blocks, n=4, method="inclusive")
        return (high - low) / 2 / self.median


@dataclass
class Measured:
    """One side on one workload. `values` are losses of five steps (value, norms and projections of the gradients
    where nothing is trained), `cached_values` the same by code from the cache, `loop_value` the loss of a short loop
    after 20 steps.

    Seconds of the import and of the first step, without and with what a process before left in the cache, by the clock
    and of the CPU; bytes by which the peak of the memory grew, from the arrays to step 20 and from step 1 on, and of
    the arena; seconds in which Python counts to ten million in that process; nodes of the graph as it was traced and
    with gradients. `slow` are the CPU seconds after which nobody waited for a first step any longer."""

    values: list[float] = field(default_factory=list)
    loop_value: float | None = None
    cached_values: list[float] | None = None
    step: Rates | None = None
    loop: Rates | None = None
    imported: float = 0.0
    imported_cpu: float = 0.0
    cold: float = 0.0
    cold_cpu: float = 0.0
    warm: float = 0.0
    warm_cpu: float = 0.0
    slow: float = 0.0
    memory: int = 0
    memory_after_first: int = 0
    arena: int = 0
    counting: float = 0.0
    nodes: tuple[int, int] = (0, 0)
    failure: str = ""

    @property
    def none(self) -> bool:
        """Whether there is nothing to compare."""
        return bool(self.failure or self.slow)


@dataclass
class Row:
    """One workload with so many threads: what each side reached, adjit among them, and the limits beside it; of a kind
    of call also the rate of `np.add` on two arrays of 8 numbers in the same blocks, the unit of what calls cost; of
    rows with a unit of their own (`goals.UNITS`) that."""

    workload: str
    threads: int
    tolerance: float
    flops: float
    nbytes: float
    double: bool
    sides: dict[str, Measured]
    limits: Limits | None = None
    unit: Measured | None = None

    @property
    def limit(self) -> float | None:
        """Steps a second that the machine allows, if known."""
        return self.limits.rate(self.flops, self.nbytes, self.double) if self.limits else None

    def disagreeing(self) -> list[str]:
        """Sides whose numbers are not those of adjit."""
        ours = self.sides.get("adjit")
        if ours is None or ours.none:
            return []
        return [name for name, side in self.sides.items() if not side.none and not self._agree(ours, side)]

    def _agree(self, ours: Measured, other: Measured) -> bool:
        if not same(ours.values, other.values, self.tolerance):
            return False
        if other.cached_values is not None and not same(ours.values, other.cached_values, self.tolerance):
            return False
        if ours.loop_value is None or other.loop_value is None:
            return True
        return same([ours.loop_value], [other.loop_value], LATER * self.tolerance)

    def impossible(self) -> list[str]:
        """Rates above what the machine can do: mistakes in the harness."""
        limit = self.limit
        if limit is None:
            return []
        return [
            f"{name} {kind}: {rates.median:,.0f} a second, the limit is {limit:,.0f}"
            for name, side in self.sides.items()
            for kind, rates in (("step", side.step), ("loop", side.loop))
            if rates is not None and rates.median > IMPOSSIBLE * limit
        ]

    def rates(self, kind: str) -> dict[str, Rates]:
        """Rates by side: of "step" or of "loop"."""
        found = {name: getattr(side, kind) for name, side in self.sides.items()}
        return {name: rates for name, rates in found.items() if rates is not None}

    def best_peer(self, kind: str) -> str | None:
        """The fastest peer; of a loop, the fastest compiled one.

        Numba by hand is the floor of native loops: where it has a loop, it is a peer of the loop alone."""
        rates = self.rates(kind)
        numba = self.sides.get("numba")
        floor = {"numba"} if numba is not None and numba.loop is not None else set()
        peers = [name for name in rates if name != "adjit" and (name in LOOPS if kind == "loop" else name not in floor)]
        return max(peers, key=lambda name: rates[name].median, default=None)

    def ratio(self, kind: str) -> float | None:
        """adjit's rate over the best peer's."""
        rates, best = self.rates(kind), self.best_peer(kind)
        if best is None or "adjit" not in rates:
            return None
        return _paired(rates["adjit"], rates[best])

    def over(self, peer: str, kind: str) -> float | None:
        """adjit's rate over that of one peer."""
        rates = self.rates(kind)
        return _paired(rates["adjit"], rates[peer]) if peer in rates and "adjit" in rates else None

    def in_units(self, name: str) -> float | None:
        """What a call of a side costs, in the unit; None where either is not known."""
        rates = self.rates("step")
        return _paired(self.unit.step, rates[name]) if self.unit and self.unit.step and name in rates else None


def _paired(one: Rates, other: Rates) -> float:
    """The ratio of two rates: the median over pairs of neighbouring blocks."""
    return statistics.median(a / b for a, b in zip(one.blocks, other.blocks, strict=True))


@dataclass
class Report:
    """A whole run, or one of a part that has a document of its own."""

    rows: list[Row]
    micro: dict[str, list[dict[str, Any]]]
    versions: dict[str, str]
    left_out: list[str]
    machine: str
    date: str
    quick: bool = False
    blocks: int = 7
    part: str = ""
    cpu: str = ""

    def faults(self) -> list[str]:
        """What makes the run fail: disagreement, impossible rates, missed limits, a failure of adjit itself."""
        found = []
        for row in self.rows:
            place = f"{row.workload}, {row.threads} thread{'s' * (row.threads > 1)}"
            found += [f"{place}: {name} DISAGREES" for name in row.disagreeing()]
            found += [f"{place}: impossible rate: {text}" for text in row.impossible()]
            found += [f"{place}: {one.limit}: {one.measured}" for one in judged(row) if not one.met]
            ours = row.sides.get("adjit")
            if ours and ours.none:
                found.append(f"{place}: adjit failed: {ours.failure or 'too slow'}")
        return found


def same(one: list[float], other: list[float], tolerance: float) -> bool:
    """Whether numbers agree, relative to the first; NaN agrees with nothing."""
    return len(one) == len(other) and all(
        math.isfinite(b) and abs(a - b) <= tolerance * abs(a) for a, b in zip(one, other, strict=True)
    )
