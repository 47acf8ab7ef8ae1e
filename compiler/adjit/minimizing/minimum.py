"""Minimum: what `minimize` found, and why it stopped there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GOING_ON, GRADIENT, VALUE, STEPS, STUCK, NOT_FINITE = range(6)
"""Why a minimisation ended."""

_WHY = {
    GRADIENT: "no element of the gradient is larger than tol",
    VALUE: "the value changed by no more than value_tol",
    STEPS: "max_steps were made",
    STUCK: "no lower value was found along the direction of steepest descent",
    NOT_FINITE: "the value or the gradient at x0 is not finite",
}


@dataclass(frozen=True)
class Minimum:
    """What `adjit.minimize` gives.

    `x`            where the least value was found, a pytree like x0
    `value`        that value
    `gradient`     the largest element of the gradient there, without its sign
    `steps`        how many steps were made
    `evaluations`  how often value and gradient were computed
    `status`       the number of the reason for which it ended; `why` says it, `converged` whether a tolerance was met
    """

    x: Any
    value: Any
    gradient: Any
    steps: Any
    evaluations: Any
    status: Any

    @property
    def converged(self) -> Any:
        """Whether the gradient, or the change of the value, came within its tolerance."""
        return (self.status == GRADIENT) | (self.status == VALUE)

    @property
    def why(self) -> str:
        """Why it ended, in words."""
        return _WHY[int(self.status)]
