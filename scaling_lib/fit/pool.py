"""Several forms, pooled: an interval that contains the doubt about the form.

1. *Forms.* Chinchilla's sum, the power mean, Kaplan's form and a straight line in the logarithms are fitted to the runs
   (for one variable: a power law with a floor, and without), by a robust M-estimator: least squares in which a run
   whose residual exceeds 1.345 standard deviations counts less (Huber's weights, 95% efficient on normal noise), each
   run weighted by the inverse square of the noise at its size.
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

from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import CHINCHILLA, KAPLAN, LINE, POWER_MEAN, Law
from scaling_lib.fit.misfit import Misfit, misfit
from scaling_lib.fit.noise import Noise, Scatter, by_size, measure, robust_sigma, tail_sigma
from scaling_lib.fit.setup import Setup
from scaling_lib.fit.solver import minimise

HIDDEN_SHARES = (0.1, 0.2, 0.35, 0.5)  # of the runs, the largest hidden: four cuts
HUBER = 1.345
LOOSE = 0.05  # Huber threshold of the first descent: all but gross outliers count by their square
FIRST_STEPS = 12  # from every start, before all but the lowest are dropped
REWEIGHTINGS = 4
FEWEST = 4  # spare runs from which a large residual can be called an outlier
PRECISION = 1e-6  # log losses of a table are taken to be no more exact than this: it is where its digits end
PRIOR_WORTH = 16.0  # observations that speak for k = 1: with it 88 to 97% hold where a form is right
CUT_WORTH = 0.5  # of a cut's evidence on k: the cuts share runs
SCORE_WORTH = 4.0  # observations that the hold-out counts for in the weights
INFLATIONS = np.geomspace(0.1, 1e6, 90)  # grid of k^2; from 1 on, its mean would be above 1 for a true form too
LEAST_WEIGHT = 1e-3  # forms below it are left out of the mixture
TOLERANCE = 1e-3  # of the loss: a hidden run missed by less is not held against a form
HEAVY = 0.1  # forms from this weight on must agree where a prediction is to be believed


@dataclass(frozen=True)
class FormFit:
    """One form fitted to all runs, or to those that a cut leaves.

    theta : (k,) scaled working parameters. noise : round it, in units of the runs' scatter.
    sigma : standard deviation of a new run's log loss, likewise relative; outliers count, by a quantile.
    """

    name: str
    work: Setup
    theta: Array
    noise: Noise
    sigma: float

    @property
    def law(self) -> Law:
        """The form's law."""
        return self.work.law

    def at(self, x: tuple[Array, ...]) -> tuple[Array, Array]:
        """Log prediction (m,) and its gradient (m, k) by the scaled working parameters."""
        value, gradient = self.work.log_law(self.theta, self.work.scaled_log(x))
        return value + self.work.log_l0, gradient


@dataclass(frozen=True)
class Cut:
    """A form fitted without the largest runs, and how it predicts them; ``h`` hidden runs.

    hidden : (n,) bool of the runs in the order of the fit. error : (h,) log loss less log prediction.
    variance : (h,) of the prediction. half : (h, k) that times its transpose is the predictions' covariance.
    """

    hidden: Array
    error: Array
    variance: Array
    half: Array


def cuts(x: tuple[Array, ...]) -> Array:
    """Which runs each cut keeps (c, n); it hides the largest by their variables' product, runs of one size alike."""
    size = np.round(np.sum([np.log(v) for v in x], axis=0), 9)
    ranked = np.sort(size)
    edges = [ranked[len(size) - max(1, round(share * len(size)))] for share in HIDDEN_SHARES]
    keeps = [size < edge for edge in dict.fromkeys(edges)]
    return np.array([keep for keep in keeps if keep.any()]).reshape(-1, len(size))


