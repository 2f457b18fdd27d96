"""Several forms, pooled: an interval that contains the doubt about the form.

1. *Forms.* Chinchilla's sum, the power mean, Kaplan's form and a straight line in the logarithms are fitted to the runs
   (for one variable: a power law with a floor, and without), robustly, each run weighted by the noise at its size.
2. *Rolling hold-out.* Each form is fitted again without the largest 10, 20, 35 and 50% of the runs, and predicts them.
   The runs that the user wants predicted take no part.
3. *Inflation.* Where the form is wrong, its parameters err by more than the runs' noise says: as if the noise in the
   few directions that parameters can follow were k times wider. ln k^2 is a posterior mean, taken as 0 where it is
   less. Prior: a scaled inverse chi-square round 1 worth 16 observations. Evidence: the hidden runs' errors, rotated
   into the directions in which the cut's prediction is uncertain: each has variance k^2 lambda + sigma^2. Cuts
   overlap, so they count half. The variance of the form's prediction is multiplied by k^2. The degrees of freedom are
   those of the posterior, or of the runs where these are fewer.
4. *Misfit.* Squares and products of the logarithms are fitted to a form's residuals. What they say of the target, less
   the share 1 / F that noise alone would give them, is how far the form is off there if the bend goes on. It may go
   on or die out, so a third of its square, the variance between nothing and that much either way, joins the
   variance. It is small inside the runs, and grows with the square of the distance beyond them.
5. *Weights.* A form weighs exp(4 s), s the mean log score of its inflated predictive distributions on the hidden runs,
   averaged over the cuts that all forms can bear: four cuts count as four observations, however many runs they hide.
   With no cut possible all forms weigh the same.
6. *Mixture.* At a target the pool's distribution of the log loss is the weighted mixture of Student's t distributions:
   of the law's mean, or with the noise of one more run at that size added. The prediction is its median, an interval
   its quantiles.

Pooling by the log score is stacking [Yao et al. 2018] with weights kept near equal; an interval is judged by the
interval score [Gneiting and Raftery 2007].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln, stdtr, stdtrit

from scaling_lib.fit import rolling
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import CHINCHILLA, KAPLAN, LINE, POWER_MEAN, Law
from scaling_lib.fit.misfit import Misfit, misfit
from scaling_lib.fit.noise import Scatter, by_size
from scaling_lib.fit.rolling import Cut, Form, FormFit, Runs

PRIOR_WORTH = 16.0  # observations that speak for k = 1: with it intervals hold 90 to 96% where a form is right
CUT_WORTH = 0.5  # of a cut's evidence on k: the cuts share runs
SCORE_WORTH = 4.0  # observations that the hold-out counts for in the weights
INFLATIONS = np.geomspace(0.1, 1e6, 90)  # grid of k^2; from 1 on, its mean would be above 1 for a true form too
LEAST_WEIGHT = 1e-3  # forms below it are left out of the mixture
TOLERANCE = 1e-3  # of the loss: a hidden run missed by less is not held against a form
HEAVY = 0.1  # forms from this weight on must agree where a prediction is to be believed


@dataclass(frozen=True)
class Member:
    """One form of the pool.

    fit : to all runs. weight : of its distribution. inflation : k^2. dof : of Student's t.
    misfit : the bend of its residuals. cuts : its rolling hold-outs.
    score, error, held : there, each the mean over the cuts and nan without: the log score, the mean absolute error, and
    the share of the hidden runs inside the form's own 90% interval with no inflation.
    """

    fit: FormFit
    weight: float
    inflation: float
    dof: float
    misfit: Misfit
    cuts: tuple[Cut, ...]
    score: float
    error: float
    held: float

    @property
    def name(self) -> str:
        """The form's name, such as "chinchilla" or "line"."""
        return self.fit.name


