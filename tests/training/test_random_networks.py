"""Random networks have the same bits on any number of threads from the first call on, and the interpreter's values.

`python -m tests.networks --minutes 60` goes on for as long as one likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import adjit
from adjit_runtime.target import host_target
from tests.networks import fault, network
from tests.thresholds import CUT, RIDING, TILED, force

FEW_SUMS = ((9, 672, 8), (13, 628, 4), (15, 340, 3), (13, 493, 9), (5, 96, 13), (16, 257, 12), (1, 256, 16))
"""Inputs, hidden units and rows of networks whose first product has few sums: its sizes stand in the code."""


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    yield
    adjit.set_threads(None)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int) -> None:
    net = network(seed)
    assert not fault(net), net


@pytest.mark.parametrize("seed", range(100, 124))
def test_random_networks_with_every_threshold_at_its_least(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, CUT, RIDING)
    if seed % 2:
        force(monkeypatch, TILED)
    net = network(seed, batch=120, hidden=200)
    assert not fault(net), net


@pytest.mark.parametrize("seed", range(200, 208))
def test_random_networks_on_avx2(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx2" not in host_target().features:
        pytest.skip("this machine does not run AVX2")
    monkeypatch.setenv("ADJIT_CPU", "haswell")
    force(monkeypatch, CUT)
    net = network(seed, batch=120, hidden=200)
    assert not fault(net), net


@pytest.mark.parametrize(("inputs", "hidden", "rows"), FEW_SUMS)
def test_networks_of_few_inputs(inputs: int, hidden: int, rows: int) -> None:
    net = replace(network(hidden), batch=rows, widths=(inputs, hidden, 1), activations=("tanh",), loss="mse")
    assert not fault(net), net
