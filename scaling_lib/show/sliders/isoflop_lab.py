"""The IsoFLOP lab: a law that is known, a grid of sizes that one chooses, and the optimum that its parabolas find."""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np

from scaling_lib.errors import InputError
from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.fit.isoflops import isoflop
from scaling_lib.fit.published import PublishedLaw
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import Canvas

BUDGETS = np.logspace(17, 21, 5)
TARGET = 1e24
POINTS = 15
COLOURS = ("#56B4E9", "#009E73", "#0072B2", "#CC79A7", "#D55E00")


class IsoFlopLab:
    """Sliders for the width and the offset of the sizes tried at each budget, and for noise.

    Parameters
    ----------
    law : a joint law, taken as the truth; its losses are exact but for the noise that one adds.
    """

    def __init__(self, law: FitResult | PublishedLaw) -> None:
        self._law = law
        true = compute_optimal(law, np.append(BUDGETS, TARGET))
        self._true_n = np.asarray(true.n_params)
        self.canvas = Canvas(alt="Parabolas of loss against size for five budgets; optimal size against compute")

        def slider(name: str, tip: str, **options: Any) -> ipywidgets.FloatSlider:
            made = ipywidgets.FloatSlider(
                description=name, tooltip=tip, style={"description_width": "230px"},
                layout=ipywidgets.Layout(width="620px"), **options,
            )  # fmt: skip
            made.observe(lambda _: self.update(), names="value")
            return made

        self.width = slider(
            "width of the grid (a factor each way)", "sizes from the centre over this factor to the centre times it",
            min=1.5, max=32.0, step=0.1, value=4.0, readout_format=".1f",
        )  # fmt: skip
        self.offset = slider(
            "offset of its centre (doublings)", "0: on the true optimum", min=-3.0, max=3.0, step=0.05, value=0.0,
            readout_format="+.2f",
        )  # fmt: skip
        self.drift = slider(
            "drift of the offset (doublings a decade)", "an offset that grows with the budget", min=-1.0, max=1.0,
            step=0.02, value=0.0, readout_format="+.2f",
        )  # fmt: skip
        self.noise = slider(
            "noise of a loss (%)", "standard deviation of a run's loss", min=0.0, max=1.0, step=0.02, value=0.0,
            readout_format=".2f",
        )  # fmt: skip
        self.reset = ipywidgets.Button(description="reset", icon="undo", tooltip="a centred grid of 4x without noise")
        self.reset.on_click(lambda _: self._home())
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [self.width, self.offset, self.drift, self.noise, self.reset, self.canvas.image, self.text]
        )
        with self.canvas.style():
            self._draw()
            self.canvas.freeze()
        self.update()

    def _draw(self) -> None:
        left, right = self.canvas.figure.subplots(1, 2)
        losses = np.asarray(self._law.predict(self._true_n[:5], BUDGETS / (6 * self._true_n[:5])))
        left.set_xscale("log")
        left.set_xlim(self._true_n[0] / 40, self._true_n[4] * 40)
        left.set_ylim(losses.min() * 0.93, losses.max() * 1.25)
        left.set_xlabel("parameters N")
        left.set_ylabel("loss (nats per token)")
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlim(1e16, 3e24)
        right.set_ylim(self._true_n[0] / 10, self._true_n[5] * 10)
        right.set_xlabel("compute C (FLOP)")
        right.set_ylabel("optimal parameters N*")
        right.plot(np.append(BUDGETS, TARGET), self._true_n, color="#888888", linewidth=1.5, label="the truth")
        right.plot([], [], color="#0072B2", linestyle="--", label="from the parabolas")
        right.legend(loc="upper left")
        moving = self.canvas.moving
        self._points = [moving(left.plot([], [], "o", color=c, markersize=3.5)[0]) for c in COLOURS]
        self._curves = [moving(left.plot([], [], color=c, linewidth=1.2)[0]) for c in COLOURS]
        self._minima = moving(left.plot([], [], "k*", markersize=9)[0])
        self._optima = moving(right.plot([], [], "k*", markersize=8)[0])
        self._line = moving(right.plot([], [], color="#0072B2", linestyle="--", linewidth=1.5)[0])

    def _home(self) -> None:
        self.width.value, self.offset.value, self.drift.value, self.noise.value = 4.0, 0.0, 0.0, 0.0

    def update(self) -> None:
        """Draw the runs of the grid, fit the parabolas and the line, and compare with the truth."""
        shift = self.offset.value + self.drift.value * (np.log10(BUDGETS) - 19)
        centre = self._true_n[:5] * 2.0**shift
        n = centre[:, None] * np.geomspace(1 / self.width.value, self.width.value, POINTS)  # (budgets, sizes)
        c = np.broadcast_to(BUDGETS[:, None], n.shape)
        noise = np.random.default_rng(0).standard_normal(n.shape) * self.noise.value / 100
        loss = np.asarray(self._law.predict(n, c / (6 * n))) * np.exp(noise)
        for i, (points, curve) in enumerate(zip(self._points, self._curves, strict=True)):
            points.set_data(n[i], loss[i])
            curve.set_data([], [])
        self._minima.set_data([], [])
        self._optima.set_data([], [])
        self._line.set_data([], [])
        try:
            found = isoflop(n.ravel(), c.ravel(), loss.ravel())
        except InputError as error:
            self.canvas.redraw()
            self.text.value = f"<b>No exponent:</b> {error}"
            return
        for i, curve in enumerate(self._curves):
            at = np.geomspace(n[i, 0], n[i, -1], 40)
            u = np.log(at) - found.centre[i]
            curve.set_data(at, found.coefficients[i] @ np.stack([np.ones_like(u), u, u * u]))
        good = found.used
        self._minima.set_data(found.n_opt[good], found.loss_opt[good])
        self._optima.set_data(found.budgets[good], found.n_opt[good])
        along = np.logspace(16.5, 24.3, 20)
        self._line.set_data(along, found.optimal(along)[0])
        self.canvas.redraw()
        n_far, d_far = found.optimal(TARGET)
        true_n, true_d = self._true_n[5], TARGET / (6 * self._true_n[5])
        slope = np.polyfit(np.log(BUDGETS), np.log(self._true_n[:5]), 1)[0]
        kinds = ", ".join(f"{c:.0e} FLOP: {flag}" for c, flag in zip(BUDGETS, found.flags, strict=True) if flag != "ok")
        self.text.value = (
            f"N* ~ C<sup>{found.a:.3f}</sup>; the truth is C<sup>{slope:.3f}</sup>. At 1e24 FLOP: N* = {short(n_far)} "
            f"({100 * (n_far / true_n - 1):+.1f}%), D* = {short(d_far)} (<b>{100 * (d_far / true_d - 1):+.1f}%</b>). "
            + (f"Minima left out or doubtful: {kinds}." if kinds else "All five minima lie inside their grids.")
        )
