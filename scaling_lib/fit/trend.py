"""Do the losses fall at all? Tests of a trend, before any law is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, stdtr

from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import measure, pseudo_residuals, replicates

TREND_P = 0.01  # a fall along a straight line must be this unlikely to be noise
# and by the tests that ask again where the line is a bad ruler: together flat runs pass once in 70 times
SECOND_P = 0.0025
FLAT = 0.005  # losses this close together are flat where no repeats say better: the size of a fresh model moves them
TURN_P = 0.001  # a rise after the least loss must be this unlikely to be noise, and FLAT or more of the loss
TOGETHER = 0.95  # correlation of ln N and ln D from which one cannot tell with which of the two the losses fall


@dataclass(frozen=True)
class Trend:
    """The fall of the log losses along a straight line (with N and D a plane) in the logarithms of what varies.

    names : variables that vary. falls : whether the loss falls along each beyond its noise; empty with no degree of
    freedom. scatter : standard deviation round the plane. together : correlation of two variables that rise together
    where the losses fall along both, though neither slope alone is sure; else 0.
    """

    names: tuple[str, ...]
    falls: tuple[bool, ...]
    scatter: float
    together: float

    @property
    def still(self) -> list[str]:
        """The variables along which no fall is seen."""
        return [name for name, fall in zip(self.names, self.falls, strict=False) if not fall]


def trend(fit: Fitted) -> Trend:
    """The trend of a fit's runs."""
    names, columns = [], [np.ones(fit.n_points)]
    for name, u in zip(fit.law.variables, fit.work.log_x, strict=True):
        if name != "U" and np.linalg.matrix_rank(np.column_stack([*columns, u]), tol=1e-6) > len(columns):
            names.append(name)
            columns.append(u)
    falls, scatter = _falls(columns, fit)
    together = 0.0
    if len(names) == 2 and not all(falls):
        _, u, v = columns
        correlation = float(np.corrcoef(u, v)[0, 1])
        if abs(correlation) >= TOGETHER and any(_falls([columns[0], u + v], fit)[0]):
            together = correlation
    return Trend(tuple(names), falls, scatter, together)


def _falls(columns: list[Array], fit: Fitted) -> tuple[tuple[bool, ...], float]:
    """Whether the loss falls along each column after the first (n,) beyond its noise, and the noise round the plane."""
    design, y, k = np.column_stack(columns), fit.work.y, len(columns)
    dof = len(y) - k
    if dof < 1 or k < 2:
        return (), 0.0
    plane = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ plane
    noise = measure(design, rest, np.ones(k, dtype=bool), dof, np.inf, fit.groups)
    variance, _, freedom = noise.contrast(np.eye(k)[1:])
    exact = variance <= 0
    chance = stdtr(freedom, plane[1:] / np.sqrt(np.where(exact, 1.0, variance)))
    falls = np.where(exact, plane[1:] < -1e-9, chance < TREND_P)
    if k == 2 and not falls[0] and fit.groups is None:
        falls[0] = _ranks_fall(columns[1], y)
    return tuple(falls.tolist()), float(np.sqrt(np.sum(rest**2) / dof))


def _ranks_fall(u: Array, y: Array) -> bool:
    """Spearman's test by its t approximation: a single wild run must not hide a fall."""
    n = len(u)
    rank = [np.unique(v, return_inverse=True)[1].astype(float) for v in (u, y)]
    if n < 5 or np.ptp(rank[0]) == 0 or np.ptp(rank[1]) == 0:
        return False
    rho = float(np.corrcoef(rank[0], rank[1])[0, 1])
    if rho <= -1.0 + 1e-12:  # every step down: one order of n! for distinct sizes, 1 in 120 for five
        return len(np.unique(u)) == n
    return bool(n >= 7 and stdtr(n - 2, rho * np.sqrt((n - 2) / max(1.0 - rho**2, 1e-12))) < SECOND_P)


