"""A network that tells two spirals apart: mini-batches, a schedule, early stopping, and the best parameters kept."""

import copy

import numpy as np

import adjit
from adjit.optim import adam, schedule


def make_data(n, rng):
    t = np.sqrt(rng.random(n)) * 3 * np.pi
    label = rng.integers(0, 2, n)
    side = np.where(label == 0, 1, -1)
    x = np.stack([side * t * np.cos(t), side * t * np.sin(t)], axis=1) / 10
    return x + 0.02 * rng.normal(size=x.shape), label


class MLP:
    def __init__(self, sizes, activation="tanh"):
        self.sizes = sizes
        self.activation = activation

    def init(self, rng):
        return [
            {"W": rng.normal(size=(a, b)) * np.sqrt(1 / a), "b": np.zeros(b)}
            for a, b in zip(self.sizes[:-1], self.sizes[1:])
        ]

    def forward(self, params, x):
        for i, layer in enumerate(params):
            x = x @ layer["W"] + layer["b"]
            if i < len(params) - 1:
                x = np.tanh(x) if self.activation == "tanh" else np.maximum(x, 0)
        return x

    def loss(self, params, x, label):
        logits = self.forward(params, x)
        logits -= logits.max(axis=1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -np.mean(logp[np.arange(len(label)), label])


def train(model, train_set, validation_set, rng, epochs=200, batch_size=50, patience=15):
    x, label = train_set
    rate = schedule.warm_up(schedule.cosine(8e-3, steps=epochs * len(x) // batch_size), steps=50)
    step = adjit.training_step(model.loss, adam(rate))
    state = step.init(model.init(rng))
    validation_loss = adjit.jit(model.loss)

    history = []
    best, best_params, best_state, waited = np.inf, None, None, 0
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        total = 0.0
        for i in range(0, len(x), batch_size):
            batch = order[i : i + batch_size]
            total += step(state, x[batch], label[batch])
        loss = validation_loss(state.params, *validation_set)
        history.append((total / (len(x) // batch_size), loss, rate(state.step)))
        if loss < best - 1e-4:
            best, waited = loss, 0
            best_params, best_state = copy.deepcopy(state.params), state.copy()
        else:
            waited += 1
        if waited >= patience:
            break
        if epoch % 20 == 0:
            print("epoch {:3d}: train {:.4f}, validation {:.4f}, rate {:.5f}".format(epoch, *history[-1]))
    return history, best, best_params, best_state, state


def main():
    rng = np.random.default_rng(0)
    train_set, validation_set = make_data(1000, rng), make_data(300, rng)
    model = MLP([2, 32, 32, 2])
    history, best, best_params, best_state, state = train(model, train_set, validation_set, rng)
    x, label = validation_set
    accuracy = np.mean(adjit.jit(model.forward)(best_params, x).argmax(axis=1) == label)
    print(f"stopped after {len(history)} epochs; best loss {best:.4f}, {accuracy:.1%} right")

    # Back to the best parameters, in place.
    for layer, kept in zip(state.params, best_params):
        for name in kept:
            layer[name][...] = kept[name]
    return {
        "model": model, "history": history, "best": best, "best_params": best_params, "best_state": best_state,
        "state": state, "accuracy": accuracy, "validation_set": validation_set,
    }  # fmt: skip


if __name__ == "__main__":
    main()
