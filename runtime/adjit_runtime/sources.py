"""Which code of adjit this process runs: its files as they were before the first of them was imported.

`adjit` and `adjit_runtime` import this module before all others. What is kept under the hash of these states was made
by that code, as long as no file has changed since: after a change, modules that were imported early and late may be of
two versions, so `unchanged` is asked before every use of the hash.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("adjit", "adjit_runtime")
_SUFFIXES = tuple(importlib.machinery.all_suffixes())
"""Of what Python imports: sources, byte code where no source is installed, extension modules."""


def file_state(path: str) -> str:
    """What is another after each change of a file: its size, and when its bytes and its entry were written.

    The last cannot be set, so a file that is replaced by one of the same age and size counts as changed, too. To read
    all files takes ten times as long, 13 ms of every start."""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _folder(package: str) -> str:
    """Where a package lies, empty where it is not installed. Raises OSError where that is no place of files."""
    module = sys.modules.get(package)
    # Looked for, not imported: the runtime may be used, and imported, without the compiler.
    spec = importlib.util.find_spec(package) if module is None else module.__spec__
    if module is None and spec is None:
        return ""
    if spec is None or not spec.has_location or spec.origin is None:
        raise FileNotFoundError(f"the package {package} has no file")
    return os.path.dirname(spec.origin)


def _files(folder: str) -> Iterator[str]:
    """The paths of what can be imported from a folder; of a folder in an archive, the archive's."""
    if not os.path.isdir(folder):
        yield _archive(folder)
        return
    folders = [folder]
    for place in folders:
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIXES):
                    yield entry.path
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)


def _archive(folder: str) -> str:
    for path in Path(folder).parents:
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"{folder} is neither a folder nor in an archive")


def _look() -> tuple[dict[str, str], dict[str, str]]:
    """Where the packages lie, and the state of each of their files; two empty tables where nobody can tell."""
    try:
        folders = {package: _folder(package) for package in _PACKAGES}
        paths = [path for folder in folders.values() if folder for path in _files(folder)]
        return folders, {path: file_state(path) for path in sorted(paths)}
    except (OSError, ValueError):
        return {}, {}


_FOLDERS, _STATES = _look()


def states() -> list[str]:
    """A line for each file: its path, without the place where adjit is installed, and its state at the import."""
    return [f"{_within(path)} {state}" for path, state in _STATES.items()]


def _within(path: str) -> str:
    for package, folder in _FOLDERS.items():
        if folder and path.startswith(os.path.join(folder, "")):
            return package + path[len(folder) :]
    return os.path.basename(path)


def unchanged() -> bool:
    """Whether every file is as it was at the import; False, too, where adjit does not come from files."""
    try:
        return (
            bool(_STATES)
            and all(_folder(package) == folder for package, folder in _FOLDERS.items())
            and all(file_state(path) == state for path, state in _STATES.items())
        )
    except (OSError, ValueError):
        return False
