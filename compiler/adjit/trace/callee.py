"""What the user's code calls just now: the dotted path of the call or subscript that a frame is at.

A function that Cython compiled has no frame, so a call from within it looks like one from the user's frame; it is told
apart by the callee that stands in the user's bytecode.
"""

from __future__ import annotations

import dis
import functools
import inspect
from types import CodeType, FrameType, ModuleType
from typing import Any

Path = tuple[str, ...]

_ARRANGING = frozenset(
    {
        "BUILD_LIST", "BUILD_MAP", "BUILD_TUPLE", "CACHE", "CALL_INTRINSIC_1", "DICT_MERGE", "DICT_UPDATE",
        "EXTENDED_ARG", "KW_NAMES", "LIST_EXTEND", "LIST_TO_TUPLE", "LOAD_CONST", "PRECALL", "PUSH_NULL",
    }
)  # fmt: skip
"""Instructions that arrange the arguments of a call and carry the call's own place."""


def path(frame: FrameType) -> Path | None:
    """The dotted path of what the current instruction of a frame calls or subscripts."""
    return _paths(frame.f_code).get(frame.f_lasti)


def called(frame: FrameType) -> Any:
    """What the current instruction of a frame calls or subscripts, where a dotted path names it; else None."""
    names = path(frame)
    if names is None:
        return None
    found = _variable(frame, names[0])
    for name in names[1:]:
        found = _attribute(found, name)
    return found


def _variable(frame: FrameType, name: str) -> Any:
    code = frame.f_code
    if name in code.co_varnames or name in code.co_cellvars or name in code.co_freevars:
        return frame.f_locals.get(name)
    for scope in (frame.f_globals, frame.f_builtins):
        if name in scope:
            return scope[name]
    return frame.f_locals.get(name)


def _attribute(x: Any, name: str) -> Any:
    if isinstance(x, ModuleType):
        return vars(x).get(name)
    # Without running properties.
    return inspect.getattr_static(x, name, None)


@functools.lru_cache(maxsize=4096)
def _paths(code: CodeType) -> dict[int, Path]:
    """The path of what is called or subscripted, by the offset of the instruction."""
    found: dict[int, Path] = {}
    starts: dict[Any, Path | None] = {}
    last: Path | None = None
    early: int | None = None
    steps = list(dis.get_instructions(code))
    ends = [step.offset for step in steps[1:]] + [len(code.co_code)]
    for step, end in zip(steps, ends, strict=True):
        if step.opname in _ARRANGING:
            early = step.offset if step.opname == "PRECALL" else early
            last = None if step.opname.startswith(("BUILD", "LOAD")) else last
            continue
        where = step.positions
        start = None if where is None or where.col_offset is None else (where.lineno, where.col_offset)
        names = _extended(step, last)
        if start is not None and names is None and _takes(step):
            # Python 3.11 is ahead of the call in those of classes and builtins that it has seen some times, and at the
            # last cache of the call while a function of Python runs.
            begin = step.offset if early is None else early
            found |= dict.fromkeys(range(begin, end, 2), starts.get(start) or ())
            early = None
        if start is not None:
            starts[start] = names
        last = names
    return {offset: names for offset, names in found.items() if names}


def _extended(step: dis.Instruction, last: Path | None) -> Path | None:
    """The path of what an instruction pushes."""
    if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
        return None if last is None else (*last, str(step.argval))
    if step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF")):
        name = step.argval[-1] if isinstance(step.argval, tuple) else step.argval
        return (str(name),)
    return None


def _takes(step: dis.Instruction) -> bool:
    return step.opname.startswith(("CALL", "BINARY_SUBSCR", "BINARY_OP"))
