"""Say whether a fit can bear a prediction: from identifiability and noise, never from R-squared.

In order: are there enough runs? Do the losses fall at all (`no trend`)? Can these runs tell the parameters apart, and
does the target lie where they speak (`not identifiable`)? What else is doubtful (`weak`)? Only what is left is
`supported`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import fdtrc, stdtr

from scaling_lib.fit import check
from scaling_lib.fit.forms import Array
from scaling_lib.fit.noise import log_jacobian, measure, pseudo_residuals
from scaling_lib.fit.result import FitResult, Verdict
from scaling_lib.fit.uncertainty import noise_of, parameter_interval

TREND_P = 0.01  # a fall along a straight line must be this unlikely to be noise
# and by the tests that ask again where the line is a bad ruler: together flat runs pass once in 70 times
SECOND_P = 0.0025
FLAT = 0.005  # losses that all lie this close together are flat: a seed or the size of a fresh model moves them as much
FAR_DECADES = 1.5  # 30 times beyond the runs is where published back-tests end well ...
# ... and no target is believed that lies further beyond the runs than the runs themselves span.
WIDE, HOPELESS = 0.10, 0.40  # width of the 90% interval, as a share of the loss: weak, refused
LACK_P = 0.01  # residuals that bend this clearly are taken to be no noise
NOISY = 0.10
COLLINEAR = 0.9995  # correlation of ln N and ln D from which D/N is one number


def judge(fit: FitResult, *target: Any) -> Verdict:
    """The verdict at a target (for arrays the worst of them), or at the largest run without one."""
    points = _points(fit, target)
    few = _too_few(fit)
    flat = "" if few else _no_trend(fit)
    if flat:
        return Verdict("no trend", (flat,))
    if len(points[0]) == 0:
        return Verdict("supported", ())
    far, doubts = _distance(fit, points)
    refusals = few + _design(fit) + far
    if not refusals:
        refusals, wide = _width(fit, points)
        doubts += wide
    if refusals:
        return Verdict("not identifiable", tuple(refusals))
    doubts += _fit_doubts(fit)
    return Verdict("weak" if doubts else "supported", tuple(doubts))


def _points(fit: FitResult, target: tuple[Any, ...]) -> tuple[Array, ...]:
    if target:
        return check.targets(fit.law.variables, target)[0]
    return tuple(np.array([fit.fit_range[v][1]]) for v in fit.law.variables)


def _log_line(fit: FitResult) -> tuple[list[str], Array]:
    """Variables that vary, and the design matrix (n, 1 + m) of a straight line in their centred logarithms."""
    names, columns = [], [np.ones(fit.n_points)]
    for name in fit.law.variables:
        u = np.log(fit.data[name])
        candidate = [*columns, u - u.mean()]
        if name != "U" and np.linalg.matrix_rank(np.column_stack(candidate), tol=1e-6) == len(candidate):
            names.append(name)
            columns = candidate
    return names, np.column_stack(columns)


def _slopes(fit: FitResult) -> tuple[list[str], list[bool], float]:
    """Variables that vary, whether the loss falls with each beyond its noise, and the noise round a straight line."""
    names, design = _log_line(fit)
    y = np.log(fit.data["loss"])
    y = y - y.mean()
    dof = len(y) - design.shape[1]
    if dof < 1 or not names:
        return names, [], 0.0
    line = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ line
    noise = measure(design, rest, np.ones(design.shape[1], dtype=bool), dof, np.inf, fit.groups)
    variance, _, freedom = noise.contrast(np.eye(design.shape[1])[1:])
    falls = []
    for slope, var, free in zip(line[1:], variance, freedom, strict=True):
        if var <= 0:
            falls.append(bool(slope < -1e-9))
        else:
            falls.append(bool(stdtr(free, slope / np.sqrt(var)) < TREND_P))
    if len(names) == 1 and not falls[0] and fit.groups is None:
        falls[0] = _ranks_fall(design[:, 1], y)
    return names, falls, float(np.sqrt(np.sum(rest**2) / dof))


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


def _law_beats_constant(fit: FitResult) -> bool:
    """An F test of the law, which can only fall, against one loss for all runs, in the fit's own objective.

    A straight line fits a steep ladder badly, and one wild run spoils it; the law's own residuals are the better ruler.
    """
    k = fit.n_points - fit.dof
    if fit.groups is not None or fit.dof < 1 or k < 2:
        return False
    y = np.log(fit.data["loss"])
    level = float(np.median(y)) if np.isfinite(fit.delta) else float(y.mean())
    for _ in range(50):  # reweighting; for least squares it stands still
        r = y - level
        pull = np.minimum(1.0, fit.delta / np.maximum(np.abs(r), 1e-300)) if np.isfinite(fit.delta) else np.ones(len(r))
        level += float(np.sum(pull * r) / np.sum(pull))
    drop = _deviance(y - level, fit.delta) - _deviance(fit.residuals, fit.delta)
    pseudo, slope, _ = pseudo_residuals(fit.residuals, fit.dof, fit.delta)
    scale = slope * float(np.sum(pseudo**2)) / fit.dof
    if scale <= 1e-26:
        return drop > 1e-20
    return bool(fdtrc(k - 1, fit.dof, max(2.0 * drop / ((k - 1) * scale), 0.0)) < SECOND_P)


def _deviance(r: Array, delta: float) -> float:
    psi = np.clip(r, -delta, delta)
    return float(np.sum(psi * (r - 0.5 * psi)))


@lru_cache(maxsize=64)  # a slider asks one fit about many targets; a fit does not change
def _no_trend(fit: FitResult) -> str:
    names, falls, noise = _slopes(fit)
    if not names and fit.n_points > 1:
        return f"every run has the same {' and '.join(fit.law.variables)}: there is nothing to see a trend along"
    loss = fit.data["loss"]
    if fit.n_points > 2 and loss.max() < (1.0 + FLAT) * loss.min():
        return (
            f"the losses are flat: from {loss.min():.4g} to {loss.max():.4g}, all within "
            f"{100 * (loss.max() / loss.min() - 1):.2g}% of each other"
        )
    if not falls or any(falls) or _law_beats_constant(fit):
        return ""
    return (
        f"the losses do not fall with {' or '.join(names)} beyond their noise: from the smallest run to the largest "
        f"they go {_ends(fit)}, lie between {loss.min():.4g} and {loss.max():.4g}, and scatter by "
        f"{100 * noise:.2g}% round a straight line"
    )


def _ends(fit: FitResult) -> str:
    size = np.prod([fit.data[v] / fit.fit_range[v][1] for v in fit.law.variables], axis=0)
    loss = fit.data["loss"]
    return f"from {loss[int(np.argmin(size))]:.4g} to {loss[int(np.argmax(size))]:.4g}"


def _too_few(fit: FitResult) -> list[str]:
    k, names, distinct = fit.n_points - fit.dof, fit.law.variables, fit.diagnostics["distinct"]
    if distinct >= k + 2:
        return []
    what = names[0] if len(names) == 1 else f"({', '.join(names)})"
    values = "value" if distinct == 1 else "values"
    return [f"{distinct} distinct {values} of {what} for {k} parameters: at least {k + 2} are needed"]


def _design(fit: FitResult) -> list[str]:
    """Can these runs tell the parameters apart at all?"""
    out = []
    names = fit.law.variables
    if {"N", "D"} <= set(names):
        u, v = np.log(fit.data["N"]), np.log(fit.data["D"])
        few = [n for n, x in (("N", u), ("D", v)) if len(np.unique(x)) < 3]
        if few:
            out.append(f"{' and '.join(few)} takes fewer than 3 values: its exponent cannot be told from its constant")
        elif abs(float(np.corrcoef(u, v)[0, 1])) > COLLINEAR:
            out.append(
                f"N and D rise together in every run (D/N {_range_text(np.exp(v - u))}): their effects cannot be "
                "told apart; vary D/N, or fit L(N) along this line"
            )
    blind = fit.diagnostics["blind"]
    if blind and not out:
        out.append(f"no run says anything about {', '.join(blind)} (the Jacobian has rank {fit.diagnostics['rank']})")
    return out


def _range_text(x: Array) -> str:
    low, high = float(x.min()), float(x.max())
    return f"= {low:.3g}" if high < 1.005 * low else f"from {low:.3g} to {high:.3g}"


def _distance(fit: FitResult, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from how far the target lies beyond the runs."""
    refusals, doubts = [], []
    for name, x in zip(fit.law.variables, points, strict=True):
        low, high = fit.fit_range[name]
        span = float(np.log10(high / low))
        above, below = float(np.log10(x.max() / high)), float(np.log10(low / x.min()))
        beyond = max(above, below)
        side = "beyond the largest" if above >= below else "below the smallest"
        where = f"the target lies {beyond:.1f} decades in {name} {side} run"
        if beyond > max(FAR_DECADES, span):
            refusals.append(f"{where}, and the runs span {span:.1f} decades: nothing in them speaks about it")
        elif beyond > min(FAR_DECADES, max(span, 0.5)):
            doubts.append(f"{where}, and the runs span {span:.1f} decades")
    return refusals, doubts


