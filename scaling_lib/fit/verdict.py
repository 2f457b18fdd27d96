"""Say whether a fit can bear a prediction: from identifiability, noise and hold-outs, never from R-squared.

In order: are there enough runs? Do the losses fall at all (`no trend`)? Can these runs tell the parameters apart, and
does the target lie where they speak (`not identifiable`)? What else is doubtful (`weak`)? Only what is left is
`supported`: the forms agree at the target, and the largest runs were predicted from the smaller ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import fdtrc, stdtr

from scaling_lib.fit import check, intervals
from scaling_lib.fit.fitted import Fitted
from scaling_lib.fit.forms import Array
from scaling_lib.fit.laws import FAR_DECADES as FAR_DECADES
from scaling_lib.fit.misfit import MATERIAL
from scaling_lib.fit.noise import measure, pseudo_residuals, replicates
from scaling_lib.fit.pool import HEAVY, Pool

WIDE, HOPELESS = 0.10, 0.40  # width of the 90% interval, as a share of the loss: weak, refused
NOISY = 0.10
COLLINEAR = 0.9995  # correlation of ln N and ln D from which D/N is one number
AGREE = 0.02  # of the loss: forms further apart at the target do not agree
SLACK = 0.05  # of ln: a target this little beyond what was tried counts as tried
TREND_P = 0.01  # a fall along a straight line must be this unlikely to be noise
# and by the tests that ask again where the line is a bad ruler: together flat runs pass once in 70 times
SECOND_P = 0.0025
FLAT = 0.005  # losses this close together are flat where no repeats say better: the size of a fresh model moves them
TURN_P = 0.001  # a rise after the least loss must be this unlikely to be noise, and FLAT or more of the loss
TOGETHER = 0.95  # correlation of ln N and ln D from which one cannot tell with which of the two the losses fall
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
    refusals: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def standing(fit: Fitted) -> Standing:
    """What a fit's verdict says whatever the target."""
    few = _too_few(fit)
    flat, still = (_turn(fit), "") if few else _trend(fit)
    if flat:
        return Standing(flat)
    refusals = [*few, *_design(fit)]
    if fit.misfit.absurd and not fit.pooled:
        refusals.append(f"{_bends(fit)}: these runs follow another form{_better(fit)}")
    return Standing("", tuple(refusals), () if refusals else tuple(_doubts(fit, still)))


def judge(fit: Fitted, stands: Standing, target: tuple[Any, ...]) -> Verdict:
    """The verdict at a target (for arrays the worst of them), or at the largest run without one."""
    points = check.targets(fit.law.variables, target or [high for _, high in fit.fit_range.values()])[0]
    if stands.flat:
        return Verdict("no trend", (stands.flat,))
    if len(points[0]) == 0:
        return Verdict("supported", ())
    refusals, doubts = _distance(fit, points)
    refusals = [*stands.refusals, *refusals]
    if not refusals:
        refusals, wide = _width(fit, points)
        doubts += wide
    if refusals:
        return Verdict("not identifiable", tuple(refusals))
    if fit.pooled and fit.pool is not None:
        doubts += _pool_at(fit, fit.pool, points)
    doubts += stands.doubts
    return Verdict("weak" if doubts else "supported", tuple(doubts))


def _trend(fit: Fitted) -> tuple[str, str]:
    """Why the losses show no fall, or nothing; and what is doubtful about the fall that they show.

    Asked of a straight line (with N and D a plane) in the logarithms of the variables that vary.
    """
    if turned := _turn(fit):
        return turned, ""
    names, columns = [], [np.ones(fit.n_points)]
    for name, u in zip(fit.law.variables, fit.work.log_x, strict=True):
        if name != "U" and np.linalg.matrix_rank(np.column_stack([*columns, u]), tol=1e-6) > len(columns):
            names.append(name)
            columns.append(u)
    if not names:
        return f"every run has the same {' and '.join(fit.law.variables)}: there is nothing to see a trend along", ""
    falls, down, scatter = _falls(columns, fit)
    loss, size = fit.data["loss"], np.sum(fit.work.log_x, axis=0)
    measured = any(falls) and replicates(fit.work.log_x, fit.work.y).many
    if fit.n_points > 2 and loss.max() < (1.0 + FLAT) * loss.min() and not measured:
        return (
            f"the losses are flat: from {loss.min():.4g} to {loss.max():.4g}, all within "
            f"{100 * (loss.max() / loss.min() - 1):.2g}% of each other"
        ), ""
    still = " or ".join(name for name, fall in zip(names, falls, strict=False) if not fall)
    if len(names) == 2 and still:  # neither slope alone may be sure where both rise together
        correlation = float(np.corrcoef(columns[1], columns[2])[0, 1])
        if abs(correlation) >= TOGETHER and any(_falls([columns[0], columns[1] + columns[2]], fit)[0]):
            return "", (
                f"N and D rise together (correlation {correlation:.2f}): the losses fall along them, but these runs do "
                "not show with which; vary D/N"
            )
    if falls and not any(falls) and not _law_beats_constant(fit):
        return (
            f"the losses do not fall with {still} beyond their noise: from the smallest run to the largest they go "
            f"from {loss[np.argmin(size)]:.4g} to {loss[np.argmax(size)]:.4g}, lie between {loss.min():.4g} and "
            f"{loss.max():.4g}, and scatter by {100 * scatter:.2g}% round a straight line"
        ), ""
    if still and fit.groups is not None and all(down) and _apart(fit.groups, columns[1:], falls):
        count = len(np.unique(fit.groups))
        return "", f"{count} groups are too few to tell the fall of the losses with {still} from what each group shares"
    return "", f"the losses do not fall with {still} beyond their noise" if still else ""


