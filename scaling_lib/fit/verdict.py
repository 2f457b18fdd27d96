"""Say whether a fit can bear a prediction: from identifiability, noise and hold-outs, never from R-squared.

In order: are there enough runs? Do the losses fall at all (`no trend`)? Can these runs tell the parameters apart, and
does the target lie where they speak (`not identifiable`)? What else is doubtful (`weak`)? Only what is left is
`supported`: the forms agree at the target, and the largest runs were predicted from the smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling_lib.fit import check, intervals
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.misfit import MATERIAL
from scaling_lib.fit.pool import HEAVY
from scaling_lib.fit.trend import Trend, no_fall, trend, turn

FAR_DECADES = 1.5  # 30 times beyond the runs is where published back-tests end well ...
# ... and no target is believed that lies further beyond the runs than the runs themselves span.
WIDE, HOPELESS = 0.10, 0.40  # width of the 90% interval, as a share of the loss: weak, refused
NOISY = 0.10
COLLINEAR = 0.9995  # correlation of ln N and ln D from which D/N is one number
AGREE = 0.02  # of the loss: forms further apart at the target do not agree
SLACK = 0.05  # of ln: a target this little beyond what was tried counts as tried
HELD = 0.75  # share of the rolling hold-out inside its 90% intervals


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


def standing(fit: Fitted) -> Standing:
    """What a fit's verdict says whatever the target."""
    few, seen = _too_few(fit), trend(fit)
    flat = turn(fit) or ("" if few else no_fall(fit, seen))
    if flat:
        return Standing(flat, (), ())
    refusals = [*few, *_design(fit)]
    if fit.misfit.absurd and not fit.pooled:
        refusals.append(f"{_bends(fit)}: these runs follow another form{_better(fit)}")
    return Standing("", tuple(refusals), () if refusals else tuple(_doubts(fit, seen)))


def judge(fit: Fitted, stands: Standing, target: tuple[Any, ...]) -> Verdict:
    """The verdict at a target (for arrays the worst of them), or at the largest run without one."""
    largest = tuple(np.array([high]) for _, high in fit.fit_range.values())
    points = check.targets(fit.law.variables, target)[0] if target else largest
    if stands.flat:
        return Verdict("no trend", (stands.flat,))
    if len(points[0]) == 0:
        return Verdict("supported", ())
    far, doubts = _distance(fit, points)
    refusals = [*stands.refusals, *far]
    if not refusals:
        refusals, wide = _width(fit, points)
        doubts += wide
    if refusals:
        return Verdict("not identifiable", tuple(refusals))
    doubts += [*_untried(fit, points), *_apart(fit, points), *stands.doubts]
    return Verdict("weak" if doubts else "supported", tuple(doubts))


def _too_few(fit: Fitted) -> list[str]:
    k, names, distinct = fit.work.n_free, fit.law.variables, fit.diagnostics["distinct"]
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