def _width(fit: FitResult, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from the interval at the target."""
    low, high = fit.interval(*points, level=0.9)
    centre = np.maximum(fit.law.value(fit.values, *points), 1e-300)
    width = (high - low) / centre
    i = int(np.argmax(width))
    if not np.isfinite(width[i]):
        return [f"the 90% interval at the target has no upper end: the loss may be anything above {low[i]:.3g}"], []
    text = f"the 90% interval at the target runs from {low[i]:.3g} to {high[i]:.3g}"
    if width[i] > HOPELESS:
        return [text], []
    return [], [f"{text}, {100 * width[i]:.0f}% of the loss"] if width[i] > WIDE else []


@lru_cache(maxsize=64)
def _fit_doubts(fit: FitResult) -> tuple[str, ...]:
    """What is doubtful about the fit wherever it is used."""
    out = []
    if not fit.success:
        out.append(fit.message)
    names, falls, _ = _slopes(fit)
    still = [n for n, f in zip(names, falls, strict=False) if not f]
    if still:
        out.append(f"the losses do not fall with {' or '.join(still)} beyond their noise")
    for name in fit.diagnostics["at_bound"]:
        what = "the floor E is at its bound (0)" if name == "E" else f"{name} is at its bound"
        out.append(f"{what}: these runs do not show it")
    if "E" in fit.params and "E" not in fit.fixed and "E" not in fit.diagnostics["at_bound"]:
        low, high = parameter_interval(fit, "E")
        if low <= 1e-6 * high:
            out.append(f"the floor E may be anything from 0 to {high:.3g}: its 90% interval reaches its bound")
    if fit.dof < 3:
        out.append(f"{fit.dof} degrees of freedom are few to judge the noise by")
    if fit.diagnostics["groups"] and fit.diagnostics["groups"] < 6:
        out.append(f"{fit.diagnostics['groups']} groups are few to judge their shared noise by")
    if fit.sigma > NOISY:
        out.append(f"a run scatters by {100 * fit.sigma:.0f}% of its loss")
    return (*out, *_residual_doubts(fit))


def _residual_doubts(fit: FitResult) -> list[str]:
    out = []
    i = int(np.argmax(fit.diagnostics["leverage"]))
    if fit.diagnostics["leverage"][i] > 0.95:
        out.append(f"the fit hangs on {run_name(fit, i)}: it passes through it whatever its loss")
    chance = lack_of_fit(fit)
    if chance < LACK_P:
        out.append(f"the residuals bend: the form does not follow these runs (chance of it in noise {chance:.1g})")
    return out


def run_name(fit: FitResult, i: int) -> str:
    """A run by its label, or by its place and size."""
    if fit.labels is not None:
        return f"run {fit.labels[i]}"
    at = ", ".join(f"{v} = {fit.data[v][i]:.4g}" for v in fit.law.variables)
    return f"row {i + 1} ({at})"


def lack_of_fit(fit: FitResult) -> float:
    """Chance, under noise, of residuals that bend as these do: an F test of squares and products of the logarithms.

    Runs of a group share noise, which bends residuals from group to group. So all is weighted by the estimated noise
    within and between groups, and only what bends within groups counts, as along the D of a trunk. 1.0 where there are
    too few runs.
    """
    if fit.dof < 4:
        return 1.0
    work = fit.setup()
    theta = work.scaled(fit.values)
    jac = log_jacobian(fit.law, theta, work.log_x)[1][:, work.free]
    u = [v for v in work.log_x if np.ptp(v) > 0]
    extra = [a * b for i, a in enumerate(u) for b in u[i:]]
    size = 3.0 * fit.sigma if np.isfinite(fit.delta) else np.inf  # robust fits may have outliers
    r = np.clip(fit.residuals, -size, size)
    if fit.groups is not None:
        own = (fit.groups[:, None] == np.unique(fit.groups)).astype(float)  # (n, groups)
        mean = (own / own.sum(axis=0)) @ own.T  # a run's entry becomes its group's mean
        noise = noise_of(fit)
        kept = noise.within / (noise.within + float(own.sum(axis=0).mean()) * noise.between) if noise.within else 1.0
        whiten = np.eye(len(r)) - (1.0 - np.sqrt(kept)) * mean
        extra = [whiten @ e for e in extra if np.abs(e - mean @ e).max() > 1e-9 * np.ptp(e)]
        jac, r = whiten @ jac, whiten @ r
    sums, ranks = [], []
    for columns in (jac, np.column_stack([jac, *extra])):
        scaled = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
        basis, s, _ = np.linalg.svd(scaled, full_matrices=False)
        basis = basis[:, s > 1e-8 * s[0]]
        sums.append(float(np.sum((r - basis @ (basis.T @ r)) ** 2)))
        ranks.append(basis.shape[1])
    added, left = ranks[1] - ranks[0], fit.n_points - ranks[1]
    if added < 1 or left < 3 or sums[1] <= 1e-26:
        return 1.0
    return float(fdtrc(added, left, max(sums[0] - sums[1], 0.0) / added / (sums[1] / left)))
