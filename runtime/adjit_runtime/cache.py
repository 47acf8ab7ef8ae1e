"""The cache of object code on disk: bytes by key, checked, bounded, safe for many processes.

`ADJIT_CACHE_DIR` is where it lies (else the user's cache folder), `ADJIT_CACHE=0` turns it off, `ADJIT_CACHE_MB` bounds
its size (256; `inf` is no bound), the least recently used going first. An entry is written beside its place and then
moved there; what a killed writer leaves counts, and goes after an hour. An entry carries a checksum, which guards
against damage, not against an attacker: whoever can write the folder can run code as the user, so a folder or an entry
of another owner, or one that others may write, is not used. Nothing is used, either, where the cache has no folder or
adjit's files changed since they were imported. Wrong settings raise ArgumentError.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import llvmlite
import numpy as np
import platformdirs

from adjit_runtime import environment, sources
from adjit_runtime.tuned import CACHE_MB, CACHE_SLACK

_LOG = logging.getLogger("adjit.cache")
MAGIC = b"adjit object 1\n"
SUFFIX = ".adjit"
ABANDONED_SECONDS = 3600
"""Age from which a file that is being written has no writer any more."""
_TEMPORARY = re.compile(r"\.[a-z0-9_]{8}\.tmp")
_ROOTS_FOLDER = "/.cache/adjit"
_DIGEST = 32
# What the file system, or a name that it cannot have, raises.
_UNUSABLE = (OSError, ValueError)

_WRITTEN: dict[Path, float] = {}
"""Bytes that this process wrote to a folder since it last looked at all entries there."""


def enabled() -> bool:
    """Whether the cache is on. Raises ArgumentError for an ADJIT_CACHE that says neither."""
    return environment.flag("ADJIT_CACHE", True)


def folder() -> Path | None:
    """Where entries lie; None where the user has no home for them."""
    chosen = environment.value("ADJIT_CACHE_DIR")
    found = os.path.expanduser(chosen) if chosen else _users_folder()
    # What `expanduser` leaves as it is has no home to stand for it.
    if not found or found.startswith("~"):
        _LOG.debug("off: the user has no home folder to keep it in; ADJIT_CACHE_DIR names another place")
        return None
    return Path(found)


def _users_folder() -> str:
    """The folder for such data, empty where the user has none: no home, or the root of the file system for one."""
    try:
        found: str = platformdirs.user_cache_dir("adjit", appauthor=False)
    except (*_UNUSABLE, RuntimeError) as error:
        _LOG.debug("%s", error)
        return ""
    return found if os.path.isabs(found) and found != _ROOTS_FOLDER else ""


def limit() -> float:
    """The bound on all files together, in bytes. Raises ArgumentError for an ADJIT_CACHE_MB that is no bound."""
    wanted = "the bound of the cache in MB, a number from 0 on, or inf for none"
    return environment.number("ADJIT_CACHE_MB", CACHE_MB, wanted) * (1 << 20)


def _place() -> Path | None:
    """The folder, where the cache can be used now."""
    if not enabled():
        return None
    # A hit does not need it, but a wrong setting raises in every run, not only in those that write.
    limit()
    if not sources.unchanged():
        _LOG.debug("off: adjit's files are not those that this process imported")
        return None
    return folder()


@functools.cache
def loaded_code() -> str:
    """A hash of the code of adjit that is loaded and of what else decides programs: versions of Python, NumPy, LLVM."""
    versions = (sys.version, np.__version__, llvmlite.__version__)
    return hashlib.sha256("\n".join([*sources.states(), repr(versions)]).encode(errors="surrogateescape")).hexdigest()


def key_of(parts: Iterable[str]) -> str:
    """The key of what these texts and the code of adjit that is loaded decide."""
    digest = hashlib.sha256(loaded_code().encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part.encode(errors="surrogatepass"))
    return digest.hexdigest()


def _trusted(path: Path) -> bool:
    """Whether a file or folder is ours alone to write."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def load(key: str) -> bytes | None:
    """The bytes of an entry; None where there is none, or where it is damaged or not ours."""
    place = _place()
    if place is None:
        return None
    path = place / (key + SUFFIX)
    try:
        if not (_trusted(place) and _trusted(path)):
            _LOG.debug("%s is not used: another user owns it or may write it", path)
            return None
        data = path.read_bytes()
    except _UNUSABLE:
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
    """Write an entry; a line in the log where the folder cannot be used, as the cache only saves time."""
    place = _place()
    if place is None:
        return
    data = MAGIC + hashlib.sha256(key.encode() + payload).digest() + payload
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _trusted(place):
            return
        _write(place / (key + SUFFIX), data)
        _bound(place, len(data))
    except _UNUSABLE as error:
        _LOG.debug("no entry was written: %s", error)


def _write(path: Path, data: bytes) -> None:
    """Write a file at once, or not at all, whatever interrupts it."""
    # The name is chosen before the file is there, so that no interrupt comes between the file and its removal.
    temporary = path.with_name(f".{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb", opener=_ours_alone) as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        # It is gone where it was moved, and the reason to be here may be an interrupt, which must come out.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _ours_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _bound(place: Path, size: int) -> None:
    """Keep the folder within its bound after `size` bytes were written.

    To look at all entries costs more than to write one where there are many, so a process looks at its first entry, and
    then whenever it has written the slack that it made."""
    bound = limit()
    written = _WRITTEN.get(place, math.inf) + size
    if written < bound * CACHE_SLACK:
        _WRITTEN[place] = written
        return
    _evict(place, bound * (1 - CACHE_SLACK))
    _WRITTEN[place] = 0


def _files(place: Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """The entries of a folder, and the files that are being written or were left by a writer that was killed."""
    with os.scandir(place) as found:
        files = [file for file in found if file.is_file(follow_symlinks=False)]
    entries = [file for file in files if file.name.endswith(SUFFIX)]
    return entries, [file for file in files if _TEMPORARY.fullmatch(file.name)]


def _evict(place: Path, bound: float) -> None:
    """Throw out what writers left long ago, and the least recently used entries until the rest is within the bound."""
    entries, temporaries = _files(place)
    total = 0
    for file in temporaries:
        with contextlib.suppress(OSError):
            status = file.stat(follow_symlinks=False)
            if time.time() - status.st_mtime > ABANDONED_SECONDS:
                os.unlink(file)
            else:
                total += status.st_size
    known = []
    for file in entries:
        with contextlib.suppress(OSError):
            status = file.stat(follow_symlinks=False)
            known.append((status.st_mtime_ns, status.st_size, file.path))
    total += sum(size for _, size, _ in known)
    for _, size, path in sorted(known):
        if total <= bound:
            return
        # Another process may have thrown it out.
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


def clear() -> None:
    """Remove every entry, and every file that is being written or was left by a writer."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(*_UNUSABLE):
        for file in [file for files in _files(place) for file in files]:
            with contextlib.suppress(OSError):
                os.unlink(file)
