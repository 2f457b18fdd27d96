"""Compute-optimal sizes straight from runs: IsoFLOP parabolas (approach 2), envelope of curves (approach 1).

Both give N*(C) ~ C^a and D*(C) = C / (6 N*) ~ C^b without a law for L(N, D) [Hoffmann et al. 2022, section
3]. A parabola is only the loss's local shape: where alpha and beta differ, wide or off-centre grids of
sizes bias D* by percents to tens of percents at 1e24 FLOP [arXiv 2603.22339]. So a test of lack of fit (do
a cubic and a quartic term say more than noise would?) chooses how far from the minimum sizes may lie; where
it rejects even the narrowest window, or rejected all sizes, the interval holds the difference to the minima
of the quartics as well. Compare with the joint fit: `joint_optimum`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would add half a second to every command

from scaling_lib.errors import InputError
from scaling_lib.fit._parabolas import (
    EDGE,
    FEW,
    FLAT,
    LACK_P,
    OK,
    bootstrap_lines,
    choose_window,
    of_one_noise,
    parabola,
    quartic_minimum,
)
from scaling_lib.fit.allocate import Allocation, compute_optimal
from scaling_lib.fit.check import check_level, check_seed, positive_flops
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.result import FitResult
from scaling_lib.fit.table import RunTable, table_from_arrays

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """ln N* = height + slope (ln C - centre), with the covariance of (height, slope)."""

    slope: float
    height: float
    centre: float
    cov: Floats  # (2, 2)
    dof: int  # of Student's t; 0 where cov does not come from the line's own scatter: then the normal serves

    def quantile(self, level: float) -> float:
        """Return the two-sided quantile for ``level``, such as 1.645 for 0.9 and many degrees of freedom."""
        p = 0.5 + level / 2
        return float(special.stdtrit(self.dof, p) if self.dof else special.ndtri(p))

    def at(self, ln_c: Floats) -> tuple[Floats, Floats]:
        """Return (ln N*, its standard error) at ``ln_c`` of any shape."""
        u = ln_c - self.centre
        variance = self.cov[0, 0] + 2 * u * self.cov[0, 1] + u**2 * self.cov[1, 1]
        return self.height + self.slope * u, np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True)
class Optimum:
    """What both approaches know: the line, and how to read it."""

    line: Line
    level: float
    flops_per: float

    @property
    def a(self) -> float:
        """Exponent of N* ~ C^a."""
        return self.line.slope

    @property
    def b(self) -> float:
        """Exponent of D* ~ C^b; a + b = 1 because C = 6 N D."""
        return 1.0 - self.line.slope

    @property
    def a_interval(self) -> tuple[float, float]:
        """Interval of ``a`` at ``level``."""
        half = self.line.quantile(self.level) * float(np.sqrt(self.line.cov[1, 1]))
        return self.a - half, self.a + half

    @property
    def b_interval(self) -> tuple[float, float]:
        """Interval of ``b`` at ``level``."""
        low, high = self.a_interval
        return 1.0 - high, 1.0 - low

    def optimal(self, flops: ArrayLike) -> tuple[Any, Any]:
        """Return (N*, D*) at a budget or an array of budgets in FLOP, floats or arrays of its shape."""
        c = positive_flops(flops)
        n = np.exp(self.line.at(np.log(c))[0])
        d = c / (self.flops_per * n)
        return (float(n), float(d)) if n.ndim == 0 else (n, d)

    def interval(self, flops: ArrayLike, level: float | None = None) -> tuple[Any, Any]:
        """Return (low, high) of N* at ``flops``; D*'s interval is C / (6 high), C / (6 low)."""
        mid, se = self.line.at(np.log(positive_flops(flops)))
        half = self.line.quantile(self.level if level is None else level) * se
        low, high = np.exp(mid - half), np.exp(mid + half)
        return (float(low), float(high)) if low.ndim == 0 else (low, high)


def _exponent_lines(r: Optimum) -> list[str]:
    (a0, a1), (b0, b1) = r.a_interval, r.b_interval
    return [
        f"N* ~ C^{r.a:.3f} ({r.level:.0%}: {a0:.3f} to {a1:.3f})",
        f"D* ~ C^{r.b:.3f} ({r.level:.0%}: {b0:.3f} to {b1:.3f})",
    ]


