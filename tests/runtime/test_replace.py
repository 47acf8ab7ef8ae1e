"""Files are replaced in one piece: mode, owner and symlinks are kept, and nothing is left beside them."""

from __future__ import annotations

import os
import resource
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from adjit_runtime import replace
from adjit_runtime.replace import replace_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Any:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664, 0o444, 0o755])
def test_the_mode_of_a_file_is_kept(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    replace_file(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert mode_of(path) == mode


def test_a_new_file_gets_the_mode_of_any_other(tmp_path: Path, umask: int) -> None:
    replace_file(str(tmp_path / "file"), b"new")
    (tmp_path / "other").write_bytes(b"")
    assert mode_of(tmp_path / "file") == mode_of(tmp_path / "other") == 0o640


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_the_owner_of_a_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    replace_file(str(path), b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_an_owner_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    asked = []
    found = os.stat(path)

    def fchown(_: int, user: int, group: int) -> None:
        asked.append((user, group))
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchown", fchown)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0, 0, 0, 0, found.st_uid + 1, found.st_gid, 0, 0, 0, 0)))
    replace_file(str(path), b"new")
    assert asked == [(found.st_uid, found.st_gid), (-1, found.st_gid)]
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o640)


@pytest.mark.parametrize("dangling", [True, False])
def test_a_symlink_stays_one(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "file"
    (tmp_path / "middle").symlink_to(Path("folder") / "file")
    link = tmp_path / "link"
    link.symlink_to("middle")
    if not dangling:
        target.write_bytes(b"old")
        target.chmod(0o604)
    replace_file(str(link), b"new")
    assert link.is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert target.read_bytes() == link.read_bytes() == b"new"
    assert dangling or mode_of(target) == 0o604
    assert sorted(os.listdir(tmp_path / "folder")) == ["file"]


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"old")
    for name, error, text in [
        ("nothing/file", FileNotFoundError, "No such file or directory"),
        ("file/file", NotADirectoryError, "Not a directory"),
        ("folder", IsADirectoryError, "Is a directory"),
        ("loop", OSError, "Too many levels of symbolic links"),
        ("pipe", OSError, "only a regular file can be replaced"),
        ("n" * 300, OSError, "File name too long"),
    ]:
        path = str(tmp_path / name)
        with pytest.raises(error, match=text) as caught:
            replace_file(path, b"new")
        assert caught.value.filename == path
        assert caught.value.filename2 is None
    with pytest.raises(IsADirectoryError):
        replace_file("", b"new")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "loop", "pipe"]
    assert os.listdir(tmp_path / "folder") == []
    long = "n" * 255
    replace_file(str(tmp_path / long), b"new")
    assert (tmp_path / long).read_bytes() == b"new"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=r"Permission denied.*file"):
            replace_file(str(tmp_path / "file"), b"new")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            replace_file(str(path), bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_file_and_folder_are_synced_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    move = os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("move"), move(a, b)))
    replace_file(str(tmp_path / "file"), b"new")
    assert order == [False, "move", True]


# A file object that an interrupt hits between its making and the `with` that closes it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("there", [True, False])
def test_interrupts_at_every_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    old, new = b"old" if there else None, b"new" * 100
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    left = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != replace.__file__:
            return trace
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    seen = set()
    for at in range(1, 10_000):
        path.unlink()
        if old is not None:
            path.write_bytes(old)
        left = at
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            replace_file(str(path), new)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        found = path.read_bytes() if path.exists() else None
        assert found in (old, new)
        assert os.listdir(tmp_path) == ["file"] * (found is not None)
        seen.add(found)
        if left > 0:
            break
        path.touch()
    # It was interrupted before the file was in its place and after that, and then no more.
    assert at > 100
    assert seen == {old, new}
    assert found == new
