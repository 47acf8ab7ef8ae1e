"""Replace a file in one piece: whoever looks, at whatever moment, finds the old file or the new one, whole.

The new one is written beside the old one and then moved there; whatever ends this early, an interrupt at any point
included, takes it away again. It keeps mode and, as far as this process may, owner of the old one, and a symlink stays
one: its target is replaced. A file that was not there gets the mode that any new file gets.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat


def replace_file(path: str, data: bytes) -> None:
    """Write a file. Raises OSError, which names `path`, where that cannot be: there is no such folder, it is full or
    may not be written, or `path` is a folder, device or pipe."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".adjit-{secrets.token_hex(8)}.tmp")
    try:
        _write(temporary, data, _replaced(target))
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, path) from error
        raise
    _sync(folder)


def _replaced(target: str) -> os.stat_result | None:
    """What is known of the file that is there, or None."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "only a regular file can be replaced, and this is none", target)
    return found


def _write(path: str, data: bytes, old: os.stat_result | None) -> None:
    mode = 0o666 if old is None else 0o600
    with open(path, "xb", opener=functools.partial(os.open, mode=mode)) as file:
        if old is not None:
            _keep_owner(file.fileno(), old)
            os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _keep_owner(handle: int, old: os.stat_result) -> None:
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
        return
    try:
        os.fchown(handle, old.st_uid, old.st_gid)
    except PermissionError:
        # Another user's file becomes ours; the group we may keep where we belong to it.
        with contextlib.suppress(PermissionError):
            os.fchown(handle, -1, old.st_gid)


def _sync(folder: str) -> None:
    """Make the move last through a loss of power. Some file systems do not offer that; the file is in its place."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