def _fit_line(ln_c: Floats, ln_n: Floats, stderr: Floats) -> Line:
    """Least-squares line; its covariance from the scatter, shared out as ``stderr`` (b,) are, or from these alone where
    two points leave none. Zeros share it out evenly.
    """
    centre = float(ln_c.mean())
    design = np.stack([np.ones_like(ln_c), ln_c - centre], axis=1)
    hat = np.linalg.pinv(design)
    height, slope = hat @ ln_n
    dof = ln_c.size - 2
    scatter = float(np.sum((ln_n - design @ [height, slope]) ** 2))
    variance = stderr**2
    if dof > 0:
        share = variance if np.all(stderr > 0) else np.ones(ln_c.size)
        variance = scatter * share / np.sum(share * (1.0 - np.einsum("bi,ib->b", design, hat)))
    return Line(float(slope), float(height), centre, (hat * variance) @ hat.T, max(dof, 0))


@dataclass(frozen=True)
class IsoFlopResult(Optimum):
    """Approach 2: one parabola in ln N for each budget.

    Attributes
    ----------
    budgets : (b,) FLOP, the geometric mean of each group, rising.
    n_opt, d_opt, loss_opt : (b,) the parabola's minimum; 0 where there is none.
    n_stderr : (b,) standard error of ln N* from the parabola's own residuals; 0 where it has no spare point.
    coefficients : (b, 3) of loss = c0 + c1 u + c2 u^2 with u = ln N - ``centre``, for drawing.
    centre : (b,) mean ln N of each budget.
    n_range : (b, 2) smallest and largest size tried.
    flags : (b,) "ok"; "edge" (the lowest measured loss is at the smallest or largest size); "outside" (the
        minimum lies beyond the sizes tried); "flat" (no curvature beyond the noise); "too few sizes" (fewer
        than three).
    used : (b,) bool, the budgets whose minima enter the exponent.
    a_with_edges : the exponent when "edge" minima count as well; equals ``a`` where there are none.
    line, level, flops_per : the line ln N*(ln C), the level of intervals, FLOP per parameter and token.
    window : sizes from N* / window to window N* are fitted; inf where all are.
    lack_of_fit : chances, in noise alone, of curves that bend away from parabolas as these do: over all sizes, and
        over those fitted; 1.0 where there are too few sizes to tell.
    diagnostics : counts, the kind of interval, the width of the budgets.
    """

    budgets: Floats
    n_opt: Floats
    d_opt: Floats
    loss_opt: Floats
    n_stderr: Floats
    coefficients: Floats
    centre: Floats
    n_range: Floats
    flags: tuple[str, ...]
    used: NDArray[np.bool_]
    a_with_edges: float
    window: float
    lack_of_fit: tuple[float, float]
    diagnostics: Mapping[str, Any]

    def summary(self) -> str:
        """Return a text of a line per budget and the exponents."""
        rows = [f"{'C, FLOP':>10} {'N*':>10} {'D*':>10} {'loss':>8}  minimum"]
        for i, flag in enumerate(self.flags):
            found = f"{self.n_opt[i]:10.3g} {self.d_opt[i]:10.3g} {self.loss_opt[i]:8.4f}"
            rows.append(f"{self.budgets[i]:10.3g} {found if self.n_opt[i] else ' ' * 30}  {flag}")
        whole, left = self.lack_of_fit
        told = f"lack of fit of the parabolas: p = {whole:.2g} over all sizes"
        if np.isfinite(self.window):
            told += f", {left:.2g} over those within {self.window:.3g}x of N*, which are fitted"
        if whole < LACK_P:
            told += "; the intervals hold the difference to the minima of quartics"
        return "\n".join([*rows, told, *_exponent_lines(self)])


@dataclass(frozen=True)
class EnvelopeResult(Optimum):
    """Approach 1: for each FLOP the size whose training curve is lowest.

    Attributes
    ----------
    flops, n_best, loss_best : (m,) the envelope on a grid of FLOP.
    sizes : (s,) the sizes that win somewhere strictly inside, one point of the line each.
    centres : (s,) FLOP, geometric middle of the stretch where that size wins.
    edge_sizes : the smallest and largest winners, left out because nothing bounds their stretch on one side.
    line, level, flops_per : as in :class:`IsoFlopResult`.
    """

    flops: Floats
    n_best: Floats
    loss_best: Floats
    sizes: Floats
    centres: Floats
    edge_sizes: tuple[float, ...]

    def summary(self) -> str:
        """Return a text of the exponents and of what was left out."""
        left_out = ", ".join(f"{n:.3g}" for n in self.edge_sizes)
        return "\n".join([f"{self.sizes.size} sizes on the envelope; at its ends: {left_out}", *_exponent_lines(self)])


