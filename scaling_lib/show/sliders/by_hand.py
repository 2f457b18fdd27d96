"""Fit a law by hand: move its three numbers, and watch the residuals and what the fit minimises."""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np
from numpy.typing import ArrayLike

from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.result import FitResult
from scaling_lib.show.plot import AXIS
from scaling_lib.show.sliders.canvas import Canvas
from scaling_lib.show.sliders.quiet import Quiet

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"


class LawByHand(Quiet):
    """Sliders for floor, amplitude and exponent of ``E + A / x^alpha`` over measured losses.

    Parameters
    ----------
    x, loss : (n,) parameters or tokens, and final losses in nats per token; four or more.
    variable : ``"N"`` or ``"D"``.

    Raises
    ------
    InputError
        For data that no law can be fitted to.
    """

    def __init__(self, x: ArrayLike, loss: ArrayLike, variable: str = "N") -> None:
        self.best: FitResult = fit_power_law(x, loss, variable=variable)
        self._x, self._loss = self.best.data[variable], self.best.data["loss"]
        self.canvas = Canvas(alt="The losses with a law set by hand, and the residuals of that law")
        top, exponent = float(self._loss.min()), "alpha" if variable == "N" else "beta"

        def slider(kind: Any, name: str, tip: str, **options: Any) -> Any:
            made = kind(
                description=name, tooltip=tip, style={"description_width": "210px"},
                layout=ipywidgets.Layout(width="620px"), **options,
            )  # fmt: skip
            made.observe(self._moved, names="value")
            return made

        e, a, power = self.best.values
        # The loss above the floor at the middle of the data: unlike A it can be moved alone, whatever the exponent.
        self._middle = float(np.exp(np.log(self._x).mean()))
        self.floor = slider(
            ipywidgets.FloatSlider, "floor E (nats per token)", "the loss that no size would go below",
            min=0.0, max=round(top, 3), step=0.005, value=0.5 * top, readout_format=".3f",
        )  # fmt: skip
        self.height = slider(
            ipywidgets.FloatLogSlider, "height at the middle (nats)", "loss above the floor at the middle of the data",
            min=-2.5, max=1.0, step=0.005, value=0.5 * top, readout_format=".3f",
        )  # fmt: skip
        self.exponent = slider(
            ipywidgets.FloatSlider, f"exponent {exponent} (no unit)", "how fast the loss falls",
            min=0.01, max=1.5, step=0.005, value=0.1, readout_format=".3f",
        )  # fmt: skip
        self.show_best = ipywidgets.Button(description="show the best fit", tooltip="moves the sliders there")
        self.show_best.on_click(lambda _: self._set(e, a / self._middle**power, power))
        self.reset = ipywidgets.Button(description="reset", icon="undo", tooltip="back to the beginning")
        start = (0.5 * top, float(np.median(self._loss)) - 0.5 * top, 0.1)
        self.reset.on_click(lambda _: self._set(*start))
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [
                self.floor, self.height, self.exponent, ipywidgets.HBox([self.show_best, self.reset]),
                self.canvas.image, self.text,
            ]
        )  # fmt: skip
        with self.canvas.style():
            self._draw(variable)
            self.canvas.freeze()
        self._set(*start)

    def _draw(self, variable: str) -> None:
        left, right = self.canvas.figure.subplots(1, 2, width_ratios=[3, 2])
        span = float(np.ptp(self._loss))
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel(AXIS[variable])
            axes.set_xlim(self._x.min() / 1.5, self._x.max() * 1.5)
        left.set_ylim(self._loss.min() - 0.5 * span, self._loss.max() + 0.5 * span)
        left.set_ylabel("validation loss (nats per token)")
        left.plot(self._x, self._loss, "o", color="#000000", markersize=5)
        right.set_ylim(-15, 15)
        right.set_ylabel("residual (% of the loss)")
        right.axhline(0, color=GREY, linewidth=1)
        self._grid = np.geomspace(self._x.min() / 1.5, self._x.max() * 1.5, 100)
        self._curve = self.canvas.moving(left.plot([], [], color=BLUE, linewidth=2)[0])
        self._floor_line = self.canvas.moving(left.plot([], [], color=GREY, linewidth=1.2, linestyle="--")[0])
        self._residuals = self.canvas.moving(right.plot([], [], "o", color=ORANGE, markersize=5)[0])

    def _set(self, floor: float, height: float, exponent: float) -> None:
        with self.quietly():
            self.floor.value, self.height.value, self.exponent.value = floor, height, exponent
        self.update()

    def _moved(self, _: Any) -> None:
        if not self.busy:
            self.update()

    @property
    def objective(self) -> float:
        """Half the sum of the squared residuals of log loss at the sliders: what the fit minimises."""
        return float(0.5 * np.sum(np.log(self._loss / self._law(self._x)) ** 2))

    def _law(self, x: np.ndarray) -> np.ndarray:
        return self.floor.value + self.height.value * (self._middle / x) ** self.exponent.value

    def update(self) -> None:
        """Move curve and residuals to the sliders."""
        self._curve.set_data(self._grid, self._law(self._grid))
        self._floor_line.set_data(self._grid[[0, -1]], [self.floor.value] * 2)
        percent = 100 * np.log(self._loss / self._law(self._x))
        self._residuals.set_data(self._x, np.clip(percent, -14.8, 14.8))
        self.canvas.redraw()
        best, ratio = self.best.objective, self.objective / max(self.best.objective, 1e-300)
        amplitude = self.height.value * self._middle**self.exponent.value
        said = "this is the best fit" if ratio < 1.02 else f"{ratio:,.3g} times the best fit's {best:.3g}"
        self.text.value = (
            f"L = {self.floor.value:.3f} + {amplitude:.3g} / x<sup>{self.exponent.value:.3f}</sup>. Half the sum of "
            f"squared log residuals: <b>{self.objective:.3g}</b>, {said}. Typical residual "
            f"{np.sqrt(np.mean(percent**2)):.2f}%."
        )