def _width(fit: Fitted, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from the interval at the target."""
    low, high = intervals.interval(fit, points, 0.9)
    width = (high - low) / np.maximum(intervals.predict(fit, points), 1e-300)
    i = int(np.argmax(width))
    if not np.isfinite(width[i]):
        return [f"the 90% interval at the target has no upper end: the loss may be anything above {low[i]:.3g}"], []
    text = f"the 90% interval at the target runs from {low[i]:.3g} to {high[i]:.3g}"
    if width[i] > HOPELESS:
        return [text], []
    return [], [f"{text}, {100 * width[i]:.0f}% of the loss"] if width[i] > WIDE else []


def _untried(fit: Fitted, points: tuple[Array, ...]) -> list[str]:
    """Doubt where the target lies further beyond the runs than the hold-out predicted: a claim reaches as its test."""
    if not fit.pooled or fit.pool is None or not fit.pool.best.cuts:
        return []
    largest, target = (float(np.max(np.sum([np.log(v) for v in x], axis=0))) for x in (fit.x, points))
    if target - largest <= fit.pool.tried + SLACK:
        return []
    return [
        f"the target lies {np.exp(target - largest):.3g} times beyond the largest run in "
        f"{' x '.join(fit.law.variables)}, and by hiding the largest runs the forms were tried over "
        f"{np.exp(fit.pool.tried):.3g} times only"
    ]


def _apart(fit: Fitted, points: tuple[Array, ...]) -> list[str]:
    """Doubt where the pool's forms disagree at the target."""
    if not fit.pooled or fit.pool is None:
        return []
    apart = fit.pool.disagreement(points)
    i = int(np.argmax(apart))
    if apart[i] <= AGREE:
        return []
    said = fit.pool.by_form(tuple(p[i : i + 1] for p in points))
    forms = ", ".join(f"{m.name} {float(said[m.name][0]):.4g}" for m in fit.pool.members if m.weight >= HEAVY)
    return [f"the forms disagree at the target by {100 * apart[i]:.2g}%: {forms}"]


def _doubts(fit: Fitted, seen: Trend) -> list[str]:
    """What is doubtful about the fit wherever it is used."""
    out = [] if fit.success else [fit.message]
    pooled, groups, leverage = (
        fit.pooled and fit.pool is not None,
        fit.diagnostics["groups"],
        fit.noise.geometry.leverage,
    )
    if seen.together:
        out.append(
            f"N and D rise together (correlation {seen.together:.2f}): the losses fall along them, but these runs do "
            "not show with which; vary D/N"
        )
    elif seen.still:
        out.append(f"the losses do not fall with {' or '.join(seen.still)} beyond their noise")
    if not pooled:
        out += _floor_doubts(fit)
    if fit.dof < 3:
        out.append(f"{fit.dof} degrees of freedom are few to judge the noise by")
    if 0 < groups < 6:
        out.append(f"{groups} groups are few to judge their shared noise by")
    if fit.sigma > NOISY:
        out.append(f"a run scatters by {100 * fit.sigma:.0f}% of its loss")
    i = int(np.argmax(leverage))
    if leverage[i] > 0.95:
        out.append(
            f"the fit hangs on {fit.run_name(i)}: its leverage is {leverage[i]:.2f}, so the fit would follow it to "
            "nearly any value"
        )
    return out + (_pool_doubts(fit) if pooled else _form_doubts(fit))


def _floor_doubts(fit: Fitted) -> list[str]:
    out = []
    for name in fit.at_bound:
        what = "the floor E is at its bound (0)" if name == "E" else f"{name} is at its bound"
        out.append(f"{what}: these runs do not show it")
    if "E" in fit.params and "E" not in fit.fixed and "E" not in fit.at_bound:
        low, high = intervals.parameter_interval(fit, "E")
        if low <= 1e-6 * high:
            out.append(f"the floor E may be anything from 0 to {high:.3g}: its 90% interval reaches its bound")
    return out


def _form_doubts(fit: Fitted) -> list[str]:
    """Doubts about one form alone: its residuals bend, or another form predicts better."""
    said = (_bends(fit) if fit.misfit.clear else "") + _better(fit)
    return [said.removeprefix("; ")] if said else []


def _bends(fit: Fitted) -> str:
    return (
        f"the residuals bend by {100 * fit.misfit.size:.2g}% of the loss: the form does not follow these runs (chance "
        f"of it in noise {fit.misfit.chance:.1g})"
    )


def _better(fit: Fitted) -> str:
    """The form that predicts the largest of the runs better, by name, or nothing."""
    pool = fit.pool
    own = None if pool is None else next((m for m in pool.members if m.name == fit.law.name), None)
    if pool is None or own is None or own.weight >= HEAVY or not own.error > pool.best.error + MATERIAL:
        return ""
    return (
        f"; {pool.best.name} predicts the largest of these runs better from the smaller ones: "
        f"{100 * pool.best.error:.2g}% off, {own.name} {100 * own.error:.2g}%"
    )


def _pool_doubts(fit: Fitted) -> list[str]:
    """Doubts about the pool: no hold-out, one that was not covered, or a best form whose residuals bend."""
    assert fit.pool is not None
    best, out = fit.pool.best, []
    if not best.cuts:
        out.append("the runs are too few to hide the largest and predict them, so all forms weigh the same")
    elif (held := sum(m.weight * m.held for m in fit.pool.members)) < HELD:
        out.append(f"of the largest runs, hidden in turn, {held:.0%} lay inside their 90% interval")
    if best.misfit.clear:
        out.append(
            f"the residuals of {best.name}, the form that predicts best, bend by {100 * best.misfit.size:.2g}% of the "
            "loss; the interval is widened by it"
        )
    return out