def isoflop(
    n_params: ArrayLike,
    flops: ArrayLike,
    loss: ArrayLike,
    *,
    budgets: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    rtol: float = 0.15,
    use_edges: bool = False,
    window: str | float = "auto",
    level: float = 0.9,
    bootstrap: int = 0,
    seed: int = 0,
    flops_per: float = 6.0,
) -> IsoFlopResult:
    """Fit a parabola in ln N to each budget's losses and a power law to the minima (approach 2).

    Parameters
    ----------
    n_params, flops, loss : (n,) one entry per run.
    budgets : (n,) labels of the budgets. Default: runs belong together while neighbours in FLOP differ by
        less than the factor 1 + ``rtol``.
    groups : (n,) labels of runs whose errors go together (one trunk, one seed). Used by the bootstrap.
    use_edges : whether minima flagged "edge" enter the exponent.
    window : sizes from N*/window to window N* are fitted. ``"auto"`` takes the widest window whose curves a test of
        lack of fit does not tell from parabolas (at 5%; at least five sizes a budget); inf takes all sizes.
    level : of the intervals, 0 < level < 1.
    bootstrap : draws of a wild bootstrap of the parabolas' residuals (by group where ``groups`` is given).
        With 0 the interval comes from the minima's scatter about the line, by Student's t with b - 2
        degrees of freedom.
    flops_per : FLOP per parameter and token; D* = C / (flops_per N*).

    Raises
    ------
    InputError : for bad arrays, budgets that run into each other, or fewer than two budgets with a minimum.
    """
    table = table_from_arrays(loss, n_params=n_params, flops=flops, source="isoflop")
    check_level(level)
    check_seed(seed)
    n, c, y = np.log(table.get("N")), np.log(table.get("C")), table.loss
    which = _budgets(c, budgets, rtol)
    size = int(which.max()) + 1
    ln_c = np.array([c[which == i].mean() for i in range(size)])
    kept, factor, lack = choose_window(n, y, which, window, groups is not None)
    parabolas = [parabola(n[(which == i) & kept], y[(which == i) & kept]) for i in range(size)]
    flags = tuple(p.flag for p in parabolas)
    ok = np.array([f == OK or (use_edges and f == EDGE) for f in flags])
    if ok.sum() < 2:
        told = "; ".join(f"{np.exp(x):.3g} FLOP {f}" for x, f in zip(ln_c, flags, strict=True))
        raise InputError(
            f"isoflop: {ok.sum()} of {size} budgets have a usable minimum, 2 are needed ({told}); "
            "widen the range of sizes"
        )
    ln_n = np.array([p.vertex for p in parabolas])
    se = np.array([p.stderr for p in parabolas])
    line = _fit_line(ln_c[ok], ln_n[ok], of_one_noise(parabolas, se)[ok])
    kind = "Student's t of the minima's scatter" if line.dof else "the parabolas' residuals"
    if bootstrap:
        used_groups = None if groups is None else np.asarray(groups)[kept] if np.shape(groups) == kept.shape else groups
        draws = bootstrap_lines(parabolas, which[kept], ln_c, ok, used_groups, bootstrap, seed)
        spare = int((np.isin(which, np.flatnonzero(ok)) & kept).sum() - 3 * ok.sum())
        dof = max(1, spare if groups is None else np.unique(np.asarray(groups)).size - 1)
        line = Line(line.slope, line.height, line.centre, np.cov(draws), dof)
        kind = f"wild bootstrap, {bootstrap} draws" + (" by group" if groups is not None else "")
    if lack[0] < LACK_P and window == "auto":
        line = _with_bias(line, ln_c[ok], [quartic_minimum(n[which == i], y[which == i]) for i in np.flatnonzero(ok)])
    bounded = np.array([f in (OK, EDGE) for f in flags])
    found = np.array([f not in (FLAT, FEW) for f in flags])
    n_opt = np.where(found, np.exp(np.clip(ln_n, -50, 150)), 0.0)
    return IsoFlopResult(
        line=line,
        level=level,
        flops_per=flops_per,
        budgets=np.exp(ln_c),
        n_opt=n_opt,
        d_opt=np.where(found, np.exp(ln_c) / (flops_per * np.where(found, n_opt, 1.0)), 0.0),
        loss_opt=np.where(found, [p.loss for p in parabolas], 0.0),
        n_stderr=se,
        coefficients=np.array([p.coefficients for p in parabolas]),
        centre=np.array([p.centre for p in parabolas]),
        n_range=np.exp([[n[which == i].min(), n[which == i].max()] for i in range(size)]),
        flags=flags,
        used=ok,
        a_with_edges=_fit_line(ln_c[bounded], ln_n[bounded], se[bounded]).slope,
        window=factor,
        lack_of_fit=lack,
        diagnostics={
            "n_runs": [int((which == i).sum()) for i in range(size)],
            "n_fitted": [int(((which == i) & kept).sum()) for i in range(size)],
            "interval": kind,
            "budget_spread": [float(np.exp(np.ptp(c[which == i]))) for i in range(size)],
        },
    )


