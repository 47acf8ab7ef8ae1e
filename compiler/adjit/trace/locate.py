"""Where the user's code is: the first frame outside adjit, NumPy, SciPy and optree, with the columns of its expression.

Called for every node, so a place is looked up once per (code object, instruction) and kept.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from types import CodeType, FrameType

import numpy as np
import optree

from adjit.ir.node import Loc


def _folders() -> tuple[str, ...]:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = [here, os.path.dirname(str(np.__file__)), os.path.dirname(str(optree.__file__))]
    for package in ("scipy", "adjit_runtime"):
        # Found without being imported: SciPy is optional and slow.
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found.append(os.path.dirname(spec.origin))
    return tuple(os.path.join(folder, "") for folder in found)


_OURS = _folders()
_SKIPPED: dict[str, bool] = {}
_PLACES: dict[tuple[int, int], tuple[CodeType, Loc]] = {}
# Code objects are kept alive by their places; a program that makes functions for ever must not grow for ever.
_MOST_PLACES = 100_000


def _is_skipped(file: str) -> bool:
    skipped = file.startswith(_OURS) or file.startswith("<__array_function__")
    _SKIPPED[file] = skipped
    return skipped


def user_frame() -> FrameType | None:
    """The innermost frame of the user's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        skipped = _SKIPPED.get(file)
        if skipped is None:
            skipped = _is_skipped(file)
        if not skipped:
            return frame
        frame = frame.f_back
    return None


def locate() -> Loc | None:
    """The place of the user's expression that is being evaluated now."""
    frame = user_frame()
    if frame is None:
        return None
    key = (id(frame.f_code), frame.f_lasti)
    known = _PLACES.get(key)
    if known is not None and known[0] is frame.f_code:
        return known[1]
    if len(_PLACES) >= _MOST_PLACES:
        _PLACES.clear()
    loc = place(frame)
    _PLACES[key] = (frame.f_code, loc)
    return loc


def place(frame: FrameType) -> Loc:
    """File, line and columns of the instruction that a frame stands at."""
    code = frame.f_code
    line, last, column, end = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    if line is None:
        return Loc(code.co_filename, frame.f_lineno)
    if last != line:
        end = None
    return Loc(code.co_filename, line, column, end)
