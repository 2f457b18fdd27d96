"""The IsoFLOP lab: a law that is known, a grid of sizes that one chooses, and the optimum that its parabolas find."""

from __future__ import annotations

import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.isoflops import IsoFlopResult, isoflop
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import count_axis
from scaling_lib.show.sliders.canvas import BLUE, GREY, ORANGE, Canvas, percent_axis
from scaling_lib.show.sliders.panel import LogSlider, Panel, Slider, button, indented, scientific, slider

BUDGETS = np.logspace(17, 21, 5)
TARGET = 1e24
POINTS = 15
COLOURS = ("#56B4E9", "#009E73", BLUE, "#CC79A7", ORANGE)
WORDS = {  # what `isoflop` flags
    "edge": "the lowest loss is that of the smallest or the largest size tried",
    "outside": "the parabola's minimum lies beyond the sizes tried",
    "flat": "no curvature beyond the noise",
    "too few sizes": "fewer than three sizes",
}
MOST = 80.0  # per cent; larger errors are drawn at this edge


class IsoFlopLab(Panel):
    """Sliders for the width and the offset of the sizes tried at each budget, and for noise.

    Parameters
    ----------
    law : a joint law, taken as the truth; its losses are exact but for the noise that one adds.

    Attributes
    ----------
    found : what the parabolas find; None where they give no exponent.
    error : error of the D* that they extrapolate to 1e24 FLOPs, in per cent; NaN where there is none.
    """

    def __init__(self, law: FitResult | PublishedLaw) -> None:
        self._law = law
        self.found: IsoFlopResult | None = None
        self._seed = 0
        self.error = float("nan")
        self._true_n = np.asarray(compute_optimal(law, np.append(BUDGETS, TARGET)).n_params)
        self._true_a = float(np.polyfit(np.log(BUDGETS), np.log(self._true_n[:5]), 1)[0])
        alt = "Parabolas of loss against size for five budgets; the error of the optimum they find"
        self.canvas = Canvas(alt=alt, shares=(1, 1))
        self.width = slider(
            LogSlider, "width of the grid (a factor)", "sizes from the centre over this factor to the centre times it",
            self.moved, "{:.1f}".format, base=2, min=0.5, max=5.0, step=0.1, value=4.0,
        )  # fmt: skip
        self.offset, self.drift, self.noise = (
            slider(Slider, name, tip, self.moved, say.format, min=low, max=high, step=step, value=0.0)
            for name, tip, say, low, high, step in (
                ("offset of its centre (doublings)", "0: on the true optimum", "{:+.2f}", -3.0, 3.0, 0.05),
                (
                    "drift (doublings per decade of C)",
                    "an offset that grows with the budget",
                    "{:+.2f}",
                    -1.0,
                    1.0,
                    0.02,
                ),
                ("noise of a loss (%)", "standard deviation of a run's loss", "{:.2f}%", 0.0, 1.0, 0.02),
            )
        )
        self.redraw = button("new draw", "other noise of the same size", self._draw_again, icon="refresh")
        self.reset = button("reset", "a centred grid of 4x without noise", self.home, icon="undo")
        self.assemble(self.width, self.offset, self.drift, self.noise, indented(self.redraw, self.reset))
        self.update()

    def draw(self) -> None:
        left, right = (part.subplots() for part in self.canvas.parts)
        losses = np.asarray(self._law.predict(self._true_n[:5], BUDGETS / (6 * self._true_n[:5])))
        left.set_xscale("log")
        left.set_xlim(self._true_n[0] / 60, self._true_n[4] * 60)
        count_axis(left)
        left.set(ylim=(losses.min() * 0.93, losses.max() * 1.35), xlabel="parameters N", ylabel="loss (nats per token)")
        moving = self.canvas.moving
        self._points = [moving(left.plot([], [], "o", color=c, markersize=3.5)[0]) for c in COLOURS]
        self._curves = [moving(left.plot([], [], color=c, linewidth=1.2)[0]) for c in COLOURS]
        self._minima = moving(left.plot([], [], "k*", markersize=9)[0])
        for colour, c in zip(COLOURS, BUDGETS, strict=True):
            left.plot([], [], "o-", color=colour, markersize=3.5, label=f"{c:.0e} FLOPs".replace("e+", "e"))
        left.plot([], [], "k*", markersize=9, label="minimum")
        left.legend(loc="upper right", fontsize=8)

        right.set(xscale="log", xlim=(1e16, 1e25), xlabel="compute C (FLOPs)")
        percent_axis(right, MOST)
        right.set_ylabel("error of the optimal tokens D* (%)")
        right.axhline(0, color=GREY, linewidth=1.5, label="the truth")
        right.axvspan(BUDGETS[0], BUDGETS[-1], color="#000000", alpha=0.06, linewidth=0, label="budgets tried")
        right.plot([], [], "k*", markersize=8, label="minima of the parabolas")
        right.plot([], [], color=BLUE, linestyle="--", label="the line through them")
        right.legend(loc="upper left", fontsize=8)
        self._line = moving(right.plot([], [], color=BLUE, linestyle="--", linewidth=1.5)[0])
        self._optima = moving(right.plot([], [], "k*", markersize=8)[0])
        self._far = moving(right.plot([], [], "D", color=ORANGE, markersize=8)[0])

    # ---- moving

    def home(self) -> None:
        """A centred grid, four times each way, without noise."""
        self._seed = 0
        self.set(width=4.0, offset=0.0, drift=0.0, noise=0.0)

    def _draw_again(self) -> None:
        self._seed += 1
        self.update()

    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """N, C and loss of the runs, each (budgets, sizes)."""
        shift = self.offset.value + self.drift.value * (np.log10(BUDGETS) - 19)
        centre = self._true_n[:5] * 2.0**shift
        n = centre[:, None] * np.geomspace(1 / self.width.value, self.width.value, POINTS)
        c = np.broadcast_to(BUDGETS[:, None], n.shape)
        noise = np.random.default_rng(self._seed).standard_normal(n.shape) * self.noise.value / 100
        return n, c, np.asarray(self._law.predict(n, c / (6 * n))) * np.exp(noise)

    def update(self) -> None:
        """Draw the runs of the grid, fit the parabolas and the line, and compare with the truth."""
        n, c, loss = self._grid()
        for i, points in enumerate(self._points):
            points.set_data(n[i], loss[i])
        for line in (*self._curves, self._minima, self._optima, self._line, self._far):
            line.set_data([], [])
        self.found, self.error = None, float("nan")
        try:
            self.found = isoflop(n.ravel(), c.ravel(), loss.ravel(), window=np.inf)
        except InputError as error:
            self.say(f"<b>No exponent:</b> {error}")
        else:
            self._draw_found(self.found, n)
        self.canvas.redraw()

    def _draw_found(self, found: IsoFlopResult, n: np.ndarray) -> None:
        """Move what the parabolas found, and say it in words."""
        for i, curve in enumerate(self._curves):
            at = np.geomspace(n[i, 0], n[i, -1], 40)
            u = np.log(at) - found.centre[i]
            curve.set_data(at, found.coefficients[i] @ np.stack([np.ones_like(u), u, u * u]))
        good = found.used
        self._minima.set_data(found.n_opt[good], found.loss_opt[good])
        self._optima.set_data(found.budgets[good], _per_cent(self._true_n[:5][good] / found.n_opt[good]))
        along = np.logspace(17, 24, 30)
        true = np.interp(np.log(along), np.log(np.append(BUDGETS, TARGET)), np.log(self._true_n))
        self._line.set_data(along, _per_cent(np.exp(true) / found.optimal(along)[0]))
        n_far, d_far = found.optimal(TARGET)
        ratio = d_far / (TARGET / (6 * self._true_n[5]))
        self.error = float(100 * (ratio - 1))
        self._far.set_data([TARGET], _per_cent(np.array([ratio])))
        doubtful = "; ".join(
            f"{scientific(c)} FLOPs: {WORDS[f]}" for c, f in zip(BUDGETS, found.flags, strict=True) if f != "ok"
        )
        self.say(
            f"The parabolas find N* ~ C<sup>{found.a:.3f}</sup>; the truth is C<sup>{self._true_a:.3f}</sup>.",
            f"At 1e24 FLOPs they say N* = {short(n_far)} ({100 * (n_far / self._true_n[5] - 1):+.1f}%) and "
            f"D* = {short(d_far)} (<b>{self.error:+.1f}%</b>).",
            f"Minima left out or doubtful. {doubtful}." if doubtful else "All five minima lie inside their grids.",
        )


def _per_cent(ratio: np.ndarray) -> np.ndarray:
    return np.clip(100 * (ratio - 1), -MOST, MOST)
