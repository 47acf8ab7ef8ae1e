"""The rules of the side-by-side, without peers: sides agree, disagreement and impossible rates fail, text as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import report as reports
from benchmarks import sides
from benchmarks.limits import bandwidth, peak_flops
from benchmarks.picture import bars_of, carried, said
from benchmarks.processes import LESSER_CPUS, ROOT, Process, WorkerError, environment, pythons
from benchmarks.results import Limits, Measured, Rates, Report, Row, same
from benchmarks.sides import numpy as by_hand
from benchmarks.workloads import MEANING, MICRO, WORKLOADS, Problem, lower_triangle, mixture_constant

LIMITS = Limits(1, 100e9, 50e9, 1e6, 50e9, 40e9)


@pytest.mark.parametrize("name", ["xor", "mlp_small", "logreg"])
def test_losses_agree_with_gradients_by_hand(name: str) -> None:
    problem = WORKLOADS[name]()
    ours, theirs = (sides.build(side, name, problem) for side in ("adjit", "numpy"))
    assert ours is not None
    assert theirs is not None
    losses = [[sides.as_number(side.step()) for _ in range(5)] for side in (ours, theirs)]
    assert same(losses[0], losses[1], problem.tolerance)
    assert losses[0][4] < losses[0][0]


def test_a_loop_is_as_many_steps() -> None:
    problem = WORKLOADS["xor"]()
    one, other = (sides.build("adjit", "xor", problem) for _ in range(2))
    assert one is not None
    assert other is not None
    assert other.loop is not None
    assert [one.step() for _ in range(7)][-1] == other.loop(7)


def test_sides_leave_the_arrays_alone() -> None:
    problem = WORKLOADS["xor"]()
    for name in ("adjit", "numpy"):
        side = sides.build(name, "xor", problem)
        assert side is not None
        side.step()
    fresh = WORKLOADS["xor"]()
    for key, array in fresh.params.items():
        np.testing.assert_array_equal(problem.params[key], array)


@pytest.mark.parametrize("name", ["gmm", "prices"])
def test_gradients_by_hand_are_derivatives(name: str) -> None:
    function = by_hand.mixture if name == "gmm" else by_hand.prices
    pytest.importorskip("scipy")
    rng = np.random.default_rng(1)
    if name == "gmm":
        params = {"alphas": rng.normal(size=2), "means": rng.normal(size=(2, 3)), "icf": rng.normal(size=(2, 6))}
        data = [rng.normal(size=(5, 3))]
    else:
        params = {key: rng.uniform(0.5, 1.5, 4) for key in "sktrv"}
        data = []
    _, gradients = function(params, *data)
    for key, array in params.items():
        direction = rng.normal(size=array.shape)
        ends = [function(params | {key: array + h * direction}, *data)[0] for h in (1e-5, -1e-5)]
        slope = float(np.sum(gradients[key] * direction))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)  # central differences have ten digits


def test_the_mixture_is_that_of_adbench() -> None:
    """Component by component, point by point, as the paper writes it."""
    rng = np.random.default_rng(2)
    d, k, n = 3, 2, 4
    params = {"alphas": rng.normal(size=k), "means": rng.normal(size=(k, d)), "icf": rng.normal(size=(k, 6))}
    x = rng.normal(size=(n, d))
    total, prior = 0.0, 0.0
    factors = []
    for j in range(k):
        q = np.diag(np.exp(params["icf"][j, :d]))
        for place, (row, column) in enumerate(zip(*lower_triangle(d), strict=True)):
            q[row, column] = params["icf"][j, d + place]
        factors.append(q)
        prior += 0.5 * np.sum(q * q)
    for point in x:
        terms = [
            params["alphas"][j] + params["icf"][j, :d].sum() - 0.5 * np.sum((q @ (point - params["means"][j])) ** 2)
            for j, q in enumerate(factors)
        ]
        total += np.log(np.sum(np.exp(terms))) - np.log(np.sum(np.exp(params["alphas"])))
    expected = total + prior + mixture_constant(d, k, n)
    assert list(zip(*lower_triangle(3), strict=True)) == [(1, 0), (2, 0), (2, 1)]
    assert by_hand.mixture(params, x)[0] == pytest.approx(expected, rel=1e-12)  # other orders of the sums


def test_every_workload_is_described() -> None:
    assert set(MEANING) == set(WORKLOADS) | set(MICRO)


def test_observed_sees_signs_and_orders() -> None:
    one = sides.observed((1.0, {"x": np.array([1.0, 2.0, 3.0])}))
    assert one != sides.observed((1.0, {"x": np.array([-1.0, -2.0, -3.0])}))
    assert one != sides.observed((1.0, {"x": np.array([3.0, 2.0, 1.0])}))


def measured(values: list[float], steps: tuple[float, ...], **others: Any) -> Measured:
    return Measured(values, 0.1, step=Rates(steps), **others)


def row(peer: Measured, limits: Limits | None = LIMITS) -> Row:
    ours = measured(
        [1.0, 0.5], (100.0, 110.0, 120.0), loop=Rates((200.0,) * 3), cold=0.5, warm=0.02, memory=3_000_000, counting=0.4
    )
    return Row("xor", 1, 1e-4, 5e8, 0.0, False, {"adjit": ours, "jax": peer}, limits)


def report(*rows: Row) -> Report:
    return Report(list(rows), {}, {"adjit": "1.0", "jax": "2.0"}, ["torch"], "A machine", "2030-01-01")


AGREEING = measured([1.0, 0.50001], (50.0, 55.0, 60.0), loop=Rates((212.0,) * 3), cold=1.5, warm=0.2, memory=9_000_000)


def test_text_of_a_report() -> None:
    text = reports.text_of(report(row(AGREEING)))
    assert "Left out: torch, not installed." in text
    assert "(benchmarks-start.md)" in text
    assert "(benchmarks-calls.md)" in text
    assert "| xor | 110 ±5% | **55.0 ±5%** | 2.00 | 55% |" in text
    assert "| xor | 200 ±0% | **212 ±0%** | 0.94 | 100% |" in text
    assert "| xor | 500 ms / 20 ms | 1.5 s / 200 ms | 1.25 / 0.050 |" in text
    assert "| xor | 3.0 / 0.0 | 9.0 / 0.0 | 0.0 |" in text
    assert report(row(AGREEING)).faults() == []


@pytest.mark.parametrize(
    ("values", "loop", "cached"),
    [
        ([1.0, 0.5002], 0.1, None),
        ([1.0, float("nan")], 0.1, None),
        ([1.0], 0.1, None),
        ([1.0, 0.5], 0.11, None),
        ([1.0, 0.5], 0.1, [1.0, 0.6]),
    ],
    ids=["loss", "nan", "count", "loop", "cache"],
)
def test_disagreement_fails_the_run(values: list[float], loop: float, cached: list[float] | None) -> None:
    wrong = row(Measured(values, loop, cached, step=Rates((50.0,) * 3)))
    assert wrong.disagreeing() == ["jax"]
    assert report(wrong).faults() == ["xor, 1 thread: jax DISAGREES"]
    assert "DISAGREE: jax" in reports.text_of(report(wrong))


def test_an_impossible_rate_fails_the_run() -> None:
    # 5e8 flops at 100 GFLOP/s allow 200 steps a second.
    fast = row(measured([1.0, 0.5], (220.0,) * 3))
    assert report(fast).faults() == ["xor, 1 thread: impossible rate: jax step: 220 a second, the limit is 200"]
    assert report(row(measured([1.0, 0.5], (215.0,) * 3))).faults() == []


def test_a_failed_peer_stays_by_name() -> None:
    text = reports.text_of(report(row(Measured(failure="out of memory"))))
    assert "| failed |" in text
    assert "- JAX on xor: out of memory" in text


def test_notes_survive(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    path.write_text("Out of date\n\n<!-- notes -->\n\nBy hand.\n", encoding="utf-8")
    for _ in range(2):
        reports.write(report(row(AGREEING)), path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks\n")
    assert text.endswith("\n<!-- notes -->\n\nBy hand.\n")
    assert text.count("<!-- notes -->") == 1
    assert "Out of date" not in text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (1.234, "1.23"), (55, "55.0"), (999.4, "999"), (12345, "12,300")]
)
def test_rounded(number: float, text: str) -> None:
    assert reports.rounded(number) == text


def test_limits_of_a_step() -> None:
    assert LIMITS.rate(1e9, 0, False) == pytest.approx(100)
    assert LIMITS.rate(1e9, 0, True) == pytest.approx(50)
    assert LIMITS.rate(1e9, 1e9, False) == pytest.approx(50)
    assert LIMITS.rate(0, 0, False) is None


def test_kernels_of_the_limits_run() -> None:
    assert peak_flops(True, 1, 0.01) > 0
    assert bandwidth("read", 1e5, 2, 0.01) > 0
    assert bandwidth("triad", 1e5, 1, 0.01) > 0


def test_batches() -> None:
    problem = Problem({}, {"x": np.zeros((10, 2))}, rows=4)
    assert problem.batches == 2
    assert Problem({}, {"x": np.zeros((10, 2))}).batches == 1
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    turns = Problem({}, {"x": x, "y": y}, rows=4).in_turn()
    for begin in (0, 4, 0, 4):
        batch = next(turns)
        assert np.array_equal(batch[0], x[begin : begin + 4])
        assert np.array_equal(batch[1], y[begin : begin + 4])
        assert batch[0].base is not None
    whole = Problem({}, {"x": x}).in_turn()
    assert all(np.array_equal(next(whole)[0], x) for _ in range(2))
    assert next(Problem({}, {}).in_turn()) == ()


def test_interpreters_of_sides() -> None:
    assert pythons("numba=a,adjit=b") == {"numba": "a", "adjit": "b"}
    assert pythons("") == {}
    with pytest.raises(ValueError, match="'numba' is no side=path"):
        pythons("numba")


def test_code_for_a_lesser_cpu(tmp_path: Path) -> None:
    """XLA reads no flag after a word that is none, so its own come first; the two threads of all libraries stay."""
    plain, lesser = environment(2, tmp_path), environment(2, tmp_path, "haswell")
    assert lesser["ADJIT_CPU"] == "haswell"
    assert lesser["OPENBLAS_CORETYPE"] == "Haswell"
    for name in ("XLA_FLAGS", "PYTENSOR_FLAGS"):
        assert lesser[name].endswith(plain[name])
        assert lesser[name] != plain[name]
    assert {name for name in plain if plain[name] != lesser.get(name)} <= {*LESSER_CPUS["haswell"]}


def test_a_worker_answers_and_says_what_failed(tmp_path: Path) -> None:
    assert environment(2, tmp_path)["OMP_NUM_THREADS"] == "2"
    with Process("numpy", 1, "xor", tmp_path) as process:
        assert process.ask("version")["version"] == np.__version__
        assert len(process.ask("first")["values"]) == 5
        assert process.ask("steps", count=3)["seconds"] > 0
        assert process.ask("loops", count=1)["seconds"] is None
        with pytest.raises(WorkerError, match="AttributeError"):
            process.ask("nothing")


@pytest.mark.parametrize("name", ["benchmarks.md", "benchmarks-avx2.md"])
def test_pictures_agree_with_their_tables(name: str) -> None:
    document = ROOT / "docs" / name
    bars = bars_of(document.read_text(encoding="utf-8"))
    assert len(bars) >= 15
    # `python -m benchmarks.picture docs/...` draws it again.
    assert carried(document.with_suffix(".png").read_bytes()) == said(bars)


def test_bars_are_read_from_the_tables() -> None:
    text = "\n".join(
        [
            "## 2 threads", "", "Steps a second, one call a step. Bold: the best peer.", "",
            "| workload | adjit | JAX | torch | adjit / best peer |", "| --- | ---: | ---: | ---: | ---: |",
            "| mlp | 775 ±1% | **598 ±2%** | 3 ±1% | 1.29 |", "| other | 5 ±1% | – | – | – |", "",
            "Something else.", "", "| workload | adjit / best peer |", "| --- | ---: |", "| mlp | 9.00 |",
        ]
    )  # fmt: skip
    assert bars_of(text) == [("mlp, one call a step, 2 threads", 1.29, "JAX")]
