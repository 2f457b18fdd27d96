"""Compute-optimal sizes straight from runs: IsoFLOP parabolas (approach 2), envelope of curves (approach 1).

Both give N*(C) ~ C^a and D*(C) = C / (6 N*) ~ C^b without a law for L(N, D) [Hoffmann et al. 2022, section
3]. A parabola is only the loss's local shape: where alpha and beta differ, wide or off-centre grids of
sizes bias D* by percents to tens of percents at 1e24 FLOP [arXiv 2603.22339]. So a test of lack of fit (do
a cubic and a quartic term say more than noise would?) chooses how far from the minimum sizes may lie; where
it rejects even the narrowest window, or rejected all sizes, the interval holds the difference to the minima
of the quartics as well. `report.compare_with_joint`
sets a joint law beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # scipy.stats would add half a second to every command

from scaling_lib.errors import InputError
from scaling_lib.fit.check import check_level, check_seed, group_codes, positive_flops
from scaling_lib.fit.table import table_from_arrays

Floats = NDArray[np.float64]
LACK_P = 0.05  # curves that noise alone bends so rarely are taken to be no parabolas
LEAST_SIZES = 5  # in a window: a parabola's three, and two to test it by
OK, EDGE, OUTSIDE, FLAT, FEW = "ok", "edge", "outside", "flat", "too few sizes"
# Webb's six-point weights: mean 0, variance 1, and enough distinct draws with few clusters [Webb 2023].
_WEBB = np.sqrt(np.array([0.5, 1.0, 1.5, 0.5, 1.0, 1.5])) * np.array([1, 1, 1, -1, -1, -1])


@dataclass(frozen=True)
class Line:
    """ln N* = height + slope (ln C - centre), with the covariance of (height, slope).

    dof : of Student's t; 0 where ``cov`` does not come from the line's own scatter: then the normal serves.
    """

    slope: float
    height: float
    centre: float
    cov: Floats
    dof: int

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
    """What both approaches know: the line ln N*(ln C), the level of intervals, FLOP per parameter and token."""

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
        return _numbers(n, c / (self.flops_per * n))

    def interval(self, flops: ArrayLike, level: float | None = None) -> tuple[Any, Any]:
        """Return (low, high) of N* at ``flops``; D*'s interval is C / (6 high), C / (6 low)."""
        mid, se = self.line.at(np.log(positive_flops(flops)))
        half = self.line.quantile(self.level if level is None else level) * se
        return _numbers(np.exp(mid - half), np.exp(mid + half))

    def exponents(self) -> list[str]:
        """Return a line of text for each exponent."""
        (a0, a1), (b0, b1) = self.a_interval, self.b_interval
        return [
            f"N* ~ C^{self.a:.3f} ({self.level:.0%}: {a0:.3f} to {a1:.3f})",
            f"D* ~ C^{self.b:.3f} ({self.level:.0%}: {b0:.3f} to {b1:.3f})",
        ]


def _numbers(*values: Floats) -> tuple[Any, Any]:
    first, second = (float(v) if v.ndim == 0 else v for v in values)
    return first, second


def _fit_line(ln_c: Floats, ln_n: Floats, stderr: Floats) -> Line:
    """Least-squares line; its covariance from the scatter, shared out as ``stderr`` (b,) are, or from these alone where
    two points leave none. Zeros share it out evenly.
    """
    centre = float(ln_c.mean())
    design = np.stack([np.ones_like(ln_c), ln_c - centre], axis=1)
    hat = np.linalg.pinv(design)
    height, slope = hat @ ln_n
    dof, variance = ln_c.size - 2, stderr**2
    if dof > 0:
        share = variance if np.all(stderr > 0) else np.ones(ln_c.size)
        scatter = float(np.sum((ln_n - design @ [height, slope]) ** 2))
        variance = scatter * share / np.sum(share * (1.0 - np.einsum("bi,ib->b", design, hat)))
    return Line(float(slope), float(height), centre, (hat * variance) @ hat.T, max(dof, 0))


