"""The budget planner: FLOPs, hours or money, on a laptop, a GPU or a cluster, and the run that a law would choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np

from scaling_lib.fit.allocate import compute_optimal
from scaling_lib.show.ladders import short
from scaling_lib.show.sliders.canvas import Canvas, band, set_band
from scaling_lib.show.sliders.sources import Source

BLUE, ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Machine:
    """Sustained training FLOP per second, and an assumed price in dollars per hour; both may be changed."""

    name: str
    flops_per_second: float
    dollars_per_hour: float


# The laptop's rate is measured (benchmarks/RESULTS.md). A GPU's is assumed to be 40%, in a cluster 35%, of an H100's
# printed dense bf16 peak of 989 TFLOP/s. Prices are assumptions.
MACHINES = (
    Machine("a laptop, two cores", 2e11, 0.05),
    Machine("one H100", 0.4 * 9.89e14, 3.0),
    Machine("a cluster of 1,024 H100", 1024 * 0.35 * 9.89e14, 3072.0),
)


class BudgetPlanner:
    """Sliders for hours and price on a chosen machine; compute-optimal N and D by a law, and the loss it expects.

    Parameters
    ----------
    source : the law; see ``our_source`` and ``published_source``.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.canvas = Canvas(alt="The loss of the best spent budget against compute, with the chosen budget")
        wide = {"description_width": "210px"}
        layout = ipywidgets.Layout(width="620px")
        self.machine = ipywidgets.Dropdown(
            options=[(m.name, m) for m in MACHINES], value=MACHINES[1], description="machine", style=wide,
            layout=layout, tooltip="what does the training",
        )  # fmt: skip
        self.hours = ipywidgets.FloatLogSlider(
            min=-1, max=4, step=0.01, value=24, description="time (hours)", style=wide, layout=layout,
            readout_format=".3g", tooltip="hours of training",
        )  # fmt: skip
        self.price = ipywidgets.FloatLogSlider(
            min=-2, max=4, step=0.01, value=3, description="price (dollars per hour)", style=wide, layout=layout,
            readout_format=".3g", tooltip="of the whole machine; an assumption to change",
        )  # fmt: skip
        self.reset = ipywidgets.Button(description="reset", icon="undo", tooltip="a day on one H100")
        self.machine.observe(self._machine_chosen, names="value")
        self.hours.observe(lambda _: self.update(), names="value")
        self.price.observe(lambda _: self.update(), names="value")
        self.reset.on_click(lambda _: self._home())
        self.text = ipywidgets.HTML()
        self.widget = ipywidgets.VBox([self.machine, self.hours, self.price, self.reset, self.canvas.image, self.text])
        with self.canvas.style():
            self._draw()
            self.canvas.freeze()
        self.update()

    @property
    def flops(self) -> float:
        """The budget in FLOP."""
        return float(self.machine.value.flops_per_second * self.hours.value * 3600)

    def _draw(self) -> None:
        axes = self.canvas.figure.subplots()
        c = np.logspace(13, 28, 80)
        best = compute_optimal(self._source.law, c)
        loss = np.asarray(best.loss)
        axes.set_xscale("log")
        axes.set_xlabel("compute C = 6ND (FLOP)")
        axes.set_ylabel("loss of the budget spent best (nats per token)")
        axes.set_title(f"Losses on {self._source.text}")
        axes.set_xlim(c[0], c[-1])
        axes.set_ylim(0.9 * loss[-1], min(float(loss[0]), 8.0))
        least, most = (6 * n * d for n, d in zip(self._source.n_range, self._source.d_range, strict=True))
        inside = (c >= least) & (c <= most)
        axes.axvspan(least, most, color="#000000", alpha=0.06, linewidth=0)
        axes.plot(c, np.where(inside, loss, np.nan), color=BLUE, linewidth=2)
        axes.plot(c, np.where(inside, np.nan, loss), color=BLUE, linewidth=2, linestyle="--")
        if best.loss_interval is not None:
            set_band(band(axes, BLUE), c, *(np.asarray(v) for v in best.loss_interval))
        self._here = self.canvas.moving(axes.plot([], [], "D", color=ORANGE, markersize=9)[0])
        self._drop = self.canvas.moving(axes.plot([], [], color=ORANGE, linewidth=1, linestyle=":")[0])
        self._bottom = 0.9 * float(loss[-1])

    def _machine_chosen(self, change: Any) -> None:
        self.price.value = change["new"].dollars_per_hour
        self.update()

    def _home(self) -> None:
        self.machine.value, self.hours.value, self.price.value = MACHINES[1], 24.0, MACHINES[1].dollars_per_hour

    def update(self) -> None:
        """Spend the budget, mark it, and say what it buys."""
        best = compute_optimal(self._source.law, self.flops)
        self._here.set_data([self.flops], [best.loss])
        self._drop.set_data([self.flops] * 2, [self._bottom, best.loss])
        self.canvas.redraw()
        cost = self.hours.value * self.price.value
        verdict = best.verdict
        refused = verdict is not None and verdict.refused
        spread = ""
        if best.loss_interval is not None and not refused:
            low, high = best.loss_interval
            spread = f", {best.level:.0%} interval of the law {low:.3f} to {high:.3f}"
        outcome = f"<b>{best.loss:.3f} nats per token</b>{spread}"
        if refused and verdict is not None:
            outcome = f"<b>no prediction: {verdict.level}</b>; {'; '.join(verdict.reasons)}"
        self.text.value = (
            f"{self.flops:.2g} FLOP, {cost:,.2f} dollars at that price: <b>N* = {short(best.n_params)}</b> parameters, "
            f"<b>D* = {short(best.n_tokens)}</b> tokens ({best.tokens_per_param:.3g} per parameter); {outcome}."
        )
