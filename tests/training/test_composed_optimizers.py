"""Groups, averages and accumulation: each is what plain optimisers, or a larger batch, would have made of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

import adjit
from adjit import nn, optim
from adjit.optim import schedule
from tests.training.optimizer_cases import FALLBACK, STEPS, agrees_with_its_graph, loss, parameters, slopes

RTOL = 1e-12  # sums in another order, and fused products


def close(found: Any, wanted: Any, rtol: float = RTOL) -> None:
    for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(wanted), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def trained(step: adjit.TrainingStep, steps: int = STEPS, start: Any = None) -> adjit.State:
    state = step.init(parameters() if start is None else start)
    for slope in slopes()[:steps]:
        step(state, slope)
    return state


def only(names: str) -> dict[str, np.ndarray]:
    return {name: parameters()[name] for name in names.split()}


def alone(optimizer: optim.Optimizer, names: str, **named: Any) -> Any:
    """What an optimiser makes of some of the parameters."""
    return trained(adjit.training_step(loss, optimizer, **named), start=only(names)).params


# -- groups -----------------------------------------------------------------------------------------------------------

GROUPS: dict[str, Any] = {
    "wide": {"learning_rate": 0.2},
    "*e": {"b1": 0.5, "learning_rate": schedule.exponential(0.1, 0.9)},
    "r?w": optim.sgd(0.1, momentum=0.9),
    "number": None,
    "tal[kl]": optim.muon(0.02, fallback=FALLBACK),
}


def test_each_group_is_as_if_it_were_alone() -> None:
    step = adjit.training_step(loss, optim.groups(optim.adam(0.05), GROUPS))
    state = trained(step)
    wanted = {
        "wide": alone(optim.adam(0.2), "wide"),
        "one": alone(optim.adam(schedule.exponential(0.1, 0.9), b1=0.5), "one"),
        "row": alone(optim.sgd(0.1, momentum=0.9), "row"),
        "number": only("number"),
        "tall": alone(optim.muon(0.02, fallback=FALLBACK), "tall"),
        "kernel": alone(optim.adam(0.05), "kernel"),
    }
    for name, params in wanted.items():
        close(state.params[name], params[name])
    assert sorted(state.optimizer["row"]) == ["v"]
    assert dict(state.optimizer["number"]) == {}


def test_numbers_of_groups_are_in_the_state() -> None:
    base = optim.adam(0.05)
    step = adjit.training_step(loss, optim.groups(base, GROUPS))
    state = trained(step, 4)
    own = state.hyper["groups"]
    assert sorted(own) == ["*e", "r?w", "tal[kl]", "wide"]
    assert own["wide"].copy() == {"learning_rate": 0.2}
    assert own["*e"].copy() == {"b1": 0.5, "learning_rate": {"initial": 0.1, "rate": 0.9, "every": 1.0}}
    assert own["tal[kl]"]["fallback"]["b1"] == 0.9
    assert state.shared["groups.*e.b1_product"] == 0.5**4
    # What a group does not say is the optimiser's, whenever that changes.
    state.hyper["b2"], own["wide"]["learning_rate"] = 0.9, 0.0
    before = {name: array.copy() for name, array in state.params.items()}
    moments = state.optimizer["wide"]["v"].copy()
    slope = slopes()[4]
    step(state, slope)
    close(state.params["wide"], before["wide"])
    gradient = slope["wide"] + 0.2 * before["wide"]
    close(state.optimizer["wide"]["v"], 0.9 * moments + 0.1 * gradient**2)
    close(state.params["number"], parameters()["number"])
    with pytest.raises(adjit.ArgumentError, match=r"no hyper-parameter groups\.wide\.b1; there are learning_rate"):
        own["wide"]["b1"] = 0.5


def test_what_is_off_in_a_group_says_so() -> None:
    step = adjit.training_step(loss, optim.groups(optim.adam(0.1), {"row": optim.sgd(0.1)}))
    with pytest.raises(adjit.StateError, match=r"groups\.row\.momentum cannot be set: it was switched off"):
        step.init(parameters()).hyper["groups"]["row"]["momentum"] = 0.5


def test_frozen_gradients_count_for_no_clipping() -> None:
    optimizer = optim.groups(optim.sgd(0.1), {"w*": None, "kernel": None})
    state = trained(adjit.training_step(loss, optimizer, clip_norm=0.3, weight_decay=0.1, clip_value=0.2))
    wanted = alone(optim.sgd(0.1), "number one row tall", clip_norm=0.3, weight_decay=0.1, clip_value=0.2)
    for name, array in parameters().items():
        close(state.params[name], wanted.get(name, array))
    frozen = adjit.training_step(loss, optim.groups(optim.sgd(0.1), {"*": None}), clip_norm=0.3)
    close(trained(frozen).params, parameters())


def test_frozen_parameters_have_no_gradient() -> None:
    def model(p: Any, x: Any) -> Any:
        return np.sum(np.tanh(x @ p["a"]) @ p["b"])

    step = adjit.training_step(model, optim.groups(optim.sgd(0.1), {"a": None}))
    params = {"a": np.ones((8, 8)), "b": np.ones((8, 3))}
    text = str(step.ir("plan", step.init(params), np.ones((8, 8))))
    # Two of the forward pass, one for the gradient of b.
    assert text.count("product m=") + text.count("small product") <= 3
    assert "-> %params.a[" not in text


def test_names_of_leaves_in_containers() -> None:
    params = {"layers": [{"w": np.ones(2), "b": np.ones(2)}, {"w": np.ones(2), "b": np.ones(2)}]}
    step = adjit.training_step(
        lambda p: sum(np.sum(leaf) for leaf in optree.tree_leaves(p)),
        optim.groups(optim.sgd(0.5), {"layers.0.*": None, "*.b": {"learning_rate": 0.25}}),
    )
    state = step.init(params)
    step(state)
    found = optree.tree_map(lambda leaf: float(leaf[0]), state.params)
    assert optree.tree_leaves(found) == [1.0, 1.0, 0.75, 0.5]
    single = adjit.training_step(np.sum, optim.groups(optim.sgd(0.5), {"params": None}))
    state = single.init(np.ones(2))
    single(state)
    assert state.params.tolist() == [1.0, 1.0]


def test_masks_of_groups_and_fallbacks() -> None:
    def chosen(params: Any) -> Any:
        return {name: name in ("row", "one") for name in params}

    decayed = optim.adamw(0.05, weight_decay=0.5, mask=chosen)
    optimizer = optim.groups(optim.muon(0.02, fallback=decayed), {"*e": decayed, "n*": {"learning_rate": 0.1}})
    found = trained(adjit.training_step(loss, optimizer)).params
    plain, whole = optim.adamw(0.05, weight_decay=None), optim.adamw(0.05, weight_decay=0.5)
    for name, wanted in {"row": whole, "one": whole, "wide": plain, "number": plain}.items():
        close(found[name], alone(wanted, name)[name])


@pytest.mark.parametrize(("patterns", "text"), [
    ({}, "patterns is a dict"), ([("a", None)], "patterns is a dict"), ({1: None}, "a pattern is a str"),
    ({"a": 0.1}, "stands for an optimiser"), ({"a": {"lr": 0.1}}, "'lr' is none"),
    ({"a": {"weight_decay": 0.1}}, "'weight_decay' is none"), ({"a": {"learning_rate": -1.0}}, "learning_rate"),
    ({"a": {"learning_rate": None}}, "give a name and a number"), ({"a": {"b1": 1.0}}, "b1 is a number >= 0 and < 1"),
    ({"a": {"learning_rate": {"peak": 1.0}}}, "learning_rate is"), ({"a": optim.ema(optim.sgd(0.1))}, "sgd with ema"),
    ({"a": optim.accumulate(optim.sgd(0.1), 2)}, "sgd with accumulate"),
])  # fmt: skip
def test_settings_that_mean_nothing(patterns: Any, text: str) -> None:
    with pytest.raises(adjit.ArgumentError, match=text):
        optim.groups(optim.adam(0.1), patterns)


def test_compositions_that_mean_nothing() -> None:
    base = optim.sgd(0.1)
    with pytest.raises(adjit.ArgumentError, match="one groups"):
        optim.groups(optim.groups(base, {"a": None}), {"b": None})
    with pytest.raises(adjit.ArgumentError, match="an average is kept already"):
        optim.ema(optim.ema(base))
    with pytest.raises(adjit.ArgumentError, match="accumulates already"):
        optim.accumulate(optim.accumulate(base, 2), 2)
    with pytest.raises(adjit.ArgumentError, match="fallback is sgd with ema"):
        optim.muon(fallback=optim.ema(base))
    with pytest.raises(adjit.ArgumentError, match="'momentum' is switched off"):
        optim.groups(base, {"a": {"momentum": 0.9}})
    step = adjit.training_step(loss, optim.groups(base, {"rows": None, "row": None}))
    with pytest.raises(adjit.ArgumentError, match="the pattern 'rows' matches no parameter; there are kernel, number"):
        step.init(parameters())
    with pytest.raises(adjit.ArgumentError, match="adamw has a weight_decay of its own"):
        adjit.training_step(loss, optim.groups(base, {"row": optim.adamw(0.1)}), weight_decay=0.1)
    with pytest.raises(adjit.ArgumentError, match="loss is a name that steps have"):
        optim.Optimizer("own", {"loss": 1.0}, lambda p: {}, lambda g, k, p, h, t: (p, k))


# -- averages ---------------------------------------------------------------------------------------------------------


def test_averages_of_parameters() -> None:
    plain = adjit.training_step(loss, optim.adam(0.05), weight_decay=0.1)
    step = adjit.training_step(loss, optim.ema(optim.adam(0.05), decay=0.8), weight_decay=0.1)
    state, other = step.init(parameters()), plain.init(parameters())
    mean, decay = parameters(), 0.8
    for number, slope in enumerate(slopes()):
        if number == 6:
            decay = state.hyper["average_decay"] = 0.5
        step(state, slope)
        plain(other, slope)
        mean = {name: decay * array + (1 - decay) * other.params[name] for name, array in mean.items()}
        close(optim.averaged(state), mean)
    close(state.params, other.params)
    assert optim.averaged(state)["row"].base is not None, "views, no copies"


def test_the_mean_of_all_steps() -> None:
    rate = schedule.Schedule("uniform", {}, lambda n, count: count / (count + 1.0))
    step = adjit.training_step(loss, optim.ema(optim.sgd(0.1), rate))
    state, seen = step.init(parameters()), []
    for slope in slopes():
        step(state, slope)
        seen.append(optree.tree_map(np.array, state.params))
    close(optim.averaged(state), optree.tree_map(lambda *arrays: np.mean(arrays, axis=0), *seen))


def test_what_has_no_average() -> None:
    step = adjit.training_step(loss, optim.accumulate(optim.sgd(0.1), 2))
    state = step.init(parameters())
    with pytest.raises(adjit.ArgumentError, match="keeps no average"):
        optim.averaged(state)
    with pytest.raises(adjit.ArgumentError, match="state is the state of a step"):
        optim.averaged({"w": 1.0})
    state.close()
    with pytest.raises(adjit.StateError, match="closed"):
        optim.averaged(state)


# -- accumulation -----------------------------------------------------------------------------------------------------


def fit(p: Any, x: Any, y: Any) -> Any:
    return np.mean((np.tanh(x @ p["w"] + p["b"]) - y) ** 2)


RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(48, 5)), RNG.normal(size=(48, 3))
START = {"w": RNG.normal(size=(5, 3)), "b": np.zeros(3)}
RATE = schedule.warm_up(schedule.cosine(0.3, steps=4), steps=2)
MANY: dict[str, Any] = {
    "sgd": (lambda: optim.sgd(0.3, momentum=0.9), {}),
    "clipped": (lambda: optim.adam(RATE), {"clip_norm": 0.05, "l2": 0.1, "weight_decay": 0.1}),
    "values": (lambda: optim.ema(optim.nadam(0.1), 0.7), {"clip_value": 0.01, "l1": 0.1}),
    "plateau": (lambda: optim.sgd(schedule.plateau(0.3, factor=0.5, patience=0, threshold=0.5)), {}),
    "muon": (lambda: optim.muon(0.1), {}),
    "groups": (lambda: optim.groups(optim.radam(0.1), {"b": optim.rprop(0.1)}), {}),
}


@pytest.mark.parametrize("name", MANY)
def test_batches_accumulate_to_a_larger_one(name: str) -> None:
    make, named = MANY[name]
    whole = adjit.training_step(fit, make(), **named)
    parts = adjit.training_step(fit, optim.accumulate(make(), 3), **named)
    state, other = parts.init(START), whole.init(START)
    for count in range(12):
        at = slice(4 * count, 4 * count + 4)
        before = optree.tree_map(np.array, state.params)
        parts(state, X[at], Y[at])
        if count % 3 < 2:
            close(state.params, before, 0.0)
            continue
        rows = slice(4 * count - 8, 4 * count + 4)
        whole(other, X[rows], Y[rows])
        close(state.params, other.params, 1e-9)  # as many sums in another order
        close({k: v for k, v in state.shared.items() if k != "accumulated_loss"}, dict(other.shared), 1e-9)
        assert state.shared["accumulated_loss"] == 0.0
        for key in ("w", "b"):
            assert not state.optimizer[key]["sum"].any()
    assert (state.step, other.step) == (12, 4)
    if name == "values":
        close(optim.averaged(state), optim.averaged(other), 1e-9)


def test_sums_in_place_of_means() -> None:
    mean = adjit.training_step(fit, optim.accumulate(optim.sgd(0.3), 3))
    total = adjit.training_step(fit, optim.accumulate(optim.sgd(0.1), 3, mean=False))
    found = []
    for step in (mean, total):
        state = step.init(START)
        step.run(state, (X, Y), batch_size=8, shuffle=False)
        found.append(state.params)
    close(*found)


def test_frozen_parameters_are_not_summed_up() -> None:
    step = adjit.training_step(fit, optim.accumulate(optim.groups(optim.sgd(0.3), {"b": None}), 2), clip_norm=0.1)
    state = step.init(START)
    for _ in range(4):
        step(state, X, Y)
    assert sorted(state.optimizer["b"]) == ["kept"]
    assert not state.params["b"].any()
    assert not np.allclose(state.params["w"], START["w"])


def test_between_moves_nothing_but_sums_changes() -> None:
    step = adjit.training_step(fit, optim.accumulate(optim.adam(0.1), 4))
    x, y = np.ones((16, 64)), np.ones((16, 48))
    state = step.init({"w": np.ones((64, 48)), "b": np.ones(48)})
    text = str(step.ir("plan", state, x, y))
    # One branch writes all of the state where it lies, with no copies ahead of it or after it.
    before, _, branch = text.partition("1 turns counted on %params.b %params.w %optimizer.b.kept.m")
    assert branch
    assert "load %params.w" not in before
    assert "load %optimizer.w.kept" not in text
    assert not any(line.startswith("kernel") for line in branch.splitlines())


# -- all together -----------------------------------------------------------------------------------------------------

WHOLE: dict[str, Any] = {
    "groups": lambda n: optim.groups(
        optim.adam(n([0.05, 0.1, 0.2])), {"row": {"b1": n([0.5, 0.8, 0.9])}, "wide": optim.lion(0.01), "one": None}
    ),
    "ema": lambda n: optim.ema(optim.lamb(n([0.05, 0.1, 0.2])), n([0.5, 0.8, 0.9])),
    "accumulate": lambda n: optim.accumulate(optim.nadam(n([0.05, 0.1, 0.2])), 2),
    "all": lambda n: optim.accumulate(
        optim.ema(optim.groups(optim.muon(n([0.05, 0.1, 0.2])), {"row": {"fallback": {"b1": n([0.5, 0.8, 0.9])}}})), 3
    ),
    "plateau": lambda n: optim.adafactor(schedule.plateau(n([0.05, 0.1, 0.2]), patience=n([0.0, 1.0, 2.0]))),
    "one_cycle": lambda n: optim.radam(schedule.one_cycle(n([0.05, 0.1, 0.2]), steps=9), weight_decay=0.1),
    "restarts": lambda n: optim.adadelta(schedule.restarts(n([0.5, 1.0, 2.0]), steps=n([2.0, 3.0, 4.0]))),
    "piecewise": lambda n: optim.rprop(schedule.piecewise([n([0.05, 0.1, 0.2]), 0.01], [n([2.0, 3.0, 4.0])])),
}


@pytest.mark.parametrize("name", WHOLE)
def test_many_models_are_what_each_is_alone(name: str) -> None:
    starts = [optree.tree_map(lambda leaf, k=k: leaf * (1 + 0.1 * k), parameters()) for k in range(3)]
    many = adjit.vmap(adjit.training_step(loss, WHOLE[name](np.array), clip_norm=2.0), in_axes=(0, None))
    state = many.init(optree.tree_map(lambda *leaves: np.stack(leaves), *starts))
    for slope in slopes()[:7]:
        many(state, slope)
    for k, start in enumerate(starts):
        step = adjit.training_step(loss, WHOLE[name](lambda numbers, k=k: float(numbers[k])), clip_norm=2.0)
        one = trained(step, 7, start)
        for part in ("params", "optimizer", "shared"):
            found = optree.tree_map(lambda leaf, k=k: leaf[k], getattr(state, part))
            close(optree.tree_leaves(found), optree.tree_leaves(getattr(one, part)), 1e-9)  # in another order
        if name == "ema":
            close(optree.tree_map(lambda leaf, k=k: leaf[k], optim.averaged(state)), optim.averaged(one), 1e-9)


@pytest.mark.parametrize("name", WHOLE)
def test_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    step = adjit.training_step(loss, WHOLE[name](lambda numbers: numbers[1]))
    state = trained(step, 4)
    adjit.save(tmp_path / "state.safetensors", state)
    others = [adjit.load(tmp_path / "state.safetensors"), copy.copy(state)]
    for slope in slopes()[4:9]:
        losses = {step(each, slope) for each in (state, *others)}
        assert len(losses) == 1
    for other in others:
        for a, b in zip(state.leaves(), other.leaves(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert other.hyper.copy() == state.hyper.copy()
    agrees_with_its_graph(step, state, slopes()[9])


# -- branches that write the state ------------------------------------------------------------------------------------

SIZE = 300


def stepping(update: Any) -> tuple[adjit.TrainingStep, adjit.State]:
    own = optim.Optimizer("own", {}, lambda p: {"m": np.ones_like(p)}, update)
    step = adjit.training_step(lambda p, x: np.sum(p["w"] * x), own)
    return step, step.init({"w": np.arange(SIZE, dtype=np.float64)})


@pytest.mark.parametrize("captured", [True, False])
def test_a_branch_may_read_what_it_writes(captured: bool) -> None:
    def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        def turned(q: Any, m: Any) -> Any:
            return q - 0.5 * (p if captured else q)[::-1] * m + g, np.cumsum(m) / SIZE

        new, m = adjit.cond(t % 2 == 0, turned, lambda q, m: (q, m), p, kept["m"])
        return new, {"m": m}

    step, state = stepping(update)
    x = np.linspace(-1, 1, SIZE)
    w, m = np.arange(SIZE, dtype=np.float64), np.ones(SIZE)
    for t in range(1, 7):
        step(state, x)
        if t % 2 == 0:
            w, m = w - 0.5 * w[::-1] * m + x, np.cumsum(m) / SIZE
        close(state.params["w"], w)
        close(state.optimizer["w"]["m"], m)


def test_a_branch_that_fails_has_written_nothing() -> None:
    def update(g: Any, kept: Any, p: Any, h: Any, t: Any) -> Any:
        def moved(q: Any, m: Any) -> Any:
            return q - g * m[t * (SIZE // 4)], m + g

        new, m = adjit.cond(t >= 2, moved, lambda q, m: (q, m), p, kept["m"])
        return new, {"m": m}

    step, state = stepping(update)
    x = np.linspace(-1, 1, SIZE)
    for _ in range(3):
        step(state, x)
    before = state.leaves()
    with pytest.raises(adjit.IndexOutOfRange):
        step(state, x)
    for a, b in zip(state.leaves(), before, strict=True):
        np.testing.assert_array_equal(a, b)


# -- rows of tables ---------------------------------------------------------------------------------------------------


def test_tables_in_groups_are_updated_row_by_row() -> None:
    def looked_up(sparse: bool) -> Any:
        def model(p: Any, ids: Any) -> Any:
            return np.mean((nn.embedding(p["table"], ids, sparse=sparse) @ p["w"]) ** 2)

        return model

    rng = np.random.default_rng(2)
    start, ids = {"table": rng.normal(size=(50, 4)), "w": rng.normal(size=(4, 3))}, np.array([3, 7, 3, 49])
    for own in (optim.sgd(0.1), optim.adagrad(0.1), None):
        optimizer = optim.groups(optim.adam(0.1), {"table": own})
        states = []
        for sparse in (True, False):
            step = adjit.training_step(looked_up(sparse), optimizer, clip_norm=0.5)
            states.append(step.init(start))
            for k in range(4):
                step(states[-1], ids + k % 2 - 1)
        close(states[0].leaves(), states[1].leaves())
    for optimizer, text in (
        (optim.ema(optim.sgd(0.1)), "sgd, ema around it, with what"),
        (optim.accumulate(optim.sgd(0.1), 2), "sgd, accumulate around it, with what"),
        (optim.groups(optim.sgd(0.1), {"t*": optim.lion(0.1)}), "lion with what it keeps"),
        (optim.sgd(0.1, weight_decay=0.1), "sgd with what it keeps"),
    ):
        step = adjit.training_step(looked_up(True), optimizer)
        with pytest.raises(adjit.ArgumentError, match=text):
            step(step.init(start), ids)
