"""What a change of recipe does to the law: to its floor, its prefactors or its exponents; and as a multiple of compute.

Two recipes trained the same cells (model, tokens, seed), so their losses are compared in pairs. A law is fitted to the
reference; then each part of it is allowed to shift, one at a time, and has to explain the paired differences. How well
is judged against the noise between seeds of one cell, which no law can explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import interpolate, optimize, special, stats

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.fit.estimate import fit_joint
from scaling_lib.fit.result import FitResult
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.ladders import short
from scaling_lib.show.noise import Difference, differences, half_width, of_recipe
from scaling_lib.show.noise import pairs as pairs_by_seed
from scaling_lib.show.plot import AXIS, FAINT, new_axes, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_CELLS = 8
ENOUGH = 0.05  # a shift explains the differences where the lack of fit has at least this p-value


@dataclass(frozen=True)
class Shift:
    """One part of the reference's law, moved so that it explains the paired differences as well as it can.

    what : such as ``"floor E"``. unit : of the shifts. values, low, high : float (k,), the shifts and their 90%
        intervals. scatter : standard deviation of what is left, as a share of the loss. p : of the lack of fit (F test
        against the noise between seeds); small where this part alone cannot be the whole answer.
    """

    what: str
    unit: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scatter: float
    p: float

    @property
    def enough(self) -> bool:
        """Whether what is left is no more than noise."""
        return self.p >= ENOUGH


@dataclass(frozen=True)
class Multiplier:
    """At one cell: how many times the tokens the reference needs for the other recipe's loss, same size and seed.

    At a fixed size that is a multiple of compute. NaN where its ladder in D does not reach that loss.
    """

    model: ModelConfig
    n_tokens: int
    factor: float
    low: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What ``other`` has over ``reference``. Made by `recipe_effect`."""

    reference: str
    other: str
    fit: FitResult
    cells: tuple[Difference, ...]
    noise: float
    shifts: tuple[Shift, ...]
    multipliers: tuple[Multiplier, ...]

    def summary(self) -> str:
        """The shifts as a table, with what they leave unexplained. Plain text."""
        rows = [
            f"{self.other.upper()} over {self.reference.upper()}: {len(self.cells)} cells, "
            f"noise between seeds {100 * self.noise:.2f}% of the loss",
            f"{'what shifts':>28} {'by':>48} {'left over':>10} {'p':>8}",
        ]
        for s in self.shifts:
            by = ", ".join(f"{v:+.3f} [{a:+.3f}, {b:+.3f}]" for v, a, b in zip(s.values, s.low, s.high, strict=True))
            p = f"{s.p:.3f}" if s.p >= 0.001 else "<0.001"
            rows.append(f"{s.what:>28} {by:>48} {100 * s.scatter:>9.2f}% {p:>8}")
        return "\n".join(rows)


def recipe_effect(runs: Sequence[Run], reference: str, other: str) -> Effect:
    """Compare two recipes cell by cell, and ask which part of the law the difference belongs to.

    Parameters
    ----------
    runs : records with both recipes at eight or more cells (model, tokens) and three or more shared seeds.

    Raises
    ------
    InputError
        Fewer cells or seeds than that.
    """
    check_poolable(runs)
    cells = differences(runs, other, reference)
    if len(cells) < LEAST_CELLS:
        raise InputError(
            f"{len(cells)} cells have both {reference!r} and {other!r} with three shared seeds; "
            f"{LEAST_CELLS} are needed: python -m scaling_lib run --mode paired"
        )
    loss = {
        (r.config.train.recipe, r.config.model, r.config.n_tokens, r.config.train.seed): r for r in runs if r.finished
    }
    pairs = _pairs(runs, reference, other)
    fit = fit_joint(pairs.n, pairs.d, np.exp(pairs.log_loss))
    cell = np.unique(np.stack([pairs.n, pairs.d]), axis=1, return_inverse=True)[1].ravel()
    means = np.bincount(cell, weights=pairs.change) / np.bincount(cell)
    pure, pure_dof = float(np.sum((pairs.change - means[cell]) ** 2)), len(cell) - len(means)
    shifts = tuple(_shift(*way, fit, pairs, pure, pure_dof) for way in _ways(pairs))
    multipliers = tuple(_multipliers(cells, loss, reference, other))
    return Effect(reference, other, fit, tuple(cells), math.sqrt(pure / pure_dof), shifts, multipliers)


