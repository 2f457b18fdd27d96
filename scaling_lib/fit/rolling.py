"""Several forms fitted to the same runs, and to the same runs without their largest: the rolling hold-out inside a fit.

Each form is fitted by a robust M-estimator: least squares in which a run whose residual exceeds 1.345 standard
deviations counts less (Huber's weights, 95% efficient on normal noise), each run weighted by the inverse square of the
noise at its size. All cuts of one form are solved as one batch, hidden runs with weight zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scaling_lib.fit import setup as setups
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import Law
from scaling_lib.fit.noise import Noise, measure, robust_sigma, tail_sigma
from scaling_lib.fit.solver import minimise

HIDDEN_SHARES = (0.1, 0.2, 0.35, 0.5)  # of the runs, the largest hidden: four cuts
HUBER = 1.345
LOOSE = 0.05  # Huber threshold of the first descent: all but gross outliers count by their square
FIRST_STEPS = 12  # from every start, before all but the lowest are dropped
REWEIGHTINGS = 4
FEWEST = 4  # spare runs from which a large residual can be called an outlier
PRECISION = 1e-6  # log losses of a table are taken to be no more exact than this: it is where its digits end


@dataclass(frozen=True)
class Form:
    """A law under a name, with parameters that are held: "line" is a power law whose floor is held at 0."""

    name: str
    law: Law
    held: Mapping[str, float]


@dataclass(frozen=True)
class Runs:
    """Runs to fit. x : (n,) for each variable; loss : (n,); codes : (n,) groups 0, 1, ... or None.

    scatter : (n,) noise of each run relative to the others.
    """

    x: tuple[Array, ...]
    loss: Array
    codes: Array | None
    scatter: Array


@dataclass(frozen=True)
class FormFit:
    """One form fitted to all runs, or to those that a cut leaves.

    theta : (k,) scaled working parameters. noise : round it, in units of the runs' scatter.
    sigma : standard deviation of a new run's log loss, likewise relative; outliers count, by a quantile.
    """

    name: str
    work: setups.Setup
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
    half : (h, k) that times its transpose is the covariance of the log predictions.
    """

    hidden: Array
    error: Array
    half: Array

    @property
    def variance(self) -> Array:
        """Of each log prediction (h,)."""
        return np.sum(self.half**2, axis=1)


def cuts(x: tuple[Array, ...]) -> Array:
    """Which runs each cut keeps (c, n); it hides the largest by their variables' product, runs of one size alike."""
    size = np.round(np.sum([np.log(v) for v in x], axis=0), 9)
    ranked = np.sort(size)
    edges = [ranked[len(size) - max(1, round(share * len(size)))] for share in HIDDEN_SHARES]
    keeps = [size < edge for edge in dict.fromkeys(edges)]
    return np.array([keep for keep in keeps if keep.any()]).reshape(-1, len(size))


def fit_form(form: Form, runs: Runs, keep: Array, start: Array | None = None) -> list[FormFit | None]:
    """Fit a form to the runs that each row of ``keep`` (r, n) of bool leaves; None where they are too few for it.

    ``start`` : (k,) scaled working parameters to start from, beside points spread over the law's box.
    """
    work = setups.make(form.law, runs.x, runs.loss, np.inf, form.held)
    points = np.round(np.stack(work.log_x, axis=1), 9)
    enough = [len(np.unique(points[row], axis=0)) > work.n_free for row in keep]
    rows = keep[enough]
    if len(rows) == 0:
        return [None] * len(keep)
    weight = rows / runs.scatter**2
    starts = setups.seeds(work, 16) if start is None else np.concatenate([start[None, :], setups.seeds(work, 6)])
    theta = _descend(work, weight, starts)
    if len(rows) > 1:
        theta = _descend(work, weight, theta)  # again, from where the other cuts ended: fewer runs, more false optima
    spare = rows.sum(axis=1) - work.n_free
    for _ in range(REWEIGHTINGS if spare.max() >= FEWEST else 1):
        r = (work.y - work.law.log_value(theta, work.log_x)[0]) / runs.scatter
        sigma = np.array(
            [robust_sigma(a[b], s) if s >= FEWEST else np.inf for a, b, s in zip(r, rows, spare, strict=True)]
        )
        limit = HUBER * np.maximum(sigma, PRECISION)[:, None]
        robust = np.minimum(1.0, limit / np.maximum(np.abs(r), 1e-300))
        theta = minimise(replace(work, weight=weight * robust), theta, max_iter=40, tol=1e-8).theta
    found = iter([_form_fit(form, work, t, row, runs) for t, row in zip(theta, rows, strict=True)])
    return [next(found) if ok else None for ok in enough]


def _descend(work: setups.Setup, weight: Array, starts: Array) -> Array:
    """The best end point (r, k) for each row of weights (r, n) from common starts (s, k).

    After a few steps from every start only the lowest goes on: `fit_form` asks twice, from different starts.
    """
    r, s = len(weight), len(starts)
    problem = replace(work, delta=LOOSE, weight=np.repeat(weight, s, axis=0))
    found = minimise(problem, np.tile(starts, (r, 1)), max_iter=FIRST_STEPS, tol=1e-5)
    lowest = np.arange(0, r * s, s) + np.argmin(found.cost.reshape(r, s), axis=1)
    return minimise(replace(problem, weight=weight), found.theta[lowest], max_iter=100, tol=1e-7).theta


def _form_fit(form: Form, work: setups.Setup, theta: Array, keep: Array, runs: Runs) -> FormFit:
    log_m, jac = work.log_law(theta)
    r = ((work.y - log_m) / runs.scatter)[keep]
    dof = len(r) - work.n_free
    codes = None if runs.codes is None else np.unique(runs.codes[keep], return_inverse=True)[1]
    if codes is not None and codes.max() == 0:
        codes = None
    size = max(robust_sigma(r, dof), PRECISION)
    noise = measure((jac / runs.scatter[:, None])[keep], r, work.free, dof, HUBER * size, codes)
    return FormFit(form.name, work, theta, noise, max(noise.sigma, tail_sigma(r, dof, 0.9), PRECISION))


def predict_hidden(whole: FormFit, part: FormFit, keep: Array, runs: Runs) -> Cut:
    """How the fit of a cut predicts what it hides. How noisy runs are is taken from all of them: the cut has fewer."""
    value, gradient = part.at(tuple(v[~keep] for v in runs.x))
    noise = replace(part.noise, within=whole.noise.within, between=whole.noise.between, squares=None)
    return Cut(~keep, np.log(runs.loss[~keep]) - value, gradient @ root(noise.covariance()))


def root(covariance: Array) -> Array:
    """A matrix (k, k) that times its transpose is the covariance (k, k)."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
