"""First calls and kinds of calls, without peers: adjit computes what NumPy does, documents say what was measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optree
import pytest
from benchmarks import __main__ as command
from benchmarks import measure, parts, sides
from benchmarks.calls import CALLS, CALLS_MEANING, KINDS
from benchmarks.drawn import arrays, drawn
from benchmarks.measure import Settings
from benchmarks.problem import leaves
from benchmarks.programs import PROGRAMS, START, START_MEANING
from benchmarks.results import Measured, Rates, Report, Row, same
from benchmarks.sides import numpy as by_hand

# (Those of 40 and 100 steps are the one of 20 again.)
DIFFERENT = [name for name in PROGRAMS if name not in ("rk4_40", "rk4_100")]
VALUES = [name for name, call in KINDS.items() if call.argnums is None]


def built(name: str) -> sides.Side:
    side = sides.build("adjit", name, (START | CALLS)[name]())
    assert side is not None
    return side


@pytest.mark.parametrize("name", DIFFERENT)
def test_programs_are_those_of_numpy(name: str) -> None:
    function, params = PROGRAMS[name].of(np), START[name]().params
    value, gradients = built(name).step()
    assert value == pytest.approx(function(params), rel=1e-9)  # other orders of the sums
    rng = np.random.default_rng(1)
    direction = optree.tree_map(lambda x: x * rng.normal(size=np.shape(x)), params)
    ends = [function(optree.tree_map(lambda x, d, h=h: x + h * d, params, direction)) for h in (1e-5, -1e-5)]
    slope = sum(float(np.sum(g * d)) for g, d in zip(leaves(gradients), leaves(direction), strict=True))
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)  # central differences have some eight digits


def test_nodes_are_those_of_the_graphs() -> None:
    side = built("sines_100")
    side.step()
    traced, adjoint = side.nodes()
    assert traced == 2  # sin, sum
    assert adjoint > traced


def test_random_programs_are_chosen_by_the_seed() -> None:
    values = [float(drawn(seed, 20)(np, arrays())) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("name", VALUES)
def test_kinds_of_calls_give_what_numpy_gives(name: str) -> None:
    call = KINDS[name]
    positional, named = call.given()
    assert set(named) == set(call.keywords)
    wanted, found = call.of(np)(*positional, **named), built(name).step()
    assert type(found) is type(wanted)
    for one, other in zip(leaves(found), leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_kinds_of_calls_with_gradients() -> None:
    a, b = (KINDS["argnums"].arguments[name] for name in "ab")
    value, gradients = built("argnums").step()
    assert value == pytest.approx(a @ b)
    assert [g.tolist() for g in gradients] == [b.tolist(), a.tolist()]
    optimize = pytest.importorskip("scipy.optimize")
    x = KINDS["minimize"].arguments["x"]
    value, gradient = built("minimize").step()
    assert value == pytest.approx(optimize.rosen(x))
    np.testing.assert_allclose(gradient, optimize.rosen_der(x), rtol=1e-13)  # sums in another order


@pytest.mark.parametrize("name", ["adam_step", "batch_step"])
def test_steps_are_those_by_hand(name: str) -> None:
    problem = (START | CALLS)[name]()
    params = by_hand.copied(problem.params)
    update = by_hand.updater(problem.optimizer, problem.hyper["learning_rate"], leaves(params))
    wanted, found, side = [], [], built(name)
    for _ in range(4):
        value, gradients = by_hand.mse_network(params, *problem.data.values())
        update(leaves(gradients))
        wanted.append(float(value))
        found.append(sides.as_number(side.step()))
    assert same(wanted, found, problem.tolerance)
    assert found[-1] < found[0]


def test_every_row_is_described() -> None:
    assert set(START_MEANING) == set(START)
    assert set(CALLS_MEANING) == set(CALLS)


def test_observed_sees_every_array_of_a_result() -> None:
    one, other = np.arange(3.0), np.ones(2)
    assert sides.observed({"a": one, "b": other}) != sides.observed({"a": one, "b": -other})
    assert sides.observed([one, other]) != sides.observed([one[::-1], other])
    assert sides.observed(one) != sides.observed(one[::-1])
    assert sides.observed(np.float64(2)) == [2.0]
    assert sides.observed((2.0, [np.float64(3)])) != sides.observed((2.0, [np.float64(-3)]))


def test_a_first_call_is_measured_without_and_with_a_cache() -> None:
    row = measure.measure_first_calls("sines_100", 1, ["adjit"], Settings(processes=1))
    ours = row.sides["adjit"]
    assert not ours.none
    assert ours.nodes[0] == 2
    assert ours.values == ours.cached_values
    assert row.disagreeing() == []


def test_nobody_waits_for_what_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PATIENCE", 0.001)
    monkeypatch.setattr(measure, "LOSSES", 10**9)  # so many steps end by no other way
    row = measure.measure_first_calls("sines_100", 1, ["adjit"], Settings(processes=2))
    assert row.sides["adjit"].slow == 0.001
    assert report(row).faults() == ["sines_100, 1 thread: adjit failed: too slow"]


def test_a_call_is_measured_beside_its_unit() -> None:
    row = measure.measure_row("keyword", 1, ["adjit"], Settings(blocks=3, seconds=0.01))
    assert row.unit is not None
    assert row.unit.step is not None
    assert len(row.unit.step.blocks) == 3
    assert row.disagreeing() == []
    assert row.in_units("adjit") is not None


OURS = Measured(
    [2.0], imported=0.1, imported_cpu=0.09, cold=0.3, cold_cpu=0.2, cached_values=[2.0], warm=0.03, warm_cpu=0.02,
    counting=0.4, nodes=(12, 40), step=Rates((2e6,) * 3),
)  # fmt: skip


def row(workload: str, jax: Measured, unit: Measured | None = None) -> Row:
    return Row(workload, 2, 1e-9, 0.0, 0.0, True, {"adjit": OURS, "jax": jax, "autograd": Measured([2.0])}, None, unit)


def report(*rows: Row, part: str = "start") -> Report:
    versions = {"adjit": "1.0", "numpy": "2.0", "jax": "3.0"}
    return Report(list(rows), {}, versions, [], "A machine", "2030-01-01", part=part)


def test_text_of_first_calls() -> None:
    jax = Measured([2.0], imported=0.3, imported_cpu=0.2, cold=1.25, cold_cpu=1.0, warm=0.5, warm_cpu=0.4)
    text = parts.start_text(report(row("rk4_20", jax), row("rk4_40", Measured(slow=20.0))))
    assert text.startswith("# First calls\n\nWritten by `python -m benchmarks --workloads start` on 2030-01-01.")
    ours = "12 / 40 | 200 / 300 | 20.0 / 30.0"
    assert f"| rk4_20 | {ours} | 1,000 / 1,250 | 400 / 500 | – | 5.00 | 5,000 | 0.50 / 0.050 |" in text
    assert f"| rk4_40 | {ours} | > 20,000 | – | – | > 100 | 5,000 | 0.50 / 0.050 |" in text
    assert "| import, over NumPy's | – | 90.0 / 100 | – | 200 / 300 | – | – | – | – | – |" in text
    wrong = parts.start_text(report(row("rk4_20", Measured([2.1], cold=1.0, cold_cpu=1.0))))
    assert "| DISAGREE: jax |" in wrong
    failed = parts.start_text(report(row("rk4_20", Measured(failure="out of memory"))))
    assert "| failed | – |" in failed
    assert "- JAX on rk4_20: out of memory" in failed


def test_text_of_calls() -> None:
    jax, unit = Measured([2.0], step=Rates((1e5,) * 3)), Measured(step=Rates((4e6,) * 3))
    text = parts.calls_text(report(row("keyword", jax, unit), part="calls"))
    assert "| keyword | 0.500 ±0% | 10.0 ±0% | – | 0.250 | 2.00 | 40.0 | – | 20.0 |" in text
    wrong = parts.calls_text(report(row("keyword", Measured([1.0], step=Rates((1e5,) * 3)), unit), part="calls"))
    assert "| DISAGREE: jax |" in wrong


def run(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The command, with rows that nobody measured."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--threads", "1", *arguments])
    monkeypatch.setattr(command, "installed", lambda names, settings: ({"adjit": "1.0"}, ["jax", "autograd"]))
    monkeypatch.setattr(
        command,
        "measure_part",
        lambda part, names, threads, sides, settings, found: found.rows.append(row(names[0], OURS)),
    )
    return command.main()


def test_a_part_writes_its_own_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some-calls.md"
    path.write_text("Out of date\n\n<!-- notes -->\n\nBy hand.\n", encoding="utf-8")
    assert run(["--workloads", "start,calls", "--output", str(tmp_path / "some.md")], monkeypatch) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["some-calls.md", "some-start.md"]
    assert (tmp_path / "some-start.md").read_text(encoding="utf-8").startswith("# First calls\n")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Calls by kind of argument\n")
    assert "Left out: jax, not installed, autograd, not installed." in text
    assert text.endswith("\n<!-- notes -->\n\nBy hand.\n")


def test_one_row_of_a_part_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "OUTPUTS", {"": tmp_path / "some.md"})
    assert run(["--workloads", "keyword"], monkeypatch) == 0
    assert list(tmp_path.iterdir()) == []
    assert "| keyword | 0.500 ±0% |" in capsys.readouterr().out
