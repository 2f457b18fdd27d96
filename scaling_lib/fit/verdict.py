"""Say whether a fit can bear a prediction: from identifiability, noise and hold-outs, never from R-squared.

In order: are there enough runs? Do the losses fall at all (`no trend`)? Can these runs tell the parameters apart, and
does the target lie where they speak (`not identifiable`)? What else is doubtful (`weak`)? Only what is left is
`supported`: the forms agree at the target, and the largest runs were predicted from the smaller ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import fdtrc, stdtr

from scaling_lib.fit import check, intervals
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.misfit import MATERIAL
from scaling_lib.fit.noise import measure, pseudo_residuals, replicates
from scaling_lib.fit.pool import Pool

TREND_P = 0.01  # a fall along a straight line must be this unlikely to be noise
# and by the tests that ask again where the line is a bad ruler: together flat runs pass once in 70 times
SECOND_P = 0.0025
FLAT = 0.005  # losses this close together are flat where no repeats say better: the size of a fresh model moves them
TURN_P = 0.001  # a rise after the least loss must be this unlikely to be noise, and FLAT or more of the loss
FAR_DECADES = 1.5  # 30 times beyond the runs is where published back-tests end well ...
# ... and no target is believed that lies further beyond the runs than the runs themselves span.
WIDE, HOPELESS = 0.10, 0.40  # width of the 90% interval, as a share of the loss: weak, refused
NOISY = 0.10
COLLINEAR = 0.9995  # correlation of ln N and ln D from which D/N is one number
TOGETHER = 0.95  # and from which one cannot tell with which of the two the losses fall
AGREE = 0.02  # of the loss: forms further apart at the target do not agree
SLACK = 0.05  # of ln: a target this little beyond what was tried counts as tried
HELD = 0.75  # share of the rolling hold-out inside its 90% intervals
LIGHT = 0.1  # weight in the pool below which a form is taken to be outdone


@dataclass(frozen=True)
class Verdict:
    """May this fit be believed at the target?

    level : ``"supported"``, ``"weak"``, ``"not identifiable"`` or ``"no trend"``; of a law whose runs are not at hand
        ``"published"`` or ``"out of range"``. reasons : plain sentences with numbers.
    """

    level: str
    reasons: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """True where no prediction should be quoted."""
        return self.level in ("not identifiable", "no trend", "out of range")

    def __str__(self) -> str:
        return self.level + (": " + "; ".join(self.reasons) if self.reasons else "")


@dataclass(frozen=True)
class Standing:
    """What holds at every target. flat : why there is no trend, or "". refusals, doubts : plain sentences."""

    flat: str
    refusals: tuple[str, ...]
    doubts: tuple[str, ...]


def standing(fit: Fitted, forms: Callable[[], Pool | None]) -> Standing:
    """What a fit's verdict says whatever the target; ``forms`` pools them, which a refusal does not need."""
    few = _too_few(fit)
    flat = _turn(fit) or ("" if few else _no_trend(fit))
    if flat:
        return Standing(flat, (), ())
    refusals = [*few, *_design(fit)]
    if fit.misfit.absurd and not fit.pooled:
        refusals.append(f"{_bends(fit)}: these runs follow another form{_better(fit, forms())}")
    return Standing("", tuple(refusals), () if refusals else tuple(_doubts(fit, forms())))


def judge(fit: Fitted, forms: Callable[[], Pool | None], stands: Standing, *target: Any) -> Verdict:
    """The verdict at a target (for arrays the worst of them), or at the largest run without one."""
    points = _points(fit, target)
    if stands.flat:
        return Verdict("no trend", (stands.flat,))
    if len(points[0]) == 0:
        return Verdict("supported", ())
    far, doubts = _distance(fit, points)
    refusals = [*stands.refusals, *far]
    pool = forms() if fit.pooled and not refusals else None
    if not refusals:
        refusals, wide = _width(fit, pool, points)
        doubts += wide
    if refusals:
        return Verdict("not identifiable", tuple(refusals))
    if pool is not None:
        doubts += [*_untried(fit, pool, points), *_apart(pool, points)]
    doubts += stands.doubts
    return Verdict("weak" if doubts else "supported", tuple(doubts))