def envelope(
    n_params: ArrayLike,
    flops: ArrayLike,
    loss: ArrayLike,
    *,
    level: float = 0.9,
    points: int = 1500,
    flops_per: float = 6.0,
) -> EnvelopeResult:
    """Fit N*(C) to the lower envelope of training curves (Chinchilla's approach 1).

    Points along a curve whose learning rate has not yet decayed lie too high; where that matters give only
    annealed end points, at least two per size. Curves are joined by straight lines in (ln C, ln loss) and
    never extrapolated.

    Parameters
    ----------
    n_params, flops, loss : (n,) points of training curves; points of one size form one curve.
    points : number of FLOP values at which the curves are compared; the paper's 1,500.

    Raises
    ------
    InputError : for bad arrays, or fewer than two sizes that win strictly inside the envelope.
    """
    table = table_from_arrays(loss, n_params=n_params, flops=flops, source="envelope")
    check_level(level)
    n, c, y = np.log(table.get("N")), np.log(table.get("C")), np.log(table.loss)
    sizes = np.unique(n)
    grid = np.linspace(c.min(), c.max(), points)
    curves = np.full((sizes.size, points), np.inf)
    for i, size in enumerate(sizes):
        order = np.flatnonzero(n == size)[np.argsort(c[n == size])]
        inside = (grid >= c[order[0]]) & (grid <= c[order[-1]])
        curves[i, inside] = np.interp(grid[inside], c[order], y[order])
    covered = np.isfinite(curves).any(axis=0)
    grid, curves = grid[covered], curves[:, covered]
    best = curves.argmin(axis=0)
    winners = np.unique(best)
    inner = winners[(winners != best[0]) & (winners != best[-1])]
    if inner.size < 2:
        raise InputError(
            f"envelope: {inner.size} sizes are best strictly inside the range of FLOP, 2 are needed; "
            "give more sizes, or curves that overlap in FLOP"
        )
    centres = np.array([(grid[best == i].min() + grid[best == i].max()) / 2 for i in inner])
    return EnvelopeResult(
        line=_fit_line(centres, sizes[inner], np.zeros(inner.size)),
        level=level,
        flops_per=flops_per,
        flops=np.exp(grid),
        n_best=np.exp(sizes[best]),
        loss_best=np.exp(curves[best, np.arange(grid.size)]),
        sizes=np.exp(sizes[inner]),
        centres=np.exp(centres),
        edge_sizes=tuple(float(np.exp(sizes[i])) for i in np.setdiff1d(winners, inner)),
    )


