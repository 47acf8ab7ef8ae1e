"""Optimisers and schedules: plain NumPy on one parameter array at a time, traced into the training step.

`sgd`, `adam`, `adamw`, `adamax`, `nadam`, `radam`, `lamb`, `lion`, `rmsprop`, `adagrad`, `adadelta`, `rprop`, `muon`
and `adafactor` take a learning rate: a number, or what `adjit.optim.schedule` makes (`constant`, `step`, `exponential`,
`cosine`, `polynomial`, `one_cycle`, `restarts`, `piecewise`, `plateau`, `warm_up`), whose value at a step is
`rate(state.step)`. `groups` gives parameters of some names settings of their own, `ema` keeps an average of the
parameters, which `averaged` reads, `accumulate` moves them every so many steps.

    >>> from adjit.optim import adam, schedule
    >>> rate = schedule.warm_up(schedule.cosine(1e-3, steps=1000), steps=100)
    >>> optimizer = adam(rate)
    >>> rate(500)
    0.0005

An `Optimizer` is data: hyper-parameters, `init`, which makes what is kept for a parameter, and `update`, which gives
the new parameter. Your own takes ten lines:

    >>> import numpy as np
    >>> from adjit.optim import Optimizer
    >>> def signs(learning_rate, decay=0.9):
    ...     def update(g, kept, p, h, t):
    ...         m = h["decay"] * kept["m"] + (1 - h["decay"]) * g
    ...         return p - h["learning_rate"] * np.sign(m), {"m": m}
    ...     hyper = {"learning_rate": learning_rate, "decay": decay}
    ...     return Optimizer("signs", hyper, lambda p: {"m": np.zeros_like(p)}, update)
"""

from adjit.optim import schedule
from adjit.optim.adams import adam, adamax, adamw, lamb, nadam, radam
from adjit.optim.compose import accumulate, averaged, ema, groups
from adjit.optim.descent import adadelta, adagrad, lion, rmsprop, rprop, sgd
from adjit.optim.matrices import adafactor, muon
from adjit.optim.optimizer import Optimizer
from adjit.optim.schedule import Schedule

__all__ = [
    "Optimizer",
    "Schedule",
    "accumulate",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "averaged",
    "ema",
    "groups",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "schedule",
    "sgd",
]