@dataclass(frozen=True)
class Pool:
    """Forms with weights, heaviest first.

    scatter : noise of a run by its size, relative to each form's sigma.
    tried : how far the hold-out predicted: the largest run's ln of the product of its variables, less that of the
    largest run that the widest cut kept; 0 where there was no cut.
    """

    members: tuple[Member, ...]
    scatter: Scatter
    tried: float

    @property
    def best(self) -> Member:
        """The form that predicted the hidden runs best."""
        return self.members[0]

    def predict(self, x: tuple[Array, ...]) -> Array:
        """The pool's median loss (m,) at flat targets ``x``."""
        return _exp(self._quantiles(x, (0.5,), "mean")[0])

    def interval(self, x: tuple[Array, ...], level: float, kind: str) -> tuple[Array, Array]:
        """(low, high), each (m,), of the law's mean or of a new run, at flat targets ``x``."""
        low, high = self._quantiles(x, (0.5 - level / 2.0, 0.5 + level / 2.0), kind)
        return _exp(low), _exp(high)

    def by_form(self, x: tuple[Array, ...]) -> dict[str, Array]:
        """Prediction (m,) of each form in the mixture."""
        return {m.name: _exp(m.fit.at(x)[0]) for m in self._mixed()}

    def disagreement(self, x: tuple[Array, ...]) -> Array:
        """Largest prediction over least, less 1, among the forms that weigh a tenth or more: (m,)."""
        logs = np.stack([m.fit.at(x)[0] for m in self.members if m.weight >= HEAVY])
        return np.expm1(np.minimum(np.ptp(logs, axis=0), 700.0))

    def noise_at(self, x: tuple[Array, ...]) -> Array:
        """Standard deviation (m,) of the log loss of one more run at ``x``, by the best form."""
        return self.best.fit.sigma * self.scatter(tuple(np.log(v) for v in x))

    def draws(self, count: int, seed: int = 0) -> list[tuple[Law, Array]]:
        """Some ``count`` draws of the pool's laws: (form, natural parameters (r, k)) for each form, r by its weight."""
        rng = np.random.default_rng(seed)
        out = []
        for m in self._mixed():
            r = max(1, round(count * m.weight))
            work, half = m.fit.work, _root(m.fit.noise.covariance(), m.inflation)
            student = rng.standard_normal((r, len(half))) / np.sqrt(rng.chisquare(m.dof, (r, 1)) / m.dof)
            theta = np.clip(m.fit.theta + student @ half.T, work.lower, work.upper)
            out.append((work.law, work.natural(theta)))
        return out

    def _mixed(self) -> list[Member]:
        return [m for m in self.members if m.weight >= LEAST_WEIGHT]

    def _quantiles(self, x: tuple[Array, ...], tails: Sequence[float], kind: str) -> list[Array]:
        mixed = self._mixed()
        weight = np.array([m.weight for m in mixed])[:, None]
        centre, scale, dof = [], [], []
        for m in mixed:
            value, gradient = m.fit.at(x)
            variance, _, freedom = m.fit.noise.contrast(gradient)
            variance = m.inflation * variance + m.misfit.variance_at(m.fit.work.scaled_log(x), gradient)
            if kind == "new_run":
                variance = variance + (m.fit.sigma * self.scatter(tuple(np.log(v) for v in x))) ** 2
            centre.append(value)
            scale.append(np.sqrt(np.maximum(variance, rolling.PRECISION**2)))
            dof.append(np.minimum(freedom, m.dof))
        mixture = weight / weight.sum(), np.array(centre), np.array(scale), np.array(dof)
        return [mixture_quantile(*mixture, q) for q in tails]


def mixture_quantile(weight: Array, centre: Array, scale: Array, dof: Array, q: float) -> Array:
    """Quantile ``q`` (m,) of mixtures of Student's t distributions: weight (f, 1), the others (f, m).

    Newton's steps on the distribution function, kept inside a bracket: the ends of the components' own quantiles.
    """
    ends = centre + scale * stdtrit(dof, q)
    low, high = ends.min(axis=0), ends.max(axis=0)
    if len(centre) == 1:
        return low
    constant = np.exp(gammaln((dof + 1.0) / 2.0) - gammaln(dof / 2.0)) / (np.sqrt(dof * np.pi) * scale)
    at = np.sum(weight * ends, axis=0)
    for _ in range(40):
        z = (at - centre) / scale
        excess = np.sum(weight * stdtr(dof, z), axis=0) - q
        low, high = np.where(excess < 0, at, low), np.where(excess < 0, high, at)
        density = np.sum(weight * constant * (1.0 + z**2 / dof) ** (-(dof + 1.0) / 2.0), axis=0)
        step = at - excess / np.maximum(density, 1e-300)
        after = np.where((step > low) & (step < high), step, (low + high) / 2.0)
        if np.all(np.abs(after - at) <= 1e-10 * (1.0 + np.abs(at))):
            break
        at = after
    return at


def _exp(log_loss: Array) -> Array:
    """Losses of log losses: 0 and inf beyond what floats hold."""
    return np.where(log_loss > 690.0, np.inf, np.exp(np.clip(log_loss, -745.0, 690.0)))


def candidates(law: Law, fixed: Mapping[str, float]) -> list[Form]:
    """The forms pooled with a law, itself among them. Held parameters must exist in all."""
    if len(law.variables) == 1:
        # With no floor a power law is a straight line in the logarithms.
        line = [Form("line", law, {"E": 0.0})] if "E" in law.param_names and not fixed else []
        return [Form(law.name, law, dict(fixed)), *line]
    standard = [CHINCHILLA, POWER_MEAN, KAPLAN, LINE] if law.variables == ("N", "D") else []
    laws = standard if law in standard else [law, *standard]
    return [Form(f.name, f, dict(fixed)) for f in laws if all(p in f.param_names for p in fixed)]


