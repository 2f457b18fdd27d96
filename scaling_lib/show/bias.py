"""How far IsoFLOP parabolas miss an optimum that is known: grids of sizes that are wide, or not centred on it.

A parabola in ln N is the loss's shape only near its minimum. The law E + A/N^alpha + B/D^beta rises more steeply on the
side of the larger exponent, so a wide grid pulls the parabola's minimum away, and a grid beside the optimum pulls it
wherever the exponents lie [arXiv 2603.22339]. No noise is involved, and no interval knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scaling_lib.errors import InputError
from scaling_lib.fit import published
from scaling_lib.fit.allocate import Fit, compute_optimal
from scaling_lib.fit.isoflops import IsoFlopResult, isoflop
from scaling_lib.fit.published import PublishedLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
BUDGETS = np.logspace(17, 21, 5)
TARGET = 1e24  # FLOP at which the error is told, as in the study
POINTS = 15
COLOURS = ("#0072B2", "#009E73", "#D55E00")


@dataclass(frozen=True)
class Bias:
    """What the parabolas of one design say of a known law.

    found : the parabolas. a, true_a : exponent of N* ~ C^a that they give, and the law's between the smallest budget
    and the largest. n_error, d_error : relative errors of N* and D* at 1e24 FLOP, 0.01 for one percent.
    """

    found: IsoFlopResult
    a: float
    true_a: float
    n_error: float
    d_error: float


def made_law(alpha: float, beta: float) -> PublishedLaw:
    """Chinchilla's law as printed (E 1.69, A 406.4, B 410.7) with other exponents: the study's laws."""
    if not (0 < alpha < 3 and 0 < beta < 3):
        raise InputError(f"alpha={alpha!r} and beta={beta!r} must lie between 0 and 3")
    printed = published.laws["chinchilla-printed"]
    return replace(
        printed,
        name=f"made-{alpha:g}-{beta:g}",
        title=f"alpha {alpha:g}, beta {beta:g}",
        params=MappingProxyType({**printed.params, "alpha": alpha, "beta": beta}),
        tag="C",
        note="made for a demonstration: no runs were fitted",
    )


def sizes_tried(
    law: Fit,
    width: float,
    offset: float = 0.0,
    drift: float = 0.0,
    *,
    points: int = POINTS,
    budgets: Floats = BUDGETS,
) -> tuple[Floats, Floats, Floats]:
    """N, C and the law's own losses of a design, each (budgets x points,).

    Parameters
    ----------
    width : sizes go from the centre / width to the centre x width, evenly in ln N.
    offset : of the centre from the true optimum, in doublings; 0 is on it.
    drift : doublings that the offset grows by for each decade of C, from 0 at the middle budget.
    """
    if not (width > 1 and np.isfinite(width)):
        raise InputError(f"width={width!r} must be a factor above 1, such as 4 for sizes from N*/4 to 4 N*")
    c = np.asarray(budgets, dtype=float)
    best = np.asarray(compute_optimal(law, c, draws=0, judge=False).n_params)
    middle = np.log10(c).mean()
    centre = best * 2.0 ** (offset + drift * (np.log10(c) - middle))
    n = centre[:, None] * np.geomspace(1 / width, width, points)
    flops = np.broadcast_to(c[:, None], n.shape)
    loss = np.asarray(law.predict(n, flops / (6 * n)))
    return n.ravel(), flops.ravel(), loss.ravel()


def parabola_bias(
    law: Fit, width: float, offset: float = 0.0, drift: float = 0.0, *, points: int = POINTS
) -> Bias:  # fmt: skip
    """Fit parabolas to a law's own losses on a design (see `sizes_tried`) and compare with the law's optimum.

    Raises
    ------
    InputError : where fewer than two budgets have a minimum inside the sizes tried.
    """
    found = isoflop(*sizes_tried(law, width, offset, drift, points=points), window=np.inf)
    ends = np.append(BUDGETS[[0, -1]], TARGET)
    best = np.asarray(compute_optimal(law, ends, draws=0, judge=False).n_params)
    n, _ = found.optimal(TARGET)
    return Bias(
        found=found,
        a=found.a,
        true_a=float(np.log(best[1] / best[0]) / np.log(ends[1] / ends[0])),
        n_error=float(n / best[2] - 1),
        d_error=float(best[2] / n - 1),
    )


def _error(law: Fit, design: Mapping[str, float]) -> float:
    """Error of D* in percent, NaN where the design finds no minimum."""
    try:
        return 100 * parabola_bias(law, design["width"], design["offset"], design["drift"]).d_error
    except InputError:
        return np.nan


def bias_table(laws: Mapping[str, Fit], widths: Sequence[float]) -> str:
    """Error of D* at 1e24 FLOP in percent, a row for each law and a column for each width. Plain text."""
    lines = [f"{'':>24}" + "".join(f"{f'{w:g}x':>10}" for w in widths)]
    for name, law in laws.items():
        lines.append(f"{name:>24}" + "".join(f"{100 * parabola_bias(law, w).d_error:>+9.3f}%" for w in widths))
    return "\n".join(lines)


def plot_one_parabola(
    law: Fit, width: float, offset: float = 0.0, budget: float = 1e19, axes: Axes | None = None
) -> Axes:
    """Draw one budget: the law's losses on the sizes tried, the parabola through them, and both minima."""
    import matplotlib.pyplot as plt

    from scaling_lib.show.plot import count_axis

    if axes is None:
        axes = plt.subplots()[1]
    pair = np.array([budget / 2, budget])  # two budgets are the fewest that `isoflop` takes; the second is drawn
    n, c, loss = sizes_tried(law, width, offset, budgets=pair)
    found = isoflop(n, c, loss, use_edges=True, window=np.inf)
    own = c == budget
    fine = np.geomspace(n[own].min() / 1.3, n[own].max() * 1.3, 200)
    truth = np.asarray(law.predict(fine, budget / (6 * fine)))
    u = np.log(fine) - found.centre[1]
    axes.plot(fine, truth, color="#666666", linewidth=1.4, label="the law")
    axes.plot(fine, found.coefficients[1] @ np.stack([np.ones_like(u), u, u * u]), "--", color="#D55E00",
              linewidth=1.6, label="parabola")  # fmt: skip
    axes.plot(n[own], loss[own], "o", color="#0072B2", markersize=5, label="sizes tried")
    best = compute_optimal(law, budget, draws=0, judge=False)
    axes.plot(best.n_params, best.loss, "*", color="#666666", markersize=13, label="true optimum")
    axes.plot(found.n_opt[1], found.loss_opt[1], "X", color="#D55E00", markersize=9, label="parabola's")
    count_axis(axes)
    axes.set_xlabel("parameters N")
    axes.set_ylabel("loss (nats per token)")
    axes.legend(fontsize="small")
    return axes