@dataclass(frozen=True)
class Comparison:
    """Compute-optimal sizes by the parabolas and, beside them, by a joint law fitted to the same runs.

    isoflop : the parabolas. joint : the fit of L(N, D). optima : at each budget asked for, the joint law's allocation.
    """

    isoflop: IsoFlopResult
    joint: FitResult
    optima: tuple[Allocation, ...]

    def to_text(self) -> str:
        """Return the parabolas' summary, and a line per budget with both answers."""
        lines = [self.isoflop.summary(), f"beside it, the joint law {self.joint.law.formula}: {self.joint.verdict()}"]
        for best in self.optima:
            n, (low, high) = self.isoflop.optimal(best.flops)[0], self.isoflop.interval(best.flops)
            lines.append(f"at C = {best.flops:.4g}: N* = {n:.4g} by the parabolas ({low:.4g} to {high:.4g}),")
            if best.verdict is not None and best.verdict.refused:
                lines.append(f"  no answer by the joint law: {best.verdict}")
            else:
                ends = best.n_interval or (0.0, np.inf)
                lines.append(f"  {best.n_params:.4g} by the joint law ({ends[0]:.4g} to {ends[1]:.4g})")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: null where there is no number."""
        r = self.isoflop
        answers = []
        for best in self.optima:
            refused = best.verdict is not None and best.verdict.refused
            answers.append(
                {
                    "flops": best.flops,
                    "n_params": r.optimal(best.flops)[0],
                    "n_interval": r.interval(best.flops),
                    "joint_n_params": None if refused else best.n_params,
                    "joint_n_interval": None if refused else best.n_interval,
                    "joint_verdict": str(best.verdict),
                }
            )
        return {
            "approach": "isoflop",
            "level": r.level,
            "a": r.a,
            "a_interval": r.a_interval,
            "b": r.b,
            "b_interval": r.b_interval,
            "window": r.window if np.isfinite(r.window) else None,
            "lack_of_fit": r.lack_of_fit,
            "budgets": r.budgets.tolist(),
            "n_opt": r.n_opt.tolist(),
            "loss_opt": r.loss_opt.tolist(),
            "minima": r.flags,
            "joint_params": self.joint.params,
            "predictions": answers,
        }


def compare_with_joint(table: RunTable, flops: Sequence[float] = (), **options: Any) -> Comparison:
    """Fit the parabolas and a joint law to one table, and set their optima at budgets ``flops`` side by side.

    Parameters
    ----------
    table : with N, D and C.
    options : of `isoflop`; ``level`` and ``flops_per`` hold for both.

    Raises
    ------
    InputError : for a table without N and C, or what either fit refuses.
    """
    found = isoflop(table.get("N"), table.get("C"), table.loss, groups=table.groups, **options)
    joint = fit_joint(table.get("N"), table.get("D"), table.loss, groups=table.groups)
    optima = [compute_optimal(joint, float(c), level=found.level, flops_per=found.flops_per) for c in flops]
    return Comparison(found, joint, tuple(optima))


def _with_bias(line: Line, ln_c: Floats, minima: list[float]) -> Line:
    """The line with what it differs from the line of the quartics' ``minima`` added to its covariance."""
    there = np.isfinite(minima)
    if there.sum() < 2:
        return line
    other = _fit_line(ln_c[there], np.array(minima)[there], np.zeros(int(there.sum())))
    bias = np.array([other.at(np.array([line.centre]))[0][0] - line.height, other.slope - line.slope])
    return replace(line, cov=line.cov + np.outer(bias, bias))


def _budgets(c: Floats, labels: ArrayLike | None, rtol: float) -> NDArray[np.intp]:
    """Return (n,) the number of each run's budget, rising in FLOP."""
    if labels is not None:
        given = np.asarray(labels)
        if given.shape != c.shape:
            raise InputError(f"isoflop: budgets has shape {given.shape}; give one label per run, ({c.size},)")
        first = np.unique(given, return_inverse=True)[1]
        means = np.array([c[first == i].mean() for i in range(int(first.max()) + 1)])
        return np.argsort(np.argsort(means))[first]
    order = np.argsort(c)
    steps = np.diff(c[order]) > np.log1p(rtol)
    which = np.empty(c.size, dtype=np.intp)
    which[order] = np.concatenate([[0], np.cumsum(steps)])
    for i in range(int(which.max()) + 1):
        if np.ptp(c[which == i]) > 3 * np.log1p(rtol):
            low, high = np.exp(c[which == i].min()), np.exp(c[which == i].max())
            raise InputError(
                f"isoflop: budgets run into each other between {low:.3g} and {high:.3g} FLOP; "
                "label them with budgets=, or lower rtol"
            )
    return which
