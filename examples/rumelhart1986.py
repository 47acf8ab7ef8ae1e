"""The two experiments of the paper that made backpropagation known, on many networks at once.

    python examples/rumelhart1986.py                                      64 and 32 networks: a few seconds
    python examples/rumelhart1986.py --models 1024 --families 256 --seed 1

Symmetry: six inputs, two hidden units, and an output that says whether the six bits read the same from both ends. All
64 patterns make a sweep; rate 0.1, momentum 0.9, weights from -0.3 to 0.3 are the paper's. Hidden units find what its
figure shows: weights of opposite sign on both sides of the middle, in the ratio 1:2:4, so that nothing but a mirror
image adds up to 0.

Family trees: 12 English and 12 Italian people with one tree, and 12 relations. To 104 questions ("Colin has as aunt")
there are answers ("Jennifer and Margaret"). A network sees the person and the relation through six units each, learns
100 of the answers and is asked for the other 4, which it can only know by what it found out about generations, branches
and families. Outputs above 0.8 and below 0.2 are right enough and make no error, as in the paper. With its rate of 0.01
and weights from -0.3 to 0.3 these networks stay on the first plateau for more than 5,000 sweeps; here they begin with
weights from -1 to 1, and the rate is 0.03.

A network has learned when all outputs are on the right side of 0.5. `vmap` of a training step is a step of all networks
in one native call.

Figures of the second line: 66% learn the symmetry, in 1,395 sweeps in the median, and 70% of these have the ratio
1:2:4; 62% learn the answers, in 1,455 sweeps, and of the 4 find 53% (Hinton's two networks 7 of 8); 16 s of processor.

Sources: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors, Nature 323 (1986); Hinton,
Learning distributed representations of concepts, Conference of the Cognitive Science Society (1986).
"""

import argparse

import numpy as np

import adjit
from adjit import nn, optim, random

ENGLISH = "Christopher Penelope Andrew Christine Margaret Arthur Victoria James Jennifer Charles Colin Charlotte"
ITALIAN = "Roberto Maria Pierro Francesca Gina Emilio Lucia Marco Angela Tomaso Alfonso Sophia"
PEOPLE = [*ENGLISH.split(), *ITALIAN.split()]
KINDS = "father mother husband wife son daughter brother sister uncle aunt nephew niece"
RELATIONS = KINDS.split()
# Of both trees, by numbers: who is a man, who is married to whom, and their children.
MEN = {0, 2, 5, 7, 9, 10}
CHILDREN = {(0, 1): [5, 6], (2, 3): [7, 8], (7, 6): [10, 11], (5, 4): [], (9, 8): []}


def init(key, shapes, bound):
    """Layers {"w", "b"} by name, with everything uniform from -bound to bound."""
    layers = {}
    for (name, shape), each in zip(shapes.items(), random.split(key, len(shapes)), strict=True):
        w, b = random.split(each, 2)
        layers[name] = {
            "w": random.uniform(w, shape, low=-bound, high=bound),
            "b": random.uniform(b, shape[1:], low=-bound, high=bound),
        }
    return layers


def layer(params, x):
    return nn.sigmoid(nn.dense(params, x))


def right(outputs, targets):
    """Whether all outputs of a row are on the right side of 0.5."""
    return np.all(np.abs(outputs - targets) < 0.5, axis=1)


def begin(step, shapes, bound, count, seed):
    """A state of so many networks, each with a seed of its own."""
    keys = np.array(random.split(random.key(seed), count))
    return step.init(adjit.vmap(lambda key: init(key, shapes, bound))(keys))


def is_symmetric(params, x):
    return layer(params["out"], layer(params["hidden"], x))


def symmetry_loss(params, x, targets):
    outputs = is_symmetric(params, x)
    return 0.5 * np.sum((outputs - targets) ** 2), np.all(right(outputs, targets))


def symmetry(models, sweeps, seed):
    patterns = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(np.float32)
    targets = np.all(patterns == patterns[:, ::-1], axis=1, keepdims=True).astype(np.float32)
    one = adjit.training_step(symmetry_loss, optim.sgd(0.1, momentum=0.9), has_aux=True)
    step = adjit.vmap(one, in_axes=(0, None, None))
    state = begin(step, {"hidden": (6, 2), "out": (2, 1)}, 0.3, models, seed)
    history = step.run(state, (patterns, targets), batch_size=64, epochs=sweeps, shuffle=False)
    learned, needed = converged(history.aux)
    print(f"symmetry: {learned.mean():.0%} of {models} networks learn it, in {needed} sweeps (paper: 1 of 1 in 1425)")

    weights = state.params["hidden"]["w"][learned]
    # (networks, 6, 2) to the three sizes of each network, the smallest first.
    sizes = np.sort(np.abs(weights[:, :3]).mean(axis=2), axis=1)
    ratios = sizes / sizes[:, :1]
    doubled = np.all(np.abs(ratios - [1, 2, 4]) < [0.1, 0.2, 0.4], axis=1)
    print(f"          {doubled.mean():.0%} of these have weights in the ratio 1:2:4, as in the paper; the first one:")
    for unit in weights[np.argmax(doubled)].T:
        print(f"          {' '.join(f'{weight:7.2f}' for weight in unit)}")


