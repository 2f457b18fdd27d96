"""Which peak learning rate suits which model: a scan of rates read, beside what the width rule loses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaling_lib.config import ModelConfig
from scaling_lib.errors import InputError
from scaling_lib.runs import Run, check_poolable
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import LOSS, look, plot_curves
from scaling_lib.words import aligned, counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_RATES = 3


class Scan(NamedTuple):
    """One model at one number of tokens, trained at several peak rates.

    rates, losses : float (n_rates,), rates rising; nats per token, means over the seeds; infinite where a run
        diverged. rule : the rate of the width rule. seeds : seeds a rate.
    """

    recipe: str
    model: ModelConfig
    n_tokens: int
    rates: np.ndarray
    losses: np.ndarray
    rule: float
    seeds: int

    @property
    def best(self) -> int:
        """Index of the rate with the lowest loss."""
        return int(self.losses.argmin())

    @property
    def interior(self) -> bool:
        """Whether the best rate lies between others. At an edge the optimum was not found."""
        return 0 < self.best < len(self.rates) - 1

    @property
    def optimum(self) -> float:
        """The lowest point of the parabola in ln(rate) through the best rate and its neighbours; NaN at an edge."""
        near = slice(self.best - 1, self.best + 2)
        if not self.interior:
            return math.nan
        if not np.isfinite(self.losses[near]).all():
            return float(self.rates[self.best])
        a, b, _ = np.polyfit(np.log(self.rates[near]), self.losses[near], 2)
        return float(np.exp(-b / (2 * a)))

    @property
    def rule_excess(self) -> float:
        """Loss at the rule's rate over the lowest loss of the scan, less 1; between two rates by interpolation."""
        if not np.isfinite(self.losses).any():
            return math.nan
        at_rule = np.interp(np.log(self.rule), np.log(self.rates), self.losses, left=math.nan, right=math.nan)
        return float(at_rule / self.losses[self.best] - 1)


def is_rate_study(runs: Sequence[Run]) -> bool:
    """Whether some model was trained for one number of steps at three or more peak rates."""
    return bool(_cells(runs))


def _cells(runs: Sequence[Run]) -> dict[tuple[str, ModelConfig, int], dict[float, list[Run]]]:
    found: dict[tuple[str, ModelConfig, int], dict[float, list[Run]]] = {}
    for run in runs:
        key = (run.config.train.recipe, run.config.model, run.config.n_tokens)
        found.setdefault(key, {}).setdefault(run.config.train.lr, []).append(run)
    return {key: rates for key, rates in found.items() if len(rates) >= LEAST_RATES}


def rate_scans(runs: Sequence[Run], rule: Callable[[int], float]) -> list[Scan]:
    """The scans among the records, by width and then by tokens. ``rule``: d_model -> the peak rate to judge.

    Raises InputError when runs read different texts, or no model was trained at three rates.
    """
    check_poolable(runs)
    scans = []
    for (recipe, model, n_tokens), by_rate in _cells(runs).items():
        rates = sorted(by_rate)
        losses = [
            np.mean([r.val_loss if r.finished and r.val_loss is not None else math.inf for r in by_rate[rate]])
            for rate in rates
        ]
        seeds = min(len(own) for own in by_rate.values())
        scans.append(Scan(recipe, model, n_tokens, np.array(rates), np.array(losses), rule(model.d_model), seeds))
    if not scans:
        raise InputError("no model among the records was trained at three or more peak rates; see --mode lr-study")
    return sorted(scans, key=lambda s: (s.recipe, s.model.d_model, s.n_tokens))


def width_power(scans: Sequence[Scan]) -> tuple[float, float]:
    """How the optimum falls with width: p of ``optimum ~ d_model ** -p``, and its standard error.

    By least squares in logarithms with one level for each number of tokens. The error is NaN without degrees
    of freedom; both are NaN for fewer than two widths. Scans whose optimum is at an edge are left out.
    """
    good = [s for s in scans if s.interior]
    tokens = sorted({s.n_tokens for s in good})
    if len({s.model.d_model for s in good}) < 2:
        return math.nan, math.nan
    design = np.array([[*(float(s.n_tokens == t) for t in tokens), math.log(s.model.d_model)] for s in good])
    target = np.log([s.optimum for s in good])
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    dof = len(good) - design.shape[1]
    if dof < 1:
        return -float(solution[-1]), math.nan
    variance = np.sum((target - design @ solution) ** 2) / dof
    return -float(solution[-1]), float(np.sqrt(variance * np.linalg.inv(design.T @ design)[-1, -1]))