def plot_bias(
    laws: Mapping[str, Fit], values: Sequence[float], vary: str = "width", axes: Axes | None = None, width: float = 4.0
) -> Axes:  # fmt: skip
    """Draw the error of D* at 1e24 FLOP against the ``"width"``, ``"offset"`` or ``"drift"`` of the sizes tried.

    values : of what varies; the others stay at 0, and the width at ``width``.
    """
    import matplotlib.pyplot as plt

    words = {
        "width": "width, a factor each way",
        "offset": "offset of the centre (doublings)",
        "drift": "drift (doublings a decade of C)",
    }
    if vary not in words:
        raise InputError(f"vary={vary!r} is unknown: choose one of {', '.join(words)}")
    if axes is None:
        axes = plt.subplots()[1]
    for (name, law), colour, marker in zip(laws.items(), COLOURS, "osD", strict=False):
        errors = [_error(law, {"width": width, "offset": 0.0, "drift": 0.0, vary: v}) for v in values]
        axes.plot(values, errors, marker + "-", color=colour, markersize=5, label=name)
    axes.axhline(0, color="#888888", linewidth=1)
    if vary == "width":
        axes.set_xscale("log")
        axes.set_xticks(list(values), [f"{v:g}x" for v in values])
        axes.minorticks_off()
    axes.set_xlabel(words[vary])
    axes.set_ylabel("error of D* at 1e24 FLOP (%)")
    axes.legend(fontsize="small")
    return axes