def build(
    law: Law, fixed: Mapping[str, float], x: tuple[Array, ...], loss: Array, codes: Array | None, start: Array
) -> Pool | None:
    """Pool the forms that go with ``law`` on checked runs; None where no form has a degree of freedom left.

    Parameters
    ----------
    x : tuple of (n,), one per variable; loss : (n,). codes : (n,) groups 0, 1, ... or None.
    start : (k,) scaled working parameters of ``law`` that are known to fit.

    Runs are taken in the order of their size, so that the answer does not depend on theirs.
    """
    order = np.lexsort((loss, *x, np.round(sum(np.log(v) for v in x), 9)))
    n = len(loss)
    runs = Runs(tuple(v[order] for v in x), loss[order], None if codes is None else codes[order], np.ones(n))
    log_x, log_loss = tuple(np.log(v) for v in runs.x), np.log(runs.loss)
    whole = np.ones((1, n), dtype=bool)
    first = []
    for form in candidates(law, fixed):
        given = start if form.law is law and form.held == dict(fixed) else None
        fit = rolling.fit_form(form, runs, whole, given)[0]
        if fit is not None:
            first.append((form, fit))
    if not first:
        return None
    tightest = min((fit for _, fit in first), key=lambda f: f.noise.sigma)
    scatter = by_size(log_x, log_loss, log_loss - tightest.at(runs.x)[0], tightest.noise.geometry.leverage)
    runs = replace(runs, scatter=scatter(log_x))
    keep = np.concatenate([whole, rolling.cuts(runs.x)])
    found: list[tuple[FormFit, dict[int, Cut]]] = []
    for form, fit in first:
        full, *parts = rolling.fit_form(form, runs, keep, fit.theta)
        assert full is not None
        hidden = {i: rolling.predict_hidden(full, p, keep[i], runs) for i, p in enumerate(parts, 1) if p is not None}
        found.append((full, hidden))
    found = [f for f in found if f[1]] or found
    common = sorted(set.intersection(*[set(hidden) for _, hidden in found]))
    members = [_member(full, tuple(hidden[i] for i in common), runs) for full, hidden in found]
    score = np.array([m.score for m in members])
    weight = np.exp(SCORE_WORTH * (score - score.max())) if common else np.ones(len(members))
    weighted = [replace(m, weight=float(w)) for m, w in zip(members, weight / weight.sum(), strict=True)]
    size = np.sum(log_x, axis=0)
    tried = max((float(size.max() - size[keep[i]].max()) for i in common), default=0.0)
    return Pool(tuple(sorted(weighted, key=lambda m: -m.weight)), scatter, tried)


def _member(fit: FormFit, parts: tuple[Cut, ...], runs: Runs) -> Member:
    """A form with its inflation and its score; its weight is set later."""
    value, gradient = fit.at(runs.x)
    log_loss = np.log(runs.loss)
    residuals, noise = log_loss - value, fit.noise
    bend = misfit(fit.work.log_x, log_loss, residuals, gradient, noise, noise.sigma, runs.scatter, runs.codes)
    log_posterior = -0.5 * PRIOR_WORTH * (np.log(INFLATIONS) + 1.0 / INFLATIONS)
    for cut in parts:
        log_posterior = log_posterior + CUT_WORTH * _evidence(fit, cut, runs)
    chance = np.exp(log_posterior - log_posterior.max())
    chance /= chance.sum()
    mean = float(chance @ np.log(INFLATIONS))
    spread = float(chance @ np.log(INFLATIONS) ** 2) - mean**2
    inflation = max(1.0, float(np.exp(mean)))
    scores = np.full((max(len(parts), 1), 3), np.nan)
    for row, cut in zip(scores, parts, strict=False):
        own = (fit.sigma * runs.scatter[cut.hidden]) ** 2
        variance = inflation * cut.variance + own
        row[0] = np.mean(-0.5 * np.log(variance) - 3.0 * np.log1p(cut.error**2 / variance / 5.0))
        row[1] = np.mean(np.abs(cut.error))
        row[2] = np.mean(np.abs(cut.error) <= 1.645 * np.sqrt(cut.variance + own) + TOLERANCE)
    return Member(fit, 0.0, inflation, max(4.0, 2.0 / max(spread, 1e-3)), bend, parts, *scores.mean(axis=0).tolist())


def _evidence(fit: FormFit, cut: Cut, runs: Runs) -> Array:
    """Log likelihood of a cut's errors at each inflation on the grid.

    The prediction's errors at the hidden runs have covariance k^2 J C J' + noise. In the basis of J C^1/2, with the
    groups' shared noise weighted out, the components are independent: variance k^2 lambda + sigma^2.
    """
    noise, unit = fit.noise, runs.scatter[cut.hidden]
    half = cut.gradient @ _root(cut.fit.noise.covariance()) / unit[:, None]
    codes = None if runs.codes is None else np.unique(runs.codes[cut.hidden], return_inverse=True)[1]
    grouped = codes is not None and noise.between > 0 and noise.within > 0
    basis, size, _ = np.linalg.svd(noise.whitened(half, codes), full_matrices=False)
    component = basis.T @ noise.whitened(cut.error / unit, codes)
    variance = INFLATIONS[:, None] * size**2 + (noise.within if grouped else fit.sigma**2)
    return np.sum(-0.5 * np.log(variance) - 0.5 * component**2 / variance, axis=1)


def _root(covariance: Array, times: float = 1.0) -> Array:
    """A matrix (k, k) that times its transpose is so many times the covariance (k, k)."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0) * times)