def fit_form(
    name: str, work: Setup, scatter: Array, codes: Array | None, keep: Array, start: Array | None = None
) -> list[FormFit | None]:
    """Fit a form to the runs that each row of ``keep`` (r, n) of bool leaves; None where they are too few for it.

    All rows are solved as one batch, the runs that they leave out with weight zero.

    scatter : (n,) noise of each run relative to the others. codes : (n,) groups 0, 1, ... or None.
    start : (k,) scaled working parameters to start from, beside points spread over the law's box.
    """
    points = np.round(np.stack(work.log_x, axis=1), 9)
    enough = [len(np.unique(points[row], axis=0)) > work.n_free for row in keep]
    rows = keep[enough]
    if len(rows) == 0:
        return [None] * len(keep)
    weight = rows / scatter**2
    starts = setups.seeds(work, 16) if start is None else np.concatenate([start[None, :], setups.seeds(work, 6)])
    theta = _descend(work, weight, starts)
    if len(rows) > 1:
        theta = _descend(work, weight, theta)  # again, from where the other cuts ended: fewer runs, more false optima
    spare = rows.sum(axis=1) - work.n_free
    for _ in range(REWEIGHTINGS if spare.max() >= FEWEST else 1):
        r = (work.y - work.law.log_value(theta, work.log_x)[0]) / scatter
        sigma = np.array(
            [robust_sigma(a[b], s) if s >= FEWEST else np.inf for a, b, s in zip(r, rows, spare, strict=True)]
        )
        limit = HUBER * np.maximum(sigma, PRECISION)[:, None]
        robust = np.minimum(1.0, limit / np.maximum(np.abs(r), 1e-300))
        theta = minimise(replace(work, weight=weight * robust), theta, max_iter=40, tol=1e-8).theta
    found = iter([_form_fit(name, work, t, scatter, codes, row) for t, row in zip(theta, rows, strict=True)])
    return [next(found) if ok else None for ok in enough]


def _descend(work: Setup, weight: Array, starts: Array) -> Array:
    """The best end point (r, k) for each row of weights (r, n) from common starts (s, k).

    After a few steps from every start only the lowest goes on: `fit_form` asks twice, from different starts.
    """
    r, s = len(weight), len(starts)
    problem = replace(work, delta=LOOSE, weight=np.repeat(weight, s, axis=0))
    found = minimise(problem, np.tile(starts, (r, 1)), max_iter=FIRST_STEPS, tol=1e-5)
    lowest = np.arange(0, r * s, s) + np.argmin(found.cost.reshape(r, s), axis=1)
    return minimise(replace(problem, weight=weight), found.theta[lowest], max_iter=100, tol=1e-7).theta


def _form_fit(name: str, work: Setup, theta: Array, scatter: Array, codes: Array | None, keep: Array) -> FormFit:
    log_m, jac = work.log_law(theta)
    r = ((work.y - log_m) / scatter)[keep]
    dof = len(r) - work.n_free
    codes = None if codes is None else np.unique(codes[keep], return_inverse=True)[1]
    if codes is not None and codes.max() == 0:
        codes = None
    size = max(robust_sigma(r, dof), PRECISION)
    noise = measure((jac / scatter[:, None])[keep], r, work.free, dof, HUBER * size, codes)
    return FormFit(name, work, theta, noise, max(noise.sigma, tail_sigma(r, dof, 0.9), PRECISION))


def predict_hidden(whole: FormFit, part: FormFit, keep: Array) -> Cut:
    """How the fit of a cut predicts what it hides. How noisy runs are is taken from all of them: the cut has fewer."""
    value, gradient = part.work.log_law(part.theta)
    noise = replace(part.noise, within=whole.noise.within, between=whole.noise.between, squares=None)
    slope, covariance = gradient[~keep], noise.covariance()
    variance = np.einsum("mi,ij,mj->m", slope, covariance, slope)
    return Cut(~keep, (part.work.y - value)[~keep], variance, slope @ root(covariance))


