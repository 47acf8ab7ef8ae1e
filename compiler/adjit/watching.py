"""What a training step watches: norms of gradients, weights and updates, in the pass that makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adjit.touched import Rows
from adjit_runtime import checks
from adjit_runtime.norms import KINDS, Norms
from adjit_runtime.state import Layout

Watch = bool | str | Iterable[str] | None


def watched(watch: Watch) -> tuple[str, ...]:
    """The kinds that a user asked for, in their order. ArgumentError for others."""
    if watch is None or isinstance(watch, bool):
        return KINDS if watch else ()
    if isinstance(watch, str) and watch == "norms":
        return KINDS
    given = checks.several("training_step: watch", watch, str)
    for kind in given:
        checks.choice('training_step: watch is True, "norms", or some of these: it', kind, KINDS)
    return tuple(kind for kind in KINDS if kind in given)


def named(kinds: Sequence[str], layout: Layout, arrays: Iterable[Any]) -> Norms:
    """Arrays of norms, one for each kind, with the names of the parameters."""
    names = [name.removeprefix("params.") for name in layout.names[layout.parts["params"]]]
    return Norms(names, dict(zip(kinds, arrays, strict=True)))


def norms(
    kinds: Sequence[str],
    old: Sequence[Any],
    gradients: Sequence[Any],
    new: Sequence[Any],
    tables: Mapping[int, Rows],
) -> list[Any]:
    """For each kind an array with the norms of all parameters; of tables, which are those numbered so, gradients and
    updates are 0 but in some rows."""

    def changed(i: int) -> Any:
        return tables[i].change(old[i], new[i]) if i in tables else new[i] - old[i]

    watched: dict[str, Iterable[Any]] = {"gradients": gradients, "weights": old}
    if "updates" in kinds:
        watched["updates"] = [changed(i) for i in range(len(old))]
    return [_stacked([_norm(x) for x in watched[kind]]) for kind in kinds]


def _norm(x: Any) -> Any:
    wide = x.astype(np.float64)
    return np.sqrt(np.sum(wide * wide))


def _stacked(values: list[Any]) -> Any:
    return np.stack(values) if values else np.zeros(0)
