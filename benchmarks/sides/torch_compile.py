"""PyTorch with `torch.compile` of the whole step: loss, gradients and optimiser are one graph, updated in place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.func import grad_and_value, vjp

from benchmarks.attended import classified_rows
from benchmarks.problem import Problem
from benchmarks.sides import Side
from benchmarks.sides.torch import LOSSES, TRANSFORMED, Operations, batches_of, given, leaves, network, tensors

Tree = Any


def burgers_loss(p: Tree, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """As in eager mode, in the form that `torch.func` differentiates: reverse over reverse."""
    one = torch.ones_like(t)

    def first(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        u, back = vjp(lambda t, x: network(p, t, x), t, x)
        u_t, u_x = back(one)
        return u_x, (u, u_t)

    u_x, back, (u, u_t) = vjp(first, x, has_aux=True)
    (u_xx,) = back(one)
    residual = u_t + u * u_x - (0.01 / math.pi) * u_xx
    return (residual**2).mean()


def embedded(problem: Problem) -> Side:
    """A step of `embedding` that writes into the rows which it has read: a gradient of the table is never made."""
    params, batches, rate = tensors(problem.params), batches_of(problem), problem.hyper["learning_rate"]

    def loss(rows: torch.Tensor, rest: Tree, labels: torch.Tensor) -> torch.Tensor:
        return classified_rows(Operations(), rest, rows, labels)

    differentiated = grad_and_value(loss, argnums=(0, 1))

    def step(table: torch.Tensor, rest: Tree, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        (by_rows, by_rest), value = differentiated(table[ids], rest, labels)
        table.index_add_(0, ids, by_rows, alpha=-rate)
        update("sgd", rate, leaves(rest), [], None, leaves(by_rest))
        return value

    whole = torch.compile(step, fullgraph=True, dynamic=False)
    table, rest = params["table"], {name: leaf for name, leaf in params.items() if name != "table"}
    return Side(lambda: whole(table, rest, *next(batches)))


def update(
    name: str, rate: float, params: list[torch.Tensor], kept: list[list[torch.Tensor]], t: Any, grads: Any
) -> None:
    """The optimiser, in place."""
    if name == "sgd":
        for p, g in zip(params, grads, strict=True):
            p.sub_(rate * g)
        return
    if name == "momentum":
        for p, v, g in zip(params, kept[0], grads, strict=True):
            v.mul_(0.9).add_(g)
            p.sub_(rate * v)
        return
    t.add_(1)
    # In float64, as the corrections of the bias cancel; without dimensions it does not promote the rest.
    now = t.double()
    scale, spread = rate / (1 - 0.9**now), torch.rsqrt(1 - 0.999**now)
    decay = rate * 1e-2 if name == "adamw" else 0.0
    for p, m, v, g in zip(params, kept[0], kept[1], grads, strict=True):
        m.mul_(0.9).add_(0.1 * g)
        v.mul_(0.999).add_(0.001 * g * g)
        p.sub_(scale * m / (v.sqrt() * spread + 1e-8) + decay * p)


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    torch.set_grad_enabled(False)
    params = tensors(problem.params)
    if name == "add8":
        add = torch.compile(lambda a, b: a + b, fullgraph=True, dynamic=False)
        return Side(lambda: add(params["a"], params["b"]))
    if name in TRANSFORMED:
        derivative, arguments = torch.compile(TRANSFORMED[name](), fullgraph=True, dynamic=False), given(problem)
        return Side(lambda: derivative(*arguments))
    if name not in LOSSES:
        return None
    if name == "embedding":
        return embedded(problem)
    loss, batches = LOSSES[name], batches_of(problem)
    if name == "pinn":
        loss = burgers_loss
    differentiated = grad_and_value(loss)
    if not problem.optimizer:

        def evaluate(params: Tree, *batch: torch.Tensor) -> tuple[torch.Tensor, Tree]:
            gradients, value = differentiated(params, *batch)
            return value, gradients

        compiled = torch.compile(evaluate, fullgraph=True, dynamic=False)
        return Side(lambda: compiled(params, *next(batches)))
    optimizer, rate = problem.optimizer, problem.hyper["learning_rate"]
    count = {"sgd": 0, "momentum": 1}.get(optimizer, 2)
    kept = [[torch.zeros_like(leaf) for leaf in leaves(params)] for _ in range(count)]
    # float32: compiled code of torch 2.13 loses updates of a float64 tensor without dimensions.
    t = torch.zeros((), dtype=torch.float32)

    def step(params: Tree, kept: list[list[torch.Tensor]], t: torch.Tensor, *batch: torch.Tensor) -> torch.Tensor:
        gradients, value = differentiated(params, *batch)
        update(optimizer, rate, leaves(params), kept, t, leaves(gradients))
        return value

    whole = torch.compile(step, fullgraph=True, dynamic=False)
    return Side(lambda: whole(params, kept, t, *next(batches)))
