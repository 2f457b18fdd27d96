"""Say whether a fit can bear a prediction: from identifiability and noise, never from R-squared."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from scaling_lib.fit import check
from scaling_lib.fit.forms import Array
from scaling_lib.fit.result import FitResult, Verdict

TREND_P = 0.01  # a fall must be this unlikely to be noise
FAR = 2.0  # refuse beyond so many times the decades that the runs span ...
FAR_DECADES = 1.5  # ... and beyond so many decades
LONG_DECADES = 1.5  # weak from here
WIDE, HOPELESS = 0.10, 0.40  # log width of the 90% interval: weak, refused


def judge(fit: FitResult, *target: Any) -> Verdict:
    """The verdict at a target (scalars or arrays; the worst of several), or within the data without one."""
    trend = _trend(fit)
    if trend:
        return Verdict("no trend", tuple(trend))
    points = _points(fit, target)
    refusals = _design(fit) or _target(fit, points)[0]
    if refusals:
        return Verdict("not identifiable", tuple(refusals))
    doubts = _target(fit, points)[1] + _fit_doubts(fit)
    return Verdict("weak" if doubts else "supported", tuple(doubts))


def _points(fit: FitResult, target: tuple[Any, ...]) -> tuple[Array, ...]:
    if target:
        return check.targets(fit.law.variables, target)[0]
    return tuple(np.array([fit.fit_range[v][1]]) for v in fit.law.variables)


def _trend(fit: FitResult) -> list[str]:
    """Does the loss fall with each variable, by more than noise?"""
    logs = [np.log(fit.data[v]) for v in fit.law.variables if v != "U"]
    y = np.log(fit.data["loss"])
    n = len(y)
    if n < len(logs) + 2:
        return []
    design = np.column_stack([np.ones(n), *[v - v.mean() for v in logs]])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        design = design[:, :2]
    line, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    if rank < design.shape[1]:
        return []
    rest = y - design @ line
    dof = n - design.shape[1]
    noise = float(np.sqrt(np.sum(rest**2) / dof))
    cov = np.linalg.inv(design.T @ design) * noise**2
    falls = []
    for i in range(1, design.shape[1]):
        error = np.sqrt(cov[i, i])
        t = line[i] / error if error > 0 else np.sign(line[i]) * np.inf
        falls.append(bool(np.isfinite(line[i]) and line[i] < 0 and stats.t.cdf(t, dof) < TREND_P))
    if any(falls):
        return []
    total = float(np.ptp(y))
    return [
        f"the losses do not fall with {' or '.join(v for v in fit.law.variables if v != 'U')} beyond their noise: "
        f"they spread over {100 * total:.2g}% and scatter by {100 * noise:.2g}% round a straight line"
    ]


def _design(fit: FitResult) -> list[str]:
    """Can these runs tell the parameters apart at all?"""
    out = []
    k = fit.n_points - fit.dof
    names = fit.law.variables
    distinct = len(np.unique(np.column_stack([fit.data[v] for v in names]), axis=0))
    if distinct < k + 2:
        out.append(
            f"{distinct} distinct values of {', '.join(names)} for {k} parameters: at least {k + 2} are needed"
        )
    if {"N", "D"} <= set(names):
        u, v = np.log(fit.data["N"]), np.log(fit.data["D"])
        if np.ptp(u) > 0 and np.ptp(v) > 0 and abs(np.corrcoef(u, v)[0, 1]) > 0.999:
            ratio = float(np.exp(np.mean(v - u)))
            out.append(
                f"N and D rise together in every run (D/N about {ratio:.3g}): their effects cannot be told apart; "
                "fit L(N) along this line instead"
            )
    if fit.diagnostics["rank"] < k - len(fit.diagnostics["at_bound"]):
        out.append(f"the Jacobian has rank {fit.diagnostics['rank']} for {k} parameters")
    return out


def _target(fit: FitResult, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from where the target lies."""
    refusals, doubts = [], []
    for name, x in zip(fit.law.variables, points, strict=True):
        low, high = fit.fit_range[name]
        span = np.log10(high / low)
        beyond = float(np.max(np.maximum(np.log10(x / high), np.log10(low / x))))
        if beyond > max(FAR_DECADES, FAR * span):
            refusals.append(
                f"the target lies {beyond:.1f} decades in {name} beyond the runs, which span {span:.1f}: nothing in "
                "them speaks about it"
            )
        elif beyond > min(LONG_DECADES, max(span, 0.5)):
            doubts.append(
                f"the target lies {beyond:.1f} decades in {name} beyond the runs, which span {span:.1f}"
            )
    low, high = fit.interval(*points, level=0.9)
    with np.errstate(divide="ignore"):
        width = float(np.max(np.log(high) - np.log(low)))
    if width > HOPELESS:
        i = int(np.argmax(np.log(np.maximum(high, 1e-300)) - np.log(np.maximum(low, 1e-300))))
        refusals.append(f"the 90% interval at the target runs from {low[i]:.3g} to {high[i]:.3g}")
    elif width > WIDE:
        doubts.append(f"the 90% interval at the target is {100 * width:.0f}% wide")
    return refusals, doubts


def _fit_doubts(fit: FitResult) -> list[str]:
    """What is doubtful about the fit wherever it is used."""
    out = []
    if not fit.success:
        out.append(fit.message)
    for name in fit.diagnostics["at_bound"]:
        what = "the floor E is at its bound (0)" if name == "E" else f"{name} is at its bound"
        out.append(what + ": the data do not show it")
    if fit.dof < 3:
        out.append(f"only {fit.dof} degrees of freedom are left to judge the noise by")
    return out