Cell = tuple[str, ModelConfig, int, int]  # recipe, model, tokens, seed


@dataclass(frozen=True)
class Pairs:
    """Arrays (n,), an entry for each pair of runs: N, D, the reference's ln loss, and the other's less that."""

    n: np.ndarray
    d: np.ndarray
    log_loss: np.ndarray
    change: np.ndarray


def _pairs(runs: Sequence[Run], reference: str, other: str) -> Pairs:
    both = pairs_by_seed(
        of_recipe(runs, reference), of_recipe(runs, other),
        lambda r: (r.counts["n_params_non_embedding"], r.counts["n_tokens"]),
    )  # fmt: skip
    rows = [(*counts, math.log(a), math.log(b / a)) for counts, losses in both.items() for a, b in losses]
    return Pairs(*np.array(sorted(rows), dtype=float).T)


Values = dict[str, float]
Way = Callable[[Values, np.ndarray], Values]


def _ways(pairs: Pairs) -> list[tuple[str, str, int, Way]]:
    """What may shift. An exponent turns its term about the middle of the data, or it would move the prefactor too."""
    mid_n, mid_d = float(np.log(pairs.n).mean()), float(np.log(pairs.d).mean())

    def both(p: Values, s: np.ndarray) -> Values:
        return _turn({**p, "B": p["B"] * math.exp(s[0])}, "B", "beta", s[1], mid_d)

    return [
        ("nothing", "", 0, lambda p, s: p),
        ("floor E", "nats", 1, lambda p, s: {**p, "E": p["E"] + s[0]}),
        ("prefactor A of size", "ln", 1, lambda p, s: {**p, "A": p["A"] * math.exp(s[0])}),
        ("prefactor B of data", "ln", 1, lambda p, s: {**p, "B": p["B"] * math.exp(s[0])}),
        ("exponent alpha of size", "", 1, lambda p, s: _turn(p, "A", "alpha", s[0], mid_n)),
        ("exponent beta of data", "", 1, lambda p, s: _turn(p, "B", "beta", s[0], mid_d)),
        ("B and beta of data", "ln, -", 2, both),
    ]


def _turn(p: Values, prefactor: str, exponent: str, by: float, about: float) -> Values:
    return {**p, prefactor: p[prefactor] * math.exp(by * about), exponent: p[exponent] + by}


def _shift(what: str, unit: str, k: int, way: Way, fit: FitResult, pairs: Pairs, pure: float, pure_dof: int) -> Shift:
    """Law and shift together, on the reference's losses and on the paired differences, each in units of its noise."""
    noise = math.sqrt(pure / pure_dof)
    working = fit.law.to_working(fit.values)
    names = fit.law.param_names

    def residuals(x: np.ndarray) -> np.ndarray:
        natural = fit.law.to_natural(x[: len(working)])
        before = np.log(fit.law.value(natural, pairs.n, pairs.d))
        moved = way(dict(zip(names, natural.tolist(), strict=True)), x[len(working) :])
        after = fit.law.value(np.array([moved[name] for name in names]), pairs.n, pairs.d)
        shifted = np.log(np.maximum(after, 1e-9)) - before
        return np.concatenate([(pairs.log_loss - before) / fit.sigma, (pairs.change - shifted) / noise])

    low = np.full(len(working) + k, -np.inf)
    low[names.index("E")] = -1e-9  # the floor may rest at 0
    found = optimize.least_squares(
        residuals, np.concatenate([working, np.zeros(k)]), bounds=(low, np.inf), x_scale="jac"
    )
    left = found.fun[len(pairs.change) :] * noise  # of the differences
    dof, cells = len(left) - k, len(left) - pure_dof
    scatter = math.sqrt(float(left @ left) / dof)
    values = found.x[len(working) :]
    # Where the shift does not explain the differences, what it leaves counts as noise and widens its interval.
    cov = np.linalg.pinv(found.jac.T @ found.jac) * max(1.0, (scatter / noise) ** 2)
    half = special.stdtrit(dof, 0.95) * np.sqrt(np.diag(cov)[len(working) :])
    lack = max(float(left @ left) - pure, 0.0) / (cells - k) / (pure / pure_dof)
    return Shift(
        what, unit, values, values - half, values + half, scatter, float(stats.f.sf(lack, cells - k, pure_dof))
    )


