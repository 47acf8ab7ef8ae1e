"""What rows have to reach, on a machine such as that of docs/benchmarks.md: as data, and judged on what was measured.

A limit is a ratio to a peer, a time in units of something simpler that is measured in the same blocks (the function
that is differentiated, the same loop by hand), or the seconds of the first call. What a run did not measure, as a peer
is not installed, is not judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from benchmarks.results import Row

FIRST_SECONDS = 0.5
"""CPU seconds of the first call of a loop or of a transformation, all threads, with an empty cache."""
NETWORK_SECONDS = 1.0
"""Those of the first step of a network."""


class Unit(NamedTuple):
    """What a row is measured in: a side's workload, and what it is in words."""

    side: str
    workload: str
    meaning: str


@dataclass(frozen=True)
class Goals:
    """Rates of adjit over the best peer's at least, over those of some peers; microseconds of a step at most; units
    that a step takes at most; CPU seconds of the first call at most, and in first calls of the unit; growth of the
    memory at most, as a share of that of the peer with the least. None: no limit."""

    best: float | None = None
    over: Mapping[str, float] = field(default_factory=dict)
    microseconds: float | None = None
    units: float | None = None
    first: float | None = FIRST_SECONDS
    first_units: float | None = None
    memory: float | None = None


class Judged(NamedTuple):
    """A limit in words, what was measured, whether it is met."""

    limit: str
    measured: str
    met: bool


UNITS: dict[str, Unit] = {
    "carries": Unit("numba", "carries_value", "the value alone, by hand in Numba"),
    "hvp": Unit("adjit", "hvp_gradient", "the gradient"),
    "tridiagonal": Unit("adjit", "tridiagonal_value", "the function"),
    "hessian": Unit("adjit", "hessian_gradient", "the gradient"),
    "small_cholesky": Unit("numpy", "small_cholesky_value", "NumPy's value alone"),
    "small_solve": Unit("numpy", "small_solve_value", "NumPy's value alone"),
    "small_inv": Unit("numpy", "small_inv_value", "NumPy's value alone"),
    "small_slogdet": Unit("numpy", "small_slogdet_value", "NumPy's value alone"),
    "gaussian_process": Unit("adjit", "gaussian_process_calls", "its calls of LAPACK alone"),
}
"""Of rows in the main document. Calls have `np.add`."""

GOALS: dict[str, Goals] = {
    "carries": Goals(over={"jax": 20.0}, microseconds=1000.0, units=3.0),
    "epidemic": Goals(over={"jax": 20.0}),
    "kalman": Goals(best=1.0),
    "rnn_small": Goals(over={"jax": 5.0, "torch": 5.0}),
    "lstm": Goals(best=1.3),
    "lenet": Goals(best=2.5),
    "resnet8": Goals(best=1.4),
    "gpt_small": Goals(best=1.4, first=NETWORK_SECONDS, memory=0.5),
    "gpt_medium": Goals(best=1.2, first=NETWORK_SECONDS, memory=0.5),
    "attention": Goals(best=1.3, first=NETWORK_SECONDS, memory=0.25),
    "depthwise": Goals(best=1.5, first=NETWORK_SECONDS, memory=0.5),
    "embedding": Goals(best=1.0, first=NETWORK_SECONDS, memory=0.5),
    "sweep": Goals(over={"jax": 3.0}),
    "vmap_grad": Goals(best=1.0),
    "hvp": Goals(best=1.0, units=3.0),
    "tridiagonal": Goals(over={"jax": 1.0, "torch": 1.0}, units=5.0),
    "hessian": Goals(best=1.0, first_units=3.0),
    "small_cholesky": Goals(over={"jax": 5.0}, units=0.2, first=NETWORK_SECONDS),
    "small_solve": Goals(over={"jax": 5.0}, units=0.2, first=NETWORK_SECONDS),
    "small_inv": Goals(over={"jax": 5.0}, units=0.2, first=NETWORK_SECONDS),
    "small_slogdet": Goals(over={"jax": 5.0}, units=0.2, first=NETWORK_SECONDS),
    "gaussian_process": Goals(best=1.0, units=1.1, first=NETWORK_SECONDS),
    "sort": Goals(over={"numpy": 1.0}),
    "sort_rows": Goals(over={"numpy": 1.5}, first=NETWORK_SECONDS),
}


def judged(row: Row) -> list[Judged]:
    """Every limit of a row that was measured."""
    goals, ours = GOALS.get(row.workload), row.sides.get("adjit")
    if goals is None or ours is None or ours.none:
        return []
    return [*_ratios(row, goals), *_times(row, goals), *_memory(row, goals)]


def _ratios(row: Row, goals: Goals) -> Iterator[Judged]:
    for kind in ("step", "loop"):
        best, ratio = row.best_peer(kind), row.ratio(kind)
        words = " in a loop" if kind == "loop" else ""
        if goals.best is not None and ratio is not None:
            yield Judged(
                f"at least {goals.best:g} x the best peer{words}", f"{ratio:.2f} x {best}", ratio >= goals.best
            )
        for peer, least in goals.over.items():
            over = row.over(peer, kind)
            if over is not None:
                yield Judged(f"at least {least:g} x {peer}{words}", f"{over:.2f}", over >= least)


def _times(row: Row, goals: Goals) -> Iterator[Judged]:
    ours, unit = row.sides["adjit"], UNITS.get(row.workload)
    if goals.microseconds is not None and ours.step is not None:
        spent = 1e6 / ours.step.median
        yield Judged(f"at most {goals.microseconds:,.0f} us", f"{spent:.1f} us", spent <= goals.microseconds)
    if goals.first is not None and ours.cold_cpu:
        yield Judged(
            f"first call at most {goals.first:g} s of the CPU", f"{ours.cold_cpu:.2f} s", ours.cold_cpu <= goals.first
        )
    if unit is None or row.unit is None or row.unit.none:
        return
    units = row.in_units("adjit")
    if goals.units is not None and units is not None:
        yield Judged(f"at most {goals.units:g} x {unit.meaning}", f"{units:.2f}", units <= goals.units)
    if goals.first_units is not None and row.unit.cold_cpu and ours.cold_cpu:
        first = ours.cold_cpu / row.unit.cold_cpu
        yield Judged(
            f"first call at most {goals.first_units:g} x that of {unit.meaning}",
            f"{first:.2f}",
            first <= goals.first_units,
        )


def _memory(row: Row, goals: Goals) -> Iterator[Judged]:
    ours = row.sides["adjit"].memory
    theirs = [side.memory for name, side in row.sides.items() if name != "adjit" and side.memory]
    if goals.memory is not None and ours and theirs:
        share = ours / min(theirs)
        yield Judged(
            f"memory grows by at most {goals.memory:g} x that of the peer with the least",
            f"{share:.2f}",
            share <= goals.memory,
        )
