"""Which runs to train next: those that shrink the interval at a target most, for a budget.

To first order a pooled fit is a Gaussian process. The predictions of the log loss at points x and y have covariance

    K(x, y) = sum_f w_f [k_f^2 J_f(x) C_f J_f(y)' + (m_f(x) - m(x)) (m_f(y) - m(y))],

f the pool's forms with weights w_f, Jacobians J_f, covariances C_f, inflations k_f^2 and predictions m_f with mean m:
the doubt about the parameters of each form, and that about the form. A run at x measures the law there with its noise,
inflated likewise: where the form is a little wrong more runs of the same kind do not make it right. What a set S of
runs leaves of the variance at a target t is then K(t, t) - K(t, S) (K(S, S) + noise)^-1 K(S, t).

- ``"c"``, c-optimal: the least variance at the target [Elfving 1952; Atkinson, Donev and Tobias 2007, chapter 10].
- ``"D"``, D-optimal: the most information about the law as a whole, ln det(1 + K(S, S) / noise).

A set is built greedily, by gain and by gain per cost, and each is then improved by exchanging runs. The better one is
taken: greedy choice with costs has no better guarantee than that of the two together [Leskovec et al. 2007, CELF].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit.forms import Array
from scaling_lib.fit.pool import Pool
from scaling_lib.fit.result import FitResult

CRITERIA = ("c", "D")
EXCHANGES = 4  # passes over the chosen runs
MOST_RUNS = 40  # in one piece of advice: with more, linear advice on one fit is no longer worth its cost
STEP = 2.0  # between the sizes, and between the lengths, of `candidate_grid`


@dataclass(frozen=True)
class Advice:
    """Runs to train next, in the order in which they help; ``r`` of ``m`` candidates.

    Attributes
    ----------
    chosen : (r,) indices of the candidates. n, d, cost : (r,) of each.
    width : (r + 1,) half-width of the 90% interval at the target, as a share of the loss: now, and expected after
        each of the runs.
    criterion : ``"c"`` or ``"D"``. budget : what was given.
    """

    chosen: Array
    n: Array
    d: Array
    cost: Array
    width: Array
    criterion: str
    budget: float


class Outlook:
    """What a fit knows at candidates and at a target, and what it would know after more runs; see `next_runs`.

    Raises
    ------
    InputError
        Candidates that are not positive finite numbers of one length; a fit of another law than L(N, D); and runs from
        which no such advice follows: too few, one size, one length, all on a ray of constant D/N, or no trend.
    """

    def __init__(self, fit: FitResult, n: Any, d: Any, cost: Any, target: tuple[float, float]) -> None:
        if fit.law.variables != ("N", "D"):
            raise InputError(f"advice on the next runs needs a law in N and D, not {fit.law.formula}")
        data = check.columns(("N", "D", "cost"), (n, d, cost))
        self.n, self.d, self.cost = data["N"], data["D"], data["cost"]
        at, _ = check.targets(("N", "D"), target)
        if len(at[0]) != 1:
            raise InputError(f"one target is wanted, N and D, not {len(at[0])}")
        pool = fit.pool
        why = fit.standing.flat or "; ".join(fit.standing.refusals)
        if why or pool is None:
            raise InputError(
                f"no advice follows from these {fit.n_points} runs: {why or 'no degree of freedom is left'}. First "
                "train small ones of three sizes or more, each for three token counts or more"
            )
        points = (np.append(self.n, at[0]), np.append(self.d, at[1]))
        self.covariance = _covariance(pool, points)
        noise = pool.noise_at((self.n, self.d)) ** 2
        self.noise = noise * sum(m.weight * m.inflation for m in pool.members)
        low, high = pool.interval(at, 0.9, "mean")
        self._width_now = float((high - low)[0] / (2.0 * pool.predict(at)[0]))

    def _after(self, chosen: Sequence[int] | Array) -> tuple[Array, Array]:
        """What these candidates leave of the variance at each point (m + 1,) and of its covariance with the target."""
        s, k = np.asarray(chosen, dtype=int), self.covariance
        half = np.linalg.solve(k[np.ix_(s, s)] + np.diag(self.noise[s]), k[s])
        return np.diag(k) - np.sum(k[s] * half, axis=0), k[-1] - k[-1, s] @ half

    def left(self, chosen: Sequence[int] | Array) -> float:
        """The share of the variance at the target that is left after the candidates with these indices."""
        return float(self._after(chosen)[0][-1] / self.covariance[-1, -1])

    def information(self, chosen: Sequence[int] | Array) -> float:
        """ln det(1 + K / noise): what the candidates with these indices say about the law as a whole, in nats."""
        s = np.asarray(chosen, dtype=int)
        scaled = self.covariance[np.ix_(s, s)] / np.sqrt(np.outer(self.noise[s], self.noise[s]))
        return float(np.linalg.slogdet(np.eye(len(s)) + scaled)[1])

    def _gains(self, chosen: list[int], criterion: str) -> Array:
        """What each of the candidates (m,) adds to ``information``, or takes from what is ``left``."""
        own, shared = self._after(chosen)
        if criterion == "D":
            return np.log1p(own[:-1] / self.noise)
        return shared[:-1] ** 2 / ((own[:-1] + self.noise) * self.covariance[-1, -1])

    def width(self, chosen: Sequence[int] | Array) -> float:
        """Expected half-width of the 90% interval at the target, as a share of the loss, after these runs."""
        return self._width_now * float(np.sqrt(max(self.left(chosen), 0.0)))

    def choose(self, budget: float, criterion: str = "c") -> Advice:
        """Choose among the candidates, each at most once, for no more than ``budget``.

        Raises InputError for an unknown criterion, and a budget that is no positive number or buys nothing.
        """
        check.choice("criterion", criterion, CRITERIA)
        if not (np.isfinite(budget) and budget > 0):
            raise InputError(f"a budget of {budget:g} buys nothing: give a number above 0")
        if self.cost.min() > budget:
            raise InputError(
                f"the cheapest of the {len(self.n)} runs costs {self.cost.min():.3g}, the budget is {budget:.3g}"
            )
        first = [self._filled([], budget, criterion, price) for price in (self.cost, 1.0)]
        sets = [self._exchanged(s, budget, criterion) for s in first]
        best = self._ordered(max(sets, key=lambda s: self._value(s, criterion)))
        widths = [self.width(best[:i]) for i in range(len(best) + 1)]
        return Advice(best, self.n[best], self.d[best], self.cost[best], np.array(widths), criterion, float(budget))

    def frontier(self, budgets: Sequence[float] | Array) -> Array:
        """Expected half-width (b,) at the target for what each budget buys at best."""
        found = [self.choose(b).width[-1] for b in np.sort(budgets)]
        return np.minimum.accumulate(found)  # a larger budget may buy what a smaller one bought

    def _value(self, chosen: list[int], criterion: str) -> float:
        return self.information(chosen) if criterion == "D" else -self.left(chosen)

    def _filled(self, chosen: list[int], budget: float, criterion: str, price: Array | float = 1.0) -> list[int]:
        """With one run after another added, that of most gain for its ``price``, while the budget lasts."""
        while len(chosen) < MOST_RUNS:
            open_ = self.cost <= budget - self.cost[chosen].sum()
            open_[chosen] = False
            if not open_.any():
                break
            chosen = [*chosen, int(np.argmax(np.where(open_, self._gains(chosen, criterion) / price, -np.inf)))]
        return chosen

    def _exchanged(self, chosen: list[int], budget: float, criterion: str) -> list[int]:
        """With one run at a time swapped for another, or one added, while the set gets better."""
        best = self._value(chosen, criterion)
        for _ in range(EXCHANGES):
            before = best
            for place in range(len(chosen)):
                rest = [*chosen[:place], *chosen[place + 1 :]]
                open_ = self.cost <= budget - self.cost[rest].sum()
                open_[chosen] = False
                scores = self._value(rest, criterion) + np.where(open_, self._gains(rest, criterion), -np.inf)
                if scores.max() > best + 1e-9:
                    best, chosen = float(scores.max()), [*rest, int(np.argmax(scores))]
            chosen = self._filled(chosen, budget, criterion)
            best = self._value(chosen, criterion)
            if best <= before + 1e-9:
                break
        return chosen

    def _ordered(self, chosen: list[int]) -> Array:
        """The same runs, the one that shrinks the interval most for its cost first."""
        out: list[int] = []
        while rest := [i for i in chosen if i not in out]:
            out.append(max(rest, key=(self._gains(out, "c") / self.cost).__getitem__))
        return np.array(out, dtype=int)


def next_runs(
    fit: FitResult, target: tuple[float, float], n: Any, d: Any, cost: Any, budget: float, *, criterion: str = "c"
) -> Advice:
    """Advise on the next runs: those among the candidates that serve the prediction at the target best.

    Parameters
    ----------
    fit : a pooled joint fit (`fit_joint`) of the runs so far.
    target : (N, D), parameters and tokens, where the loss is wanted.
    n, d, cost : (m,) candidates: parameters, tokens, and the price of each in the unit of ``budget``.
    criterion : ``"c"``: the target's interval; ``"D"``: the law as a whole.

    Raises InputError as `Outlook` and `Outlook.choose`.
    """
    return Outlook(fit, n, d, cost, target).choose(budget, criterion)


def candidate_grid(fit: FitResult, most: float, flops_per_6nd: float = 1.0) -> tuple[Array, Array, Array]:
    """Candidates (N, D, cost), each (m,), round the runs of a fit: sizes and lengths a factor of 2 apart.

    From the least to 16 times the largest of either; a run costs 6 N D times ``flops_per_6nd``, at most ``most``.
    Raises InputError where none costs so little.
    """
    axes = []
    for low, high in (fit.fit_range["N"], fit.fit_range["D"]):
        axes.append(low * STEP ** np.arange(np.floor(np.log(16.0 * high / low) / np.log(STEP)) + 1))
    n, d = (v.ravel() for v in np.meshgrid(*axes, indexing="ij"))
    cost = 6.0 * n * d * flops_per_6nd
    keep = cost <= most
    if not keep.any():
        raise InputError(
            f"the cheapest run of the table's sizes costs {cost.min():.3g} FLOPs, and at most {most:.3g} may go to one"
        )
    return n[keep], d[keep], cost[keep]


def _covariance(pool: Pool, x: tuple[Array, ...]) -> Array:
    """Covariance (m, m) of the pool's log predictions at ``x``: of parameters within a form, and between forms."""
    weight = np.array([m.weight for m in pool.mixed])
    weight = weight / weight.sum()
    values, gradients = zip(*(m.at(x) for m in pool.mixed), strict=True)
    apart = np.array(values) - weight @ np.array(values)
    out = (apart.T * weight) @ apart
    for w, member, gradient in zip(weight, pool.mixed, gradients, strict=True):
        out += w * member.inflation * gradient @ member.noise.covariance() @ gradient.T
    return out + 1e-14 * np.eye(len(out))
