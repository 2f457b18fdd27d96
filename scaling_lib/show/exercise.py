"""The budgeted exercise: predict the largest run of a grid from its cheapest ones, commit an interval, then look.

A budget is the training FLOPs that the machine spent (``counts["flops"]``: blocks, output head and attention), not 6ND.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.backtests import BacktestResult, backtest
from scaling_lib.fit.table import RunTable
from scaling_lib.show.grids import Grid
from scaling_lib.show.ladders import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL = 0.9
FORMS = {"chinchilla": "joint law", "kaplan": "Kaplan's form", "power_c": "power law in C"}


@dataclass(frozen=True)
class Exercise:
    """Cheap runs to look at and one dear run to predict.

    known : the runs below ``budget`` FLOP. target : N (without embeddings), D and C of the hidden run. name : its
    label.
    The hidden loss is not part of what is printed; `reveal` shows it.
    """

    known: RunTable
    budget: float
    target: tuple[float, float, float]
    name: str
    whole: RunTable = field(repr=False)  # the known runs and the hidden one

    @property
    def beyond(self) -> float:
        """How many times the largest known budget the hidden run spent."""
        return self.target[2] / float(np.max(self.known.get("C")))


@dataclass(frozen=True)
class Commitment:
    """A prediction that was written down: an interval at 90%."""

    low: float
    high: float


@dataclass(frozen=True)
class Guess:
    """One way's prediction beside the truth.

    name : who says it. loss, low, high : its central value and 90% interval of a new run; NaN where it gives none.
    refused : why it should not be quoted, or "".
    """

    name: str
    loss: float
    low: float
    high: float
    refused: str = ""


def set_exercise(grid: Grid, budget: float) -> Exercise:
    """Hide all runs of a grid but those below ``budget`` FLOP; the largest is the one to predict.

    Raises
    ------
    InputError : where fewer than three runs are below the budget, or the largest one is.
    """
    t = grid.table
    c = t.get("C")
    low, last = c < budget, int(np.argmax(c))
    if low.sum() < 3 or low[last]:
        raise InputError(
            f"budget={budget:g} leaves {int(low.sum())} of {len(t)} runs to look at; choose one between "
            f"{np.sort(c)[2]:.3g} and {c[last]:.3g} FLOP"
        )
    shown = low.copy()
    shown[last] = True
    assert t.labels is not None
    target = (float(t.get("N")[last]), float(t.get("D")[last]), float(c[last]))
    return Exercise(t.select(low), float(budget), target, str(t.labels[last]), t.select(shown))


def exercise_text(exercise: Exercise) -> str:
    """The known runs and the target, without its loss. Plain text."""
    t = exercise.known
    n, d, c = t.get("N"), t.get("D"), t.get("C")
    lines = [f"{'parameters':>12} {'tokens':>8} {'FLOP':>10} {'loss':>7}"]
    lines += [
        f"{short(n[i]):>12} {short(d[i]):>8} {c[i]:>10.2e} {t.loss[i]:>7.3f}" for i in np.argsort(c, kind="stable")
    ]
    big = exercise.target
    lines.append(
        f"{short(big[0]):>12} {short(big[1]):>8} {big[2]:>10.2e} {'?':>7}  ({exercise.beyond:.0f} times beyond)"
    )
    return "\n".join(lines)


def commit(low: float, high: float) -> Commitment:
    """Write down a 90% interval for the hidden loss.

    Raises
    ------
    InputError : unless 0 < low < high.
    """
    if not (np.isfinite(low) and np.isfinite(high) and 0 < low < high):
        raise InputError(f"commit({low!r}, {high!r}): give two losses in nats, the lower one first")
    return Commitment(float(low), float(high))


def interval_score(low: float, high: float, observed: float, level: float = LEVEL) -> float:
    """Score of an interval, lower is better: its width, plus 2 / (1 - level) times the distance of a miss.

    The expected score is least for the interval that one believes [Gneiting & Raftery 2007, equation 43], so that
    neither a wide hedge nor a narrow boast pays.
    """
    miss = max(low - observed, observed - high, 0.0)
    return float(high - low + 2.0 / (1.0 - level) * miss)


def package_answers(exercise: Exercise) -> tuple[Guess, ...]:
    """What this package says of the hidden run from the known ones, by three forms and by two rulers.

    A form whose verdict refuses the target gives no number.
    """
    found: list[Guess] = []
    straight = None
    for law, name in FORMS.items():
        b = _backtest(exercise, law)
        straight = b
        if b.verdict.refused:
            found.append(Guess(name, np.nan, np.nan, np.nan, str(b.verdict)))
        else:
            found.append(Guess(f"{name} ({b.verdict.level})", float(b.predicted[0]), float(b.low[0]), float(b.high[0])))
    assert straight is not None  # the last form is in C alone: its straight line is in ln C
    truth = _truth(exercise)
    line, near = truth * (1 + float(straight.line_error[0])), truth * (1 + float(straight.nearest_error[0]))
    return (
        *found,
        Guess("straight line in ln C", line, np.nan, np.nan),
        Guess("the largest known run's loss", near, np.nan, np.nan),
    )


def _backtest(exercise: Exercise, law: str) -> BacktestResult:
    hidden = exercise.whole.get("C") >= exercise.budget
    return backtest(exercise.whole, hide=hidden, law=law, level=LEVEL)


def _truth(exercise: Exercise) -> float:
    return float(exercise.whole.loss[exercise.whole.get("C") >= exercise.budget][0])


def reveal(exercise: Exercise, yours: Commitment) -> str:
    """The hidden loss, how the commitment fared, and what the package said. Plain text."""
    truth = _truth(exercise)
    held = yours.low <= truth <= yours.high
    lines = [
        f"{exercise.name}: {truth:.3f} nats per token",
        f"your interval, {yours.low:g} to {yours.high:g}: {'held' if held else 'missed'}, score "
        f"{interval_score(yours.low, yours.high, truth):.2f} (lower is better)",
        "",
        "what the package says of it, from the same runs:",
    ]
    for answer in package_answers(exercise):
        if answer.refused:
            lines += textwrap.wrap(f"{answer.name}: refused. {answer.refused}", 100, initial_indent="  ",
                                   subsequent_indent="    ")  # fmt: skip
            continue
        text = f"  {answer.name}: {answer.loss:.2f} ({100 * (answer.loss / truth - 1):+.0f}%)"
        if np.isfinite(answer.low):
            own = answer.low <= truth <= answer.high
            text += (
                f", {answer.low:.2f} to {answer.high:.2f}: {'held' if own else 'missed'}, score "
                f"{interval_score(answer.low, answer.high, truth):.2f}"
            )
        else:
            text += ", no interval"
        lines.append(text)
    return "\n".join(lines)


def fared(grid: Grid, budgets: Sequence[float], law: str = "chinchilla") -> str:
    """How one form's prediction of the largest run fares as more of the cheap runs may be seen. Plain text.

    A refused prediction is shown as well, in brackets: after the fact one may look.
    """
    lines = [f"{'below, FLOP':>12} {'runs':>5} {'verdict':>17} {'predicted':>10} {'90% interval':>14}  truth"]
    for budget in budgets:
        exercise = set_exercise(grid, budget)
        b = _backtest(exercise, law)
        value, ends = f"{b.predicted[0]:.2f}", f"{b.low[0]:.2f} to {b.high[0]:.2f}"
        if b.verdict.refused:
            value, ends = f"({value})", f"({ends})"
        lines.append(
            f"{budget:>12.0e} {len(exercise.known):>5} {b.verdict.level:>17} {value:>10} {ends:>14}  "
            f"{b.observed[0]:.2f}, {'held' if b.covered[0] else 'missed'}"
        )
    return "\n".join(lines)


def plot_exercise(exercise: Exercise, yours: Commitment | None = None, axes: Axes | None = None) -> Axes:
    """Draw the known losses against C and where the hidden run lies; with a commitment, that and the truth too."""
    import matplotlib.pyplot as plt

    if axes is None:
        axes = plt.subplots()[1]
    t = exercise.known
    n, c = t.get("N"), t.get("C")
    for size, colour, marker in zip(np.unique(n), ("#56B4E9", "#009E73", "#0072B2", "#CC79A7", "#E69F00"), "osD^v",
                                    strict=False):  # fmt: skip
        own = n == size
        axes.plot(c[own], t.loss[own], marker, color=colour, label=f"{short(size)} parameters")
    for x, style, words in ((exercise.budget, "-", "budget"), (exercise.target[2], ":", "to predict")):
        axes.axvline(x, color="#888888", linestyle=style, linewidth=1)
        axes.text(x, 0.99, f"{words} ", ha="right", va="top", fontsize="small", color="#555555",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    if yours is not None:
        middle = (yours.low + yours.high) / 2
        axes.errorbar(exercise.target[2], middle, yerr=(yours.high - yours.low) / 2, fmt="none", color="#D55E00",
                      capsize=6, linewidth=2, label="your interval")  # fmt: skip
        axes.plot(exercise.target[2], _truth(exercise), "k*", markersize=13, label="the truth")
    axes.set_xscale("log")
    axes.set_xlim(c.min() / 2, exercise.target[2] * 2)
    axes.set_ylim(0.0, float(t.loss.max()) * 1.1)
    axes.set_xlabel("training compute C (FLOP), head and attention included")
    axes.set_ylabel("validation loss (nats per token)")
    axes.legend(loc="lower left")
    return axes
