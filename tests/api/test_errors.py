"""Whatever the public functions are given, what comes out is a result or an AdjitError that names the argument.

Every public function, class and method is walked with one good call of it, each argument in turn replaced by each of
many bad ones; a function without a good call fails the test, so a new one is covered."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sympy

import adjit
from adjit import nn, optim, random
from tests.api.models import data, loss, make_params

T = sympy.Symbol("t")


class Unhashable:
    """What has neither a hash nor a text."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no text")


RAGGED: list[Any] = [[1.0, 2.0], [3.0]]
BAD: dict[str, Any] = {
    "None": None, "True": True, "-1": -1, "1.5": 1.5, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"),
    "10**20": 10**20, "2**63": 2**63, "-2**70": -(2**70), "10**400": 10**400, "10**5000": 10**5000, "1j": 1j,
    "fraction": Fraction(1, 3), "float32": np.float32(0.5), "int8": np.int8(-3), "uint64": np.uint64(2**64 - 1),
    "float32 nan": np.float32("nan"), "bool_": np.bool_(True), "complex64": np.complex64(1j), "str": "x", "empty": "",
    "surrogate": "\udcff", "braces": "{x}%s", "bytes": b"x", "list": [], "ragged": RAGGED, "tuple": (1, 2), "dict": {},
    "dict of str": {"a": "b"}, "set": {1}, "object": object(), "unhashable": Unhashable(), "type": int,
    "function": lambda *_: None, "slice": slice(3), "ellipsis": ..., "array": np.arange(6.0).reshape(2, 3),
    "float16": np.ones(2, np.float16), "bool array": np.array([True]), "no rows": np.zeros((0, 3)),
    "huge and empty": np.zeros((0, 2**40)), "64 axes": np.zeros((1,) * 64), "str array": np.array(["a"]),
    "object array": np.array([None]), "0-d object": np.array(None), "dates": np.array(["2020-01-01"], "M8[D]"),
    "records": np.zeros(2, [("a", "f4")]), "complex array": np.ones(2, complex), "generator": (n for n in (1.5, 2)),
    "module": np,
}  # fmt: skip

X, Y = data(6)
LOGITS, LABELS, KEY = np.zeros((2, 3)), np.array([0, 2]), random.key(1)
IMAGE = np.ones((1, 2, 3, 3))
REDUCED: dict[str, Any] = {"reduction": "mean", "weights": 2.0}
DRAWN: dict[str, Any] = {"key": KEY, "dtype": np.float32}
GRAPH = "graph @f(%x: f32[2]) -> f32[2] { %0 = neg %x : f32[2] return %0 }"
STEP = adjit.training_step(loss, optim.sgd(0.1))
AVERAGING = adjit.training_step(loss, optim.ema(optim.sgd(0.1)))
ADAM = {"learning_rate": 0.1, "b1": 0.9, "b2": 0.9, "eps": 1e-8, "weight_decay": 0.1}
SQUARE = adjit.jit(lambda x: x * x)
SQUARE(np.ones(2))


def cube(x: Any) -> Any:
    return x**3


def squares(p: Any, x: Any) -> Any:
    return np.sum((p * x) ** 2)


def state() -> Any:
    return STEP.init(make_params())


Call = tuple[Callable[..., Any], dict[str, Any]]

