"""Derivatives of calls, by the rules of what is called.

    %1 = call %x jvp=(x, dx) -> (y, dy) fwd=(x) -> (y, kept) bwd=(kept, dy) -> dx

Reverse mode puts `fwd` in the place of the call and `bwd` where the cotangents come by, forward mode `jvp`: as plain
nodes, so that a second derivative goes through the rules themselves. Where only the rule of the other mode was given,
it is transposed: `jvp` is linear in its tangents, and `bwd` in its cotangents, so that their adjoints are the other
rule. One that is not linear is an error.

What the function reads from outside is no argument, so no rule says what its derivative is: where one is asked for, it
is an error, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from adjit.autodiff.batch import depends
from adjit.autodiff.cotangent import Cotangent, alive
from adjit.autodiff.split import split
from adjit.autodiff.tangents import Pushed
from adjit.autodiff.walk import Walk
from adjit.ir.builder import ITEM, Builder, Value
from adjit.ir.graph import Graph, closed
from adjit.ir.node import Node
from adjit.ir.types import Tuple
from adjit.ops.calls import call, closed_rule, fitted, floats_of
from adjit_runtime.errors import TraceError

Vjp = Callable[[Graph, Sequence[int]], Graph]
"""`reverse.vjp`."""


class _Reverse(NamedTuple):
    fwd: Graph
    bwd: Graph


# -- reverse mode ------------------------------------------------------------------------------------------------------


def backward(walk: Walk, node: Node, cts: Sequence[Cotangent | None], vjp: Vjp) -> list[Cotangent | None]:
    """What a call hands to its operands. What its forward rule computes takes its place when the walk is closed."""
    given, body = node.attrs["given"], node.attrs["body"]
    _check_captures(node, [arg for arg in node.args[given:] if arg in walk.reach.active])
    rules = _reverse_rules(node, vjp)
    b, count = walk.b, len(body.outputs)
    opened = Node(call, node.args, {"given": given, "body": rules.fwd}, _types(rules.fwd.outputs), node.loc)
    walk.open(node, opened)
    kept = [b.emit(ITEM, opened, index=i) for i in range(count, len(rules.fwd.outputs))]
    seeds = []
    for i in floats_of(body.outputs):
        ct = cts[i]
        seeds.append(b.splat(0.0, body.outputs[i].array_type.strong) if ct is None else alive(b, ct).node)
    gradients = iter(fitted(b, rules.bwd, [*kept, *seeds]))
    guard = _alive_anywhere(b, cts)
    found: list[Cotangent | None] = [None] * len(node.args)
    for i in floats_of(body.inputs[:given]):
        gradient = b.value(next(gradients))
        found[i] = Cotangent(gradient, None if guard is None else _spread(b, guard, gradient.shape))
    return found


def _types(nodes: Sequence[Node]) -> Tuple:
    return Tuple(tuple(node.array_type for node in nodes))


def _alive_anywhere(b: Builder, cts: Sequence[Cotangent | None]) -> Value | None:
    """Whether any element of any cotangent is alive; None where that is certain."""
    total: Value | None = None
    for ct in cts:
        if ct is None:
            continue
        if ct.guard is None:
            return None
        shape = ct.guard.shape
        one = b.any(ct.guard, axes=tuple(range(len(shape)))) if shape else ct.guard
        total = one if total is None else total | one
    return total


def _spread(b: Builder, guard: Value, shape: tuple[int, ...]) -> Value:
    spread: Value = b.broadcast(guard, shape=shape, axes=()) if shape else guard
    return spread


def _reverse_rules(node: Node, vjp: Vjp) -> _Reverse:
    """The rules of reverse mode, which can stand where the call stands."""
    if "bwd" not in node.attrs:
        node = _with_reverse(node, vjp)
    return _Reverse(closed_rule(node, node.attrs["fwd"]), closed_rule(node, node.attrs["bwd"]))


def _with_reverse(node: Node, vjp: Vjp) -> Node:
    """The call with the adjoint of its rule of forward mode."""
    if "jvp" not in node.attrs:
        raise _of_itself(node)
    rule, body = node.attrs["jvp"], node.attrs["body"]
    given, results = len(body.inputs), len(body.outputs)
    made = vjp(rule, range(given, len(rule.inputs)))
    cotangents = made.inputs[len(made.inputs) - len(floats_of(body.outputs)) :]
    inputs, tangents = (*made.inputs[:given], *cotangents), made.inputs[given : len(rule.inputs)]
    outputs = (*made.outputs[:results], *made.outputs[len(rule.outputs) :])
    graph = _transposed(node, closed(body.name, (*inputs, *tangents), made.nodes, outputs), len(inputs), "jvp")
    parts = split(graph, range(given, len(graph.inputs)), range(results, len(outputs)))
    return _with_rules(node, fwd=parts.early, bwd=parts.late)


def _with_rules(node: Node, **rules: Graph) -> Node:
    return Node(call, node.args, {**node.attrs, **rules}, node.type, node.loc)


# -- forward mode ------------------------------------------------------------------------------------------------------


def pushed(b: Builder, node: Node, tangents: Sequence[Value | None], vjp: Vjp) -> list[Pushed]:
    """The results of a call whose operands have these tangents."""
    given, body = node.attrs["given"], node.attrs["body"]
    _check_captures(node, [arg for arg, dx in zip(node.args[given:], tangents[given:], strict=True) if dx is not None])
    changes = []
    for i in floats_of(body.inputs[:given]):
        tangent = tangents[i]
        changes.append(b.splat(0.0, node.args[i].array_type.strong) if tangent is None else tangent.node)
    made = _forward(b, node, changes, vjp)
    values, moving = (
        made[: len(body.outputs)],
        dict(zip(floats_of(body.outputs), made[len(body.outputs) :], strict=True)),
    )
    return [Pushed(value, moving.get(i)) for i, value in enumerate(values)]


def _forward(b: Builder, node: Node, tangents: Sequence[Node], vjp: Vjp) -> list[Node]:
    """The results, and the tangents of those that are floats."""
    if "jvp" not in node.attrs:
        node = _with_forward(node, vjp)
    return fitted(b, closed_rule(node, node.attrs["jvp"]), [*node.args, *tangents])


def _with_forward(node: Node, vjp: Vjp) -> Node:
    """The call with the adjoint of its rule of reverse mode."""
    body, fwd, bwd = (node.attrs[name] for name in ("body", "fwd", "bwd"))
    results, kept = len(body.outputs), len(fwd.outputs) - len(body.outputs)
    made = vjp(bwd, range(kept, len(bwd.inputs)))
    inputs = (*made.inputs[:kept], *made.inputs[len(bwd.inputs) :])
    cotangents = made.inputs[kept : len(bwd.inputs)]
    whole = closed(body.name, (*inputs, *cotangents), made.nodes, made.outputs[len(bwd.outputs) :])
    late = _transposed(node, whole, len(inputs), "vjp")
    b = Builder.after(fwd)
    arguments = floats_of(body.inputs[: node.attrs["given"]])
    tangents = [b.input(f"tangent{i}", body.inputs[i].array_type.strong) for i in arguments]
    changes = fitted(b, late, [*fwd.outputs[results:], *tangents])
    return _with_rules(node, jvp=b.graph(body.name, (*fwd.outputs[:results], *changes)))


# -- what no rule can say ----------------------------------------------------------------------------------------------


def _transposed(node: Node, graph: Graph, count: int, rule: str) -> Graph:
    """A rule that was transposed, of its first `count` inputs. The others are those that the rule is linear in, so that
    no output depends on them; a loop that carries them along with what is kept of it has zeros in their place."""
    inputs, others = graph.inputs[:count], graph.inputs[count:]
    if any(depends(graph, [i >= count for i in range(len(graph.inputs))])):
        what = "tangents" if rule == "jvp" else "cotangents"
        raise _error(
            node, f"the {rule} rule of {_name(node)} is not linear in its {what}, so that it is no rule of a derivative"
        )
    b = Builder()
    images = [b.input(str(each.attrs["name"]), each.type) for each in inputs]
    zeros = [b.splat(0.0, each.array_type) for each in others]
    return b.graph(graph.name, b.inline(graph, [*images, *zeros]))


def _check_captures(node: Node, captured: Sequence[Node]) -> None:
    """Raise where what is read from outside has a derivative."""
    if captured:
        raise _error(
            node,
            f"{_name(node)} reads {captured[0].type} from outside, by which is differentiated, and its rule says "
            "nothing of that: make it an argument, or write adjit.stop_gradient(x) where it is read",
        )


def _of_itself(node: Node) -> TraceError:
    name = _name(node)
    return _error(
        node,
        f"the rule of {name} calls {name} itself with its tangents or cotangents, so that its adjoint, for the other "
        "mode, would need itself: give both rules, jvp and vjp",
    )


def _name(node: Node) -> str:
    return str(node.attrs["body"].name)


def _error(node: Node, text: str) -> TraceError:
    where = f"{node.loc}: " if node.loc is not None else ""
    return TraceError(f"{where}custom_rule: {text}")
