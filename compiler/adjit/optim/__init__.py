"""Optimisers and schedules: plain NumPy on one parameter array at a time, traced into the training step.

`sgd`, `adam`, `adamw`, `rmsprop` and `adagrad` take a learning rate: a number, or what `adjit.optim.schedule` makes
(`constant`, `step`, `exponential`, `cosine`, `warm_up`), whose value at a step is `rate(state.step)`.

    >>> from adjit.optim import adam, schedule
    >>> rate = schedule.warm_up(schedule.cosine(1e-3, steps=1000), steps=100)
    >>> optimizer = adam(rate)
    >>> rate(500)
    0.0005

An `Optimizer` is data: hyper-parameters, `init`, which makes what is kept for a parameter, and `update`, which gives
the new parameter. Your own takes ten lines:

    >>> import numpy as np
    >>> from adjit.optim import Optimizer
    >>> def lion(learning_rate, b1=0.9, b2=0.99):
    ...     def update(g, kept, p, h, t):
    ...         direction = np.sign(h["b1"] * kept["m"] + (1 - h["b1"]) * g)
    ...         m = h["b2"] * kept["m"] + (1 - h["b2"]) * g
    ...         return p - h["learning_rate"] * direction, {"m": m}
    ...     hyper = {"learning_rate": learning_rate, "b1": b1, "b2": b2}
    ...     return Optimizer("lion", hyper, lambda p: {"m": np.zeros_like(p)}, update)
"""

from adjit.optim import schedule
from adjit.optim.optimizer import Optimizer
from adjit.optim.optimizers import adagrad, adam, adamw, rmsprop, sgd
from adjit.optim.schedule import Schedule

__all__ = ["Optimizer", "Schedule", "adagrad", "adam", "adamw", "rmsprop", "schedule", "sgd"]
