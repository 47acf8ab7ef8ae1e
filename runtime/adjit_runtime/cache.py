"""The cache of object code on disk: bytes by key, checked, bounded, safe for many processes.

`ADJIT_CACHE_DIR` is where it lies (else the user's cache folder), `ADJIT_CACHE=0` turns it off, `ADJIT_CACHE_MB` bounds
its size (256), the least recently used going first. An entry is written beside its place and then moved there. It
carries a checksum, which guards against damage, not against an attacker: whoever can write the folder can run code as
the user, so a folder or an entry of another owner, or one that others may write, is not used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import llvmlite
import numpy as np
import platformdirs

from adjit_runtime.tuned import CACHE_MB

_LOG = logging.getLogger("adjit.cache")
MAGIC = b"adjit object 1\n"
SUFFIX = ".adjit"
_DIGEST = 32


def enabled() -> bool:
    """Whether the cache is on."""
    return os.environ.get("ADJIT_CACHE", "1") not in ("0", "off", "no", "false")


def folder() -> Path:
    """Where entries lie."""
    chosen = os.environ.get("ADJIT_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("adjit", appauthor=False))


def limit() -> int:
    """The bound on all entries together, in bytes."""
    try:
        return int(float(os.environ.get("ADJIT_CACHE_MB", CACHE_MB)) * (1 << 20))
    except ValueError:
        return CACHE_MB << 20


@functools.cache
def sources() -> str:
    """A hash of the state of adjit's sources and of what else decides the code: versions of Python, NumPy and LLVM."""
    digest = hashlib.sha256()
    for name in ("adjit", "adjit_runtime"):
        module = sys.modules.get(name)
        if module is None or module.__file__ is None:
            continue
        root = os.path.dirname(module.__file__)
        for path in sorted(_source_files(root)):
            digest.update(f"{path[len(root) :]} {file_state(path)}".encode())
    versions = (sys.version, np.__version__, llvmlite.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()


class _One:
    """The threads of a first compilation want the hash all at once; one computes it."""

    lock = threading.Lock()


def _after_fork() -> None:
    """A child process has none of the threads that may hold the lock."""
    _One.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def file_state(path: str) -> str:
    """What is another after each change of a file: its size, and when its bytes and its entry were written.

    The last cannot be set, so a file that is replaced by one of the same age and size counts as changed, too. To read
    all files takes ten times as long, 13 ms of every start."""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _source_files(folder: str) -> Iterator[str]:
    """The paths of a folder's Python files and of those below it; of a folder in an archive, the archive's."""
    if not os.path.isdir(folder):
        yield next(str(path) for path in Path(folder).parents if path.exists())
        return
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _source_files(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path


def key_of(parts: Iterable[str]) -> str:
    """The key of what these texts and adjit's sources decide."""
    with _One.lock:
        digest = hashlib.sha256(sources().encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode())
    return digest.hexdigest()


def _trusted(path: Path) -> bool:
    """Whether a file or folder is ours alone to write."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def load(key: str) -> bytes | None:
    """The bytes of an entry; None where there is none, or where it is damaged or not ours."""
    if not enabled():
        return None
    path = folder() / (key + SUFFIX)
    try:
        if not (_trusted(path.parent) and _trusted(path)):
            _LOG.debug("%s is not used: another user owns it or may write it", path)
            return None
        data = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC)
    payload = data[head + _DIGEST :]
    if data[:head] != MAGIC or hashlib.sha256(key.encode() + payload).digest() != data[head : head + _DIGEST]:
        _LOG.debug("%s is damaged and will be written again", path)
        return None
    with contextlib.suppress(OSError):
        # Used now: the last to be thrown out.
        os.utime(path)
    return payload


def store(key: str, payload: bytes) -> None:
    """Write an entry; without a word where the folder cannot be used, as the cache only saves time."""
    if not enabled():
        return
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _trusted(place):
            return
        handle, temporary = tempfile.mkstemp(dir=place, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(key.encode() + payload).digest() + payload)
            os.replace(temporary, place / (key + SUFFIX))
        except BaseException:
            os.unlink(temporary)
            raise
        _evict(place)
    except OSError as error:
        _LOG.debug("no entry was written: %s", error)


def _evict(place: Path) -> None:
    """Throw the least recently used entries out until the rest is within the bound."""
    entries = []
    for path in place.glob("*" + SUFFIX):
        with contextlib.suppress(OSError):
            status = path.stat()
            entries.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries, key=lambda entry: entry[0]):
        if total <= limit():
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def clear() -> None:
    """Remove every entry."""
    for path in folder().glob("*" + SUFFIX):
        with contextlib.suppress(OSError):
            path.unlink()
