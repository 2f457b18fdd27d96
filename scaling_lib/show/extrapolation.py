"""What one law says of the known models: a panel for one law alone, since it has its own text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scaling_lib.fit.published import Model
from scaling_lib.show.plot import FAINT, GREY, NO_PREDICTION, count_axis, look, new_axes
from scaling_lib.show.published import known_models

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scaling_lib.show.sliders.sources import JointLaw

CROWDED = 0.25  # decades: a name goes to the right of its line where another line is that close on its left


def plot_at_models(
    source: JointLaw, axes: Axes | None = None, models: Sequence[Model] | None = None, tokens_per_param: float = 20.0
) -> Axes:
    """Draw a law against N at a fixed number of tokens per parameter, and each model at its own N and D.

    Solid where both N and D lie within those that were fitted, dashed beyond; a band where the law has an interval. A
    model of which the law's verdict refuses to speak gets a line and no mark, and the law ends where its verdict does.
    """
    axes = axes or new_axes()
    (blue, _), (orange, _) = look(0), look(1)
    models = known_models() if models is None else models
    first, last = (
        f(n, d / tokens_per_param) for f, n, d in zip((max, min), source.n_range, source.d_range, strict=True)
    )
    n = np.unique(np.append(np.logspace(np.log10(first) - 0.5, 13, 120), (first, last)))
    n = n[[not source.verdict(x, tokens_per_param * x).refused for x in n]]
    loss = source.predict(n, tokens_per_param * n)
    axes.axvspan(first, last, color="black", alpha=0.06, linewidth=0, label="range of the runs")
    axes.plot(n, np.where((n >= first) & (n <= last), loss, np.nan), color=blue, label="law within it")
    axes.plot(n, np.where(n <= first, loss, np.nan), color=blue, linestyle="--")
    axes.plot(n, np.where(n >= last, loss, np.nan), color=blue, linestyle="--", label="and beyond")
    if source.has_interval:
        band = axes.fill_between(n, *source.interval(n, tokens_per_param * n, 0.9), color=blue, alpha=0.25, linewidth=0)
        band.set_label("90% interval of the mean")
    told = [m for m in models if not source.verdict(m.n_params, m.n_tokens).refused]
    if told:
        x = np.array([m.n_params for m in told])
        y = source.predict(x, np.array([m.n_tokens for m in told]))
        axes.plot(x, y, "D", color=orange, markersize=6, linestyle="none", label="models, at their own D")
    axes.set_xlim(first / 10**0.5, 1e13)
    count_axis(axes)
    if n.size and n[-1] < 9e12:
        axes.annotate(NO_PREDICTION, (n[-1], loss[-1]), (8, 8), textcoords="offset points", va="center",
                      fontsize="small", color=blue)  # fmt: skip
    mark_models(axes, models)
    axes.set_xlabel(f"parameters N, {source.counting}; {tokens_per_param:g} tokens for each")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(f"Losses on {source.text}")
    return axes


def mark_models(axes: Axes, models: Sequence[Model], variable: str = "N") -> None:
    """A dotted line for each model at its N or D, with its name along it."""
    before = 0.0
    for at, name in sorted((m.n_params if variable == "N" else m.n_tokens, m.name) for m in models):
        axes.axvline(at, color=FAINT, linewidth=0.8, linestyle=":")
        crowded = before > 0 and at / before < 10**CROWDED
        axes.text(at, 0.98, f" {name} ", rotation=90, fontsize="small", color=GREY, va="top",
                  ha="left" if crowded else "right", transform=axes.get_xaxis_transform())  # fmt: skip
        before = at
