"""PyTorch, eager: autograd and the fused optimisers."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import func
from torch.nn import functional

from benchmarks.attended import ATTENDED, SPARSE_ROWS
from benchmarks.convolved import CONVOLVED
from benchmarks.problem import Problem
from benchmarks.sides import Side
from benchmarks.swept import RATES
from benchmarks.transformed import UNKNOWNS, arguments_of, compressed_tridiagonal
from benchmarks.workloads import lower_triangle, mixture_constant

Tree = Any


def mse_loss(p: Tree, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    h = torch.relu(torch.addmm(p["b1"], x, p["w1"]))
    return functional.mse_loss(torch.addmm(p["b2"], h, p["w2"]), y)


def two_layers(p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    h = torch.relu(torch.addmm(p["b1"], x, p["w1"]))
    return functional.cross_entropy(torch.addmm(p["b2"], h, p["w2"]), labels)


def three_layers(p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    h = torch.relu(torch.addmm(p["b1"], x, p["w1"]))
    h = torch.relu(torch.addmm(p["b2"], h, p["w2"]))
    return functional.cross_entropy(torch.addmm(p["b3"], h, p["w3"]), labels)


def softmax_loss(p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(torch.addmm(p["b"], x, p["w"]), labels)


def logistic_loss(p: Tree, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(x @ p["w"] + p["b"], y)


def network(p: Tree, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The network of `pinn` at points (t, x)."""
    h = torch.stack([t, x], dim=1)
    for i in (1, 2, 3):
        h = torch.tanh(torch.addmm(p[f"b{i}"], h, p[f"w{i}"]))
    return torch.addmm(p["b4"], h, p["w4"])[:, 0]


def burgers_loss(p: Tree, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    t, x = t.detach().requires_grad_(), x.detach().requires_grad_()
    u = network(p, t, x)
    one = torch.ones_like(u)
    u_t, u_x = torch.autograd.grad(u, (t, x), one, create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x, x, one, create_graph=True)
    residual = u_t + u * u_x - (0.01 / math.pi) * u_xx
    return (residual**2).mean()


def deep_loss(p: Tree, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    h = x
    for layer in p["layers"]:
        h = h + torch.tanh(torch.addmm(layer["b"], h, layer["w"]))
    return functional.mse_loss(h @ p["out"], y)


def prices(p: Tree) -> torch.Tensor:
    s, k, t, r, v = (p[name] for name in "sktrv")
    root = v * torch.sqrt(t)
    d1 = (torch.log(s / k) + (r + v * v / 2) * t) / root
    d2 = d1 - root

    def cdf(z: torch.Tensor) -> torch.Tensor:
        return 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))

    return (s * cdf(d1) - k * torch.exp(-r * t) * cdf(d2)).sum()


def mixture(p: Tree, x: torch.Tensor) -> torch.Tensor:
    alphas, means, icf = p["alphas"], p["means"], p["icf"]
    (n, d), k = x.shape, means.shape[0]
    logs = icf[:, :d]
    diagonal = torch.exp(logs)
    rows, columns = (torch.from_numpy(index) for index in lower_triangle(d))
    at = (torch.arange(k)[:, None], rows, columns)
    factor = torch.diag_embed(diagonal).index_put(at, icf[:, d:])
    # Component first, points last: batches of products as torch has them.
    q = factor @ (x.T[None] - means[:, :, None])
    inner = alphas + logs.sum(dim=1) - 0.5 * (q * q).sum(dim=1).T
    likelihood = torch.logsumexp(inner, dim=1).sum() - n * torch.logsumexp(alphas, dim=0)
    return likelihood + 0.5 * ((diagonal**2).sum() + (icf[:, d:] ** 2).sum()) + mixture_constant(d, k, n)