def _points(fit: Fitted, target: tuple[Any, ...]) -> tuple[Array, ...]:
    if target:
        return check.targets(fit.law.variables, target)[0]
    return tuple(np.array([fit.fit_range[v][1]]) for v in fit.law.variables)


def _log_line(fit: Fitted) -> tuple[list[str], Array]:
    """Variables that vary, and the design matrix (n, 1 + m) of a straight line in their centred logarithms."""
    names, columns = [], [np.ones(fit.n_points)]
    for name in fit.law.variables:
        u = np.log(fit.data[name])
        candidate = [*columns, u - u.mean()]
        if name != "U" and np.linalg.matrix_rank(np.column_stack(candidate), tol=1e-6) == len(candidate):
            names.append(name)
            columns = candidate
    return names, np.column_stack(columns)


def _slopes(fit: Fitted, design: Array) -> tuple[list[bool], float]:
    """Whether the loss falls beyond its noise along each column after the first, and the noise round the plane."""
    y = np.log(fit.data["loss"])
    y = y - y.mean()
    dof = len(y) - design.shape[1]
    if dof < 1 or design.shape[1] < 2:
        return [], 0.0
    plane = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ plane
    noise = measure(design, rest, np.ones(design.shape[1], dtype=bool), dof, np.inf, fit.groups)
    variance, _, freedom = noise.contrast(np.eye(design.shape[1])[1:])
    falls = []
    for slope, var, free in zip(plane[1:], variance, freedom, strict=True):
        if var <= 0:
            falls.append(bool(slope < -1e-9))
        else:
            falls.append(bool(stdtr(free, slope / np.sqrt(var)) < TREND_P))
    if design.shape[1] == 2 and not falls[0] and fit.groups is None:
        falls[0] = _ranks_fall(design[:, 1], y)
    return falls, float(np.sqrt(np.sum(rest**2) / dof))


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
    k = fit.n_points - fit.dof
    if fit.groups is not None or fit.dof < 1 or k < 2:
        return False
    y = np.log(fit.data["loss"])
    level = float(np.median(y) if np.isfinite(fit.delta) else y.mean())
    for _ in range(50):  # reweighting; for least squares it stands still
        r = y - level
        pull = np.minimum(1.0, fit.delta / np.maximum(np.abs(r), 1e-300))
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


def _fall_together(fit: Fitted, names: list[str], design: Array) -> bool:
    """Whether two variables rise together and the losses fall along them, though neither slope alone is sure."""
    if len(names) != 2 or abs(np.corrcoef(design[:, 1], design[:, 2])[0, 1]) < TOGETHER:
        return False
    falls, _ = _slopes(fit, np.column_stack([design[:, 0], design[:, 1] + design[:, 2]]))
    return bool(falls and falls[0])


def _no_trend(fit: Fitted) -> str:
    names, design = _log_line(fit)
    if not names and fit.n_points > 1:
        return f"every run has the same {' and '.join(fit.law.variables)}: there is nothing to see a trend along"
    falls, noise = _slopes(fit, design)
    loss, size = fit.data["loss"], np.sum(fit.work.log_x, axis=0)
    repeats = replicates(fit.work.log_x, fit.work.y)
    measured = repeats.many and any(falls)
    if fit.n_points > 2 and loss.max() < (1.0 + FLAT) * loss.min() and not measured:
        return (
            f"the losses are flat: from {loss.min():.4g} to {loss.max():.4g}, all within "
            f"{100 * (loss.max() / loss.min() - 1):.2g}% of each other"
        )
    if not falls or any(falls) or _law_beats_constant(fit) or _fall_together(fit, names, design):
        return ""
    return (
        f"the losses do not fall with {' or '.join(names)} beyond their noise: from the smallest run to the largest "
        f"they go from {loss[np.argmin(size)]:.4g} to {loss[np.argmax(size)]:.4g}, lie between {loss.min():.4g} and "
        f"{loss.max():.4g}, and scatter by {100 * noise:.2g}% round a straight line"
    )


