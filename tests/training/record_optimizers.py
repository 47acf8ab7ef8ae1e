"""Records what PyTorch and Optax make of the cases of `optimizer_cases`: parameters after each step, and rates.

Run from the root with an interpreter that has torch and optax, after a case is added or changed:

    python -m tests.training.record_optimizers
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
from torch.optim import lr_scheduler

from tests.training.optimizer_cases import COUNTS, LOSSES, PLATEAUS, PULL, joined, parameters, slopes

FIXTURES = Path(__file__).with_name("optimizers.npz")
jax.config.update("jax_enable_x64", True)
# Muon computes in bfloat16 there, which no one can compare with.
torch.Tensor.bfloat16 = torch.Tensor.clone  # type: ignore[method-assign]


def as_matrix(array: np.ndarray) -> np.ndarray:
    """A parameter as Muon of PyTorch sees it: a row for each output."""
    return array.T if array.ndim == 2 else array.reshape(array.shape[0], -1)


def in_torch(make: Callable[..., Any], matrices: Callable[..., Any] | None = None) -> dict[str, np.ndarray]:
    start = parameters()
    ours = {name: array.ndim >= 2 and matrices is not None for name, array in start.items()}
    leaves = {
        name: torch.tensor(as_matrix(array) if ours[name] else array, requires_grad=True)
        for name, array in start.items()
    }
    made = [make([leaf for name, leaf in leaves.items() if not ours[name]])]
    if matrices is not None:
        made.append(matrices([leaf for name, leaf in leaves.items() if ours[name]]))
    path: dict[str, list[np.ndarray]] = {name: [] for name in start}
    for slope in slopes():
        for name, leaf in leaves.items():
            given = torch.tensor(as_matrix(slope[name]) if ours[name] else slope[name])
            leaf.grad = given + PULL * leaf.detach()
        for optimizer in made:
            optimizer.step()
        for name, leaf in leaves.items():
            found = leaf.detach().numpy()
            back = found.T if ours[name] and start[name].ndim == 2 else found
            path[name].append(back.reshape(start[name].shape).copy())
    return {name: np.stack(each) for name, each in path.items()}


def in_optax(make: Any) -> dict[str, np.ndarray]:
    params: Any = parameters()
    state = make.init(params)
    path: dict[str, list[np.ndarray]] = {name: [] for name in params}
    for slope in slopes():
        gradients = {name: slope[name] + PULL * params[name] for name in params}
        changes, state = make.update(gradients, state, params)
        params = optax.apply_updates(params, changes)
        for name in params:
            path[name].append(np.asarray(params[name]))
    return {name: np.stack(each) for name, each in path.items()}


def muon(**named: Any) -> dict[str, np.ndarray]:
    return in_torch(
        lambda ps: torch.optim.AdamW(ps, 0.02, weight_decay=0.1), lambda ps: torch.optim.Muon(ps, 0.02, **named)
    )


T = torch.optim
THEIRS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "sgd": lambda: in_torch(lambda ps: T.SGD(ps, 0.1)),
    "sgd_coupled": lambda: in_torch(lambda ps: T.SGD(ps, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
    "sgd_dampened": lambda: in_torch(lambda ps: T.SGD(ps, 0.1, momentum=0.9, dampening=0.3)),
    "adam": lambda: in_torch(lambda ps: T.Adam(ps, 0.05, (0.8, 0.95))),
    "adam_coupled": lambda: in_torch(lambda ps: T.Adam(ps, 0.05, weight_decay=0.1)),
    "adam_amsgrad": lambda: in_torch(lambda ps: T.Adam(ps, 0.05, (0.9, 0.8), amsgrad=True)),
    "adam_nesterov": lambda: in_optax(optax.adam(0.05, nesterov=True)),
    "adamw": lambda: in_torch(lambda ps: T.AdamW(ps, 0.05, weight_decay=0.1)),
    "adamw_amsgrad": lambda: in_torch(lambda ps: T.AdamW(ps, 0.05, (0.9, 0.8), weight_decay=0.1, amsgrad=True)),
    "adamw_nesterov": lambda: in_optax(optax.adamw(0.05, weight_decay=0.1, nesterov=True)),
    "adamax": lambda: in_torch(lambda ps: T.Adamax(ps, 0.05)),
    "adamax_coupled": lambda: in_torch(lambda ps: T.Adamax(ps, 0.05, (0.9, 0.9), weight_decay=0.1)),
    "nadam": lambda: in_torch(lambda ps: T.NAdam(ps, 0.05)),
    "nadam_coupled": lambda: in_torch(lambda ps: T.NAdam(ps, 0.05, momentum_decay=0.05, weight_decay=0.1)),
    "radam": lambda: in_torch(lambda ps: T.RAdam(ps, 0.05)),
    "radam_coupled": lambda: in_torch(lambda ps: T.RAdam(ps, 0.05, (0.9, 0.9), weight_decay=0.1)),
    "lamb": lambda: in_optax(optax.lamb(0.05)),
    "lamb_decayed": lambda: in_optax(optax.lamb(0.05, weight_decay=0.1)),
    "lion": lambda: in_optax(optax.lion(0.05, weight_decay=0.0)),
    "lion_decayed": lambda: in_optax(optax.lion(0.05, b1=0.95, b2=0.98, weight_decay=0.1)),
    "rmsprop": lambda: in_torch(lambda ps: T.RMSprop(ps, 0.05, alpha=0.9, momentum=0.5, weight_decay=0.1)),
    "adagrad": lambda: in_torch(lambda ps: T.Adagrad(ps, 0.05, weight_decay=0.1)),
    "adadelta": lambda: in_torch(lambda ps: T.Adadelta(ps)),
    "adadelta_coupled": lambda: in_torch(lambda ps: T.Adadelta(ps, 0.5, rho=0.8, eps=1e-4, weight_decay=0.1)),
    "rprop": lambda: in_torch(lambda ps: T.Rprop(ps, 0.05, step_sizes=(1e-6, 0.08))),
    "muon": lambda: muon(),
    "muon_plain": lambda: muon(momentum=0.8, nesterov=False, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    "adafactor": lambda: in_torch(lambda ps: T.Adafactor(ps)),
    "adafactor_decayed": lambda: in_torch(
        lambda ps: T.Adafactor(ps, 0.05, beta2_decay=-0.6, eps=(1e-3, 0.1), d=1.2, weight_decay=0.1)
    ),
}


def rates(make: Callable[[Any], Any], losses: list[float] | None = None) -> np.ndarray:
    """The rate at each count; with losses, the rate that a step has after the losses of those before it."""
    optimizer = T.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    found, plan = [], make(optimizer)
    for count in COUNTS:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if count + 1 < len(COUNTS):
            plan.step(*(() if losses is None else (losses[count],)))
    return np.array(found)


def optax_rates(plan: Any) -> np.ndarray:
    return np.array([float(plan(count)) for count in COUNTS])


RATES: dict[str, Callable[[], np.ndarray]] = {
    "polynomial": lambda: rates(lambda o: lr_scheduler.PolynomialLR(o, 20, power=2.0)),
    "polynomial_end": lambda: optax_rates(optax.polynomial_schedule(0.5, 0.1, 0.5, 15)),
    "one_cycle": lambda: rates(lambda o: lr_scheduler.OneCycleLR(o, 0.5, 26)),
    "one_cycle_linear": lambda: rates(
        lambda o: lr_scheduler.OneCycleLR(
            o, 0.5, 26, pct_start=0.4, div_factor=10.0, final_div_factor=100.0, anneal_strategy="linear"
        )
    ),
    "one_cycle_three": lambda: rates(lambda o: lr_scheduler.OneCycleLR(o, 0.5, 26, pct_start=0.25, three_phase=True)),
    "restarts": lambda: rates(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7, eta_min=0.1)),
    "restarts_stretched": lambda: rates(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, T_mult=2)),
    "piecewise": lambda: rates(lambda o: lr_scheduler.MultiStepLR(o, [5, 12], gamma=0.2)),
    "piecewise_schedules": lambda: optax_rates(
        optax.join_schedules([optax.linear_schedule(0.5, 0.0, 5), optax.cosine_decay_schedule(0.3, 10)], [5])
    ),
}


def plateau(factor: float, patience: float, threshold: float = 1e-4, cooldown: float = 0, end: float = 0.0) -> Any:
    return lambda o: lr_scheduler.ReduceLROnPlateau(
        o, factor=factor, patience=int(patience), threshold=threshold, cooldown=int(cooldown), min_lr=end, eps=0.0
    )


def main() -> None:
    found = {name: joined(run()) for name, run in THEIRS.items()}
    found |= {name: run() for name, run in RATES.items()}
    found |= {name: rates(plateau(**named), LOSSES) for name, named in PLATEAUS.items()}
    np.savez_compressed(FIXTURES, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
