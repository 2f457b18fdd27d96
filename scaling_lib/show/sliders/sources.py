"""What a slider may show: a law with its data, or a published one, each with the text that its losses belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult, Verdict
from scaling_lib.runs import Run
from scaling_lib.show.grids import the_grid

DRAWS = 200


@dataclass(frozen=True, eq=False)
class JointLaw:
    """A joint law L(N, D) and what it rests on.

    title, text : a name, and on which text and tokenizer its losses are measured.
    n_range, d_range : the smallest and the largest N and D of the runs that were fitted.
    n_params, n_tokens, loss : float (n,), those runs; empty where they are not at hand.
    counting : how N is counted.
    """

    title: str
    text: str
    law: FitResult | PublishedLaw
    n_range: tuple[float, float]
    d_range: tuple[float, float]
    counting: str
    n_params: np.ndarray = field(default_factory=lambda: np.empty(0))
    n_tokens: np.ndarray = field(default_factory=lambda: np.empty(0))
    loss: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def is_ours(self) -> bool:
        return isinstance(self.law, FitResult)

    @property
    def has_interval(self) -> bool:
        """Whether the law can say how far it may be wrong."""
        return isinstance(self.law, FitResult) or self.law.cov is not None

    def verdict(self, n: float, d: float) -> Verdict:
        """May the law be believed at N and D? Of a published law only the distance from its runs can be judged."""
        if isinstance(self.law, FitResult):
            return self.law.verdict(n, d)
        if far := self.law.beyond({"N": n, "D": d}):
            return Verdict("out of range", (far,))
        ends = (("N", n, self.n_range[1]), ("D", d, self.d_range[1]))
        beyond = [
            f"{np.log10(x / most):.1f} decades beyond the largest {name}" for name, x, most in ends if x > 1.02 * most
        ]
        where = f"the target lies {' and '.join(beyond)}, and " if beyond else ""
        return Verdict("published", (f"{where}the runs of this law are not at hand to judge its form by",))

    def predict(self, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Loss at N and D, nats per token; arrays of one shape."""
        return np.asarray(self.law.predict(n, d))

    def interval(self, n: np.ndarray, d: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the law's mean; NaN where the law was published without a covariance."""
        if not self.has_interval:
            hole = np.full(np.shape(n), np.nan)
            return hole, hole
        low, high = self.law.interval(n, d, level=level)
        return np.asarray(low), np.asarray(high)


def our_source(runs: Sequence[Run]) -> JointLaw:
    """The joint law of a grid of runs such as ``shipped("laptop")``, with bootstrap draws for quick intervals.

    Raises InputError when the runs hold no grid, or two.
    """
    grid = the_grid(runs)
    t = grid.table
    fit = fit_joint(t.n_params, t.n_tokens, t.loss, groups=t.groups, bootstrap=DRAWS)
    corpus = grid.runs[0].corpus
    text = f"{corpus['name']}, vocabulary {grid.runs[0].config.model.vocab_size:,}"
    n, d = np.asarray(t.n_params), np.asarray(t.n_tokens)
    title = f"ours: {len(grid.runs)} runs"
    return JointLaw(title, text, fit, fit.fit_range["N"], fit.fit_range["D"], "without embeddings", n, d, t.loss)


def published_source(name: str = "chinchilla-epoch") -> JointLaw:
    """A published joint law; raises InputError for an unknown law, or one that is not a law of N and D."""
    laws = {key: law for key, law in published.laws.items() if law.law.variables == ("N", "D")}
    if name not in laws:
        raise InputError(f"no published law of N and D is called {name!r}; there are {', '.join(sorted(laws))}")
    law = laws[name]
    counting = "without embeddings" if name.startswith("kaplan") else "with embeddings"
    text = f"{law.corpus}, {law.tokenizer}"
    return JointLaw(law.title, text, law, law.fit_range["N"], law.fit_range["D"], counting)
