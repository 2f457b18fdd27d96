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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit import check
from scaling_lib.fit.forms import Array
from scaling_lib.fit.pool import LEAST_WEIGHT, Pool
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
    """What a fit knows at candidates and at a target, and what it would know after more runs.

    Parameters
    ----------
    fit : a pooled joint fit. n, d, cost : (m,) candidates: parameters, tokens and price in any one unit.
    target : (N, D).

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

    def left(self, chosen: Sequence[int] | Array) -> float:
        """The share of the variance at the target that is left after the candidates with these indices."""
        s = np.asarray(chosen, dtype=int)
        k = self.covariance
        if len(s) == 0:
            return 1.0
        inner = k[np.ix_(s, s)] + np.diag(self.noise[s])
        return float(1.0 - k[-1, s] @ np.linalg.solve(inner, k[s, -1]) / k[-1, -1])

    def information(self, chosen: Sequence[int] | Array) -> float:
        """ln det(1 + K / noise): what the candidates with these indices say about the law as a whole, in nats."""
        s = np.asarray(chosen, dtype=int)
        scaled = self.covariance[np.ix_(s, s)] / np.sqrt(np.outer(self.noise[s], self.noise[s]))
        return float(np.linalg.slogdet(np.eye(len(s)) + scaled)[1])

    def width(self, chosen: Sequence[int] | Array) -> float:
        """Expected half-width of the 90% interval at the target, as a share of the loss, after these runs."""
        return self._width_now * float(np.sqrt(max(self.left(chosen), 0.0)))

    def choose(self, budget: float, criterion: str = "c") -> Advice:
        """Choose among the candidates, each at most once, for no more than ``budget``.

        Raises
        ------
        InputError
            An unknown criterion; a budget that is no positive number, or buys none of the candidates.
        """
        check.choice("criterion", criterion, CRITERIA)
        if not (np.isfinite(budget) and budget > 0):
            raise InputError(f"a budget of {budget:g} buys nothing: give a number above 0")
        if self.cost.min() > budget:
            raise InputError(
                f"the cheapest of the {len(self.n)} runs costs {self.cost.min():.3g}, the budget is {budget:.3g}"
            )
        value: Callable[[Array], float] = self.information if criterion == "D" else lambda s: -self.left(s)
        sets = [self._exchange(self._greedy(budget, criterion, per_cost), budget, value) for per_cost in (True, False)]
        best = self._ordered(max(sets, key=lambda s: value(np.array(s, dtype=int))))
        widths = [self.width(best[:i]) for i in range(len(best) + 1)]
        return Advice(best, self.n[best], self.d[best], self.cost[best], np.array(widths), criterion, float(budget))

    def frontier(self, budgets: Sequence[float] | Array) -> Array:
        """Expected half-width (b,) at the target for what each budget buys at best."""
        found = [self.choose(b).width[-1] for b in np.sort(budgets)]
        return np.minimum.accumulate(found)  # a larger budget may buy what a smaller one bought

    def _greedy(self, budget: float, criterion: str, per_cost: bool) -> list[int]:
        """One run after another, the covariance conditioned on each."""
        chosen: list[int] = []
        k, left = self.covariance, budget
        open_ = np.ones(len(self.n), dtype=bool)
        while len(chosen) < MOST_RUNS and np.any(affordable := open_ & (self.cost <= left)):
            own = np.diag(k)[:-1]
            gain = np.log1p(own / self.noise) if criterion == "D" else k[-1, :-1] ** 2 / (own + self.noise)
            i = int(np.argmax(np.where(affordable, gain / self.cost if per_cost else gain, -np.inf)))
            chosen.append(i)
            left -= self.cost[i]
            open_[i] = False
            k = k - np.outer(k[:, i], k[i]) / (k[i, i] + self.noise[i])
        return chosen

    def _exchange(self, chosen: list[int], budget: float, value: Callable[[Array], float]) -> list[int]:
        """Swap one run at a time for another, or add one, while the set gets better."""
        best, current = value(np.array(chosen)), list(chosen)
        for _ in range(EXCHANGES):
            before = best
            for place in range(len(current)):
                rest = [*current[:place], *current[place + 1 :]]
                left = budget - self.cost[rest].sum()
                others = [i for i in range(len(self.n)) if i not in current and self.cost[i] <= left]
                scores = [value(np.array([*rest, i])) for i in others]
                if scores and max(scores) > best + 1e-9:
                    best = max(scores)
                    current = [*rest, others[int(np.argmax(scores))]]
            left = budget - self.cost[current].sum()
            while others := [i for i in range(len(self.n)) if self.cost[i] <= left and i not in current]:
                if len(current) >= MOST_RUNS:
                    break
                current.append(max(others, key=lambda i: value(np.array([*current, i]))))
                left -= self.cost[current[-1]]
                best = value(np.array(current))
            if best <= before + 1e-9:
                break
        return current

    def _ordered(self, chosen: list[int]) -> Array:
        """The same runs, the one that shrinks the interval most for its cost first."""
        out: list[int] = []
        while rest := [i for i in chosen if i not in out]:
            now = self.left(out)
            out.append(max(rest, key=lambda i: (now - self.left([*out, i])) / self.cost[i]))
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

    Raises
    ------
    InputError
        As `Outlook` and `Outlook.choose`.
    """
    return Outlook(fit, n, d, cost, target).choose(budget, criterion)


def candidate_grid(fit: FitResult, most: float, flops_per_6nd: float = 1.0) -> tuple[Array, Array, Array]:
    """Candidates (N, D, cost), each (m,), round the runs of a fit: sizes and lengths a factor of 2 apart.

    From the least to 16 times the largest of either; a run costs 6 N D times ``flops_per_6nd``, at most ``most``.

    Raises
    ------
    InputError
        No candidate costs so little.
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
    mixed = [m for m in pool.members if m.weight >= LEAST_WEIGHT]
    weight = np.array([m.weight for m in mixed])
    weight = weight / weight.sum()
    values, gradients = zip(*(m.fit.at(x) for m in mixed), strict=True)
    apart = np.array(values) - weight @ np.array(values)
    out = (apart.T * weight) @ apart
    for w, member, gradient in zip(weight, mixed, gradients, strict=True):
        out += w * member.inflation * gradient @ member.fit.noise.covariance() @ gradient.T
    return out + 1e-14 * np.eye(len(out))
