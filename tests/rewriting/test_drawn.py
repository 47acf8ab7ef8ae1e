"""Programs drawn by chance give what plain Python gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.rewriting.check import same
from tests.rewriting.drawn import Drawn

CALLS = [(1, 2, 0.5, [1.0, 2.0, 3.0]), (7, 3, 2.5, [0.0, 1.0, 0.5]), (4, 9, 1.0, [3.0, 0.0, 2.0]),
         (0, 1, -3.0, [-1.0, 4.0, 1.0]), (12, 5, 9.0, [2.0, 2.0, 2.0])]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_drawn_programs(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "drawn_program.py"
    file.write_text(Drawn(seed).text())
    spec = importlib.util.spec_from_file_location("drawn_program", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    same(module.program, *((a, b, f, np.array(w)) for a, b, f, w in CALLS))