def _apart(groups: Array, columns: list[Array], falls: list[bool]) -> bool:
    """Whether each group has one value (a size, say) of each column (n,) along which no fall is seen."""
    quiet = [u for u, fall in zip(columns, falls, strict=False) if not fall]
    pairs = (np.unique(np.column_stack([groups, np.round(u, 9)]), axis=0) for u in quiet)
    return all(len(found) == len(np.unique(groups)) for found in pairs)


def _falls(columns: list[Array], fit: Fitted) -> tuple[list[bool], list[bool], float]:
    """Of each column (n,) after the first: does the loss fall along it beyond its noise, and does it fall at all?

    And the noise round the plane.
    """
    design, y, k = np.column_stack(columns), fit.work.y, len(columns)
    dof = len(y) - k
    if dof < 1 or k < 2:
        return [], [], 0.0
    plane = np.linalg.lstsq(design, y, rcond=None)[0]
    rest = y - design @ plane
    noise = measure(design, rest, np.ones(k, dtype=bool), dof, np.inf, fit.groups)
    variance, _, freedom = noise.contrast(np.eye(k)[1:])
    exact = variance <= 0
    chance = stdtr(freedom, plane[1:] / np.sqrt(np.where(exact, 1.0, variance)))
    falls = np.where(exact, plane[1:] < -1e-9, chance < TREND_P).tolist()
    if k == 2 and not falls[0] and fit.groups is None:
        falls[0] = _ranks_fall(columns[1], y)
    return falls, (plane[1:] < 0).tolist(), float(np.sqrt(np.sum(rest**2) / dof))


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
    size, loss = np.exp(x + fit.work.log_x0[0]), np.exp(mean + fit.work.log_l0)
    return (
        f"the losses fall, then rise: from {loss[0]:.4g} at {fit.law.variables[0]} = {size[0]:.3g} to "
        f"{loss[least]:.4g} at {size[least]:.3g}, then {loss[last]:.4g} at {size[last]:.3g}, where repeated runs "
        f"scatter by {100 * scatter:.2g}%: no law that only falls follows them"
    )


def _too_few(fit: Fitted) -> list[str]:
    k, names, distinct = fit.work.n_free, fit.law.variables, fit.diagnostics["distinct"]
    if distinct >= k + 2:
        return []
    what = names[0] if len(names) == 1 else f"({', '.join(names)})"
    values = "value" if distinct == 1 else "values"
    return [f"{distinct} distinct {values} of {what} for {k} parameters: at least {k + 2} are needed"]


def _design(fit: Fitted) -> list[str]:
    """Why these runs cannot tell the parameters apart."""
    if {"N", "D"} <= set(fit.law.variables):
        u, v = np.log(fit.data["N"]), np.log(fit.data["D"])
        if few := [n for n, x in (("N", u), ("D", v)) if len(np.unique(x)) < 3]:
            return [f"{' and '.join(few)} takes fewer than 3 values: its exponent cannot be told from its constant"]
        if abs(float(np.corrcoef(u, v)[0, 1])) > COLLINEAR:
            low, high = np.exp(np.min(v - u)), np.exp(np.max(v - u))
            ratio = f"= {low:.3g}" if high < 1.005 * low else f"from {low:.3g} to {high:.3g}"
            return [
                f"N and D rise together in every run (D/N {ratio}): their effects cannot be told apart; vary D/N, or "
                "fit L(N) along this line"
            ]
    if blind := fit.diagnostics["blind"]:
        return [f"no run says anything about {', '.join(blind)} (the Jacobian has rank {fit.diagnostics['rank']})"]
    return []


