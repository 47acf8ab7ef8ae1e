"""What code generation asks of a kind of work: an `Emitter` for each, of which `kernels.EMITTERS` is the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from adjit.codegen.llvm import Function, Value
from adjit.schedule.work import Single
from adjit_runtime.target import Target

WorkT = TypeVar("WorkT", bound=Single)


class How(NamedTuple):
    """How a kernel is written.

    parallel   a large one runs on the threads of the pool
    light      its code, or that of its epilogue, is generated without optimisation
    ranges     into how many ranges it is cut, between which a handler of a signal may leave it; 0 where it is not"""

    target: Target
    parallel: bool = True
    light: bool = False
    ranges: int = 0


class Emitter(Generic[WorkT]):
    """How one kind of work becomes code."""

    def write(self, f: Function, params: Sequence[Value], name: str, work: WorkT, how: How) -> None:
        """Write a kernel into `f`, which is still open after it; functions of its own begin with `name`. `params` are
        an address for each parameter, then memory for packing, then the report, where it takes these."""
        raise NotImplementedError

    def is_glue(self, work: WorkT, how: How) -> bool:
        """Whether a kernel's own code only calls others, or is light."""
        return how.light

    def ranges(self, work: WorkT, target: Target) -> int:
        """Into how many ranges a long kernel is cut, so that a program may leave it between two; 0 where it is not."""
        return 0

    def packing_bytes(self, work: WorkT, target: Target, parallel: bool) -> int:
        """Bytes of memory for packing, of all threads."""
        return 0

    def libraries(self, work: WorkT, target: Target, parallel: bool) -> list[str]:
        """The libraries whose functions it calls."""
        return []