def _law_beats_constant(fit: Fitted) -> bool:
    """An F test of the law, which can only fall, against one loss for all runs, in the fit's own objective.

    A straight line fits a steep ladder badly, and one wild run spoils it; the law's own residuals are the better ruler.
    """
    k, y, delta = fit.work.n_free, fit.work.y, fit.delta
    if fit.groups is not None or fit.dof < 1 or k < 2:
        return False
    constant = float(np.median(y) if np.isfinite(delta) else y.mean())
    for _ in range(50):  # reweighting; for least squares it stands still
        pull = np.minimum(1.0, delta / np.maximum(np.abs(y - constant), 1e-300))
        constant += float(np.sum(pull * (y - constant)) / np.sum(pull))
    psi = [np.clip(r, -delta, delta) for r in (y - constant, fit.residuals)]
    drop = float(np.sum(psi[0] * (y - constant - 0.5 * psi[0])) - np.sum(psi[1] * (fit.residuals - 0.5 * psi[1])))
    pseudo, slope, _ = pseudo_residuals(fit.residuals, fit.dof, delta)
    scale = slope * float(np.sum(pseudo**2)) / fit.dof
    if scale <= 1e-26:
        return drop > 1e-20
    return bool(fdtrc(k - 1, fit.dof, max(2.0 * drop / ((k - 1) * scale), 0.0)) < SECOND_P)


def no_fall(fit: Fitted, seen: Trend) -> str:
    """Why the losses of a fit's runs show no fall, or nothing where they do."""
    if not seen.names and fit.n_points > 1:
        return f"every run has the same {' and '.join(fit.law.variables)}: there is nothing to see a trend along"
    loss, size = fit.data["loss"], np.sum(fit.work.log_x, axis=0)
    measured = any(seen.falls) and replicates(fit.work.log_x, fit.work.y).many
    if fit.n_points > 2 and loss.max() < (1.0 + FLAT) * loss.min() and not measured:
        return (
            f"the losses are flat: from {loss.min():.4g} to {loss.max():.4g}, all within "
            f"{100 * (loss.max() / loss.min() - 1):.2g}% of each other"
        )
    if not seen.falls or any(seen.falls) or seen.together or _law_beats_constant(fit):
        return ""
    return (
        f"the losses do not fall with {' or '.join(seen.names)} beyond their noise: from the smallest run to the "
        f"largest they go from {loss[np.argmin(size)]:.4g} to {loss[np.argmax(size)]:.4g}, lie between "
        f"{loss.min():.4g} and {loss.max():.4g}, and scatter by {100 * seen.scatter:.2g}% round a straight line"
    )


def turn(fit: Fitted) -> str:
    """A ladder whose losses fall and then rise, by more than repeats of its runs scatter: no law here can follow it."""
    repeats = replicates(fit.work.log_x, fit.work.y)
    if len(fit.law.variables) != 1 or repeats.spare < 3:
        return ""
    cell, count = repeats.cell, np.bincount(repeats.cell)
    x, mean = (np.bincount(cell, v) / count for v in (fit.work.log_x[0], fit.work.y))  # cells stand in order of size
    least, last = int(np.argmin(mean)), len(x) - 1
    if not 0 < least < last:
        return ""
    scatter = float(np.sqrt(np.sum((fit.work.y - mean[cell]) ** 2) / repeats.spare))
    rise = mean[last] - mean[least]
    error = max(scatter * np.sqrt(1.0 / count[least] + 1.0 / count[last]), 1e-12)
    if rise < FLAT or stdtr(repeats.spare, -rise / error) > TURN_P:
        return ""
    size, loss = np.exp(x + fit.work.log_x0[0]), np.exp(mean + fit.work.log_l0)
    return (
        f"the losses fall, then rise: from {loss[0]:.4g} at {fit.law.variables[0]} = {size[0]:.3g} to "
        f"{loss[least]:.4g} at {size[least]:.3g}, then {loss[last]:.4g} at {size[last]:.3g}, where repeated runs "
        f"scatter by {100 * scatter:.2g}%: no law that only falls follows them"
    )