def _multipliers(cells: Sequence[Difference], loss: dict[Cell, Run], reference: str, other: str) -> list[Multiplier]:
    found = []
    for cell in cells:
        logs = []
        for recipe, model, tokens, seed in loss:
            if (recipe, model, tokens) != (other, cell.model, cell.n_tokens):
                continue
            ladder = sorted(
                (key[2], run.val_loss)
                for key, run in loss.items()
                if key[0] == reference and key[1] == model and key[3] == seed and run.val_loss is not None
            )
            x, y = np.log([t for t, _ in ladder]), np.array([value for _, value in ladder])
            goal = loss[(other, model, tokens, seed)].val_loss
            if goal is None or len(x) < 2 or not y.min() <= goal <= y.max() or np.any(np.diff(y) >= 0):
                logs.append(math.nan)
                continue
            curve = interpolate.PchipInterpolator(y[::-1], x[::-1])
            logs.append(float(curve(goal)) - math.log(tokens))
        mean, half = float(np.mean(logs)), half_width(np.array(logs))
        found.append(Multiplier(cell.model, cell.n_tokens, *(math.exp(mean + s) for s in (0.0, -half, half))))
    return found


def effect_report(runs: Sequence[Run], reference: str, other: str) -> str:
    """The differences cell by cell with their multiples of compute, then what shifts. Plain text."""
    effect = recipe_effect(runs, reference, other)
    lines = [
        f"{other.upper()} less {reference.upper()}, paired by seed, and the tokens that {reference.upper()} would need",
        f"{'model':>8} {'tokens':>8} {'nats':>8} {'90% interval':>20} {'multiple of compute':>24}",
    ]
    for cell, m in zip(effect.cells, effect.multipliers, strict=True):
        times = f"{m.factor:.2f}x [{m.low:.2f}, {m.high:.2f}]" if math.isfinite(m.factor) else "beyond its ladder"
        lines.append(
            f"{cell.model.name:>8} {short(cell.n_tokens):>8} {cell.mean:>+8.3f} "
            f"{f'[{cell.low:+.3f}, {cell.high:+.3f}]':>20} {times:>24}"
        )
    return "\n".join([*lines, "", effect.summary()])


def plot_effect(effect: Effect, axes: Axes | None = None) -> Axes:
    """Draw the paired differences against D, a line for each size, with their 90% intervals."""
    axes = axes or new_axes()
    models = list(dict.fromkeys(c.model for c in effect.cells))
    for place, (model, colour) in enumerate(zip(models, shades(len(models)), strict=True)):
        own = [c for c in effect.cells if c.model == model]
        beside = 1.03 ** (place - (len(models) - 1) / 2)  # so that the bars do not cover each other
        axes.errorbar(
            [c.n_tokens * beside for c in own], [c.mean for c in own],
            yerr=[[c.mean - c.low for c in own], [c.high - c.mean for c in own]],
            fmt="o-", color=colour, capsize=3, linewidth=1.3, label=model.name,
        )  # fmt: skip
    axes.axhline(0, color=FAINT, linestyle=":", linewidth=1.2)
    axes.set_xscale("log")
    lengths = sorted({c.n_tokens for c in effect.cells})
    axes.set_xticks(lengths, [short(d) for d in lengths])
    axes.minorticks_off()
    axes.set_xlabel(AXIS["D"])
    axes.set_ylabel(f"loss of {effect.other.upper()} less {effect.reference.upper()} (nats)")
    axes.legend(title="model")
    return axes
