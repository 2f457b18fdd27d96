"""The synthetic languages against an eigenvector, chi-squared tests and learners that only count."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from scaling_lib.errors import InputError
from scaling_lib.lm import synthetic


def dense(walk: synthetic.RandomWalk) -> np.ndarray:
    """The transition matrix, (V, V)."""
    size = len(walk.stationary)
    return csr_array((walk.probability, walk.neighbour, walk.first), shape=(size, size)).toarray()


def surprise(walk: synthetic.RandomWalk, tokens: np.ndarray) -> np.ndarray:
    """``-ln P(token | token before it)`` of each token but the first, nats."""
    return -np.log(dense(walk)[tokens[:-1], tokens[1:]])


@pytest.mark.parametrize(("degree", "spread"), [(2, 0.0), (6, 0.0), (6, 1.0), (30, 3.0)])
def test_entropy_rate_equals_that_of_the_leading_eigenvector(degree, spread):
    walk = synthetic.random_walk(61, degree, spread, seed=5)
    matrix = dense(walk)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    values, vectors = np.linalg.eig(matrix.T)
    leading = np.real(vectors[:, np.argmax(np.real(values))])
    leading /= leading.sum()
    np.testing.assert_allclose(walk.stationary, leading, atol=1e-10)
    rate = np.average([stats.entropy(row) for row in matrix], weights=leading)
    assert walk.entropy_rate == pytest.approx(rate, abs=1e-10)


def test_equal_weights_have_the_entropy_of_the_degrees():
    walk = synthetic.random_walk(400, 8, 0.0)
    degree = np.diff(walk.first)
    assert walk.entropy_rate == pytest.approx(np.sum(degree * np.log(degree)) / np.sum(degree), abs=1e-12)


@pytest.mark.parametrize("vocab_size", [5, 60, 1000])
def test_the_graph_is_sparse_simple_and_in_one_piece(vocab_size):
    degree = 2 if vocab_size == 5 else 8
    walk = synthetic.random_walk(vocab_size, degree, 1.0, seed=1)
    matrix = dense(walk)
    assert not matrix.diagonal().any()
    np.testing.assert_array_equal(matrix > 0, matrix.T > 0)
    assert connected_components(csr_array(matrix))[0] == 1
    assert np.count_nonzero(matrix) == vocab_size * degree


def test_every_pair_of_tokens_is_equally_likely_to_be_joined():
    # Were the random edges cut off in sorted order, low tokens would have more neighbours than high ones.
    degrees = np.mean([np.diff(synthetic.random_walk(50, 10, seed=s).first) for s in range(200)], axis=0)
    assert degrees[:25].mean() == pytest.approx(degrees[25:].mean(), abs=0.2)


def test_steps_of_a_walk_have_the_probabilities_of_the_matrix():
    walk = synthetic.random_walk(20, 5, 1.5, seed=2)
    tokens = walk.sample(100_000, seed=0).astype(int)
    assert tokens.min() >= 0
    assert tokens.max() < 20
    counts = np.zeros((20, 20))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    matrix = dense(walk)
    assert not counts[matrix == 0].any()
    expected = counts.sum(axis=1, keepdims=True) * matrix
    statistic = np.sum((counts - expected)[matrix > 0] ** 2 / expected[matrix > 0])
    assert stats.chi2.sf(statistic, np.count_nonzero(matrix) - 20) > 1e-4


def test_walks_start_from_the_stationary_distribution():
    walk = synthetic.random_walk(10, 4, 1.5, seed=2)
    starts = [int(walk.sample(1, seed=s)[0]) for s in range(3000)]
    counts = np.bincount(starts, minlength=10)
    assert stats.chisquare(counts, 3000 * walk.stationary).pvalue > 1e-4


def loss_of_counted_pairs(train: np.ndarray, val: np.ndarray, vocab_size: int) -> float:
    """What a learner reaches that counts pairs of tokens, each count plus 0.01; nats per token."""
    counts = np.full((vocab_size, vocab_size), 0.01)
    np.add.at(counts, (train[:-1].astype(int), train[1:].astype(int)), 1)
    probability = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log(probability[val[:-1].astype(int), val[1:].astype(int)]).mean())


def test_uniform_text_cannot_be_learnt_below_the_log_of_the_vocabulary():
    options = {"train_tokens": 200_000, "val_tokens": 50_000}
    train, val, entropy, _ = synthetic.generate("uniform", 300, options, seed=0)
    assert entropy == pytest.approx(np.log(300), abs=1e-12)
    assert stats.chisquare(np.bincount(train, minlength=300)).pvalue > 1e-4
    assert loss_of_counted_pairs(train, val, 300) > entropy
    assert loss_of_counted_pairs(train, train, 300) < entropy  # by heart, it can: the check above has teeth


def test_a_walk_is_learnt_down_to_its_entropy_rate_and_no_further():
    options = {"train_tokens": 400_000, "val_tokens": 50_000, "degree": 8, "spread": 1.0}
    train, val, entropy, _ = synthetic.generate("random-walk", 300, options, seed=4)
    walk = synthetic.random_walk(300, 8, 1.0, seed=4)
    best = surprise(walk, val).mean()  # of this very sample, so that chance cancels
    assert best < loss_of_counted_pairs(train, val, 300) < best + 0.02
    assert best == pytest.approx(entropy, abs=0.02)


@pytest.mark.parametrize("kind", ["random-walk", "uniform"])
def test_a_seed_decides_the_samples(kind):
    options = synthetic.parse_options(kind, "train_tokens=500,val_tokens=400", 300)
    one, same, other = (synthetic.generate(kind, 300, options, seed) for seed in (0, 0, 1))
    for a, b, c in zip(one[:2], same[:2], other[:2], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert not np.array_equal(one[0][:400], one[1])  # training and validation differ
    assert (len(one[0]), len(one[1]), one[0].dtype) == (500, 400, np.uint16)


@pytest.mark.parametrize(
    "spec",
    ["uniform:degree=8", "random-walk:width=8", "random-walk:degree", "random-walk:degree=2.5", "random-walk:degree=1",
     "random-walk:degree=257", "random-walk:spread=wide", "random-walk:spread=-1", "random-walk:spread=nan",
     "random-walk:train_tokens=0", "random-walk:val_tokens=1e12", "hierarchy:depth=7", "hierarchy:rules=0",
     "hierarchy:rules=100000", "hierarchy:children=5", "hierarchy:skew=-1", "hierarchy:depth=x", "hierarchy:floor=2",
     "hierarchy:depth=1000000000000"],
)  # fmt: skip
def test_a_language_that_cannot_be_is_one_line(spec):
    kind, _, options = spec.partition(":")
    with pytest.raises(InputError, match=rf"\A{kind}: [^\n]+\Z"):
        synthetic.parse_options(kind, options, 512)


def test_a_graph_that_cannot_be_is_refused_where_it_is_drawn():
    for bad in ({"degree": 1}, {"degree": 31}, {"spread": 11}):
        with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
            synthetic.random_walk(60, **bad)


# ---- hierarchy


def written_out(language: synthetic.Hierarchy) -> list[tuple[tuple[int, ...], float]]:
    """Every derivation of a hierarchy of two levels and two children: its string and its probability."""
    _, vocab_size, rules, _ = language.rules.shape
    p = language.probability
    found = []
    for root, top, a, b in itertools.product(range(vocab_size), *[range(rules)] * 3):
        left, right = language.rules[0, root, top]
        string = (*language.rules[1, left, a].tolist(), *language.rules[1, right, b].tolist())
        found.append((string, float(p[top] * p[a] * p[b] / vocab_size)))
    return found


def test_the_entropy_of_a_small_hierarchy_is_that_of_all_its_strings():
    language = synthetic.hierarchy(6, depth=2, rules=3, children=2, skew=1.0, seed=4)
    chances = dict(written_out(language))
    assert len(chances) == 6 * 3**3, "two trees give one string"
    assert sum(chances.values()) == pytest.approx(1)
    assert language.length == 4
    assert language.entropy_rate == pytest.approx(stats.entropy(list(chances.values())) / 4, abs=1e-12)


def test_strings_are_drawn_with_the_probabilities_of_their_trees():
    language = synthetic.hierarchy(5, depth=2, rules=2, children=2, skew=0.5, seed=1)
    tokens = language.sample(400_000, seed=3).reshape(-1, 4)
    strings, counts = np.unique(tokens, axis=0, return_counts=True)
    expected = dict(written_out(language))
    assert {tuple(s) for s in strings.tolist()} == set(expected)
    wanted = [expected[tuple(s)] * len(tokens) for s in strings.tolist()]
    assert stats.chisquare(counts, wanted).pvalue > 1e-4


@pytest.mark.parametrize(
    ("vocab", "depth", "rules", "children"), [(512, 3, 8, 2), (300, 1, 40, 2), (16, 2, 16, 2), (20, 2, 9, 4)]
)
def test_no_tuple_belongs_to_two_rules(vocab, depth, rules, children):
    language = synthetic.hierarchy(vocab, depth, rules, children)
    for level in language.rules.reshape(depth, vocab * rules, children):
        assert len(np.unique(level, axis=0)) == vocab * rules
        assert level.min() >= 0
        assert level.max() < vocab
    assert len(language.sample(1000)) == 1000 // language.length * language.length