def converged(learned):
    """Which models have learned it in the end, and the median of the sweeps after which they have."""
    ever = learned[-1]
    return ever, int(np.median(np.argmax(learned[:, ever], axis=0)))


def relatives():
    """(person, relation, relative) of one tree, by numbers: the relative is the person's father, mother, ..."""
    spouse = {a: [b] for pair in CHILDREN for a, b in (pair, pair[::-1])}
    parents = {child: pair for pair, children in CHILDREN.items() for child in children}
    children = {person: CHILDREN[pair] for pair in CHILDREN for person in pair}
    siblings = {child: [other for other in CHILDREN[pair] if other != child] for child, pair in parents.items()}

    def follow(people, *steps):
        for step in steps:
            people = [other for person in people for other in step.get(person, [])]
        return people

    for person in range(12):
        aside = follow([person], parents, siblings)
        below = follow([person], siblings, children) + follow([person], spouse, siblings, children)
        found = [
            follow([person], parents), follow([person], spouse), follow([person], children),
            follow([person], siblings), aside + follow(aside, spouse), below,
        ]  # fmt: skip
        for pair, others in enumerate(found):
            yield from ((person, 2 * pair + (other not in MEN), other) for other in others)


def questions():
    """Of each question person, relation and answers, as rows of zeros and ones: (104, 24), (104, 12), (104, 24)."""
    answers = np.zeros((24, 12, 24), np.float32)
    for person, relation, relative in relatives():
        answers[[person, person + 12], relation, [relative, relative + 12]] = 1
    person, relation = np.nonzero(answers.any(axis=2))
    return np.eye(24, dtype=np.float32)[person], np.eye(12, dtype=np.float32)[relation], answers[person, relation]


def answer(params, person, relation):
    h = np.concatenate([layer(params["person"], person), layer(params["relation"], relation)], axis=1)
    return layer(params["out"], layer(params["relative"], layer(params["central"], h)))


def family_loss(params, person, relation, targets, told):
    outputs = answer(params, person, relation)
    errors = np.abs(outputs - targets)
    errors = np.where(errors < 0.2, 0, errors) * told[:, None]
    correct = right(outputs, targets)
    return 0.5 * np.sum(errors**2), (np.all(correct | (told == 0)), np.sum(correct & (told == 0)))


def families(models, sweeps, seed):
    person, relation, targets = questions()
    rng = np.random.default_rng(seed)
    # Each network is not told the answers to four questions of its own.
    told = np.ones((104, models), np.float32)
    for model in range(models):
        told[rng.choice(104, 4, replace=False), model] = 0
    # Rate times decay: weights lose 0.05% a sweep.
    one = adjit.training_step(family_loss, optim.sgd(0.005, momentum=0.5), weight_decay=0.017, has_aux=True)
    step = adjit.vmap(one, in_axes=(0, None, None, None, 1))
    shapes = {"person": (24, 6), "relation": (12, 6), "central": (12, 12), "relative": (12, 6), "out": (6, 24)}
    state = begin(step, shapes, 1.0, models, seed)
    data = (person, relation, targets, told)
    step.run(state, data, batch_size=104, epochs=20, shuffle=False)
    state.hyper["learning_rate"], state.hyper["momentum"] = 0.03, 0.95
    history = step.run(state, data, batch_size=104, epochs=sweeps - 20, shuffle=False)
    learned, needed = converged(history.aux[0])
    found = history.aux[1][-1][learned]
    print(f"families: {learned.mean():.0%} of {models} learn 100 answers, in {20 + needed} sweeps (paper: 1500)")
    print(f"          and find {found.mean() / 4:.0%} of 4 that they were not told (papers: 7 of 8); one of them says:")
    best = np.flatnonzero(learned)[np.argmax(found)]
    outputs = adjit.vmap(answer, in_axes=(0, None, None))(state.params, person, relation)[best]
    for k in np.flatnonzero(told[:, best] == 0):
        who, what = PEOPLE[np.argmax(person[k])], RELATIONS[np.argmax(relation[k])]
        said, known = (", ".join(PEOPLE[other] for other in np.flatnonzero(row[k] > 0.5)) for row in (outputs, targets))
        print(f"          {who} has as {what} {said or 'nobody'}{'' if said == known else f' (wrong: {known})'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=64, help="networks that learn the symmetry")
    parser.add_argument("--families", type=int, default=32, help="networks that learn the family trees")
    parser.add_argument("--sweeps", type=int, default=[5000, 3000], nargs=2, help="of both")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    symmetry(options.models, options.sweeps[0], options.seed)
    families(options.families, options.sweeps[1], options.seed)


if __name__ == "__main__":
    main()
