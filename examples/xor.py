"""XOR with a network of 2-8-1 units: the smallest thing that only a hidden layer can learn.

All 1000 steps run in one native loop. The last line is the loss after training.
"""

import numpy as np

import adjit


def predict(params, x):
    h = np.maximum(x @ params["w1"] + params["b1"], 0.0)
    return h @ params["w2"] + params["b2"]


def loss(params, x, y):
    return np.mean((predict(params, x) - y) ** 2)


def main():
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.normal(size=(2, 8)),
        "b1": np.zeros(8),
        "w2": rng.normal(size=(8, 1)),
        "b2": np.zeros(1),
    }
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])

    step = adjit.training_step(loss, adjit.optim.adam(0.01))
    state = step.init(params)
    history = step.run(state, (x, y), batch_size=4, epochs=1000, seed=0)

    for epoch in (0, 9, 99, 499, 999):
        print(f"epoch {epoch + 1:4d}  loss {history.losses[epoch]:.2e}")
    predictions = adjit.jit(predict)(state.params, x)
    for inputs, target, prediction in zip(x, y, predictions, strict=True):
        print(f"{inputs[0]:.0f} xor {inputs[1]:.0f} = {target[0]:.0f}   predicted {prediction[0]:.4f}")
    print(f"final loss {loss(state.params, x, y):.1e}")


if __name__ == "__main__":
    main()
