"""Fit a law by hand: move its three numbers, and watch the residuals and what the fit minimises."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling_lib.fit.estimate import fit_power_law
from scaling_lib.fit.laws import EXPONENT
from scaling_lib.fit.result import FitResult
from scaling_lib.show.ladders import short
from scaling_lib.show.plot import PLAIN, count_axis
from scaling_lib.show.sliders.canvas import BLUE, GREY, ORANGE, Canvas, percent_axis
from scaling_lib.show.sliders.panel import LogSlider, Panel, Slider, button, indented, slider

FAR = 30.0  # how many times beyond the largest x the law is drawn and asked
MOST = 60.0  # per cent; larger residuals are drawn at this edge


class LawByHand(Panel):
    """Sliders for floor, height and exponent of ``E + A / x^alpha`` over measured losses.

    Parameters
    ----------
    x, loss : (n,) parameters or tokens, and final losses in nats per token; four or more.
    variable : ``"N"`` or ``"D"``.
    name : what x counts, for the axis.

    Raises InputError for data that no law can be fitted to.
    """

    def __init__(self, x: ArrayLike, loss: ArrayLike, variable: str = "N", name: str = "") -> None:
        self.best: FitResult = fit_power_law(x, loss, variable=variable)
        self._x, self._loss = self.best.data[variable], self.best.data["loss"]
        self._variable, self._name = variable, name or PLAIN[variable]
        self.canvas = Canvas(alt="The losses with a law set by hand, and the residuals of that law", shares=(3, 2))
        # The loss above the floor at the middle of the data: unlike A it can be moved alone, whatever the exponent.
        self._middle = float(np.exp(np.log(self._x).mean()))
        e, a, power = self.best.values
        height = np.log10(max(a / self._middle**power, 1e-12))
        three, step = "{:.3f}".format, 0.005
        self.floor = slider(
            Slider, "floor E (nats per token)", "the loss that no size would go below", self.moved, three,
            min=0.0, max=max(0.99 * float(self._loss.min()), e), step=step,
        )  # fmt: skip
        self.height = slider(
            LogSlider, "height above it (nats per token)", "loss above the floor at the middle of the data", self.moved,
            three, min=min(-2.5, height - 0.5), max=max(1.0, height + 0.5), step=step,
        )  # fmt: skip
        self.exponent = slider(
            Slider, f"exponent {self.best.law.param_names[-1]} (no unit)", "how fast the loss falls", self.moved, three,
            min=0.001, max=EXPONENT[1], step=step,
        )  # fmt: skip
        self.show_best = button("show the best fit", "moves all three there", lambda: self._go_to(self.best))
        self.fit_rest = button(
            "best for this floor", "keeps the floor, and moves the other two to what fits best with it", self._fit_rest
        )
        self.reset = button("reset", "back to the beginning", self.home, icon="undo")
        self.assemble(
            self.floor, self.height, self.exponent, indented(self.show_best, self.fit_rest, self.reset)
        )  # fmt: skip
        self.home()

    # ---- drawing

    def draw(self) -> None:
        left, right = (part.subplots() for part in self.canvas.parts)
        least, most, span = float(self._x.min()), float(self._x.max()), float(np.ptp(self._loss))
        for axes, far in ((left, FAR), (right, 1.6)):
            axes.set_xlim(least / 1.6, most * far)
            count_axis(axes)
            axes.set_xlabel(self._name)
        left.set_ylim(max(0.0, float(self._loss.min()) - 3 * span), float(self._loss.max()) + 0.6 * span)
        left.set_ylabel("loss (nats per token)")
        left.axvspan(least, most, color="#000000", alpha=0.06, linewidth=0)
        left.plot(self._x, self._loss, "o", color="#000000", markersize=5, label="runs")
        left.plot([], [], color=BLUE, label="the law, by hand")
        left.plot([], [], color=GREY, linestyle="--", linewidth=1.2, label="its floor E")
        left.legend(loc="upper right")
        percent_axis(right, MOST)
        right.set_ylabel("residual (% of the loss)")
        right.axhline(0, color=GREY, linewidth=1)
        self._inside, self._outside = np.geomspace(least / 1.6, most, 60), np.geomspace(most, most * FAR, 30)
        moving = self.canvas.moving
        self._curve = moving(left.plot([], [], color=BLUE, linewidth=2)[0])
        self._beyond = moving(left.plot([], [], color=BLUE, linewidth=2, linestyle="--")[0])
        self._floor_line = moving(left.plot([], [], color=GREY, linewidth=1.2, linestyle="--")[0])
        self._residuals = moving(right.plot([], [], "o", color=ORANGE, markersize=5)[0])

    # ---- moving

    def home(self) -> None:
        """A law that goes through the middle, but too flat."""
        floor = 0.5 * float(self._loss.min())
        self.set(floor=floor, height=float(np.median(self._loss)) - floor, exponent=0.1)

    def _fit_rest(self) -> None:
        floor = self.floor.value
        self._go_to(fit_power_law(self._x, self._loss, variable=self._variable, floor=floor), floor)

    def _go_to(self, fit: FitResult, floor: float | None = None) -> None:
        e, a, power = fit.values
        self.set(floor=e if floor is None else floor, height=a / self._middle**power, exponent=power)

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
        said = f"{ratio:,.{0 if ratio > 99 else 2}f} times that of the best fit"
        amplitude = self.height.value * self._middle**self.exponent.value
        far = FAR * float(self._x.max())
        self.say(
            f"L = {self.floor.value:.3f} + {amplitude:.3g} / {self._variable}<sup>{self.exponent.value:.3f}</sup>. "
            f"Typical residual {self.typical_residual:.2f}%. Half the sum of squared log residuals: "
            f"<b>{self.objective:.3g}</b>, {said if ratio >= 1.0005 else 'this is the best fit'}.",
            f"{FAR:.0f} times beyond the largest run, at {short(far)}, it says {self.predict(far):.3f} nats per token.",
        )