def _turn(fit: Fitted) -> str:
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
    name = fit.law.variables[0]
    size = np.exp(x + fit.work.log_x0[0])
    level = np.exp(mean + fit.work.log_l0)
    return (
        f"the losses fall, then rise: from {level[0]:.4g} at {name} = {size[0]:.3g} to {level[least]:.4g} at "
        f"{size[least]:.3g}, then {level[last]:.4g} at {size[last]:.3g}, where repeated runs scatter by "
        f"{100 * scatter:.2g}%: no law that only falls follows them"
    )


def _too_few(fit: Fitted) -> list[str]:
    k, names, distinct = fit.n_points - fit.dof, fit.law.variables, fit.diagnostics["distinct"]
    if distinct >= k + 2:
        return []
    what = names[0] if len(names) == 1 else f"({', '.join(names)})"
    values = "value" if distinct == 1 else "values"
    return [f"{distinct} distinct {values} of {what} for {k} parameters: at least {k + 2} are needed"]


def _design(fit: Fitted) -> list[str]:
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


def _distance(fit: Fitted, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
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
            refusals.append(f"{where}, and the runs span {span:.1f} decades: they do not constrain the loss there")
        elif beyond > min(FAR_DECADES, max(span, 0.5)):
            doubts.append(f"{where}, and the runs span {span:.1f} decades")
    return refusals, doubts


def _width(fit: Fitted, pool: Pool | None, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from the interval at the target."""
    if pool is not None:
        low, high = pool.interval(points, 0.9, "mean")
        centre = pool.predict(points)
    else:
        low, high = intervals.prediction_interval(fit, points, 0.9, "mean", "auto")
        centre = fit.law.value(fit.values, *points)
    width = (high - low) / np.maximum(centre, 1e-300)
    i = int(np.argmax(width))
    if not np.isfinite(width[i]):
        return [f"the 90% interval at the target has no upper end: the loss may be anything above {low[i]:.3g}"], []
    text = f"the 90% interval at the target runs from {low[i]:.3g} to {high[i]:.3g}"
    if width[i] > HOPELESS:
        return [text], []
    return [], [f"{text}, {100 * width[i]:.0f}% of the loss"] if width[i] > WIDE else []


def _untried(fit: Fitted, pool: Pool, points: tuple[Array, ...]) -> list[str]:
    """Doubt where the target lies further beyond the runs than the hold-out predicted: a claim reaches as its test."""
    runs = np.sum([np.log(fit.data[v]) for v in fit.law.variables], axis=0)
    beyond = float(np.max(np.sum([np.log(v) for v in points], axis=0)) - runs.max())
    if not pool.best.cuts or beyond <= max(pool.tried, 0.0) + SLACK:
        return []
    return [
        f"the target lies {np.exp(beyond):.3g} times beyond the largest run in {' x '.join(fit.law.variables)}, and "
        f"by hiding the largest runs the forms were tried over {np.exp(pool.tried):.3g} times only"
    ]


def _apart(pool: Pool, points: tuple[Array, ...]) -> list[str]:
    """Doubt where the pool's forms disagree at the target."""
    apart = pool.disagreement(points)
    i = int(np.argmax(apart))
    if apart[i] <= AGREE:
        return []
    each = {name: float(v[0]) for name, v in pool.by_form(tuple(p[i : i + 1] for p in points)).items()}
    said = ", ".join(f"{m.name} {each[m.name]:.4g}" for m in pool.members if m.weight >= LIGHT)
    return [f"the forms disagree at the target by {100 * apart[i]:.2g}%: {said}"]


def _doubts(fit: Fitted, pool: Pool | None) -> list[str]:
    """What is doubtful about the fit wherever it is used."""
    out = []
    if not fit.success:
        out.append(fit.message)
    names, design = _log_line(fit)
    falls, _ = _slopes(fit, design)
    still = [n for n, f in zip(names, falls, strict=False) if not f]
    if still and _fall_together(fit, names, design):
        r = float(np.corrcoef(design[:, 1], design[:, 2])[0, 1])
        out.append(
            f"N and D rise together (correlation {r:.2f}): the losses fall along them, but these runs do not show with "
            "which; vary D/N"
        )
    elif still:
        out.append(f"the losses do not fall with {' or '.join(still)} beyond their noise")
    if not fit.pooled or pool is None:
        out += _floor_doubts(fit)
    if fit.dof < 3:
        out.append(f"{fit.dof} degrees of freedom are few to judge the noise by")
    if fit.diagnostics["groups"] and fit.diagnostics["groups"] < 6:
        out.append(f"{fit.diagnostics['groups']} groups are few to judge their shared noise by")
    if fit.sigma > NOISY:
        out.append(f"a run scatters by {100 * fit.sigma:.0f}% of its loss")
    i = int(np.argmax(fit.diagnostics["leverage"]))
    if fit.diagnostics["leverage"][i] > 0.95:
        out.append(
            f"the fit hangs on {fit.run_name(i)}: its leverage is {fit.diagnostics['leverage'][i]:.2f}, so the fit "
            "would follow it to nearly any value"
        )
    return out + (_pool_doubts(pool) if fit.pooled and pool is not None else _form_doubts(fit, pool))


def _floor_doubts(fit: Fitted) -> list[str]:
    out = []
    for name in fit.diagnostics["at_bound"]:
        what = "the floor E is at its bound (0)" if name == "E" else f"{name} is at its bound"
        out.append(f"{what}: these runs do not show it")
    if "E" in fit.params and "E" not in fit.fixed and "E" not in fit.diagnostics["at_bound"]:
        low, high = intervals.parameter_interval(fit, "E")
        if low <= 1e-6 * high:
            out.append(f"the floor E may be anything from 0 to {high:.3g}: its 90% interval reaches its bound")
    return out


def _form_doubts(fit: Fitted, pool: Pool | None) -> list[str]:
    """Doubts about one form alone: its residuals bend, or another form predicts better."""
    if fit.misfit.clear:
        return [_bends(fit) + _better(fit, pool)]
    better = _better(fit, pool)
    return [better.removeprefix("; ")] if better else []


def _bends(fit: Fitted) -> str:
    return (
        f"the residuals bend by {100 * fit.misfit.size:.2g}% of the loss: the form does not follow these runs (chance "
        f"of it in noise {fit.misfit.chance:.1g})"
    )


def _better(fit: Fitted, pool: Pool | None) -> str:
    """The form that predicts the largest of the runs better, by name, or nothing."""
    own = None if pool is None else next((m for m in pool.members if m.name == fit.law.name), None)
    if pool is None or own is None or own.weight >= LIGHT or not own.error > pool.best.error + MATERIAL:
        return ""
    return (
        f"; {pool.best.name} predicts the largest of these runs better from the smaller ones: "
        f"{100 * pool.best.error:.2g}% off, {own.name} {100 * own.error:.2g}%"
    )


def _pool_doubts(pool: Pool) -> list[str]:
    """Doubts about the pool: no hold-out, one that was not covered, or a best form whose residuals bend."""
    best, out = pool.best, []
    if not best.cuts:
        out.append("the runs are too few to hide the largest and predict them, so all forms weigh the same")
    elif (held := sum(m.weight * m.held for m in pool.members)) < HELD:
        out.append(f"of the largest runs, hidden in turn, {held:.0%} lay inside their 90% interval")
    if best.misfit.clear:
        out.append(
            f"the residuals of {best.name}, the form that predicts best, bend by {100 * best.misfit.size:.2g}% of the "
            "loss; the interval is widened by it"
        )
    return out
