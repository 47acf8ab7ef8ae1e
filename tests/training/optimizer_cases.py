"""Optimisers and schedules that are compared with their peers, step by step: what both sides of a comparison share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import adjit
from adjit import optim
from adjit.ir.evaluate import evaluate_all
from adjit.optim import schedule

STEPS = 12
SHAPES: dict[str, tuple[int, ...]] = {
    "number": (), "one": (1,), "row": (5,), "wide": (3, 5), "tall": (4, 1), "kernel": (2, 1, 3, 1),
}  # fmt: skip
PULL = 0.2
"""The gradient of a parameter p at a step is that step's slope + PULL p."""


def parameters() -> dict[str, np.ndarray]:
    return {name: _waves(shape, 0.4 + i, 1.3) for i, (name, shape) in enumerate(SHAPES.items())}


def slopes() -> list[dict[str, np.ndarray]]:
    """The slopes of each step: of either sign, and some that keep theirs."""
    return [
        {name: _waves(shape, 2.0 + i + 0.9 * k, 0.7) + 0.2 for i, (name, shape) in enumerate(SHAPES.items())}
        for k in range(STEPS)
    ]


def _waves(shape: tuple[int, ...], phase: float, scale: float) -> np.ndarray:
    count = np.arange(int(np.prod(shape)), dtype=np.float64)
    return scale * np.sin(phase + 1.7 * count).reshape(shape)


def joined(path: dict[str, np.ndarray]) -> np.ndarray:
    """The parameters after each step as a row of numbers for each."""
    return np.concatenate([path[name].reshape(STEPS, -1) for name in SHAPES], axis=1)


def loss(params: Any, slope: Any) -> Any:
    return sum(np.sum(p * slope[name]) + 0.5 * PULL * np.sum(p * p) for name, p in params.items())


def agrees_with_its_graph(step: adjit.TrainingStep, state: adjit.State, slope: Any) -> None:
    """A step in machine code makes of the state what the interpreter makes of the step's graph."""
    graph = step.ir("step", state, slope)
    leaves = dict(zip(state.layout.names, state.leaves(), strict=True))
    wanted = evaluate_all(graph, *leaves.values(), *(slope[name] for name in sorted(slope)))
    np.testing.assert_allclose(step(state, slope), wanted.outputs[0], rtol=1e-12)
    found = dict(zip(state.layout.names, state.leaves(), strict=True))
    assert "params.kernel" in wanted.updates
    for name, array in found.items():
        # Sums and products in another order.
        np.testing.assert_allclose(array, wanted.updates.get(name, leaves[name]), rtol=1e-10, atol=1e-12, err_msg=name)


FALLBACK = optim.adamw(0.02, weight_decay=0.1)

OPTIMIZERS: dict[str, Callable[[], optim.Optimizer]] = {
    "sgd": lambda: optim.sgd(0.1),
    "sgd_coupled": lambda: optim.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "sgd_dampened": lambda: optim.sgd(0.1, momentum=0.9, dampening=0.3),
    "adam": lambda: optim.adam(0.05, b1=0.8, b2=0.95),
    "adam_coupled": lambda: optim.adam(0.05, weight_decay=0.1),
    "adam_amsgrad": lambda: optim.adam(0.05, b2=0.8, amsgrad=True),
    "adam_nesterov": lambda: optim.adam(0.05, nesterov=True),
    "adamw": lambda: optim.adamw(0.05, weight_decay=0.1),
    "adamw_amsgrad": lambda: optim.adamw(0.05, b2=0.8, weight_decay=0.1, amsgrad=True),
    "adamw_nesterov": lambda: optim.adamw(0.05, weight_decay=0.1, nesterov=True),
    "adamax": lambda: optim.adamax(0.05),
    "adamax_coupled": lambda: optim.adamax(0.05, b2=0.9, weight_decay=0.1),
    "nadam": lambda: optim.nadam(0.05),
    "nadam_coupled": lambda: optim.nadam(0.05, momentum_decay=0.05, weight_decay=0.1),
    "radam": lambda: optim.radam(0.05),
    "radam_coupled": lambda: optim.radam(0.05, b2=0.9, weight_decay=0.1),
    "lamb": lambda: optim.lamb(0.05),
    "lamb_decayed": lambda: optim.lamb(0.05, weight_decay=0.1),
    "lion": lambda: optim.lion(0.05),
    "lion_decayed": lambda: optim.lion(0.05, b1=0.95, b2=0.98, weight_decay=0.1),
    "rmsprop": lambda: optim.rmsprop(0.05, momentum=0.5, weight_decay=0.1),
    "adagrad": lambda: optim.adagrad(0.05, weight_decay=0.1),
    "adadelta": lambda: optim.adadelta(),
    "adadelta_coupled": lambda: optim.adadelta(0.5, decay=0.8, eps=1e-4, weight_decay=0.1),
    "rprop": lambda: optim.rprop(0.05, largest=0.08),
    "muon": lambda: optim.muon(0.02, fallback=FALLBACK),
    "muon_plain": lambda: optim.muon(
        0.02, momentum=0.8, nesterov=False, weight_decay=None, scale="match_rms_adamw", fallback=FALLBACK
    ),
    "adafactor": lambda: optim.adafactor(),
    "adafactor_decayed": lambda: optim.adafactor(
        0.05, decay_power=0.6, eps=1e-3, least_scale=0.1, clip=1.2, weight_decay=0.1
    ),
}

COUNTS = range(26)

SCHEDULES: dict[str, Callable[[], schedule.Schedule]] = {
    "polynomial": lambda: schedule.polynomial(0.5, steps=20, power=2.0),
    "polynomial_end": lambda: schedule.polynomial(0.5, steps=15, power=0.5, end=0.1),
    "one_cycle": lambda: schedule.one_cycle(0.5, steps=26),
    "one_cycle_linear": lambda: schedule.one_cycle(
        0.5, steps=26, rise=0.4, start_divisor=10.0, end_divisor=100.0, anneal="linear"
    ),
    "one_cycle_three": lambda: schedule.one_cycle(0.5, steps=26, rise=0.25, three_phases=True),
    "restarts": lambda: schedule.restarts(0.5, steps=7, end=0.1),
    "restarts_stretched": lambda: schedule.restarts(0.5, steps=3, stretch=2.0),
    "piecewise": lambda: schedule.piecewise([0.5, 0.1, 0.02], [5, 12]),
    "piecewise_schedules": lambda: schedule.piecewise(
        [schedule.polynomial(0.5, steps=5), schedule.cosine(0.3, steps=10)], [5]
    ),
}

LOSSES = [5.0, 4.0, 4.2, 3.9999, 4.1, 3.0, 3.5, 3.4, 3.3, 3.2, 3.1, 3.05, 2.0, 2.5, 2.5, 2.4, 2.3, 2.2, 2.1, 2.05, 2.0,
          1.9, 2.0, 2.0, 2.0, 2.0]  # fmt: skip
PLATEAUS: dict[str, dict[str, float]] = {
    "plateau": {"factor": 0.5, "patience": 2},
    "plateau_cool": {"factor": 0.3, "patience": 1, "threshold": 0.05, "cooldown": 2, "end": 0.01},
}
