"""The exponent of N* ~ C^a by Chinchilla's three approaches on one grid of runs, side by side.

Approach 1, the *envelope*: the size that is best at each FLOP. Approach 2, *IsoFLOP*: the minimum of a parabola at each
of a few budgets. Approach 3, *parametric*: a law L(N, D), whose a is beta / (alpha + beta) [Hoffmann et al. 2022,
section 3]. C = 6 N D with non-embedding N throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from scaling_lib.counting import flops_6nd
from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import Fit
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.isoflops import EnvelopeResult, envelope
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.show.figures import grid_isoflop
from scaling_lib.show.grids import Grid
from scaling_lib.show.ladders import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.9
Found = tuple[float, float, float, str]  # exponent, its interval, what it rests on


@dataclass(frozen=True)
class Approach:
    """One approach's answer on one grid.

    name : ``"envelope"``, ``"IsoFLOP"`` or ``"parametric"``. a : the exponent; NaN where there is none, and then
        ``why_not`` says why. low, high : its own 90% interval. rests_on : what it was read from, in words.
    left_out : exponents (s,) with each size left out in turn, smallest size first; NaN where there is none.
    """

    name: str
    a: float
    low: float
    high: float
    rests_on: str
    left_out: np.ndarray
    why_not: str = ""


def three_approaches(grid: Grid, *, draws: int = 400, seed: int = 0) -> tuple[Approach, Approach, Approach]:
    """Ask a grid for its exponent by all three approaches, and again without each of its sizes.

    The intervals are each approach's own: the scatter of the winners about their line (envelope), the parabolas'
    residuals (IsoFLOP), ``draws`` of a bootstrap of the law by trunk (parametric). None of them knows what the grid
    cannot see; that the exponent moves when a size is left out shows a part of it.
    """
    rest = [
        Grid(grid.recipe, tuple(r for r in grid.runs if r.config.model != model))
        for model in dict.fromkeys(r.config.model for r in grid.runs)
    ]
    found = []
    for name, way in (("envelope", _by_envelope), ("IsoFLOP", _by_isoflop), ("parametric", _by_law)):
        again = np.array([_try(way, g, 0, seed)[0][0] for g in rest])
        (a, low, high, rests_on), why_not = _try(way, grid, draws, seed)
        found.append(Approach(name, a, low, high, rests_on, again, why_not))
    return found[0], found[1], found[2]


def _try(way: Callable[[Grid, int, int], Found], grid: Grid, draws: int, seed: int) -> tuple[Found, str]:
    try:
        return way(grid, draws, seed), ""
    except InputError as error:
        return (np.nan, np.nan, np.nan, ""), str(error)


def _by_envelope(grid: Grid, draws: int, seed: int) -> Found:
    found = grid_envelope(grid)
    return found.a, *found.a_interval, f"{found.sizes.size} sizes that win"


def _by_isoflop(grid: Grid, draws: int, seed: int) -> Found:
    found = grid_isoflop(grid)
    return found.a, *found.a_interval, f"{found.used.sum()} of {found.used.size} minima"


def _by_law(grid: Grid, draws: int, seed: int) -> Found:
    t = grid.table
    fit = fit_joint(t.n_params, t.n_tokens, t.loss, groups=t.groups, bootstrap=draws, seed=seed)
    return *law_exponent(fit), f"{len(t)} runs, all at once"


def grid_envelope(grid: Grid) -> EnvelopeResult:
    """The envelope of a grid's end points, each size's losses joined over C = 6 N D."""
    t = grid.table
    n, d = np.asarray(t.n_params), np.asarray(t.n_tokens)
    return envelope(n, 6.0 * n * d, t.loss, level=LEVEL)


def law_exponent(fit: Fit) -> tuple[float, float, float]:
    """Exponent a = beta / (alpha + beta) of a law in Chinchilla's form, and its 90% interval.

    The interval is that of the fit's bootstrap draws, or of a published covariance by the delta method; NaN where
    there is neither.

    Raises
    ------
    InputError : for another form.
    """
    names = fit.law.param_names
    if "alpha" not in names or "beta" not in names or fit.law.name != "chinchilla":
        raise InputError(f"law {fit.law.name!r} has no exponent of N* in closed form; use Chinchilla's form")
    i, j = names.index("alpha"), names.index("beta")
    alpha, beta = float(fit.values[i]), float(fit.values[j])
    a = beta / (alpha + beta)
    if isinstance(fit, FitResult):
        if fit.draws is None:
            return a, np.nan, np.nan
        sample = np.asarray(fit.draws)
        low, high = np.quantile(sample[:, j] / (sample[:, i] + sample[:, j]), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
        return a, float(low), float(high)
    if fit.cov is None:
        return a, np.nan, np.nan
    slope = np.array([-beta, alpha]) / (alpha + beta) ** 2
    half = float(special.ndtri(0.5 + LEVEL / 2) * np.sqrt(slope @ fit.cov[np.ix_([i, j], [i, j])] @ slope))
    return a, a - half, a + half


def laws_side_by_side(fit: FitResult, law: PublishedLaw) -> str:
    """The parameters of a fit and of a published law of the same form, each with its 90% interval. Plain text.

    Values have three digits, ends two.

    Raises
    ------
    InputError : where the forms differ.
    """
    if fit.law.param_names != law.law.param_names:
        raise InputError(f"laws {fit.law.name!r} and {law.law.name!r} have other parameters: compare one form")
    lines = [f"{'':>6} {'fitted here':>24}   {law.title}"]
    z = float(special.ndtri(0.5 + LEVEL / 2))
    for i, name in enumerate(fit.law.param_names):
        low, high = fit.parameter_interval(name, level=LEVEL)
        own = f"{_digits(fit.params[name], 3)} [{_digits(low, 2)}, {_digits(high, 2)}]"
        theirs = _digits(law.params[name], 3)
        if law.cov is not None:  # of the logarithm where the parameter is an amplitude
            half = z * float(np.sqrt(law.cov[i, i]))
            value = law.params[name]
            ends = (value * np.exp(-half), value * np.exp(half)) if law.law.logged[i] else (value - half, value + half)
            theirs += f" [{_digits(ends[0], 2)}, {_digits(ends[1], 2)}]"
        lines.append(f"{name:>6} {own:>24}   {theirs}")
    return "\n".join(lines)


def _digits(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def made_grid(grid: Grid, law: Fit, tokens: float = 1.0) -> Grid:
    """The same sizes at ``tokens`` times their token counts, with a law's own losses in place of the measured ones.

    Nothing is trained: this is how a design is tried out on a law whose exponent is known.
    """
    made = []
    for run in grid.runs:
        counts = {**run.counts, "n_tokens": run.counts["n_tokens"] * tokens, "flops": run.counts["flops"] * tokens}
        loss = float(law.predict(counts["n_params_non_embedding"], counts["n_tokens"]))
        made.append(replace(run, val_loss=loss, counts=counts))
    return Grid(grid.recipe, tuple(made))


def hemmed_in(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """FLOP along the envelope (m,), evenly in the logarithm, and where the best size has no smaller rival (m,) bool.

    There it is the smallest size of all, or the smallest that can spend the budget within its longest run: the end of
    the grid chose it, and a smaller model, trained longer than any run here, might be better still.
    """
    found = grid_envelope(grid)
    t = grid.table
    n, d = np.asarray(t.n_params), np.asarray(t.n_tokens)
    sizes = np.unique(n)
    reach = np.array([flops_6nd(s, d[n == s].max()) for s in sizes])  # what a size's longest run spends
    smallest = np.array([sizes[reach >= c * (1 - 1e-9)].min() for c in found.flops])
    return found.flops, np.abs(found.n_best / smallest - 1) < 1e-9


def approaches_table(found: Sequence[Approach]) -> str:
    """The answers as a table. Plain text."""
    lines = [f"{'approach':>10} {'N* ~ C^':>8} {'90% interval':>16} {'without one size':>18}  rests on"]
    for x in found:
        seen = x.left_out[np.isfinite(x.left_out)]
        moved = f"{seen.min():.2f} to {seen.max():.2f}" if seen.size else "-"
        gone = x.left_out.size - seen.size
        end = f"; no exponent without {gone} of the {x.left_out.size} sizes" if gone and np.isfinite(x.a) else ""
        if np.isfinite(x.a):
            own = f"{x.low:.2f} to {x.high:.2f}" if np.isfinite(x.low) else "-"
            lines.append(f"{x.name:>10} {x.a:>8.2f} {own:>16} {moved:>18}  {x.rests_on}{end}")
        else:
            lines.append(f"{x.name:>10} {'none':>8} {'-':>16} {moved:>18}  no minimum inside the sizes tried")
    return "\n".join(lines)


def chinchilla_exponents() -> dict[str, tuple[float, float, float]]:
    """Published exponents on Chinchilla's runs by approach: (a, low, high), NaN where no interval is shipped."""
    out = {
        f"{word}, as printed": (published.optima[f"chinchilla-approach-{i}-N"].exponent, np.nan, np.nan)
        for i, word in ((1, "envelope"), (2, "IsoFLOP"), (3, "parametric"))
    }
    return {**out, "parametric, refitted": law_exponent(published.laws["chinchilla-epoch"])}


