"""The key of a cache entry stands for the code that is loaded: after an upgrade in place, of packages in any form."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adjit_runtime import cache, sources
from tests.test_layers import COMPILER, RUNTIME

# Imports, says so, waits for a line, and computes 5 - 3.
PROGRAM = """
import sys
import numpy as np
import adjit
from adjit_runtime import sources

def main():
    print(sources.unchanged(), len(sources.states()), flush=True)
    sys.stdin.readline()
    f = adjit.jit(lambda x: x - 3.0)
    found = f(np.full(2, 5.0))[0]
    print(found, next(iter(f.records.values())).cached)

main()
"""


class Installed:
    """adjit in a folder of its own, and the processes that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "site"
        for package in (COMPILER, RUNTIME):
            shutil.copytree(package, self.path / package.name, ignore=shutil.ignore_patterns("__pycache__"))

    def begin(self, program: str = PROGRAM) -> subprocess.Popen[str]:
        """A process that imports adjit, when it has done so."""
        settings = {"ADJIT_CACHE": "1", "ADJIT_CACHE_DIR": str(self.folder / "cache"), "ADJIT_VERIFY": "0"}
        environment = {**os.environ, **settings, "PYTHONPATH": str(self.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        self.imported = process.stdout.readline().split()
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[float, bool]:
        """What the process computes, and whether its program came from the cache."""
        out, _ = process.communicate("go\n", timeout=120)
        assert process.returncode == 0
        value, cached = out.split()
        return float(value), cached == "True"

    def run(self) -> tuple[float, bool]:
        return self.end(self.begin())

    def change(self, name: str, before: str, after: str) -> None:
        """Put another file into the place of a source, as an installer does."""
        path = self.path / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1
        other = path.with_suffix(".new")
        other.write_text(text.replace(before, after), encoding="utf-8")
        os.replace(other, path)

    def entries(self) -> int:
        return len(list((self.folder / "cache").glob("*.adjit")))


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_an_upgrade_in_place_of_what_is_imported(installed: Installed) -> None:
    old = installed.begin()
    # The subtraction of this version adds.
    installed.change("adjit/ops/arithmetic.py", "scalar=lambda k, x, y: x - y", "scalar=lambda k, x, y: x + y")
    assert installed.end(old) == (2.0, False)
    assert not installed.entries()
    assert installed.run() == (8.0, False)
    assert installed.run() == (8.0, True)
    installed.change(
        "adjit/ops/arithmetic.py",
        "z, x, y: (g, -g), linear=((0, 1),), scalar=lambda k, x, y: x + y",
        "z, x, y: (g, -g), linear=((0, 1),), scalar=lambda k, x, y: x - y",
    )
    assert installed.run() == (2.0, False)


def test_an_upgrade_between_import_and_the_end_of_a_compilation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    key = cache.key_of(("a",))
    cache.store(key, b"before")
    assert cache.load(key) == b"before"
    monkeypatch.setitem(sources._STATES, next(iter(sources._STATES)), "what it was at the import")
    assert cache.load(key) is None
    cache.store(key, b"after")
    monkeypatch.undo()
    monkeypatch.setenv("ADJIT_CACHE", "1")
    monkeypatch.setenv("ADJIT_CACHE_DIR", str(tmp_path))
    assert cache.load(key) == b"before"


def test_every_module_that_is_loaded_is_watched() -> None:
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] in ("adjit", "adjit_runtime")]
    files = {module.__file__ for module in modules}
    assert len(files) > 100
    assert files <= set(sources._STATES)
    assert sources.unchanged()


def test_a_file_that_is_gone_has_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sources._STATES, str(tmp_path / "gone.py"), "a state")
    assert not sources.unchanged()


def test_a_package_in_another_place_has_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sources._FOLDERS, "adjit", str(tmp_path))
    assert not sources.unchanged()


def test_the_compiler_comes_after_the_snapshot() -> None:
    """Nothing of adjit but the two packages themselves is imported before the states are taken."""
    program = """
import sys
seen = []
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        seen.append(name)
sys.meta_path.insert(0, Finder)
import adjit
ours = [name for name in seen if name.split(".")[0] in ("adjit", "adjit_runtime")]
print(*ours[:4])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(COMPILER.parent), str(RUNTIME.parent)])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[:3] == ["adjit", "adjit_runtime", "adjit_runtime.sources"], done.stderr


def test_byte_code_without_sources(installed: Installed) -> None:
    assert compileall.compile_dir(installed.path, quiet=1, legacy=True)
    for path in installed.path.rglob("*.py"):
        path.unlink()
    assert installed.run() == (2.0, False)
    assert installed.imported[0] == "True"
    assert int(installed.imported[1]) > 100
    assert installed.run() == (2.0, True)


def test_an_archive(installed: Installed) -> None:
    archive = installed.folder / "adjit.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(installed.path.rglob("*.py")):
            file.write(path, path.relative_to(installed.path))
    shutil.rmtree(installed.path)
    installed.path = archive
    assert installed.run() == (2.0, False)
    assert installed.imported == ["True", "1"]
    assert installed.run() == (2.0, True)
    old = installed.begin()
    os.utime(archive, ns=(0, 0))
    assert installed.end(old) == (2.0, False)
