"""Synthetic languages whose entropy is known exactly: a floor that a measured loss can be compared with.

Two languages. *Uniform*: independent tokens, each equally likely; nothing can be learnt, and the best loss is
``ln V``. *Random walk*: a walk on a sparse random graph whose nodes are the tokens; the next token is a
neighbour of the last one (the idea of arXiv:2601.10684), and the best loss is the walk's entropy rate.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from scaling_lib.errors import InputError

# Enough for one epoch of the longest `laptop` run (16M tokens); a walk this long takes a few seconds to draw.
TRAIN_TOKENS = 2**24
VAL_TOKENS = 2**18
# A walk has no documents. Its validation tokens are clustered in stretches of this many: long against the
# memory of the walk (a few steps), short enough for hundreds of them.
STRETCH = 1024


@dataclass(frozen=True, eq=False)
class RandomWalk:
    """A walk on a weighted undirected graph, in compressed rows (E directed edges, V tokens).

    Attributes
    ----------
    first : int64 (V + 1,), row i's edges are ``first[i]:first[i + 1]``.
    neighbour : int64 (E,), ascending within a row.
    probability : float64 (E,), ``P_ij`` of going from the row's token to ``neighbour``; a row sums to one.
    stationary : float64 (V,), the probability ``pi_i`` of token i in a long walk.
    """

    first: np.ndarray
    neighbour: np.ndarray
    probability: np.ndarray
    stationary: np.ndarray

    @property
    def vocab_size(self) -> int:
        return len(self.stationary)

    @property
    def row(self) -> np.ndarray:
        """The token that each edge leaves, int64 (E,)."""
        return np.repeat(np.arange(self.vocab_size), np.diff(self.first))

    @property
    def entropy_rate(self) -> float:
        """``h = -sum_i pi_i sum_j P_ij ln P_ij`` in nats per token, exact: no predictor can do better."""
        p = self.probability
        return float(-np.sum(self.stationary[self.row] * p * np.log(p)))


def random_walk(vocab_size: int, degree: int = 8, spread: float = 1.0, seed: int = 0) -> RandomWalk:
    """Draw a sparse random graph and the walk on it.

    A ring through all tokens in random order keeps the graph in one piece; random edges are added until the
    mean degree is `degree`. Each edge weighs ``exp(spread * z)``, z standard normal, and ``P_ij = w_ij /
    sum_k w_ik``. Because w is symmetric, the stationary distribution needs no eigenvector: ``pi_i`` is
    proportional to ``sum_j w_ij``.

    Parameters
    ----------
    vocab_size : number of tokens V, at least 5.
    degree : mean number of neighbours, from 2 to V // 2.
    spread : standard deviation of the log weights; 0 makes all neighbours of a token equally likely.
    seed : the same seed gives the same language.

    Raises
    ------
    InputError : a parameter is out of range.

    Examples
    --------
    >>> walk = random_walk(1000, degree=8, spread=0.0)
    >>> 1.9 < walk.entropy_rate < 2.4          # ln 8 = 2.08 if every degree were exactly 8
    True
    """
    check_walk(vocab_size, degree, spread)
    rng = np.random.default_rng([seed, 1])
    n_edges = max(vocab_size, round(vocab_size * degree / 2))
    ring = rng.permutation(vocab_size)
    pairs = np.stack([ring, np.roll(ring, -1)])  # (2, n)
    code = pairs.min(axis=0) * vocab_size + pairs.max(axis=0)
    while len(code) < n_edges:
        drawn = rng.integers(0, vocab_size, (2, 2 * (n_edges - len(code)) + 16))
        drawn = drawn[:, drawn[0] != drawn[1]]
        code = np.concatenate([code, drawn.min(axis=0) * vocab_size + drawn.max(axis=0)])
        _, appeared = np.unique(code, return_index=True)
        # Distinct, in the order drawn, so that cutting the list favours no token.
        code = code[np.sort(appeared)]
    low, high = np.divmod(code[:n_edges], vocab_size)
    weight = np.exp(spread * rng.standard_normal(n_edges))

    row, neighbour = np.concatenate([low, high]), np.concatenate([high, low])
    weight = np.concatenate([weight, weight])
    order = np.lexsort((neighbour, row))
    row, neighbour, weight = row[order], neighbour[order], weight[order]
    strength = np.bincount(row, weights=weight, minlength=vocab_size)
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=vocab_size))])
    return RandomWalk(first, neighbour, weight / strength[row], strength / strength.sum())


def check_walk(vocab_size: int, degree: float, spread: float) -> None:
    """Raise `InputError` if `random_walk` has no such language."""
    if vocab_size < 5:
        raise InputError(f"random-walk: a vocabulary of {vocab_size} is too small; use 5 or more")
    if not 2 <= degree <= vocab_size // 2:
        raise InputError(f"random-walk: degree={degree} must lie between 2 and {vocab_size // 2}")
    if not 0 <= spread <= 10:
        raise InputError(f"random-walk: spread={spread} must lie between 0 and 10")


def sample_walk(walk: RandomWalk, n_tokens: int, seed: int = 0) -> np.ndarray:
    """Walk `n_tokens` steps from a stationary start; uint16 (n_tokens,).

    One walk without a break, so every token but the first is drawn from the row of the token before it.
    """
    rng = np.random.default_rng([seed, 2])
    token = int(rng.choice(walk.vocab_size, p=walk.stationary))
    first, neighbour = walk.first.tolist(), walk.neighbour.tolist()
    running = np.cumsum(walk.probability)
    before = np.concatenate([[0.0], running])[walk.first[:-1]]
    cumulative = (running - np.repeat(before, np.diff(walk.first))).tolist()  # within each row, from P_i0 to 1
    out = np.empty(n_tokens, np.uint16)
    for begin in range(0, n_tokens, 2**18):  # in pieces: a list of Python floats takes 32 bytes a token
        piece = []
        for u in rng.random(min(2**18, n_tokens - begin)).tolist():
            piece.append(token)
            # The last edge of the row takes what is left, so rounding in the sum above cannot leave the row.
            token = neighbour[bisect_right(cumulative, u, first[token], first[token + 1] - 1)]
        out[begin : begin + len(piece)] = piece
    return out


def surprise(walk: RandomWalk, tokens: np.ndarray) -> np.ndarray:
    """``-ln P(token | token before it)`` of each token but the first, nats, float64 (n_tokens - 1,).

    Its mean over a long walk tends to the entropy rate. A step that the walk cannot take has infinite
    surprise.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    step = tokens[:-1] * walk.vocab_size + tokens[1:]
    known = walk.row * walk.vocab_size + walk.neighbour  # ascending, since rows and neighbours are
    edge = np.minimum(np.searchsorted(known, step), len(known) - 1)
    return np.where(known[edge] == step, -np.log(walk.probability[edge]), np.inf)


