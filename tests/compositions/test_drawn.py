"""Programs drawn by chance, and towers of transformations of them: compiled, evaluated, in plain Python, and against
differences. `python -m tests.compositions.search` draws as many as one likes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compositions.check import programs, tower
from tests.compositions.drawn import Drawn


@settings(max_examples=6)
@given(seed=st.integers(0, 10**6))
def test_drawn_programs(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tower(*programs(Drawn(seed).text, Path(folder), f"drawn{seed}"), seed)


def test_towers_are_of_all_kinds() -> None:
    """Of few programs, so that what is drawn is not always the same."""
    text = "".join(Drawn(seed).text for seed in range(150))
    for construct in (
        "scan", "fori_loop", "while_loop", "cond", "switch", "map", "checkpoint", "vmap", "jit", "root", "fixed_point",
        "from_sympy", "grad", "jvp", "vjp", "linearize", "elementwise_grad", "hvp", "jacfwd", "jacrev", "jacobian",
        "hessian",
    ):  # fmt: skip
        assert f"adjit.{construct}(" in text, construct