def plot_exponents(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]], axes: Axes | None = None
) -> Axes:  # fmt: skip
    """Draw exponents with their intervals, a row each, in groups of one colour.

    groups : title -> {row: (a, low, high)}; low and high may be NaN, and a row whose a is NaN says so in words.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    names: list[str] = []
    for (title, rows), colour, marker in zip(groups.items(), ("#0072B2", "#D55E00", "#009E73"), "osD", strict=False):
        first = True
        for name, (a, low, high) in rows.items():
            y = len(names)
            names.append(name)
            if not np.isfinite(a):
                axes.text(
                    0.5, y, "no exponent", color=colour, ha="center", va="center", transform=axes.get_yaxis_transform()
                )
                continue
            if np.isfinite(low):
                axes.plot([low, high], [y, y], color=colour, linewidth=2)
            axes.plot(a, y, marker, color=colour, markersize=7, label=title if first else None)
            first = False
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("exponent a of N* ~ C^a, with its 90% interval where there is one")
    axes.legend(loc="best")
    return axes


def plot_frontier(grid: Grid, axes: Axes | None = None) -> Axes:
    """Draw loss against C = 6 N D, a line for each size, with the envelope; shaded where the runs' ends choose it."""
    import matplotlib.pyplot as plt

    from scaling_lib.show.plot import shades

    if axes is None:
        axes = plt.subplots()[1]
    t = grid.table
    n, d = np.asarray(t.n_params), np.asarray(t.n_tokens)
    sizes = np.unique(n)
    for size, colour in zip(sizes, shades(len(sizes)), strict=True):
        order = np.flatnonzero(n == size)[np.argsort(d[n == size])]
        axes.plot(6.0 * size * d[order], t.loss[order], "o-", color=colour, linewidth=1.3, markersize=4,
                  label=short(size))  # fmt: skip
    found = grid_envelope(grid)
    axes.plot(found.flops, found.loss_best, color="#D55E00", linewidth=4, alpha=0.45, zorder=0, label="envelope")
    flops, hemmed = hemmed_in(grid)
    axes.fill_between(flops, 0, 1, where=hemmed.tolist(), color="#D55E00", alpha=0.09, linewidth=0,
                      transform=axes.get_xaxis_transform(), label="no smaller rival")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("compute C = 6 N D (FLOP), N without embeddings")
    axes.set_ylabel("validation loss (nats per token)")
    axes.legend(title="parameters", fontsize="small", loc="lower left")
    return axes