# ---- approach 2: a parabola for each budget --------------------------------------


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
    window: float
    lack_of_fit: tuple[float, float]
    diagnostics: Mapping[str, Any]

    def summary(self) -> str:
        """Return a text of a line per budget and the exponents."""
        rows = [f"{'C, FLOP':>10} {'N*':>10} {'D*':>10} {'loss':>8}  minimum"]
        for c, n, d, loss, flag in zip(self.budgets, self.n_opt, self.d_opt, self.loss_opt, self.flags, strict=True):
            rows.append(f"{c:10.3g} {f'{n:10.3g} {d:10.3g} {loss:8.4f}' if n else '':>30}  {flag}")
        whole, left = self.lack_of_fit
        told = f"lack of fit of the parabolas: p = {whole:.2g} over all sizes"
        if np.isfinite(self.window):
            told += f", {left:.2g} over those within {self.window:.3g}x of N*, which are fitted"
        if whole < LACK_P:
            told += "; the intervals hold the difference to the minima of quartics"
        return "\n".join([*rows, told, *self.exponents()])


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
    kept, factor, lack = _window(n, y, which, window, groups is not None)
    every = [which == i for i in range(int(which.max()) + 1)]
    ln_c = np.array([c[own].mean() for own in every])
    found = [_parabola(n[own & kept], y[own & kept]) for own in every]
    flags, ln_n, best, se, coefficients, centre = (np.array(v) for v in zip(*[p[:6] for p in found], strict=True))
    ok = (flags == OK) | (use_edges & (flags == EDGE))
    if ok.sum() < 2:
        told = "; ".join(f"{np.exp(x):.3g} FLOP {flag}" for x, flag in zip(ln_c, flags, strict=True))
        raise InputError(
            f"isoflop: {ok.sum()} of {len(every)} budgets have a usable minimum, 2 are needed ({told}); "
            "widen the range of sizes"
        )
    # One noise for all budgets, as one budget's few residuals say little of it.
    own_noise = np.array([np.sqrt(np.mean(residuals**2)) for *_, residuals in found])
    noise = np.sqrt(np.mean(own_noise[se > 0] ** 2)) if np.any(se > 0) else 0.0
    line = _fit_line(ln_c[ok], ln_n[ok], (se / np.where(se > 0, np.maximum(own_noise, 1e-300), 1.0) * noise)[ok])
    kind = "Student's t of the minima's scatter" if line.dof else "the parabolas' residuals"
    if bootstrap:
        cluster, spare = (
            np.arange(kept.sum()),
            int(sum((own & kept).sum() - 3 for own, o in zip(every, ok, strict=True) if o)),
        )
        kind = f"wild bootstrap, {bootstrap} draws" + (" by group" if groups is not None else "")
        if groups is not None:
            group_codes(groups, n.size)
            cluster, spare = np.unique(np.asarray(groups)[kept], return_inverse=True)[1], len(np.unique(groups)) - 1
        weights = np.random.default_rng(seed).choice(_WEBB, size=(bootstrap, int(cluster.max()) + 1))[:, cluster]
        drawn = []
        for i in np.flatnonzero(ok):
            hat, residuals = found[i][6:]
            c0 = coefficients[i] + (residuals * weights[:, which[kept] == i]) @ hat.T  # (draws, 3)
            # A draw whose curve opens downwards has no minimum: it counts as far off as the curvature allows.
            drawn.append(centre[i] - c0[:, 1] / (2 * np.maximum(c0[:, 2], 0.05 * coefficients[i, 2])))
        x = ln_c[ok] - line.centre
        lines = np.linalg.pinv(np.stack([np.ones_like(x), x], axis=1)) @ np.array(drawn)
        line = replace(line, cov=np.cov(lines), dof=max(1, spare))
    if lack[0] < LACK_P and window == "auto":  # the difference to the line of the quartics' minima is doubt too
        minima = np.array([_quartic_minimum(n[own], y[own]) if o else np.nan for own, o in zip(every, ok, strict=True)])
        known = np.isfinite(minima)
        if known.sum() > 1:
            other = _fit_line(ln_c[known], minima[known], np.zeros(int(known.sum())))
            bias = np.array([other.at(np.array(line.centre))[0] - line.height, other.slope - line.slope])
            line = replace(line, cov=line.cov + np.outer(bias, bias))
    there = ~np.isin(flags, (FLAT, FEW))
    n_opt = np.where(there, np.exp(np.clip(ln_n, -50, 150)), 0.0)
    return IsoFlopResult(
        line=line,
        level=level,
        flops_per=flops_per,
        budgets=np.exp(ln_c),
        n_opt=n_opt,
        d_opt=np.where(there, np.exp(ln_c) / (flops_per * np.where(there, n_opt, 1.0)), 0.0),
        loss_opt=np.where(there, best, 0.0),
        n_stderr=se,
        coefficients=coefficients,
        centre=centre,
        n_range=np.exp([[n[own].min(), n[own].max()] for own in every]),
        flags=tuple(flags.tolist()),
        used=ok,
        window=factor,
        lack_of_fit=lack,
        diagnostics={
            "n_runs": [int(own.sum()) for own in every],
            "n_fitted": [int((own & kept).sum()) for own in every],
            "interval": kind,
            "budget_spread": [float(np.exp(np.ptp(c[own]))) for own in every],
        },
    )


