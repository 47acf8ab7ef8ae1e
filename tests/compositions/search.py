"""Draws many programs, and prints those that fail: `python -m tests.compositions.search FIRST COUNT [FOLDER]`.

CI checks a few (`test_drawn`); this one is for the hours after a change of a derivative, a pass or a plan."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

os.environ.setdefault("ADJIT_VERIFY", "1")

from tests.compositions.check import programs, tower
from tests.compositions.drawn import Drawn


def main(first: int, count: int, folder: Path) -> int:
    """How many fail."""
    failed = 0
    for seed in range(first, first + count):
        name = f"drawn{seed}"
        try:
            tower(*programs(Drawn(seed).text, folder, name), seed)
        except Exception as error:
            failed += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"{seed}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:400]}",
                flush=True,
            )
            continue
        for file in folder.glob(f"{name}*"):
            file.unlink()
    print(f"{count} programs from {first} on, {failed} failed", flush=True)
    return failed


if __name__ == "__main__":
    place = Path(sys.argv[3] if len(sys.argv) > 3 else tempfile.mkdtemp())
    sys.exit(bool(main(int(sys.argv[1]), int(sys.argv[2]), place)))
