"""The threads that large kernels run on: how many, and the workers themselves.

Workers are made when the first program that has parallel kernels is loaded. They are Python threads that stay in
machine code (`adjit_worker`) without the GIL, look for work for some 50 us after the last one and then sleep. A child
made by fork has no workers until it needs its own. The order of every sum depends on sizes alone, so that results have
the same bits for any number of threads."""

from __future__ import annotations

import atexit
import ctypes
import logging
import math
import os
import sys
import threading
from pathlib import Path

import numpy as np

from adjit_runtime import environment
from adjit_runtime.errors import ArgumentError
from adjit_runtime.load import acquire, address_of, on_library, session
from adjit_runtime.program import POOL_SIZE, POOL_WORDS

MOST_THREADS = 256
_LOG = logging.getLogger("adjit.threads")
_LOCK = threading.Lock()


def set_threads(count: int | None) -> None:
    """How many threads run large kernels, the calling one included; None: what the process may use.

    A number is honoured even above the number of CPUs. Without a call, ADJIT_THREADS says it, or else the CPUs that the
    process may run on (affinity, limits of its control group). Waits for work that is under way.

        >>> import adjit
        >>> adjit.set_threads(2)
        >>> adjit.get_threads()
        2
        >>> adjit.set_threads(None)

    Raises ArgumentError for what is no number from 1 to 256."""
    if count is not None:
        count = _checked(count, "set_threads")
    with _LOCK:
        if count != _POOL.wanted:
            if count is None and _POOL.needed:
                # Raises while the workers are still there.
                default_threads()
            _POOL.stop()
            _POOL.wanted = count
            if _POOL.needed:
                _POOL.start()


def get_threads() -> int:
    """How many threads run large kernels, the calling one included."""
    return _POOL.wanted or default_threads()


def default_threads() -> int:
    """ADJIT_THREADS, or the number of CPUs that this process may use. Raises ArgumentError for an ADJIT_THREADS that is
    no number from 1 to 256."""
    text = environment.value("ADJIT_THREADS")
    if text:
        # The length first: Python refuses to read numbers of thousands of digits.
        if not text.isdecimal() or len(text) > len(str(MOST_THREADS)) or not 1 <= int(text) <= MOST_THREADS:
            raise environment.refusal("ADJIT_THREADS", f"a number of threads from 1 to {MOST_THREADS}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, _control_group_limit(), MOST_THREADS))


def _checked(count: int, who: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= MOST_THREADS:
        raise ArgumentError(f"{who}: a number of threads from 1 to {MOST_THREADS}, not {count!r}")
    return int(count)


def _control_group_limit() -> int:
    """CPUs that the control group of the process allows; many where it says nothing."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return MOST_THREADS


class _Pool:
    """The workers of this process."""

    def __init__(self) -> None:
        self.wanted: int | None = None
        self.needed = False
        self.words: np.ndarray | None = None
        self.workers: list[threading.Thread] = []

    def start(self) -> None:
        """Make the workers."""
        count = get_threads()
        if self.workers or count < 2 or not sys.platform.startswith("linux"):
            return
        functions = session().library("pool")
        memory = np.zeros(POOL_SIZE + 16, np.int64)
        skip = (-address_of(memory) % 128) // 8
        words = memory[skip : skip + POOL_SIZE]
        # A foreign function gives the GIL back for as long as it runs.
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(functions["adjit_worker"])
        self.words = words
        for number in range(1, count):
            worker = threading.Thread(target=run, args=(address_of(words),), name=f"adjit {number}", daemon=True)
            try:
                worker.start()
            except RuntimeError as error:
                _LOG.warning("large kernels run on %d threads in place of %d: %s", number, count, error)
                break
            self.workers.append(worker)
        # Workers look at it when they have a job.
        words[POOL_WORDS["threads"]] = len(self.workers) + 1
        _set_pool(address_of(words))

    def stop(self) -> None:
        """Let the workers finish, once no job is under way."""
        if self.words is None:
            return
        _set_pool(0)
        if self.workers:
            _take_lock(self.words)
            stop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(session().library("pool")["adjit_stop"])
            stop(address_of(self.words))
            for worker in self.workers:
                worker.join()
        self.workers = []
        self.words = None

    def forget(self) -> None:
        """In a child after fork: the workers are the parent's."""
        if self.words is not None:
            _set_pool(0)
        self.workers = []
        self.words = None
        if self.needed:
            self.start()


def _set_pool(address: int) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(session().library("pool")["adjit_set_pool"])(address)


def _take_lock(words: np.ndarray) -> None:
    """Wait until no job runs, and let none begin."""
    lock = words[POOL_WORDS["lock"] :]
    while acquire(lock):
        # The job that runs needs no Python; this thread has nothing else to do.
        threading.Event().wait(0.0005)


_POOL = _Pool()


def _needed() -> None:
    with _LOCK:
        if not _POOL.needed:
            # Needed once it is there: what start raises, it raises for the next program, too.
            _POOL.start()
            _POOL.needed = True


def _in_child() -> None:
    global _LOCK
    _LOCK = threading.Lock()
    _POOL.forget()


on_library("pool", _needed)
atexit.register(_POOL.stop)
os.register_at_fork(after_in_child=_in_child)
