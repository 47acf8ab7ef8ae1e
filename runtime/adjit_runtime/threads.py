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
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adjit_runtime import environment, fork
from adjit_runtime.errors import ArgumentError
from adjit_runtime.guard import Lock, exchange
from adjit_runtime.load import address_of, on_library, session
from adjit_runtime.program import POOL_SIZE, POOL_WORDS
from adjit_runtime.public import public

MOST_THREADS = 256
_LOG = logging.getLogger("adjit.threads")
_LOCK = Lock()


@public()
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
    _LOCK.run(_POOL.change, count)


@public()
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
    """The workers of this process. An interrupt may come in the middle of anything here, which the next call of the
    same then finishes: what is done already is done again without harm."""

    def __init__(self) -> None:
        self.wanted: int | None = None
        self.needed = False
        self.running = False
        self.words: np.ndarray | None = None
        self.workers: list[threading.Thread] = []

    def change(self, count: int | None) -> None:
        """So many threads from now on."""
        if count == self.wanted and self.running == self.needed:
            return
        if count is None and self.needed:
            # Raises while the workers are still there.
            default_threads()
        try:
            self.wanted = count
            self._restart()
        except BaseException:
            # An interrupt is no reason to leave the process with fewer threads than it says.
            self._restart()
            raise

    def need(self) -> None:
        """There is work for threads."""
        self.needed = True
        if not self.running:
            self._restart()

    def _restart(self) -> None:
        self.stop()
        if self.needed:
            self.start()

    def start(self) -> None:
        """Make the workers."""
        count = get_threads()
        if count > 1 and sys.platform.startswith("linux"):
            self._make_workers(count)
        self.running = True

    def _make_workers(self, count: int) -> None:
        functions = session().library("pool")
        memory = np.zeros(POOL_SIZE + 16, np.int64)
        skip = (-address_of(memory) % 128) // 8
        words = memory[skip : skip + POOL_SIZE]
        # A foreign function gives the GIL back for as long as it runs.
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(functions["adjit_worker"])
        self.words = words
        for number in range(1, count):
            # Their arguments keep the words alive, whatever becomes of the pool.
            worker = threading.Thread(target=_work, args=(run, words), name=f"adjit {number}", daemon=True)
            self.workers.append(worker)
            try:
                worker.start()
            except RuntimeError as error:
                self.workers.pop()
                _LOG.warning("large kernels run on %d threads in place of %d: %s", number, count, error)
                break
        # Workers look at it when they have a job.
        words[POOL_WORDS["threads"]] = len(self.workers) + 1
        _set_pool(address_of(words))

    def stop(self) -> None:
        """Let the workers finish, once no job is under way."""
        self.running = False
        if self.words is None:
            return
        _set_pool(0)
        if self.workers:
            _close(self.words)
            stop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(session().library("pool")["adjit_stop"])
            stop(address_of(self.words))
            for worker in self.workers:
                # One that was not quite started when an interrupt came ends by itself.
                if worker.is_alive():
                    worker.join()
        self.workers = []
        self.words = None

    def forget(self) -> None:
        """In a child after fork: the workers are the parent's."""
        if self.words is not None:
            _set_pool(0)
        self.workers = []
        self.words = None
        self.running = False
        if self.needed:
            self.start()


def _work(run: Callable[[int], None], words: np.ndarray) -> None:
    run(address_of(words))


def _set_pool(address: int) -> None:
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(session().library("pool")["adjit_set_pool"])(address)


_ENDING = 2
"""The lock of a pool that ends; while a job runs it is 1."""


def _close(words: np.ndarray) -> None:
    """Wait until no job runs, and let none begin ever again."""
    lock = address_of(words) + words.itemsize * POOL_WORDS["lock"]
    while exchange(lock, _ENDING) not in (0, _ENDING):
        # The job that runs needs no Python; this thread has nothing else to do.
        threading.Event().wait(0.0005)


_POOL = _Pool()


def _needed() -> None:
    if not _POOL.running:
        _LOCK.run(_POOL.need)


on_library("pool", _needed)
atexit.register(_POOL.stop)
fork.in_child(_POOL.forget)