# One good call of each public function, by the name under which users find it.
GOOD: dict[str, Callable[[], Call]] = {
    "jit": lambda: (adjit.jit, {
        "function": squares, "static_argnames": (), "static_argnums": (), "tile": "auto", "inexact": False,
        "control_flow": False, "memory_limit": None,
    }),
    **{
        name: lambda name=name: (getattr(adjit, name), {  # type: ignore[misc]
            "function": squares, "argnums": 0, "has_aux": False, "static_argnames": (), "static_argnums": (),
            "tile": "auto", "inexact": False, "control_flow": False, "memory_limit": None,
        })
        for name in ("grad", "value_and_grad")
    },
    **{
        name: lambda name=name: (getattr(adjit, name), {  # type: ignore[misc]
            "function": squares, "argnums": 0, "has_aux": False, "static_argnames": (), "static_argnums": (),
            "tile": "auto", "inexact": False, "memory_limit": None,
        })
        for name in (
            "jacfwd", "jacrev", "jacobian", "hessian", "elementwise_grad", "sparse_jacobian",
            "sparse_hessian",
        )
    },
    "pattern": lambda: (
        lambda function, argnums: adjit.pattern(function, np.ones(2), argnums=argnums),
        {"function": cube, "argnums": 0},
    ),
    "hvp": lambda: (adjit.hvp, {
        "function": squares, "static_argnames": (), "static_argnums": (), "tile": "auto", "inexact": False,
        "memory_limit": None,
    }),
    "jvp": lambda: (adjit.jvp, {
        "function": cube, "primals": (np.ones(2),), "tangents": (np.ones(2),), "has_aux": False,
    }),
    **{
        name: lambda name=name: (  # type: ignore[misc]
            lambda function, has_aux: getattr(adjit, name)(function, np.ones(2), has_aux=has_aux),
            {"function": cube, "has_aux": False},
        )
        for name in ("vjp", "linearize")
    },
    "vmap": lambda: (adjit.vmap, {
        "function": squares, "in_axes": 0, "out_axes": 0, "chunk": None, "static_argnames": (), "static_argnums": (),
        "tile": "auto", "inexact": False, "memory_limit": None,
    }),
    "from_sympy": lambda: (adjit.from_sympy, {
        "args": [T], "expressions": sympy.sin(T), "wrt": None, "name": "formula",
    }),
    "symbolic": lambda: (adjit.symbolic, {"f": lambda x: x * x}),
    "check_grads": lambda: (adjit.check_grads, {
        "function": cube, "args": (np.ones(2),), "order": 1, "modes": ("fwd",), "rtol": 1e-5, "atol": 1e-7,
        "step": 1e-4,
    }),
    "custom_rule": lambda: (adjit.custom_rule, {
        "function": cube, "jvp": lambda primals, tangents: (primals[0], tangents[0]), "vjp": lambda x: (x, cube),
    }),
    **{
        name: lambda name=name: (  # type: ignore[misc]
            lambda f, x0, max_steps, tol, check: getattr(adjit, name)(
                f, x0, 1.0, max_steps=max_steps, tol=tol, check=check
            ),
            {"f": lambda x, a: x, "x0": np.ones(2), "max_steps": 90, "tol": 1e-3, "check": True},
        )
        for name in ("root", "fixed_point")
    },
    "minimize": lambda: (adjit.minimize, {
        "f": lambda x: np.sum(adjit.ravel(x)[0] ** 2), "x0": np.ones(2), "max_steps": 9, "tol": 1e-3,
        "value_tol": 0.0, "history": 3, "max_trials": 5,
    }),
    "training_step": lambda: (adjit.training_step, {
        "loss": squares, "optimizer": optim.sgd(0.1), "has_aux": False, "state": False, "watch": None,
        "clip_norm": None, "clip_value": None, "weight_decay": None, "l1": None, "l2": None, "regularized": None,
        "static_argnames": (), "tile": "auto", "flush_subnormals": True, "inexact": False, "control_flow": False,
        "memory_limit": None,
    }),
    "parse": lambda: (adjit.parse, {"text": GRAPH, "constants": {}}),
    "evaluate": lambda: (
        lambda *, input, **options: adjit.evaluate(options.pop("graph"), input, **options),
        {"graph": adjit.parse(GRAPH), "input": np.ones(2, np.float32), "callback": None, "breakpoint": None,
         "on_break": lambda *_: None},
    ),
    "scan": lambda: (
        adjit.scan,
        {"f": lambda c, x: (c, x), "init": 0.0, "xs": np.ones(2), "length": 2, "reverse": True, "checkpoint": 1},
    ),
    "fori_loop": lambda: (
        adjit.fori_loop,
        {"lower": 0, "upper": 2, "body": lambda i, c: c, "init": 1.0, "max_steps": 2, "checkpoint": None},
    ),
    "checkpoint": lambda: (adjit.checkpoint, {"f": cube}),
    "while_loop": lambda: (
        adjit.while_loop,
        {"cond": lambda c: False, "body": lambda c: c, "init": 1.0, "max_steps": 2, "checkpoint": None},
    ),
    "cond": lambda: (adjit.cond, {"pred": True, "if_true": lambda: 1.0, "if_false": lambda: 2.0}),
    "switch": lambda: (adjit.switch, {"index": 0, "branches": [lambda: 1.0]}),
    "map": lambda: (adjit.map, {"f": lambda x: x, "xs": np.ones(2)}),
    "ravel": lambda: (adjit.ravel, {"tree": {"x": 1.0}}),
    "asarray": lambda: (adjit.asarray, {"x": 1.0}),
    "stop_gradient": lambda: (adjit.stop_gradient, {"x": 1.0}),
    "machine": lambda: (adjit.machine, {"remeasure": False}),
    "get_threads": lambda: (adjit.get_threads, {}),
    "random.key": lambda: (random.key, {"seed": 1}),
    "random.fold_in": lambda: (random.fold_in, {"key": KEY, "data": 1}),
    "random.split": lambda: (random.split, {"key": KEY, "count": 2}),
    "random.bits": lambda: (random.bits, {"key": KEY, "shape": (2,)}),
    "random.uniform": lambda: (
        random.uniform, {"key": KEY, "shape": (2,), "low": 0.0, "high": 2.0, "dtype": np.float32},
    ),
    "random.normal": lambda: (random.normal, {"key": KEY, "shape": (2,), "dtype": np.float32}),
    "random.bernoulli": lambda: (random.bernoulli, {"key": KEY, "probability": 0.5, "shape": (2,)}),
    "random.permutation": lambda: (random.permutation, {"key": KEY, "count": 3}),
    **{
        f"nn.{name}": lambda name=name: (getattr(nn, name), {"x": LOGITS})  # type: ignore[misc]
        for name in ("relu", "sigmoid", "tanh", "silu", "softplus")
    },
    "nn.leaky_relu": lambda: (nn.leaky_relu, {"x": LOGITS, "slope": 0.1}),
    "nn.elu": lambda: (nn.elu, {"x": LOGITS, "alpha": 0.1}),
    "nn.gelu": lambda: (nn.gelu, {"x": LOGITS, "approximate": False}),
    "nn.softmax": lambda: (nn.softmax, {"x": LOGITS, "axis": -1}),
    "nn.log_softmax": lambda: (nn.log_softmax, {"x": LOGITS, "axis": -1}),
    "nn.logsumexp": lambda: (nn.logsumexp, {"x": LOGITS, "axis": -1, "keepdims": False}),
    "nn.dropout": lambda: (nn.dropout, {"x": LOGITS, "rate": 0.5, "key": KEY}),
    "nn.conv": lambda: (
        nn.conv,
        {"x": IMAGE, "w": np.ones((2, 2, 2, 2)), "stride": 1, "padding": 1, "dilation": 1, "groups": 1,
         "layout": "NCHW"},
    ),
    "nn.conv_transpose": lambda: (
        nn.conv_transpose,
        {"x": IMAGE, "w": np.ones((2, 2, 2, 2)), "stride": 2, "padding": 1, "dilation": 1, "groups": 1,
         "layout": "NCHW", "extra": 1},
    ),
    "nn.max_pool": lambda: (
        nn.max_pool, {"x": IMAGE, "size": 2, "stride": 1, "padding": 1, "dilation": 1, "layout": "NCHW"},
    ),
    "nn.avg_pool": lambda: (
        nn.avg_pool, {"x": IMAGE, "size": 2, "stride": 1, "padding": 1, "count_padding": False, "layout": "NCHW"},
    ),
    "nn.global_avg_pool": lambda: (nn.global_avg_pool, {"x": IMAGE, "layout": "NCHW"}),
    "nn.adaptive_avg_pool": lambda: (nn.adaptive_avg_pool, {"x": IMAGE, "size": 2, "layout": "NCHW"}),
    "nn.resize": lambda: (nn.resize, {"x": IMAGE, "size": 2, "method": "nearest", "layout": "NCHW"}),
    "nn.mse": lambda: (nn.mse, {"prediction": LOGITS, "target": LOGITS, **REDUCED}),
    "nn.mae": lambda: (nn.mae, {"prediction": LOGITS, "target": LOGITS, **REDUCED}),
    "nn.huber": lambda: (nn.huber, {"prediction": LOGITS, "target": LOGITS, "delta": 1.0, **REDUCED}),
    "nn.hinge": lambda: (nn.hinge, {"scores": LOGITS, "targets": LOGITS, **REDUCED}),
    "nn.kl_divergence": lambda: (nn.kl_divergence, {
        "log_predictions": LOGITS, "targets": LOGITS, "axis": -1, "log_targets": False, **REDUCED,
    }),
    "nn.cosine_similarity": lambda: (nn.cosine_similarity, {"a": LOGITS, "b": LOGITS, "axis": -1}),
    "nn.cosine_loss": lambda: (nn.cosine_loss, {
        "prediction": LOGITS, "target": LOGITS, "labels": np.array([1, -1]), "axis": -1, "margin": 0.1, **REDUCED,
    }),
    "nn.triplet": lambda: (nn.triplet, {
        "anchor": LOGITS, "positive": LOGITS, "negative": LOGITS, "margin": 1.0, "swap": False, "distance": None,
        **REDUCED,
    }),
    "nn.binary_cross_entropy_with_logits": lambda: (nn.binary_cross_entropy_with_logits, {
        "logits": LOGITS, "targets": LOGITS, "label_smoothing": 0.1, "positive_weight": 2.0, **REDUCED,
    }),
    "nn.focal": lambda: (nn.focal, {"logits": LOGITS, "targets": LOGITS, "gamma": 2.0, "alpha": 0.25, **REDUCED}),
    "nn.cross_entropy": lambda: (nn.cross_entropy, {
        "logits": LOGITS, "targets": LABELS, "axis": -1, "label_smoothing": 0.1, "class_weights": np.ones(3),
        "ignore": -1, **REDUCED,
    }),
    "nn.cross_entropy_with_labels": lambda: (nn.cross_entropy_with_labels, {
        "logits": LOGITS, "labels": LABELS, "axis": -1, "label_smoothing": 0.1, "class_weights": np.ones(3),
        "ignore": -1, **REDUCED,
    }),
    "nn.cross_entropy_with_probabilities": lambda: (nn.cross_entropy_with_probabilities, {
        "logits": LOGITS, "probabilities": LOGITS, "axis": -1, "label_smoothing": 0.1, "class_weights": np.ones(3),
        **REDUCED,
    }),
    "nn.ctc": lambda: (nn.ctc, {
        "logits": np.zeros((2, 2, 4)), "labels": np.array([[1, 2], [3, 3]]), "logit_lengths": np.array([2, 2]),
        "label_lengths": np.array([2, 1]), "blank": 0, "batch_first": False, "zero_infinity": False, **REDUCED,
    }),
    "nn.dense": lambda: (nn.dense, {"params": nn.init.dense(3, 2, key=KEY), "x": LOGITS}),
    "nn.embedding": lambda: (nn.embedding, {"table": LOGITS, "ids": np.array([1, 0]), "sparse": False}),
    "nn.top_k": lambda: (nn.top_k, {"x": LOGITS, "k": 2, "axis": -1, "largest": True}),
    "nn.unique": lambda: (nn.unique, {
        "x": LOGITS, "size": 3, "fill_value": 1.0, "return_index": True, "return_inverse": True,
        "return_counts": True,
    }),
    "nn.one_hot": lambda: (nn.one_hot, {"ids": np.array([1, 0]), "classes": 2, "axis": -1, "dtype": np.float32}),
    **{
        f"nn.segment_{name}": lambda name=name: (getattr(nn, f"segment_{name}"), {  # type: ignore[misc]
            "x": LOGITS, "ids": np.arange(len(LOGITS)), "num_segments": 9,
        })
        for name in ("sum", "mean", "max", "min")
    },
    "nn.residual": lambda: (
        nn.residual, {"f": np.tanh, "x": LOGITS},
    ),
    "nn.layer_norm": lambda: (nn.layer_norm, {
        "x": LOGITS, "scale": np.ones(3), "bias": np.ones(3), "axis": -1, "eps": 1e-5,
    }),
    "nn.rms_norm": lambda: (nn.rms_norm, {"x": LOGITS, "scale": np.ones(3), "axis": -1, "eps": 1e-5}),
    "nn.group_norm": lambda: (nn.group_norm, {
        "x": np.zeros((2, 4, 3)), "groups": 2, "scale": np.ones(4), "bias": np.ones(4), "axis": 1, "eps": 1e-5,
    }),
    "nn.instance_norm": lambda: (nn.instance_norm, {
        "x": np.zeros((2, 4, 3)), "scale": np.ones(4), "bias": np.ones(4), "axis": 1, "eps": 1e-5,
    }),
    "nn.batch_norm": lambda: (nn.batch_norm, {
        "x": LOGITS, "running": {"mean": np.zeros(3), "var": np.ones(3)}, "scale": np.ones(3), "bias": np.ones(3),
        "training": True, "momentum": 0.1, "axis": 1, "eps": 1e-5,
    }),
    "nn.weight_norm": lambda: (nn.weight_norm, {"v": LOGITS, "g": np.ones(3), "axis": -1}),
    "nn.spectral_norm": lambda: (nn.spectral_norm, {
        "w": LOGITS, "u": np.ones(3), "steps": 1, "axis": -1, "eps": 1e-12,
    }),
    "nn.attention": lambda: (nn.attention, {
        "q": np.zeros((2, 3, 4)), "k": np.zeros((1, 3, 4)), "v": np.zeros((1, 3, 2)), "mask": np.ones((3, 5), bool),
        "bias": np.zeros(5), "causal": False, "scale": 0.5, "dropout": 0.5, "key": KEY,
        "cache": {"keys": np.zeros((1, 5, 4)), "values": np.zeros((1, 5, 2))}, "position": 1,
    }),
    "nn.multi_head_attention": lambda: (nn.multi_head_attention, {
        "params": nn.init.multi_head_attention(4, 2, key=KEY), "q": np.zeros((3, 4)), "k": np.zeros((3, 4)),
        "v": np.zeros((3, 4)), "heads": 2, "mask": np.ones((3, 5), bool), "bias": np.zeros(5), "causal": False,
        "scale": 0.5, "dropout": 0.5, "key": KEY, "cache": nn.init.attention_cache(4, 2, 5, dtype=np.float64),
        "position": 1,
    }),
    "nn.transformer_block": lambda: (nn.transformer_block, {
        "params": nn.init.transformer_block(4, 2, key=KEY), "x": np.zeros((3, 4)), "heads": 2,
        "mask": np.ones((3, 5), bool), "bias": np.zeros(5), "causal": False, "dropout": 0.5, "key": KEY,
        "cache": nn.init.attention_cache(4, 2, 5, dtype=np.float64), "position": 1,
        "activation": nn.relu, "norm": nn.layer_norm, "norm_first": True,
    }),
    **{
        f"nn.{name}": lambda name=name: (getattr(nn, name), {  # type: ignore[misc]
            "params": getattr(nn.init, name)(3, 2, key=KEY), "x": np.zeros((1, 1, 3)),
            "state": (np.zeros((1, 2)),) * 2 if name == "lstm" else np.zeros((1, 2)), "batch_first": False,
            "reverse": False, "lengths": np.array([1]), **({"activation": np.tanh} if name == "rnn" else {}),
        })
        for name in ("rnn", "gru", "lstm")
    },
    **{
        f"nn.init.{rule}_{kind}": lambda name=f"{rule}_{kind}": (  # type: ignore[misc]
            getattr(nn.init, name), {"shape": (2, 3), "key": KEY, "dtype": np.float32}
        )
        for rule in ("glorot", "he", "lecun") for kind in ("normal", "uniform")
    },
    "nn.init.dense": lambda: (nn.init.dense, {"inputs": 3, "outputs": 2, "bias": True, **DRAWN}),
    "nn.init.embedding": lambda: (nn.init.embedding, {"count": 3, "features": 2, **DRAWN}),
    "nn.init.layer_norm": lambda: (nn.init.layer_norm, {"features": 3, "bias": True, "dtype": np.float32}),
    "nn.init.rms_norm": lambda: (nn.init.rms_norm, {"features": 3, "dtype": np.float32}),
    **{
        f"nn.init.{name}": lambda name=name: (  # type: ignore[misc]
            getattr(nn.init, name), {"channels": 3, "dtype": np.float32}
        )
        for name in ("group_norm", "instance_norm", "batch_norm")
    },
    "nn.init.weight_norm": lambda: (nn.init.weight_norm, {"w": LOGITS, "axis": -1}),
    "nn.init.spectral_norm": lambda: (nn.init.spectral_norm, {"outputs": 3, **DRAWN}),
    "nn.init.multi_head_attention": lambda: (nn.init.multi_head_attention, {
        "features": 4, "heads": 2, "shared_heads": 1, "size": 3, "context": 5, "bias": True, **DRAWN,
    }),
    "nn.init.transformer_block": lambda: (nn.init.transformer_block, {
        "features": 4, "heads": 2, "hidden": 3, "shared_heads": 1, "norm": nn.init.layer_norm, "bias": True, **DRAWN,
    }),
    "nn.init.attention_cache": lambda: (nn.init.attention_cache, {
        "features": 4, "heads": 2, "tokens": 5, "batch": 3, "shared_heads": 1, "size": 3, "dtype": np.float32,
    }),
    **{
        f"nn.init.{name}": lambda name=name: (  # type: ignore[misc]
            getattr(nn.init, name), {"inputs": 3, "features": 2, "bias": True, **DRAWN}
        )
        for name in ("rnn", "gru", "lstm")
    },
    "optim.sgd": lambda: (optim.sgd, {
        "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "dampening": 0.1, "weight_decay": 0.1,
    }),
    "optim.adam": lambda: (optim.adam, {**ADAM, "amsgrad": False, "nesterov": False}),
    "optim.adamw": lambda: (optim.adamw, {**ADAM, "mask": None, "amsgrad": False, "nesterov": False}),
    "optim.adamax": lambda: (optim.adamax, ADAM),
    "optim.nadam": lambda: (optim.nadam, {**ADAM, "momentum_decay": 4e-3}),
    "optim.radam": lambda: (optim.radam, ADAM),
    "optim.lamb": lambda: (optim.lamb, {**ADAM, "mask": None}),
    "optim.lion": lambda: (
        optim.lion, {"learning_rate": 0.1, "b1": 0.9, "b2": 0.9, "weight_decay": 0.1, "mask": None},
    ),
    "optim.rmsprop": lambda: (
        optim.rmsprop, {"learning_rate": 0.1, "decay": 0.9, "eps": 1e-8, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "optim.adagrad": lambda: (optim.adagrad, {"learning_rate": 0.1, "eps": 1e-8, "weight_decay": 0.1}),
    "optim.adadelta": lambda: (optim.adadelta, {"learning_rate": 1.0, "decay": 0.9, "eps": 1e-6, "weight_decay": 0.1}),
    "optim.rprop": lambda: (optim.rprop, {
        "learning_rate": 0.1, "shrink": 0.5, "grow": 1.2, "smallest": 1e-6, "largest": 50.0,
    }),
    "optim.muon": lambda: (optim.muon, {
        "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "turns": 5, "scale": "original",
        "eps": 1e-7, "fallback": None,
    }),
    "optim.adafactor": lambda: (optim.adafactor, {
        "learning_rate": 0.1, "decay_power": 0.8, "eps": None, "least_scale": 1e-3, "clip": 1.0, "weight_decay": 0.1,
    }),
    "optim.groups": lambda: (optim.groups, {"optimizer": optim.sgd(0.1), "patterns": {"w1": None}}),
    "optim.ema": lambda: (optim.ema, {"optimizer": optim.sgd(0.1), "decay": 0.9}),
    "optim.accumulate": lambda: (optim.accumulate, {"optimizer": optim.sgd(0.1), "steps": 2, "mean": True}),
    "optim.averaged": lambda: (optim.averaged, {"state": AVERAGING.init(make_params())}),
    "optim.Optimizer": lambda: (optim.Optimizer, {
        "name": "own", "hyper": {}, "init": lambda p: {}, "update": lambda g, k, p, h, t: (p, k), "masks": {},
        "shared": {}, "groups": {}, "average_decay": None, "every": 1, "mean": True,
        "sparse": False,
    }),
    "optim.Schedule": lambda: (optim.Schedule, {
        "name": "own", "numbers": {"a": 1.0}, "value": lambda n, t: n["a"], "kept": {"b": 0.0},
        "advance": lambda n, t, loss: {"b": loss},
    }),
    "optim.Schedule.__call__": lambda: (optim.schedule.cosine(0.1, 9), {"count": 3}),
    "optim.schedule.constant": lambda: (optim.schedule.constant, {"value": 0.1}),
    "optim.schedule.step": lambda: (optim.schedule.step, {"initial": 0.1, "factor": 0.5, "every": 3}),
    "optim.schedule.exponential": lambda: (optim.schedule.exponential, {"initial": 0.1, "rate": 0.5, "every": 3}),
    "optim.schedule.cosine": lambda: (optim.schedule.cosine, {"peak": 0.1, "steps": 9, "end": 0.0}),
    "optim.schedule.polynomial": lambda: (optim.schedule.polynomial, {
        "initial": 0.1, "steps": 9, "power": 2.0, "end": 0.0,
    }),
    "optim.schedule.one_cycle": lambda: (optim.schedule.one_cycle, {
        "peak": 0.1, "steps": 9, "rise": 0.3, "start_divisor": 25.0, "end_divisor": 1e4, "anneal": "cosine",
        "three_phases": False,
    }),
    "optim.schedule.restarts": lambda: (optim.schedule.restarts, {
        "peak": 0.1, "steps": 9, "stretch": 2.0, "shrink": 0.5, "end": 0.0,
    }),
    "optim.schedule.piecewise": lambda: (optim.schedule.piecewise, {"pieces": [0.1, 0.2], "ends": [5]}),
    "optim.schedule.plateau": lambda: (optim.schedule.plateau, {
        "initial": 0.1, "factor": 0.5, "patience": 3, "threshold": 1e-4, "cooldown": 1, "every": 2, "end": 0.0,
    }),
    "optim.schedule.warm_up": lambda: (optim.schedule.warm_up, {"then": 0.1, "steps": 9}),
    "TrainingStep.init": lambda: (STEP.init, {"params": make_params(), "model_state": None, "key": 0}),
    "TrainingStep.run": lambda: (STEP.run, {
        "state": state(), "data": (X, Y), "batch_size": 4, "epochs": 1, "shuffle": True, "seed": 0, "drop_last": False,
        "constants": None, "progress": None, "on_nan": "warn",
    }),
    "TrainingStep.profile": lambda: (
        lambda *, calls, steps: STEP.profile(state(), X, Y, calls=calls, steps=steps), {"calls": 2, "steps": None},
    ),
    "TrainingStep.ir": lambda: (SQUARE.ir, {"stage": "plan"}),
    "State.key": lambda: (lambda *, key: setattr(state(), "key", key), {"key": 1}),
    "State.hyper": lambda: (
        lambda *, learning_rate: state().hyper.__setitem__("learning_rate", learning_rate), {"learning_rate": 0.1},
    ),
}  # fmt: skip

# What is public and stands in no row, with the reason.
EXEMPT = {
    "Graph": "made by tracing and parse", "History": "what run gives", "Norms": "what a step with watch gives",
    "Minimum": "what minimize gives",
    "State": "made by init and load", "TrainingStep": "made by training_step", "save": "a file: test_checkpoint",
    "load": "a file: test_checkpoint",
    "set_threads": "the number of threads: tests/runtime/test_threads",
    "TrainingStep.explain": "takes a batch, as a call", "TrainingStep.__call__": "takes a batch: tested below",
}  # fmt: skip


def public() -> Iterator[str]:
    """The names of everything that users may call: modules are walked by `__all__`, or what they define."""

    seen: set[int] = set()

    def walk(module: ModuleType, prefix: str) -> Iterator[str]:
        defined = [
            n for n, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__ and n[0] != "_"
        ]
        for name in getattr(module, "__all__", defined):
            found = getattr(module, name)
            if isinstance(found, ModuleType):
                yield from walk(found, f"{prefix}{name}.")
            elif not (inspect.isclass(found) and issubclass(found, Exception)) and callable(found):
                if id(found) not in seen:
                    yield prefix + name
                seen.add(id(found))

    yield from walk(adjit, "")
    yield from (f"TrainingStep.{name}" for name in ("__call__", "explain", "init", "ir", "profile", "run"))
    yield from ("optim.Schedule.__call__", "State.key", "State.hyper")


def test_every_public_function_has_a_good_call() -> None:
    names = set(public())
    assert names - set(GOOD) - set(EXEMPT) == set(), "a public function without a row in GOOD"
    assert (set(GOOD) | set(EXEMPT)) - names == set(), "a row for what is not there"


@pytest.mark.parametrize("name", GOOD)
def test_the_good_call_is_one(name: str) -> None:
    function, arguments = GOOD[name]()
    function(**arguments)
    if name not in ("evaluate", "State.key", "State.hyper", "TrainingStep.profile", "TrainingStep.ir"):
        parameters = inspect.signature(function).parameters.items()
        named = {name for name, parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL}
        assert set(arguments) == named, "each argument stands in the row"


CASES = [(name, argument) for name, make in GOOD.items() for argument in make()[1]]


OWN = ("progress", "callback", "f", "body", "distance", "activation", "norm")
CALLED = {*((argument, "type") for argument in OWN), ("norm", "function")}
"""What functions say of their arguments is their own: int, and one that takes none by name."""


def outcome(name: str, argument: str, bad: Any) -> Exception | None:
    """What a bad argument raises."""
    function, arguments = GOOD[name]()
    try:
        function(**{**arguments, argument: bad})
    except Exception as error:
        return error
    return None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of NaN and infinities outside a trace
@pytest.mark.parametrize(("name", "argument"), CASES, ids=[f"{name}-{argument}" for name, argument in CASES])
def test_a_bad_argument_gives_an_error_that_names_it(name: str, argument: str) -> None:
    refused = 0
    for kind, bad in BAD.items():
        error = None if (argument, kind) in CALLED else outcome(name, argument, bad)
        if error is None:
            continue
        refused += 1
        assert isinstance(error, adjit.AdjitError), f"{kind}: {type(error).__name__}: {error}"
        assert not isinstance(error, adjit.InternalError), f"{kind}: {error}"
        text = str(error)
        # An error in a text or in a mapping that was given names the place in it.
        named = argument in text or isinstance(error, adjit.FormatError) or (kind == "dict of str" and " a" in text)
        assert named, f"{kind}: the text does not name {argument}: {text}"
        assert len(text) < 2000, kind
    assert refused or name == "stop_gradient", "nothing is refused"


@pytest.mark.parametrize("kind", BAD)
def test_arguments_of_compiled_functions(kind: str) -> None:
    bad = BAD[kind]
    ignores = adjit.jit(lambda *_, **__: 1.0)
    step = adjit.training_step(lambda p, *_, **__: np.sum(p["w1"]), optim.sgd(0.1))
    mine = step.init(make_params())
    calls: list[Callable[[], Any]] = [
        lambda: ignores(bad), lambda: ignores(1.0, k=bad), lambda: ignores([bad, {"a": bad}]), lambda: step(mine, bad),
        lambda: step(mine, batch=bad), lambda: ignores.ir("plan", bad), lambda: step.explain(mine, bad),
        lambda: adjit.grad(lambda _: 0.0)(bad),
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except adjit.InternalError:
            raise
        except adjit.AdjitError:
            continue
    for refused in (lambda: STEP(bad, X, Y), lambda: STEP.ir("plan", bad, X)):
        with pytest.raises(adjit.AdjitError) as caught:
            refused()
        assert not isinstance(caught.value, adjit.InternalError)


def test_trees_that_are_too_deep() -> None:
    def deep(x: Any, depth: int) -> Any:
        for _ in range(depth):
            x = [x]
        return x

    loop: list[Any] = []
    loop.append(loop)
    step = adjit.training_step(lambda p: 0.0, optim.sgd(0.1))
    for tree in (deep(np.ones(2), 20_000), loop):
        for call in (adjit.jit(lambda *_: 1.0), step.init):
            with pytest.raises(adjit.ArgumentError, match="nested too deep"):
                call(tree)
    with pytest.raises(adjit.ArgumentError, match="params is nested too deep"):
        step.init(deep(np.ones(2), 101))
    s = step.init(deep(np.ones(2), 100))
    assert step(s) == 0
    assert len(s.params) == 1
    with pytest.raises(adjit.TraceError, match="results is nested too deep"):
        adjit.jit(lambda x: deep(x, 20_000))(np.ones(2))


@pytest.mark.parametrize("kept", ["x", 1j, object(), 2**70, np.ones(1, np.float16), np.array(["a"]), np.array([None])])
def test_what_an_optimizer_keeps_is_checked(kept: Any) -> None:
    own = optim.Optimizer("own", {}, lambda p: {"m": kept}, lambda g, k, p, h, t: (p, k))
    with pytest.raises(adjit.AdjitError, match="own: what init keeps"):
        adjit.training_step(loss, own).init(make_params())


def test_masked_arrays_keep_their_mask() -> None:
    with pytest.raises(adjit.ArgumentError, match="a masked array would lose its mask"):
        adjit.jit(lambda x: x)(np.ma.array([1.0, 2.0], mask=[0, 1]))


# -- arguments that were cut, or taken for others, without a word -----------------------------------------------------


@pytest.mark.parametrize(("value", "error"), [
    (1.5, TypeError), (True, TypeError), (2**63, OverflowError), (2**70, OverflowError),
    (np.uint64(2**63), OverflowError), (np.array([1]), TypeError), ("1", TypeError),
    (None, TypeError), (np.float64(1), TypeError),
])  # fmt: skip
def test_keys_and_seeds_are_integers(value: Any, error: type[Exception]) -> None:
    s = state()
    for refused in (
        # Seeds of random.key are 64 bits of either kind.
        lambda: random.key(2**64 if value == 2**63 else value),
        lambda: random.split(value), lambda: random.bits(value),
        lambda: setattr(s, "key", value),
        lambda: STEP.init(make_params(), key=value), lambda: STEP.run(s, (X, Y), batch_size=2, seed=value),
        lambda: random.fold_in(0, value), lambda: random.permutation(value, 3),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            refused()
        assert isinstance(caught.value, adjit.AdjitError)
    assert (s.key, s.step) == (0, 0)


@pytest.mark.parametrize("value", [-(2**63), -1, 2**63 - 1, np.int8(-1), np.uint64(7), np.array(5)])
def test_keys_of_every_integer_type(value: Any) -> None:
    s = STEP.init(make_params(), key=value)
    assert s.key == int(value) == int(random.key(value))
    s.key = 0
    s.key = value
    assert s.key == int(value)
    np.testing.assert_array_equal(random.bits(value, 3), random.bits(int(value), 3))


def test_a_traced_key_is_an_integer_scalar() -> None:
    key = adjit.jit(lambda seed: random.bits(random.key(seed), 2))
    np.testing.assert_array_equal(key(np.int32(3)), random.bits(3, 2))
    for bad in (1.5, np.float32(1), np.array([1, 2]), True):
        with pytest.raises(adjit.DTypeError, match=r"random\.key: seed is an integer scalar"):
            key(bad)


@pytest.mark.parametrize("value", ["x", None, 1j, float("nan"), True, np.ones(2), [1.0], 10**400, np.complex64(1)])
def test_hyper_parameters_are_numbers(value: Any) -> None:
    s = state()
    with pytest.raises(adjit.AdjitError, match=r"state\.hyper: learning_rate is an? (number|array)"):
        s.hyper["learning_rate"] = value
    assert s.hyper["learning_rate"] == 0.1
    s.hyper["learning_rate"] = np.float32(0.5)
    assert s.hyper["learning_rate"] == 0.5


def test_a_run_has_no_more_steps_than_memory() -> None:
    s = state()
    for epochs in (10**20, 10**17):
        with pytest.raises(adjit.AdjitError, match="epochs"):
            STEP.run(s, (X, Y), batch_size=2, epochs=epochs)
    # More bytes of losses than a process has addresses.
    with pytest.raises(adjit.OutOfMemory, match="run fewer epochs at a time"):
        STEP.run(s, (X, Y), batch_size=2, epochs=8 * 10**13)
    assert s.step == 0
    STEP(s, X, Y)


def test_data_that_are_no_rows() -> None:
    for bad, error in (
        ((np.zeros((0, 3)), np.zeros((0, 1))), adjit.ArgumentError), ((1.0, 2.0), adjit.ShapeError),
        ((np.array([None] * 3), Y[:3]), adjit.DTypeError), ("ab", adjit.ArgumentError), ((X, RAGGED), adjit.ShapeError),
    ):  # fmt: skip
        with pytest.raises(error, match=r"data|rows"):
            STEP.run(state(), bad, batch_size=2)


def test_unsigned_operands_have_a_negative() -> None:
    x = np.array([0, 3, 200], np.uint8)
    expected = np.log1p(np.exp(x.astype(float)))
    np.testing.assert_allclose(nn.softplus(x), expected, rtol=1e-15)  # one rounding
    with pytest.warns(adjit.WideningWarning, match="give f64 in NumPy"):
        np.testing.assert_allclose(adjit.jit(nn.softplus)(x), expected, rtol=1e-15)
    np.testing.assert_allclose(
        nn.binary_cross_entropy_with_logits(x, np.zeros(3), reduction="none"), expected, rtol=1e-15
    )
