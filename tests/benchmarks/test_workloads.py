"""Every workload: the same losses in the code of a lesser CPU, and the same bits on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks import sides
from benchmarks.results import same
from benchmarks.workloads import WORKLOADS

import adjit
from adjit_runtime.target import host_target

STEPS = 3
ROWS = [name for name in WORKLOADS if name != "gpt_medium"]
"""`gpt_small` is the same model, and a tenth of its work."""


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    yield
    adjit.set_threads(None)


def losses(name: str) -> list[float]:
    """Of some steps from the start; of a value with gradients, what tells them apart."""
    side = sides.build("adjit", name, WORKLOADS[name]())
    assert side is not None
    return [number for _ in range(STEPS) for number in sides.observed(side.step())]


@pytest.mark.parametrize("name", ROWS)
def test_the_same_losses_on_avx2(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not host_target().masks:
        pytest.skip("this machine has no wider vectors")
    here = losses(name)
    monkeypatch.setenv("ADJIT_CPU", "haswell")
    assert host_target().vector_bytes == 32
    there = losses(name)
    assert same(here, there, WORKLOADS[name]().tolerance)


@pytest.mark.parametrize("name", ROWS)
def test_the_same_bits_on_any_number_of_threads(name: str) -> None:
    found = []
    for count in (1, 2, 3, 8):
        adjit.set_threads(count)
        found.append(losses(name))
    assert found == [found[0]] * 4
