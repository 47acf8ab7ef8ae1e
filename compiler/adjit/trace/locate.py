"""Where the user's code is: the first frame outside adjit, NumPy, SciPy and optree, with the columns of its expression.

Called for every node, so a place is looked up once per (code object, instruction) and kept. `origin` says whose a file
of code is.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import sys
from types import CodeType, FrameType
from typing import Literal

import numpy as np
import optree

from adjit.ir.node import Loc

Origin = Literal["ours", "standard", "installed", "user"]


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


def is_skipped(file: str) -> bool:
    """Whether a file is no user's: ours, or of a package that runs between the user's code and us."""
    skipped = file.startswith((*_OURS, "<__array_function__"))
    _SKIPPED[file] = skipped
    return skipped


_STANDARD = (os.path.join(os.path.dirname(os.__file__), ""), "<frozen ")
_ORIGINS: dict[str, Origin] = {}


def origin(file: str) -> Origin:
    """Whose code a file has: "ours" is what `is_skipped` says, "standard" Python's library, "installed" a package."""
    found = _ORIGINS.get(file)
    if found is None:
        found = _ORIGINS[file] = _origin(file)
    return found


def _origin(file: str) -> Origin:
    if is_skipped(file):
        return "ours"
    if "site-packages" in file or "dist-packages" in file:
        return "installed"
    return "standard" if file.startswith(_STANDARD) else "user"


def user_frame() -> FrameType | None:
    """The innermost frame of the user's code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        skipped = _SKIPPED.get(file)
        if skipped is None:
            skipped = is_skipped(file)
        if not skipped:
            return frame
        frame = frame.f_back
    return None


def scipy_functions() -> list[str]:
    """The names of SciPy's functions that run between the user's code and here, the outermost last."""
    names = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _SKIPPED.get(frame.f_code.co_filename, True):
        if f"{os.sep}scipy{os.sep}" in frame.f_code.co_filename:
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


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
    loc = place(frame.f_code, frame.f_lasti, frame.f_lineno)
    _PLACES[key] = (frame.f_code, loc)
    return loc


def place(code: CodeType, instruction: int, known_line: int) -> Loc:
    """File, line and columns of an instruction."""
    positions = itertools.islice(code.co_positions(), instruction // 2, None)
    line, last, column, end = next(positions, (None,) * 4)
    if line is None:
        return Loc(code.co_filename, known_line)
    return Loc(code.co_filename, line, column, end if last == line else None)


def raised_at(error: BaseException) -> Loc | None:
    """The place of the user's code that an error passed through last."""
    found = None
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if not is_skipped(code.co_filename):
            found = place(code, at.tb_lasti, at.tb_lineno)
        at = at.tb_next
    return found