def rnn(p: Tree, x: torch.Tensor) -> torch.Tensor:
    """Its own fused loop, as `torch.nn.RNN` calls it."""
    weights = [p["input"].T, p["hidden"].T, p["bias"], torch.zeros_like(p["bias"])]
    found, _ = torch.rnn_tanh(x[:, None], torch.zeros(1, 1, 32), weights, True, 1, 0.0, True, False, False)
    return ((found[:, 0] @ p["output"]) ** 2).mean()


def lstm(p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Its own fused loop, as `torch.nn.LSTM` calls it."""
    weights = [p["input"].T, p["hidden"].T, p["bias"], torch.zeros_like(p["bias"])]
    zero = torch.zeros(1, 32, 128)
    found, _, _ = torch.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, False)
    logits = found @ p["output"] + p["end"]
    return functional.cross_entropy(logits.reshape(-1, 65), labels.reshape(-1))


class Operations:
    """Channels lie last in memory, as `torch.channels_last` has them, which oneDNN is fastest with."""

    tanh, relu, cross_entropy = torch.tanh, torch.relu, staticmethod(functional.cross_entropy)

    relu6, gelu = staticmethod(functional.relu6), staticmethod(functional.gelu)

    def looked_up(self, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return functional.embedding(ids, table, sparse=len(table) >= SPARSE_ROWS)

    def dense(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, w.T, b)

    def layer_norm(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, scale.shape, scale, shift)

    def attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def self_attention(self, joined: torch.Tensor, heads: int) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in joined.chunk(3, dim=-1))
        return self.attention(q, k, v).transpose(1, 2).flatten(2)

    def token_cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def conv(
        self, x: torch.Tensor, w: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> torch.Tensor:
        return functional.conv2d(x, w, stride=stride, padding=padding, groups=groups)

    def max_pool(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x, 2)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)

    def normalized(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    def shifted(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return x + bias[:, None, None]


def convolved(loss: Callable[..., torch.Tensor], p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of a network of convolutions."""
    return loss(Operations(), p, x.permute(0, 3, 1, 2), labels)


LOSSES = {
    **{name: functools.partial(convolved, loss) for name, loss in CONVOLVED.items()},
    **{name: functools.partial(loss, Operations()) for name, loss in ATTENDED.items()},
    "rnn_small": rnn,
    "lstm": lstm,
    "xor": mse_loss,
    "mlp_small": two_layers,
    "mlp": three_layers,
    "mlp_wide": three_layers,
    "logreg": logistic_loss,
    "pinn": burgers_loss,
    "softmax_regression": softmax_loss,
    "deep": deep_loss,
    "elementwise": prices,
    "gmm": mixture,
}


def classified(p: Tree, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of `vmap_grad` and `hvp`."""
    depth, h = len(p) // 2, x
    for i in range(1, depth):
        h = torch.tanh(h @ p[f"w{i}"] + p[f"b{i}"])
    return functional.cross_entropy(h @ p[f"w{depth}"] + p[f"b{depth}"], labels)


def residual(u: torch.Tensor) -> torch.Tensor:
    padded = functional.pad(u, (1, 1))
    return padded[2:] - 2.0 * u + padded[:-2] + torch.exp(u)


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def hessian_times_vector(p: Tree, v: Tree, x: torch.Tensor, labels: torch.Tensor) -> Tree:
    gradient = func.grad(lambda p: classified(p, x, labels))
    return func.jvp(gradient, (p,), (v,))[1]


def tridiagonal() -> Callable[[torch.Tensor], Tree]:
    seeds, places = (torch.from_numpy(array) for array in compressed_tridiagonal(UNKNOWNS))

    def entries(u: torch.Tensor) -> Tree:
        products = func.vmap(lambda seed: func.jvp(residual, (u,), (seed,))[1])(seeds)
        return {"entries": products.reshape(-1)[places]}

    return entries


TRANSFORMED: dict[str, Callable[[], Callable[..., Tree]]] = {
    "vmap_grad": lambda: func.vmap(func.grad(classified), in_dims=(None, 0, 0)),
    "hvp": lambda: hessian_times_vector,
    "tridiagonal": tridiagonal,
    "hessian": lambda: lambda x: {"x": func.hessian(rosenbrock)(x)},
}


def given(problem: Problem) -> tuple[Any, ...]:
    """What the derivatives take, as tensors."""
    return (*arguments_of(tensors(problem.params)), *(torch.from_numpy(array) for array in problem.data.values()))


def tensors(tree: Tree) -> Tree:
    """The same tree with tensors of its own memory in place of arrays; kernels of convolutions as torch has them."""
    if isinstance(tree, dict):
        return {name: tensors(leaf) for name, leaf in tree.items()}
    if isinstance(tree, list):
        return [tensors(leaf) for leaf in tree]
    found = torch.tensor(tree)
    return found.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last) if found.ndim == 4 else found


def leaves(tree: Tree) -> list[torch.Tensor]:
    """The tensors of a tree. In a form that `torch.compile` traces: it knows no unions of types."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def optimizer_of(name: str, rate: float, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    """One of torch's own, fused."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-2, fused=True)
    # The fused form knows no sparse gradients.
    fused = all(len(leaf) < SPARSE_ROWS for leaf in parameters if leaf.ndim == 2)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9 if name == "momentum" else 0.0, fused=fused)


def batches_of(problem: Problem) -> Any:
    """An endless iterator over the batches, as tensors: views of the data."""
    epoch = itertools.islice(problem.in_turn(), problem.batches)
    return itertools.cycle([[torch.from_numpy(array) for array in batch] for batch in epoch])


def swept(problem: Problem) -> Side:
    """A step of many models: batches of products, and Adam with a rate for each, which torch's own has not."""
    params: dict[str, torch.Tensor] = tensors(problem.params)
    x, labels = (torch.from_numpy(array) for array in problem.data.values())
    parameters = leaves(params)
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    rates = [torch.tensor(RATES, dtype=p.dtype).reshape(-1, *(1,) * (p.ndim - 1)) for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_()
    counts = itertools.count(1)

    def losses() -> torch.Tensor:
        h = torch.relu(torch.matmul(x, params["w1"]) + params["b1"][:, None])
        logits = torch.baddbmm(params["b2"][:, None], h, params["w2"])
        each = functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(RATES)), reduction="none")
        return each.reshape(len(RATES), -1).mean(dim=1)

    def once() -> torch.Tensor:
        values = losses()
        gradients = torch.autograd.grad(values.sum(), parameters)
        t = next(counts)
        with torch.no_grad():
            for p, g, (m, v), rate in zip(parameters, gradients, moments, rates, strict=True):
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                p.sub_(rate / (1 - 0.9**t) * m / (v.sqrt() * (1 - 0.999**t) ** -0.5 + 1e-8))
        return values.detach()

    return Side(once)


def build(name: str, problem: Problem) -> Side | None:
    """A side for a workload."""
    if name == "sweep":
        return swept(problem)
    params = tensors(problem.params)
    if name == "add8":
        a, b = params["a"], params["b"]
        return Side(lambda: torch.add(a, b))
    if name in TRANSFORMED:
        derivative, arguments = TRANSFORMED[name](), given(problem)
        return Side(lambda: derivative(*arguments))
    if name not in LOSSES:
        # Loops that Python would run, turn by turn.
        return None
    parameters = leaves(params)
    for parameter in parameters:
        parameter.requires_grad_()
    loss, batches = LOSSES[name], batches_of(problem)
    if not problem.optimizer:

        def evaluated() -> tuple[torch.Tensor, Tree]:
            value = loss(params, *next(batches))
            return value.detach(), dict(zip(params, torch.autograd.grad(value, parameters), strict=True))

        return Side(evaluated)
    optimizer = optimizer_of(problem.optimizer, problem.hyper["learning_rate"], parameters)

    def once() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(params, *next(batches))
        value.backward()
        optimizer.step()
        return value.detach()

    return Side(once)
