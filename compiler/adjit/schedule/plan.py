"""Plan: kernels in order, each with its work and the memory that this names, and buffers with places. Data only.

`work` and `turns` have the kinds of work, `instructions` what bodies are made of, `buffer` what memory is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from adjit.ir.node import Data, Loc
from adjit.schedule.buffer import Buffer, Params
from adjit.schedule.work import Work
from adjit_runtime.program import Check, Slot


class Located(Protocol):
    """What comes from a line of the user's: a node, or what a text says of some."""

    @property
    def loc(self) -> Loc | None:
        """The line."""


@dataclass(frozen=True, eq=False, slots=True)
class Kernel:
    """One piece of work and the memory that its parameters name: (buffer, offset in elements)."""

    work: Work
    params: Params
    nodes: tuple[Located, ...] = ()
    commits: bool = False
    inner: Plan | None = None

    @property
    def locs(self) -> list[Loc]:
        """The user's lines that this kernel computes, in order, each once."""
        seen: dict[str, Loc] = {}
        for node in self.nodes:
            if node.loc is not None:
                seen.setdefault(str(node.loc), node.loc)
        return list(seen.values())


@dataclass(eq=False, slots=True)
class Plan:
    """What code generation gets: kernels in order, buffers, the arena's size, and the program's slots."""

    name: str
    kernels: tuple[Kernel, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int
    bytes_without_reuse: int
    peak_bytes: int
    peak_loc: Loc | None
    slots: tuple[Slot, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    checks: tuple[Check, ...]
    constants: dict[int, Data] = field(default_factory=dict)