def _budgets(c: Floats, labels: ArrayLike | None, rtol: float) -> NDArray[np.intp]:
    """Return (n,) the number of each run's budget, rising in FLOP."""
    if labels is not None:
        given = np.asarray(labels)
        if given.shape != c.shape:
            raise InputError(f"isoflop: budgets has shape {given.shape}; give one label per run, ({c.size},)")
        first = np.unique(given, return_inverse=True)[1]
        means = np.bincount(first, c) / np.bincount(first)
        return np.argsort(np.argsort(means))[first]
    order = np.argsort(c)
    which = np.empty(c.size, dtype=np.intp)
    which[order] = np.concatenate([[0], np.cumsum(np.diff(c[order]) > np.log1p(rtol))])
    for i in range(int(which.max()) + 1):
        own = c[which == i]
        if np.ptp(own) > 3 * np.log1p(rtol):
            raise InputError(
                f"isoflop: budgets run into each other between {np.exp(own.min()):.3g} and {np.exp(own.max()):.3g} "
                "FLOP; label them with budgets=, or lower rtol"
            )
    return which


def _parabola(n: Floats, y: Floats) -> tuple[str, float, float, float, Floats, float, Floats, Floats]:
    """Fit loss ``y`` at log sizes ``n`` and judge the minimum.

    Returns flag, vertex, loss there, standard error of the vertex, coefficients (3,) about a centre, the centre, what
    gives the coefficients (3, n) of any losses at these sizes, and the residuals, widened by the root of n / (n - 3).
    """
    centre, few = float(n.mean()), np.unique(n).size < 3
    u = n - centre
    hat = np.linalg.pinv(np.stack([np.ones_like(u), u, u**2], axis=1))
    c, spare = hat @ y, y.size - 3
    residuals = (y - (c[0] + c[1] * u + c[2] * u**2)) * (np.sqrt(y.size / spare) if spare > 0 else 1.0)
    cov = (float(np.mean(residuals**2)) if spare > 0 else 0.0) * hat @ hat.T
    # Twice its standard error, and a trace above rounding: less curvature than that is no minimum.
    if few or c[2] <= max(2 * np.sqrt(cov[2, 2]), 1e-12 * float(np.abs(y).max())):
        c = np.array([y.mean(), 0.0, 0.0]) if few else c
        return FEW if few else FLAT, centre, float(y.mean()), 0.0, c, centre, hat, residuals
    vertex, slope = float(-c[1] / (2 * c[2])), np.array([0.0, -1 / (2 * c[2]), c[1] / (2 * c[2] ** 2)])
    flag = EDGE if n[np.argmin(y)] in (n.min(), n.max()) else OK
    flag = flag if u.min() <= vertex <= u.max() else OUTSIDE
    loss, stderr = float(c[0] - c[1] ** 2 / (4 * c[2])), float(np.sqrt(slope @ cov @ slope))
    return flag, centre + vertex, loss, stderr, c, centre, hat, residuals


