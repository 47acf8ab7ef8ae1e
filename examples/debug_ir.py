"""Every stage of a small model, from the function to machine code, and what to look at in each.

Nothing is hidden: each graph prints as text that parses back, and an interpreter runs it node by node.
"""

from pathlib import Path

import numpy as np

import adjit


def loss(params, x, y):
    h = np.tanh(x @ params["w"] + params["b"])
    return np.mean((np.sum(h, axis=1) - y) ** 2)


def show(title, text, lines=40):
    print(f"--- {title}\n")
    shown = str(text).splitlines()
    print("\n".join(shown[:lines]))
    print(f"... {len(shown) - lines} more lines\n" if len(shown) > lines else "")


def main():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 16)), "b": np.zeros(16)}
    x, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    step = adjit.training_step(loss, adjit.optim.sgd(0.1, momentum=0.9))
    state = step.init(params)
    value = step(state, x, y)

    # The functions of NumPy that were called, with types; each line names the line of this file that it came from.
    show("trace: what the function computes", step.ir("trace"))
    # The chain rule, source to source: the first results are the loss, the others gradients. The lines are the same:
    # an adjoint node belongs to the expression that it is the derivative of.
    show("adjoint: loss and gradients", step.ir("adjoint"))
    # What a step does to the state stands in the `update` lines at the end; hyper-parameters are inputs.
    show("step: with the optimiser", step.ir("step"))
    # The same function in fewer nodes: folded, shared, transposes gone into the contractions.
    show("optimized: after the passes", step.ir("optimized"))
    # Kernels with their loops, buffers with their places in one arena, and the line that owns the peak of memory.
    show("plan: kernels and memory", step.ir("plan"))
    show("llvm: vectors, written out", step.ir("llvm"), 25)
    show("asm: what runs", step.ir("asm"), 25)

    # The text is the graph: it parses back, and NumPy runs it.
    text = str(step.ir("trace"))
    graph = adjit.parse(text)
    print("--- the trace, parsed back and run by NumPy, node by node\n")

    def note(node, result):
        print(f"{node.loc!s:16} {node.op.name:10} {node.type!s:10} mean {np.mean(result):+.4f}")

    # Inputs in the order of the header: leaves of dicts by their sorted keys.
    (again,) = adjit.evaluate(graph, params["b"], params["w"], x, y, callback=note)
    print(f"\ninterpreted {again:.15f}\ncompiled    {value:.15f}")

    # A breakpoint: values that are alive when a line of this file is reached.
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "return np.mean" in text)
    seen = []
    adjit.evaluate(
        graph, params["b"], params["w"], x, y, breakpoint=line, on_break=lambda node, values: seen.append(dict(values))
    )
    print(f"\nat line {line}, first stop: alive are {', '.join(seen[0])}")


if __name__ == "__main__":
    main()