def root(covariance: Array) -> Array:
    """A matrix (k, k) that times its transpose is the covariance (k, k)."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


@dataclass(frozen=True)
class Member(FormFit):
    """One form of the pool, fitted to all runs.

    weight : of its distribution. inflation : k^2. dof : of Student's t.
    misfit : the bend of its residuals. cuts : its rolling hold-outs.
    score, error, held : there, each the mean over the cuts and nan without: the log score, the mean absolute error, and
    the share of the hidden runs inside the form's own 90% interval with no inflation.
    """

    weight: float
    inflation: float
    dof: float
    misfit: Misfit
    cuts: tuple[Cut, ...]
    score: float
    error: float
    held: float


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
    def mixed(self) -> list[Member]:
        """The forms that take part in the mixture."""
        return [m for m in self.members if m.weight >= LEAST_WEIGHT]

    @property
    def best(self) -> Member:
        """The form that predicted the hidden runs best."""
        return self.members[0]

    def predict(self, x: tuple[Array, ...]) -> Array:
        """The pool's median loss (m,) at flat targets ``x``."""
        return to_loss(self._quantiles(x, (0.5,), "mean")[0])

    def interval(self, x: tuple[Array, ...], level: float, kind: str) -> tuple[Array, Array]:
        """(low, high), each (m,), of the law's mean or of a new run, at flat targets ``x``."""
        low, high = self._quantiles(x, (0.5 - level / 2.0, 0.5 + level / 2.0), kind)
        return to_loss(low), to_loss(high)

    def by_form(self, x: tuple[Array, ...]) -> dict[str, Array]:
        """Prediction (m,) of each form in the mixture."""
        return {m.name: to_loss(m.at(x)[0]) for m in self.mixed}

    def disagreement(self, x: tuple[Array, ...]) -> Array:
        """Largest prediction over least, less 1, among the forms that weigh a tenth or more: (m,)."""
        logs = np.stack([m.at(x)[0] for m in self.members if m.weight >= HEAVY])
        return np.expm1(np.minimum(np.ptp(logs, axis=0), 700.0))

    def noise_at(self, x: tuple[Array, ...]) -> Array:
        """Standard deviation (m,) of the log loss of one more run at ``x``, by the best form."""
        return self.best.sigma * self.scatter(tuple(np.log(v) for v in x))

    def draws(self, count: int, seed: int = 0) -> list[tuple[Law, Array]]:
        """Some ``count`` draws of the pool's laws: (form, natural parameters (r, k)) for each form, r by its weight."""
        rng = np.random.default_rng(seed)
        out = []
        for m in self.mixed:
            r = max(1, round(count * m.weight))
            work, half = m.work, np.sqrt(m.inflation) * root(m.noise.covariance())
            student = rng.standard_normal((r, len(half))) / np.sqrt(rng.chisquare(m.dof, (r, 1)) / m.dof)
            theta = np.clip(m.theta + student @ half.T, work.lower, work.upper)
            out.append((work.law, work.natural(theta)))
        return out

    def _quantiles(self, x: tuple[Array, ...], tails: Sequence[float], kind: str) -> list[Array]:
        weight = np.array([m.weight for m in self.mixed])[:, None]
        centre, scale, dof = [], [], []
        for m in self.mixed:
            value, gradient = m.at(x)
            variance, _, freedom = m.noise.contrast(gradient)
            variance = m.inflation * variance + m.misfit.variance_at(m.work.scaled_log(x), gradient)
            if kind == "new_run":
                variance = variance + (m.sigma * self.scatter(tuple(np.log(v) for v in x))) ** 2
            centre.append(value)
            scale.append(np.sqrt(np.maximum(variance, PRECISION**2)))
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


def to_loss(log_loss: Array) -> Array:
    """Losses of log losses: 0 and inf beyond what floats hold."""
    return np.where(log_loss > 690.0, np.inf, np.exp(np.clip(log_loss, -746.0, 690.0)))


