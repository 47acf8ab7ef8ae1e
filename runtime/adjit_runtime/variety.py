"""Signatures compared: what is new about one, and what varies among many, for the log and for a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from types import FrameType

from adjit_runtime.checks import shown
from adjit_runtime.errors import SignaturesWarning
from adjit_runtime.trees import LeafType, Signature

_SHOWN = 3
_PACKAGES = ("adjit", "adjit_runtime")


def reason(signature: Signature, last: Signature, names: Sequence[str]) -> str:
    """Why a program is made: what is new against the last signature. `names` has one for each leaf."""
    if last.layout is not signature.layout:
        return "the state has another layout"
    if last.statics != signature.statics:
        changed = [
            f"{now.name} is {shown(now.value)}, was {shown(was.value)}"
            for now, was in zip(signature.statics, last.statics, strict=True)
            if now != was
        ]
        return "static argument: " + ", ".join(changed)
    if last.tree != signature.tree:
        return f"the arguments have another structure: {signature.tree}"
    changed = [
        f"{name} is {now}, was {was}"
        for name, now, was in zip(names, signature.types, last.types, strict=True)
        if now != was
    ]
    return "; ".join(changed)


def warn(function: str, signatures: Sequence[Signature], names: Sequence[str]) -> None:
    """Warn, at the user's line, that a function has many signatures. `names` are those of the last one's leaves."""
    text = f"{function} has been compiled for {len(signatures)} signatures: {'; '.join(_varies(signatures, names))}"
    frame = _caller()
    file, line = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else (function, 1)
    warnings.warn_explicit(text, SignaturesWarning, file, line)


def _varies(signatures: Sequence[Signature], names: Sequence[str]) -> list[str]:
    """What differs among signatures, and the way out of each kind."""
    last = signatures[-1]
    found: list[str] = []
    if len({id(signature.layout) for signature in signatures}) > 1:
        found.append("states have different layouts")
    alike = [signature for signature in signatures if len(signature.statics) == len(last.statics)]
    for i, static in enumerate(last.statics):
        values = _some([shown(signature.statics[i].value) for signature in alike])
        if values:
            found.append(f"the static argument {static.name} is {values} (pass what need not be static as an array)")
    alike = [signature for signature in signatures if signature.tree == last.tree]
    if len(alike) < len(signatures):
        found.append("the arguments have different structures")
    for i, name in enumerate(names):
        types = [signature.types[i] for signature in alike]
        values = _some([str(type) for type in types])
        if values:
            found.append(f"{name} is {values} ({_way_out(types)})")
    return found


def _way_out(types: Sequence[LeafType]) -> str:
    if len({type.shape for type in types}) > 1:
        return "pad it to a few sizes"
    if len({(type.dtype, type.weak) for type in types}) == 1:
        return "give always a scalar, or always an array"
    return "give it one dtype with astype"


def _some(texts: Sequence[str]) -> str:
    """The first different texts; nothing where there is one."""
    different = list(dict.fromkeys(texts))
    if len(different) < 2:
        return ""
    return ", ".join(different[:_SHOWN]) + (", ..." if len(different) > _SHOWN else "")


def _caller() -> FrameType | None:
    """The first frame that is none of ours."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        frame = frame.f_back
    return frame
