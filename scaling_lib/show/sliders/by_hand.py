"""Fit a law by hand: move its three numbers, and watch the residuals and what the fit minimises."""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.laws import EXPONENT
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import count_axis
from scaling_lib.show.sliders.canvas import Canvas
from scaling_lib.show.sliders.panel import LogSlider, Panel, Slider, button, indented, paragraph, row, slider, stack

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
FAR = 30.0  # how many times beyond the largest x the law is drawn and asked
MOST = 60.0  # per cent; larger residuals are drawn at this edge
TICKS = (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)


class LawByHand(Panel):
    """Sliders for floor, height and exponent of ``E + A / x^alpha`` over measured losses.

    Parameters
    ----------
    x, loss : (n,) parameters or tokens, and final losses in nats per token; four or more.
    variable : ``"N"`` or ``"D"``.
    name : what x counts, for the axis.

    Raises
    ------
    InputError
        For data that no law can be fitted to.
    """

    def __init__(self, x: ArrayLike, loss: ArrayLike, variable: str = "N", name: str = "") -> None:
        self.best: FitResult = fit_power_law(x, loss, variable=variable)
        self._x, self._loss = self.best.data[variable], self.best.data["loss"]
        self._variable = variable
        self.canvas = Canvas(alt="The losses with a law set by hand, and the residuals of that law", shares=(3, 2))
        least, greek = float(self._loss.min()), "alpha" if variable == "N" else "beta"
        # The loss above the floor at the middle of the data: unlike A it can be moved alone, whatever the exponent.
        self._middle = float(np.exp(np.log(self._x).mean()))
        e, a, power = self.best.values
        height = np.log10(max(a / self._middle**power, 1e-12))
        self.floor = slider(
            Slider, "floor E (nats per token)", "the loss that no size would go below", self._moved,
            min=0.0, max=max(0.99 * least, e), step=0.005,
        )  # fmt: skip
        self.height = slider(
            LogSlider, "height above it (nats per token)",
            "loss above the floor at the middle of the data", self._moved,
            min=min(-2.5, height - 0.5), max=max(1.0, height + 0.5), step=0.005,
        )  # fmt: skip
        self.exponent = slider(
            Slider, f"exponent {greek} (no unit)", "how fast the loss falls", self._moved,
            min=0.001, max=EXPONENT[1], step=0.005,
        )  # fmt: skip
        self.show_best = button("show the best fit", "moves all three there", self._go_to_best)
        self.fit_rest = button(
            "best for this floor", "keeps the floor, and moves the other two to what fits best with it", self._fit_rest
        )
        self.reset = button("reset", "back to the beginning", self.home, icon="undo")
        self.text = ipywidgets.HTML()
        three = "{:.3f}".format
        self.widget = stack(
            row(self.floor, three), row(self.height, three), row(self.exponent, three),
            indented(self.show_best, self.fit_rest, self.reset), self.canvas.widget, self.text,
        )  # fmt: skip
        with self.canvas.style():
            self._draw(name or ("parameters N" if variable == "N" else "training tokens D"))
            self.canvas.freeze()
        self.home()

    # ---- drawing

    def _draw(self, name: str) -> None:
        left, right = (part.subplots() for part in self.canvas.parts)
        ends = self._x.min() / 1.6, self._x.max() * 1.6
        self._draw_losses(left, name, (ends[0], self._x.max() * FAR))
        right.set_xlim(*ends)
        count_axis(right)
        right.set_xlabel(name)
        right.set_yscale("asinh", linear_width=2.0)  # small residuals and large ones in one picture
        right.set_ylim(-MOST, MOST)
        right.set_yticks(TICKS)
        right.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:+.0f}" if v else "0"))
        right.yaxis.set_minor_locator(NullLocator())
        right.set_ylabel("residual (% of the loss)")
        right.axhline(0, color=GREY, linewidth=1)
        self._residuals = self.canvas.moving(right.plot([], [], "o", color=ORANGE, markersize=5)[0])

    def _draw_losses(self, axes: Axes, name: str, ends: tuple[float, float]) -> None:
        span = float(np.ptp(self._loss))
        axes.set_xlim(*ends)
        count_axis(axes)
        axes.set_xlabel(name)
        axes.set_ylim(max(0.0, float(self._loss.min()) - 3 * span), float(self._loss.max()) + 0.6 * span)
        axes.set_ylabel("loss (nats per token)")
        axes.axvspan(self._x.min(), self._x.max(), color="#000000", alpha=0.06, linewidth=0)
        axes.plot(self._x, self._loss, "o", color="#000000", markersize=5, label="runs")
        axes.plot([], [], color=BLUE, label="the law, by hand")
        axes.plot([], [], color=GREY, linestyle="--", linewidth=1.2, label="its floor E")
        axes.legend(loc="upper right")
        self._inside = np.geomspace(self._x.min() / 1.6, self._x.max(), 60)
        self._outside = np.geomspace(self._x.max(), ends[1], 30)
        self._curve = self.canvas.moving(axes.plot([], [], color=BLUE, linewidth=2)[0])
        self._beyond = self.canvas.moving(axes.plot([], [], color=BLUE, linewidth=2, linestyle="--")[0])
        self._floor_line = self.canvas.moving(axes.plot([], [], color=GREY, linewidth=1.2, linestyle="--")[0])

    # ---- moving

    def home(self) -> None:
        """A law that goes through the middle, but too flat."""
        floor = 0.5 * float(self._loss.min())
        self._set(floor, float(np.median(self._loss)) - floor, 0.1)

    def _go_to_best(self) -> None:
        e, a, power = self.best.values
        self._set(e, a / self._middle**power, power)

    def _fit_rest(self) -> None:
        fit = fit_power_law(self._x, self._loss, variable=self._variable, floor=self.floor.value)
        _, a, power = fit.values
        self._set(self.floor.value, a / self._middle**power, power)

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
        return float(0.5 * np.sum(np.log(self._loss / self.predict(self._x)) ** 2))

    @property
    def typical_residual(self) -> float:
        """Root mean square of the residuals of log loss at the sliders, in per cent of the loss."""
        return float(100 * np.sqrt(2 * self.objective / len(self._x)))

    def predict(self, x: Any) -> Any:
        """Loss of the law at the sliders, nats per token, at x (float or array)."""
        return self.floor.value + self.height.value * (self._middle / x) ** self.exponent.value

    def update(self) -> None:
        """Move curve and residuals to the sliders."""
        self._curve.set_data(self._inside, self.predict(self._inside))
        self._beyond.set_data(self._outside, self.predict(self._outside))
        self._floor_line.set_data([self._inside[0], self._outside[-1]], [self.floor.value] * 2)
        percent = 100 * np.log(self._loss / self.predict(self._x))
        self._residuals.set_data(self._x, np.clip(percent, -MOST, MOST))
        self.canvas.redraw()
        ratio = self.objective / max(self.best.cost, 1e-300)
        said = (
            "this is the best fit"
            if ratio < 1.0005
            else f"{ratio:,.{0 if ratio > 99 else 2}f} times that of the best fit"
        )
        amplitude = self.height.value * self._middle**self.exponent.value
        far = FAR * float(self._x.max())
        self.text.value = paragraph(
            f"L = {self.floor.value:.3f} + {amplitude:.3g} / {self._variable}<sup>{self.exponent.value:.3f}</sup>. "
            f"Typical residual {self.typical_residual:.2f}%. "
            f"Half the sum of squared log residuals: <b>{self.objective:.3g}</b>, {said}.",
            f"{FAR:.0f} times beyond the largest run, at {short(far)}, it says {self.predict(far):.3f} nats per token.",
        )
