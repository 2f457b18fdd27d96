"""Synthetic languages whose entropy is known exactly: a floor that a measured loss can be compared with.

Three languages. *Uniform*: independent tokens, each equally likely; nothing can be learnt, and the best loss is
``ln V``. *Random walk*: a walk on a sparse random graph whose nodes are the tokens; the next token is a
neighbour of the last one (the idea of arXiv:2601.10684), and the best loss is the walk's entropy rate. *Hierarchy*:
strings that grow from one symbol by rules, level by level (the random hierarchy model, arXiv:2307.02129); the best
loss is a string's entropy over its length.
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError

# A walk has no documents. Its validation tokens are clustered in stretches of this many: long against the
# memory of the walk (a few steps), short enough for hundreds of them.
STRETCH = 1024
# Enough for one epoch of the longest `laptop` run (16M tokens); a walk this long takes a few seconds to draw.
SIZES = {"train_tokens": 2**24, "val_tokens": 2**18}
# The options of each language beside SIZES. A whole default takes whole numbers only.
LANGUAGES: dict[str, dict[str, Any]] = {
    "uniform": {},
    "random-walk": {"degree": 8, "spread": 1.0},
    "hierarchy": {"depth": 3, "rules": 8, "children": 2, "skew": 0.0},
}


@dataclass(frozen=True, eq=False)
class RandomWalk:
    """A walk on a weighted undirected graph, in compressed rows (E directed edges, V tokens).

    Attributes
    ----------
    first : int64 (V + 1,)
        Row i's edges are ``first[i]:first[i + 1]``.
    neighbour : int64 (E,)
        Ascending within a row.
    probability : float64 (E,)
        ``P_ij`` of going from the row's token to ``neighbour``; a row sums to one.
    stationary : float64 (V,)
        The probability ``pi_i`` of token i in a long walk.
    """

    first: np.ndarray
    neighbour: np.ndarray
    probability: np.ndarray
    stationary: np.ndarray

    @property
    def entropy_rate(self) -> float:
        """``h = -sum_i pi_i sum_j P_ij ln P_ij`` in nats per token, exact: no predictor can do better."""
        p = self.probability
        return float(-np.sum(np.repeat(self.stationary, np.diff(self.first)) * p * np.log(p)))

    def sample(self, n_tokens: int, seed: int = 0) -> np.ndarray:
        """Walk `n_tokens` steps without a break, from a stationary start; uint16 (n_tokens,)."""
        rng = np.random.default_rng([seed, 2])
        token = int(rng.choice(len(self.stationary), p=self.stationary))
        first, neighbour = self.first.tolist(), self.neighbour.tolist()
        running = np.cumsum(self.probability)
        before = np.concatenate([[0.0], running])[self.first[:-1]]
        cumulative = (running - np.repeat(before, np.diff(self.first))).tolist()  # within each row, from P_i0 to 1
        out = np.empty(n_tokens, np.uint16)
        for begin in range(0, n_tokens, 2**18):  # in pieces: a list of Python floats takes 32 bytes a token
            piece = []
            for u in rng.random(min(2**18, n_tokens - begin)).tolist():
                piece.append(token)
                # The last edge of the row takes what is left, so rounding in the sum above cannot leave the row.
                token = neighbour[bisect_right(cumulative, u, first[token], first[token + 1] - 1)]
            out[begin : begin + len(piece)] = piece
        return out


def random_walk(vocab_size: int, degree: int = 8, spread: float = 1.0, seed: int = 0) -> RandomWalk:
    """Draw a sparse random graph and the walk on it.

    A ring through all tokens in random order keeps the graph in one piece; random edges are added until the
    mean degree is `degree`. Each edge weighs ``exp(spread * z)``, z standard normal, and ``P_ij = w_ij /
    sum_k w_ik``. Because w is symmetric, the stationary distribution needs no eigenvector: ``pi_i`` is
    proportional to ``sum_j w_ij``.

    Parameters
    ----------
    vocab_size : int
        Number of tokens V, at least 5.
    degree : int
        Mean number of neighbours, from 2 to V // 2.
    spread : float
        Standard deviation of the log weights, 0 to 10; 0 makes all neighbours of a token equally likely.

    Raises
    ------
    InputError
        A parameter is out of range.

    Examples
    --------
    >>> walk = random_walk(1000, degree=8, spread=0.0)
    >>> 1.9 < walk.entropy_rate < 2.4          # ln 8 = 2.08 if every degree were exactly 8
    True
    """
    _check("random-walk", vocab_size, {"degree": degree, "spread": spread})
    rng = np.random.default_rng([seed, 1])
    n_edges = max(vocab_size, round(vocab_size * degree / 2))
    ring = rng.permutation(vocab_size)
    pairs = np.stack([ring, np.roll(ring, -1)])  # (2, n)
    code = pairs.min(axis=0) * vocab_size + pairs.max(axis=0)
    while len(code) < n_edges:
        drawn = rng.integers(0, vocab_size, (2, 2 * (n_edges - len(code)) + 16))
        drawn = drawn[:, drawn[0] != drawn[1]]
        code = _distinct(np.concatenate([code, drawn.min(axis=0) * vocab_size + drawn.max(axis=0)]))
    low, high = np.divmod(code[:n_edges], vocab_size)
    weight = np.tile(np.exp(spread * rng.standard_normal(n_edges)), 2)

    row, neighbour = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((neighbour, row))
    row, neighbour, weight = row[order], neighbour[order], weight[order]
    strength = np.bincount(row, weights=weight, minlength=vocab_size)
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=vocab_size))])
    return RandomWalk(first, neighbour, weight / strength[row], strength / strength.sum())


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, in the order drawn, so that cutting the list favours none."""
    return numbers[np.sort(np.unique(numbers, return_index=True)[1])]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Rules of a random hierarchy: each symbol of a level may become ``m`` tuples of ``s`` symbols of the next.

    Attributes
    ----------
    rules : int64 (depth, V, m, s)
        No tuple of a level belongs to two rules, so a string tells its whole tree.
    probability : float64 (m,)
        Of a symbol's rules, the same for every symbol.
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

    def sample(self, n_tokens: int, seed: int = 0) -> np.ndarray:
        """Independent strings one after another; uint16, as many whole strings as `n_tokens` hold."""
        rng = np.random.default_rng([seed, 6])
        depth, vocab_size, m, _ = self.rules.shape
        n_strings = max(1, n_tokens // self.length)
        parts = []
        for begin in range(0, n_strings, 2**16):
            symbols = rng.integers(0, vocab_size, (min(2**16, n_strings - begin), 1))
            for level in range(depth):
                rule = rng.choice(m, size=symbols.shape, p=self.probability)
                symbols = self.rules[level][symbols, rule].reshape(len(symbols), -1)
            parts.append(symbols.astype(np.uint16).ravel())
        return np.concatenate(parts)


def hierarchy(
    vocab_size: int, depth: int = 3, rules: int = 8, children: int = 2, skew: float = 0.0, seed: int = 0
) -> Hierarchy:
    """Draw the rules of a hierarchy.

    Parameters
    ----------
    vocab_size : int
        Symbols V of every level; those of the last are the tokens.
    depth : int
        Levels of rules; a string has ``children ** depth`` tokens, at most 64.
    rules : int
        m, rules of a symbol, at most ``V ** (children - 1)`` or there would not be enough tuples.
    children : int
        s, 2 or 4.
    skew : float
        Rule k has a probability in proportion to ``k ** -skew``; 0 makes all equally likely, 5 is the most.

    Raises
    ------
    InputError
        A parameter is out of range.
    """
    _check("hierarchy", vocab_size, {"depth": depth, "rules": rules, "children": children, "skew": skew})
    rng = np.random.default_rng([seed, 5])
    drawn = np.empty((depth, vocab_size, rules, children), np.int64)
    for level in range(depth):
        # Distinct tuples, as numbers to the base V: without replacement, so that no two rules share one.
        below, count = vocab_size**children, vocab_size * rules
        codes = rng.permutation(below)[:count] if below <= 4 * count else np.empty(0, np.int64)
        while len(codes) < count:
            codes = _distinct(np.concatenate([codes, rng.integers(0, below, 2 * (count - len(codes)))]))
        digits = np.stack(np.unravel_index(codes[:count], (vocab_size,) * children), axis=-1)
        drawn[level] = digits.reshape(vocab_size, rules, children)
    weight = np.arange(1.0, rules + 1) ** -skew
    return Hierarchy(drawn, weight / weight.sum())


def _check(kind: str, vocab_size: int, options: dict[str, Any]) -> None:
    """Raise `InputError` for an option outside the limits of its language."""
    limits: dict[str, tuple[float, float]] = {"degree": (2, vocab_size // 2), "spread": (0, 10), "skew": (0, 5)}
    limits |= dict.fromkeys(SIZES, (2, 10**9))
    if kind == "hierarchy":
        children = options["children"]
        if children not in (2, 4):
            raise InputError(f"hierarchy: children={children} must be 2 or 4, so that strings fill a window")
        if vocab_size**children >= 2**63:
            raise InputError(f"hierarchy: a vocabulary of {vocab_size} is too large for children={children}; use 2")
        limits["depth"] = (1, {2: 6, 4: 3}[children])  # strings of 64 tokens at most
        limits["rules"] = (1, min(vocab_size ** (children - 1), 1024))
    for name, value in options.items():
        low, high = limits.get(name, (value, value))
        if not low <= value <= high:
            raise InputError(
                f"{kind}: {name}={value} must lie between {low} and {high}, at a vocabulary of {vocab_size}"
            )


def parse_options(kind: str, text: str, vocab_size: int) -> dict[str, Any]:
    """Read the options of a language, such as ``"degree=8,spread=0.5"``: every one, with its default filled in.

    Raises
    ------
    InputError
        An unknown option, or a value that is no number or out of range.
    """
    options = {**SIZES, **LANGUAGES[kind]}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in options:
            raise InputError(f"{kind}: unknown option {name!r}; there are {', '.join(sorted(options))}")
        try:
            options[name] = type(options[name])(value)
        except ValueError:
            raise InputError(f"{kind}: {name}={value!r} is not a number of the right kind") from None
    _check(kind, vocab_size, options)
    return options


def generate(
    kind: str, vocab_size: int, options: dict[str, Any], seed: int
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Draw the training and the validation tokens of a corpus: two independent samples of one language.

    Returns
    -------
    train, val : uint16 arrays
    entropy_rate : float
        Nats per token, exact.
    unit : int
        Tokens of a string, which a window must not cut since its parts depend on each other; 1 where there is none.
    """
    n_train, n_val = options["train_tokens"], options["val_tokens"]
    if kind == "uniform":
        both = np.random.default_rng([seed, 3]).integers(0, vocab_size, n_train + n_val, dtype=np.uint16)
        return both[n_val:], both[:n_val], float(np.log(vocab_size)), 1
    own = {name: options[name] for name in LANGUAGES[kind]}
    language = (random_walk if kind == "random-walk" else hierarchy)(vocab_size, **own, seed=seed)
    # 2 s and 2 s + 1 differ from each other for every s, and no two s share a sample.
    train, val = (language.sample(n, 2 * seed + k) for k, n in enumerate((n_train, n_val)))
    return train, val, language.entropy_rate, language.length if isinstance(language, Hierarchy) else 1
