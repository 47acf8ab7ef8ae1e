"""A table of numbers and categories: who earns more than 50,000 dollars in the census of 1994?

    python examples/tabular.py                              1,800 rows to train on, 600 to test: a few seconds
    python examples/tabular.py --data adult.data adult.test     UCI's files: 32,561 and 16,281 rows

Each category has a vector that is learnt; each number is standardised, and its bin has a vector, too. Two layers read
all of them side by side. The figure is the area under the ROC curve (AUC): how often a row above 50,000 is given a
higher score than one below. On the whole files it is 0.923 in a second (seed 0); scikit-learn 1.9.1 with the same
columns: LogisticRegression 0.899, MLPClassifier((64, 32), early_stopping=True) 0.905, HistGradientBoostingClassifier
0.927. On the rows that are here: 0.88 to 0.90 by the seed; 0.888, 0.899 and 0.887.

Sources: Becker and Kohavi (1996), Adult, UCI Machine Learning Repository; Guo and Berkhahn, Entity embeddings of
categorical variables, arXiv:1604.06737 (2016); Gorishniy, Rubachev and Babenko, On embeddings for numerical features
in tabular deep learning, NeurIPS 2022, for bins.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np

import adjit
from adjit import nn, optim, random

DATA = Path(__file__).parent / "data" / "adult.csv.gz"
COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race",
    "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income",
)  # fmt: skip
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
# Not fnlwgt: it says how many people a row stands for, and not who they are.
BINS = 32
CATEGORIES = tuple(name for name in COLUMNS[:-1] if name not in (*NUMBERS, "fnlwgt"))


def read(path):
    """The columns of a file by name, as text."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        rows = [[cell.strip() for cell in line.split(",")] for line in file]
    return dict(zip(COLUMNS, np.array([row for row in rows if len(row) == len(COLUMNS)]).T, strict=True))


def numbers(table):
    columns = {name: table[name].astype(np.float32) for name in NUMBERS}
    # Gains and losses are 0 for most, and some are a thousand times others.
    return np.stack([np.log1p(c) if name.startswith("capital") else c for name, c in columns.items()], axis=1)


def encoded(table, train):
    """What the network reads: standardised numbers, and for each category and each number a place among its names or
    bins in the training rows."""
    x, known = numbers(table), numbers(train)
    places = []
    for name in CATEGORIES:
        names = np.unique(train[name])
        place = np.minimum(np.searchsorted(names, table[name]), len(names) - 1)
        # The last vector is for what was never seen.
        places.append(np.where(names[place] == table[name], place, len(names)))
    for column, seen in zip(x.T, known.T, strict=True):
        edges = np.quantile(np.unique(seen), np.arange(1, BINS) / BINS)
        places.append(np.searchsorted(edges, column))
    rich = np.char.startswith(table["income"], ">").astype(np.float32)
    return (x - known.mean(0)) / known.std(0), np.stack(places, axis=1), rich


def init(sizes, hidden, seed):
    keys = random.split(random.key(seed), len(sizes) + 3)
    tables = [
        nn.init.embedding(size, min(8, 1 + size // 2), key=key) for size, key in zip(sizes, keys[3:], strict=True)
    ]
    inputs = len(NUMBERS) + sum(table.shape[1] for table in tables)
    return {
        "tables": tables,
        "first": nn.init.dense(inputs, hidden, key=keys[0]),
        "second": nn.init.dense(hidden, hidden // 2, key=keys[1]),
        "out": nn.init.dense(hidden // 2, 1, key=keys[2]),
    }


def scores(params, x, places, key=None):
    keys = [None, None] if key is None else random.split(key, 2)
    parts = [nn.embedding(table, places[:, i]) for i, table in enumerate(params["tables"])]
    h = np.concatenate([x, *parts], axis=1)
    h = nn.dropout(nn.relu(nn.dense(params["first"], h)), 0.5, keys[0])
    h = nn.dropout(nn.relu(nn.dense(params["second"], h)), 0.5, keys[1])
    return nn.dense(params["out"], h)[:, 0]


def loss(params, x, places, labels, *, key):
    return nn.binary_cross_entropy_with_logits(scores(params, x, places, key), labels)


def auc(scores, labels):
    """The share of pairs, one of each class, in the right order; equal scores count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positive = labels == 1
    count, others = positive.sum(), (~positive).sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * others)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, nargs=2, metavar=("TRAIN", "TEST"), help="two files of UCI's Adult")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    if options.data:
        train, test = (read(path) for path in options.data)
    else:
        whole = read(DATA)
        train = {name: column[:1800] for name, column in whole.items()}
        test = {name: column[1800:] for name, column in whole.items()}
    (*inputs, labels), (*test_inputs, test_labels) = encoded(train, train), encoded(test, train)
    sizes = [*(len(np.unique(train[name])) + 1 for name in CATEGORIES), *(BINS for _ in NUMBERS)]
    rate = optim.schedule.cosine(options.rate, steps=options.epochs * -(-len(labels) // 64))
    step = adjit.training_step(loss, optim.adamw(rate, weight_decay=0.01))
    state = step.init(init(sizes, options.hidden, options.seed), key=options.seed)
    measure = adjit.jit(scores)

    print(f"{len(labels)} rows to train on, {len(test_labels)} to test, {np.mean(labels):.1%} above 50,000 dollars")
    begun = time.perf_counter()
    for epoch in range(options.epochs):
        history = step.run(state, (*inputs, labels), batch_size=64, seed=options.seed)
        found = measure(state.params, *test_inputs)
        print(f"epoch {epoch + 1:2d}  loss {np.mean(history.losses):.4f}  AUC {auc(found, test_labels):.4f}")
    print(f"{time.perf_counter() - begun:.1f} s")
    print(f"accuracy {np.mean((found > 0) == test_labels):.2%}")
    print(f"AUC {auc(found, test_labels):.4f}")


if __name__ == "__main__":
    main()
