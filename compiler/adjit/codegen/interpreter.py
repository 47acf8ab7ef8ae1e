"""What the Python interpreter is set to while something is compiled."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from adjit.tuned import COMPILER_SWITCH_SECONDS


class _Settings:
    """How many compilations are under way, and what the interpreter was set to before the first of them."""

    lock = threading.Lock()
    under_way = 0
    collects = False
    interval = 0.0

    @classmethod
    def restore(cls) -> None:
        """Set the interpreter to what it was."""
        sys.setswitchinterval(cls.interval)
        if cls.collects:
            gc.enable()


@contextmanager
def undisturbed() -> Iterator[None]:
    """While something is compiled the interpreter does not look for garbage, and threads take turns more often.

    The cyclic collector finds nothing in graphs and plans that are alive until the end, and takes up to a tenth of a
    compilation to look. A thread that comes back from LLVM waits for its turn, 5 ms as a rule, which it does some dozen
    times for a shared library."""
    with _Settings.lock:
        if _Settings.under_way == 0:
            _Settings.collects, _Settings.interval = gc.isenabled(), sys.getswitchinterval()
            gc.disable()
            sys.setswitchinterval(min(_Settings.interval, COMPILER_SWITCH_SECONDS))
        _Settings.under_way += 1
    try:
        yield
    finally:
        with _Settings.lock:
            # A child process that was forked meanwhile has none under way.
            if _Settings.under_way:
                _Settings.under_way -= 1
                if _Settings.under_way == 0:
                    _Settings.restore()


def _forget_compilations() -> None:
    """A child process has only the thread that forked: no other compilation goes on in it, and none holds the lock."""
    _Settings.lock = threading.Lock()
    if _Settings.under_way:
        _Settings.restore()
    _Settings.under_way = 0


os.register_at_fork(after_in_child=_forget_compilations)