def _window(
    n: Floats, y: Floats, which: NDArray[np.intp], window: str | float, grouped: bool
) -> tuple[NDArray[np.bool_], float, tuple[float, float]]:
    """Which runs (n,) are fitted, the window's factor, and the chances of the lack of fit of all and of these."""
    whole = _lack_of_fit(n, y, which, grouped)
    if window != "auto" and (isinstance(window, str) or not window > 1):
        raise InputError(f"isoflop: window={window!r} must be 'auto' or a factor above 1")
    away, least = np.empty(n.size), np.empty(n.size)  # the nearest few of each budget stay, whatever the window
    for i in range(int(which.max()) + 1):
        own = which == i
        middle = _quartic_minimum(n[own], y[own])
        away[own] = np.abs(n[own] - (n[own][np.argmin(y[own])] if np.isnan(middle) else middle))
        least[own] = np.sort(away[own])[:LEAST_SIZES][-1] + 1e-9
    kept, width, chance = np.ones(n.size, dtype=bool), np.inf, whole
    widths = np.unique(np.round(away[away > least.min() - 1e-6], 6))[::-1]
    tried = [np.log(float(window))] if window != "auto" else widths[1 :: max(1, widths.size // 40)] + 1e-6
    for width in tried if window != "auto" or whole < LACK_P else ():
        kept = away <= np.maximum(width, least)
        chance = _lack_of_fit(n[kept], y[kept], which[kept], grouped)
        if chance >= LACK_P:
            break
    return kept, float(window) if window != "auto" else float(np.exp(width - 1e-6)), (whole, chance)


def _lack_of_fit(n: Floats, y: Floats, which: NDArray[np.intp], grouped: bool) -> float:
    """Chance, in noise, of curves that a cubic and a quartic term improve as much: an F test over all budgets."""
    gain = left = 0.0
    added = spare = tested = 0
    for i in np.unique(which):
        u, loss = n[which == i] - n[which == i].mean(), y[which == i]
        sizes = np.unique(u).size
        if sizes < LEAST_SIZES:
            continue
        plain, bent = (_left_by(u, loss, degree) for degree in (2, min(4, sizes - 2)))
        gain, left = gain + plain - bent, left + bent
        added, spare, tested = added + min(2, sizes - 4), spare + loss.size - min(5, sizes - 1), tested + 1
    if not tested or gain <= 1e-24 * float(np.sum(y**2)):
        return 1.0
    # Runs that share a trunk bend every budget's curve alike: they count as one.
    share = tested if grouped else 1
    return float(special.fdtrc(added / share, spare / share, (gain / added) / max(left / spare, 1e-300)))


def _left_by(u: Floats, y: Floats, degree: int) -> float:
    """Sum of the squares that a polynomial leaves."""
    basis = np.linalg.qr(np.vander(u / np.abs(u).max(), degree + 1))[0]
    return float(np.sum((y - basis @ (basis.T @ y)) ** 2))


def _quartic_minimum(n: Floats, y: Floats) -> float:
    """Log size of the lowest point of a quartic (of a cubic, for five sizes) inside the sizes; nan without one."""
    sizes = np.unique(n).size
    if sizes < LEAST_SIZES:
        return np.nan
    at = np.linspace(n.min(), n.max(), 2001)
    i = int(np.argmin(np.polynomial.Polynomial.fit(n, y, min(4, sizes - 2))(at)))
    return np.nan if i in (0, at.size - 1) else float(at[i])


# ---- approach 1: the envelope of training curves ---------------------------------


@dataclass(frozen=True)
class EnvelopeResult(Optimum):
    """Approach 1: for each FLOP the size whose training curve is lowest.

    Attributes
    ----------
    flops, n_best, loss_best : (m,) the envelope on a grid of FLOP.
    sizes : (s,) the sizes that win somewhere strictly inside, one point of the line each.
    centres : (s,) FLOP, geometric middle of the stretch where that size wins.
    edge_sizes : the smallest and largest winners, left out because nothing bounds their stretch on one side.
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
        return "\n".join([f"{self.sizes.size} sizes on the envelope; at its ends: {left_out}", *self.exponents()])


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
    sizes, grid = np.unique(n), np.linspace(c.min(), c.max(), points)
    curves = np.full((sizes.size, points), np.inf)
    for curve, size in zip(curves, sizes, strict=True):
        order = np.flatnonzero(n == size)[np.argsort(c[n == size])]
        inside = (grid >= c[order[0]]) & (grid <= c[order[-1]])
        curve[inside] = np.interp(grid[inside], c[order], y[order])
    covered = np.isfinite(curves).any(axis=0)
    grid, curves = grid[covered], curves[:, covered]
    best = curves.argmin(axis=0)
    winners = np.unique(best)
    inner = np.setdiff1d(winners, best[[0, -1]])
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
        loss_best=np.exp(curves.min(axis=0)),
        sizes=np.exp(sizes[inner]),
        centres=np.exp(centres),
        edge_sizes=tuple(np.exp(sizes[np.setdiff1d(winners, inner)]).tolist()),
    )