def candidates(law: Law, fixed: Mapping[str, float]) -> list[tuple[str, Law, dict[str, float]]]:
    """Names, laws and held parameters of the forms pooled with a law, itself among them. All have what is held."""
    if len(law.variables) == 1:
        # With no floor a power law is a straight line in the logarithms.
        line = [("line", law, {"E": 0.0})] if "E" in law.param_names and not fixed else []
        return [(law.name, law, dict(fixed)), *line]
    standard = [CHINCHILLA, POWER_MEAN, KAPLAN, LINE] if law.variables == ("N", "D") else []
    laws = standard if law in standard else [law, *standard]
    return [(f.name, f, dict(fixed)) for f in laws if all(p in f.param_names for p in fixed)]


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
    x, loss, codes = tuple(v[order] for v in x), loss[order], None if codes is None else codes[order]
    log_x, even, whole = tuple(np.log(v) for v in x), np.ones(len(loss)), np.ones((1, len(loss)), dtype=bool)
    first = []
    for name, form, held in candidates(law, fixed):
        given = start if form is law and held == dict(fixed) else None
        work = setups.make(form, x, loss, np.inf, held)
        first += [fit for fit in fit_form(name, work, even, codes, whole, given) if fit is not None]
    if not first:
        return None
    tightest = min(first, key=lambda f: f.noise.sigma)
    residuals = tightest.work.y - tightest.work.log_law(tightest.theta)[0]
    scatter = by_size(log_x, np.log(loss), residuals, tightest.noise.geometry.leverage)
    own, keep = scatter(log_x), np.concatenate([whole, cuts(x)])
    found: list[tuple[FormFit, dict[int, Cut]]] = []
    for fit in first:
        full, *parts = fit_form(fit.name, fit.work, own, codes, keep, fit.theta)
        assert full is not None
        hidden = {i: predict_hidden(full, p, keep[i]) for i, p in enumerate(parts, 1) if p is not None}
        found.append((full, hidden))
    found = [f for f in found if f[1]] or found
    common = sorted(set.intersection(*[set(hidden) for _, hidden in found]))
    members = [_member(full, tuple(hidden[i] for i in common), own, codes) for full, hidden in found]
    score = np.array([m.score for m in members])
    weight = np.exp(SCORE_WORTH * (score - score.max())) if common else np.ones(len(members))
    weighted = [replace(m, weight=float(w)) for m, w in zip(members, weight / weight.sum(), strict=True)]
    size = np.sum(log_x, axis=0)
    tried = max((float(size.max() - size[keep[i]].max()) for i in common), default=0.0)
    return Pool(tuple(sorted(weighted, key=lambda m: -m.weight)), scatter, tried)


def _member(fit: FormFit, parts: tuple[Cut, ...], scatter: Array, codes: Array | None) -> Member:
    """A form with its inflation and its score; its weight is set later."""
    work, noise = fit.work, fit.noise
    value, gradient = work.log_law(fit.theta)
    bend = misfit(work.log_x, work.y, work.y - value, gradient, noise, noise.sigma, scatter, codes)
    log_posterior = -0.5 * PRIOR_WORTH * (np.log(INFLATIONS) + 1.0 / INFLATIONS)
    for cut in parts:
        log_posterior = log_posterior + CUT_WORTH * _evidence(fit, cut, scatter, codes)
    chance = np.exp(log_posterior - log_posterior.max())
    chance /= chance.sum()
    mean = float(chance @ np.log(INFLATIONS))
    spread = float(chance @ np.log(INFLATIONS) ** 2) - mean**2
    inflation = max(1.0, float(np.exp(mean)))
    scores = np.full((max(len(parts), 1), 3), np.nan)
    for row, cut in zip(scores, parts, strict=False):
        own = (fit.sigma * scatter[cut.hidden]) ** 2
        variance = inflation * cut.variance + own
        row[0] = np.mean(-0.5 * np.log(variance) - 3.0 * np.log1p(cut.error**2 / variance / 5.0))
        row[1] = np.mean(np.abs(cut.error))
        row[2] = np.mean(np.abs(cut.error) <= 1.645 * np.sqrt(cut.variance + own) + TOLERANCE)
    said = dict(zip(("score", "error", "held"), scores.mean(axis=0).tolist(), strict=True))
    dof = max(4.0, 2.0 / max(spread, 1e-3))
    return Member(**vars(fit), weight=0.0, inflation=inflation, dof=dof, misfit=bend, cuts=parts, **said)


def _evidence(fit: FormFit, cut: Cut, scatter: Array, codes: Array | None) -> Array:
    """Log likelihood of a cut's errors at each inflation on the grid.

    They have covariance k^2 J C J' + noise. In the basis of J C^1/2, with the groups' shared noise weighted out, the
    components are independent: variance k^2 lambda + sigma^2.
    """
    noise, unit = fit.noise, scatter[cut.hidden]
    codes = None if codes is None else np.unique(codes[cut.hidden], return_inverse=True)[1]
    grouped = codes is not None and noise.between > 0 and noise.within > 0
    basis, size, _ = np.linalg.svd(noise.whitened(cut.half / unit[:, None], codes), full_matrices=False)
    component = basis.T @ noise.whitened(cut.error / unit, codes)
    variance = INFLATIONS[:, None] * size**2 + (noise.within if grouped else fit.sigma**2)
    return np.sum(-0.5 * np.log(variance) - 0.5 * component**2 / variance, axis=1)