def sample_uniform(vocab_size: int, n_tokens: int, seed: int = 0) -> np.ndarray:
    """Independent, equally likely tokens; uint16 (n_tokens,)."""
    return np.random.default_rng([seed, 3]).integers(0, vocab_size, n_tokens, dtype=np.uint16)


def parse_options(kind: str, text: str) -> dict[str, float]:
    """Read the options of a synthetic corpus, such as ``"degree=8,spread=0.5"``.

    Returns
    -------
    dict : every option with its default filled in: ``train_tokens`` and ``val_tokens`` (int), and for
        ``random-walk`` also ``degree`` (int) and ``spread`` (float).

    Raises
    ------
    InputError : an unknown option, or a value that is no number or out of range.
    """
    options: dict[str, float] = {"train_tokens": TRAIN_TOKENS, "val_tokens": VAL_TOKENS}
    if kind == "random-walk":
        options |= {"degree": 8, "spread": 1.0}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in options:
            raise InputError(f"{kind}: unknown option {name!r}; there are {', '.join(sorted(options))}")
        try:
            options[name] = float(value) if name == "spread" else int(value)
        except ValueError:
            raise InputError(f"{kind}: {name}={value!r} is not a number of the right kind") from None
    for name in ("train_tokens", "val_tokens"):
        if not 2 <= options[name] <= 10**9:
            raise InputError(f"{kind}: {name}={options[name]} must lie between 2 and 1000000000")
    return options


def generate(kind: str, vocab_size: int, options: dict[str, float], seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw the training and the validation tokens of a corpus: two independent samples of one language.

    Returns
    -------
    train, val : uint16 arrays.
    entropy_rate : nats per token, exact.
    """
    n_train, n_val = int(options["train_tokens"]), int(options["val_tokens"])
    if kind == "uniform":
        sample = sample_uniform(vocab_size, n_train + n_val, seed)
        return sample[n_val:], sample[:n_val], float(np.log(vocab_size))
    walk = random_walk(vocab_size, int(options["degree"]), options["spread"], seed)
    # 2 s and 2 s + 1 differ from each other for every s, and no two s share a walk.
    return sample_walk(walk, n_train, 2 * seed), sample_walk(walk, n_val, 2 * seed + 1), walk.entropy_rate