def rate_numbers(runs: Sequence[Run], rule: Callable[[int], float]) -> dict[str, Any]:
    """The study as plain data, not rounded."""
    scans = rate_scans(runs, rule)
    power, error = width_power(scans)
    return {
        "scans": len(scans),
        "interior": sum(s.interior for s in scans),
        "largest_excess_of_the_rule": float(np.max([s.rule_excess for s in scans])),
        "width_power": power,
        "width_power_stderr": error,
    }


def rate_report(runs: Sequence[Run], rule: Callable[[int], float]) -> str:
    """The study in words: loss by rate, where the optimum lies, and what the width rule loses. Plain text."""
    scans, found = rate_scans(runs, rule), rate_numbers(runs, rule)
    # Rates were rounded when they were set: x 3.986 is x 4, unless two of a scan would then be one.
    digits = 2 if all(len({f"{r / s.rule:.2g}" for r in s.rates}) == len(s.rates) for s in scans) else 6
    factors = sorted({float(f"{rate / s.rule:.{digits}g}") for s in scans for rate in s.rates})
    rows = [("recipe", "model", "tokens", "rule", *(f"x {f:g}" for f in factors), "optimum", "rule loses")]
    for s in scans:
        losses = {float(f"{r / s.rule:.{digits}g}"): loss for r, loss in zip(s.rates, s.losses, strict=True)}
        cells = [f"{losses[f]:.3f}".replace("inf", "diverged") if f in losses else "-" for f in factors]
        optimum = f"{s.optimum:.2g}" if s.interior else "at edge"
        about = (s.recipe, s.model.name, short(s.n_tokens), f"{s.rule:.3g}")
        rows.append((*about, *cells, optimum, f"{100 * s.rule_excess:.2f}%"))
    power, error = found["width_power"], found["width_power_stderr"]
    excess = 100 * found["largest_excess_of_the_rule"]
    fall = f"The optimum goes as d_model^{-power:.2f} (standard error {error:.2f}); the rule as d_model^-1. "
    lost = f"The rule's loss is at most {excess:.2f}% above the best of its scan."
    return "\n".join([
        "Learning-rate study: validation loss in nats per token, by peak rate as a multiple of the width rule's",
        aligned(rows),
        "",
        f"{fall if math.isfinite(power) else ''}{counted(min(s.seeds for s in scans), 'seed')} a rate.",
        f"At every size the optimum lies between the rates tried: {'yes' if all(s.interior for s in scans) else 'NO'}. "
        + (lost if math.isfinite(excess) else "What the rule loses is unknown where its rate was not tried."),
    ])  # fmt: skip


def plot_rates(runs: Sequence[Run], rule: Callable[[int], float], figure: Figure | None = None) -> Figure:
    """Draw loss against peak rate, a panel for each number of tokens, a line for each width; the rule dotted."""
    import matplotlib.pyplot as plt

    figure = figure or plt.figure()
    scans = rate_scans(runs, rule)
    lengths = sorted({s.n_tokens for s in scans})
    panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    for axes, length in zip(panels, lengths, strict=True):
        own = [s for s in scans if s.n_tokens == length]
        colours = [look(i)[0] for i in range(len(own))]
        curves = {s.model.name: np.column_stack([s.rates, s.losses]) for s in own}
        plot_curves(curves, axes, colours=colours, marker="o", title="layers x width")
        for s, colour in zip(own, colours, strict=True):
            axes.axvline(s.rule, color=colour, linestyle=":", linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlabel("peak learning rate (dotted: the width rule)")
        axes.set_title(f"{short(length)} tokens")
    panels[0].set_ylabel(LOSS)
    return figure
