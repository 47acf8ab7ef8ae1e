"""Norms: how long gradients, weights and updates of each parameter are, at a step or at each step of a run."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optree

from adjit_runtime.guests import NAMESPACE

KINDS = ("gradients", "weights", "updates")
"""What is watched, in the order of results."""


class Norms:
    """Of each parameter by its name the L2 norm of what a step with `watch` was told to watch.

    `gradients`   those of the loss, l1 and l2 included, before they are clipped
    `weights`     the parameters before the step
    `updates`     what the step adds to them, weight decay included

    Each is a dict from the names of parameters, as in "layers.0.w", to float64 numbers, of a run to arrays with one for
    each step, of many models to arrays with the models as their last axes; None for what is not watched. They are sums
    in float64, in which squares of float32 neither overflow nor vanish; a gradient that is not finite has no finite
    norm. All of them in one array, with the parameters along the last axis, are in `arrays`, by kind."""

    def __init__(self, names: Sequence[str], arrays: dict[str, Any]) -> None:
        self.names = tuple(names)
        self.arrays = arrays

    @property
    def gradients(self) -> dict[str, Any] | None:
        """Norms of gradients, before they are clipped."""
        return self._by_name("gradients")

    @property
    def weights(self) -> dict[str, Any] | None:
        """Norms of parameters, before the step."""
        return self._by_name("weights")

    @property
    def updates(self) -> dict[str, Any] | None:
        """Norms of what the step adds to parameters."""
        return self._by_name("updates")

    def _by_name(self, kind: str) -> dict[str, Any] | None:
        array = self.arrays.get(kind)
        return None if array is None else {name: array[..., i] for i, name in enumerate(self.names)}

    def __repr__(self) -> str:
        """A table; of a run, or of many models, with the lowest and the highest."""
        width = max([len("parameter"), *map(len, self.names)])
        return "\n".join(
            "  ".join([row[0].ljust(width), *(cell.rjust(20) for cell in row[1:])]) for row in self._rows()
        )

    def _repr_html_(self) -> str:
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows())
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def _rows(self) -> Iterable[list[str]]:
        yield ["parameter", *self.arrays]
        for i, name in enumerate(self.names):
            yield [name, *(_span(array[..., i]) for array in self.arrays.values())]


def _span(values: Any) -> str:
    """A number, or the lowest and the highest of several."""
    found = np.unique(values[~np.isnan(values)]) if np.ndim(values) else np.array([values])
    if not len(found):
        return "nan"
    return f"{found[0]:.4g}" + (f" to {found[-1]:.4g}" if len(found) > 1 else "")


def _flattened(norms: Any) -> Any:
    return tuple(norms.arrays.values()), (norms.names, tuple(norms.arrays)), tuple(norms.arrays)


def _rebuilt(metadata: Any, children: Iterable[Any]) -> Any:
    names, kinds = metadata
    return Norms(names, dict(zip(kinds, children, strict=True)))


# Typed as if all nodes were collections.
_CLASS: Any = Norms
optree.register_pytree_node(_CLASS, _flattened, _rebuilt, namespace=NAMESPACE)
