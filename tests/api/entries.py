"""Native entries by themselves, for tests of what they take: calls without the path through Python behind them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optree

import adjit
from adjit_runtime.guests import NAMESPACE


class NotTaken(Exception):
    """The native entry handed a call on."""


def refuse(*_: Any, **__: Any) -> None:
    """Stand for the path through Python."""
    raise NotTaken


def natively(function: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """The newest native entry of `function`, which calls like this one have given it, without any path behind it."""
    by_python = type(function).__mro__[1].__call__
    by_python(function, *args, **kwargs)
    wanted = by_python(function, *args, **kwargs)
    assert function._entries, "there is no native entry"
    entry = function._entries[0]
    entry.fall_through_to(refuse)
    if type(args[0] if args else None) is not adjit.State:
        same(entry.function(*args, **kwargs), wanted)
    return entry.function  # type: ignore[no-any-return]


def same(found: Any, wanted: Any) -> None:
    """The same structure, types of leaves, and bits; dicts have their keys in the same order."""
    ours, theirs = (optree.tree_flatten(tree, namespace=NAMESPACE) for tree in (found, wanted))
    assert ours[1] == theirs[1]
    assert repr(found) == repr(wanted)
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)


def taken(call: Callable[[], Any]) -> bool:
    """Whether the native entry took a call."""
    try:
        call()
    except NotTaken:
        return False
    return True


@contextmanager
def changing(change: Callable[[], Any]) -> Iterator[None]:
    """Run `change` again and again in another thread, to which Python turns often, as long as the block takes."""
    interval, done = sys.getswitchinterval(), threading.Event()
    sys.setswitchinterval(1e-5)

    def work() -> None:
        while not done.is_set():
            change()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()
        sys.setswitchinterval(interval)
