"""The environment variables of adjit, checked where they are read.

An empty one counts as one that is not set. What a variable cannot mean raises ArgumentError, at every use, with its
name, its value and what it may be: a wrong setting is never replaced by another one.
"""

from __future__ import annotations

import math
import os

from adjit_runtime.errors import ArgumentError

_ON = ("1", "on", "yes", "true")
_OFF = ("0", "off", "no", "false")
_SHOWN = 60
"""Characters of a value that an error shows."""


def value(name: str) -> str:
    """What a variable says, empty where it is not set."""
    return os.environ.get(name, "")


def refusal(name: str, wanted: str) -> ArgumentError:
    """The error of a variable whose value has no meaning."""
    given = value(name)
    shown = given if len(given) <= _SHOWN else given[: _SHOWN - 3] + "..."
    return ArgumentError(f"{name}={shown}: {wanted}")


def flag(name: str, default: bool) -> bool:
    """A switch; raises ArgumentError for what is neither on nor off."""
    given = value(name).lower()
    if not given:
        return default
    if given not in (*_ON, *_OFF):
        raise refusal(name, f"neither on ({', '.join(_ON)}) nor off ({', '.join(_OFF)})")
    return given in _ON


def number(name: str, default: float, wanted: str) -> float:
    """A number from 0 on, infinity too; raises ArgumentError, which says what is `wanted`, for anything else."""
    given = value(name)
    if not given:
        return default
    try:
        found = float(given)
    except ValueError:
        raise refusal(name, wanted) from None
    if math.isnan(found) or found < 0:
        raise refusal(name, wanted)
    return found