def _distance(fit: Fitted, points: tuple[Array, ...]) -> tuple[list[str], list[str]]:
    """Refusals and doubts that come from how far the target lies beyond the runs."""
    refusals, doubts = [], []
    for name, x in zip(fit.law.variables, points, strict=True):
        low, high = fit.fit_range[name]
        span = float(np.log10(high / low))
        above, below = float(np.log10(x.max() / high)), float(np.log10(low / x.min()))
        beyond, side = max((above, "beyond the largest"), (below, "below the smallest"))
        told = f"the target lies {beyond:.1f} decades in {name} {side} run, and the runs span {span:.1f} decades"
        if beyond > max(FAR_DECADES, span):
            refusals.append(f"{told}: they do not constrain the loss there")
        elif beyond > min(FAR_DECADES, max(span, 0.5)):
            doubts.append(told)
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


def _pool_at(fit: Fitted, pool: Pool, points: tuple[Array, ...]) -> list[str]:
    """Doubts where the pool's forms disagree, or further beyond the runs than its hold-out: claims reach as tests."""
    out = []
    largest, target = (float(np.max(np.sum([np.log(v) for v in x], axis=0))) for x in (fit.x, points))
    if pool.best.cuts and target - largest > pool.tried + SLACK:
        out.append(
            f"the target lies {np.exp(target - largest):.3g} times beyond the largest run in "
            f"{' x '.join(fit.law.variables)}, and by hiding the largest runs the forms were tried over "
            f"{np.exp(pool.tried):.3g} times only"
        )
    apart = pool.disagreement(points)
    i = int(np.argmax(apart))
    if apart[i] > AGREE:
        said = pool.by_form(tuple(p[i : i + 1] for p in points))
        forms = ", ".join(f"{m.name} {float(said[m.name][0]):.4g}" for m in pool.members if m.weight >= HEAVY)
        out.append(f"the forms disagree at the target by {100 * apart[i]:.2g}%: {forms}")
    return out


def _doubts(fit: Fitted, still: str) -> list[str]:
    """What is doubtful about the fit wherever it is used; ``still`` says what is about the fall of its losses."""
    out = [text for text in ("" if fit.success else fit.message, still) if text]
    pool, groups, leverage = fit.pool if fit.pooled else None, fit.diagnostics["groups"], fit.noise.geometry.leverage
    if pool is None:
        out += [
            f"{'the floor E is at its bound (0)' if name == 'E' else f'{name} is at its bound'}: these runs do not "
            "show it"
            for name in fit.at_bound
        ]
        if "E" in fit.params and "E" not in (*fit.fixed, *fit.at_bound):
            low, high = intervals.parameter_interval(fit, "E")
            if low <= 1e-6 * high:
                out.append(f"the floor E may be anything from 0 to {high:.3g}: its 90% interval reaches its bound")
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
    if pool is None:  # one form alone: its residuals bend, or another form predicts better
        said = (_bends(fit) if fit.misfit.clear else "") + _better(fit)
        return [*out, said.removeprefix("; ")] if said else out
    if not pool.best.cuts:
        out.append("the runs are too few to hide the largest and predict them, so all forms weigh the same")
    elif (held := sum(m.weight * m.held for m in pool.members)) < HELD:
        out.append(f"of the largest runs, hidden in turn, {held:.0%} lay inside their 90% interval")
    if pool.best.misfit.clear:
        out.append(
            f"the residuals of {pool.best.name}, the form that predicts best, bend by "
            f"{100 * pool.best.misfit.size:.2g}% of the loss; the interval is widened by it"
        )
    return out


def _bends(fit: Fitted) -> str:
    return (
        f"the residuals bend by {100 * fit.misfit.size:.2g}% of the loss: the form does not follow these runs (chance "
        f"of it in noise {fit.misfit.chance:.1g})"
    )


def _better(fit: Fitted) -> str:
    """The form that predicts the largest of the runs better, by name, or nothing."""
    best = fit.pool.best if fit.pool else None
    own = next((m for m in fit.pool.members if m.name == fit.law.name), None) if fit.pool else None
    if best is None or own is None or own.weight >= HEAVY or not own.error > best.error + MATERIAL:
        return ""
    return (
        f"; {best.name} predicts the largest of these runs better from the smaller ones: "
        f"{100 * best.error:.2g}% off, {own.name} {100 * own.error:.2g}%"
    )
