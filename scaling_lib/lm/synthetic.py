"""Synthetic languages whose entropy is known exactly: a floor that a measured loss can be compared with.

Three languages. *Uniform*: independent tokens, each equally likely; nothing can be learnt, and the best loss is
``ln V``. *Random walk*: a walk on a sparse random graph whose nodes are the tokens; the next token is a
neighbour of the last one (the idea of arXiv:2601.10684), and the best loss is the walk's entropy rate. *Hierarchy*:
strings that grow from one symbol by rules, level by level (the random hierarchy model, arXiv:2307.02129); the best
loss is a string's entropy over its length.
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


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Rules of a random hierarchy: each symbol of a level may become ``m`` tuples of ``s`` symbols of the next.

    Attributes
    ----------
    rules : int64 (depth, V, m, s). No tuple of a level belongs to two rules, so a string tells its whole tree.
    probability : float64 (m,), of a symbol's rules, the same for every symbol.
    """

    rules: np.ndarray
    probability: np.ndarray

    @property
    def length(self) -> int:
        """Tokens of a string."""
        depth, _, _, children = self.rules.shape
        return int(children**depth)

    @property
    def entropy_rate(self) -> float:
        """``(ln V + (s^depth - 1) / (s - 1) H(rules)) / s^depth`` in nats per token, exact.

        The root is one of V, and each inner node draws a rule: one string has one tree. Windows that hold whole
        strings predict all tokens of as many strings, since the first of the next takes the place of the
        first of their own.
        """
        depth, vocab_size, _, children = self.rules.shape
        inner = (children**depth - 1) // (children - 1)
        p = self.probability
        return float((np.log(vocab_size) - inner * np.sum(p * np.log(p))) / self.length)


def hierarchy(
    vocab_size: int, depth: int = 3, rules: int = 8, children: int = 2, skew: float = 0.0, seed: int = 0
) -> Hierarchy:
    """Draw the rules of a hierarchy.

    Parameters
    ----------
    vocab_size : symbols V of every level; those of the last are the tokens.
    depth : levels of rules; a string has ``children ** depth`` tokens, at most 64.
    rules : m, rules of a symbol, at most ``V ** (children - 1)`` or there would not be enough tuples.
    skew : rule k has a probability in proportion to ``k ** -skew``; 0 makes all equally likely.
    seed : the same seed gives the same language.

    Raises
    ------
    InputError : a parameter is out of range.
    """
    check_hierarchy(vocab_size, depth, rules, children, skew)
    rng = np.random.default_rng([seed, 5])
    drawn = np.empty((depth, vocab_size, rules, children), np.int64)
    for level in range(depth):
        # Distinct tuples, as numbers to the base V: without replacement, so that no two rules share one.
        codes = _distinct(rng, vocab_size**children, vocab_size * rules)
        digits = np.stack(np.unravel_index(codes, (vocab_size,) * children), axis=-1)
        drawn[level] = digits.reshape(vocab_size, rules, children)
    weight = np.arange(1.0, rules + 1) ** -skew
    return Hierarchy(drawn, weight / weight.sum())


def _distinct(rng: np.random.Generator, below: int, count: int) -> np.ndarray:
    """``count`` distinct numbers below ``below``, in random order; int64."""
    if below <= 4 * count:
        return rng.permutation(below)[:count]
    found = np.empty(0, np.int64)
    while len(found) < count:
        found = np.concatenate([found, rng.integers(0, below, 2 * (count - len(found)))])
        _, appeared = np.unique(found, return_index=True)
        found = found[np.sort(appeared)]
    return found[:count]


def check_hierarchy(vocab_size: int, depth: float, rules: float, children: float, skew: float) -> None:
    """Raise `InputError` if `hierarchy` has no such language."""
    if children not in (2, 4):
        raise InputError(f"hierarchy: children={children} must be 2 or 4, so that strings fill a window")
    if vocab_size**children >= 2**63:
        raise InputError(f"hierarchy: a vocabulary of {vocab_size} is too large for children={children}; use 2")
    if not (depth >= 1 and children**depth <= 64):
        raise InputError(f"hierarchy: depth={depth} must be at least 1, and children ** depth at most 64")
    if not 1 <= rules <= min(vocab_size ** (children - 1), 1024):
        raise InputError(f"hierarchy: rules={rules} must lie between 1 and {min(vocab_size ** (children - 1), 1024)}")
    if not 0 <= skew <= 5:
        raise InputError(f"hierarchy: skew={skew} must lie between 0 and 5")


def sample_hierarchy(language: Hierarchy, n_tokens: int, seed: int = 0) -> np.ndarray:
    """Independent strings one after another; uint16, as many whole strings as `n_tokens` hold."""
    rng = np.random.default_rng([seed, 6])
    depth, vocab_size, m, _ = language.rules.shape
    n_strings = max(1, n_tokens // language.length)
    parts = []
    for begin in range(0, n_strings, 2**16):
        symbols = rng.integers(0, vocab_size, (min(2**16, n_strings - begin), 1))
        for level in range(depth):
            rule = rng.choice(m, size=symbols.shape, p=language.probability)
            symbols = language.rules[level][symbols, rule].reshape(len(symbols), -1)
        parts.append(symbols.astype(np.uint16).ravel())
    return np.concatenate(parts)


def parse_options(kind: str, text: str) -> dict[str, float]:
    """Read the options of a synthetic corpus, such as ``"degree=8,spread=0.5"``.

    Returns
    -------
    dict : every option with its default filled in: ``train_tokens`` and ``val_tokens`` (int), and for
        ``random-walk`` also ``degree`` (int) and ``spread`` (float), for ``hierarchy`` also ``depth``, ``rules``,
        ``children`` (int) and ``skew`` (float).

    Raises
    ------
    InputError : an unknown option, or a value that is no number or out of range.
    """
    options: dict[str, float] = {"train_tokens": TRAIN_TOKENS, "val_tokens": VAL_TOKENS}
    if kind == "random-walk":
        options |= {"degree": 8, "spread": 1.0}
    if kind == "hierarchy":
        options |= {"depth": 3, "rules": 8, "children": 2, "skew": 0.0}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in options:
            raise InputError(f"{kind}: unknown option {name!r}; there are {', '.join(sorted(options))}")
        try:
            options[name] = float(value) if name in ("spread", "skew") else int(value)
        except ValueError:
            raise InputError(f"{kind}: {name}={value!r} is not a number of the right kind") from None
    for name in ("train_tokens", "val_tokens"):
        if not 2 <= options[name] <= 10**9:
            raise InputError(f"{kind}: {name}={options[name]} must lie between 2 and 1000000000")
    return options


def unit(kind: str, options: dict[str, float]) -> int:
    """Tokens of a string of a hierarchy, which a window must not cut: its parts depend on each other. Else 1."""
    return int(options["children"] ** options["depth"]) if kind == "hierarchy" else 1


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
    if kind == "hierarchy":
        depth, rules, children = (int(options[name]) for name in ("depth", "rules", "children"))
        language = hierarchy(vocab_size, depth, rules, children, options["skew"], seed)
        train, val = (sample_hierarchy(language, n, 2 * seed + k) for k, n in enumerate((n_train, n_val)))
        return train, val, language.entropy_rate
    walk = random_walk(vocab_size, int(options["degree"]), options["spread"], seed)
    # 2 s and 2 s + 1 differ from each other for every s, and no two s share a walk.
    return sample_walk(walk, n_train, 2 * seed), sample_walk(walk, n_val, 2 * seed + 1), walk.entropy_rate
