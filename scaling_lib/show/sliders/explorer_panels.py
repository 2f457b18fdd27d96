"""The two panels of the explorer: a law along N at the chosen D, and along D at the chosen N."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from scaling_lib.fit.published import Model
from scaling_lib.fit.result import FitResult
from scaling_lib.show.extrapolation import mark_models
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import NO_PREDICTION, count_axis, last_believed
from scaling_lib.show.sliders.canvas import BLUE, GREY, ORANGE, Canvas, band, set_band
from scaling_lib.show.sliders.sources import JointLaw

POINTS = 70
HALVINGS = 5  # of the decades between the runs and the end of the axis: finer than the eye asks for
Ends = tuple[float, float]


class Law1D:
    """One panel: a law along N (or along D) with the other held; ``move`` brings it to new values.

    ends : log10 of the limits of N and of D.
    """

    def __init__(
        self, canvas: Canvas, axes: Axes, source: JointLaw, ends: tuple[Ends, Ends], models: Sequence[Model],
        *, along_n: bool,
    ) -> None:  # fmt: skip
        self._source, self._along_n, self._ends = source, along_n, ends[0 if along_n else 1]
        self._range = source.n_range if along_n else source.d_range
        self._known: tuple[float, Ends] = (0.0, (1.0, 0.0))
        self._own, self._other = source.n_params, source.n_tokens
        if not along_n:
            self._own, self._other = self._other, self._own
        axes.clear()
        axes.set(xscale="log", xlim=10.0 ** np.array(self._ends), ylim=_loss_limits(source, ends))
        count_axis(axes)
        axes.set_xlabel(f"parameters N, {source.counting}" if along_n else "training tokens D")
        axes.set_ylabel("loss (nats per token)")
        axes.set_title(f"Losses on {source.text}", fontsize=9.5)
        axes.axvspan(*self._range, color="#000000", alpha=0.06, linewidth=0)
        axes.plot(self._own, source.loss, "o", color=GREY, markersize=3, alpha=0.35)
        mark_models(axes, models, "N" if along_n else "D")
        moving, start = canvas.moving, 10 ** self._ends[0]
        self.target = moving(axes.axvline(start, color=ORANGE, linewidth=1.2))
        self.band = moving(band(axes, BLUE))
        self.near = moving(axes.plot([], [], "o", color="#000000", markersize=4.5)[0])
        self.inside = moving(axes.plot([], [], color=BLUE, linewidth=1.8)[0])
        self.outside = moving(axes.plot([], [], color=BLUE, linewidth=1.8, linestyle="--")[0])
        self.here = moving(axes.plot([], [], "D", color=ORANGE, markersize=8)[0])
        self.held = moving(axes.text(0.02, 0.03, "", transform=axes.transAxes, fontsize=9.5, weight="bold"))
        behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        self.refused = moving(
            axes.text(start, 0.3, "", transform=axes.get_xaxis_transform(), fontsize=9, color=ORANGE, rotation=90,
                      ha="right", va="center", bbox=behind)
        )  # fmt: skip
        _legend(axes, source)

    def move(self, n: float, d: float, level: float, *, refused: bool) -> None:
        """Draw the law through (N, D) and mark that point, unless it is refused; so are parts of the law left out."""
        s = self._source
        here, held = (n, d) if self._along_n else (d, n)
        self.target.set_xdata([here, here])
        self.held.set_text(f"at D = {short(d)} tokens" if self._along_n else f"at N = {short(n)} parameters")
        near = np.abs(np.log(self._other / held)) < np.log(1.3)
        self.near.set_data(self._own[near], s.loss[near])
        x = np.unique(np.concatenate([np.logspace(*self._ends, POINTS), self._range]))  # the parts share their ends
        if self._known[0] != held:  # along N it changes with D alone, and the other way round
            self._known = (held, self._believed(held))
        low, high = self._known[1]
        x = x[(x >= low) & (x <= high)]
        at = self._pair(x, np.full_like(x, held))
        y = s.predict(*at) if len(x) else x
        edges = s.interval(*at, level) if len(x) else (x, x)
        set_band(self.band, x, edges[0], np.minimum(edges[1], 50.0))
        first, last = self._range
        self.inside.set_data(x, np.where((x >= first) & (x <= last), y, np.nan))
        self.outside.set_data(x, np.where((x <= first) | (x >= last), y, np.nan))
        self.here.set_data([] if refused else [here], [] if refused else [float(s.law.predict(n, d))])
        self.refused.set_text(f"{NO_PREDICTION} " if refused else "")
        self.refused.set_x(here)

    def _pair(self, own: Any, other: Any) -> tuple[Any, Any]:
        return (own, other) if self._along_n else (other, own)

    def _believed(self, held: float) -> Ends:
        """Where the law's verdict allows a prediction; (1, 0), which is nowhere, where the held value is refused."""

        def refused(u: float) -> bool:
            return self._source.verdict(*self._pair(10.0**u, held)).refused

        least, most = np.log10(self._range)
        # Downwards from the smallest run, or from the largest where the smallest is refused.
        low = last_believed(refused, most if refused(least) else least, self._ends[0], HALVINGS)
        high = last_believed(refused, most, self._ends[1], HALVINGS)
        return (1.0, 0.0) if low is None or high is None else (10.0**low, 10.0**high)


def _loss_limits(source: JointLaw, ends: tuple[Ends, Ends]) -> tuple[float, float]:
    """The law at both corners of the sliders, so that the marker stays in sight; a fit ends long before the far one."""
    top = float(source.law.predict(10.0 ** ends[0][0], 10.0 ** ends[1][0]))
    if isinstance(source.law, FitResult):
        return 0.5 * float(source.loss.min()), 1.03 * max(top, float(source.loss.max()))
    return 0.9 * float(source.law.predict(10.0 ** ends[0][1], 10.0 ** ends[1][1])), 1.03 * top


def _legend(axes: Axes, source: JointLaw) -> None:
    """A legend below the panel."""
    axes.fill_between([], [], [], color="#000000", alpha=0.08, linewidth=0, label="range of the runs")
    axes.plot([], [], color=BLUE, label="law within it")
    axes.plot([], [], color=BLUE, linestyle="--", label="and beyond")
    if source.has_interval:
        axes.fill_between([], [], [], color=BLUE, alpha=0.25, linewidth=0, label="interval of the mean")
    if len(source.loss):
        axes.plot([], [], "o", color="#000000", markersize=4.5, label="runs here")
        axes.plot([], [], "o", color=GREY, markersize=3, alpha=0.5, label="other runs")
    figure = axes.get_figure(root=False)
    assert figure is not None
    for old in figure.legends:
        old.remove()
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=8, columnspacing=1.5)
