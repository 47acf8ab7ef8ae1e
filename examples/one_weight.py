"""One weight, followed by hand: y = w x with x = 2 and target 4, squared error, learning rate 0.1.

The gradient is 2 (w x - 4) x, so w goes 1.0 -> 1.8 -> 1.96 -> ... -> 2.0. The adjoint that adjit derives is printed
first, each line of it with the line of this file that it came from.
"""

import numpy as np

import adjit


def loss(w, x, target):
    error = w * x - target
    return error**2


def main():
    value_and_gradient = adjit.value_and_grad(loss)
    step = adjit.training_step(loss, adjit.optim.sgd(0.1))
    x, target = 2.0, 4.0
    state = step.init(np.array(1.0))

    value_and_gradient(state.params, x, target)
    print(value_and_gradient.ir("adjoint"))
    for count in range(12):
        before = float(state.params)
        _, gradient = value_and_gradient(state.params, x, target)
        value = step(state, x, target)
        print(
            f"step {count:2d}  w {before:.8f} -> {float(state.params):.8f}  loss {value:.3e}  gradient {gradient:+.3e}"
        )
    print(f"final w {float(state.params):.6f}")


if __name__ == "__main__":
    main()
