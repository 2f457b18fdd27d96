"""What rounding does to a published law, and what its exponents' interval says about the runs behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from scaling_lib.errors import InputError
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.check import check_level
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.show.published import known_models

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def size_exponent(law: PublishedLaw, level: float = 0.9) -> tuple[float, float, float]:
    """The a of N* ~ C^a, a = beta / (alpha + beta), and its interval by the delta method.

    Returns
    -------
    (a, low, high); low and high are nan where no covariance is published.

    Raises
    ------
    InputError : the law is not of Chinchilla's form; a bad level.
    """
    check_level(level)
    if law.law.name != "chinchilla":
        raise InputError(
            f"law {law.name!r} is not of Chinchilla's form: its optimal N is no power of C given by exponents"
        )
    alpha, beta = law.params["alpha"], law.params["beta"]
    total = alpha + beta
    a = beta / total
    if law.cov is None:
        return a, float("nan"), float("nan")
    slope = np.array([{"alpha": -beta, "beta": alpha}.get(name, 0.0) for name in law.law.param_names]) / total**2
    half = float(ndtri(0.5 + level / 2.0) * np.sqrt(slope @ law.cov @ slope))
    return a, a - half, a + half


def runs_needed(n_runs: int, width: float, wanted: float) -> float:
    """How many runs an interval of width ``wanted`` would take, where ``n_runs`` of the same kind give ``width``.

    The width of an interval falls as one over the square root of the number of runs.
    """
    if not (n_runs > 0 and width > 0 and wanted > 0):
        raise InputError(f"n_runs={n_runs}, width={width:g} and wanted={wanted:g} must be above 0")
    return n_runs * (width / wanted) ** 2


def tokens_per_param(law: PublishedLaw, flops: float | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The optimal D / N at budgets, with its 90% interval (nan where no covariance is published)."""
    budget = np.asarray(flops, dtype=float)
    best = compute_optimal(law, budget)
    ratio = np.asarray(best.tokens_per_param)
    if law.cov is None or best.n_interval is None:
        return ratio, np.full_like(ratio, np.nan), np.full_like(ratio, np.nan)
    # On a line of constant C, D / N = C / (6 N^2) falls with N: the ends change places.
    low_n, high_n = (np.asarray(v) for v in best.n_interval)
    return ratio, budget / (6.0 * high_n**2), budget / (6.0 * low_n**2)


def plot_tokens_per_param(
    laws: Sequence[PublishedLaw], axes: Axes | None = None, *, low: float = 1e20, high: float = 1e26
) -> Axes:
    """Draw the optimal D / N against the budget, a band where a covariance is published, and Chinchilla as trained."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    if axes is None:
        axes = plt.subplots()[1]
    flops = np.geomspace(low, high, 31)
    styles = (("#D55E00", "-"), ("#D55E00", "--"), ("#0072B2", "-"), ("#009E73", "-."))
    for law, (colour, style) in zip(laws, styles, strict=False):
        ratio, down, up = tokens_per_param(law, flops)
        axes.plot(flops, ratio, style, color=colour, label=law.title)
        if law.cov is not None:
            axes.fill_between(flops, down, up, color=colour, alpha=0.2, linewidth=0, label="its 90% interval")
    (model,) = known_models(["Chinchilla"])
    axes.plot(
        [model.flops or np.nan], [model.n_tokens / model.n_params], "k*", markersize=11, label="Chinchilla as trained"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks([5, 10, 20, 50, 100, 200])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("training compute C (FLOP)")
    axes.set_ylabel("optimal tokens per parameter D / N")
    axes.legend(fontsize="small", loc="upper left")
    return axes
